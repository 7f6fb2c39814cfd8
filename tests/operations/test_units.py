"""The unit files and the Prometheus rules, judged by the tools that will read them."""

import os
import re
import subprocess
import tempfile
import unittest
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
BINARY = os.environ.get("MINITALK_BIN") or str(ROOT / "target/release/minitalk")
# `systemd-analyze security`: tenths of the worst there is.
WORST_EXPOSURE = 20


def run(*command, cwd=ROOT):
    done = subprocess.run([str(part) for part in command], cwd=cwd, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    return done.returncode, done.stdout


class Units(unittest.TestCase):
    def setUp(self):
        self.dir = tempfile.TemporaryDirectory()
        self.addCleanup(self.dir.cleanup)
        for name in ["minitalk.service", "minitalk.socket"]:
            unit = (ROOT / "systemd" / name).read_text()
            Path(self.dir.name, name).write_text(unit.replace("/usr/bin/minitalk", BINARY))
        self.units = [Path(self.dir.name, name) for name in ["minitalk.service", "minitalk.socket"]]

    def test_systemd_finds_nothing_wrong(self):
        self.assertEqual(run("systemd-analyze", "verify", "--man=no", *self.units), (0, ""))

    def test_a_misspelt_setting_would_be_found(self):
        self.units[0].write_text(self.units[0].read_text().replace("PrivateTmp=", "PrivateTemp="))
        self.assertIn("PrivateTemp", run("systemd-analyze", "verify", "--man=no", *self.units)[1])

    def test_the_sandbox_is_tight(self):
        status, report = run("systemd-analyze", "security", "--offline=true", f"--threshold={WORST_EXPOSURE}", self.units[0])
        self.assertEqual(status, 0, report)
        print(re.search(r"Overall exposure level.*", report)[0])

    def test_users_and_directories_are_made(self):
        """systemd-sysusers and systemd-tmpfiles take the files, into a tree of its own."""
        tree = Path(self.dir.name, "tree")
        for path in ["etc/minitalk", "var/lib"]:
            (tree / path).mkdir(parents=True)
        (tree / "etc/minitalk/minitalk.toml").write_text("")
        self.assertEqual(run("systemd-sysusers", f"--root={tree}", ROOT / "systemd/minitalk.sysusers")[0], 0)
        self.assertRegex((tree / "etc/passwd").read_text(), r"minitalk:.*:/var/lib/minitalk:\S+nologin")
        if os.geteuid() == 0:
            self.assertEqual(run("systemd-tmpfiles", f"--root={tree}", "--create", ROOT / "systemd/minitalk.tmpfiles"), (0, ""))
            self.assertEqual((tree / "var/lib/minitalk").stat().st_mode & 0o777, 0o750)
            self.assertEqual((tree / "etc/minitalk/minitalk.toml").stat().st_mode & 0o777, 0o640)

    def test_the_kernel_has_the_settings(self):
        for line in (ROOT / "systemd/minitalk.sysctl").read_text().splitlines():
            if line and not line.startswith("#"):
                key, value = (part.strip() for part in line.split("=", 1))
                self.assertTrue(Path("/proc/sys", key.replace(".", "/")).exists(), key)
                self.assertRegex(value, r"^[0-9 ]+$")

    def test_the_example_configuration_is_taken(self):
        status, said = run(BINARY, "check-config", ROOT / "systemd/minitalk.toml")
        self.assertEqual(status, 0, said)


class Rules(unittest.TestCase):
    def test_prometheus_takes_the_rules(self):
        status, said = run("promtool", "check", "rules", "minitalk.rules.yml", cwd=ROOT / "systemd/prometheus")
        self.assertEqual(status, 0, said)

    def test_alerts_come_when_they_should_and_not_else(self):
        status, said = run("promtool", "test", "rules", "minitalk.rules.test.yml", cwd=ROOT / "systemd/prometheus")
        self.assertEqual(status, 0, said)

    def test_prometheus_takes_the_scrape_configuration(self):
        with tempfile.TemporaryDirectory() as place:
            config = (ROOT / "systemd/prometheus/scrape.yml").read_text()
            rules = ROOT / "systemd/prometheus/minitalk.rules.yml"
            Path(place, "prometheus.yml").write_text(config.replace("/etc/prometheus/minitalk.rules.yml", str(rules)))
            status, said = run("promtool", "check", "config", "prometheus.yml", cwd=place)
            self.assertEqual(status, 0, said)


if __name__ == "__main__":
    unittest.main()
