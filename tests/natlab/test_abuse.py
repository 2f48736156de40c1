"""A caller who lies, and who is not the server: how much home's real berth-peer sends to whom because of it."""

import json
import re
import socket
import struct
import time

import pytest

import peered  # it knows the way to the following
from harness import wait_until
from rdv_peer import ANSWERED, DONE, FOUND, INVITE, START, Asker, Peer, claim, lookup, message, sealed_offer
from tap import Tap

# PUNCH_PROBES_IP of src/punch/punch.h
PROBES_MAX = 40
# STARTS_MAX of src/peerd/punching.c
STARTS_MAX = 3
# TARGETS_STARTS of src/peerd/targets.h: in ten seconds; the calls may take a bit longer.
TARGETS_STARTS, CALLS = 16, 48
# The checks of one call are over by then, and whoever is silent so long has ended.
QUIET_SECONDS, LIFE_SECONDS = 1.5, 15
HOST, REFLEXIVE, MAPPED = 1, 2, 3
UDP, TCP = 1, 2
APDM, BLOCKED, RANDOM = 4, 5, 3  # as src/punch/classify.h has it


class Caller(Peer):
    """A peer in the protocol's own words, on a host of the lab."""

    def __init__(self, host, server):
        asker = Asker.__new__(Asker)
        asker.tcp = False
        asker.socket = asker.stream = host.socket()
        asker.socket.settimeout(10)
        asker.socket.connect(server)
        super().__init__(asker)
        self.register()

    def port(self):
        return self.asker.socket.getsockname()[1]


@pytest.fixture(scope="module")
def world():
    """home lets anyone in; who calls is on a public host, the victim beside the server."""
    made = peered.LabWorld(peered.built_folder(), "pub", "pub", port=443)
    try:
        made.home.start("berthd", "berth-peer")
        made.home.publish("data", "127.0.0.1:9", "--allow", "anyone")
        made.server_at = (made.lab.server_addresses[0], 443)
        made.victim = made.lab.server_addresses[2]
        made.caller = Caller(made.lab.a, made.server_at)
        made.home_key = _key_of(made)
        yield made
    finally:
        made.close()


def _key_of(world):
    """The key as bytes: the server has it under its name."""
    cookie = world.caller.asker.cookie()
    answer = world.caller.ask(lookup(cookie, name="home"), FOUND)
    return answer[12:44]


def _lies(victim, kinds=(HOST, REFLEXIVE, MAPPED), transports=(UDP,)):
    """As many candidates at the victim's address as an offer may hold."""
    return [(kinds[i % len(kinds)], transports[i % len(transports)], (victim, 5000 + i)) for i in range(16)]


def _wait_quiet(tap, *hosts):
    """Until nothing has gone to these for a while: what they got in all."""
    seen, since, end = 0, time.monotonic(), time.monotonic() + LIFE_SECONDS

    def quiet():
        nonlocal seen, since
        now = sum(len(tap.to(host, True)) for host in hosts)
        if now != seen:
            seen, since = now, time.monotonic()
        return time.monotonic() - since > QUIET_SECONDS or time.monotonic() > end

    wait_until(quiet, LIFE_SECONDS + 5, "quiet")
    return [p for host in hosts for p in tap.to(host, True)]


@pytest.fixture
def tap(world):
    made = Tap(world.lab.b, "eth0")
    yield made
    made.close()


def _call(world, number, candidates, nat=(0, 0, 0)):
    offer = sealed_offer(world.caller.identity, world.home_key, number, candidates, nat)
    calling = world.caller.call(world.home_key, number, offer)
    assert not isinstance(calling, bytes), calling
    world.caller.next(ANSWERED)
    return calling


@pytest.mark.parametrize("nat", [(0, 0, 0), (APDM, RANDOM, 0)], ids=["plain", "with ports to guess"])
def test_a_victim_that_a_caller_lists_gets_few_probes(world, tap, nat):
    _call(world, 1000 + nat[0], _lies(world.victim), nat)
    packets = _wait_quiet(tap, world.victim)
    print(f"the victim got {len(packets)} packets")
    assert 0 < len(packets) <= PROBES_MAX


def test_a_victim_that_a_caller_lists_for_tcp_gets_few_packets(world, tap):
    _call(world, 2000, _lies(world.victim, transports=(TCP, UDP)))
    packets = _wait_quiet(tap, world.victim)
    tcp = [p for p in packets if p.protocol == socket.IPPROTO_TCP]
    print(f"the victim got {len(packets)} packets, {len(tcp)} of them over TCP")
    assert len(packets) - len(tcp) <= PROBES_MAX
    assert len(tcp) <= PROBES_MAX


