#!/usr/bin/python3
"""`make bench`: measures the worker alone and behind every front, in interleaved rounds, and writes
docs/BENCHMARKS.md. Everything runs on the loopback of this machine; nothing is left running."""

import argparse
import os
import pathlib
import resource
import signal
import subprocess
import sys
import tempfile

import report
from fronts import FRONTS, HOST
from procs import Failure, Stable, cpu_ns, memory_bytes

ROOT = pathlib.Path(__file__).resolve().parent.parent
HELD = 10000
HELD_SOURCES = 16
FDS_WANTED = 40000


class Bench:
    """What every measurement needs: where the programs are, where to write, what runs."""

    def __init__(self, options, scratch):
        self.build = pathlib.Path(options.build).resolve()
        self.load_program = self.build / "bench" / "load"
        self.worker = self.build / "bench" / "worker"
        self.seconds = options.seconds
        self.held = options.held
        self.scratch = pathlib.Path(scratch)
        self.log = open(self.scratch / "log", "wb")
        self.stable = Stable()

    def log_tail(self):
        return (self.scratch / "log").read_bytes()[-500:].decode(errors="replace").strip()

    def load(self, port, mode, seconds=None, **options):
        """One run of the load generator; its line of key=value as a dictionary of numbers."""
        argv = [self.load_program, mode, "--port", port, "--host", HOST,
                "--seconds", seconds or self.seconds]
        for key, value in options.items():
            argv += ["--" + key.replace("_", "-"), value]
        limit = (seconds or self.seconds) + 60
        answer = subprocess.run([str(a) for a in argv], capture_output=True, text=True,
                                timeout=limit, check=False)
        if answer.returncode != 0:
            raise Failure(f"load {mode}: {answer.stderr.strip()}")
        return fields(answer.stdout)


def fields(line):
    pairs = [word.split("=") for word in line.split() if "=" in word]
    return {key: float(value) for key, value in pairs}


def measure_connect(bench, front):
    before, worker_before = cpu_ns(front.pids()), cpu_ns(front.worker_pids)
    result = bench.load(front.port, "connect", threads=2, connections=400)
    spent = cpu_ns(front.pids()) - before
    worker_spent = cpu_ns(front.worker_pids) - worker_before
    if result["done"] < 1:
        raise Failure(f"{front.title}: no request was answered")
    done = result["done"]
    return {"connect": result["per_second"], "connect_failed": result["failed"] + result["stalled"],
            "front_cpu": spent / done / 1000, "all_cpu": (spent + worker_spent) / done / 1000,
            "connect_p99": result["p99_us"]}


def measure_keepalive(bench, front):
    result = bench.load(front.port, "keepalive", connections=64)
    return {"keepalive": result["per_second"], "keepalive_p99": result["p99_us"],
            "keepalive_failed": result["failed"]}


def measure_bodies(bench, front):
    small = bench.load(front.port, "keepalive", path="/1m", connections=8)
    large = bench.load(front.port, "keepalive", path="/64m", connections=2)
    return {"body_1m": small["bytes_per_second"] / 1e9, "body_64m": large["bytes_per_second"] / 1e9}


def measure_first_byte(bench, front):
    """One after the other without a pause, and with one in which the CPUs go to sleep."""
    result = bench.load(front.port, "first-byte", count=1000000)
    slept = bench.load(front.port, "first-byte", count=1000000, pause_us=500)
    if result["done"] < 1 or slept["done"] < 1:
        raise Failure(f"{front.title}: no first byte")
    return {"first_byte": result["p50_us"], "first_byte_p99": result["p99_us"],
            "first_byte_slept": slept["p50_us"]}


