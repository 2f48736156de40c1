#!/usr/bin/python3
"""Measures sessions between two peers over real UDP sockets on loopback: bulk with and without GSO
and GRO, many streams in one session, and the latency of a dial beside the bare round trip. Prints
lines of key=value; nothing is left running."""

import argparse
import pathlib
import subprocess

ROOT = pathlib.Path(__file__).resolve().parent.parent


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--build", type=pathlib.Path, default=ROOT / "build")
    parser.add_argument("--seconds", type=int, default=5, help="of each bulk transfer")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--streams", type=int, default=10000)
    parser.add_argument("--dials", type=int, default=2000)
    options = parser.parse_args()
    bench = str(options.build / "bench" / "session-bench")

    def run(*args):
        subprocess.run([bench, *(str(a) for a in args)], check=True, timeout=options.seconds + 120)

    for _ in range(options.rounds):
        run("bulk", options.seconds)
        run("bulk", options.seconds, 1)
    run("streams", options.streams)
    run("dial", options.dials)


if __name__ == "__main__":
    main()
