"""From the numbers of the rounds to docs/BENCHMARKS.md: ratios are taken inside a round, between
runs that are seconds apart, and given as median with minimum and maximum over the rounds."""

import collections
import datetime
import os
import pathlib
import platform
import re
import statistics

Facts = collections.namedtuple(
    "Facts", "rounds seconds held cpus load_average versions lookups missing")
NGINX = ("nginx-1", "nginx-2")
HAPROXY = ("haproxy-http-1", "haproxy-http-2", "haproxy-tcp")
SSLH = ("sslh-select", "sslh-ev", "sslh-fork")
NONE = "–"


def one_line(name, values):
    def cell(key, form):
        value = values.get(key)
        return form.format(value) if value is not None else NONE

    return (f"{name}: {cell('connect', '{:.0f}')} conn/s, {cell('front_cpu', '{:.1f}')} µs, "
            f"keep-alive {cell('keepalive', '{:.0f}')}/s, 1m {cell('body_1m', '{:.2f}')} GB/s, "
            f"64m {cell('body_64m', '{:.2f}')} GB/s, first byte {cell('first_byte', '{:.1f}')} µs, "
            f"held {cell('held_alive', '{:.0f}')}, {cell('held_bytes', '{:.0f}')} B")


class Table:
    """Answers questions about the rounds; a front or a number that is missing gives empty lists."""

    def __init__(self, rounds, fronts):
        self.rounds = rounds
        self.fronts = fronts

    def values(self, name, key):
        found = [taken.get(name, {}).get(key) for taken in self.rounds]
        return [value for value in found if value is not None]

    def paired(self, name, key, combine, other="direct", other_key=None):
        pairs = [(taken.get(name, {}).get(key), taken.get(other, {}).get(other_key or key))
                 for taken in self.rounds]
        return [combine(a, b) for a, b in pairs if a is not None and b]

    def ratio(self, name, key, other="direct", other_key=None):
        return self.paired(name, key, lambda a, b: a / b, other, other_key)

    def added(self, name, key):
        return self.paired(name, key, lambda a, b: a - b)


def spread(values, digits=2):
    if not values:
        return NONE
    return (f"{statistics.median(values):.{digits}f} "
            f"({min(values):.{digits}f}–{max(values):.{digits}f})")


def middle(values, digits=0):
    return f"{statistics.median(values):,.{digits}f}" if values else NONE


def grid(headers, rows):
    lines = ["| " + " | ".join(headers) + " |", "|" + "---|" * len(headers)]
    return "\n".join(lines + ["| " + " | ".join(row) + " |" for row in rows])


def is_front(name):
    return not name.startswith("direct")


def section_connect(table):
    rows = []
    for name, title in table.fronts:
        lost = sum(table.values(name, "connect_failed"))
        rows.append([title, spread(table.ratio(name, "connect")),
                     middle(table.values(name, "connect")),
                     spread(table.values(name, "front_cpu"), 1) if is_front(name) else "0",
                     middle(table.values(name, "all_cpu"), 1),
                     middle(table.values(name, "connect_p99")), f"{lost:.0f}"])
    return grid(["front", "conn/s × direct", "conn/s", "front CPU µs/conn",
                 "front + worker CPU µs/conn", "p99 µs", "failed or stalled"], rows)


def section_stream(table):
    rows = []
    for name, title in table.fronts:
        rows.append([title, spread(table.ratio(name, "keepalive")),
                     middle(table.values(name, "keepalive")),
                     spread(table.ratio(name, "keepalive_p99")),
                     spread(table.ratio(name, "body_1m")), spread(table.ratio(name, "body_64m"))])
    return grid(["front", "requests/s × direct", "requests/s", "p99 × direct", "1 MiB × direct",
                 "64 MiB × direct"], rows)


def section_idle(table):
    rows = []
    for name, title in table.fronts:
        rows.append([title, middle(table.values(name, "first_byte"), 1),
                     spread(table.added(name, "first_byte"), 1),
                     middle(table.values(name, "first_byte_p99"), 0),
                     middle(table.values(name, "first_byte_slept"), 1),
                     spread(table.added(name, "first_byte_slept"), 1)])
    return grid(["front", "first byte µs (p50)", "added to direct, µs", "p99 µs",
                 "after 0.5 ms of sleep µs (p50)", "added to direct, µs"], rows)


def section_held(table):
    rows = []
    for name, title in table.fronts:
        rows.append([title, middle(table.values(name, "held_alive")),
                     spread(table.values(name, "held_bytes"), 0) if is_front(name) else NONE,
                     spread(table.ratio(name, "held_first_byte", name, "first_byte")),
                     f"{sum(table.values(name, 'held_failed')):.0f}"])
    return grid(["front", "still open at the end", "front's memory, bytes each",
                 "first byte of others × without them", "others that failed"], rows)


