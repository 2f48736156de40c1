#!/usr/bin/python3
"""`make bench-rendezvous`: what berth-rendezvous costs and carries. Memory of registered peers and of
relayed pairs; registrations, refreshes and lookups of a core-second; relayed packets of a
core-second beside coturn, in turns; and servers that share a Redis. Real UDP sockets on loopback, servers with one thread. Writes
build/bench/rendezvous.md and puts it into docs/BENCHMARKS.md; nothing is left running."""

import argparse
import os
import pathlib
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import types

import rendezvous_redis
import report
from report import Target, at_least, at_most, grid, middle, spread
from run import use_two_cpus

ROOT = pathlib.Path(__file__).resolve().parent.parent
TITLE = "# Rendezvous and relay"
SEGMENTS = (1, 16)
METHOD = """How it is measured:

- **A core-second** is a second of processor time, user and system, of the server's process; on loopback that includes the kernel's work
  for the receiver of what it sends. The load generators are `bench/rendezvous-bench` and `bench/relay-bench`.
- **Registry**: {peers:,} peers on 16 sockets, each request answered before too many of its socket are on their way.
- **Relay**: packets of 1,200 bytes from one socket to another through the server, {pairs} pairs; through coturn by ChannelData, without
  passwords, with one relay thread. "One by one": the sender makes a message of each packet. "16 together": the sender lets the kernel
  cut up 16 (UDP_SEGMENT), as berth's sessions do; berth-rendezvous takes and sends them together, too.
- **Memory**: resident bytes of a table that was filled, by their number; a record has 181 bytes.
"""


def facts_of(line):
    """key=value -> numbers where they are."""
    found = dict(re.findall(r"(\S+?)=(\S+)", line))
    return {k: float(v) if re.fullmatch(r"-?[\d.]+", v) else v for k, v in found.items()}


def lines_of(argv, seconds):
    done = subprocess.run([str(a) for a in argv], capture_output=True, text=True, timeout=seconds,
                          check=False)
    if done.returncode != 0:
        sys.exit(f"{argv[0]}: status {done.returncode}: {done.stderr}")
    print(done.stdout, end="", flush=True)
    return [(line.split()[0], facts_of(line)) for line in done.stdout.splitlines()]


def listening(log, server):
    """The port, once the server has said it."""
    deadline = time.monotonic() + 15
    while time.monotonic() < deadline and server.poll() is None:
        found = re.search(r"listening addr=\S+:(\d+)", log.read_text(encoding="utf-8"))
        if found:
            return found[1]
        time.sleep(0.01)
    sys.exit("the server did not start:\n" + log.read_text(encoding="utf-8"))


