"""The lab itself: each kind of NAT is what it is called, lines are as slow and as lossy as asked, and
nothing is left afterwards."""

import contextlib
import errno
import ipaddress
import os
import pathlib
import re
import signal
import socket
import statistics
import subprocess
import sys
import time

import pytest

import lab as lab_module
import verify
from lab import Lab

HERE = pathlib.Path(__file__).parent
SO_RCVBUFFORCE = 33
LAB = [sys.executable, str(HERE / "lab.py")]
# coturn and stun-client see these the same way; the others differ in what they do not look at.
SEEN_BY_OTHERS = [k for k, v in verify.EXPECTED.items() if v[0] != "blocked"]


@pytest.fixture(scope="session")
def verdicts():
    return verify.verdicts(list(verify.EXPECTED))


@pytest.mark.parametrize("kind", verify.EXPECTED)
def test_a_kind_behaves_as_it_is_called(verdicts, kind):
    assert str(verdicts[kind].ours) == "/".join(verify.EXPECTED[kind])


@pytest.mark.parametrize("kind", SEEN_BY_OTHERS)
def test_coturn_sees_the_same(verdicts, kind):
    assert verdicts[kind].coturn == verify.EXPECTED[kind][:2]


@pytest.mark.parametrize("kind", SEEN_BY_OTHERS)
def test_stun_client_sees_the_same(verdicts, kind):
    mapping, filtering, allocation = verify.EXPECTED[kind]
    seen = verdicts[kind].stun
    assert seen[0] == ("eim" if mapping == "eim" else "other")
    if mapping == "eim":
        assert seen[1:3] == (filtering, "keep" if allocation == "keep" else "other")


@pytest.mark.parametrize("a, b, hairpin", [
    ("eif", "same", True), ("eif", "same", False), ("apdf+hp", "same", True), ("adm", "same", False),
    ("cgn", "samecgn", True), ("cgn", "samecgn", False), ("u:map=eim,hairpin=1", "same", True)])
def test_hairpins_only_where_asked(a, b, hairpin):
    with Lab(a, b, hairpin=hairpin) as lab:
        assert verify.hairpins(lab) == hairpin


def test_stun_client_sees_the_hairpin():
    with Lab("u:map=eim,filter=eif,hairpin=1") as lab:
        verify.start_coturn(lab)
        assert verify.stun_says(lab.a)[3]


# Lines

def _round_trips(one, other, at, count=12):
    """Milliseconds from `one` to the bound socket `other` and back."""
    took = []
    for i in range(count):
        start = time.monotonic()
        one.sendto(b"%d" % i, at)
        data, source = other.recvfrom(100)
        other.sendto(data, source)
        one.recv(100)
        took.append((time.monotonic() - start) * 1000)
    return took


def _bound(host, address, port, family=socket.AF_INET, kind=socket.SOCK_DGRAM):
    s = host.socket(family, kind)
    s.settimeout(5)
    s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    s.bind((address, port))
    return s


def test_delay_is_as_asked():
    with Lab("sym", "pub", delay_ms=(20, 5)) as lab:
        server = _bound(lab.server, "11.0.0.1", 4000)
        b = _bound(lab.b, lab.b.address, 4000)
        a = _bound(lab.a, "0.0.0.0", 0)
        for other, at, expected in ((server, ("11.0.0.1", 4000), 40), (b, (lab.b.address, 4000), 50)):
            took = _round_trips(a, other, at)
            assert min(took) >= expected
            assert statistics.median(took) < expected + 15, took


def test_jitter_delays_and_keeps_the_order():
    with Lab("pub", "pub", delay_ms=2, jitter_ms=20) as lab:
        server, a = _bound(lab.server, "11.0.0.1", 4000), lab.a.socket()
        sent = time.monotonic()
        for i in range(200):
            a.sendto(bytes([i]), ("11.0.0.1", 4000))
        got = [server.recv(10)[0] for _ in range(200)]
        assert got == list(range(200))
        assert 0.012 < time.monotonic() - sent < 0.2
        assert max(_round_trips(a, server, ("11.0.0.1", 4000))) > 8


@pytest.mark.parametrize("kind, options", [("linux", {"loss": (0.05, 0)}),
                                           ("u:loss_ppm=50000", {}), ("linux", {"loss": (0.05, 0), "delay_ms": 1})])
def test_loss_is_as_asked(kind, options):
    with Lab(kind, "pub", **options) as lab:
        server, a = _bound(lab.server, "11.0.0.1", 4000), lab.a.socket()
        server.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, 8 << 20)
        for i in range(3000):
            a.sendto(b"x", ("11.0.0.1", 4000))
            if i % 100 == 0:
                time.sleep(0.001)  # not faster than a small queue on the way
        server.settimeout(0.3)
        got = 0
        with contextlib.suppress(TimeoutError):
            while server.recv(10):
                got += 1
        assert 0.03 < 1 - got / 3000 < 0.075  # five standard deviations


