"""What the tests of `berth why` share: the program under test, programs that hold ports, and
network namespaces. Everything started here is ended by pid, every namespace deleted by name."""

import contextlib
import itertools
import json
import os
import pathlib
import shutil
import socket
import subprocess
import tempfile
import textwrap

BUILD = pathlib.Path(os.environ.get("BERTH_BUILD", pathlib.Path(__file__).parents[2] / "build"))
BERTH = str((BUILD / "berth").resolve())
PYTHON = "/usr/bin/python3"
IS_ROOT = os.geteuid() == 0
_numbers = itertools.count()


def why(*args, prefix=(), berth=BERTH):
    """Runs `berth why ARGS`; the result has returncode, stdout and stderr."""
    return subprocess.run([*prefix, berth, "why", *map(str, args)], stdin=subprocess.DEVNULL,
                          capture_output=True, text=True, timeout=60, check=False)


def why_json(*args, **kwargs):
    result = why("--json", *args, **kwargs)
    assert result.stderr == ""
    return json.loads(result.stdout)


@contextlib.contextmanager
def holder(code, *args, prefix=(), python=(PYTHON, "-c"), ready=True):
    """A program that runs until the block ends. Python code says `ready(x)` when it is set up; the
    block gets its pid and that x."""
    intro = textwrap.dedent("""
        import socket, sys, os
        def ready(x=""):
            print(x, flush=True)
            sys.stdin.read()
    """)
    source = intro + textwrap.dedent(code) if python[0] == PYTHON else textwrap.dedent(code)
    proc = subprocess.Popen([*prefix, *python, source, *map(str, args)], stdin=subprocess.PIPE,
                            stdout=subprocess.PIPE, text=True)
    try:
        said = proc.stdout.readline().strip() if ready else ""
        assert proc.poll() is None, "the holder ended early"
        yield proc.pid, said
    finally:
        proc.kill()
        proc.communicate()


LISTEN = """
    family = socket.AF_INET6 if ":" in sys.argv[1] else socket.AF_INET
    s = socket.socket(family)
    if "reuseport" in sys.argv:
        s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    if "reuse" in sys.argv:
        s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if family == socket.AF_INET6:
        s.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, "v6only" in sys.argv)
    s.bind((sys.argv[1], int(sys.argv[2])))
    if "bound" not in sys.argv:
        s.listen()
    ready(s.getsockname()[1])
"""


@contextlib.contextmanager
def namespace():
    """A network namespace with its loopback up. The block gets the prefix that runs a command in
    it."""
    name = f"berth-why-{os.getpid()}-{next(_numbers)}"
    subprocess.run(["ip", "netns", "add", name], check=True)
    prefix = ("ip", "netns", "exec", name)
    try:
        subprocess.run([*prefix, "ip", "link", "set", "lo", "up"], check=True)
        subprocess.run([*prefix, "sh", "-c",
                        "echo 1024 >/proc/sys/net/ipv4/ip_unprivileged_port_start"], check=True)
        yield prefix
    finally:
        subprocess.run(["ip", "netns", "del", name], check=True)


@contextlib.contextmanager
def public_berth():
    """A copy of the program where every user can run it."""
    folder = tempfile.mkdtemp(prefix="berth-why-")
    try:
        os.chmod(folder, 0o755)
        yield shutil.copy(BERTH, folder)
    finally:
        shutil.rmtree(folder)


def free_port():
    """A port that nobody holds now. Used only where a program cannot be told to take port 0."""
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]
