"""What the tests of the preloaded library share: programs under it, and a berthd that is not one."""
import os
import select
import signal
import socket
import subprocess
import sys
import textwrap

import pytest

from fake_berthd import FakeBerthd

HERE = os.path.dirname(os.path.abspath(__file__))
BUILD = os.path.abspath(os.environ.get("BERTH_BUILD", os.path.join(HERE, "../../build")))
SHIM = os.path.join(BUILD, "libberth-preload.so")
INSTANCE = "00112233445566778899aabbccddeeff"
PORT = 8080  # only claimed at the fake berthd: no socket is ever bound to it
TIMEOUT = 20


def environment(path, **extra):
    env = dict(os.environ, LD_PRELOAD=SHIM, BERTH_CONTROL=path, BERTH_APP="blog",
               BERTH_INSTANCE=INSTANCE, BERTH_ROUTES="blog.localhost any://:8080",
               BERTH_COMMAND="test", PYTHONUNBUFFERED="1")
    env.update(extra)
    return {k: v for k, v in env.items() if v is not None}


class Program:
    def __init__(self, argv, env, **popen):
        self.process = subprocess.Popen(argv, env=env, stdin=subprocess.PIPE,
                                        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                                        start_new_session=True, **popen)
        self.buffer = b""

    def line(self):
        """The next line of its output, without the line end."""
        out = self.process.stdout.fileno()
        while b"\n" not in self.buffer:
            ready, _, _ = select.select([out], [], [], TIMEOUT)
            assert ready, "the program says nothing"
            data = os.read(out, 4096)
            assert data, "the program has ended: " + self.process.stderr.read().decode()
            self.buffer += data
        line, _, self.buffer = self.buffer.partition(b"\n")
        return line.decode()

    def tell(self, text="go"):
        self.process.stdin.write(text.encode() + b"\n")
        self.process.stdin.flush()

    def end(self):
        """Waits for its end; its standard error."""
        out, err = self.process.communicate(timeout=TIMEOUT)
        assert self.process.returncode == 0, (self.process.returncode, out, err.decode())
        return err.decode()

    def stop(self):
        """Ends it and what it forked."""
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.communicate()


@pytest.fixture
def path(tmp_path):
    return str(tmp_path / "control")


@pytest.fixture
def berthd(path):
    daemon = FakeBerthd(path)
    yield daemon
    daemon.close()


@pytest.fixture
def run(path):
    programs = []

    def start(script, env=None, **extra):
        prelude = f"import os, sys, socket, select, errno, time\nPORT = {PORT}\n"
        argv = [sys.executable, "-c", prelude + textwrap.dedent(script)]
        program = Program(argv, env or environment(path, **extra))
        programs.append(program)
        return program

    yield start
    for program in programs:
        program.stop()


@pytest.fixture
def spawn(path):
    programs = []

    def start(*argv, **extra):
        programs.append(Program(argv, environment(path, **extra)))
        return programs[-1]

    yield start
    for program in programs:
        program.stop()


def connect(family=socket.AF_INET):
    """A client and the accepted side of a real connection over loopback."""
    listener = socket.create_server(("127.0.0.1" if family == socket.AF_INET else "::1", 0),
                                    family=family)
    client = socket.socket(family)
    client.settimeout(TIMEOUT)
    client.connect(listener.getsockname())
    accepted, peer = listener.accept()
    listener.close()
    return client, accepted, (family, peer[0], peer[1])


def send_client(berthd, number=1, family=socket.AF_INET):
    client, accepted, peer = connect(family)
    berthd.deliver(accepted, peer, number)
    return client


SERVER = """
    s = socket.socket()
    s.bind(("127.0.0.1", PORT))
    s.listen()
    print("ready")
"""

EPOLL_SERVER = SERVER + """
    s.setblocking(False)
    e = select.epoll()
    e.register(s, select.EPOLLIN)
    wakes = 0
    while True:
        e.poll()
        wakes += 1
        try:
            c, peer = s.accept()
            c.sendall(b"wakes %d" % wakes)
            c.close()
        except BlockingIOError:
            print("nothing", s.getsockname(), flush=True)
"""