@pytest.mark.parametrize("kind", ["linux", "cgnsym", "u:map=apdm"])
def test_tcp_passes_with_all_its_bytes(kind):
    with Lab(kind, "pub", delay_ms=2) as lab:
        listener = _bound(lab.server, "11.0.0.1", 4000, kind=socket.SOCK_STREAM)
        listener.listen()
        client = lab.a.socket(kind=socket.SOCK_STREAM)
        client.settimeout(10)
        client.connect(("11.0.0.1", 4000))
        server, _ = listener.accept()
        server.settimeout(10)
        data = os.urandom(200000)
        client.sendall(data)
        client.shutdown(socket.SHUT_WR)
        got = b""
        while chunk := server.recv(65536):
            got += chunk
        assert got == data


@pytest.mark.parametrize("kind", ["apdf", "cgn", "u:map=eim"])
def test_a_low_ttl_opens_the_own_nat_and_dies_before_the_other_end(kind):
    with Lab(kind, "pub") as lab, verify.observing(lab) as observer:
        a, b = lab.a.socket(), _bound(lab.b, lab.b.address, 4000)
        b.settimeout(5)
        at_a = observer.seen(a)
        a.setsockopt(socket.IPPROTO_IP, socket.IP_TTL, 3)
        a.sendto(b"opener", (lab.b.address, 4000))
        b.sendto(b"hello", at_a)
        assert a.recv(100) == b"hello"
        a.setsockopt(socket.IPPROTO_IP, socket.IP_TTL, 64)
        a.sendto(b"real", (lab.b.address, 4000))
        assert b.recv(100) == b"real"


# Kinds that differ in more than RFC 4787 has words for

@pytest.mark.parametrize("kind, answer, port_lost", [
    ("linux", None, False), ("linuxrej", errno.ECONNREFUSED, False),
    ("linuxopen", errno.ECONNREFUSED, True)])
def test_what_nobody_asked_for(kind, answer, port_lost):
    with Lab(kind, "pub") as lab, verify.observing(lab) as observer:
        a = lab.a.socket()
        at_a = observer.seen(a)
        early = observer.ends[1, 1]
        early.connect(at_a)
        early.settimeout(0.2)
        early.send(b"too early")
        with pytest.raises(OSError) as e:
            early.recv(100)
        assert e.value.errno == answer
        a.sendto(b"hello", early.getsockname())
        if port_lost:  # it comes from another port, which a connected socket does not hear
            with pytest.raises(TimeoutError):
                early.recv(100)
        else:
            assert early.recv(100) == b"hello"


def _connects(lab, port):
    listener = _bound(lab.server, "11.0.0.1", port, kind=socket.SOCK_STREAM)
    listener.listen()
    client = lab.a.socket(kind=socket.SOCK_STREAM)
    client.settimeout(0.5)
    return client.connect_ex(("11.0.0.1", port)) == 0


def test_udp_blocked_leaves_tcp_and_443_leaves_only_that():
    with Lab("udpblock", "pub") as lab:
        assert _connects(lab, 443) and _connects(lab, 4000)
    with Lab("tcp443", "pub") as lab:
        assert _connects(lab, 443) and not _connects(lab, 4000)


def test_ipv6_has_a_firewall_and_no_nat():
    with Lab("v6fw", "pub") as lab:
        seen = verify.behaviour(lab, lab.a, socket.AF_INET6)
        assert str(seen) == "eim/apdf/keep"
        with verify.observing(lab, socket.AF_INET6) as observer, lab.a.socket(socket.AF_INET6) as s:
            assert observer.seen(s)[0] == str(ipaddress.ip_address(lab.a.address6))


def test_a_mapping_ends_when_it_was_silent_for_its_time():
    with Lab("u:map=eim,timeout_s=1") as lab, verify.observing(lab) as observer, lab.a.socket() as s:
        first = observer.seen(s)
        assert observer.seen(s) == first
        time.sleep(1.2)  # the time itself is what is tested
        assert observer.seen(s) != first


# Changes and faults

@pytest.mark.parametrize("kind", ["sym", "eif", "cgn", "u:map=eim"])
def test_flushed_mappings_come_back_elsewhere(kind):
    with Lab(kind, "pub") as lab, verify.observing(lab) as observer, lab.a.socket() as s:
        before = observer.seen(s)
        assert observer.seen(s) == before
        lab.a.flush_nat()
        assert observer.seen(s) != before


