"""Calls and the relay of berth-rendezvous, over UDP, TCP and TLS: introduction, packets, limits, drain."""

import os
import signal
import socket
import struct
import subprocess
import threading
import time

import pytest

from harness import has_ipv6, wait_until
from rdv_peer import (ALLOWED, ANSWERED, COOKIE, EIM, GUESSED, HELLO, OPEN, OPENED, PREDICTED,
                      SEQUENCE, START, UNKNOWN, Answered, Asker, Calling, Gnutls, Peer, early_packet,
                      hint_of, hint_of_some, message, reason, relay_packet)

pytestmark = pytest.mark.berth_only

TRANSPORTS = {"udp": {}, "tcp": {"tcp": True}, "tls": {"tls": True}}


def peer(world, server, over="udp", host="127.0.0.1"):
    return Peer(world.keep(Asker(server.port, host=host, **TRANSPORTS[over]))).register()


def connect(caller, callee, number=1):
    """A call from its beginning to its end: both sides of the channel."""
    assert callee.allow(caller.key)[2] == ALLOWED
    calling = caller.call(callee.key, number)
    assert isinstance(calling, Calling), reason(calling)
    invite = callee.invited()
    assert callee.answer(invite)[2] == START
    assert Answered(caller.next(ANSWERED)).reason == 0
    return calling, invite


@pytest.mark.parametrize("over", [("udp", "udp"), ("udp", "tls"), ("tls", "tcp"), ("tcp", "udp"),
                                  ("tls", "tls")], ids="-".join)
def test_peers_are_introduced_and_relayed(world, over):
    server = world.server("--threads", 2)
    a, b = peer(world, server, over[0]), peer(world, server, over[1])
    assert b.allow(a.key)[2] == ALLOWED
    calling = a.call(b.key, 7, b"sealed for b", rtt=40000)
    invite = b.invited()
    assert (calling.call, invite.call, invite.key, invite.offer) == (7, 7, a.key, b"sealed for b")
    assert calling.relay is invite.relay is None
    seen = a.asker.socket.getsockname()
    assert invite.seen == (seen if over[0] == "udp" else (seen[0], 0))
    a.relay(calling.channel, b"before the answer")
    assert b.relayed() == (invite.channel, b"before the answer")
    assert b.answer(invite, offer=b"sealed for a", rtt=10000)[2] == START
    answered = Answered(a.next(ANSWERED))
    assert (answered.key, answered.reason, answered.offer) == (b.key, 0, b"sealed for a")
    assert answered.wait == 8000
    for i in range(50):
        a.relay(calling.channel, bytes([i]) * (i * 29))
        assert b.relayed() == (invite.channel, bytes([i]) * (i * 29))
        b.relay(invite.channel, bytes([i]) * 1444)
        assert a.relayed() == (calling.channel, bytes([i]) * 1444)
    assert server.counters()["relayed"] == 101


@pytest.mark.parametrize("over", ["tcp", "tls"])
def test_small_packets_do_not_wait_for_each_other_over_tcp(world, over):
    server = world.server("--rate", 0)
    a, b = peer(world, server, over), peer(world, server)
    b.allow(a.key)
    took = []
    for number in range(21):
        began = time.monotonic()
        calling = a.call(b.key, number)
        invite = b.invited()
        b.answer(invite)
        for _ in range(3):
            b.relay(invite.channel, b"small")
        assert Answered(a.next(ANSWERED)).reason == 0
        for _ in range(3):
            assert a.relayed() == (calling.channel, b"small")
        took.append(time.monotonic() - began)
    assert sorted(took)[10] < 0.03  # seconds; an acknowledgement is late by 40 ms


