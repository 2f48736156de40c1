#!/usr/bin/python3
"""`berth dial` through a pair of NATs, measured: when the service's first byte came, when the packets
went directly, and by what. Everything is real: the server, both berth-peers, the command."""

import contextlib
import dataclasses
import json
import os
import pathlib
import random
import re
import select
import signal
import subprocess
import time

from peered import LabWorld, built_folder  # it knows the way to the following
from harness import wait_until

# The only port that a network lets out when it lets out one.
PORT = 443
# How long is waited for a direct path where there is one, and where there is none.
FOUND_SECONDS, SURE_SECONDS = 20, 3
# A NAT is asked about this long at most; who has no UDP never hears.
WARM_SECONDS = 4
# Sends a line at once, then everything back; says when the first of it came.
GREETER = """
import socket, threading, time
listener = socket.create_server(("127.0.0.1", 7000))
print("ready", flush=True)
def serve(s):
    s.sendall(b"welcome\\n")
    said = False
    while data := s.recv(65536):
        if not said:
            print("byte", time.monotonic(), flush=True)
        said = True
        s.sendall(data)
    s.close()
while True:
    threading.Thread(target=serve, args=(listener.accept()[0],), daemon=True).start()
"""
WELCOME = b"welcome\n"


@dataclasses.dataclass
class Dialled:
    """How one dial went. Milliseconds from the start of the command, or, for the direct path, from
    when berth-peer was asked to dial."""
    connected: bool = False  # the byte came, and one came back
    ok: bool = False         # packets go directly
    there_ms: float = 0.0    # until our first byte was at the service
    first_ms: float = 0.0    # until its first byte was here
    ms: float = 0.0
    transport: str = ""      # of the first direct path
    plan: str = ""           # what was done about ports
    kind: str = ""           # of the address that answered
    tries: int = 1           # introductions
    reason: str = ""         # why there is no direct path, or no connection
    why: str = ""            # what `berth why` said of a run without a direct path
    steps: list = dataclasses.field(default_factory=list)  # what was done, each after so many ms


class Pair(LabWorld):
    """`home`, on host b, and `laptop`, on host a; both are started anew for each dial."""

    def __init__(self, a, b, **line):
        super().__init__(built_folder(), a, b, port=PORT, **line)
        try:
            self._prepare()
        except BaseException:
            self.close()
            raise

    def _prepare(self):
        self.greeter = self.home.run(["/usr/bin/python3", "-c", GREETER])
        wait_until(lambda: "ready" in self.greeter.output(), 10, "the greeter")
        self.home.start("berthd", "berth-peer")
        self.home.publish("data", "127.0.0.1:7000", "--allow", self.laptop.key)
        self.home.kill()
        self.laptop.good("lookup", "home")  # pins it

    def forget(self):
        """Nobody runs, no NAT knows anything, and nobody remembers where the other was."""
        for peer in (self.home, self.laptop):
            if "berth-peer" in peer.daemons:
                peer.daemons.pop("berth-peer").stop()
            for met in pathlib.Path(peer.home).rglob("met"):
                met.unlink()
        with contextlib.suppress(AssertionError):
            self.laptop.good("peers", "stop")  # one that a dial had started
        for host in (self.lab.a, self.lab.b):
            host.flush_nat()

    def _warm(self, peer):
        """Registered, and knows how its NAT behaves."""
        log, begun = peer.daemons["berth-peer"], time.monotonic()

        def ready():
            said = log.output()
            assert log.is_running(), said
            registered = re.search(r"server name=\S+ state=registered", said)
            waited = time.monotonic() - begun > WARM_SECONDS
            return registered and ("nat behaves" in said or "transport=2" in said or waited)

        wait_until(ready, 20, f"{peer.name} registered")

    def start_peers(self, cold=False):
        """`cold`: the laptop's is started by the dial."""
        for peer in [self.home] if cold else [self.home, self.laptop]:
            # Another port each time: the server may still send to the last one.
            peer.start("berth-peer", options=["--rendezvous", self.server_address, "--listen",
                                              random.randrange(10000, 30000)])
        self._warm(self.home)
        wait_until(self._is_published, 20, "the publication")
        if not cold:
            self._warm(self.laptop)

    def _is_published(self):
        """At the server, too: it knows whom home lets in."""
        said = json.loads(self.home.good("publish", "--json"))
        return said["attached"] and any(s["allow_known"] for s in said["servers"])

    def byte_at(self):
        """When the last stream's first byte was at the service."""
        return float(re.findall(r"^byte (\S+)$", self.greeter.output(), re.M)[-1])

    def session(self):
        """What the laptop's berth-peer says of its session with home; None: there is none."""
        return self.laptop.peers().get("home", {}).get("session")


