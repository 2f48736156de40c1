"""What the life-cycle's measurements are worth, as Markdown: the targets with their verdicts, then
the tables. It is put at the end of docs/BENCHMARKS.md, in the place of what was there from the last
run."""

import types

from fronts import run_text
from life_loss import CONNECTIONS
from life_rig import Haproxy, Nginx
from life_unequal import CAPACITY, CLIENTS, FAST_US, SHARE, SLOW_US
from report import NONE, Target, at_most, grid, lookup_worst, machine, middle, spread

TITLE = "# Life-cycle"


def failed_of(result):
    return f"{result['failed']:,.0f} of {result['done'] + result['failed']:,.0f}"


def loss_targets(results, wanted):
    """Met only with as many requests as were asked for, and when something did happen meanwhile."""
    goals = []
    for mode, words in (("connect", "short connections"), ("keepalive", "kept alive")):
        for result in results or []:
            if result["trial"].front.name != "berth" or not result["trial"].act:
                continue
            taken = result.get(mode)
            values = [] if not taken else [taken["failed"]]
            goal = Target(f"Nothing lost, {words}: {result['trial'].what}", values, at_most(0), 0,
                          "" if not taken else f" of {taken['done'] + taken['failed']:,.0f}",
                          False)
            goal.enough = bool(taken) and taken["done"] >= wanted and taken["events"] > 0
            goals.append(goal)
    return goals


def demand_targets(results):
    return [Target(f"Start on demand, {title}: at most 10 ms more than by hand",
                   taken["added"], at_most(10), 1, " ms", True)
            for title, taken in (results or {}).items()]


def parked_targets(taken):
    if not taken:
        return []
    name = f"{taken['alive']:,} waiting connections: at most 1 KiB of our memory each"
    return [Target(name, [taken["bytes"]], at_most(1024), 0, " bytes", False)]


def routes_targets(taken):
    if not taken:
        return []
    facts = types.SimpleNamespace(lookups=taken["lookups"])
    count = f"{taken['routes']:,} routes"
    return [Target(f"{count}: a lookup under 1 µs", lookup_worst(facts, taken["routes"]),
                   lambda value: value < 1000, 0, " ns", False),
            Target(f"{count}: a reload with one change under 1 s", taken["changed_s"],
                   lambda value: value < 1, 2, " s", False),
            Target(f"{count}: a reload without any under 1 s", taken["unchanged_s"],
                   lambda value: value < 1, 2, " s", False)]


def ratios(rounds, name, key, other="nginx"):
    pairs = [(taken.get(name), taken.get(other)) for taken in rounds]
    return [a[key] / b[key] for a, b in pairs if a and b and b[key]]


def unequal_targets(taken):
    if not taken:
        return []
    return [Target("Unequal workers: p99 at most that of nginx least_conn",
                   ratios(taken["rounds"], "berth", "p99_us"), at_most(1), 2, " ×")]


def target_row(goal):
    wish, measured, _, verdict = goal.row()
    if len(goal.values) == 1:
        measured = f"{goal.values[0]:,.{goal.digits}f}{goal.unit}"
    if not getattr(goal, "enough", True):
        verdict += ", too few requests or disturbances"
    return [wish, measured, verdict]


def milliseconds(value):
    return f"{value / 1000:.1f}" if value else NONE


def loss_row(result):
    trial = result["trial"]
    row = [trial.front.name, trial.what]
    if "failure" in result and "connect" not in result:
        return row + [f"not measured: {result['failure']}"] + [NONE] * 6
    short, kept = result["connect"], result.get("keepalive")
    row += [f"{short['events']}", failed_of(short), milliseconds(short["p50_us"]),
            milliseconds(short["p99_us"]), milliseconds(short["max_us"])]
    return row + ([failed_of(kept), milliseconds(kept["p99_us"])] if kept else [NONE, NONE])


def section_loss(results):
    return grid(["front", "meanwhile", "times", "failed", "p50 ms", "p99 ms", "slowest ms",
                 "kept alive: failed", "p99 ms"], [loss_row(result) for result in results])


def section_demand(results):
    rows = [[title, spread(taken["hand"], 1), spread(taken["demand"], 1),
             spread(taken["added"], 1)] for title, taken in results.items()]
    return grid(["program", "by hand, ms", "on demand, ms", "added, ms"], rows)


def section_parked(taken):
    rows = [["still open at the end", f"{taken['alive']:,} of {taken['held']:,}"],
            ["of them parked in the pool's queue", f"{taken['parked']:,}"],
            ["berthd and berth-dispatch, bytes each", f"{taken['bytes']:,.0f}"],
            ["kernel (slab), bytes each, both ends of the connection", f"{taken['kernel']:,.0f}"],
            ["the same with a program that has accepted them, without berth",
             f"{taken['kernel_direct']:,.0f}"]]
    for when in ("before", "during", "after"):
        rows.append([f"first byte of the other pool {when}, p50 and p99, µs",
                     f"{taken[when]['p50_us']:,.0f}, {taken[when]['p99_us']:,.0f}"])
    return grid(["", "measured"], rows)