def test_a_victim_that_a_called_peer_lists_gets_few_probes(world):
    liar = Caller(world.lab.b, world.server_at)
    assert liar.ask(claim(liar.identity, liar.asker.cookie(), "liar"))[2] == DONE
    liar.allow(anyone=True)
    tap = Tap(world.lab.a, "eth0")
    dialling = world.laptop.dialling("liar/data")
    invite = liar.invited()
    lies = sealed_offer(liar.identity, invite.key, invite.call, _lies(world.victim), (APDM, RANDOM, 0))
    liar.answer(invite, offer=lies)
    packets = _wait_quiet(tap, world.victim)
    print(f"the victim got {len(packets)} packets")
    dialling.kill()
    tap.close()
    assert 0 < len(packets) <= PROBES_MAX


def _invitation(world, number, offer, sender):
    """INVITE in a stranger's own name: of the right form, but not from the server."""
    body = struct.pack(">Q32sI16s", number, world.caller.key, 7, bytes(16)) + b"\0"
    body += struct.pack(">BH4s", 4, sender.getsockname()[1], socket.inet_aton(world.lab.a.address))
    return message(INVITE, body + struct.pack(">H", len(offer)) + offer)


def _home_port(world):
    """The UDP port of home's berth-peer."""
    return int(re.search(r"ready port=(\d+)", world.home.daemons["berth-peer"].output())[1])


def test_introductions_from_another_address_are_ignored(world, tap):
    number = 3000
    _call(world, number, [])  # the numbers are right: only the sender is not
    before = len(_wait_quiet(tap, world.victim, world.lab.a.address))
    offer = sealed_offer(world.caller.identity, world.home_key, number + 1, _lies(world.victim))
    seen = struct.pack(">BH4s", 4, 5000, socket.inet_aton(world.victim))
    with world.lab.a.socket() as stranger:
        stranger.bind((world.lab.a.address, 0))
        for forged in (_invitation(world, number + 1, offer, stranger),
                       message(START, struct.pack(">QIB", number, 0, 0) + seen),
                       message(ANSWERED, struct.pack(">Q32sBIB", number, world.caller.key, 0, 0, 0) + seen +
                               struct.pack(">H", len(offer)) + offer)):
            stranger.sendto(forged, (world.lab.b.address, _home_port(world)))
        source = (world.lab.a.address, stranger.getsockname()[1])
        wait_until(lambda: sum(p.source == source for p in tap.look()) == 3, 10, "what was forged")
        after = len(_wait_quiet(tap, world.victim, world.lab.a.address))
    assert after == before


def _forge(host, source, to, payload):
    """A datagram of the host's from whatever address and port it says."""
    udp = struct.pack(">HHHH", source[1], to[1], 8 + len(payload), 0) + payload
    ip = struct.pack(">BBHHHBBH4s4s", 0x45, 0, 20 + len(udp), 1, 0, 64, socket.IPPROTO_UDP, 0,
                     socket.inet_aton(source[0]), socket.inet_aton(to[0]))
    with host.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW) as raw:
        raw.sendto(ip + udp, (to[0], 0))


def _passed_over(world):
    """How much home's berth-peer has not believed its server."""
    return sum(s["passed_over"] for s in json.loads(world.home.good("publish", "--json"))["servers"])


def test_introductions_in_the_server_s_name_are_ignored(world, tap):
    number = 5000
    calling = _call(world, number, _lies(world.victim))
    before = len(_wait_quiet(tap, world.victim))
    offer = sealed_offer(world.caller.identity, world.home_key, number + 1, _lies(world.victim))
    seen = struct.pack(">BH4s", 4, 5000, socket.inet_aton(world.victim))
    invitation = struct.pack(">Q32sI16s", number + 1, world.caller.key, calling.channel ^ 1, bytes(16)) + b"\0" + seen
    begun = _passed_over(world)
    forged = [message(INVITE, invitation + struct.pack(">H", len(offer)) + offer, world.caller.word),
              message(ANSWERED, struct.pack(">Q32sBIB", number, world.caller.key, 0, 0, 0) + seen +
                      struct.pack(">H", len(offer)) + offer)]
    forged += [message(START, struct.pack(">QIB", number, 0, 0) + seen, said) for said in (bytes(8), world.caller.word)]
    for payload in forged:
        _forge(world.lab.a, world.server_at, (world.lab.b.address, _home_port(world)), payload)
    wait_until(lambda: _passed_over(world) == begun + len(forged), 10, "what was forged")
    assert len(_wait_quiet(tap, world.victim)) == before


