"""src/punch behind real NATs: the pairs that differ most in what they need. `make natlab` has them all."""

import concurrent.futures

import pytest

import tables
import punching
from lab import Lab

# kinds of a and b, loss, by what the path was found
CELLS = [
    ("pub", "sym", 0, "plain"),
    ("eif", "adf", 0, "plain"),
    ("apdf", "apdf", 0.05, "plain"),
    ("linux", "linuxrej", 0, "plain"),
    ("linuxopen", "linuxopen", 0, "plain"),
    ("cgn", "cgn", 0, "plain"),
    ("v6fw", "v6fw", 0, None),
    ("symseq", "symseq", 0, "lockstep"),
    ("apdf", "symseq", 0, "predict"),
    ("apdf", "sym", 0, "birthday-probe"),
    ("linux", "cgnsym", 0.05, "birthday-probe"),
    ("apdf", "same", 0, "plain"),
    ("sym", "adm", 0, None),
    ("udpblock", "pub", 0, None),
    ("linuxopen", "sym", 0.05, "birthday-probe"),
]


def _outcome(cell):
    a, b, loss, _ = cell
    with Lab(a, b, delay_ms=10, loss=loss) as lab:
        _, folder = punching.start_server(lab)
        with folder:
            return punching.connect(lab, 3)


@pytest.fixture(scope="session")
def outcomes():
    with concurrent.futures.ThreadPoolExecutor(5) as pool:
        return dict(zip(CELLS, pool.map(_outcome, CELLS)))


@pytest.mark.parametrize("cell", CELLS, ids=lambda c: "-".join(c[:2]))
def test_a_path_is_found_where_one_is_possible(outcomes, cell):
    outcome = outcomes[cell]
    assert outcome.ok == tables.possible(*cell[:2]), "\n".join(outcome.said)
    if outcome.ok and cell[3]:
        assert outcome.plan == cell[3]
    if outcome.ok and outcome.plan == "plain" and not cell[2]:
        assert outcome.ms < 400  # 40 ms apart, and the machine may be busy
