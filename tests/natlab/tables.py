"""What the matrix is made of: which pairs can be passed, the results file, and the tables."""

import collections
import html
import json
import statistics
import threading

SYMMETRIC = {"adm", "sym", "symseq", "cgnsym", "v6fw"}
BLOCKED = {"udpblock", "tcp443"}
EIM = {"pub", "eif", "adf", "apdf", "linux", "linuxrej", "linuxopen", "cgn"}


def _by_tcp(a, b):
    # Who has random ports has to be let in as it comes, or has its ports guessed where UDP is blocked.
    behind = {a, b} & SYMMETRIC - {"symseq"}
    return "tcp443" not in (a, b) and (not behind or bool({a, b} & {"pub", "eif", "adf", "udpblock"}))


def _by_ipv6(a, b):
    # Where one has it all have it, but no carrier in this lab; and nobody blocks anything there.
    return "v6fw" in (a, b) and not {a, b} & {"cgn", "cgnsym"}


def _by_udp(a, b):
    if _by_ipv6(a, b):
        return True
    if BLOCKED & {a, b}:
        return False
    if {a, b} <= SYMMETRIC:
        return a == b == "symseq"
    return True


def possible(a, b, transport="udp"):
    """Whether UDP (or TCP, or whichever: "berth") can pass directly between these two at all."""
    if b == "samecgn":
        return a.endswith("+hp")  # from one home to the other the carrier has to turn it round
    return _by_udp(a, b) or (transport.startswith("berth") and _by_tcp(a, b))


def guessed(a, b):
    """Whether a port has to be guessed among many, or predicted, for this pair."""
    if _by_ipv6(a, b) or {a, b} & {"pub", "eif", "adf"}:
        return False
    return bool({a, b} & SYMMETRIC) and possible(a, b)


class Results:
    """The lines of the file, by cell: (a, b, delay, loss, over what)."""

    def __init__(self, path):
        self.path = path
        self.lock = threading.Lock()
        self.cells = collections.defaultdict(list)
        for line in path.read_text(encoding="utf-8").splitlines() if path.exists() else []:
            run = json.loads(line)
            self.cells[tuple(run["cell"])].append(run)

    def of(self, cell):
        return self.cells.get(cell, [])

    def add(self, cell, run):
        run = {"cell": cell, **run}
        with self.lock:
            self.cells[cell].append(run)
            with open(self.path, "a", encoding="utf-8") as f:
                f.write(json.dumps(run) + "\n")


def percentile(values, share):
    values = sorted(values)
    return values[min(len(values) - 1, int(len(values) * share))]


def _times(values):
    text = f"{statistics.median(values):.0f}"
    return text + (f"/{percentile(values, 0.9):.0f}" if len(values) > 1 else "")


PLANS = {"plain": "", "predict": "P ", "lockstep": "PP ", "birthday-probe": "B ", "birthday-sockets": "B "}


def _technique(run):
    """The letters before the times."""
    if run.get("transport") == "tcp":
        return "T "
    # The side that has opened many sees the guess come from somewhere.
    through_berth = "first_ms" in run
    if run["kind"] == "guessed" or run.get("guesses") or through_berth and run["kind"] == "peer-reflexive":
        return PLANS.get(run["plan"], "")
    return ""


def summary(runs):
    """(text of a cell, was every run as it should be)"""
    if not runs:
        return "", True
    a, b, _, _, over = runs[0]["cell"]
    good = [r for r in runs if r["ok"]]
    lost = sum(not r.get("connected", True) for r in runs)
    silent = f" {lost} NOT CONNECTED" if lost else ""
    if not good:
        return "relay" + silent, not lost and (not possible(a, b, over) or over == "ice")
    technique = collections.Counter(map(_technique, good)).most_common(1)[0][0]
    text = technique + _times([r["ms"] for r in good])
    again = sum(r["tries"] > 1 for r in good)
    text += f" ({again} again)" if again else ""
    if len(good) < len(runs):
        text += f" {len(good)} of {len(runs)}"
    # Beyond theory luck decides: there some runs may stay on the relay.
    right = len(good) == len(runs) or over == "ice" or not possible(a, b, over)
    return text + silent, right and not lost


def first_bytes(runs):
    """As summary(), of the first byte of the service at the dialler."""
    times = [r["first_ms"] for r in runs if r.get("connected")]
    return _times(times) if times else "", True


LEGEND = ("median/p90 in ms {since} until {until}; P: the next port predicted, PP: by both sides, B: "
          "guessed among many, T: over TCP; relay: no direct path; again: runs that took a second introduction")
PUNCHED = LEGEND.format(since="from the agreed moment", until="both sides have proven a direct path")
DIALLED = LEGEND.format(since="from the dial", until="the session's packets go directly")
FIRST = "median/p90 in ms from the start of `berth dial` until the service's first byte was there"


def table(kinds, results, line, cell=summary):
    """Rows of texts, and the cells that are not as they should be."""
    rows, bad = [["", *kinds]], []
    for i, a in enumerate(kinds):
        row = [a]
        for j, b in enumerate(kinds):
            text, right = cell(results.of((a, b, *line))) if j >= i else ("", True)
            row.append(text)
            if not right:
                bad.append((a, b, text))
        rows.append(row)
    return rows, bad


def _spread(values):
    return (f"median {statistics.median(values):.0f}, p90 {percentile(values, 0.9):.0f}, "
            f"p99 {percentile(values, 0.99):.0f} ms, {len(values)} runs")


def groups(kinds, results, line):
    """One line for each group of cells that the same can be asked of."""
    found = collections.defaultdict(list)
    for i, a in enumerate(kinds):
        for b in kinds[i:]:
            runs = results.of((a, b, *line))
            direct = [r["ms"] for r in runs if r["ok"]]
            found["the dialler's first byte at the service"] += [r["there_ms"] for r in runs if r.get("there_ms")]
            found["the first byte"] += [r["first_ms"] for r in runs if r.get("connected")]
            if {a, b} <= EIM:
                found["direct, one port for everybody on both sides"] += direct
            elif guessed(a, b):
                found["direct, with a port guessed or predicted"] += direct
            elif BLOCKED & {a, b} and not _by_ipv6(a, b):
                found["direct, without UDP"] += direct
            else:
                found["direct, the others"] += direct
    return [f"{name}: {_spread(values)}" for name, values in found.items() if values]


def as_text(rows):
    return "".join("| " + " | ".join(row) + " |\n" + ("|---" * len(row) + "|\n" if i == 0 else "")
                   for i, row in enumerate(rows))


def as_html(tables, title, lines):
    """`tables`: legends and rows."""
    text = ""
    for legend, rows in tables:
        cells = "".join("<tr>" + "".join(f"<td>{html.escape(c)}</td>" for c in row) + "</tr>\n" for row in rows)
        text += f"<p>{html.escape(legend)}</p><table>{cells}</table>\n"
    said = "".join(f"<li>{html.escape(line)}</li>" for line in lines)
    return ("<!doctype html><meta charset=utf-8><title>NAT matrix</title><style>td{border:1px solid #ccc;padding:2px 6px;"
            f"font:12px monospace}}</style><h1>{html.escape(title)}</h1><ul>{said}</ul>{text}\n")
