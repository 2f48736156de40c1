"""berth-peer has its router map its ports: what was relayed goes directly then, and every state of a
mapping has its words."""

import contextlib
import json
import os
import pathlib
import signal
import tempfile

import pytest

import igd
from peered import LabWorld, built_folder  # it knows the way to the following
from harness import wait_until

pytestmark = pytest.mark.usefixtures("orphans")


@contextlib.contextmanager
def _world(a, b, side="a", **router):
    """With a router that maps ports on this side when there are words for one; the laptop is a, and dials."""
    with tempfile.TemporaryDirectory(prefix="natlab-") as folder:
        world = LabWorld(built_folder(), a, b)
        try:
            if router:
                igd.start(getattr(world.lab, side), folder, **router)
            yield world
        except BaseException:
            for name, text in world.report():
                print(f"--- {name}\n{text}")
            raise
        finally:
            world.close()


def _mapping(peer):
    return json.loads(peer.good("why", "--json"))["here"]["port_mapping"]


def _settled(peer):
    wait_until(lambda: _mapping(peer)["state"] not in ("waiting", "asking"), 15, "the mapping")
    return _mapping(peer)


@pytest.mark.parametrize("router", [{"upnp": "no"}, {"natpmp": "no"}], ids=["pcp", "upnp"])
def test_two_symmetric_nats_go_directly_when_one_maps_a_port(router):
    with _world("sym", "sym", **router) as world:
        world.up()
        assert world.laptop.dialling("home/data").stdout.read(1000)
        taken = world.wait_path("direct", 10)
        print(f"direct after {taken:.2f} s")
        assert _mapping(world.laptop)["state"] == "mapped"
        world.laptop.good("peers", "stop")
        wait_until(lambda: "dnat" not in igd.mapped(world.lab.a), 10, "the port given back")


def test_the_side_that_is_dialled_maps_a_port():
    with _world("sym", "sym", "b", natpmp="no") as world:
        world.up()
        assert world.laptop.dialling("home/data").stdout.read(1000)
        print(f"direct after {world.wait_path('direct', 10):.2f} s")


def test_an_outer_address_that_is_a_carriers_is_useless():
    with _world("sym", "sym") as world:
        igd.start_useless(world.lab.a)
        world.up()
        assert world.laptop.dialling("home/data").stdout.read(1000)
        mapping = _settled(world.laptop)
        assert mapping["state"] == "useless"
        assert mapping["udp"]["address"].startswith("100.64.7.7:")
        wait_until(lambda: "your carrier's NAT is symmetric" in world.laptop.good("why", "home/data"), 10, "the advice")
        assert world.laptop.path("home") == "relay"


def test_a_silent_router_takes_nothing_away():
    with _world("sym", "sym") as world:
        world.up()
        assert world.laptop.dialling("home/data").stdout.read(1000)
        assert _settled(world.laptop)["state"] == "silent"
        said = world.laptop.good("why", "home/data")
        assert "enable NAT-PMP, PCP or UPnP on 10.16.0.1" in said
        assert "both NATs are symmetric: the relay will be used" in said
        assert world.laptop.path("home") == "relay"


# What `berth why` says of a pair: the NATs of both sides (the other one's filter may not have been known when it
# made its offer), the path, and what would help.
PAIRS = [
    ("linux", "apdf", "eim/apdf/keep", ("eim", "random"), "udp", set()),
    ("udpblock", "pub", "blocked", ("none", ""), "tcp", {"AllowUdpHere"}),
    ("apdf", "sym", "eim/apdf/random", ("apdm", "random"), "udp", set()),
]


def _way(why):
    session = why["session"]
    return session["transport"] if session["path"] == "direct" else None


@pytest.mark.parametrize("a,b,here,there,way,words", PAIRS, ids=lambda v: v if isinstance(v, str) else "")
def test_why_names_both_nats_the_pairs_and_what_would_help(a, b, here, there, way, words):
    with _world(a, b) as world:
        world.up()
        assert world.laptop.dialling("home/data").stdout.read(1000)

        def why():
            got = json.loads(world.laptop.good("why", "--json", "home/data"))
            given = {one["word"] for one in got["advice"]}
            done = (_way(got) == way and given >= words and got.get("there", {}).get("nat", {}) and
                    got["here"]["nat"]["fingerprint"].startswith(here))
            return got if done else None

        got = wait_until(why, 20, "the whole answer")
        mapping, _, allocation = got["there"]["nat"]["fingerprint"].split("/")
        assert mapping == there[0] and allocation.startswith(there[1])
        if way == "udp":
            assert got["advice"] == []
        tried = [p for one in got["attempts"] for p in one["pairs"]]
        assert any(p["sent"] for p in tried)
        if way:
            assert any(p["proven"] and p["transport"] == way for p in tried)
        text = world.laptop.good("why", "home/data")
        for part in "NATs", "attempts, the newest first", got["here"]["nat"]["words"]:
            assert part in text


def test_a_helper_that_dies_takes_only_upnp_away():
    with _world("sym", "sym", upnp="no") as world:
        world.up()
        pid = world.laptop.daemons["berth-peer"].pid
        helpers = pathlib.Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="ascii").split()
        assert len(helpers) == 1
        os.kill(int(helpers[0]), signal.SIGKILL)
        assert world.laptop.dialling("home/data").stdout.read(1000)
        assert _settled(world.laptop)["udp"]["by"] == "pcp"
        world.wait_path("direct", 10)


def test_no_router_is_asked_where_it_is_not_wanted():
    with _world("sym", "sym", upnp="no") as world:
        world.up()
        world.laptop.kill()
        peer = world.laptop.run([f"{world.build}/berth-peer", "--no-port-mapping"])
        wait_until(lambda: "ready" in peer.output(), 10, "berth-peer")
        assert world.laptop.dialling("home/data").stdout.read(1000)
        assert _mapping(world.laptop) == {"state": "off"}
        assert "dnat" not in igd.mapped(world.lab.a)
