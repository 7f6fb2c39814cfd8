"""Ports that systemd has opened (LISTEN_FDS): served by all workers, judged like others, and never without a queue."""

import os
import socket
import subprocess
import tempfile
import threading
import unittest
import urllib.request
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
BINARY = os.environ.get("MINITALK_BIN") or str(ROOT / "target/release/minitalk")
PATIENCE_S = 60


class Sockets(unittest.TestCase):
    def setUp(self):
        self.dir = tempfile.TemporaryDirectory()
        self.addCleanup(self.dir.cleanup)

    def listening(self, host="127.0.0.1"):
        given = socket.socket()
        given.bind((host, 0))
        given.listen(64)
        self.addCleanup(given.close)
        return given

    def start(self, given, *arguments, config=""):
        """A server to which the socket is handed as systemd does: as descriptor 3, announced in the environment."""
        (Path(self.dir.name) / "minitalk.toml").write_text(config)
        env = {**os.environ, "LISTEN_FDS": "1"}
        command = [BINARY, "serve", "--config", f"{self.dir.name}/minitalk.toml", "--data-dir", f"{self.dir.name}/data", *arguments]
        shell = ["sh", "-c", f'exec "$@" 3<&{given.fileno()}', "sh"]
        process = subprocess.Popen(shell + command, env=env, stderr=subprocess.PIPE, text=True, pass_fds=[given.fileno()])
        self.addCleanup(process.wait)
        self.addCleanup(process.stderr.close)
        self.addCleanup(process.kill)
        return process

    def wait_for(self, process, text):
        late = threading.Timer(PATIENCE_S, process.kill)
        late.start()
        for line in process.stderr:
            if text in line:
                late.cancel()
                return line
        self.fail(f"it ended and did not say {text!r}")

    def stop(self, process):
        process.terminate()
        self.assertEqual(process.wait(PATIENCE_S), 0)

    def get(self, port, path):
        # A worker may need a moment between its first words and its first answer.
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=PATIENCE_S) as answer:
            return answer.status

    def test_it_is_served_by_all_workers_and_its_queue_outlives_the_server(self):
        given = self.listening()
        port = given.getsockname()[1]
        # The address on the command line is not even looked at.
        process = self.start(given, "--workers", "2", "--listen", "127.0.0.1:1")
        self.assertIn(f"ready on 127.0.0.1:{port} (2 workers", self.wait_for(process, "ready on"))
        for _ in range(20):
            self.assertEqual(self.get(port, "/health"), 200)
        self.stop(process)
        # Nobody serves, and nobody is refused.
        answers = []
        waiting = threading.Thread(target=lambda: answers.append(self.get(port, "/health")))
        waiting.start()
        process = self.start(given, "--workers", "2")
        self.wait_for(process, "ready on")
        waiting.join(PATIENCE_S)
        self.assertEqual(answers, [200])
        self.stop(process)

    def test_open_mode_is_refused_on_one_that_others_can_reach(self):
        process = self.start(self.listening("0.0.0.0"), config='[auth]\nmode = "open"\n')
        self.wait_for(process, 'auth.mode: "open" lets anybody be anybody')
        self.assertEqual(process.wait(PATIENCE_S), 2)
        self.assertFalse((Path(self.dir.name) / "data").exists())

    def test_what_is_no_listening_socket_is_refused(self):
        other = socket.socket()
        self.addCleanup(other.close)
        process = self.start(other)
        self.wait_for(process, "cannot use systemd's sockets")
        self.assertEqual(process.wait(PATIENCE_S), 2)


if __name__ == "__main__":
    unittest.main()
