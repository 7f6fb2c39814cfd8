"""A new operator on an empty Debian machine, following docs/operating.md block by block, under a real systemd."""

import contextlib
import json
import os
import re
import shlex
import shutil
import subprocess
import unittest
from pathlib import Path

from debian import ROOT, Machine, blocks

BINARY = os.environ.get("MINITALK_BIN") or str(ROOT / "target/release/minitalk")
# A certificate for nginx, made outside: the machine has no openssl.
CERTIFICATE = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2",
               "-subj", "/CN=chat.test", "-addext", "subjectAltName=DNS:chat.test"]
ALICE = """'{"username":"alice","password":"a secret of hers"}'"""


class Operator(unittest.TestCase):
    """The tests are one story: each begins where the one before it ended (they run in order of their names)."""

    @classmethod
    def setUpClass(cls):
        cls.blocks = blocks()
        cls.done = set()
        cls.machine = Machine()
        cls.addClassCleanup(cls.machine.stop)
        cls.machine.boot()
        cls.versions = []
        for version in ["0.9.1", "0.9.2"]:
            made = subprocess.run([ROOT / "packaging/build-deb", "--fast", "--binary", BINARY, "--version", version, cls.machine.place / "up"],
                                  check=True, stdout=subprocess.PIPE, text=True)
            cls.versions.append(Path(made.stdout.strip()))

    def follow(self, name):
        self.done.add(name)
        return self.machine.ok(self.blocks[name])

    def bring(self, deb):
        """Puts a package where the operator's shell is, alone."""
        self.machine.sh("rm -f /root/minitalk_*.deb")
        (self.machine.root / "root" / deb.name).write_bytes(deb.read_bytes())

    def properties(self, *names):
        said = self.machine.ok("systemctl show minitalk " + " ".join(f"-p {name}" for name in names))
        return dict(line.split("=", 1) for line in said.splitlines())

    def status(self):
        return json.loads(self.machine.ok("minitalk status --json --data-dir /var/lib/minitalk"))

    def pid(self, role, number=0):
        return next(p["pid"] for p in self.status()["processes"] if p["role"] == role and p["id"] == number)

    def when_ready(self):
        self.machine.until("/ready is 200", lambda: self.machine.run("curl -sf localhost:4000/ready")[0] == 0)

    def when_logged(self, what, options=""):
        """The journal gets what a process says a moment after it was said."""
        self.machine.until(f"{what!r} is in the journal", lambda: what in self.machine.sh(f"journalctl --no-pager -u minitalk {options}"))

    def when_serving(self):
        """systemd's own line about it comes behind the word that it is ready."""
        serves = lambda: self.properties("StatusText")["StatusText"] == "serving on 127.0.0.1:4000"
        self.machine.until("systemd hears that it serves", serves)

    def call(self, path, body=None, token=None, base="localhost:4000"):
        options = f"-d {body} " if body else ""
        options += f"-H 'Authorization: Bearer {token}' " if token else ""
        return json.loads(self.machine.ok(f"curl -s {options}{base}{path}"))

    def login(self):
        return self.call("/api/auth/login", ALICE)["token"]

    def test_01_it_is_installed_and_runs(self):
        self.bring(self.versions[0])
        self.assertIn("active (running)", self.follow("install"))
        said = self.follow("look")
        self.assertIn("/etc/minitalk/minitalk.toml: ok", said)
        self.assertIn('data_dir = "/var/lib/minitalk"', said)
        self.assertIn('"status":"ready"', said)
        self.when_serving()
        service = self.properties("WatchdogUSec", "UnitFileState", "NRestarts")
        self.assertEqual((service["WatchdogUSec"], service["UnitFileState"], service["NRestarts"]), ("30s", "enabled", "0"))
        self.assertEqual(self.machine.ok("stat -c '%U %G %a' /var/lib/minitalk /etc/minitalk/minitalk.toml /etc/default/minitalk").split("\n")[:3],
                         ["minitalk minitalk 750", "root minitalk 640", "root root 640"])
        self.assertEqual(self.machine.ok("ps -o user= -C minitalk | sort -u").strip(), "minitalk")
        for path in ["usr/share/man/man1/minitalk.1.gz", "usr/share/man/man1/minitalk-serve.1.gz", "usr/share/bash-completion/completions/minitalk",
                     "usr/share/zsh/vendor-completions/_minitalk", "usr/share/fish/vendor_completions.d/minitalk.fish"]:
            self.assertGreater((self.machine.root / path).stat().st_size, 500, path)
        self.machine.ok("bash -n /usr/share/bash-completion/completions/minitalk")
        self.assertEqual(self.machine.sh("systemctl --failed --no-legend --plain"), "")

    def test_02_its_lines_have_levels(self):
        self.when_logged("ready on")
        lines = [json.loads(line) for line in self.machine.ok("journalctl -u minitalk -o json --no-pager").splitlines()]
        ready = next(line for line in lines if "ready on" in line["MESSAGE"])
        self.assertEqual((ready["PRIORITY"], ready["SYSLOG_IDENTIFIER"]), ("6", "minitalk"))

    def test_03_a_hung_worker_and_a_hung_writer_are_replaced(self):
        for role in ["worker", "storage"]:
            pid = self.pid(role)
            self.machine.ok(f"kill -STOP {pid}")
            self.machine.until(f"systemd hears of {role}", lambda: "does not answer" in self.properties("StatusText")["StatusText"])
            self.machine.until("a successor", lambda: self.pid(role) not in (0, pid))
            self.when_ready()
        self.assertEqual(self.properties("NRestarts")["NRestarts"], "0")
        self.when_logged("has not answered for", "-p warning")

    def test_04_a_hung_supervisor_is_found_by_the_watchdog(self):
        before = self.properties("MainPID")["MainPID"]
        self.machine.ok(f"kill -STOP {before}")
        self.machine.until("systemd starts it again", lambda: self.properties("NRestarts")["NRestarts"] == "1")
        self.when_ready()
        self.assertNotEqual(self.properties("MainPID")["MainPID"], before)
        self.when_logged("Watchdog timeout")

    def test_05_it_is_reloaded(self):
        self.reload()
        self.machine.ok("cp /etc/minitalk/minitalk.toml /tmp/good; echo 'nonsense = 1' | tee -a /etc/minitalk/minitalk.toml >/dev/null")
        self.assertNotEqual(self.machine.run("systemctl reload minitalk")[0], 0)
        self.machine.ok("cat /tmp/good > /etc/minitalk/minitalk.toml")
        self.reload()

    def reload(self):
        """Reloads, and waits for its end: systemctl comes back as soon as the signal is sent."""
        supervisor, worker = self.properties("MainPID"), self.pid("worker")
        self.follow("reload")
        self.machine.until("a new worker", lambda: self.pid("worker") != worker)
        self.machine.until("it has reloaded", lambda: self.properties("ActiveState")["ActiveState"] == "active")
        self.assertEqual(self.properties("MainPID"), supervisor)

    def test_06_it_is_behind_nginx(self):
        self.follow("nginx")
        root = self.machine.root
        subprocess.run([*CERTIFICATE, "-keyout", root / "etc/ssl/private/chat.test.key", "-out", root / "etc/ssl/certs/chat.test.pem"],
                       check=True, capture_output=True)
        said = self.follow("proxies")
        self.assertNotRegex(said, "emerg|warn")
        self.when_ready()
        https = "curl -s --cacert /etc/ssl/certs/chat.test.pem --resolve chat.test:443:127.0.0.1 https://chat.test"
        self.assertEqual(json.loads(self.machine.ok(f"{https}/health")), {"status": "ok"})
        self.assertIn('"sid"', self.machine.ok(f"{https}'/socket.io/?EIO=4&transport=polling'"))
        self.assertIn("https://chat.test/x", self.machine.ok("curl -si -H 'Host: chat.test' localhost/x?token=y"))

    def test_07_it_is_scraped(self):
        # As the package of Debian brings it; the tree has it not, for its size.
        for tool in ["prometheus", "promtool"]:
            shutil.copy2(shutil.which(tool), self.machine.root / "usr/bin" / tool)
        (self.machine.root / "etc/prometheus").mkdir()
        unit = "[Service]\nStateDirectory=prometheus\nExecStart=/usr/bin/prometheus --config.file=/etc/prometheus/prometheus.yml --storage.tsdb.path=/var/lib/prometheus\n"
        (self.machine.root / "etc/systemd/system/prometheus.service").write_text(unit)
        self.machine.ok("systemctl daemon-reload")
        self.assertIn("SUCCESS", self.follow("scrape"))
        ask = lambda path: json.loads(self.machine.sh(f"curl -sf 'localhost:9090/api/v1/{path}' || echo null"))
        value = lambda name: (ask(f"query?query={name}") or {"data": {"result": []}})["data"]["result"]
        for name in ["up", "minitalk_ready"]:
            self.machine.until(f"{name} is 1", lambda: [one["value"][1] for one in value(name)] == ["1"])
        alerts = [rule["name"] for group in ask("rules")["data"]["groups"] for rule in group["rules"]]
        self.assertIn("MinitalkDown", alerts)
        self.machine.ok("systemctl stop prometheus")

    def test_08_systemd_opens_the_port(self):
        self.follow("socket")
        self.when_ready()
        self.when_serving()
        before = self.properties("MainPID")["MainPID"]
        # Nobody is refused while it restarts: the port is systemd's.
        asked = "for n in $(seq 200); do curl -s -o /dev/null -m 60 -w '%{http_code} ' localhost:4000/health; done"
        statuses = self.machine.ok(f"systemctl restart minitalk & {asked}; wait").split()
        self.assertEqual(set(statuses), {"200"})
        self.assertNotEqual(self.properties("MainPID")["MainPID"], before)

    def test_09_it_is_backed_up_while_it_runs(self):
        self.call("/api/auth/signup", ALICE)
        token = self.login()
        self.call("/api/chatrooms", """'{"name":"of before"}'""", token)
        # Others go on meanwhile: users and rooms come into being on both sides of each copied file.
        busy = f"""
            while [ ! -e /tmp/enough ]; do
              curl -s -o /dev/null localhost:4000/api/chatrooms -H 'Authorization: Bearer {token}' -d '{{"name":"of meanwhile"}}'
              curl -s -o /dev/null localhost:4000/api/auth/signup -d '{{"username":"'$(cat /proc/sys/kernel/random/uuid)'","password":"x secret"}}'
            done"""
        self.machine.ok(f"rm -f /tmp/enough; ({busy}) >/dev/null 2>&1 &")
        rooms = lambda: len(self.call("/api/chatrooms", token=token))
        self.machine.until("they are at it", lambda: rooms() > 10)
        for _ in range(5):
            self.follow("backup")
            self.assertIn("clean: ", self.follow("try"))
        self.machine.ok("touch /tmp/enough")
        self.call("/api/chatrooms", """'{"name":"of after"}'""", token)

    def test_10_it_is_restored(self):
        said = self.follow("restore")
        self.assertIn("clean", said)
        self.when_ready()
        rooms = self.call("/api/chatrooms", token=self.login())
        names = [room["name"] for room in rooms]
        self.assertEqual((names.count("of before"), names.count("of after")), (1, 0))
        type(self).rooms = len(rooms)

    def test_11_the_secret_is_rotated(self):
        token = self.login()
        self.follow("secret")
        self.when_ready()
        self.assertIn("error", self.call("/api/chatrooms", token=token))
        self.assertEqual(len(self.call("/api/chatrooms", token=self.login())), self.rooms)

    def test_12_it_is_upgraded_and_nobody_notices(self):
        config = self.machine.ok("md5sum /etc/minitalk/minitalk.toml")
        self.assertNotEqual(self.machine.run("systemctl is-active minitalk.socket")[0], 0, "the port is the server's own")
        for number, block in [(1, "upgrade"), (2, "executable")]:
            before, pids = self.properties("MainPID", "NRestarts"), self.pids()
            self.bring(self.versions[1])
            self.machine.ok("cp /usr/bin/minitalk /root/minitalk")
            with self.polling():
                self.follow(block)
            self.assertEqual(self.properties("MainPID", "NRestarts"), before)
            self.assertEqual(self.status()["change"], {"number": number, "kind": "upgrade", "state": "done", "reason": ""})
            self.assertFalse(pids & self.pids(), "everybody is another")
            for pid in [before["MainPID"], *self.pids()]:
                self.assertEqual(self.machine.ok(f"readlink /proc/{pid}/exe").strip(), "/usr/bin/minitalk")
        self.assertIn("0.9.2", self.machine.ok("dpkg -s minitalk"))
        self.assertEqual(self.machine.ok("md5sum /etc/minitalk/minitalk.toml"), config)
        self.assertEqual(len(self.call("/api/chatrooms", token=self.login())), self.rooms)

    def pids(self):
        """Of the children that do not leave."""
        return {p["pid"] for p in self.status()["processes"] if p["role"] != "supervisor" and not p["leaving"]}

    @contextlib.contextmanager
    def polling(self):
        """Opens one connection after another meanwhile, and none may be refused or broken."""
        poll = "while [ ! -e /tmp/enough ]; do curl -s -o /dev/null -m 60 -w '%{http_code}\\n' localhost:4000/health >>/tmp/answers; done"
        self.machine.ok(f"rm -f /tmp/enough /tmp/answers; (sh -c {shlex.quote(poll)}) >/dev/null 2>&1 &")
        answers = lambda: self.machine.sh("cat /tmp/answers").split()
        self.machine.until("the first answers", lambda: len(answers()) > 20)
        try:
            yield
            behind = len(answers()) + 20
            self.machine.until("answers of the new ones", lambda: len(answers()) > behind)
        finally:
            self.machine.ok("touch /tmp/enough")
        self.assertEqual(set(answers()), {"200"})

    def test_13_an_upgrade_that_cannot_be_is_a_restart(self):
        before = self.properties("MainPID")
        # A configuration with a mistake is no reason to end a server that works.
        self.machine.ok("cp /etc/minitalk/minitalk.toml /tmp/good; echo 'nonsense = 1' >>/etc/minitalk/minitalk.toml")
        self.bring(self.versions[0])
        said = self.machine.ok("dpkg -i ./minitalk_*.deb")
        self.assertIn("the old version serves on", said)
        self.assertEqual(self.properties("MainPID"), before)
        self.machine.ok("cat /tmp/good >/etc/minitalk/minitalk.toml; curl -sf localhost:4000/ready")
        # Nobody answers where the supervisor should: the way of other packages.
        self.machine.ok("rm /var/lib/minitalk/run/control.sock")
        self.bring(self.versions[1])
        self.assertIn("no server is running in /var/lib/minitalk", self.machine.ok("dpkg -i ./minitalk_*.deb"))
        self.assertNotEqual(self.properties("MainPID"), before)
        self.when_ready()
        self.assertEqual(len(self.call("/api/chatrooms", token=self.login())), self.rooms)

    def test_14_a_new_version_that_dies_as_it_takes_over_is_started_again(self):
        before = self.properties("MainPID", "NRestarts")
        dies = """#!/bin/sh\ncase "$*" in *--take-over*) exit 7 ;; esac\nexec /usr/bin/minitalk.good "$@"\n"""
        self.machine.ok(f"cp /usr/bin/minitalk /usr/bin/minitalk.good; printf %s {shlex.quote(dies)} >/root/minitalk")
        code, said = self.machine.run(self.blocks["executable"])
        self.assertNotEqual(code, 0)
        self.assertIn("ended while it was upgraded", said)
        self.machine.until("systemd starts it again", lambda: self.properties("NRestarts")["NRestarts"] == str(int(before["NRestarts"]) + 1))
        self.when_ready()
        self.assertNotEqual(self.properties("MainPID")["MainPID"], before["MainPID"])
        self.when_logged("Main process exited, code=exited, status=7")
        self.assertEqual(len(self.call("/api/chatrooms", token=self.login())), self.rooms)
        self.machine.ok("mv /usr/bin/minitalk.good /usr/bin/minitalk")

    def test_15_it_stops_in_order(self):
        self.machine.ok("systemctl stop minitalk.socket minitalk")
        self.assertEqual(self.properties("Result", "ExecMainStatus"), {"Result": "success", "ExecMainStatus": "0"})
        self.assertIn("clean", self.machine.ok("minitalk verify --data-dir /var/lib/minitalk"))

    def test_16_it_is_removed_and_purged(self):
        elsewhere = "/srv/minitalk-elsewhere /etc/systemd/system/minitalk.service.d/own.conf /var/backups/minitalk"
        self.machine.ok("mkdir -p /srv/minitalk-elsewhere /etc/systemd/system/minitalk.service.d; echo '[Service]' > /etc/systemd/system/minitalk.service.d/own.conf")
        self.follow("remove")
        self.machine.ok("test -e /var/lib/minitalk/users.jsonl; test -e /etc/minitalk/minitalk.toml; test ! -e /usr/bin/minitalk")
        self.follow("purge")
        self.machine.ok(f"test ! -e /var/lib/minitalk; test ! -e /etc/minitalk; test ! -e /etc/default/minitalk; ls -d {elsewhere}")
        self.assertEqual(self.machine.sh("dpkg -l minitalk 2>/dev/null | grep ^ii"), "")
        self.assertEqual(self.machine.sh("systemctl --failed --no-legend --plain"), "")

    def test_17_every_block_of_the_manual_was_followed(self):
        self.assertEqual(sorted(self.done), sorted(self.blocks))
        whole = (ROOT / "docs/operating.md").read_text()
        self.assertEqual(len(re.findall(r"^```\w", whole, re.M)), len(self.blocks), "a block without a name")


if __name__ == "__main__":
    unittest.main()
