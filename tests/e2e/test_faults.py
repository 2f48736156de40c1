"""Bad input and bad clients: each is answered or closed, reaches no program that it should not, and
holds nobody else up. What happens when processes die is in test_recovery.py."""

import os
import random
import socket
import ssl
import time

import pytest

import wire_clients
from harness import (assert_silent, connect, cpu_share, exchange, http_get, parse_reply,
                     read_to_close, read_to_end, request_bytes, reset, wait_until)
from programs import (ASYNCIO, NODE, OPTIONS, PHP, PYTHON, PYTHON_HTTP, RECORDER, REDIS, SSHD, TLS,
                      Script, app, gate)

PATIENCE = 20  # more than the daemon's time-outs for clients that say nothing or too little


IMPATIENT = ("--silence", 300, "--header-wait", 1000)


@pytest.fixture
def impatient(stage, mode):
    """A daemon whose time-outs are short: asked for before the programs that start one."""
    if mode == "berth":
        stage.serve(*IMPATIENT)


@pytest.fixture
def patient(stage, mode):
    """A daemon that gives up on nobody while a test runs."""
    if mode == "berth":
        stage.serve("--silence", 3600000, "--header-wait", 3600000)


@pytest.fixture
def pair(stage):
    """Two programs on one port: from the second on every connection must be looked into."""
    return stage.start(ASYNCIO, "one.localhost"), stage.start(NODE, "two.localhost")


def assert_all_served(*programs):
    for running in programs:
        running.check()


def head(*lines):
    return "\r\n".join((*lines, "", "")).encode("latin-1")


def refusal(target, data):
    """What bytes are answered with that no program may ever see."""
    return parse_reply(exchange(target, data, timeout=PATIENCE))


# Bytes that are no request ------------------------------------------------------------------------


@pytest.mark.berth_only
def test_garbage_is_closed_and_reaches_nobody(impatient, pair):
    one, two = pair
    rng = random.Random(7)
    samples = [bytes([first]) + rng.randbytes(200) for first in (0, 0x80, 0xff, 0x16, 0x05, 0x10)]
    samples += [b"\r\n" * 100, b"\0" * 4096, b"GET\r\n\r\n", b"HELO there\r\n\r\n"]
    clients = []
    for data in samples:
        s = connect(one.target, timeout=PATIENCE)
        s.sendall(data)
        clients.append(s)
    assert_all_served(one, two)
    for s, data in zip(clients, samples):
        with s:
            answer = read_to_close(s)
        for running in pair:
            assert running.marker.encode() not in answer, f"{data[:20]!r} reached {running.program}"
    assert_all_served(one, two)


REFUSED = {
    "two Hosts": (head("GET / HTTP/1.1", "Host: one.localhost", "Host: two.localhost"), 400),
    "the same Host twice": (head("GET / HTTP/1.1", "Host: one.localhost", "Host: one.localhost"),
                            400),
    "two names in one Host": (head("GET / HTTP/1.1", "Host: one.localhost, two.localhost"), 400),
    "no Host": (head("GET / HTTP/1.1", "User-Agent: x"), 400),
    "a NUL in a field": (head("GET / HTTP/1.1", "Host: one.localhost", "X: a\0b"), 400),
    "a NUL in the Host": (head("GET / HTTP/1.1", "Host: one.localhost\0.two.localhost"), 400),
    "a NUL in the target": (head("GET /\0 HTTP/1.1", "Host: one.localhost"), 400),
    "bare line feeds": (b"GET / HTTP/1.1\nHost: one.localhost\n\n", 400),
    "one bare line feed": (head("GET / HTTP/1.1", "X: y\nHost: two.localhost",
                                "Host: one.localhost"), 400),
    "a folded field": (head("GET / HTTP/1.1", "Host: one.localhost", "X: a", " b"), 400),
    "white space before the colon": (head("GET / HTTP/1.1", "Host : one.localhost"), 400),
    "length and chunks": (head("POST / HTTP/1.1", "Host: one.localhost", "Content-Length: 3",
                               "Transfer-Encoding: chunked"), 400),
    "20 KiB of headers": (head("GET / HTTP/1.1", "Host: one.localhost",
                               *(f"X-{i}: {'x' * 1000}" for i in range(20))), 431),
    "a line of 20 KiB": (head("GET / HTTP/1.1", "X: " + "x" * 20480, "Host: one.localhost"), 431),
}


@pytest.mark.berth_only
@pytest.mark.parametrize("what", sorted(REFUSED))
def test_a_bad_head_is_refused_by_status(pair, what):
    data, status = REFUSED[what]
    reply = refusal(pair[0].target, data)
    assert reply.status == status
    assert not any(running.marker in reply.body for running in pair)
    assert_all_served(*pair)


