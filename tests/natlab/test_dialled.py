"""`berth dial` behind real NATs: the pairs that differ most in what they need. `make natlab` has them all,
with their times."""

import concurrent.futures

import pytest

import dialled
import tables

# kinds of a and b, loss, over what it goes directly, and what was done about ports where that is certain
CELLS = [
    ("apdf", "apdf", 0, "udp", "plain"),
    ("linux", "linuxopen", 0.05, "udp", "plain"),
    ("apdf", "symseq", 0, "udp", "predict"),
    ("linux", "sym", 0, "udp", "birthday-probe"),
    ("symseq", "symseq", 0, "udp", "lockstep"),
    ("v6fw", "v6fw", 0, "udp", None),
    ("udpblock", "linux", 0, "tcp", None),
    ("udpblock", "sym", 0, "tcp", "birthday-probe"),
    ("udpblock", "cgnsym", 0, "tcp", "birthday-probe"),
    ("tcp443", "linux", 0, "", None),
    ("sym", "sym", 0, "", None),
]
# The machine may be busy: only what is far beyond that is wrong.
FIRST_BYTE_MS, DIRECT_MS = 3000, 10000


def _outcome(cell):
    a, b, loss, *_ = cell
    pair = dialled.Pair(a, b, delay_ms=10, loss=loss)
    try:
        return dialled.dial(pair, tables.possible(a, b, "berth"))
    finally:
        pair.close()


@pytest.fixture(scope="module")
def outcomes():
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        return dict(zip(CELLS, pool.map(_outcome, CELLS)))


@pytest.mark.parametrize("cell", CELLS, ids=lambda c: "-".join(c[:2]))
def test_a_dial_goes_directly_wherever_it_can(outcomes, cell):
    outcome, (a, b, _, transport, plan) = outcomes[cell], cell
    assert outcome.connected, f"{outcome.reason}\n{outcome.why}"
    assert outcome.first_ms < FIRST_BYTE_MS
    assert bool(transport) == tables.possible(a, b, "berth")
    assert outcome.ok == bool(transport), outcome.why
    assert outcome.transport == transport
    if transport:
        assert outcome.ms < DIRECT_MS
    if plan:
        assert outcome.plan == plan