def test_what_worked_between_two_nats_is_the_hint_of_the_next_call(world):
    server = world.server("--threads", 2)
    a, b, c, d = (peer(world, server) for _ in range(4))
    a.print = d.print = EIM
    b.print = c.print = SEQUENCE
    for callee in (b, d):
        assert callee.allow(anyone=True)[2] == ALLOWED
    assert hint_of(a, b, 1) == UNKNOWN
    for _ in range(3):
        a.worked(b.key, 1, PREDICTED)  # counts once
        a.worked(b.key, 2, GUESSED)  # there is no such call
        a.worked(b.key, 1, 99)
    wait_until(lambda: server.counters().get("refused.BadMessage") == 3, 10, "the last of them")
    assert server.counters()["worked.predicted"] == 1
    assert "worked.guessed" not in server.counters()
    assert hint_of_some(a, b, range(10, 20)) == PREDICTED
    assert hint_of_some(c, d, range(10, 20)) == PREDICTED  # others, and the other way round
    c.print = EIM
    assert hint_of_some(c, d, range(20, 25)) is None


@pytest.mark.skipif(not has_ipv6(), reason="no IPv6 here")
def test_two_families_of_addresses_meet(world):
    server = world.server("--listen", "[::1]:0")
    port6 = int([l for l in server.proc.output().splitlines() if "addr=[::1]:" in l][0]
                .split("[::1]:")[1].split()[0])
    a = peer(world, server)
    b = Peer(world.keep(Asker(port6, host="::1"))).register()
    calling, invite = connect(a, b)
    a.relay(calling.channel, b"four to six")
    assert b.relayed() == (invite.channel, b"four to six")
    b.relay(invite.channel, b"six to four")
    assert a.relayed() == (calling.channel, b"six to four")


@pytest.mark.parametrize("listen, hosts", [("0.0.0.0", ("127.0.0.1", "127.0.0.2")),
                                           ("[::]", ("::1", "::1"))])
def test_a_server_at_all_addresses_sends_from_the_one_that_each_peer_uses(world, listen, hosts):
    """Connected sockets take nothing from another address than the one they asked."""
    if ":" in listen and not has_ipv6():
        pytest.skip("no IPv6 here")
    server = world.server(host=listen)
    a, b = (peer(world, server, host=host) for host in hosts)
    calling, invite = connect(a, b)
    for i in range(20):
        a.relay(calling.channel, bytes([i]))
    assert [b.relayed()[1] for _ in range(20)] == [bytes([i]) for i in range(20)]
    b.relay(invite.channel, b"back")
    assert a.relayed() == (calling.channel, b"back")


def test_packets_of_one_buffer_stay_apart_and_in_order(world):
    server = world.server("--relay-rate", 0)
    a, b, c = peer(world, server), peer(world, server), peer(world, server, "tcp")
    to_b, at_b = connect(a, b)
    to_c, at_c = connect(a, c, 2)
    one = [relay_packet(to_b.channel, struct.pack(">I", i).ljust(992, b"b")) for i in range(30)]
    two = [relay_packet(to_c.channel, struct.pack(">I", i).ljust(992, b"c")) for i in range(20)]
    last = relay_packet(to_c.channel, b"the end")
    # Cut up by the kernel (UDP_SEGMENT), as berth sends them.
    a.asker.socket.sendmsg([b"".join(one + two) + last], [(17, 103, struct.pack("H", 1000))])
    for i in range(30):
        channel, payload = b.relayed()
        assert (channel, payload[:4]) == (at_b.channel, struct.pack(">I", i))
    for i in range(20):
        channel, payload = c.relayed()
        assert (channel, payload[:4]) == (at_c.channel, struct.pack(">I", i))
    assert c.relayed() == (at_c.channel, b"the end")


def test_a_message_behind_packets_in_one_buffer_is_answered(world):
    server = world.server()
    a, b = peer(world, server), peer(world, server)
    calling, invite = connect(a, b)
    one = [relay_packet(calling.channel, bytes([i]) * 192) for i in range(5)]
    a.asker.socket.sendmsg([b"".join(one) + message(HELLO, bytes(52))],
                           [(17, 103, struct.pack("H", 200))])
    assert a.asker.receive()[2] == COOKIE
    assert [b.relayed()[1][:1] for _ in range(5)] == [bytes([i]) for i in range(5)]
    assert invite.channel == calling.channel ^ 1