@pytest.mark.berth_only
def test_the_absolute_form_wins_over_host(pair):
    """RFC 9112 3.2.2. A program that went by Host would be asked for another's page."""
    one, two = pair
    data = head(f"GET http://two.localhost:{two.target.port}/ HTTP/1.1", "Host: one.localhost",
                "Connection: close")
    reply = refusal(one.target, data)
    assert one.marker not in reply.body
    assert reply.status == 400 or two.marker in reply.body


@pytest.mark.berth_only
def test_a_name_nobody_owns_gets_a_page_that_lists_what_is_served(pair):
    reply = http_get(pair[0].target.named("nobody.localhost"))
    assert reply.status == 404
    for word in ("one.localhost", "two.localhost"):
        assert word in reply.body, reply.body


@pytest.mark.berth_only
def test_a_page_for_a_name_nobody_owns_repeats_nothing_unescaped(pair):
    data = head("GET /<script>alert(1)</script> HTTP/1.1", "Host: nobody.localhost",
                "X: <script>alert(2)</script>")
    assert "<script>" not in exchange(pair[0].target, data, timeout=PATIENCE).decode("latin-1")


# Slow and cut-up requests -------------------------------------------------------------------------


def send_in_pieces(s, data, size):
    s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    for i in range(0, len(data), size):
        s.sendall(data[i:i + size])
        time.sleep(0)  # lets dispatch look at this much


def test_a_request_byte_by_byte_arrives_whole(pair):
    for running in pair:
        with connect(running.target) as s:
            data = request_bytes(running.target)
            s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            s.sendall(data[:7])
            assert_silent(s)
            send_in_pieces(s, data[7:-1], 1)
            assert_silent(s)
            s.sendall(data[-1:])
            assert running.marker in parse_reply(read_to_end(s)).body


@pytest.fixture
def tls_pair(stage):
    return stage.start(TLS, "one.localhost"), stage.start(TLS, "two.localhost")


def cut_at(data, place):
    return [data[:place], data[place:]]