def test_a_caller_who_calls_the_same_call_again_and_again_gets_few_checks_more(world, tap):
    for _ in range(20):
        _call(world, 6000, _lies(world.victim))
    packets = _wait_quiet(tap, world.victim)
    print(f"the victim got {len(packets)} packets")
    assert 0 < len(packets) <= STARTS_MAX * PROBES_MAX


@pytest.mark.parametrize("what", ["not in a box", "for another call", "of another", "a bit of it changed"])
def test_an_offer_in_a_bad_box_moves_nothing(world, tap, what):
    number = 4000 + len(what)
    offer = sealed_offer(world.caller.identity, world.home_key, number, _lies(world.victim))
    if what == "not in a box":
        offer = offer[:24] + bytes(len(offer) - 24)
    elif what == "for another call":
        offer = sealed_offer(world.caller.identity, world.home_key, number + 1, _lies(world.victim))
    elif what == "of another":
        offer = sealed_offer(Caller(world.lab.a, world.server_at).identity, world.home_key, number, _lies(world.victim))
    else:
        offer = offer[:-1] + bytes([offer[-1] ^ 1])
    begun = len(tap.to(world.lab.b.address))
    calling = world.caller.call(world.home_key, number, offer)
    assert not isinstance(calling, bytes), calling
    wait_until(lambda: len(tap.to(world.lab.b.address)) > begun, 10, "the invitation")
    assert not _wait_quiet(tap, world.victim, world.lab.a.address)


@pytest.fixture
def guessing(request):
    """home behind such a NAT; the caller's host answers no SYN, so each is repeated as often as it ever is."""
    made = peered.LabWorld(peered.built_folder(), "pub", request.param, port=443)
    try:
        made.home.start("berthd", "berth-peer")
        made.home.publish("data", "127.0.0.1:9", "--allow", "anyone")
        made.lab.a.run(["nft", "-f", "-"], text=True, input=(
            "table inet quiet {\n chain c {\n type filter hook input priority 0;\n tcp flags syn drop\n }\n }\n"))
        made.victim = made.lab.server_addresses[2]
        made.caller = Caller(made.lab.a, (made.lab.server_addresses[0], 443))
        made.home_key = _key_of(made)
        log = made.home.daemons["berth-peer"]
        wait_until(lambda: "nat behaves" in log.output() or "transport=2" in log.output(), 20, "what home's NAT is")
        yield made
    finally:
        made.close()


def _most_in_a_second(packets):
    times = sorted(p.at for p in packets)
    return max((sum(begin <= t < begin + 1 for t in times[i:]) for i, begin in enumerate(times)), default=0)


# mapping, allocation, step of the caller; how many SYNs home may send in all, and in one second
@pytest.mark.parametrize("guessing, nat, most, most_second", [
    ("udpblock", (APDM, RANDOM, 0), 1000, 500),
    ("sym", (BLOCKED, 0, 0), 2 * 256, 2 * 256),
], indirect=["guessing"], ids=["it guesses", "it waits"])
def test_ports_are_guessed_over_tcp_only_where_the_server_sees_the_caller(guessing, nat, most, most_second):
    tap = Tap(guessing.lab.b, "eth0")
    own = (guessing.lab.a.address, 5000)
    for number in (1, 2):  # the second breaks the first off
        lies = [(REFLEXIVE, TCP, own), *_lies(guessing.victim, transports=(TCP,))[:15]]
        _call(guessing, number, lies, nat)
        wait_until(lambda: len(tap.to(own[0], True)) >= 200 * number, 10, "guesses")
    packets = _wait_quiet(tap, guessing.victim, own[0])
    tap.close()
    hit, guessed = ([p for p in packets if p.target[0] == host] for host in (guessing.victim, own[0]))
    print(f"the victim got {len(hit)} packets, the caller {len(guessed)}, {_most_in_a_second(guessed)} in a second")
    assert len(hit) <= 2 * 2 * PROBES_MAX  # two calls, and the kernel repeats a SYN once
    assert len(guessed) <= 2 * most + 2 * 2 * PROBES_MAX
    assert _most_in_a_second(guessed) <= most_second + 2 * PROBES_MAX


def test_a_victim_that_is_listed_again_and_again_gets_a_bounded_share(world, tap):
    for i in range(CALLS):
        _call(world, 5000 + i, [(HOST, UDP, (world.victim, 6000 + i))])
    ports = {p.target[1] for p in _wait_quiet(tap, world.victim)}
    print(f"{len(ports)} of {CALLS} calls led to the victim")
    assert 0 < len(ports) <= 2 * TARGETS_STARTS