# Who may do what ----------------------------------------------------------------------------------


def test_the_callee_hears_of_nobody_whom_it_does_not_allow(world):
    server = world.server()
    a, b = peer(world, server), peer(world, server)
    assert reason(a.call(b.key)) == "NotAllowed"
    b.allow(os.urandom(32), os.urandom(32))
    assert reason(a.call(b.key)) == "NotAllowed"
    assert reason(a.call(os.urandom(32))) == "NotRegistered"
    assert server.counters()["invited"] == 0
    b.allow(anyone=True)
    a.call(b.key)
    b.invited()
    assert not b.waiting


def test_calls_need_the_token_of_key_and_address(world):
    server = world.server()
    a, b = peer(world, server), peer(world, server)
    connect(a, b)
    thief = Peer(world.keep(Asker(server.port)), a.identity)
    thief.token = a.token
    assert reason(thief.call(b.key)) == "BadToken"
    assert reason(thief.allow(anyone=True)) == "BadToken"
    forger = Peer(a.asker)
    forger.token = a.token
    assert reason(forger.call(b.key)) == "BadToken"


def test_an_answer_is_good_for_who_was_called_only(world):
    server = world.server()
    a, b, c = (peer(world, server) for _ in range(3))
    _, invite = connect(a, b)
    assert reason(c.answer(invite)) == "UnknownCall"
    invite.call += 1
    assert reason(b.answer(invite)) == "UnknownCall"
    invite.call -= 1
    assert b.answer(invite)[2] == START  # once more: the caller may not have heard of it
    assert Answered(a.next(ANSWERED)).call == invite.call
    assert server.counters()["refused.UnknownCall"] == 2


def test_a_call_that_is_declined_says_so_and_relays_nothing(world):
    server = world.server()
    a, b = peer(world, server), peer(world, server)
    b.allow(a.key)
    calling = a.call(b.key)
    b.answer(b.invited(), taken=25)
    assert Answered(a.next(ANSWERED)).reason == 25
    a.relay(calling.channel, b"hello, anybody there?")
    a.asker.socket.settimeout(10)
    assert reason(a.asker.receive()) == "UnknownChannel"


def test_channels_of_others_pass_nothing(world):
    server = world.server()
    a, b, c = (peer(world, server) for _ in range(3))
    calling, invite = connect(a, b)
    for channel in (calling.channel, invite.channel, calling.channel + 2, 0, 0xffffffff):
        c.relay(channel, b"this is not mine to send")
        got = c.asker.receive()
        assert reason(got) == "UnknownChannel" and struct.unpack(">Q", got[13:21])[0] == channel
    b.relay(calling.channel, b"nor is the other one's side mine")
    assert reason(b.asker.receive()) == "UnknownChannel"
    assert reason(c.open(calling.channel, bytes(16))) == "UnknownChannel"
    assert reason(c.open(calling.channel, invite.ticket)) == "UnknownChannel"
    a.relay(calling.channel, b"it still works")
    assert b.relayed() == (invite.channel, b"it still works")
    counters = server.counters()
    assert counters["refused.UnknownChannel"] == 8 and counters["relayed"] == 1
    assert not c.waiting


@pytest.mark.parametrize("over", [("udp", "udp"), ("udp", "tls"), ("tls", "udp"), ("tcp", "tcp")],
                         ids="-".join)