def section_routes(taken):
    mib = 2**20
    rows = [["first reload, which makes them all, s", f"{taken['first_s']:.2f}"],
            ["reload with one changed, s", spread(taken["changed_s"], 3)],
            ["reload with nothing changed, s", spread(taken["unchanged_s"], 3)]]
    for name, each in taken["each"].items():
        rows.append([f"{name}, bytes a route (MiB in all; after {2 * len(taken['changed_s'])} "
                     "reloads)", f"{each:,.0f} ({taken['whole'][name] / mib:.1f}; "
                     f"{taken['settled'][name] / mib:.1f})"])
    rows.append(["first byte of a program, p50 µs", f"{taken['first_byte']['p50_us']:,.0f}"])
    return grid([f"{taken['routes']:,} routes", "measured"], rows)


def section_unequal(taken):
    rounds, rows = taken["rounds"], []
    for name, title in taken["fronts"]:
        mine = [one[name] for one in rounds if name in one]
        rows.append([title, middle([one["per_second"] for one in mine]),
                     middle([one["p50_us"] / 1000 for one in mine], 1),
                     middle([one["p99_us"] / 1000 for one in mine], 1),
                     spread(ratios(rounds, name, "p50_us")), spread(ratios(rounds, name, "p99_us")),
                     f"{sum(one['failed'] + one['stalled'] for one in mine):.0f}"])
    return grid(["front", "requests/s", "p50 ms", "p99 ms", "p50 × nginx", "p99 × nginx",
                 "failed"], rows)


METHOD = """How it is measured:

- **Nothing lost**: {clients} clients, a connection for each request (`bench/load`, two threads),
  each a new one as soon as the last is answered, at least {requests:,} requests and {seconds:g} s;
  then wrk with as many connections that stay open, for as long. A request has failed when its
  connection is refused, reset or cut short, when its answer is not a whole 200, or when there is
  none 20 s after the last request. berth serves a pool of two workers beside a second and a third
  application on the port; berthd runs under a loop that starts it again at once, as its systemd
  unit does. Every reload does change a route (nginx: a name, HAProxy: a condition). "times" is how
  often it happened during the short connections. Kept-alive connections belong to the worker that
  accepted them: it gets 3 s (`drain_timeout`), then TERM, and says goodbye on its next answer.
  nginx and HAProxy (master-worker) stand in front of two such workers, with least connections.
- **Start on demand**: by hand is from fork to the first byte of a client that tries every ms; on
  demand is from connect() to the first byte. Both programs write to nowhere; the page cache is
  warm.
- **Waiting**: every client has sent its request; the program of the pool never listens. "Ours" is
  the growth of the proportional set size. The kernel's slab counts both ends of each connection, as
  client and server share this machine.
- **Routes**: applications of 50 routes, none of them running. Reload is the whole command.
- **Unequal workers**: {resting} clients that rest between their connections, at {share:.0%} of
  {capacity:,.0f} requests a second, which is what a worker of {fast:g} ms and one of {slow:g} ms a
  request can do. Workers take one request at a time and sleep over it. Ratios are taken inside a
  round.
"""


def part(results, name, title, section):
    if name not in results:
        return []
    return [f"## {title}", section(results[name])]


def document(results, options, cpus, load_average):
    facts = types.SimpleNamespace(cpus=cpus, load_average=load_average)
    goals = (loss_targets(results.get("loss"), options.requests)
             + demand_targets(results.get("demand")) + parked_targets(results.get("parked"))
             + routes_targets(results.get("routes")) + unequal_targets(results.get("unequal")))
    versions = [front.version() for front in (Nginx, Haproxy) if front.available()]
    method = METHOD.format(clients=CONNECTIONS, requests=options.requests, seconds=options.seconds,
                           resting=CLIENTS, share=SHARE, capacity=CAPACITY, fast=FAST_US / 1000,
                           slow=SLOW_US / 1000)
    parts = [TITLE, "Written by `make bench-lifecycle`, from one run, good and bad.",
             f"Machine: {machine(facts)}", f"Versions: {'; '.join(versions + [wrk_version()])}.",
             "## Targets of the life-cycle",
             grid(["target", "measured", "verdict"], [target_row(goal) for goal in goals])]
    parts += part(results, "loss", "Nothing is lost", section_loss)
    parts += part(results, "demand", "Started by the first connection", section_demand)
    parts += part(results, "parked", "Connections that wait for a program", section_parked)
    parts += part(results, "routes", "Very many routes", section_routes)
    parts += part(results, "unequal", "Two workers of unequal speed", section_unequal)
    return "\n\n".join(parts + [method.rstrip()]) + "\n"


def wrk_version():
    return " ".join(run_text(["wrk", "-v"]).split("\n", maxsplit=1)[0].split()[:2]) or "no wrk"
