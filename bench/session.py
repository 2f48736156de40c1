#!/usr/bin/python3
"""Sessions between two peers over real UDP sockets on loopback: bulk with and without GSO and GRO,
many streams in one session, and the latency of a dial beside the bare round trip. Puts its part
into docs/BENCHMARKS.md; nothing is left running."""

import argparse
import os
import pathlib
import re
import subprocess
import sys
import types

import report
from report import Target, at_least, at_most, grid, middle, spread
from run import use_two_cpus

ROOT = pathlib.Path(__file__).resolve().parent.parent
TITLE = "# Sessions"
METHOD = """How it is measured: two peers, a writer and a reader share the machine's cores; all bytes go through two sockets, two QUIC
endpoints and a UDP socket each (`bench/session-bench`). "Dial" is from `session_dial()` to the first byte that comes back, on a session that is up; the
round trip is that of a datagram between the same two processes."""


def measure(options):
    bench = str(options.build / "bench" / "session-bench")
    found = {}

    def run(*args):
        done = subprocess.run([bench, *(str(a) for a in args)], capture_output=True, text=True,
                              timeout=options.seconds + 120, check=False)
        if done.returncode != 0:
            sys.exit(f"session-bench: status {done.returncode}: {done.stderr}")
        print(done.stdout, end="", flush=True)
        suffix = ".single" if len(args) == 3 else ""
        for key, value in re.findall(r"(\w+)=([\d.]+)", done.stdout):
            found.setdefault(key + suffix, []).append(float(value))

    for _ in range(options.rounds):
        run("bulk", options.seconds)
        run("bulk", options.seconds, 1)
        run("streams", options.streams)
        run("dial", options.dials)
    found["added_us"] = [a - b for a, b in zip(found["dial_us"], found["rtt_us"])]
    return found


def document(found, options, facts):
    goals = [Target("Bulk in one session, GSO and GRO: at least 5 Gbit/s", found["bulk_gbit"], at_least(5), 2),
             Target("Streams in one session: 10,000", found["streams"], at_least(10000), 0),
             Target("Dial on a warm session, above the round trip: below 1 ms (µs)", found["added_us"],
                    at_most(1000), 0)]
    rows = [["bulk, Gbit/s", spread(found["bulk_gbit"])],
            ["processor seconds of both peers a GB", spread(found["cpu_s_per_gb"])],
            ["bulk, a system call a packet, Gbit/s", spread(found["bulk_gbit.single"])],
            ["streams opened a second", spread(found["opened_per_second"], 0)],
            ["bytes an idle stream, each side", middle(found["client_bytes_each"])],
            ["dial, µs (p50)", spread(found["dial_us"], 0)],
            ["dial, µs (p99)", spread(found["dial_p99_us"], 0)],
            ["bare round trip, µs (p50)", spread(found["rtt_us"], 0)]]
    return "\n\n".join([TITLE, f"Written by `bench/session.py`, a part of `make bench`. Machine: {report.machine(facts)}",
                        grid(["target", "measured", "verdict"],
                             [[goal.row()[i] for i in (0, 1, 3)] for goal in goals]),
                        grid([f"{options.streams:,} streams, {options.rounds} rounds", "median (least–most)"], rows),
                        METHOD]) + "\n"


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--build", type=pathlib.Path, default=ROOT / "build")
    parser.add_argument("--seconds", type=int, default=5, help="of each bulk transfer")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--streams", type=int, default=10000)
    parser.add_argument("--dials", type=int, default=2000)
    options = parser.parse_args()
    facts = types.SimpleNamespace(load_average=os.getloadavg()[0], cpus=use_two_cpus())
    text = document(measure(options), options, facts)
    print(text)
    report.put_into(ROOT / "docs" / "BENCHMARKS.md", text)


if __name__ == "__main__":
    main()