def test_packets_right_behind_a_call_reach_the_callee(world, over):
    server = world.server("--threads", 1)
    a, b = peer(world, server, over[0]), peer(world, server, over[1])
    assert b.allow(a.key)[2] == ALLOWED
    calling = a.call_with(b.key, 7, b"first", bytes(1440), b"")
    got = [b.asker.receive() for _ in range(4)]
    assert [m[0] for m in got] == [5, 6, 6, 6]  # the invitation comes first
    b.waiting.append(got[0])
    invite = b.invited()
    assert got[1:] == [relay_packet(invite.channel, p) for p in (b"first", bytes(1440), b"")]
    b.relay(invite.channel, b"the answer")
    assert a.relayed() == (calling.channel, b"the answer")
    a.relay(calling.channel, b"as usual")
    assert b.relayed() == (invite.channel, b"as usual")
    assert server.counters()["relayed"] == 5


def test_a_packet_that_names_a_call_of_others_or_none_is_lost_without_a_word(world):
    server = world.server("--threads", 1)
    a, b, c = (peer(world, server) for _ in range(3))
    assert b.allow(a.key)[2] == ALLOWED
    a.asker.send(early_packet(7, b"the call is not there yet"))
    a.asker.cookie()  # it has been dropped
    calling = a.call(b.key, 7)
    for other in (b, c):
        other.asker.send(early_packet(7, b"this is not my call"))
    a.asker.send(early_packet(8, b"nor was this one made"))
    for n in range(13):
        a.asker.send(early_packet(9, b"long enough to be answered")[:n])
    refused = c.call(b.key, 10)
    assert reason(refused) == "NotAllowed"
    c.asker.send(early_packet(10, b"this one was refused"))
    for each in (a, b, c):
        each.ask(message(HELLO, bytes(52)), COOKIE)
    a.relay(calling.channel, b"the first that comes")
    assert b.relayed()[1] == b"the first that comes"
    assert server.counters()["relayed"] == 1
    assert not a.waiting and not c.waiting


def test_few_packets_name_a_call_and_all_count_against_the_rate(world):
    server = world.server("--relay-rate", 100, "--threads", 1)
    a, b, c = peer(world, server), peer(world, server), peer(world, server)
    calling, _ = connect(a, b, 7)
    for _ in range(50):
        a.asker.send(early_packet(7, b"x"))
    a.asker.cookie()
    assert server.counters()["relayed"] == 12
    flood(a.asker, calling.channel, 1000)
    connect(a, c, 8)  # what answers b would not get: its socket is full
    a.asker.send(early_packet(8, bytes(1400)))
    a.asker.cookie()
    counters = server.counters()
    assert counters["relayed"] + counters["relay.limited"] == 12 + 1000 + 1
    assert counters["relay.limited"] > 500


def test_what_is_sent_to_an_unknown_channel_is_not_answered_at_greater_length(world):
    server = world.server()
    a = peer(world, server)
    for n in range(40):
        a.asker.send(relay_packet(4711, bytes(40))[:n])
    a.asker.send(message(HELLO, bytes(52)))
    answers = []
    while (got := a.asker.receive())[2] != COOKIE:
        answers.append(got)
    assert len(answers) == 40 - 21 and all(len(x) == 21 for x in answers)


@pytest.mark.parametrize("over", ["udp", "tcp", "tls"])
def test_a_side_moves_to_another_address_or_transport(world, over):
    server = world.server("--threads", 2)
    a, b = peer(world, server), peer(world, server)
    calling, invite = connect(a, b)
    moved = Peer(world.keep(Asker(server.port, **TRANSPORTS[over])), a.identity)
    moved.relay(calling.channel, b"from where you do not know me yet")
    assert reason(moved.asker.receive()) == "UnknownChannel"
    assert moved.open(calling.channel, calling.ticket)[2] == OPENED
    moved.relay(calling.channel, b"here I am now")
    assert b.relayed() == (invite.channel, b"here I am now")
    b.relay(invite.channel, b"welcome")
    assert moved.relayed() == (calling.channel, b"welcome")