def answering(port, log, server):
    """Until it answers STUN."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
        s.settimeout(0.1)
        deadline = time.monotonic() + 15
        while time.monotonic() < deadline and server.poll() is None:
            try:
                s.sendto(bytes.fromhex("000100002112a442") + b"123456789012", ("127.0.0.1", port))
                s.recv(1000)
                return str(port)
            except (TimeoutError, ConnectionRefusedError):
                time.sleep(0.05)
    sys.exit("coturn did not start:\n" + log.read_text(encoding="utf-8", errors="replace"))


class Server:
    """berth-rendezvous or coturn, for one measurement."""

    def __init__(self, build, kind):
        self.folder = tempfile.TemporaryDirectory(prefix="berth-bench-")
        folder = pathlib.Path(self.folder.name)
        log = folder / "log"
        log.touch()
        port = self._free_port()
        argv = {"berth": [build / "berth-rendezvous", "--listen", "127.0.0.1:0", "--state",
                          folder / "state", "--threads", "1", "--rate", "0", "--lease", "3600",
                          "--relay-rate", "0"],
                "turn": ["turnserver", "-n", "--listening-ip", "127.0.0.1", "--relay-ip",
                         "127.0.0.1", "--listening-port", port, "--no-auth",
                         "--allow-loopback-peers", "--no-cli", "--no-tcp", "--no-tls", "--no-dtls",
                         "--relay-threads", "1", "--simple-log", "--log-file", log, "--pidfile",
                         folder / "pid", "--userdb", folder / "db"]}[kind]
        with open(log, "ab") as out:
            self.process = subprocess.Popen([str(a) for a in argv], stdin=subprocess.DEVNULL,
                                            stdout=out, stderr=out, cwd=folder)
        self.pid = self.process.pid
        try:
            self.port = (listening(log, self.process) if kind == "berth" else
                         answering(port, log, self.process))
        except SystemExit:
            self.close()
            raise

    @staticmethod
    def _free_port():
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
            s.bind(("127.0.0.1", 0))
            return s.getsockname()[1]

    def close(self):
        self.process.kill()
        self.process.wait()
        self.folder.cleanup()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


def measure_round(options, results):
    bench = options.build / "bench"
    with Server(options.build, "berth") as server:
        for name, facts in lines_of([bench / "rendezvous-bench", "load", server.port, server.pid,
                                     options.peers, options.seconds], 600):
            results.setdefault(name, []).append(facts["per_core_s"])
    for segments in SEGMENTS:
        for kind in options.kinds:
            with Server(options.build, kind) as server:
                (_, facts), = lines_of([bench / "relay-bench", kind, server.port, server.pid,
                                        options.pairs, segments, options.seconds], 120)
                results.setdefault((kind, segments), []).append(facts["per_core_s"])
    if shutil.which("redis-server"):
        rendezvous_redis.measure_round(options, results, lines_of, listening)


def measure(options):
    results = {}
    for peers in options.memory:
        (_, facts), = lines_of([options.build / "bench" / "rendezvous-bench", "memory", peers], 300)
        results[("peer", peers)] = [facts["bytes_per_peer"]]
    (_, facts), = lines_of([options.build / "bench" / "relay-bench", "memory", "100000"], 60)
    results["pair"] = [facts["bytes_per_pair"]]
    for _ in range(options.rounds):
        measure_round(options, results)
    return results


def targets(results, options):
    def target(wish, key, test):
        return Target(wish, results.get(key, []), test, 0)

    most = max(options.memory)
    return [target("Refreshes of a core-second: at least 250,000", "refresh", at_least(250000)),
            target("Lookups of a core-second: at least 250,000", "lookup", at_least(250000)),
            target(f"Bytes a registered peer, {most:,} of them: at most 350", ("peer", most),
                   at_most(350)),
            target("Relayed packets of a core-second, 16 together: at least 250,000",
                   ("berth", 16), at_least(250000)),
            target("Relayed packets of a core-second, one by one: at least 250,000", ("berth", 1),
                   at_least(250000)),
            target("Bytes a relayed pair, 100,000 of them: at most 1,024", "pair", at_most(1024)),
            *rendezvous_redis.targets(results)]


def relay_rows(results):
    rows = []
    for segments, words in zip(SEGMENTS, ("one by one", "16 together")):
        ours, theirs = results.get(("berth", segments), []), results.get(("turn", segments), [])
        rows.append([words, spread(ours, 0), spread(theirs, 0),
                     spread([a / b for a, b in zip(ours, theirs)])])
    return rows


def document(results, options, facts):
    goals = targets(results, options)
    registry = [[words, spread(results.get(name, []), 0)] for name, words in (
        ("register", "registrations, two signatures each"), ("refresh", "refreshes"),
        ("lookup", "lookups by key"))]
    registry += [[f"bytes a peer, {n:,} registered", middle(results[("peer", n)])]
                 for n in options.memory]
    parts = [TITLE, "Written by `make bench-rendezvous`, good and bad.",
             f"Machine: {report.machine(facts)}", "## Targets of the rendezvous server",
             grid(["target", "measured", "verdict"],
                  [[goal.row()[i] for i in (0, 1, 3)] for goal in goals]),
             "## Registry", grid(["", "of a core-second"], registry),
             "## Relay, packets of 1,200 bytes",
             grid(["", "berth-rendezvous, of a core-second", "coturn", "ratio"],
                  relay_rows(results)),
             *rendezvous_redis.section(results),
             METHOD.format(peers=options.peers, pairs=options.pairs) + rendezvous_redis.METHOD]
    return "\n\n".join(parts) + "\n"


def parse_options():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--build", type=pathlib.Path, default=ROOT / "build")
    parser.add_argument("--peers", type=int, default=20000, help="that are refreshed and looked up")
    parser.add_argument("--pairs", type=int, default=16, help="that are relayed")
    parser.add_argument("--seconds", type=float, default=4, help="of each measurement")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--smoke", action="store_true", help="does it run at all?")
    options = parser.parse_args()
    options.build = options.build.resolve()
    options.memory, options.calls = (10000, 100000, 1000000), 3000
    if options.smoke:
        options.peers, options.seconds, options.rounds, options.memory = 320, 0.3, 1, (10000,)
        options.calls = 50
    options.kinds = ("berth", "turn") if shutil.which("turnserver") else ("berth",)
    return options


def main():
    options = parse_options()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    facts = types.SimpleNamespace(load_average=os.getloadavg()[0], cpus=use_two_cpus())
    text = document(measure(options), options, facts)
    print(text)
    if not options.smoke:
        (options.build / "bench" / "rendezvous.md").write_text(text)
        report.put_into(ROOT / "docs" / "BENCHMARKS.md", text)


if __name__ == "__main__":
    main()
