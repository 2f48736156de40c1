"""What changes while a session rests: a callee that moves, and one that no server knows any more."""

import time

from peered import Transfer  # it knows the way to the following
from harness import wait_until

UNREACHABLE = """
table inet away {
 chain c {
  type filter hook forward priority 0;
  ip saddr 11.2.0.0/16 ip daddr 11.0.0.0/24 drop
  ip daddr 11.2.0.0/16 ip saddr 11.0.0.0/24 drop
 }
}
"""


def _calls(world):
    return world.laptop.peers()["home"]["session"]["calls"]


def _why(world):
    return world.laptop.good("why", "home/data")


def test_a_callee_that_moves_is_called_again_however_long_the_caller_rests(worlds):
    world = worlds("sym", "sym").up()
    transfer = Transfer(world.laptop)
    transfer.more(10)
    # Two introductions have failed: the next one would be a minute later.
    wait_until(lambda: _calls(world) == 2 and "both NATs" in _why(world), 20, "the rest")
    world.lab.b.switch_network("pub")
    taken = world.wait_path("direct", 20)
    print(f"direct after {taken:.2f} s")
    assert "it asks for a call" in _why(world)
    transfer.finish()


def test_who_is_at_no_server_is_called_more_and_more_rarely(worlds):
    world = worlds("apdf", "linux").up()
    transfer = Transfer(world.laptop)
    transfer.more(10)
    world.wait_path("direct")
    world.lab.namespaces["core"].run(["nft", "-f", "-"], text=True, input=UNREACHABLE)
    world.server.kill()
    world.server.start()
    wait_until(lambda: "NotRegistered" in _why(world), 20, "a call in vain")
    begun, before = time.monotonic(), _calls(world)
    wait_until(lambda: _calls(world) >= before + 2, 20, "two more calls")
    assert time.monotonic() - begun > 5
    assert world.laptop.path("home") == "direct"
    transfer.finish()