def test_the_relay_is_not_aimed_at_who_has_not_proven_an_address(world):
    server = world.server()
    a, b = peer(world, server), peer(world, server)
    calling, _ = connect(a, b)
    victim = Peer(world.keep(Asker(server.port)))
    body = struct.pack(">16sI16s", bytes(16), calling.channel, calling.ticket).ljust(52, b"\0")
    got = victim.ask(message(OPEN, body))
    assert got[2] == COOKIE and len(got) <= 64
    assert victim.open(calling.channel, calling.ticket)[2] == OPENED


def room(server, size):
    """So much more memory may it use; sanitizers keep what was freed for a while."""
    with open(os.path.join(server.build, "berth-rendezvous"), "rb") as f:
        return size + (256 << 20 if b"__asan_init" in f.read() else 0)


# Limits -------------------------------------------------------------------------------------------


def test_a_caller_has_so_many_calls_and_all_have_so_many(world):
    server = world.server("--relay-pairs", 5, "--relay-pairs-key", 3)
    a, b, c = (peer(world, server) for _ in range(3))
    c.allow(anyone=True)
    assert all(isinstance(a.call(c.key, i), Calling) for i in range(3))
    assert reason(a.call(c.key, 3)) == "NoRelay"
    assert isinstance(a.call(c.key, 1), Calling)
    assert all(isinstance(b.call(c.key, i), Calling) for i in range(2))
    assert reason(b.call(c.key, 2)) == "NoRelay"
    assert server.counters()["pairs"] == 5


def test_who_calls_without_end_is_told_to_wait(world):
    server = world.server("--rate", 5, "--threads", 1)
    a, b = peer(world, server), peer(world, server)
    b.allow(anyone=True)
    got = [a.call(b.key, 1) for _ in range(60)]
    refused = [g for g in got if not isinstance(g, Calling)]
    assert refused and {reason(g) for g in refused} == {"RateLimited"}
    assert 20 <= len(got) - len(refused) <= 30


def flood(asker, channel, n, stop=None):
    packet = relay_packet(channel, bytes(1192))
    for _ in range(n):
        if stop and stop.is_set():
            return
        asker.send(packet)


def test_a_key_sends_so_fast_and_no_faster(world):
    server = world.server("--relay-rate", 100, "--threads", 1)
    a, b = peer(world, server), peer(world, server)
    calling, invite = connect(a, b)
    flood(a.asker, calling.channel, 1000)
    a.asker.cookie()
    counters = server.counters()
    assert 200 <= counters["relayed"] <= 400  # 256 KiB at once, and 100 a second
    assert counters["relay.limited"] == 1000 - counters["relayed"]
    c, d = peer(world, server), peer(world, server)
    to_d, at_d = connect(c, d, 5)
    c.relay(to_d.channel, b"another key is not held up")
    assert d.relayed() == (at_d.channel, b"another key is not held up")


@pytest.mark.parametrize("over", ["tcp", "tls"])
def test_who_does_not_read_what_is_relayed_loses_it_and_costs_little(world, over):
    server = world.server("--relay-rate", 0, "--threads", 1)
    a, b, c = peer(world, server), peer(world, server, over), peer(world, server)
    calling, invite = connect(a, b)
    to_c, at_c = connect(a, c, 2)
    before = server.memory()

    def full():
        flood(a.asker, calling.channel, 500)
        a.asker.cookie()
        return server.counters()["relay.lost"] > 500

    wait_until(full, 60, "lost packets")
    assert server.memory() - before < room(server, 8 << 20)
    a.relay(to_c.channel, b"others get theirs")
    assert c.relayed() == (at_c.channel, b"others get theirs")
    channel, payload = b.relayed()  # whole packets, and no piece of one
    assert channel == invite.channel and len(payload) == 1192
    assert b.allow(a.key)[2] == ALLOWED


