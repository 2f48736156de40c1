"""Two punchers in a lab, introduced to each other by this process: what src/punch does behind real NATs."""

import dataclasses
import itertools
import os
import pathlib
import select
import subprocess
import sys
import tempfile
import time

from lab import ROOT, LabError

ATTEMPTS = itertools.count(1)
SERVER = "11.0.0.1:3478"
WAIT_US = 20000
END_SECONDS = 6


def built(name):
    """A program of the build."""
    program = pathlib.Path(os.environ.get("BERTH_BUILD", ROOT / "build")) / name
    if not program.exists():
        raise LabError(f"{program} is not built")
    return program


@dataclasses.dataclass
class Outcome:
    """How one attempt went. ms: from the agreed moment until both had proven the path."""
    ok: bool
    ms: float = 0.0
    plan: str = ""
    kind: str = ""
    reason: str = ""
    guesses: int = 0
    tries: int = 1
    said: list = dataclasses.field(default_factory=list)


class Puncher:
    """One side."""

    def __init__(self, host, role, transport):
        words = [built("tests/natlab/puncher"), role, SERVER]
        if transport == "ice":
            words = [sys.executable, pathlib.Path(__file__).with_name("ice_peer.py"), role, SERVER]
        self.process = host.popen(words, stdin=subprocess.PIPE,
                                  stdout=subprocess.PIPE, text=True, bufsize=1)
        self.said = []
        self.buffer = b""

    def line(self, deadline):
        """The next line, or None."""
        fd = self.process.stdout.fileno()
        while b"\n" not in self.buffer:
            left = deadline - time.monotonic()
            if left <= 0 or not select.select([fd], [], [], left)[0]:
                return None
            chunk = os.read(fd, 65536)
            if not chunk:
                return None
            self.buffer += chunk
        line, _, self.buffer = self.buffer.partition(b"\n")
        self.said.append(line.decode())
        return self.said[-1]

    def until(self, *words):
        """Reads on until a line begins with one of these; that line, or None."""
        deadline = time.monotonic() + END_SECONDS
        while (line := self.line(deadline)) is not None:
            if line.split()[0] in words:
                return line
        return None

    def go(self, attempt, offer, again):
        mapping, filtering, allocation, delta, seen, _print, *candidates = offer.split()[1:]
        self.process.stdin.write(f"go {attempt} {WAIT_US} {int(again)} {mapping} {filtering} {allocation} {delta} {seen} "
                                 f"{' '.join(candidates)}\n")
        self.process.stdin.flush()

    def close(self):
        self.process.stdin.close()
        self.process.wait()
        self.process.stdout.close()


def start_server(lab):
    """berth-rendezvous, as the STUN server with two addresses; returns when it listens."""
    folder = tempfile.TemporaryDirectory(prefix="natlab-")
    os.chmod(folder.name, 0o755)
    process = lab.server.popen(
        [built("berth-rendezvous"), "--listen", SERVER, "--stun-other", "11.0.0.2:3479", "--state",
         folder.name + "/state", "--threads", "1", "--log", "error"],
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    binding = b"\x00\x01\x00\x00\x21\x12\xa4\x42natlabnatlab"
    deadline = time.monotonic() + 10
    with lab.server.socket() as s:
        s.settimeout(0.05)
        while time.monotonic() < deadline:
            s.sendto(binding, ("11.0.0.1", 3478))
            try:
                s.recv(1000)
                return process, folder
            except OSError:
                continue
    raise LabError("berth-rendezvous does not answer")


def attempt(lab, again=False, transport="udp"):
    """One introduction."""
    sides = [Puncher(lab.a, "caller", transport), Puncher(lab.b, "callee", transport)]
    try:
        offers = [side.until("offer") for side in sides]
        if None in offers:
            return Outcome(False, reason="no offer")
        number = next(ATTEMPTS)
        for side, offer in zip(sides, reversed(offers)):
            side.go(number, offer, again)
        ends = [side.until("proven", "failed") or "failed 0 silent" for side in sides]
        said = sides[0].said + ["--"] + sides[1].said
        words = [end.split() for end in ends]
        if all(w[0] == "proven" for w in words):
            sides[0].until("done")
            counts = [line.split() for line in sides[0].said if line.startswith("guesses")]
            guesses, plan = (int(counts[0][1]), counts[0][2]) if counts else (0, "")
            return Outcome(True, max(float(w[1]) for w in words), plan, words[0][3], "", guesses, 1, said)
        reason = next(" ".join(w[2:]) for w in words if w[0] == "failed")
        return Outcome(False, reason=reason, said=said)
    finally:
        for side in sides:
            side.close()


def connect(lab, tries=2, transport="udp"):
    """Attempts until one succeeds; each has fresh sockets and an introduction of its own."""
    for i in range(tries):
        outcome = attempt(lab, i > 0, transport)
        outcome.tries = i + 1
        if outcome.ok or "both NATs" in outcome.reason or "no UDP" in outcome.reason:
            break
    return outcome
