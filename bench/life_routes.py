"""Very many routes: what one costs in memory, how long a reload takes, and how long a lookup."""

import time

from fronts import HOST
from life_rig import Site
from procs import Failure, free_port, memory_bytes, wait_for
from run import route_lookups

ROUTES_OF_ONE = 50
RELOADS = 5


def write_apps(site, port, count):
    """One file with many sections; what differs from reload to reload is in another."""
    with (site.config / "apps.d" / "many.conf").open("w") as out:
        for first in range(0, count, ROUTES_OF_ONE):
            out.write(f"[app a{first}]\nlisten = 127.0.0.1:{port}\nstart = manual\n"
                      "command = /bin/true\n")
            for number in range(first, min(count, first + ROUTES_OF_ONE)):
                out.write(f"route = http://h{number}.example/\n")


def vary(site, port, number):
    site.app("varying", route=f"http://v{number}.example/", listen=f"127.0.0.1:{port}",
             start="manual", command="/bin/true")


def memories(site):
    return {name: memory_bytes(site.processes(name)) for name in ("berthd", "berth-dispatch")}


def reload_s(site):
    began = time.monotonic()
    site.tell("reload", seconds=120)
    return time.monotonic() - began


def measure_reloads(site, port, result):
    for number in range(RELOADS):
        result["unchanged_s"].append(reload_s(site))
        vary(site, port, number + 1)
        result["changed_s"].append(reload_s(site))


def measure(bench, options):
    port = free_port()
    site = Site(bench)
    site.settle()
    site.app("shop", route=f"http://{HOST}/", command=f"{bench.worker} --small {port}",
             listen=f"127.0.0.1:{port}", start="always")
    vary(site, port, 0)
    result = {"unchanged_s": [], "changed_s": [], "routes": options.routes}
    try:
        site.start()
        wait_for(port, HOST, "the pool")
        before = memories(site)
        write_apps(site, port, options.routes)
        result["first_s"] = reload_s(site)
        listed = site.status()["routes"]
        if listed < options.routes:
            raise Failure(f"{listed} of {options.routes} routes are in force")
        after = memories(site)
        result["each"] = {name: (after[name] - before[name]) / options.routes for name in after}
        result["whole"] = after
        measure_reloads(site, port, result)
        result["settled"] = memories(site)
        result["first_byte"] = bench.load(port, "first-byte", seconds=1, count=1000000)
    finally:
        site.stop()
    result["lookups"] = None if options.smoke else route_lookups(bench)
    print(f"routes: {options.routes}, first reload {result['first_s']:.2f} s, unchanged "
          f"{min(result['unchanged_s']):.3f} to {max(result['unchanged_s']):.3f} s, one changed "
          f"{min(result['changed_s']):.3f} to {max(result['changed_s']):.3f} s, bytes a route "
          f"{ {name: round(value) for name, value in result['each'].items()} }", flush=True)
    return result
