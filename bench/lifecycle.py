#!/usr/bin/python3
"""`make bench-lifecycle`: pools while they are restarted, reloaded, upgraded and killed, programs
that are started by their first connection, connections that wait, many routes, and workers of
unequal speed. Writes build/bench/lifecycle.md and puts it at the end of docs/BENCHMARKS.md.
Everything runs on the loopback of this machine; nothing is left running."""

import argparse
import os
import pathlib
import signal
import subprocess
import sys
import tempfile
import traceback

import life_demand
import life_loss
import life_parked
import life_report
import life_routes
import life_unequal
import report
from procs import Failure
from run import Bench, raise_fd_limit, use_two_cpus

ROOT = pathlib.Path(__file__).resolve().parent.parent
PARTS = {"loss": life_loss, "demand": life_demand, "parked": life_parked, "routes": life_routes,
         "unequal": life_unequal}


def parse_options():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--build", default=str(ROOT / "build"), help="the build folder")
    parser.add_argument("--seconds", type=float, default=20, help="least length of each trial")
    parser.add_argument("--requests", type=int, default=200000, help="least number in each trial")
    parser.add_argument("--rounds", type=int, default=15, help="starts on demand of each program")
    parser.add_argument("--parked", type=int, default=10000, help="connections that wait")
    parser.add_argument("--routes", type=int, default=100000)
    parser.add_argument("--only", action="append", choices=list(PARTS), help="may be repeated")
    parser.add_argument("--trial", action="append", metavar="ACT",
                        help="of `loss` only this: restart, reload, upgrade, kill_dispatch, "
                        "kill_berthd; may be repeated")
    parser.add_argument("--smoke", action="store_true", help="a second each: does it run at all?")
    parser.add_argument("--output", help="the file to write (default lifecycle.md in the build's "
                        "bench folder, and the end of docs/BENCHMARKS.md; with --smoke, --only or "
                        "--trial nothing)")
    options = parser.parse_args()
    if options.smoke:
        options.seconds, options.requests, options.rounds = 1.0, 500, 2
        options.parked, options.routes = 200, 1000
    return options


def measure_parts(bench, options):
    results = {}
    for name, part in PARTS.items():
        if options.only and name not in options.only:
            continue
        try:
            results[name] = part.measure(bench, options)
        except (Failure, OSError, ValueError, subprocess.SubprocessError) as failure:
            traceback.print_exc()
            print(f"{name}: {failure}; the end of the log: {bench.log_tail()}", flush=True)
        finally:
            bench.stable.stop_all()
    return results


def run(options, scratch):
    os.chmod(scratch, 0o755)
    options.held = options.parked
    bench = Bench(options, scratch)
    raise_fd_limit()
    load_average, cpus = os.getloadavg()[0], use_two_cpus()
    try:
        results = measure_parts(bench, options)
    finally:
        bench.stable.stop_all()
        bench.log.close()
    text = life_report.document(results, options, cpus, load_average)
    print(text)
    if options.output:
        pathlib.Path(options.output).write_text(text)
    elif not (options.smoke or options.only or options.trial):
        (bench.build / "bench" / "lifecycle.md").write_text(text)
        report.put_into(ROOT / "docs" / "BENCHMARKS.md", text)
    return 0 if set(results) == set(options.only or PARTS) else 1


def main():
    options = parse_options()
    # Stopping by a signal takes the same way out as an error: through `finally`.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    with tempfile.TemporaryDirectory(prefix="bl") as scratch:
        try:
            return run(options, scratch)
        except (Failure, subprocess.SubprocessError) as failure:
            print(f"lifecycle: {failure}", file=sys.stderr)
            return 1


if __name__ == "__main__":
    sys.exit(main())
