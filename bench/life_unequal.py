"""Two workers of unequal speed, 1 ms and 10 ms for each request and one request at a time, asked by
clients that rest between their connections, at about 70 % of what the two can do. Who gets the next
connection decides how long the slowest hundredth waits. All take turns, in rounds."""

import socket

from fronts import HOST
from life_rig import Haproxy, Nginx, Site
from procs import free_port, wait_for

FAST_US, SLOW_US = 1000, 10000
CAPACITY = 1e6 / FAST_US + 1e6 / SLOW_US
SHARE = 0.7
CLIENTS = 100
# The mean rest, so that resting and being answered together make the wanted rate.
THINK_US = int(CLIENTS / (SHARE * CAPACITY) * 1e6) - 2 * FAST_US
ROUNDS = 7


class Unequal:
    """The two workers have the same command line: the one that gets the lock is slow."""

    def __init__(self, bench):
        self.bench = bench
        self.port = free_port()
        self.lock = bench.scratch / f"slow-{self.port}"
        self.options = ["--small", "--work-us", FAST_US, "--slow-us", SLOW_US, "--slow-lock",
                        self.lock]
        self.running = []

    def worker(self, *options, **keys):
        argv = [self.bench.worker, *self.options, *options, self.port]
        self.running.append(self.bench.stable.start(argv, self.bench.log, **keys))

    def stop(self):
        for process in self.running:
            self.bench.stable.stop(process)


class Berth(Unequal):
    name, title = "berth", "berth, a pool of two"

    def start(self):
        self.site = Site(self.bench)
        self.site.settle()
        words = [self.bench.worker, *self.options, self.port]
        self.site.app("shop", route=f"http://{HOST}/", command=" ".join(map(str, words)),
                      listen=f"127.0.0.1:{self.port}", workers=2, start="always")
        self.site.start()
        wait_for(self.port, HOST, "the pool")

    def stop(self):
        self.site.stop()


class Shared(Unequal):
    name, title = "shared", "one listening socket, shared"

    def start(self):
        with socket.create_server(("127.0.0.1", self.port), backlog=4096) as listener:
            fd = listener.fileno()
            for _ in range(2):
                self.worker("--listen-fd", fd, pass_fds=[fd])
        wait_for(self.port, HOST, "the workers")


class Reuseport(Unequal):
    name, title = "reuseport", "SO_REUSEPORT, two sockets"

    def start(self):
        for _ in range(2):
            self.worker("--reuseport")
        wait_for(self.port, HOST, "the workers")


class Proxied(Unequal):
    """Its workers listen on ports of their own."""

    proxy = None

    def start(self):
        self.front = self.proxy(self.bench)
        self.front.options = self.options
        self.front.start()
        self.port = self.front.port

    def stop(self):
        self.front.stop()


class NginxLeast(Proxied):
    name, title, proxy = "nginx", "nginx, least_conn", Nginx


class HaproxyLeast(Proxied):
    name, title, proxy = "haproxy", "HAProxy, leastconn", Haproxy


FRONTS = [Berth, NginxLeast, HaproxyLeast, Reuseport, Shared]


def measure_front(bench, kind, seconds):
    front = kind(bench)
    try:
        front.start()
        load = {"connections": CLIENTS, "think_us": THINK_US, "grace": 5}
        bench.load(front.port, "connect", seconds=min(0.5, seconds), **load)
        return bench.load(front.port, "connect", seconds=seconds, **load)
    finally:
        front.stop()


def measure(bench, options):
    kinds = [kind for kind in FRONTS if not hasattr(kind, "proxy") or kind.proxy.available()]
    rounds = []
    count = 1 if options.smoke else ROUNDS
    for number in range(count):
        taken = {}
        shift = number % len(kinds)
        for kind in kinds[shift:] + kinds[:shift]:
            got = taken[kind.name] = measure_front(bench, kind, options.seconds / 4)
            print(f"unequal {number + 1}/{count} {kind.name}: {got['per_second']:.0f}/s, p50 "
                  f"{got['p50_us']:.0f} us, p99 {got['p99_us']:.0f} us, "
                  f"{got['failed'] + got['stalled']:.0f} failed", flush=True)
        rounds.append(taken)
    return {"rounds": rounds, "fronts": [(kind.name, kind.title) for kind in kinds]}
