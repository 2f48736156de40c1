#!/usr/bin/python3
"""Every pair of NATs, several times: which are passed, by what, how fast. Results go to a file, one line
for each run, and a run that is in it is not done again: break off and go on as you like.

    matrix.py [--over udp|tcp|ice] [--runs 10] [--delay 10] [--loss 0] [--kinds pub,apdf,...] [--results FILE] [--html FILE]"""

import argparse
import concurrent.futures
import html
import itertools
import json
import os
import pathlib
import statistics
import sys
import threading
import time

import punching
import rules
from lab import ROOT, Lab, LabError

SYMMETRIC = {"adm", "sym", "symseq", "cgnsym", "v6fw"}
BLOCKED = {"udpblock", "tcp443"}


def possible(a, b, transport="udp"):
    """Whether UDP (or TCP) can pass directly between these two at all."""
    if transport == "tcp":
        # Nobody guesses over TCP: whoever is symmetric has to be let in as it comes.
        behind = {a, b} & SYMMETRIC
        return "tcp443" not in (a, b) and (not behind or bool({a, b} & {"pub", "eif", "adf"}))
    if BLOCKED & {a, b}:
        return False
    if a == b == "v6fw":
        return True  # over IPv6
    if {a, b} <= SYMMETRIC:
        return a == b == "symseq"
    return True


class Results:
    """The lines of the file, by cell."""

    def __init__(self, path):
        self.path = path
        self.lock = threading.Lock()
        self.cells = {}
        for line in path.read_text(encoding="utf-8").splitlines() if path.exists() else []:
            run = json.loads(line)
            self.cells.setdefault(tuple(run["cell"]), []).append(run)

    def of(self, cell):
        return self.cells.get(cell, [])

    def add(self, cell, outcome):
        run = {"cell": cell, "ok": outcome.ok, "ms": outcome.ms, "plan": outcome.plan, "kind": outcome.kind,
               "tries": outcome.tries, "guesses": outcome.guesses, "reason": outcome.reason}
        with self.lock:
            self.cells.setdefault(cell, []).append(run)
            with open(self.path, "a", encoding="utf-8") as f:
                f.write(json.dumps(run) + "\n")


def run_cell(cell, runs, results):
    """Fills one cell in one lab. An impossible one is tried twice."""
    a, b, delay, loss, *transport = cell
    wanted = runs if possible(a, b, *transport) else min(runs, 2)
    if len(results.of(cell)) >= wanted:
        return
    with Lab(a, b, delay_ms=delay, loss=loss) as lab:
        _, folder = punching.start_server(lab)
        with folder:
            while len(results.of(cell)) < wanted:
                results.add(cell, punching.connect(lab, 3, *transport))
                for host in (lab.a, lab.b):
                    host.flush_nat()  # a block of 512 ports would be used up after eight runs


def percentile(values, share):
    values = sorted(values)
    return values[min(len(values) - 1, int(len(values) * share))]


def summary(runs):
    """(text of a cell, was every run as it should be)"""
    if not runs:
        return "", True
    a, b, _, _, *transport = runs[0]["cell"]
    good = [r for r in runs if r["ok"]]
    if not good:
        return "relay", not possible(a, b, *transport) or transport == ["ice"]
    plan = {"plain": "", "predict": "P ", "lockstep": "PP ", "birthday-probe": "B ", "birthday-sockets": "B "}
    guessed = good[0]["kind"] == "guessed" or any(r["guesses"] for r in good)
    text = f"{plan.get(good[0]['plan'], '') if guessed else ''}{statistics.median(r['ms'] for r in good):.0f}"
    if len(good) > 1:
        text += f"/{percentile([r['ms'] for r in good], 0.9):.0f}"
    again = sum(r["tries"] > 1 for r in good)
    text += f" ({again} again)" if again else ""
    if len(good) < len(runs):
        text += f" {len(good)} of {len(runs)}"
    return text, len(good) == len(runs) or transport == ["ice"]


LEGEND = ("median/p90 in ms from the agreed moment until both sides have proven a direct path; P: the next "
          "port predicted, PP: by both sides, B: guessed among many; relay: no direct path; again: runs that took a "
          "second introduction")


def table(kinds, results, line):
    """Rows of texts, and the cells that are not as they should be."""
    rows, bad = [["", *kinds]], []
    for i, a in enumerate(kinds):
        row = [a]
        for j, b in enumerate(kinds):
            text, right = summary(results.of((a, b, *line))) if j >= i else ("", True)
            row.append(text)
            if not right:
                bad.append((a, b, text))
        rows.append(row)
    return rows, bad


def as_text(rows):
    return "".join("| " + " | ".join(row) + " |\n" + ("|---" * len(row) + "|\n" if i == 0 else "")
                   for i, row in enumerate(rows))


def as_html(rows, title):
    cells = "".join("<tr>" + "".join(f"<td>{html.escape(c)}</td>" for c in row) + "</tr>\n" for row in rows)
    return ("<!doctype html><meta charset=utf-8><title>NAT matrix</title><style>td{border:1px solid #ccc;padding:2px 6px;"
            f"font:12px monospace}}</style><h1>{html.escape(title)}</h1><p>{LEGEND}</p><table>{cells}</table>\n")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--over", choices=["udp", "tcp", "ice"], default="udp",
                        help="ice: another program's agent (python3-aioice) instead, to compare")
    parser.add_argument("--runs", type=int, default=10)
    parser.add_argument("--delay", type=float, default=10, help="ms one way over each line: peers are four times that apart")
    parser.add_argument("--loss", type=float, default=0.0, help="share of packets that each line loses")
    parser.add_argument("--kinds", default=",".join(rules.KINDS))
    parser.add_argument("--jobs", type=int, default=3, help="cells at a time; they mostly wait")
    build = pathlib.Path(os.environ.get("BERTH_BUILD", ROOT / "build"))
    parser.add_argument("--results", type=pathlib.Path, default=build / "natlab.jsonl")
    parser.add_argument("--html", type=pathlib.Path)
    args = parser.parse_args()
    kinds = args.kinds.split(",")
    line = (args.delay, args.loss) + ((args.over,) if args.over != "udp" else ())
    results = Results(args.results)
    cells = [(a, b, *line) for a, b in itertools.combinations_with_replacement(kinds, 2)]
    began = time.monotonic()
    with concurrent.futures.ThreadPoolExecutor(args.jobs) as pool:
        jobs = {pool.submit(run_cell, cell, args.runs, results): cell for cell in cells}
        try:
            for n, job in enumerate(concurrent.futures.as_completed(jobs), 1):
                job.result()
                cell = jobs[job]
                print(f"[{n}/{len(cells)} {time.monotonic() - began:.0f} s] {cell[0]} x {cell[1]}: "
                      f"{summary(results.of(cell))[0]}", flush=True)
        except BaseException as e:  # also Ctrl-C: what runs is finished, the rest is for another time
            pool.shutdown(cancel_futures=True)
            if isinstance(e, LabError):
                sys.exit(f"lab: {e}")
            raise
    rows, bad = table(kinds, results, line)
    title = f"{args.over}, peers {4 * args.delay:g} ms apart, {100 * args.loss:g} % loss on each line"
    print(f"\n{title}; {LEGEND}\n\n{as_text(rows)}")
    if args.html:
        args.html.write_text(as_html(rows, title), encoding="utf-8")
    for a, b, text in bad:
        print(f"NOT AS IT SHOULD BE: {a} x {b}: {text}")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
