"""The daemons and the command line through real NATs: unmodified programs are published on one side and
used from the other, and what carries them is killed, flushed, cut and moved while they are at it."""

import re
import time

import pytest

from peered import Transfer  # it knows the way to the following
from harness import wait_until
from peers import started
from programs import Postgresql, Redis, Sshd

# A dead path is noticed and what it carried goes on within this; the machine may be busy.
LIMIT, GONE, BUSY = 7, 11, 1.5
PAIRS = [("apdf", "linux", "direct"), ("udpblock", "pub", "direct"), ("sym", "sym", "relay"),
         ("pub", "pub", "direct")]
HINDRANCES = {"udpblock": "UDP does not pass here", "sym": "both NATs"}


@pytest.fixture(scope="module", autouse=True)
def no_template_left():
    yield
    Postgresql.forget_template()


@pytest.fixture
def moving(worlds):
    """A transfer on a direct path through two NATs."""
    world = worlds("apdf", "linux").up()
    world.transfer = Transfer(world.laptop)
    world.transfer.more(10)
    world.wait_path("direct")
    world.transfer.more(5)
    return world


# Programs ----------------------------------------------------------------------------------------


def _ssh(laptop, folder):
    return laptop.command(
        ["ssh", "-F", "/dev/null", "-i", f"{folder}/id", "-o", "ProxyCommand=berth dial home/ssh", "-o",
         "StrictHostKeyChecking=no", "-o", f"UserKnownHostsFile={laptop.home}/hosts", "-o",
         "BatchMode=yes", "home", "echo logged in; head -c 300000 /dev/zero | wc -c"])


@pytest.mark.parametrize("a,b,path", PAIRS, ids=lambda v: str(v))
def test_unmodified_programs_are_used_through_nats(worlds, tmp_path, a, b, path):
    world = worlds(a, b)
    home, laptop = world.home, world.laptop
    home.start("berthd", "berth-peer")
    laptop.start("berth-peer")
    (tmp_path / "page").write_text("from home\n" * 30000, encoding="ascii")
    home.run(["/usr/bin/python3", "-m", "http.server", "--bind", "127.0.0.1", "--directory",
              str(tmp_path), "7001"])
    home.publish("web", "127.0.0.1:7001", "--allow", "laptop")
    _, port, folder = started(home, Sshd())
    home.publish("ssh", port, "--allow", "laptop")
    for name, program in (("redis", Redis()), ("postgres", Postgresql())):
        home.publish(name, started(home, program)[1], "--allow", "laptop")

    done = _ssh(laptop, folder)
    assert done.stdout.split() == [b"logged", b"in", b"300000"], done.stderr
    if path == "direct":
        world.wait_path("direct")
    for port, service in (8080, "web"), (8081, "redis"), (8082, "postgres"):
        laptop.forwarding(f"127.0.0.1:{port}", f"home/{service}")
    done = laptop.command(["curl", "-sS", "-m", "10", "http://127.0.0.1:8080/page"])
    assert done.stdout == (tmp_path / "page").read_bytes(), done.stderr
    done = laptop.command(["redis-cli", "-p", "8081", "set", "a", "b"])
    assert done.stdout == b"OK\n", done.stderr
    done = laptop.command(["psql", "-h", "127.0.0.1", "-p", "8082", "-U", "postgres", "-Atc",
                           "select 6*7"])
    assert done.stdout == b"42\n", done.stderr
    assert laptop.path("home") == path
    reason = HINDRANCES.get(a, "there is no better one")
    wait_until(lambda: reason in laptop.good("why", "home/web"), 20, f"`berth why` to say: {reason}")


# Faults in mid-transfer --------------------------------------------------------------------------


def _registered(peer):
    return '"registered"' in peer.good("publish", "--json")