def test_a_flood_of_one_pair_leaves_room_for_others(world):
    server = world.server("--relay-rate", 0, "--threads", 1)
    a, b, c, d = (peer(world, server) for _ in range(4))
    flooder, _ = connect(a, b)
    calling, invite = connect(c, d)
    stop = threading.Event()
    senders = [threading.Thread(target=flood, args=(a.asker, flooder.channel, 10 ** 9, stop))
               for _ in range(2)]
    for s in senders:
        s.start()
    try:
        got = 0
        d.asker.socket.settimeout(1)
        for i in range(300):
            c.relay(calling.channel, struct.pack(">I", i))
            try:
                while d.relayed() != (invite.channel, struct.pack(">I", i)):
                    pass
                got += 1
            except TimeoutError:
                pass
    finally:
        stop.set()
        for s in senders:
            s.join(10)
    assert got >= 270


# TLS ----------------------------------------------------------------------------------------------


def test_the_server_shows_its_key_and_keeps_it(world, build):
    server = world.server()
    shown = subprocess.run([os.path.join(build, "berth-rendezvous"), "--state", server.state,
                            "--show-key"], capture_output=True, text=True, timeout=10, check=True)
    assert f"identity key={shown.stdout.strip()}" in server.proc.output()
    assert os.stat(os.path.join(server.state, "key")).st_mode & 0o777 == 0o600
    one = world.keep(Asker(server.port, tls=True)).stream.key()
    server.proc.kill()
    server.start()
    assert world.keep(Asker(server.port, tls=True)).stream.key() == one
    assert f"identity key={shown.stdout.strip()}" in server.proc.output()


def test_gnutls_cli_sees_a_raw_key_over_tls_13(world):
    server = world.server()
    done = subprocess.run(["gnutls-cli", "--insecure", "--priority", Gnutls.PRIORITY.decode(), "-p",
                           str(server.port), "127.0.0.1", "--rawpkkeyfile", "/dev/null"],
                          stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=20,
                          check=False)
    if "rawpkkeyfile" in done.stderr and "illegal option" in done.stderr:
        pytest.skip("gnutls-cli without raw keys")
    assert "TLS1.3" in done.stdout + done.stderr


def test_damaged_and_unfinished_handshakes_are_closed_and_harm_nobody(world):
    server = world.server("--threads", 1)
    a, b = peer(world, server, "tls"), peer(world, server)
    for data in (b"\x16" + os.urandom(300), b"\x16\x03\x01\xff\xff" + bytes(65535),
                 b"\x16\x03\x01\x00\x05hello", b"\x16\x03\x01\x00\x00" * 100):
        s = socket.create_connection(("127.0.0.1", server.port), 10)
        s.sendall(data)
        try:
            s.shutdown(socket.SHUT_WR)
            while s.recv(4096):
                pass
        except OSError:
            pass
        s.close()
    idle = [socket.create_connection(("127.0.0.1", server.port), 10) for _ in range(50)]
    for s in idle:
        s.sendall(b"\x16\x03\x01")
    calling, invite = connect(a, b)
    a.relay(calling.channel, b"still here")
    assert b.relayed() == (invite.channel, b"still here")
    for s in idle:
        s.close()
    before = server.memory()
    for _ in range(30):
        Asker(server.port, tls=True).close()
    assert server.memory() - before < room(server, 4 << 20)


# The end ------------------------------------------------------------------------------------------


def test_a_server_that_drains_ends_when_the_last_pair_has(world):
    server = world.server()
    a, b = peer(world, server), peer(world, server)
    calling, invite = connect(a, b)
    server.proc.send(signal.SIGUSR2)
    wait_until(lambda: "draining pairs=1" in server.proc.output(), 10, "a draining server")
    assert reason(a.call(b.key, 2)) == "Draining"
    a.relay(calling.channel, b"we go on")
    assert b.relayed() == (invite.channel, b"we go on")
    assert server.proc.is_running()


def test_a_server_that_relays_nothing_ends_at_once_when_it_drains(world):
    server = world.server()
    peer(world, server)
    server.proc.send(signal.SIGUSR2)
    wait_until(lambda: not server.proc.is_running(), 10, "the end")
    assert "ended" in server.proc.output()
