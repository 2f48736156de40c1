"""Connections that wait for a program that does not come up: what one costs us, what the kernel
needs for it, and whether the pool beside it notices. The kernel's part is compared with as many
connections that a plain program has accepted."""

import pathlib
import subprocess

from fronts import HOST
from life_rig import Site
from procs import Failure, free_port, memory_bytes, wait_for
from run import fields

PARKED = "parked.localhost"
SOURCES = 16


def slab_bytes():
    for line in pathlib.Path("/proc/meminfo").read_text().splitlines():
        if line.startswith("Slab:"):
            return int(line.split()[1]) * 1024
    return 0


def tcp_pages():
    for line in pathlib.Path("/proc/net/sockstat").read_text().splitlines():
        if line.startswith("TCP:"):
            return int(line.split()[-1])
    return 0


class Held:
    """Connections that have sent their request and wait, while the block runs."""

    def __init__(self, bench, port, host):
        self.bench = bench
        argv = [bench.load_program, "hold", "--port", port, "--host", host, "--ask",
                "--connections", bench.held, "--sources", SOURCES, "--seconds", 30]
        self.process = bench.stable.start(argv, bench.log, stdin=subprocess.PIPE,
                                          stdout=subprocess.PIPE)
        self.at_first = int(fields(self.process.stdout.readline().decode())["alive"])
        self.at_last = None

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.stdin.close()
        line = self.process.stdout.readline().decode()
        self.at_last = int(fields(line).get("alive", 0))
        self.bench.stable.stop(self.process)


def kernel_without_us(bench):
    """Bytes of the kernel for each connection that a program has accepted: both its ends."""
    port = free_port()
    process = bench.stable.start([bench.worker, "--small", port], bench.log)
    wait_for(port, HOST, "the worker", process)
    before = slab_bytes()
    argv = [bench.load_program, "hold", "--port", port, "--connections", bench.held, "--sources",
            SOURCES, "--seconds", 30]
    holder = bench.stable.start(argv, bench.log, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    alive = fields(holder.stdout.readline().decode())["alive"]
    each = (slab_bytes() - before) / max(1, alive)
    bench.stable.stop(holder)
    bench.stable.stop(process)
    return each


def make_site(bench, port):
    site = Site(bench)
    site.settle()
    common = {"listen": f"127.0.0.1:{port}"}
    site.app("parked", route=f"http://{PARKED}/", command="/bin/sleep 3600", start="demand",
             start_timeout="1h", patience="off", queue_length=2 * bench.held + 1000, **common)
    site.app("shop", route=f"http://{HOST}/", start="always",
             command=f"{bench.worker} --small {port}", **common)
    site.start()
    wait_for(port, HOST, "the other pool")
    return site


def other_pool(bench, port):
    taken = bench.load(port, "first-byte", seconds=min(3, bench.seconds), count=1000000)
    if not taken["done"]:
        raise Failure("the other pool does not answer")
    return taken


def measure(bench, _options):
    result = {"kernel_direct": kernel_without_us(bench)}
    port = free_port()
    site = make_site(bench, port)
    try:
        bench.load(port, "connect", seconds=0.3)
        result["before"] = other_pool(bench, port)
        ours, slab, pages = memory_bytes(site.own_pids()), slab_bytes(), tcp_pages()
        with Held(bench, port, PARKED) as held:
            result["bytes"] = (memory_bytes(site.own_pids()) - ours) / max(1, held.at_first)
            result["kernel"] = (slab_bytes() - slab) / max(1, held.at_first)
            result["tcp_pages"] = tcp_pages() - pages
            result["parked"] = site.pool("parked")["parked"]
            result["during"] = other_pool(bench, port)
        result["after"] = other_pool(bench, port)
        result["held"], result["alive"] = held.at_first, held.at_last
    finally:
        site.stop()
    print(f"parked: {result['alive']} of {bench.held} held, {result['bytes']:.0f} bytes each of "
          f"ours, {result['kernel']:.0f} of the kernel ({result['kernel_direct']:.0f} without "
          f"berth); first byte of others {result['before']['p50_us']:.0f} before, "
          f"{result['during']['p50_us']:.0f} us during, p99 {result['before']['p99_us']:.0f} and "
          f"{result['during']['p99_us']:.0f}", flush=True)
    return result