CUTS = {
    "after the first byte": lambda hello: [hello[:1], hello[1:]],
    "in two halves": lambda hello: [hello[:len(hello) // 2], hello[len(hello) // 2:]],
    "before the last byte": lambda hello: [hello[:-1], hello[-1:]],
    "byte by byte": lambda hello: [bytes([b]) for b in hello],
    "over three records": lambda hello: [wire_clients.split_records(hello, [1, 50])],
    "over records and segments": lambda hello: cut_at(wire_clients.split_records(hello, [40]), 30),
}


@pytest.mark.parametrize("cut", sorted(CUTS))
def test_a_cut_hello_is_routed_when_it_is_whole(tls_pair, cut):
    for running in tls_pair:
        text, _ = wire_clients.tls_ask(running.target, pieces=CUTS[cut])
        assert running.marker in text


@pytest.mark.berth_only
def test_a_tls_name_nobody_owns_gets_an_alert(tls_pair):
    with pytest.raises(ssl.SSLError) as error:
        wire_clients.tls_ask(tls_pair[0].target.named("nobody.localhost"))
    assert "UNRECOGNIZED_NAME" in str(error.value).upper()
    assert_all_served(*tls_pair)


@pytest.mark.berth_only
def test_a_client_that_goes_in_the_middle_of_its_request_leaves_nothing(pair, stage):
    for _ in range(50):
        s = connect(pair[0].target)
        s.sendall(request_bytes(pair[0].target)[:20])
        reset(s)
        connect(pair[0].target).close()
    assert_all_served(*pair)
    pid = stage.daemon("berth-dispatch")
    assert cpu_share(pid) < 0.3, "it spins for clients that are gone"
    assert_all_served(*pair)


# Silence ------------------------------------------------------------------------------------------


def test_silent_clients_hold_nobody_up(pair):
    silent = [connect(pair[0].target) for _ in range(300)]
    begin = time.monotonic()
    for _ in range(10):
        assert_all_served(*pair)
    assert time.monotonic() - begin < 20, "each has cost the patience for one that is silent"
    for s in silent:
        s.close()
    assert_all_served(*pair)


@pytest.mark.berth_only
def test_a_silent_client_is_given_to_the_owner_of_ssh(impatient, stage):
    """Some clients of server-first protocols wait for the server to greet."""
    stage.start(SSHD)
    web = stage.start(ASYNCIO, "one.localhost")
    with connect(web.target, timeout=PATIENCE) as s:
        assert s.recv(4) == b"SSH-"
    web.check()


@pytest.mark.berth_only
def test_a_silent_client_without_a_fallback_is_closed(impatient, pair):
    with connect(pair[0].target, timeout=PATIENCE) as s:
        data = read_to_close(s)
    assert b"SSH-" not in data and not any(r.marker.encode() in data for r in pair)


@pytest.mark.berth_only
def test_a_client_that_stops_in_its_head_is_closed(impatient, pair):
    with connect(pair[0].target, timeout=PATIENCE) as s:
        s.sendall(b"GET / HTTP/1.1\r\nHost: one.loc")
        data = read_to_close(s)
    assert not data or parse_reply(data).status == 408


@pytest.mark.berth_only
def test_a_client_that_drips_its_head_is_closed_all_the_same(impatient, pair):
    """A byte now and then must not buy it more time."""
    data = request_bytes(pair[0].target) + b"x" * 1000
    with connect(pair[0].target, timeout=PATIENCE) as s:
        for byte in data[:40]:
            try:
                s.sendall(bytes([byte]))
                assert_silent(s, 0.1)
            except (AssertionError, ConnectionError):
                break
        else:
            raise AssertionError("4 s of dripping were borne with a limit of 1 s")
        assert not any(r.marker.encode() in read_to_close(s) for r in pair)


@pytest.mark.berth_only
def test_any_gets_what_nobody_else_wants(stage):
    one = stage.start(ASYNCIO, "one.localhost")
    rest = stage.start(NODE, routes=["any://"])
    assert rest.marker in rest.ask(target=one.target.named("nobody.localhost")).text
    one.check()


# Half-closed and reset ----------------------------------------------------------------------------


def test_a_client_that_half_closes_before_dispatch_gets_its_answer(pair):
    for running in pair:
        with connect(running.target) as s:
            s.sendall(request_bytes(running.target))
            s.shutdown(socket.SHUT_WR)
            assert running.marker in parse_reply(read_to_end(s)).body


def test_a_client_that_half_closes_without_a_word_is_closed_at_once(patient, pair):
    with connect(pair[0].target, timeout=PATIENCE) as s:
        s.shutdown(socket.SHUT_WR)
        assert read_to_close(s) == b""
    with connect(pair[0].target, timeout=PATIENCE) as s:
        s.sendall(b"GET / HTTP/1.1\r\nHo")
        s.shutdown(socket.SHUT_WR)
        read_to_close(s)
    assert_all_served(*pair)


def open_gate(running):
    with open(os.path.join(running.folder, "gate"), "w", encoding="ascii"):
        pass


def start_gated(stage, mode, host):
    """A program that listens but holds back; to be ready it must have been listed."""
    running = stage.start(gate(mode), host, ready=False)
    stage.wait_listening(running)
    return running


def queue_request(running, timeout=PATIENCE):
    s = connect(running.target, timeout=timeout)
    s.sendall(request_bytes(running.target))
    return s


def test_a_client_that_resets_in_the_queue_harms_nobody(stage):
    other = stage.start(ASYNCIO, "other.localhost")
    slow = start_gated(stage, "accept", "slow.localhost")
    for _ in range(20):
        reset(queue_request(slow))
    last = queue_request(slow)
    other.check()
    open_gate(slow)
    with last:
        assert slow.marker.encode() in read_to_end(last)
    slow.check()


# Full ---------------------------------------------------------------------------------------------


def test_a_full_queue_holds_nobody_up_and_recovers(stage):
    """5,000 connections for a program that does not accept. The others do not feel it; what the
    queue held is served later, and what it could not hold is refused: nobody waits in vain."""
    other = stage.start(ASYNCIO, "other.localhost")
    slow = start_gated(stage, "accept", "slow.localhost")
    clients = []
    for i in range(5000 if stage.mode == "berth" else 1000):
        clients.append(queue_request(slow, timeout=30))
        if i % 500 == 0:
            other.check()
    begin = time.monotonic()
    for _ in range(10):
        other.check()
    assert time.monotonic() - begin < 20
    open_gate(slow)
    served = refused = 0
    for s in clients:
        with s:
            data = read_to_close(s)
        served += slow.marker.encode() in data
        refused += slow.marker.encode() not in data
    assert served >= 64, f"{served} served, {refused} refused"
    slow.check()
    other.check()


@pytest.mark.berth_only
def test_dispatch_without_descriptors_recovers(stage):
    """The daemon is started with room for few descriptors; clients take all of it."""
    limit = ("prlimit", "--nofile=64:64")
    one = stage.start(ASYNCIO, "one.localhost", prefix=limit)
    two = stage.start(NODE, "two.localhost")
    pid = stage.daemon("berth-dispatch")
    silent = [connect(one.target) for _ in range(150)]
    assert cpu_share(pid) < 0.5, "it spins while it has no descriptors"
    for s in silent:
        s.close()
    wait_until(lambda: one.answers() and two.answers(), PATIENCE, "answers after the shortage")
    assert_all_served(one, two)
    assert stage.daemon("berth-dispatch") == pid


# What the program sees ----------------------------------------------------------------------------


@pytest.mark.parametrize("size", [0, 10, 5000, 300000])
def test_what_was_sent_before_the_hand_over_arrives_once_and_whole(stage, size):
    stage.start(ASYNCIO, "other.localhost")
    recorder = stage.start(RECORDER, "rec.localhost", ready=False)
    first = head("POST /first HTTP/1.1", "Host: rec.localhost", f"Content-Length: {size}")
    second = head("GET /second HTTP/1.1", "Host: rec.localhost")
    sent = first + random.Random(size).randbytes(size) + second
    stage.wait_listening(recorder)
    with connect(recorder.target) as s:
        s.sendall(sent)
        s.shutdown(socket.SHUT_WR)
        data = read_to_end(s)
    _, _, got = data.partition(b"\r\n\r\n")
    assert recorder.marker.encode() in data[:200]
    assert len(got) == len(sent) and got == sent


def test_the_options_of_the_listening_socket_are_those_of_the_connection(stage):
    stage.start(ASYNCIO, "other.localhost")
    running = stage.start(OPTIONS, "opt.localhost")
    text = running.check().text
    for word in ("TCP_KEEPIDLE=77", "TCP_USER_TIMEOUT=54321", "TCP_KEEPINTVL=33", "TCP_KEEPCNT=5",
                 f"local=127.0.0.1:{running.target.port}"):
        assert word in text, text
    for name in ("SO_KEEPALIVE", "TCP_NODELAY"):
        assert f"{name}=0" not in text and f"{name}=" in text, text


# Addresses ----------------------------------------------------------------------------------------


def assert_private_is_private(private, public, elsewhere):
    for name in (private.target, public.target, public.target.named("nobody.localhost")):
        data = exchange(name.at(elsewhere), request_bytes(name), timeout=PATIENCE)
        assert private.marker.encode() not in data, f"{name.host} was reached at {elsewhere}"
    assert public.marker in public.ask(target=public.target.at(elsewhere)).text
    assert private.marker in private.ask().text
    assert public.marker in public.ask().text


@pytest.mark.berth_only
def test_a_program_on_loopback_is_not_reached_at_another_loopback_address(stage):
    private = stage.start(ASYNCIO, "private.localhost", address="127.0.0.1")
    public = stage.start(NODE, "public.localhost", address="0.0.0.0")
    assert_private_is_private(private, public, "127.0.0.2")


@pytest.mark.berth_only
@pytest.mark.parametrize("private_first", [True, False], ids=["private-first", "public-first"])
def test_a_program_on_loopback_is_not_reached_from_outside(netns, stage, private_first):
    stage.netns = netns
    started = {}
    for address in ("127.0.0.1", "0.0.0.0") if private_first else ("0.0.0.0", "127.0.0.1"):
        name = "private.localhost" if address == "127.0.0.1" else "public.localhost"
        started[name] = stage.start(ASYNCIO, name, address=address)
    private, public = started["private.localhost"], started["public.localhost"]
    assert_private_is_private(private, public, "10.99.0.1")


@pytest.mark.berth_only
def test_an_address_that_no_claim_covers_is_closed(netns, stage):
    """A program on 127.0.0.1 alone: its listener must not be wider than what it asked for."""
    stage.netns = netns
    private = stage.start(ASYNCIO, "private.localhost", address="127.0.0.1")
    stage.start(NODE, "other.localhost", address="127.0.0.1")
    with pytest.raises(ConnectionRefusedError):
        connect(private.target.at("10.99.0.1"))
    private.check()


# Other protocols ----------------------------------------------------------------------------------


def test_four_protocols_share_one_port(stage):
    running = [stage.start(SSHD), stage.start(REDIS), stage.start(PHP, "web.localhost"),
               stage.start(TLS, "tls.localhost")]
    for _ in range(2):
        assert_all_served(*running)


@pytest.mark.berth_only
def test_a_request_for_one_does_not_reach_the_other_by_a_trick_of_the_name(stage):
    one = stage.start(PYTHON_HTTP, "one.localhost")
    two = stage.start(Script("asyncio-two", PYTHON, app("asyncio_server.py")), "two.localhost")
    for host in ("two.localhost@one.localhost", "two.localhost#one.localhost", "two.localhost/",
                 "one.localhost\ttwo.localhost", "two.localhost:80:80", "two..localhost"):
        data = exchange(one.target, head("GET / HTTP/1.1", f"Host: {host}", "Connection: close"),
                        timeout=PATIENCE)
        assert two.marker.encode() not in data, f"Host {host!r} reached two"
    assert_all_served(one, two)
