"""What tests of pools need: a berthd with a configuration of its own, what it says of its pools, and
many clients at once."""

import json
import os
import signal
import subprocess
import tempfile
import threading
import time

from harness import Target, alive, connect, parse_reply, wait_until
from programs import PYTHON, Running, app

POOL_APP = app("pool_app.py")


class PoolProc:
    """As much of a started program as its questions need."""

    def __init__(self, pools, name):
        self.pools, self.name = pools, name

    def output(self):
        lines = self.pools.ask("logs", "--json", "-n", "all", self.name).stdout.splitlines()
        return "\n".join(json.loads(line)["text"] for line in lines)


class Pools:
    """A folder with a configuration, and the berthd that reads it."""

    def __init__(self, stage):
        self.stage = stage
        self.folder = os.path.join(stage.files, "conf")
        os.makedirs(os.path.join(self.folder, "apps.d"))
        stage.env["BERTH_LOG_DIR"] = os.path.join(stage.files, "log")
        self.port = stage.port
        self.options = ()

    def write(self, name, text):
        path = os.path.join(self.folder, name)
        with open(path + "~", "w", encoding="utf-8") as f:
            f.write(text)
        os.rename(path + "~", path)
        return path

    def define(self, name, command=None, words=(), port=None, **keys):
        """An application that is called `name` and answers to NAME.localhost."""
        port = port or self.port
        command = command or [PYTHON, POOL_APP, "127.0.0.1", port, *words]
        keys.setdefault("route", f"{name}.localhost")
        keys.setdefault("listen", f"127.0.0.1:{port}")
        keys.setdefault("stop_timeout", "2s")
        lines = [f"[app {name}]", "command = " + " ".join(f'"{w}"' for w in command)]
        for key, value in keys.items():
            values = value if isinstance(value, list) else [value]
            lines += [f"{key} = {v}" for v in values]
        self.write(f"apps.d/{name}.conf", "\n".join(lines) + "\n")
        return Target("127.0.0.1", port, f"{name}.localhost")

    def define_program(self, name, program, port=None, address=None, **keys):
        """One of the catalogue; returns what can be asked and checked as a program under berth run."""
        folder = tempfile.mkdtemp(prefix=f"{program}-", dir=self.stage.files)
        os.chmod(folder, 0o755)
        marker, port = program.new_marker(), port or self.port
        launch = program.launch(port, folder, address or program.address, marker)
        routes = program.routes(f"{name}.localhost")
        user = getattr(program, "user", None)
        if user:
            keys["user"] = user
            subprocess.run(["chown", "-R", user, folder], check=True, timeout=20)
        target = self.define(name, launch.argv, port=port, directory=launch.cwd or folder,
                             environment=[f"{k}={v}" for k, v in launch.env.items()],
                             **{"route": routes, **keys})
        return Running(program, PoolProc(self, name), target, marker, folder, launch.argv, lead=-1)

    def forget(self, name):
        os.unlink(os.path.join(self.folder, "apps.d", f"{name}.conf"))

    def up(self, *options):
        self.options = options
        self.stage.serve("--config", self.folder, *options)
        return self

    def ask(self, *words, good=True):
        done = self.stage.berth(*words)
        assert not good or done.returncode == 0, f"berth {words}: {done.stdout}{done.stderr}"
        return done

    def report(self, name):
        for listed in self.stage.ls()["apps"]:
            if listed["name"] == name and listed.get("pool"):
                return listed["pool"]
        return None

    def state(self, name):
        report = self.report(name)
        return report and report["state"]

    def workers(self, name, state=None):
        report = self.report(name)
        workers = report["workers"] if report else []
        return [w for w in workers if state in (None, w["state"])]

    def pids(self, name, state="ready"):
        return [w["pid"] for w in self.workers(name, state)]

    def wait_state(self, name, state, timeout=15):
        wait_until(lambda: self.state(name) == state, timeout, f"{name} {state}")

    def wait_workers(self, name, count, state="ready", timeout=15):
        wait_until(lambda: len(self.pids(name, state)) == count, timeout,
                   f"{count} workers of {name} {state}")
        return self.pids(name, state)

    def log(self):
        with open(os.path.join(self.stage.files, "berthd.log"), encoding="utf-8",
                  errors="replace") as f:
            return f.read()

    def kill(self, name, number=signal.SIGKILL):
        """One of the daemons: berthd, berth-dispatch."""
        pid = self.stage.daemon(name)
        os.kill(pid, number)
        wait_until(lambda: not alive(pid), 10, f"the end of {name}")


