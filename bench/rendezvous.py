#!/usr/bin/python3
"""Measures berth-rendezvous: what a registered peer costs in memory at 10,000 to 1,000,000 peers, and
how many registrations, refreshes and lookups a core-second of one thread answers over real UDP
sockets on loopback. Prints lines of key=value; nothing is left running."""

import argparse
import pathlib
import re
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent


def listening(log, server):
    """The port, once the server has said it."""
    deadline = time.monotonic() + 15
    while time.monotonic() < deadline and server.poll() is None:
        found = re.search(r"listening addr=\S+:(\d+)", log.read_text(encoding="utf-8"))
        if found:
            return found[1]
        time.sleep(0.01)
    sys.exit("the server did not start:\n" + log.read_text(encoding="utf-8"))


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--build", type=pathlib.Path, default=ROOT / "build")
    parser.add_argument("--peers", type=int, default=20000, help="that are refreshed and looked up")
    parser.add_argument("--seconds", type=int, default=5, help="of refreshes, and of lookups")
    options = parser.parse_args()
    bench = str(options.build / "bench" / "rendezvous-bench")
    for peers in (10000, 100000, 1000000):
        subprocess.run([bench, "memory", str(peers)], check=True, timeout=300)
    with tempfile.TemporaryDirectory(prefix="berth-bench-") as folder:
        log = pathlib.Path(folder) / "log"
        with open(log, "wb") as out:
            server = subprocess.Popen(
                [options.build / "berth-rendezvous", "--listen", "127.0.0.1:0", "--state",
                 folder + "/state", "--threads", "1", "--rate", "0", "--lease", "3600"], stderr=out)
        try:
            subprocess.run([bench, "load", listening(log, server), str(server.pid),
                            str(options.peers), str(options.seconds)], check=True, timeout=600)
        finally:
            server.kill()
            server.wait()


if __name__ == "__main__":
    main()
