"""Both sides begin at once, however far from the server they are; and what comes too early dies on its way."""

import dataclasses
import statistics

import pytest

import dialled
from tap import Tap, is_probe

APART_MS = 5
RUNS = 3
# Passes the own NAT, and no other.
OPENER_TTL = 4


@dataclasses.dataclass
class Fired:
    """One dial, seen at both hosts and at both NATs."""
    kind: str
    outcome: dialled.Dialled
    a: list
    b: list
    arrived: dict  # side -> what came to its NAT from outside

    def apart_ms(self):
        return abs(self.a[0].at - self.b[0].at) * 1000


def _probes(tap, outgoing):
    return [p for p in tap.look() if p.outgoing == outgoing and is_probe(p)]


def _to_public(packets):
    return [p for p in packets if p.target[0].startswith("11.")]


def _fire(pair):
    hosts = {"a": pair.lab.a, "b": pair.lab.b}
    inner = {side: Tap(host, "eth0") for side, host in hosts.items()}
    outer = {side: Tap(host.nats[-1], "wan") for side, host in hosts.items()}
    try:
        outcome = dialled.dial(pair)
        sent = {side: _to_public(_probes(tap, True)) for side, tap in inner.items()}
        arrived = {side: _probes(tap, False) for side, tap in outer.items()}
        return Fired(pair.lab.a.kind, outcome, sent["a"], sent["b"], arrived)
    finally:
        for tap in (*inner.values(), *outer.values()):
            tap.close()


@pytest.fixture(scope="module", params=[("apdf", 10, 10), ("linuxopen", 10, 40), ("linuxopen", 40, 10)],
                ids=lambda p: "-".join(map(str, p)))
def fired(request):
    kind, *delays = request.param
    pair = dialled.Pair(kind, kind, delay_ms=delays)
    try:
        yield [_fire(pair) for _ in range(RUNS)]
    finally:
        pair.close()


def test_both_sides_fire_at_once(fired):
    assert all(f.outcome.ok for f in fired), [f.outcome for f in fired]
    apart = [f.apart_ms() for f in fired]
    print(f"first probes apart: {', '.join(f'{ms:.2f}' for ms in apart)} ms")
    assert statistics.median(apart) < APART_MS


def test_no_probe_comes_to_a_nat_that_is_not_open_yet(fired):
    for f in fired:
        ttls = [[p.ttl for p in sent[:4]] for sent in (f.a, f.b)]
        if f.kind == "linuxopen":
            assert ttls[0][0] <= OPENER_TTL and ttls[1][0] <= OPENER_TTL, ttls
        for side, own in (("a", f.a), ("b", f.b)):
            early = [p for p in f.arrived[side] if p.at < own[0].at]
            assert not early, f"{len(early)} probes before {side} had opened its NAT, {ttls}"
