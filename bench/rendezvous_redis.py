#!/usr/bin/python3
"""Measures servers of berth-rendezvous that share a Redis of their own on this machine: copies of
leases that are written a second, with and without an append-only file, and how long it takes to
introduce peers of two servers. Prints lines of key=value; nothing is left running."""

import argparse
import contextlib
import pathlib
import subprocess
import sys
import tempfile
import time

from rendezvous import ROOT, listening


@contextlib.contextmanager
def running(argv, log):
    with open(log, "wb") as out:
        server = subprocess.Popen(argv, stdout=out, stderr=out)
    try:
        yield server
    finally:
        server.kill()
        server.wait()


@contextlib.contextmanager
def redis(folder, *options):
    """The address of one that answers."""
    folder.mkdir()
    socket, log = folder / "s", folder / "log"
    argv = ["redis-server", "--port", "0", "--unixsocket", socket, "--unixsocketperm", "777",
            "--dir", folder, "--save", "", *options]
    with running(argv, log) as server:
        deadline = time.monotonic() + 15
        while "ready to accept" not in log.read_text(encoding="utf-8"):
            if time.monotonic() > deadline or server.poll() is not None:
                sys.exit("Redis did not start:\n" + log.read_text(encoding="utf-8"))
            time.sleep(0.01)
        yield f"unix://{socket}"


@contextlib.contextmanager
def node(build, folder, url):
    folder.mkdir()
    argv = [build / "berth-rendezvous", "--listen", "127.0.0.1:0", "--state", folder / "state",
            "--threads", "1", "--rate", "0", "--relay-pairs-key", "100000", "--registry", url]
    with running(argv, folder / "log") as server:
        yield listening(folder / "log", server)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--build", type=pathlib.Path, default=ROOT / "build")
    parser.add_argument("--peers", type=int, default=100000, help="whose copies are written")
    parser.add_argument("--seconds", type=int, default=4, help="of copies")
    parser.add_argument("--calls", type=int, default=5000)
    options = parser.parse_args()
    bench = str(options.build / "bench" / "redis-bench")
    durable = ("--appendonly", "yes", "--appendfsync", "everysec")
    with tempfile.TemporaryDirectory(prefix="berth-bench-", dir="/tmp") as folder:
        folder = pathlib.Path(folder)
        folder.chmod(0o755)
        for name, settings in (("memory", ()), ("everysec", durable)):
            print(f"redis={name}", end=" ", flush=True)
            with redis(folder / name, *settings) as url:
                subprocess.run([bench, "copies", url, str(options.peers), str(options.seconds)],
                               check=True, timeout=120)
        with redis(folder / "calls") as url, node(options.build, folder / "a", url) as a, \
                node(options.build, folder / "b", url) as b:
            subprocess.run([bench, "calls", a, b, str(options.calls)], check=True, timeout=120)


if __name__ == "__main__":
    main()
