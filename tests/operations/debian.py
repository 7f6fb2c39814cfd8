"""An empty Debian tree with a systemd of its own as first process: a machine for tests to break.

The tree is made once by debootstrap and never changed: each machine works on a layer above it, in memory.
"""

import os
import re
import shutil
import subprocess
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
TREE = Path(os.environ.get("MINITALK_DEBIAN_TREE") or ROOT / "target/tools/debian")
PACKAGES = "systemd,systemd-sysv,dbus,procps,iproute2,curl,nginx-light,ca-certificates"
PATIENCE_S = 120
NSPAWN = ["systemd-nspawn", "-q", "--register=no", "--keep-unit", "--private-network", "--console=pipe", "-D"]


def why_not():
    """What keeps a machine from being booted here; None: nothing."""
    if os.geteuid() != 0:
        return "needs root"
    for tool in ["debootstrap", "systemd-nspawn", "unshare", "nsenter"]:
        if not shutil.which(tool):
            return f"{tool} is not installed"
    done = subprocess.run(["unshare", "-m", "sh", "-c", "mount -t tmpfs tmpfs /mnt"], capture_output=True, text=True)
    return f"cannot mount here: {done.stderr.strip()}" if done.returncode else None


def make_tree():
    """Once; an interrupted attempt is thrown away."""
    if (TREE / "etc/debian_version").exists() and not (TREE / "debootstrap").exists():
        return
    shutil.rmtree(TREE, ignore_errors=True)
    TREE.parent.mkdir(parents=True, exist_ok=True)
    made = subprocess.run(["debootstrap", "--variant=minbase", f"--include={PACKAGES}", "bookworm", TREE], stdout=subprocess.DEVNULL)
    if made.returncode:
        shutil.rmtree(TREE, ignore_errors=True)
        raise OSError("debootstrap failed; is a Debian mirror within reach?")


class Machine:
    """A booted one. Nothing of it is left when it is stopped."""

    def __init__(self):
        self.place = Path(tempfile.mkdtemp(prefix="minitalk-debian-"))
        self.nspawn = None
        subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2G", "tmpfs", self.place], check=True)
        for name in ["up", "work", "root"]:
            (self.place / name).mkdir()
        self.root = self.place / "root"
        layers = f"lowerdir={TREE},upperdir={self.place}/up,workdir={self.place}/work"
        subprocess.run(["mount", "-t", "overlay", "overlay", "-o", layers, self.root], check=True)

    def boot(self):
        self.console = open(self.place / "console", "wb")
        self.nspawn = subprocess.Popen([*NSPAWN, self.root, "--boot"], stdin=subprocess.DEVNULL, stdout=self.console, stderr=self.console)
        self.until("the machine is up", lambda: self.sh("systemctl is-system-running") in ("running\n", "degraded\n"))

    def init(self):
        """The first process inside, by its id outside."""
        children = Path(f"/proc/{self.nspawn.pid}/task/{self.nspawn.pid}/children").read_text().split()
        return children[0] if children else None

    def run(self, script):
        """Runs a shell script inside; (exit code, everything it said)."""
        init = self.init()
        if init is None:
            return 1, "the machine has no first process"
        enter = ["nsenter", "-t", init, "-m", "-u", "-i", "-n", "-p", "-C", "-r", "-w"]
        clean = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "DEBIAN_FRONTEND": "noninteractive", "HOME": "/root", "LC_ALL": "C.UTF-8"}
        done = subprocess.run(
            [*enter, "sh", "-euc", f"cd /root; {script}"], env=clean, stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace", timeout=600,
        )
        return done.returncode, done.stdout

    def sh(self, script):
        return self.run(script)[1]

    def ok(self, script):
        """The output of a script that must succeed."""
        code, said = self.run(script)
        if code != 0:
            raise AssertionError(f"{script}\n{said}\n(exit code {code})\n{self.sh('journalctl --no-pager -u minitalk -n 30 || true')}")
        return said

    def until(self, what, condition):
        end = time.monotonic() + PATIENCE_S
        while True:
            value = condition()
            if value:
                return value
            if time.monotonic() > end:
                raise AssertionError(f"waited in vain: {what}\n{self.sh('journalctl --no-pager -n 40 || true')}")
            time.sleep(0.1)

    def stop(self):
        if self.nspawn:
            init = self.init()
            if init:
                os.kill(int(init), 9)
            self.nspawn.wait()
            self.console.close()
        for mount in [self.root, self.place]:
            subprocess.run(["umount", "-R" if mount == self.root else "-l", mount], check=False)
        self.place.rmdir()


def main():
    """Makes the tree. Ends with 77, which tests/run takes for "not here", where there can be no machine."""
    reason = why_not()
    try:
        if reason is None:
            make_tree()
            trial = subprocess.run(["unshare", "-m", *NSPAWN, TREE, "--read-only", "true"], capture_output=True, text=True)
            reason = f"systemd-nspawn: {trial.stderr.strip()}" if trial.returncode else None
    except OSError as error:
        reason = str(error)
    if reason:
        print(f"skipped: {reason}")
        raise SystemExit(77)


def blocks():
    """The named blocks of docs/operating.md, in their order."""
    manual = (ROOT / "docs/operating.md").read_text()
    return dict(re.findall(r"^```sh (\w+)\n(.*?)^```", manual, re.M | re.S))


if __name__ == "__main__":
    main()