def test_kill_of_the_server_stops_no_transfer(moving):
    moving.server.kill()
    moving.transfer.more(2, 2000000)
    moving.server.start()
    moving.transfer.finish()
    for peer in (moving.home, moving.laptop):
        wait_until(lambda peer=peer: _registered(peer), 30, f"{peer.name} registered")


def test_kill_of_a_peer_ends_the_transfer(moving):
    moving.home.kill()
    begun = time.monotonic()
    moving.transfer.thread.join(20)
    assert moving.transfer.ended, "the other end hangs"
    assert moving.transfer.ended - begun < GONE + BUSY
    print(f"kill of the peer: heard of after {moving.transfer.ended - begun:.2f} s")
    assert moving.transfer.dial.wait(5) != 0


@pytest.mark.parametrize("side", ["laptop", "home"])
def test_a_nat_that_forgets_everything_loses_no_byte(moving, side):
    (moving.lab.a if side == "laptop" else moving.lab.b).flush_nat()
    taken = moving.transfer.more(LIMIT + BUSY, 1000000)
    print(f"flush of the NAT of {side}: went on after {taken:.2f} s")
    moving.transfer.finish()


def test_a_cut_path_is_left_for_the_relay_and_taken_again(moving):
    moving.cut_between()
    taken = moving.transfer.more(LIMIT + BUSY)
    assert moving.laptop.path("home") == "relay"
    moving.restore_between()
    again = moving.wait_path("direct", 30)
    print(f"cut: over the relay after {taken:.2f} s, direct again after {again:.2f} s")
    moving.transfer.more(5)
    moving.transfer.finish()


@pytest.mark.parametrize("side", ["laptop", "home"])
def test_a_peer_takes_its_transfers_to_another_network(moving, side):
    (moving.lab.a if side == "laptop" else moving.lab.b).switch_network()
    taken = moving.transfer.more(LIMIT + BUSY)
    again = moving.wait_path("direct", 30)
    print(f"{side} changed its network: went on after {taken:.2f} s, direct after {again:.2f} s")
    moving.transfer.more(5)
    moving.transfer.finish()


def test_a_dial_finds_whoever_has_moved_meanwhile(worlds):
    world = worlds("apdf", "linux").up()
    first = Transfer(world.laptop)
    first.more(10)
    world.wait_path("direct")
    first.finish()
    world.lab.b.switch_network()
    second = Transfer(world.laptop)
    taken = second.more(LIMIT + BUSY, 16384)
    print(f"the first bytes of a dial after the callee moved: {taken:.2f} s")
    second.finish()


# Who may, and without a server -------------------------------------------------------------------


def _packets_for(host):
    return int(re.search(r"packets (\d+)", host.output(["nft", "list", "counter", "inet", "seen", "c"]))[1])


def test_who_is_not_allowed_sends_the_callee_nothing(worlds):
    world = worlds("pub", "pub").up()
    world.home.publish("data", "127.0.0.1:7000")
    world.home.berth("deny", "laptop")
    world.lab.b.run(["nft", "-f", "-"], text=True, input=(
        "table inet seen {\n counter c {\n }\n chain in {\n type filter hook input priority 0;\n"
        "iif != lo counter name c\n }\n }\n"))

    def unheard():
        """What the server has for its peers from time to time may come meanwhile."""
        before = _packets_for(world.lab.b)
        assert "NotAllowed" in world.laptop.refused("dial", "home/data")
        return _packets_for(world.lab.b) == before

    assert unheard() or unheard() or unheard()
    assert world.home.path("laptop") is None


def test_two_in_one_lan_need_no_server(worlds):
    world = worlds("apdf", "same").up()
    world.laptop.good("lookup", "home")  # pins it
    for peer in (world.laptop, world.home):
        peer.kill()
    world.server.kill()
    world.home.start("berth-peer")
    world.laptop.start("berth-peer")
    transfer = Transfer(world.laptop)
    transfer.more(10)
    assert world.laptop.path("home") == "direct"
    transfer.finish()