class Target:
    """One line of what we set out to reach: the wish, what was measured, the verdict in words."""

    def __init__(self, wish, values, test, digits=2, unit="", by_round=True, noise=()):
        self.wish = wish
        self.by_round = by_round
        self.noise = noise
        self.values = values
        self.test = test
        self.digits = digits
        self.unit = unit

    def row(self):
        if not self.values:
            return [self.wish, NONE, NONE, "not measured"]
        noise = spread(self.noise, self.digits)
        return [self.wish, spread(self.values, self.digits) + self.unit, noise, self.verdict()]

    def verdict(self):
        met = [self.test(value) for value in self.values]
        if self.test(statistics.median(self.values)):
            return "met" if all(met) else "met by the median" + self.share(met)
        return "**not met**" + (self.share(met) if any(met) else "")

    def share(self, met):
        return f" (met in {sum(met)} of {len(met)} rounds)" if self.by_round else ""


def at_most(limit):
    return lambda value: value <= limit


def at_least(limit):
    return lambda value: value >= limit


def between(low, high):
    return lambda value: low <= round(value, 2) <= high


def family_ratios(table, key, family, least):
    """berth against the best of a family of proxies, or the reverse, in each round."""
    result = []
    for taken in table.rounds:
        ours = taken.get("berth", {}).get(key)
        theirs = [taken[name][key] for name in family if taken.get(name, {}).get(key)]
        if ours and theirs:
            result.append(min(theirs) / ours if least else ours / max(theirs))
    return result


def first_byte_shares(table, key):
    """What berth adds to the first byte, as a share of what the quicker nginx adds."""
    result = []
    for taken in table.rounds:
        direct = taken.get("direct", {}).get(key)
        ours = taken.get("berth", {}).get(key)
        theirs = [taken[name][key] for name in NGINX if taken.get(name, {}).get(key)]
        if direct and ours and theirs and min(theirs) > direct:
            result.append((ours - direct) / (min(theirs) - direct))
    return result


def lookup_rows(facts):
    """route-bench prints a line for each kind of table: its name, then min, median, max in ns."""
    rows = {}
    for line in (facts.lookups or "").splitlines():
        words = line.split()
        if len(words) == 4 and words[0].startswith("route_match_"):
            rows[words[0].removeprefix("route_match_")] = [float(word) for word in words[1:]]
    return rows


def lookup_worst(facts, routes):
    """The slowest kind of table of this size decides."""
    rows = [ns for name, ns in lookup_rows(facts).items() if name.split("_")[0] == str(routes)]
    return max(rows, key=lambda ns: ns[1], default=[])


def section_lookup(facts):
    rows = [[name.replace("_", " routes, ", 1), spread(ns, 0)]
            for name, ns in lookup_rows(facts).items()]
    return grid(["table", "ns a lookup"], rows) if rows else "Not measured."


def ratio_target(table, wish, key, test):
    """A ratio to direct, beside the same ratio of direct to itself."""
    return Target(wish, table.ratio("berth", key), test, noise=table.ratio("direct-again", key))


def added_target(table, wish, key):
    return Target(wish, table.added("berth", key), at_most(20), 1, " µs",
                  noise=table.added("direct-again", key))


def targets(table, facts):
    return [
        Target("CPU of dispatch a connection, saturated: at most 5 µs",
               table.values("berth", "front_cpu"), at_most(5), 1, " µs"),
        Target("… at least 5 times less than the cheapest nginx",
               family_ratios(table, "front_cpu", NGINX, True), at_least(5), 1, " times"),
        Target("… at least 5 times less than the cheapest HAProxy",
               family_ratios(table, "front_cpu", HAPROXY, True), at_least(5), 1, " times"),
        Target("… at least 10 times less than the cheapest sslh",
               family_ratios(table, "front_cpu", SSLH, True), at_least(10), 1, " times"),
        ratio_target(table, "A connection for each request: at least 0.9 × direct", "connect",
                     at_least(0.9)),
        Target("… above the fastest nginx", family_ratios(table, "connect", NGINX, False),
               lambda value: value > 1, 2, " ×"),
        Target("… above the fastest HAProxy", family_ratios(table, "connect", HAPROXY, False),
               lambda value: value > 1, 2, " ×"),
        ratio_target(table, "Keep-alive requests/s: 0.98 to 1.02 × direct", "keepalive",
                     between(0.98, 1.02)),
        ratio_target(table, "Keep-alive p99: 0.98 to 1.02 × direct", "keepalive_p99",
                     between(0.98, 1.02)),
        ratio_target(table, "1 MiB bodies: 0.98 to 1.02 × direct", "body_1m",
                     between(0.98, 1.02)),
        ratio_target(table, "64 MiB bodies: 0.98 to 1.02 × direct", "body_64m",
                     between(0.98, 1.02)),
        added_target(table, "Added to the first byte, idle: at most 20 µs", "first_byte"),
        Target("… less than half of what nginx adds", first_byte_shares(table, "first_byte"),
               lambda value: value < 0.5, 2, " ×"),
        added_target(table, "… at most 20 µs also when the CPUs slept before", "first_byte_slept"),
        Target("… and less than half of what nginx adds then",
               first_byte_shares(table, "first_byte_slept"), lambda value: value < 0.5, 2, " ×"),
        Target("Memory of ours for a silent connection: at most 300 bytes",
               table.values("berth", "held_bytes"), at_most(300), 0, " bytes"),
        Target(f"{facts.held:,} silent clients hold nobody up: first byte of others at most 1.1 ×",
               table.ratio("berth", "held_first_byte", "berth", "first_byte"), at_most(1.1),
               noise=table.ratio("direct-again", "held_first_byte", "direct-again", "first_byte")),
        Target("Route lookup at 10 routes: under 300 ns", lookup_worst(facts, 10),
               lambda value: value < 300, 0, " ns", False),
        Target("Route lookup at 100,000 routes: under 1 µs", lookup_worst(facts, 100000),
               lambda value: value < 1000, 0, " ns", False),
    ]