def measure_held(bench, front):
    """Memory a silent connection costs the front, and what others notice while they are held."""
    before = memory_bytes(front.pids())
    argv = [bench.load_program, "hold", "--port", front.port, "--connections", bench.held,
            "--sources", HELD_SOURCES, "--seconds", 20]
    holder = bench.stable.start(argv, bench.log, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    try:
        held = fields(holder.stdout.readline().decode())
        after = memory_bytes(front.pids())
        others = bench.load(front.port, "first-byte", count=1000000)
        holder.stdin.close()
        left = fields(holder.stdout.readline().decode())
    finally:
        bench.stable.stop(holder)
    alive = int(left.get("alive", 0))
    result = {"held_alive": alive, "held_first_byte": others["p50_us"] if others["done"] else None,
              "held_failed": others["failed"]}
    if before and after and held.get("alive", 0) > bench.held // 2:
        result["held_bytes"] = (after - before) / held["alive"]
    return result


# Each group has a front of its own: pools warmed by the load would hide what silent clients cost.
QUIET = (measure_first_byte, measure_held)
LOADED = (measure_connect, measure_keepalive, measure_bodies)


def measure_group(bench, kind, measures):
    result = {}
    front = kind(bench)
    try:
        front.start()
        bench.load(front.port, "connect", seconds=0.2)
        for measure in measures:
            result.update(measure(bench, front))
    except Failure as failure:
        print(f"  {failure}; the end of the log: {bench.log_tail()}", flush=True)
    finally:
        bench.stable.stop_all()
        front.finish()
    return result


def measure_front(bench, kind):
    quiet = [measure for measure in QUIET if kind.held or measure is not measure_held]
    result = measure_group(bench, kind, LOADED)
    result.update(measure_group(bench, kind, quiet))
    return result


def run_rounds(bench, kinds, count):
    """Rounds, each with every front in it; every round starts with another front."""
    rounds = []
    for number in range(count):
        taken = {}
        shift = number % len(kinds)
        for kind in kinds[shift:] + kinds[:shift]:
            taken[kind.name] = measure_front(bench, kind)
            print(f"round {number + 1}/{count} {report.one_line(kind.name, taken[kind.name])}",
                  flush=True)
        rounds.append(taken)
    return rounds


def route_lookups(bench):
    """The lines of build/bench/route-bench, if it was built."""
    program = bench.build / "bench" / "route-bench"
    if not program.exists():
        return None
    answer = subprocess.run([str(program)], capture_output=True, text=True, timeout=120,
                            check=False)
    return answer.stdout.strip() if answer.returncode == 0 else None


def raise_fd_limit():
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = FDS_WANTED if hard == resource.RLIM_INFINITY else max(hard, FDS_WANTED)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, wanted))
    except (ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return resource.getrlimit(resource.RLIMIT_NOFILE)[0]


def use_two_cpus():
    """Two cores for everything, so that the load, the front and the worker compete for them."""
    cpus = sorted(os.sched_getaffinity(0))[:2]
    os.sched_setaffinity(0, cpus)
    return len(cpus)


def parse_options():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--build", default=str(ROOT / "build"), help="the build folder")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--seconds", type=float, default=1.5, help="length of one measurement")
    parser.add_argument("--held", type=int, default=HELD, help="silent connections to hold")
    parser.add_argument("--only", action="append", metavar="NAME",
                        help="measure only this front (and direct); may be repeated: "
                        + ", ".join(kind.name for kind in FRONTS))
    parser.add_argument("--quick", action="store_true", help="2 rounds of 1 s: a smoke test")
    parser.add_argument("--output", help="the file to write (default docs/BENCHMARKS.md; "
                        "with --quick or --only nothing)")
    options = parser.parse_args()
    if options.quick:
        options.rounds, options.seconds = 2, 1.0
    if not options.output and not (options.quick or options.only):
        options.output = str(ROOT / "docs" / "BENCHMARKS.md")
    return options


def choose_fronts(bench, only):
    kinds = [kind for kind in FRONTS if kind.available(bench.build)]
    missing = [kind.title for kind in FRONTS if kind not in kinds]
    if only:
        kinds = [kind for kind in kinds if kind.name in only or kind.name.startswith("direct")]
    return kinds, missing


def run(options, scratch):
    bench = Bench(options, scratch)
    fds, cpus = raise_fd_limit(), use_two_cpus()
    if options.held > fds - 1000:
        bench.held = fds - 1000
        print(f"only {fds} descriptors allowed: holding {bench.held} connections", flush=True)
    kinds, missing = choose_fronts(bench, options.only)
    load_average = os.getloadavg()[0]
    print("not measured, not installed: " + (", ".join(missing) or "nothing"), flush=True)
    try:
        rounds = run_rounds(bench, kinds, options.rounds)
    finally:
        bench.stable.stop_all()
        bench.log.close()
    facts = report.Facts(options.rounds, options.seconds, bench.held, cpus, load_average,
                         [kind(bench).version() for kind in kinds], route_lookups(bench), missing)
    text = report.document(rounds, [(kind.name, kind.title) for kind in kinds], facts)
    print(text)
    if options.output:
        pathlib.Path(options.output).parent.mkdir(parents=True, exist_ok=True)
        pathlib.Path(options.output).write_text(text)


def main():
    options = parse_options()
    # Stopping by a signal takes the same way out as an error: through `finally`.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    with tempfile.TemporaryDirectory(prefix="bb") as scratch:
        try:
            run(options, scratch)
        except (Failure, subprocess.SubprocessError) as failure:
            print(f"bench: {failure}", file=sys.stderr)
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
