"""A direct path that dies is noticed, and what it carried goes on over the relay, within seven seconds:
also when nothing was going on, when one direction alone is dead, and when the path was over TCP."""

import pytest

from peered import Transfer

# Within this; the machine may be busy.
LIMIT, BUSY = 7, 1.5
SIDES = {"a": "11.1.0.0/16", "b": "11.2.0.0/16"}


def direct(world):
    transfer = Transfer(world.laptop)
    transfer.more(10)
    world.wait_path("direct")
    transfer.more(5)
    return transfer


def goes_on(world, transfer, what):
    # More than may be under way without an acknowledgement.
    taken = transfer.more(LIMIT + BUSY, 2000000)
    print(f"{what}: went on after {taken:.2f} s")
    assert world.laptop.path("home") == "relay"
    transfer.finish()


def test_a_path_that_died_while_idle_delays_a_dial_by_seconds_only(worlds):
    world = worlds("apdf", "linux").up()
    direct(world).finish()
    world.cut_between()
    goes_on(world, Transfer(world.laptop), "a dial over a path that had died idle")


@pytest.mark.parametrize("source", ["a", "b"])
def test_one_dead_direction_is_enough(worlds, source):
    world = worlds("apdf", "linux").up()
    transfer = direct(world)
    to = "b" if source == "a" else "a"
    world.cut(f"ip saddr {SIDES[source]} ip daddr {SIDES[to]} drop")
    goes_on(world, transfer, f"nothing from {source} to {to}")


def test_a_path_over_tcp_that_dies(worlds):
    world = worlds("udpblock", "pub").up()
    transfer = direct(world)
    assert world.laptop.peers()["home"]["session"]["transport"] == "tcp"
    world.cut_between()
    goes_on(world, transfer, "TCP that died")