def read_line(stream, seconds):
    """One line, or what came of it."""
    data, deadline = b"", time.monotonic() + seconds
    while not data.endswith(b"\n"):
        left = deadline - time.monotonic()
        if left <= 0 or not select.select([stream], [], [], left)[0]:
            break
        part = os.read(stream.fileno(), 1)  # the next line is another one
        if not part:
            break
        data += part
    return data


def _end(popen):
    with contextlib.suppress(OSError):
        popen.stdin.close()
    try:
        popen.wait(5)
    except subprocess.TimeoutExpired:
        popen.send_signal(signal.SIGKILL)
        popen.wait(10)
    return popen.stderr.read().decode(errors="replace").strip()


def _technique(steps):
    """(plan, kind of the address) of the path that was proven, from berth-peer's own steps."""
    plan = kind = ""
    for step in steps:
        if begun := re.search(r"checks begin .*, (\S+)$", step["what"]):
            plan = begun[1]
        if proven := re.search(r"answered a check .*\((.*)\)", step["what"]):
            kind = proven[1]
        if "packets go there now" in step["what"]:
            break
    return plan, kind


def _look(pair, outcome):
    """Everything that berth-peer says of the session as it is now."""
    session = pair.session()
    if not session:
        outcome.connected, outcome.reason = False, "the session is gone"
        return
    outcome.tries = session.get("calls", 1)
    outcome.ok = session["path"] == "direct"
    if not outcome.ok:
        outcome.why = pair.laptop.berth("why", "home/data").stdout.decode()
        why = json.loads(pair.laptop.berth("why", "--json", "home/data").stdout or "{}")
        outcome.reason = why.get("hindrance", "no path was found")
        return
    outcome.ms, outcome.transport = session["direct_ms"], session["transport"]
    why = json.loads(pair.laptop.good("why", "--json", "home/data"))
    steps = why.get("peer", [])
    outcome.plan, outcome.kind = _technique(steps)
    outcome.steps = [f"{step['ms'] - steps[0]['ms']} {step['what']}" for step in steps]


def _wait_direct(pair, seconds):
    deadline = time.monotonic() + seconds
    pause = 0.05
    while time.monotonic() < deadline:
        session = pair.session()
        if session and session["path"] == "direct":
            return
        time.sleep(pause)  # berth-peer itself says when it went directly: this may be late
        pause = min(pause * 1.5, 0.3)


def dial(pair, expect_direct=True, cold=False):
    """One dial by daemons that were just started, or with `cold` by one that the dial starts."""
    pair.forget()
    pair.start_peers(cold)
    outcome = Dialled()
    begun = time.monotonic()
    popen = pair.laptop.dialling("home/data")
    try:
        popen.stdin.write(b"echo\n")
        popen.stdin.flush()
        if read_line(popen.stdout, 15) == WELCOME:
            outcome.first_ms = round(1000 * (time.monotonic() - begun), 1)
            outcome.connected = read_line(popen.stdout, 15) == b"echo\n"
        if outcome.connected:
            outcome.there_ms = round(1000 * (pair.byte_at() - begun), 1)
            _wait_direct(pair, FOUND_SECONDS if expect_direct else SURE_SECONDS)
            _look(pair, outcome)
    finally:
        said = _end(popen)
    if not outcome.connected and not outcome.reason:
        outcome.reason = said or "nothing came"
    if not outcome.connected:
        outcome.why = "\n".join(f"--- {name}\n{text}" for name, text in pair.report())
    return outcome


def main():
    """dialled.py A B [RUNS]: for a look at one pair."""
    import sys
    a, b, runs = sys.argv[1], sys.argv[2], int((sys.argv + ["3"])[3])
    pair = Pair(a, b, delay_ms=10)
    try:
        for _ in range(runs):
            outcome = dial(pair)
            print({k: v for k, v in dataclasses.asdict(outcome).items() if k != "why"}, flush=True)
            if not outcome.ok:
                print(outcome.why)
    finally:
        pair.close()


if __name__ == "__main__":
    main()