@pytest.mark.parametrize("first, second", [("apdf", None), ("cgn", "sym"), ("pub", "linux"), ("v6fw", "cgn")])
def test_a_peer_moves_to_another_network(first, second):
    with Lab(first, "pub", delay_ms=1) as lab, verify.observing(lab) as observer:
        old, old_outside = lab.a.address, lab.a.outside
        lab.a.switch_network(second)
        with lab.a.socket() as s:
            assert observer.seen(s)[0] == lab.a.outside != old_outside
        assert old not in lab.a.output(["ip", "addr"])
        with lab.b.socket() as s:
            assert observer.seen(s)[0] == lab.b.outside


def test_a_peer_leaves_the_lan_of_the_other_and_roams_on():
    with Lab("apdf", "same") as lab, verify.observing(lab) as observer:
        for i, kind in enumerate(("sym", "pub", "linux")):
            lab.b.switch_network(kind)
            with lab.b.socket() as s:
                assert observer.seen(s)[0] == lab.b.outside == f"11.2.{i + 1}.10"
        with lab.a.socket() as s:
            assert observer.seen(s)[0] == lab.a.outside


def test_faults_come_and_go():
    with Lab("linux", "linux") as lab, verify.observing(lab) as observer, \
            lab.a.socket() as a, lab.b.socket() as b:
        lab.block_udp("a")
        assert observer.seen(a, timeout=0.1) is None
        assert observer.seen(b)
        assert _connects(lab, 4000)
        lab.cut("a")
        assert not _connects(lab, 4001)
        lab.restore("a")
        assert observer.seen(a) and _connects(lab, 4002)


# The end

def _left_of(name):
    """Namespaces of a lab that still stand."""
    return lab_module.labs().get(name, [])


def test_two_labs_stand_side_by_side_and_leave_nothing():
    with Lab("sym", "apdf") as one, Lab("sym", "apdf") as other:
        sleepers = [lab.a.popen(["sleep", "600"]) for lab in (one, other)]
        with verify.observing(one) as x, verify.observing(other) as y, one.a.socket() as s, other.a.socket() as t:
            assert x.seen(s) and y.seen(t)
    assert not _left_of(one.name) and not _left_of(other.name)
    assert all(s.returncode == -signal.SIGKILL for s in sleepers)


@pytest.mark.parametrize("sig", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_removes_the_lab(sig):
    code = ("from lab import Lab\nimport time\n"
            "with Lab('cgn', 'linux', delay_ms=1) as lab:\n"
            "    print(lab.name, lab.a.popen(['sleep', '600']).pid, flush=True)\n"
            "    while True: time.sleep(0.05)\n")
    # A shell's background jobs ignore SIGINT, and whoever starts us may be one.
    with subprocess.Popen([sys.executable, "-c", code], cwd=HERE, stdout=subprocess.PIPE, text=True,
                          stderr=subprocess.DEVNULL,
                          preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL)) as process:
        try:
            name, pid = process.stdout.readline().split()
            assert _left_of(name)
            process.send_signal(sig)
            process.wait(10)
        finally:
            process.kill()
    assert not _left_of(name)
    assert not os.path.exists(f"/proc/{pid}")


def test_up_list_and_down():
    said = subprocess.run([*LAB, "up", "cgn", "sym"], capture_output=True, text=True, check=True).stdout
    name = said.split(":")[0]
    assert len(_left_of(name)) >= 8
    listed = subprocess.run([*LAB, "list"], capture_output=True, text=True, check=True).stdout
    assert re.search(rf"^{re.escape(name)}  left standing ", listed, re.MULTILINE)
    subprocess.run([*LAB, "down", name], check=True, stdout=subprocess.DEVNULL)
    assert not _left_of(name)


def test_a_kind_that_does_not_exist_leaves_nothing():
    before = lab_module.labs()
    with pytest.raises(lab_module.LabError, match="no such kind"):
        Lab("round").__enter__()
    with pytest.raises(lab_module.LabError, match="not understood"):
        Lab("u:map=square").__enter__()
    assert lab_module.labs() == before


def test_without_root():
    code = ("from lab import Lab\nimport verify\n"
            "with Lab('sym', 'apdf', loss=0.0001) as lab:\n"
            "    print(verify.behaviour(lab, lab.a), verify.behaviour(lab, lab.b))\n")
    run = subprocess.run([sys.executable, "-c", code], cwd=HERE, capture_output=True, text=True, check=False,
                         user=65534, group=65534, extra_groups=[], env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1"})
    if "user namespace" in run.stderr:
        pytest.skip("this kernel gives no user namespaces")
    assert run.stdout.split() == ["apdm/apdf/random", "eim/apdf/random"], run.stderr
