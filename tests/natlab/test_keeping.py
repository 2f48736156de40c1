"""NATs that forget what is idle: for how long they do not is measured, and paths and registrations are
kept for as long as they are wanted."""

import json

import pytest

from peered import LabWorld, Transfer, built_folder  # it knows the way to the following
from harness import wait_until

pytestmark = pytest.mark.usefixtures("orphans")
# Of what the two routers forget idle flows, in seconds.
LAPTOP_S, HOME_S = 8, 6


@pytest.fixture
def world(request):
    failed = request.session.testsfailed
    made = LabWorld(built_folder(), "linux", f"u:map=eim,filter=apdf,timeout_s={HOME_S}")
    made.lab.a.nats[0].run(["sysctl", "-qw", "net.netfilter.nf_conntrack_udp_timeout=3",
                            f"net.netfilter.nf_conntrack_udp_timeout_stream={LAPTOP_S}"])
    yield made
    if request.session.testsfailed > failed:
        for name, text in made.report():
            print(f"--- {name}\n{text}")
    made.close()


def keeping(peer):
    return json.loads(peer.good("peers", "--json"))["keeping"]


def measured(peer, seconds):
    """What is known as soon as a rest was too long."""
    def known():
        now = keeping(peer)
        return now if now["dead_ms"] else None
    return wait_until(known, seconds, "a rest that was too long")


def first_bytes(peer):
    """A dial until its first bytes come; how long that took."""
    transfer = Transfer(peer)
    taken = transfer.more(5, 16384)
    transfer.finish()
    return taken


def test_nats_that_forget_after_seconds_lose_no_idle_peer(world):
    world.up()
    first_bytes(world.laptop)
    world.wait_path("direct")
    falls = world.laptop.peers()["home"]["falls"]
    # Both are idle now. The first rests of the ladder are 5 and 10 seconds.
    for peer, lifetime_s in (world.home, HOME_S), (world.laptop, LAPTOP_S):
        known = measured(peer, 30)
        print(f"{peer.name}: {known}")
        assert known["alive_ms"] == 5000 and lifetime_s * 1000 <= known["dead_ms"] <= 12500
        assert known["interval_ms"] == 5000
    assert world.laptop.path("home") == "direct"
    assert world.laptop.peers()["home"]["falls"] == falls
    # Who was idle for so long is called by somebody who has no session yet.
    world.laptop.kill()
    world.laptop.start("berth-peer")
    taken = first_bytes(world.laptop)
    print(f"called after that: first bytes after {taken:.2f} s")
    assert taken < 2
