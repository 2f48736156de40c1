"""One test's own world: a runtime directory (and so a berthd) of its own, programs started natively
or under `berth run`, and an end that leaves no process behind."""

import json
import os
import shutil
import socket
import subprocess
import tempfile

import pytest

from harness import (Proc, Target, alive, as_user, descendants, end_strays, free_port,
                     process_table, reap_orphans, wait_until)
from programs import Running

NATIVE, BERTH = "native", "berth"
DAEMONS = ("berthd", "berth-dispatch")


def strings_and_numbers(document):
    """All leaves and keys of a JSON document, so that tests do not hang on its layout."""
    if isinstance(document, dict):
        for key, value in document.items():
            yield key
            yield from strings_and_numbers(value)
    elif isinstance(document, list):
        for value in document:
            yield from strings_and_numbers(value)
    else:
        yield document


class Stage:
    def __init__(self, mode, build, user=None):
        self.mode, self.user = mode, user
        # As berthd itself makes it: root's is readable, for workers that run as another user.
        self.runtime = self._folder("b", 0o700 if user or os.geteuid() != 0 else 0o755)
        self.files = self._folder("e", 0o755)
        self.build = self._reachable(build)
        self.port = free_port()
        self.before = set(descendants(os.getpid()))
        self.running = []
        self.by_hand = []
        self.netns = None
        self.env = {k: v for k, v in os.environ.items()
                    if k not in ("LD_PRELOAD", "LISTEN_FDS", "LISTEN_PID", "NOTIFY_SOCKET")}
        self.env["BERTH_RUNTIME_DIR"] = self.runtime

    def _folder(self, prefix, mode):
        path = tempfile.mkdtemp(prefix=prefix, dir="/tmp")
        os.chmod(path, mode)
        if self.user:
            shutil.chown(path, self.user)
        return path

    def _reachable(self, build):
        """The build folder, or a copy of its programs where the other user may not go."""
        if self.mode == NATIVE or not self.user:
            return build
        probe = as_user(self.user, ["test", "-x", os.path.join(build, "berth")])
        if subprocess.run(probe, cwd="/", check=False).returncode == 0:
            return build
        copy = os.path.join(self.files, "build")
        os.mkdir(copy)
        for name in os.listdir(build):
            path = os.path.join(build, name)
            if os.path.isfile(path) and os.access(path, os.X_OK):
                shutil.copy(path, copy)
        return copy

    def _in_netns(self, argv):
        return ["nsenter", f"--net=/proc/{self.netns}/ns/net", *argv] if self.netns else list(argv)

    def _wrap(self, argv, prefix=()):
        return self._in_netns([*prefix, *as_user(self.user, argv)])

    # berth ----------------------------------------------------------------------------------------

    def tool(self, name="berth"):
        return os.path.join(self.build, name)

    def berth(self, *args, timeout=60, env=None):
        """Runs one berth command to its end; the caller judges the exit status."""
        return subprocess.run(self._wrap([self.tool(), *map(str, args)]), capture_output=True,
                              text=True, timeout=timeout, check=False, cwd="/",
                              env={**self.env, **(env or {})}, stdin=subprocess.DEVNULL)

    def berth_later(self, *args):
        """Starts one berth command; the caller waits for its end."""
        return subprocess.Popen(self._wrap([self.tool(), *map(str, args)]), text=True, cwd="/",
                                stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=self.env,
                                stdin=subprocess.DEVNULL)

    def ls(self):
        done = self.berth("ls", "--json")
        assert done.returncode == 0, f"berth ls failed: {done.stderr}"
        return json.loads(done.stdout)

    def listed(self, word):
        """Whether `berth ls --json` holds this number, or a string with this text in it."""
        leaves = list(strings_and_numbers(self.ls()))
        if isinstance(word, int):
            return any(leaf == word for leaf in leaves if not isinstance(leaf, bool))
        return any(word in leaf for leaf in leaves if isinstance(leaf, str))

    def lists_a_process_of(self, running):
        return any(self.listed(pid) for pid in running.group())

    @staticmethod
    def wait_listening(running):
        """For programs that cannot be asked yet: they write this once listen() returned."""
        def listens():
            assert running.is_running(), f"{running.program} ended:\n{running.proc.output()}"
            return "listening" in running.proc.output()

        wait_until(listens, 15, f"{running.program} listening")

    def daemons(self):
        """name -> pid of this stage's berthd and berth-dispatch, as far as they live. They are told
        from those that were there before by being new descendants of this process."""
        table = process_table()
        found = {}
        for pid in descendants(os.getpid(), table):
            if pid not in self.before and table[pid][3] in DAEMONS:
                found[table[pid][3]] = pid
        return found

    def daemon(self, name):
        return wait_until(lambda: self.daemons().get(name), 10, f"a running {name}")

    def serve(self, *options, limit=()):
        """Starts this stage's berthd by hand, in the foreground, with options of its own; `limit` is a
        command before it. When this returns it has opened everything: the control socket is the
        first of all, and answers last."""
        proc = Proc(self._wrap([*limit, self.tool("berthd"), *map(str, options)]),
                    os.path.join(self.files, "berthd.log"), self.env, "/")
        self.by_hand.append(proc)

        def takes():
            assert proc.is_running(), f"berthd ended:\n{proc.output()}"
            try:
                self.control().close()
            except OSError:
                return False
            return True

        wait_until(takes, 30, "a control socket")
        done = self.berth("ls")
        assert done.returncode == 0, f"berthd does not answer: {done.stderr}{proc.output()}"

    def control_path(self, name="control"):
        return os.path.join(self.runtime, name)

    def control(self, name="control", timeout=30.0):
        """A connection to one of berth's sockets, as any local process can make it."""
        s = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        s.settimeout(timeout)
        try:
            s.connect(self.control_path(name))
        except OSError:
            s.close()
            raise
        return s

    # Programs -------------------------------------------------------------------------------------

    def start(self, program, host="app.localhost", *, port=None, address=None, routes=None,
              options=(), prefix=(), ready=True):
        """Starts a program and waits until it answers. `prefix` goes before the berth command (or
        the program), `options` are further ones for `berth run`."""
        if program.missing():
            pytest.skip(program.missing())
        port = port or self._port()
        address = address or program.address
        folder = tempfile.mkdtemp(prefix=f"{program}-", dir=self.files)
        os.chmod(folder, 0o755)
        marker = program.new_marker()
        launch = program.launch(port, folder, address, marker)
        self._give(folder)
        argv = self._command(program, launch, host, routes, options)
        proc = Proc(self._wrap(argv, prefix), os.path.join(folder, "output.log"),
                    {**self.env, **launch.env}, launch.cwd or folder)
        reach = "127.0.0.1" if address in ("::", "0.0.0.0") else address
        running = Running(program, proc, Target(reach, port, host, self.netns), marker, folder,
                          launch.argv)
        self.running.append(running)
        return running.wait_ready() if ready else running

    def _port(self):
        """The one shared port; natively each program needs its own, which is why berth exists."""
        taken = any(r.target.port == self.port and r.group() for r in self.running)
        return free_port() if self.mode == NATIVE and taken else self.port

    def _give(self, folder):
        """What launch() made as root belongs to the user who is to run the program."""
        if self.user:
            subprocess.run(["chown", "-R", self.user, folder], check=True, timeout=20)

    def _command(self, program, launch, host, routes, options):
        if self.mode == NATIVE:
            return launch.argv
        routes = program.routes(host) if routes is None else routes
        names = [word for route in routes for word in ("--as", route)]
        return [self.tool(), "run", *names, *options, "--", *launch.argv]

    # The end --------------------------------------------------------------------------------------

    def close(self):
        """Stops everything, and fails when something had to be killed that should have gone."""
        complaints = []
        for step in (self._kill_programs, self._stop_daemon, self._wait_for_the_end):
            try:
                step()
            except (AssertionError, OSError, subprocess.SubprocessError) as e:
                complaints.append(str(e))
        strays = end_strays(self._left())
        if strays:
            complaints.append(f"left behind: {strays}")
        shutil.rmtree(self.files, ignore_errors=True)
        shutil.rmtree(self.runtime, ignore_errors=True)
        assert not complaints, "; ".join(complaints)

    def _kill_programs(self):
        for running in self.running:
            running.kill()

    def _stop_daemon(self):
        if self.mode == BERTH and self.daemons():
            done = self.berth("stop")
            assert done.returncode == 0, f"berth stop failed: {done.stderr}"

    def _wait_for_the_end(self):
        wait_until(lambda: not self._left(), 10, "the end of all processes of the test")

    def _left(self):
        reap_orphans()
        for proc in self.by_hand:
            proc.is_running()  # reaps it
        return [p for p in descendants(os.getpid()) if p not in self.before and alive(p)]

    def report(self):
        """What the programs and the daemon wrote, for a failed test."""
        for running in self.running:
            yield f"{running.program} (pid {running.pid})", running.proc.output()[-6000:]
        for path in (os.path.join(self.files, "berthd.log"), os.path.join(self.runtime, "log")):
            if os.path.exists(path):
                with open(path, encoding="utf-8", errors="replace") as f:
                    yield path, f.read()[-6000:]
