"""A redis-server of the test's own, on a Unix socket and a port of loopback, that can be killed, stopped and started again."""

import os
import signal
import subprocess

from harness import Proc, free_port, wait_until


class Redis:
    def __init__(self, folder, password=None):
        self.folder, self.password, self.proc = folder, password, None
        self.port = free_port()
        self.socket = os.path.join(folder, "s")
        self.log = os.path.join(folder, "log")
        os.chmod(folder, 0o755)

    def url(self, password=None, db=None, user=""):
        login = f"{user}:{password}@" if password else ""
        return f"unix://{login}{self.socket}" + (f"?db={db}" if db else "")

    def start(self, durable=False):
        open(self.log, "w", encoding="utf-8").close()
        argv = ["redis-server", "--bind", "127.0.0.1", "--port", str(self.port), "--unixsocket", self.socket, "--unixsocketperm",
                "777", "--dir", self.folder, "--save", "", "--appendonly",
                "yes" if durable else "no", "--appendfsync", "always"]
        if self.password:
            argv += ["--requirepass", self.password]
        self.proc = Proc(argv, self.log)
        wait_until(lambda: "PONG" in self.cli("PING"), 15, "Redis")
        return self

    def cli(self, *args):
        login = ["-a", self.password, "--no-auth-warning"] if self.password else []
        done = subprocess.run(["redis-cli", "-s", self.socket, *login, *map(str, args)],
                              stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=10,
                              errors="replace", check=False)
        return done.stdout

    def kill(self):
        self.proc.send(signal.SIGCONT)
        self.proc.kill()

    def pause(self):
        self.proc.send(signal.SIGSTOP)

    def go_on(self):
        self.proc.send(signal.SIGCONT)
