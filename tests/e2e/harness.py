"""What every end-to-end test stands on: waiting, ports, processes, and a client that can choose its
own source address. Nothing here knows of berth or of any program."""

import ctypes
import dataclasses
import itertools
import os
import pwd
import random
import re
import select
import signal
import socket
import struct
import subprocess
import threading
import time

PR_SET_CHILD_SUBREAPER = 36
CLONE_NEWNET = 0x40000000
LEAST_PATIENCE = 40.0
# tests/run.py runs two files at once: each has ports and client addresses of its own.
SLOTS = 2
SLOT = int(os.environ.get("BERTH_TEST_SLOT", 0)) % SLOTS
LIBC = ctypes.CDLL(None, use_errno=True)

_sources = itertools.count(1)


class Timeout(AssertionError):
    """Something that was waited for did not come."""


def wait_until(predicate, timeout=10.0, what="the condition"):
    """Asks again and again until the answer is true, and returns it. The only way to wait here. That
    a machine is busy is no failure: nothing here measures how long something takes."""
    timeout = max(timeout, LEAST_PATIENCE)
    deadline = time.monotonic() + timeout
    pause = 0.002
    while True:
        answer = predicate()
        if answer:
            return answer
        if time.monotonic() > deadline:
            raise Timeout(f"{what} did not come true within {timeout:g} s")
        time.sleep(pause)
        pause = min(pause * 1.5, 0.05)


def fresh_source():
    """A loopback address that no earlier client of this run has used, so that a log line which
    shows it can only be about this client."""
    n = next(_sources)
    return f"127.{77 + SLOT}.{n // 250 % 250}.{n % 250 + 1}"


def _is_free(port):
    for family, address in ((socket.AF_INET, "0.0.0.0"), (socket.AF_INET6, "::")):
        try:
            with socket.socket(family, socket.SOCK_STREAM) as s:
                s.bind((address, port))
        except OSError as e:
            if e.errno in (97, 99):  # EAFNOSUPPORT, EADDRNOTAVAIL: a machine without IPv6
                continue
            return False
    return True


def free_port():
    """A port outside the ephemeral range, so that no client gets it by chance, proven free."""
    with open("/proc/sys/net/ipv4/ip_local_port_range", encoding="ascii") as f:
        low = int(f.read().split()[0])
    for _ in range(1000):
        port = random.randrange(min(10000, low - 1000), low)
        if port % SLOTS == SLOT and _is_free(port):
            return port
    raise AssertionError("no free port found below the ephemeral range")


def can_bind(port, address="127.0.0.1"):
    """Whether a program that knows nothing of berth could listen here now."""
    with socket.socket() as s:
        s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            s.bind((address, port))
            s.listen(1)
        except OSError:
            return False
    return True


def has_ipv6():
    try:
        with socket.socket(socket.AF_INET6, socket.SOCK_STREAM) as s:
            s.bind(("::1", 0))
    except OSError:
        return False
    return True


def user_exists(name):
    try:
        pwd.getpwnam(name)
    except KeyError:
        return False
    return True


# Processes ---------------------------------------------------------------------------------------


def adopt_orphans():
    """From now on every process that our programs leave behind becomes our child, so that none can
    hide, however often it forked."""
    LIBC.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def process_table():
    """pid -> (parent, group, state, command) of everything that runs."""
    table = {}
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as f:
                head, tail = f.read().rsplit(")", 1)
        except OSError:
            continue
        state, parent, group = tail.split()[:3]
        table[int(pid)] = (int(parent), int(group), state, head.split("(", 1)[1])
    return table


def descendants(pid, table=None):
    """All living processes below pid; zombies do not count."""
    table = table or process_table()
    children = {}
    for child, (parent, _, _, _) in table.items():
        children.setdefault(parent, []).append(child)
    found, todo = [], list(children.get(pid, []))
    while todo:
        child = todo.pop()
        todo += children.get(child, [])
        if table[child][2] not in "ZX":
            found.append(child)
    return found


def alive(pid):
    entry = process_table().get(pid)
    return entry is not None and entry[2] not in "ZX"


def command_name(pid):
    """What the kernel calls it: readable for every process, whoever it runs as."""
    entry = process_table().get(pid)
    return entry[3] if entry else ""


def cpu_seconds(pid):
    with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as f:
        fields = f.read().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def group_members(group):
    """Its living members below us; a group id that others reused is never taken for ours."""
    table = process_table()
    return [p for p in descendants(os.getpid(), table) if table[p][1] == group]


def kill_group(group):
    """SIGKILL to exactly this group, and no return before it is gone."""
    if group_members(group):
        os.killpg(group, signal.SIGKILL)
    wait_until(lambda: not group_members(group), 10, f"the end of the killed group {group}")


def as_user(user, argv):
    """The command that runs argv as another user: by exec, so that the process id stays."""
    if not user:
        return list(argv)
    group = str(pwd.getpwnam(user).pw_gid)
    return ["setpriv", f"--reuid={user}", f"--regid={group}", "--init-groups", "--", *argv]


def cpu_share(pid, seconds=1.0):
    """How much of one processor it used over an interval: for finding what spins."""
    before = cpu_seconds(pid)
    time.sleep(seconds)  # the length of the measurement; nothing is waited for
    return (cpu_seconds(pid) - before) / seconds


