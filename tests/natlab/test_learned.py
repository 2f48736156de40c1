"""What worked between two NATs is what the next dial between such begins with."""

import dialled  # it knows the way to the following
from rendezvous import counters

SAYS = "most often between such NATs: "
DIALS = 4  # one call in 16 is told nothing


def _hint(pair):
    said = pair.laptop.good("why", "home/data").splitlines()
    return next((line.split(SAYS)[1] for line in said if SAYS in line), None)


def _dials(kinds, technique):
    pair = dialled.Pair(*kinds, delay_ms=5)
    try:
        outcomes, hints = [dialled.dial(pair)], [_hint(pair)]
        while hints[-1] is None and len(hints) < DIALS:
            outcomes.append(dialled.dial(pair))
            hints.append(_hint(pair))
        assert all(o.ok for o in outcomes), outcomes
        assert hints[0] is None and hints[-1] == technique, hints
        counted = counters(pair.server.proc)
        assert counted["worked." + technique] == len(outcomes), counted
    finally:
        pair.close()


def test_a_hint_says_what_worked_over_udp():
    _dials(("apdf", "symseq"), "predicted")


def test_a_hint_says_what_worked_where_there_is_no_udp():
    _dials(("udpblock", "linux"), "tcp")
