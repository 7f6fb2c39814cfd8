#!/usr/bin/env bash
# Builds Minitalk, starts a server on a scratch folder and a free port, loads it, stops it and says
# where the reports are:
#   bench/run.sh [PRESET [FLAG…]]      such as: bench/run.sh medium --duration 20s
#   bench/run.sh challenge [FLAG…]     an operator's plan, with MINITALK_MEMBERS members (default: 10000)
# Ends with the load tester's exit code. MINITALK_REPORTS: folder for the reports (default: bench-reports).
set -euo pipefail

here=$PWD
cd "$(dirname "${BASH_SOURCE[0]}")/.."
preset=${1:-quick}
[ $# -eq 0 ] || shift

reports=${MINITALK_REPORTS:-bench-reports}
case $reports in /*) ;; *) reports=$here/$reports ;; esac
mkdir -p "$reports"

cargo build --release # shows its progress: the first time takes minutes
target=$(cargo metadata --format-version 1 --no-deps | sed 's/.*"target_directory":"\([^"]*\)".*/\1/')
minitalk=$target/release/minitalk

scratch=$(mktemp -d)
server=
clean_up() {
  trap '' INT TERM
  if [ -n "$server" ]; then
    kill -TERM "$server" 2>/dev/null || true
    wait "$server" 2>/dev/null || true
  fi
  rm -rf "$scratch"
}
trap clean_up EXIT
# The load tester hears Ctrl-C too, ends early and reports; this script then goes on to clean up.
trap : INT
trap 'exit 143' TERM

# Members come by import, which needs the server not to run.
config=()
if [ "$preset" = challenge ]; then
  "$minitalk" bench members "${MINITALK_MEMBERS:-10000}" --csv "$scratch/members.csv"
  "$minitalk" import --data-dir "$scratch/data" "$scratch/members.csv"
  printf '[challenge]\ntest_login = true\n' >"$scratch/minitalk.toml"
  config=(--config "$scratch/minitalk.toml")
fi

# In a session of its own, so that Ctrl-C reaches the load tester alone.
setsid "$minitalk" serve "${config[@]}" --listen 127.0.0.1:0 --data-dir "$scratch/data" 2>"$scratch/server.log" &
server=$!
[ "$preset" != challenge ] || set -- --csv "$scratch/members.csv" --create --pid "$server" "$@"
address=
while [ -z "$address" ]; do
  if ! kill -0 "$server" 2>/dev/null; then
    cat "$scratch/server.log" >&2
    exit 2
  fi
  address=$(sed -n 's/^minitalk: ready on \([^ ]*\) .*/\1/p' "$scratch/server.log")
  [ -n "$address" ] || sleep 0.1
done

name=$reports/$preset-$(date +%Y%m%d-%H%M%S)
status=0
"$minitalk" bench "$preset" --target "$address" --json "$name.json" --html "$name.html" "$@" || status=$?
for report in "$name.json" "$name.html"; do
  [ ! -e "$report" ] || echo "report       $report"
done
exit "$status"
