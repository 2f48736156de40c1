"""What a service manager is to berthd: a notify socket, and a store for descriptors that outlive
it."""

import array
import collections
import os
import signal
import socket
import threading

from harness import Proc, wait_until

STARTER = """
import fcntl, os, sys
count = int(sys.argv[1])
os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS=str(count), LISTEN_FDNAMES=sys.argv[2])
fds = [int(n) for n in sys.argv[3].split(",") if n]
high = [fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, 1000) for fd in fds]
for i, fd in enumerate(high):
    os.dup2(fd, 3 + i, inheritable=True)
os.execv(sys.argv[4], sys.argv[4:])
"""


class ServiceManager:
    """Starts berthd for a stage, as its parent, with what an earlier one stored."""

    def __init__(self, stage, watchdog_us=0):
        self.stage = stage
        self.path = os.path.join(stage.files, "notify")
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(self.path)
        self.store = collections.OrderedDict()
        self.said = []
        self.watchdog_us = watchdog_us
        self.proc = None
        self.log = os.path.join(stage.files, "berthd.log")
        self.thread = threading.Thread(target=self._listen, daemon=True)
        self.thread.start()

    def _listen(self):
        while True:
            try:
                data, ancillary, _, _ = self.socket.recvmsg(4096, socket.CMSG_SPACE(4 * 253))
            except OSError:
                return
            if not data:
                return
            self._handle(dict(line.split("=", 1) for line in data.decode().splitlines()),
                         [fd for _, _, raw in ancillary
                          for fd in array.array("i", raw[:len(raw) // 4 * 4])])

    def _handle(self, said, fds):
        name = said.get("FDNAME")
        if "FDSTORE" in said:
            self.store.setdefault(name, []).extend(fds)
        elif "FDSTOREREMOVE" in said:
            for fd in self.store.pop(name, []):
                os.close(fd)
        self.said.append(said)

    def start(self, extra=()):
        """`extra`: pairs of a name and a descriptor, as from a socket unit."""
        pairs = [(n, fd) for n, fds in self.store.items() for fd in reversed(fds)] + list(extra)
        env = {**self.stage.env, "NOTIFY_SOCKET": self.path}
        if self.watchdog_us:
            env["WATCHDOG_USEC"] = str(self.watchdog_us)
        seen = len(self.said)
        for _, fd in pairs:
            os.set_inheritable(fd, True)
        argv = ["/usr/bin/python3", "-c", STARTER, len(pairs), ":".join(n for n, _ in pairs),
                ",".join(str(fd) for _, fd in pairs), self.stage.tool("berthd")]
        self.proc = Proc(argv, self.log, env, "/", [fd for _, fd in pairs])
        self.stage.by_hand.append(self.proc)
        self.wait_said("READY", seen)
        return self.proc.pid

    def wait_said(self, word, since=0):
        return wait_until(lambda: next((s for s in self.said[since:] if word in s), None), 10,
                          f"{word} from berthd")

    def kill(self):
        os.kill(self.proc.pid, signal.SIGKILL)
        self.proc.popen.wait(10)

    def close(self):
        self.socket.shutdown(socket.SHUT_RDWR)
        self.thread.join(5)
        self.socket.close()
        for fds in self.store.values():
            for fd in fds:
                os.close(fd)
