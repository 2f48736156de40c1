"""What servers of berth-rendezvous that share a Redis write to it and how soon they introduce peers to
each other, for rendezvous.py. Each Redis and server is started here, on this machine."""

import contextlib
import pathlib
import subprocess
import sys
import tempfile
import time

from report import Target, at_least, at_most, grid, spread

# How Redis keeps what it is given, and the words for it.
KEEPS = {"memory": ([], "in memory only"),
         "everysec": (["--appendonly", "yes", "--appendfsync", "everysec"],
                      "with a file that is flushed each second")}
METHOD = """- **Redis**: copies of records of 300 bytes, each in a command of its own, from one thread over one Unix socket; without the signatures, of
  which a core checks a tenth as many. A call is timed at one peer after the other, from CALL to ANSWERED, by way of both servers, Redis, and
  the callee."""


@contextlib.contextmanager
def running(argv, log):
    with open(log, "wb") as out:
        server = subprocess.Popen([str(a) for a in argv], stdin=subprocess.DEVNULL, stdout=out,
                                  stderr=out)
    try:
        yield server
    finally:
        server.kill()
        server.wait()


@contextlib.contextmanager
def redis(folder, *options):
    """The address of one that answers."""
    folder.mkdir()
    folder.chmod(0o755)
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
def node(build, folder, url, listening):
    folder.mkdir()
    argv = [build / "berth-rendezvous", "--listen", "127.0.0.1:0", "--state", folder / "state",
            "--threads", "1", "--rate", "0", "--relay-pairs-key", "100000", "--registry", url]
    with running(argv, folder / "log") as server:
        yield listening(folder / "log", server)


def measure_round(options, results, lines_of, listening):
    """Adds one round to the results, by name."""
    bench = options.build / "bench" / "redis-bench"
    with tempfile.TemporaryDirectory(prefix="berth-bench-", dir="/tmp") as folder:
        folder = pathlib.Path(folder)
        folder.chmod(0o755)
        for name, (settings, _) in KEEPS.items():
            with redis(folder / name, *settings) as url:
                (_, facts), = lines_of([bench, "copies", url, 100000,
                                        max(1, int(options.seconds))], 120)
                results.setdefault(("copies", name), []).append(facts["per_s"])
        with redis(folder / "calls") as url, \
                node(options.build, folder / "a", url, listening) as a, \
                node(options.build, folder / "b", url, listening) as b:
            (_, facts), = lines_of([bench, "calls", a, b, options.calls], 120)
            for share in ("p50", "p99"):
                results.setdefault(("calls", share), []).append(facts[share + "_us"] / 1000)


def targets(results):
    return [Target("Registrations a second that are written to Redis: at least 100,000",
                   results.get(("copies", "memory"), []), at_least(100000), 0),
            Target("Milliseconds of a call across two servers, 99th percentile: at most 5",
                   results.get(("calls", "p99"), []), at_most(5))]


def section(results):
    rows = [[f"copies a second, Redis {words}", spread(results.get(("copies", name), []), 0)]
            for name, (_, words) in KEEPS.items()]
    rows += [[f"milliseconds of a call across two servers, {words}",
              spread(results.get(("calls", share), []))]
             for share, words in (("p50", "median"), ("p99", "99th percentile"))]
    return ["## Two servers and a Redis", grid(["", ""], rows)]