class Client:
    """One connection that is kept."""

    def __init__(self, target, source=None, timeout=30.0):
        self.target = target
        self.socket = connect(target, source, timeout)
        self.own = self.socket.getsockname()[:2]
        self.stream = self.socket.makefile("rb")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def close(self):
        self.stream.close()
        self.socket.close()

    def send(self, path="/", close=False):
        more = "Connection: close\r\n" if close else ""
        self.socket.sendall(f"GET {path} HTTP/1.1\r\nHost: {self.target.host}\r\n{more}\r\n".encode())

    def receive(self):
        head = b""
        while not head.endswith(b"\r\n\r\n"):
            line = self.stream.readline()
            if not line:
                raise ConnectionError(f"end of file after {head!r}")
            head += line
        reply = parse_reply(head, self.own)
        size = int(reply.headers.get("content-length", 0))
        reply.body = self.stream.read(size).decode()
        return reply

    def get(self, path="/", close=False):
        self.send(path, close)
        return self.receive()

    def is_closed(self):
        self.socket.settimeout(10)
        try:
            return self.socket.recv(1) == b""
        except ConnectionResetError:
            return True


def get(target, path="/", source=None, timeout=30.0):
    with Client(target, source, timeout) as client:
        return client.get(path, close=True)


def facts(target, path="/", **more):
    """What pool_app.py says of itself."""
    reply = get(target, path, **more)
    assert reply.status == 200, reply
    return json.loads(reply.body)


class Load:
    """Clients in threads: each makes connections, one after the other, with some requests on each.
    Whatever goes wrong is kept."""

    def __init__(self, target, threads=6, requests=(1, 1, 3), pause=0.0):
        self.target, self.requests, self.pause = target, requests, pause
        self.failures, self.done, self.pids = [], 0, set()
        self.stopped = threading.Event()
        self.lock = threading.Lock()
        self.threads = [threading.Thread(target=self._run, args=(n,)) for n in range(threads)]

    def _one(self, count):
        with Client(self.target) as client:
            for i in range(count):
                reply = client.get(close=i == count - 1)
                if reply.status != 200:
                    raise ConnectionError(f"{reply.status} {reply.body[:100]}")
                self._note(reply)

    def _note(self, reply):
        with self.lock:
            self.done += 1
            if reply.body.startswith("{"):
                self.pids.add(json.loads(reply.body)["pid"])

    def _run(self, number):
        turn = number
        while not self.stopped.is_set():
            began = time.monotonic()
            try:
                self._one(self.requests[turn % len(self.requests)])
            except (OSError, AssertionError, ValueError) as e:
                took = time.monotonic() - began
                self.failures.append(f"{type(e).__name__} {e} after {took:.2f} s")
            turn += 1
            self.stopped.wait(self.pause)

    def __enter__(self):
        for thread in self.threads:
            thread.start()
        return self

    def __exit__(self, *_):
        self.stopped.set()
        for thread in self.threads:
            thread.join()

    def wait_more(self, count=100, timeout=30):
        goal = self.done + count
        wait_until(lambda: self.done >= goal or len(self.failures) > 20, timeout,
                   f"{count} more answers")

    def check(self):
        assert not self.failures, f"{len(self.failures)} of {self.done}: {self.failures[:5]}"
