"""The benchmarks run at all, and measure something of everything; what they measure is not judged."""

import os
import subprocess
import sys

import pytest

pytestmark = pytest.mark.berth_only
BENCH = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "bench")


def run(build, script, *options, seconds=240):
    done = subprocess.run([sys.executable, os.path.join(BENCH, script), "--build", build, *options],
                          capture_output=True, text=True, timeout=seconds, check=False,
                          stdin=subprocess.DEVNULL)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(autouse=True)
def built(build):
    if not os.access(os.path.join(build, "bench", "load"), os.X_OK):
        pytest.skip("the benchmarks' programs are not built")


def test_a_round_of_the_fronts(build):
    out = run(build, "run.py", "--rounds", "1", "--seconds", "0.2", "--held", "50", "--only",
              "berth")
    row = next(line for line in out.splitlines() if line.startswith("| berth "))
    assert "–" not in row.split("|")[3], out


@pytest.mark.parametrize("part, found", [
    ("loss", "| Nothing lost, short connections: kill -9 of berthd, every second | "),
    ("demand", "| bench/worker | "),
    ("parked", "| of them parked in the pool's queue | 200 |"),
    ("routes", "| reload with one changed, s | "),
    ("unequal", "| berth, a pool of two | "),
])
def test_a_part_of_the_life_cycle(build, part, found):
    out = run(build, "lifecycle.py", "--smoke", "--only", part)
    assert found in out, out
    assert "not measured: " not in out, out


def test_the_rendezvous_server_and_its_relay(build):
    out = run(build, "rendezvous.py", "--smoke")
    assert "| refreshes | " in out and "| 16 together | " in out, out
    assert "not measured" not in out, out
