"""A berth-rendezvous, users with keys of their own, and the world of one test around them."""

import itertools
import os
import re
import shutil
import signal
import subprocess
import tempfile

from harness import Proc, wait_until


def counters(proc):
    """name -> number of the last line of counters, asked for now."""
    before = proc.output().count("counters ")
    proc.send(signal.SIGUSR1)
    wait_until(lambda: proc.output().count("counters ") > before, 10, "counters")
    line = [l for l in proc.output().splitlines() if "counters " in l][-1]
    return {k: int(v) for k, v in re.findall(r"([\w.]+)=(\d+)", line)}


class Server:
    """One berth-rendezvous with a folder of its own; it can be killed and started again."""

    def __init__(self, build, folder):
        self.build, self.folder = build, folder
        self.state = os.path.join(folder, "state")
        self.log = os.path.join(folder, "log")
        self.port, self.proc, self.host = 0, None, "127.0.0.1"
        self.limit = ()  # a command that starts it with less than it would like to have

    def start(self, *options):
        open(self.log, "w", encoding="utf-8").close()
        argv = [*self.limit, os.path.join(self.build, "berth-rendezvous"), "--listen", f"{self.host}:{self.port}",
                "--state", self.state, "--log", "debug", *map(str, options)]
        self.proc = Proc(argv, self.log)

        def listens():
            assert self.proc.is_running(), self.proc.output()
            return re.search(r"listening addr=\S+:(\d+)", self.proc.output())

        self.port = int(wait_until(listens, 15, "a listening server")[1])
        return self

    @property
    def address(self):
        return f"127.0.0.1:{self.port}"

    def counters(self):
        return counters(self.proc)

    def memory(self):
        with open(f"/proc/{self.proc.pid}/status", encoding="ascii") as f:
            return int(re.search(r"VmRSS:\s+(\d+)", f.read())[1]) * 1024


class User:
    """Somebody with a key of their own."""

    def __init__(self, build, folder):
        self.build = build
        self.home = folder
        self.env = {k: v for k, v in os.environ.items() if not k.startswith(("BERTH_", "XDG_"))}
        self.env["HOME"] = folder
        self.key_file = os.path.join(folder, ".config", "berth", "key")

    def berth(self, *args):
        return subprocess.run([os.path.join(self.build, "berth"), *map(str, args)], env=self.env,
                              stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=30,
                              check=False)

    def good(self, *args):
        done = self.berth(*args)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def key(self):
        return self.good("key", "show").strip()

    def refused(self, *args):
        done = self.berth(*args)
        assert done.returncode == 1 and not done.stdout, (done.returncode, done.stdout)
        return done.stderr


class World:
    def __init__(self, build):
        self.build = build
        self.folder = tempfile.mkdtemp(prefix="r", dir="/tmp")
        os.chmod(self.folder, 0o755)
        self.ends = []
        self.count = itertools.count()

    def _folder(self):
        path = os.path.join(self.folder, str(next(self.count)))
        os.mkdir(path)
        return path

    def server(self, *options, host="127.0.0.1"):
        server = Server(self.build, self._folder())
        server.host = host
        self.ends.append(lambda: server.proc and server.proc.kill())
        return server.start(*options)

    def user(self, has_key=True):
        user = User(self.build, self._folder())
        if has_key:
            user.good("key", "new")
        return user

    def register(self, user, server, *options):
        """`berth register` in the background, when it says that it is registered."""
        folder = self._folder()
        proc = Proc([os.path.join(self.build, "berth"), "register", "--rendezvous", server,
                     *options], os.path.join(folder, "log"), user.env)
        self.ends.append(proc.kill)

        def says():
            assert proc.is_running(), proc.output()
            return "registered " in proc.output()

        wait_until(says, 15, "a registration")
        return proc

    def keep(self, thing):
        self.ends.append(thing.close)
        return thing

    def close(self):
        for end in reversed(self.ends):
            end()
        shutil.rmtree(self.folder, ignore_errors=True)
