"""What berth-peer offers and when, in the laboratory, with the real daemons: NATs that count, the first dial
of a daemon, consent to guessing, and a path that dies as soon as it is proven."""

import json
import pathlib

import pytest

from dialled import Pair, dial
from harness import wait_until
from lab import can_use_tun
from peered import Transfer

pytestmark = pytest.mark.skipif(not can_use_tun(), reason="needs /dev/net/tun")


@pytest.fixture
def pairs(orphans):  # pylint: disable=unused-argument
    made = []

    def make(a, b):
        made.append(Pair(a, b, delay_ms=5))
        return made[-1]

    yield make
    for pair in made:
        pair.close()


@pytest.mark.parametrize("a,b,plan", [("symseq", "symseq", "lockstep"), ("apdf", "symseq", "predict"),
                                      ("symseq", "linux", None)])
def test_nats_that_count_are_crossed_at_the_first_try(pairs, a, b, plan):
    outcome = dial(pairs(a, b))
    assert outcome.ok and outcome.tries == 1, outcome
    assert plan in (None, outcome.plan), outcome


def test_the_first_dial_of_a_daemon_knows_its_nat(pairs):
    pair = pairs("symseq", "apdf")
    outcome = dial(pair, cold=True)
    assert outcome.ok and outcome.tries == 1, outcome
    known = wait_until(lambda: list(pathlib.Path(pair.laptop.home).rglob("networks")), 5, "a file of networks")
    assert len(known[0].read_text(encoding="ascii").splitlines()) == 1
    known[0].write_bytes(b"\0garbage\n" * 1000)
    outcome = dial(pair, cold=True)
    assert outcome.ok, outcome


def test_nobody_guesses_without_consent(worlds):
    world = worlds("apdf", "sym")
    sender = world.home.run(["/usr/bin/python3", "-c", "import time; time.sleep(60)"])
    assert sender
    world.home.start("berthd")
    world.home.start("berth-peer", options=["--no-guessing"])
    world.laptop.start("berth-peer")
    world.home.publish("data", "127.0.0.1:7000", "--allow", "laptop")
    world.laptop.berth("dial", "home/data")

    def failed():
        why = json.loads(world.laptop.berth("why", "--json", "home/data").stdout or "{}")
        return [s["what"] for s in why.get("peer", []) if "no direct path" in s["what"]]

    wait_until(failed, 15, "the checks to end")
    why = json.loads(world.laptop.berth("why", "--json", "home/data").stdout)
    begun = [s["what"] for s in why["peer"] if "checks begin" in s["what"]]
    assert begun and all(s.endswith("plain") for s in begun), why["peer"]


def _only_small_between(world):
    """Checks get through, packets of QUIC do not."""
    world.lab.namespaces["core"].run(["nft", "-f", "-"], text=True, input="""
        table inet between {
          chain c {
            type filter hook forward priority 0;
            ip saddr 11.1.0.0/16 ip daddr 11.2.0.0/16 udp length > 60 drop
            ip saddr 11.2.0.0/16 ip daddr 11.1.0.0/16 udp length > 60 drop
            ip saddr 11.1.0.0/16 ip daddr 11.2.0.0/16 meta l4proto tcp drop
            ip saddr 11.2.0.0/16 ip daddr 11.1.0.0/16 meta l4proto tcp drop
          }
        }""")


def test_a_path_that_dies_when_it_is_proven_costs_no_byte(worlds):
    world = worlds("apdf", "apdf")
    _only_small_between(world)
    world.up()
    transfer = Transfer(world.laptop)
    transfer.more(10)
    steps = json.loads(world.laptop.good("why", "--json", "home/data"))["peer"]
    assert any("back to the relay" in s["what"] for s in steps), steps
    longest = max(transfer.more(3, 200000) for _ in range(10))
    assert longest < 2, "the session goes to the dead path again and again"
    assert world.laptop.path("home") == "relay"
    transfer.finish()


PORTS = """
table inet count {
  set ports { type inet_service; flags dynamic; size 256; }
  chain c { type filter hook output priority 0; udp dport 443 add @ports { udp sport }; }
}"""


def _ports_asked_from(host):
    """The ports from which this host has asked the server since PORTS was loaded."""
    said = json.loads(host.run(["nft", "-j", "list", "set", "inet", "count", "ports"],
                               capture_output=True, text=True).stdout)
    return said["nftables"][1]["set"].get("elem", [])


@pytest.mark.parametrize("a,fresh", [("adf", 0), ("apdf", 1)])
def test_a_port_is_looked_at_only_where_somebody_has_to_predict_it(pairs, a, fresh):
    pair = pairs(a, "symseq")
    pair.forget()
    pair.start_peers()
    pair.lab.b.run(["nft", "-f", "-"], text=True, input=PORTS)
    popen = pair.laptop.dialling("home/data")
    try:
        wait_until(lambda: (pair.session() or {}).get("path") == "direct", 15, "a direct path")
    finally:
        popen.kill()
        popen.wait(10)
    assert pair.session()["calls"] == 1
    # One is that of everything.
    assert len(_ports_asked_from(pair.lab.b)) == 1 + fresh


def test_a_greeted_connection_is_taken_by_a_later_call(pairs):
    pair = pairs("apdf", "udpblock")
    pair.forget()
    pair.start_peers()
    # The session's first packets, which go over the relay, do not get there for now.
    pair.lab.a.run(["nft", "-f", "-"], text=True, input="table inet late { chain c { type filter hook output "
                   "priority 0; udp length > 1100 drop; }; }")

    def greeted():
        return all("bytes_received:34 " in host.output(["ss", "-Htni", "state", "established"])
                   for host in (pair.lab.a, pair.lab.b))

    popen = pair.laptop.dialling("home/data")
    try:
        wait_until(greeted, 10, "a greeting in both directions")
        pair.cut_between()
        pair.lab.a.run(["nft", "delete", "table", "inet", "late"])
        wait_until(lambda: (pair.session() or {}).get("calls", 0) > 1, 10, "another call")
        pair.restore_between()
        wait_until(lambda: (pair.session() or {}).get("path") == "direct", 12, "a direct path")
    finally:
        popen.kill()
        popen.wait(10)
    session = pair.session()
    assert session["transport"] == "tcp" and session["calls"] <= 3, pair.laptop.good("why", "home")
