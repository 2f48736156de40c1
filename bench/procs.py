"""Processes that the benchmark starts, and what the kernel says they cost. Every process started
here is in one Stable, which stops them by pid, the last one first, whatever happens."""

import os
import pathlib
import signal
import socket
import subprocess
import time

TICKS = os.sysconf("SC_CLK_TCK")


class Failure(Exception):
    """A front or the load generator did not do its part; the message says which and why."""


class Stable:
    def __init__(self):
        self.running = []

    def start(self, argv, log, **options):
        options.setdefault("stdin", subprocess.DEVNULL)
        options.setdefault("stdout", log)
        process = subprocess.Popen([str(a) for a in argv], stderr=log, **options)
        self.running.append(process)
        return process

    def stop(self, process):
        if process in self.running:
            self.running.remove(process)
        stop_tree(process.pid)
        for stream in (process.stdin, process.stdout):
            if stream:
                stream.close()
        process.wait()

    def stop_all(self):
        for process in reversed(list(self.running)):
            self.stop(process)


def parent_of(pid):
    try:
        stat = pathlib.Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return None
    return int(stat.rsplit(")", 1)[1].split()[1])


def tree(root):
    """The process and its descendants."""
    parents = {}
    for name in os.listdir("/proc"):
        if name.isdigit():
            parents.setdefault(parent_of(int(name)), []).append(int(name))
    found, todo = [], [root]
    while todo:
        pid = todo.pop()
        found.append(pid)
        todo.extend(parents.get(pid, []))
    return found


def signal_quietly(pid, number):
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        pass


def is_gone(pid):
    try:
        stat = pathlib.Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return True
    return stat.rsplit(")", 1)[1].split()[0] in "ZX"


def stop_pids(pids, patience_s=3.0):
    for pid in pids:
        signal_quietly(pid, signal.SIGTERM)
    deadline = time.monotonic() + patience_s
    while time.monotonic() < deadline and not all(is_gone(pid) for pid in pids):
        time.sleep(0.01)
    for pid in pids:
        if not is_gone(pid):
            signal_quietly(pid, signal.SIGKILL)


def stop_tree(root):
    stop_pids(tree(root))


def cpu_ns(pids):
    """User and system time, from the scheduler's own nanoseconds, of all threads; and of children
    that were waited for (a server that forks for each connection), which the kernel counts in
    ticks."""
    total = 0
    for pid in pids:
        try:
            for task in os.listdir(f"/proc/{pid}/task"):
                text = pathlib.Path(f"/proc/{pid}/task/{task}/schedstat").read_text()
                total += int(text.split()[0])
            stat = pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
            total += (int(stat[13]) + int(stat[14])) * 1_000_000_000 // TICKS
        except (FileNotFoundError, ProcessLookupError):
            continue
    return total


def memory_bytes(pids):
    """Proportional set size: shared pages are counted once over all processes. None when the kernel
    does not let us look: a number that leaves a process out would flatter."""
    total = 0
    for pid in pids:
        try:
            lines = pathlib.Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
        except PermissionError:
            return None
        except (FileNotFoundError, ProcessLookupError):
            continue
        total += sum(int(line.split()[1]) * 1024 for line in lines if line.startswith("Pss:"))
    return total


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def answers(port, host):
    """Whether a request for this host on this port is answered by the worker."""
    request = f"GET / HTTP/1.1\r\nHost: {host}:{port}\r\nConnection: close\r\n\r\n".encode()
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=2) as client:
            client.sendall(request)
            answer = b""
            while part := client.recv(4096):
                answer += part
    except OSError:
        return False
    return answer.startswith(b"HTTP/1.1 200") and answer.endswith(b"b" * 128)


def wait_for(port, host, what, process=None, patience_s=10.0):
    deadline = time.monotonic() + patience_s
    while time.monotonic() < deadline:
        if answers(port, host):
            return
        if process and process.poll() is not None:
            break
        time.sleep(0.02)
    raise Failure(f"{what} does not answer on port {port}")