class Proc:
    """One started program with a session and process group of its own and its output in a file."""

    running = {}  # pid -> Proc, so that only those without a Proc are reaped as orphans

    def __init__(self, argv, log, env=None, cwd=None, fds=()):
        self.argv = [str(a) for a in argv]
        self.log = log
        with open(log, "ab") as out:
            self.popen = subprocess.Popen(self.argv, stdin=subprocess.DEVNULL, stdout=out,
                                          stderr=out, env=env, cwd=cwd, start_new_session=True,
                                          pass_fds=fds)
        self.pid = self.popen.pid
        Proc.running[self.pid] = self

    def is_running(self):
        return self.popen.poll() is None

    def output(self):
        with open(self.log, encoding="utf-8", errors="replace") as f:
            return f.read()

    def group(self):
        return group_members(self.pid)

    def send(self, number):
        if self.is_running():
            os.kill(self.pid, number)

    def wait(self, timeout=LEAST_PATIENCE):
        try:
            return self.popen.wait(timeout)
        except subprocess.TimeoutExpired:
            raise Timeout(f"{self.argv} did not end within {timeout} s:\n{self.output()}") from None

    def stop(self, number=signal.SIGTERM, timeout=LEAST_PATIENCE):
        """Asks the program to end and waits for it and its group; returns the exit status."""
        self.send(number)
        status = self.wait(timeout)
        wait_until(lambda: not self.group(), timeout, f"the end of the group of {self.argv}")
        return status

    def kill(self):
        """SIGKILL to exactly this group."""
        kill_group(self.pid)
        self.popen.wait(10)


def reap_orphans():
    for pid, (parent, _, state, _) in process_table().items():
        if parent == os.getpid() and state == "Z" and pid not in Proc.running:
            try:
                os.waitpid(pid, os.WNOHANG)
            except ChildProcessError:
                pass


def end_strays(pids):
    """Kills, one by one, what a test left behind. Returns what had to be killed."""
    table = process_table()
    strays = [(p, table[p][3]) for p in pids if p in table and table[p][2] not in "ZX"]
    for pid, _ in strays:
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            continue
    reap_orphans()
    return strays


# The client --------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Target:
    """Where a program is to be reached, and under which name."""

    address: str
    port: int
    host: str
    netns: object = None

    def at(self, address):
        return dataclasses.replace(self, address=address)

    def named(self, host):
        return dataclasses.replace(self, host=host)


def socket_in(netns, family):
    """A socket that belongs to another network namespace: made by a thread that went there."""
    made = []

    def make():
        with open(f"/proc/{netns}/ns/net", "rb") as f:
            if LIBC.setns(f.fileno(), CLONE_NEWNET) == 0:
                made.append(socket.socket(family, socket.SOCK_STREAM))

    thread = threading.Thread(target=make)
    thread.start()
    thread.join()
    assert made, f"cannot enter the network namespace of process {netns}"
    return made[0]


def connect(target, source=None, timeout=30.0):
    family = socket.AF_INET6 if ":" in target.address else socket.AF_INET
    if target.netns:
        s = socket_in(target.netns, family)
    else:
        s = socket.socket(family, socket.SOCK_STREAM)
    try:
        s.settimeout(timeout)
        if source:
            s.bind((source, 0))
        s.connect((target.address, target.port))
    except OSError:
        s.close()
        raise
    return s


def read_to_end(s):
    """Everything until end-of-file. That it comes at all proves that nobody kept a copy open."""
    data = b""
    while True:
        part = s.recv(65536)
        if not part:
            return data
        data += part


def read_to_close(s):
    """As read_to_end(), for a peer that may also reset the connection."""
    data = b""
    try:
        while True:
            part = s.recv(65536)
            if not part:
                break
            data += part
    except (ConnectionResetError, BrokenPipeError):
        pass
    return data


def assert_silent(s, seconds=0.05):
    """Nothing may come yet. This also shapes what is sent into separate segments."""
    readable, _, _ = select.select([s], [], [], seconds)
    assert not readable, f"answered too early: {s.recv(200, socket.MSG_PEEK)!r}"


def reset(s):
    """Closes with a RST, as a client that crashes does."""
    s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    s.close()


@dataclasses.dataclass
class Reply:
    status: int
    headers: dict
    body: str
    source: tuple = None  # the client's own address and port


def parse_reply(data, source=None):
    head, separator, body = data.partition(b"\r\n\r\n")
    match = re.match(rb"HTTP/1\.[01] (\d{3})", head)
    assert match and separator, f"this is no HTTP response: {data[:300]!r}"
    headers = {}
    for line in head.decode("latin-1").split("\r\n")[1:]:
        key, _, value = line.partition(":")
        headers[key.strip().lower()] = value.strip()
    return Reply(int(match[1]), headers, body.decode("utf-8", "replace"), source)


def exchange(target, data, source=None, timeout=30.0):
    """Sends bytes as they are and returns whatever comes until the other side closes."""
    with connect(target, source, timeout) as s:
        try:
            s.sendall(data)
        except (ConnectionResetError, BrokenPipeError):
            pass
        return read_to_close(s)


def request_bytes(target, path="/"):
    return (f"GET {path} HTTP/1.1\r\nHost: {target.host}:{target.port}\r\n"
            "User-Agent: e2e\r\nConnection: close\r\n\r\n").encode()


def http_get(target, path="/", source=None, timeout=30.0):
    with connect(target, source, timeout) as s:
        own = s.getsockname()[:2]
        s.sendall(request_bytes(target, path))
        return parse_reply(read_to_end(s), own)