def machine(facts):
    model = "unknown CPU"
    for line in pathlib.Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            model = line.split(":", 1)[1].strip()
            break
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    algorithm = pathlib.Path("/proc/sys/net/ipv4/tcp_congestion_control").read_text().strip()
    return (f"{model}, {os.cpu_count()} CPUs of which {facts.cpus} were used, {memory:.0f} GiB, "
            f"Linux {platform.release()}, TCP {algorithm}, loopback. "
            f"{datetime.date.today().isoformat()}, load average before the start "
            f"{facts.load_average:.2f}.")


METHOD = """## How it is measured

- Every round runs every front, one after the other, each freshly started on free ports, and each
  round starts with another front. {rounds} rounds; a measurement lasts {seconds:g} s. Ratios are
  taken inside a round; a cell is *median (minimum–maximum)* over the rounds. "Direct once more"
  is the worker alone measured a second time, as if it were a front: how far its row is from 1.00
  is the noise of this machine. Absolute figures belong to this machine on this day: trust the
  ratios.
- The worker (`bench/worker.c`) is the same program everywhere: one thread, epoll, 128-byte
  answers, bodies by sendfile. Behind berth it runs unmodified under `berth run`. Two applications
  share each front's port, told apart by Host (sslh: by protocol, which is all it knows).
- The load generator (`bench/load.c`) runs on the same {cpus} CPUs, so it takes its share of them:
  throughput says how much of the machine a front leaves, not how fast a server alone could be.
  Its limits: one thread (two for a connection a request), small requests, no think time, no loss
  or delay on the path, bodies discarded in the kernel and not looked at, latency counted from
  connect() or from the request, and closed loop: a slow front is asked less often. The first byte
  is measured one connection at a time, back to back, and again with 0.5 ms of sleep before each,
  which adds to everything the time this machine needs to wake a CPU, once for each process on the
  way. An answer counts only if it has status 200 and its whole body; with a connection a request,
  also its end.
- "Front CPU" is user plus system time of the front's processes and threads (nanoseconds of the
  scheduler), divided by the connections it served; the kernel's work on the loopback that runs in
  their context is in it. For berth that is `berth-dispatch` and `berthd`; what the library inside
  the program costs is in "front + worker".
- Proxies are Debian's, tuned: no access log, kept-alive and shared connections to the worker,
  reuseport, large buffers, splice where they can, time-outs out of the way.
- Memory is the growth of the proportional set size of the front's processes. What is allocated
  for every possible connection at the start (nginx does) does not show as growth; nor do the
  kernel's sockets, about the same for all.
"""


def document(rounds, fronts, facts):
    table = Table(rounds, fronts)
    goals = grid(["target", "measured", "the worker alone, once more", "verdict"],
                 [goal.row() for goal in targets(table, facts)])
    versions = "; ".join(dict.fromkeys(text for text in facts.versions if text))
    parts = [
        "# Benchmarks",
        "Written by `make bench`; all of it comes from one run, good and bad.",
        f"Machine: {machine(facts)}\n\nVersions: {versions or NONE}.",
        "Not measured because not there: " + (", ".join(facts.missing) or "nothing") + ".",
        "## Targets", goals,
        "## A connection for each request, both cores saturated", section_connect(table),
        "## Connections that last: small answers and bodies", section_stream(table),
        "## The first byte, machine idle, one connection at a time", section_idle(table),
        f"## {facts.held:,} silent connections held", section_held(table),
        "## Route lookup", section_lookup(facts),
        METHOD.format(rounds=facts.rounds, seconds=facts.seconds, cpus=facts.cpus).rstrip(),
    ]
    return "\n\n".join(parts) + "\n"


def put_into(path, text):
    """A part goes from its title to the next title of a part; it takes the place of its last one."""
    title = text.split("\n", maxsplit=1)[0]
    parts = re.split(r"(?m)^(?=# )", path.read_text() if path.exists() else "")
    kept = [part for part in parts if part.strip() and not part.startswith(title + "\n")]
    at = next((i for i, part in enumerate(parts) if part.startswith(title + "\n")), len(kept))
    kept.insert(min(at, len(kept)), text)
    path.write_text("\n\n".join(part.strip("\n") for part in kept) + "\n")
