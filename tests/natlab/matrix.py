#!/usr/bin/python3
"""Every pair of NATs, several times: which are passed, by what, how fast. Results go to a file, one line
for each run, and a run that is in it is not done again: break off and go on as you like.

    matrix.py [--through berth|puncher] [--cold] [--over udp|ice] [--runs 10] [--delay 10] [--loss 0]
              [--kinds pub,apdf,...] [--results FILE] [--html FILE] [--problems FILE]"""

import argparse
import concurrent.futures
import dataclasses
import itertools
import os
import pathlib
import sys
import time

import dialled
import punching
import rules
import tables
from lab import ROOT, Lab, LabError

# A cell that cannot be passed is tried so often.
HOPELESS_RUNS = 2


def _punched(cell, wanted, results):
    a, b, delay, loss, over = cell
    with Lab(a, b, delay_ms=delay, loss=loss) as lab:
        _, folder = punching.start_server(lab)
        with folder:
            while len(results.of(cell)) < wanted:
                o = punching.connect(lab, 3, over)
                results.add(cell, {"ok": o.ok, "ms": o.ms, "plan": o.plan, "kind": o.kind, "tries": o.tries,
                                   "guesses": o.guesses, "reason": o.reason, "transport": "udp"})
                for host in (lab.a, lab.b):
                    host.flush_nat()  # a block of 512 ports would be used up after eight runs


def _dialled(cell, wanted, results):
    a, b, delay, loss, over = cell
    pair = dialled.Pair(a, b, delay_ms=delay, loss=loss)
    try:
        while len(results.of(cell)) < wanted:
            outcome = dialled.dial(pair, tables.possible(a, b, over), over == "berth-cold")
            results.add(cell, dataclasses.asdict(outcome))
    finally:
        pair.close()


def run_cell(cell, runs, results):
    """Fills one cell in one lab."""
    a, b, _, _, over = cell
    wanted = runs if tables.possible(a, b, over) else min(runs, HOPELESS_RUNS)
    if len(results.of(cell)) < wanted:
        (_dialled if over.startswith("berth") else _punched)(cell, wanted, results)


def run_all(cells, args, results):
    """All of them, some at a time, with a line for each. Ctrl-C: what runs is finished."""
    began = time.monotonic()
    with concurrent.futures.ThreadPoolExecutor(args.jobs) as pool:
        jobs = {pool.submit(run_cell, cell, args.runs, results): cell for cell in cells}
        try:
            for n, job in enumerate(concurrent.futures.as_completed(jobs), 1):
                cell = jobs[job]
                trouble = ""
                try:
                    job.result()
                except AssertionError as e:  # a daemon that did not start: the others go on
                    trouble = f" {e}"
                print(f"[{n}/{len(cells)} {time.monotonic() - began:.0f} s] {cell[0]} x {cell[1]}: "
                      f"{tables.summary(results.of(cell))[0]}{trouble}", flush=True)
        except BaseException as e:
            pool.shutdown(cancel_futures=True)
            if isinstance(e, LabError):
                sys.exit(f"lab: {e}")
            if isinstance(e, KeyboardInterrupt):
                sys.exit("broken off: the same command goes on")
            raise


def problems(cells, results):
    """What berth-peer said of each run that is not as it should be."""
    for cell in cells:
        text, right = tables.summary(results.of(cell))
        if right:
            continue
        yield f"=== {cell[0]} x {cell[1]}: {text}\n"
        for run in results.of(cell):
            if not run["ok"] or not run.get("connected", True):
                yield f"reason: {run['reason']}\n{run.get('why', '')}\n"
                break


def line_of(args):
    """What the cells have in common."""
    if args.through == "puncher":
        return (args.delay, args.loss, args.over)
    return (args.delay, args.loss, "berth-cold" if args.cold else "berth")


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--through", choices=["berth", "puncher"], default="berth",
                        help="berth: `berth dial` from one berth-peer to another; puncher: src/punch without a session")
    parser.add_argument("--cold", action="store_true", help="berth-peer is started by the dial")
    parser.add_argument("--over", choices=["udp", "ice"], default="udp",
                        help="of the puncher; ice: another program's agent (python3-aioice) instead, to compare")
    parser.add_argument("--runs", type=int, default=10)
    parser.add_argument("--delay", type=float, default=10, help="ms one way over each line: peers are four times that apart")
    parser.add_argument("--loss", type=float, default=0.0, help="share of packets that each line loses")
    parser.add_argument("--kinds", default=",".join(rules.KINDS))
    parser.add_argument("--cells", help="only these: A-B,A-B,...")
    parser.add_argument("--jobs", type=int, default=4, help="cells at a time; they mostly wait")
    build = pathlib.Path(os.environ.get("BERTH_BUILD", ROOT / "build"))
    parser.add_argument("--results", type=pathlib.Path, default=build / "natlab.jsonl")
    parser.add_argument("--html", type=pathlib.Path)
    parser.add_argument("--problems", type=pathlib.Path, help="where to write what berth-peer says of what is wrong")
    return parser.parse_args()


def main():
    args = arguments()
    kinds, line = args.kinds.split(","), line_of(args)
    results = tables.Results(args.results)
    pairs = list(itertools.combinations_with_replacement(kinds, 2))
    if args.cells:
        pairs = [tuple(pair.split("-")) for pair in args.cells.split(",")]
    cells = [(*pair, *line) for pair in pairs]
    run_all(cells, args, results)

    through_berth = args.through == "berth"
    legend = tables.DIALLED if through_berth else tables.PUNCHED
    made = [(legend, tables.table(kinds, results, line)[0])]
    if through_berth:
        made.append((tables.FIRST, tables.table(kinds, results, line, tables.first_bytes)[0]))
    title = f"{line[2]}, peers {4 * args.delay:g} ms apart, {100 * args.loss:g} % loss on each line"
    said = tables.groups(kinds, results, line) if through_berth else []
    print(f"\n{title}\n")
    for legend, rows in made:
        print(f"{legend}:\n\n{tables.as_text(rows)}")
    print("\n".join(said))
    if args.html:
        args.html.write_text(tables.as_html(made, title, said), encoding="utf-8")
    if args.problems:
        text = "".join(problems(cells, results))
        args.problems.write_text("\n".join(said) + "\n" + text, encoding="utf-8")
    wrong = [cell for cell in cells if not results.of(cell) or not tables.summary(results.of(cell))[1]]
    for cell in wrong:
        print(f"NOT AS IT SHOULD BE: {cell[0]} x {cell[1]}: {tables.summary(results.of(cell))[0]}")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
