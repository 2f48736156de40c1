"""Peers with the real daemons in a lab: `home` on host b publishes, `laptop` on host a dials."""

import hashlib
import itertools
import os
import pathlib
import shutil
import sys
import tempfile
import threading
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "e2e"))

import peers  # noqa: E402  (needs the path above)
from harness import wait_until  # noqa: E402
from lab import ROOT, Lab  # noqa: E402

DELAY_MS = 5
# Random bytes, a few megabytes a second, until the other side has no more to say; then their digest.
SENDER = """
import hashlib, os, select, socket, threading
listener = socket.create_server(("127.0.0.1", 7000))
print("ready", flush=True)
def serve(s):
    digest = hashlib.sha256()
    while not select.select([s], [], [], 0.005)[0]:
        block = os.urandom(16384)
        s.sendall(block)
        digest.update(block)
    s.sendall(digest.hexdigest().encode())
    s.close()
while True:
    threading.Thread(target=serve, args=(listener.accept()[0],), daemon=True).start()
"""
DIGEST = 64


def built_folder():
    return os.path.abspath(os.environ.get("BERTH_BUILD", ROOT / "build"))


class Inside:
    """A machine of the lab, as peers.py wants a namespace."""

    def __init__(self, machine):
        self.wrap = machine.command


class LabWorld(peers.World):
    """A world whose peers are on the hosts of a lab."""

    def __init__(self, build, a, b, port=3478, **line):  # pylint: disable=super-init-not-called
        self.build, self.network = build, None
        self.folder = tempfile.mkdtemp(prefix="p", dir="/tmp")
        os.chmod(self.folder, 0o755)
        self.ends, self.count, self.all = [], itertools.count(), []
        self.lab = Lab(a, b, **{"delay_ms": DELAY_MS, **line})
        self.lab.__enter__()
        first, second = self.lab.server_addresses[:2]
        self.server_address = f"{first}:{port}"
        try:
            self.server = peers.Server(self, first, Inside(self.lab.server), port=port,
                                       options=["--stun-other", f"{second}:3479"])
            self.home = self.peer_on("home", self.lab.b)
            self.laptop = self.peer_on("laptop", self.lab.a)
        except BaseException:
            self.lab.close()
            shutil.rmtree(self.folder, ignore_errors=True)
            raise

    def peer_on(self, name, host):
        peer = peers.Peer(self, name, Inside(host))
        self.all.append(peer)
        peer.good("name", "claim", name)
        return peer

    def up(self):
        """Both, with the sender published to the laptop."""
        sender = self.home.run(["/usr/bin/python3", "-c", SENDER])
        wait_until(lambda: "ready" in sender.output(), 10, "the sender")
        self.home.start("berthd", "berth-peer")
        self.laptop.start("berth-peer")
        self.home.publish("data", "127.0.0.1:7000", "--allow", "laptop")
        return self

    def wait_path(self, path, seconds=15):
        """How long it took until the laptop's packets went this way."""
        begun = time.monotonic()
        wait_until(lambda: self.laptop.path("home") == path, seconds, f"the path {path}")
        return time.monotonic() - begun

    def _rules_between(self, verb):
        self.lab.namespaces["core"].run(["nft", "-f", "-"], text=True, input=(
            "table inet between {\n chain c {\n type filter hook forward priority 0;\n }\n }\n"
            "flush chain inet between c\n" + verb))

    def cut(self, *rules):
        """What matches one of these does not pass between the two sides."""
        self._rules_between("".join(f"add rule inet between c {rule}\n" for rule in rules))

    def cut_between(self):
        """Nothing passes from one side to the other; both reach the server."""
        self.cut(*(f"ip saddr 11.{a}.0.0/16 ip daddr 11.{b}.0.0/16 drop" for a, b in ((1, 2), (2, 1))))

    def restore_between(self):
        self._rules_between("")

    def close(self):
        super().close()
        self.lab.close()


class Transfer:
    """What the sender says, read and checked in a thread."""

    def __init__(self, laptop, target="home/data"):
        self.dial = laptop.dialling(target)
        self.got, self.heard, self.ended = 0, time.monotonic(), None
        self.digest, self.tail = hashlib.sha256(), b""
        self.thread = threading.Thread(target=self._read, daemon=True)
        self.thread.start()

    def _read(self):
        while data := self.dial.stdout.read1(65536):
            self.heard = time.monotonic()
            self.got += len(data)
            self.tail += data
            self.digest.update(self.tail[:-DIGEST])
            self.tail = self.tail[-DIGEST:]
        self.ended = time.monotonic()

    def more(self, seconds, size=300000):
        """Waits for so many bytes from now on; how long that took."""
        begun, before = time.monotonic(), self.got

        def came():
            assert self.ended is None, self.dial.stderr.read()
            return self.got - before >= size

        wait_until(came, seconds, f"{size} bytes more after {before}")
        return time.monotonic() - begun

    def finish(self):
        """The sender is told to end: every byte must have come."""
        self.dial.stdin.close()
        self.thread.join(20)
        assert self.ended is not None, "the transfer does not end"
        assert self.tail.decode() == self.digest.hexdigest(), self.dial.stderr.read()
