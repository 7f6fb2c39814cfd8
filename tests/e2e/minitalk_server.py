"""A real `minitalk serve` in a fresh directory, and the REST calls that the Python tests need."""

import json
import os
import pathlib
import re
import shutil
import signal
import subprocess
import tempfile
import threading
import time
import urllib.request

REPOSITORY = pathlib.Path(__file__).resolve().parents[2]
TARGET = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", REPOSITORY / "target"))
BINARY = os.environ.get("MINITALK_BIN", str(TARGET / "release/minitalk"))
DEADLINE_S = 30

# The cheapest Argon2id there is: these tests are not about its strength.
CONFIG = "[auth.argon2]\nmemory_kib = 8\niterations = 1\nparallelism = 1\n"


def until(what, condition):
    """The condition's first truthy value; the deadline only ends a test that has already failed."""
    end = time.monotonic() + DEADLINE_S
    while time.monotonic() < end:
        value = condition()
        if value:
            return value
        time.sleep(0.02)
    raise AssertionError(f"waited {DEADLINE_S} s in vain: {what}")


class Server:
    """Two workers on a free port."""

    def __init__(self):
        self.dir = tempfile.mkdtemp(prefix="minitalk-e2e-")
        config = pathlib.Path(self.dir, "minitalk.toml")
        config.write_text(CONFIG, encoding="utf-8")
        self.data_dir = os.path.join(self.dir, "data")
        environment = {k: v for k, v in os.environ.items() if not k.startswith(("MINITALK_", "JWT_"))}
        command = [BINARY, "serve", "--config", str(config), "--data-dir", self.data_dir]
        command += ["--listen", "127.0.0.1:0", "--workers", "2"]
        self.process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, encoding="utf-8", env=environment)
        self.stderr = ""
        threading.Thread(target=self._read, daemon=True).start()
        try:
            ready = until("the server is ready", self._ready)
        except BaseException:
            self.process.kill()
            raise
        self.url = f"http://127.0.0.1:{ready[1]}"
        self.port = int(ready[1])

    def _read(self):
        for line in self.process.stderr:
            self.stderr += line

    def _ready(self):
        if self.process.poll() is not None:
            raise AssertionError(f"serve ended with {self.process.returncode}:\n{self.stderr}")
        return re.search(r"minitalk: ready on 127\.0\.0\.1:(\d+)", self.stderr)

    def stop(self):
        self.process.send_signal(signal.SIGTERM)
        try:
            code = self.process.wait(timeout=60)
        finally:
            self.process.kill()
            shutil.rmtree(self.dir, ignore_errors=True)
        assert code == 0, f"TERM ended the server with {code}:\n{self.stderr}"

    def call(self, method, path, body=None, token=None):
        headers = {"Content-Type": "application/json"}
        if token:
            headers["Authorization"] = f"Bearer {token}"
        data = json.dumps(body).encode() if body is not None else None
        request = urllib.request.Request(self.url + path, data=data, headers=headers, method=method)
        with urllib.request.urlopen(request, timeout=DEADLINE_S) as response:
            return json.load(response)

    def new_users(self, prefix, count):
        users = [{"username": f"{prefix}{at}", "password": "password"} for at in range(count)]
        self.call("POST", "/api/auth/signup-batch", {"users": users})
        return self.call("POST", "/api/auth/login-batch", {"users": users})["results"]

    def new_room(self, users, name="room"):
        body = {"name": name, "participants": [user["username"] for user in users]}
        return self.call("POST", "/api/chatrooms", body, users[0]["token"])["roomId"]

    def workers_in_use(self, connections):
        """How many workers hold these connections; waits until all of them are counted."""

        def counted():
            processes = self.call("GET", "/api/stats")["processes"]
            held = [p["connections"] for p in processes if p["role"] == "worker"]
            return held if sum(held) == connections else None

        return sum(1 for held in until("the connections are counted", counted) if held > 0)
