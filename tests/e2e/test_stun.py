"""The UDP port of berth-rendezvous as a STUN server (RFC 8489, RFC 5780), for other people's clients."""

import contextlib
import os
import shutil
import socket
import struct
import subprocess

import pytest

from harness import free_port

pytestmark = pytest.mark.berth_only


def test_stun_shows_the_senders_address(world):
    server = world.server()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
        s.settimeout(10)
        s.connect(("127.0.0.1", server.port))
        s.send(b"\0\1\0\0\x21\x12\xa4\x42" + b"twelve bytes")
        answer = s.recv(100)
        port = s.getsockname()[1]
    assert answer == (b"\1\1\0\x0c\x21\x12\xa4\x42twelve bytes\0\x20\0\x08\0\1" +
                      struct.pack(">H", port ^ 0x2112) + bytes([127 ^ 0x21, 0x12, 0xa4, 1 ^ 0x42]))


@pytest.mark.skipif(not shutil.which("turnutils_stunclient"), reason="coturn is not installed")
def test_coturns_client_is_answered(world):
    server = world.server()
    done = subprocess.run(["turnutils_stunclient", "-p", str(server.port), "127.0.0.1"],
                          capture_output=True, text=True, timeout=30, check=False)
    assert "UDP reflexive addr: 127.0.0.1:" in done.stdout + done.stderr


@pytest.mark.skipif(not shutil.which("turnutils_natdiscovery"), reason="coturn is not installed")
def test_coturn_finds_out_how_the_nat_behaves(world):
    """There is none on loopback, so every answer must arrive, from whichever of the four sockets."""
    server = world.server("--stun-other", "127.0.0.2:0")
    done = subprocess.run(["turnutils_natdiscovery", "-m", "-f", "-p", str(server.port),
                           "127.0.0.1"], capture_output=True, text=True, timeout=60, check=False)
    said = done.stdout + done.stderr
    assert "NAT with Endpoint Independent Mapping!" in said, said
    assert "NAT with Endpoint Independent Filtering!" in said, said
    assert "Response origin: : 127.0.0.2:" in said


def test_an_answer_goes_to_another_port_of_the_asker(world):
    server = world.server("--stun-other", "127.0.0.2:0")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asks, \
            socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as hears:
        hears.bind(("127.0.0.1", 0))
        hears.settimeout(10)
        asks.connect(("127.0.0.1", server.port))
        fill = 56 - 20 - 8 - 4
        attributes = struct.pack(">HHHH", 0x27, 4, hears.getsockname()[1], 0) + struct.pack(
            ">HH", 0x8022, fill) + fill * b" "
        asks.send(struct.pack(">HHI", 1, len(attributes), 0x2112a442) + b"twelve bytes" + attributes)
        answer, sender = hears.recvfrom(200)
        port = asks.getsockname()[1]
    assert sender == ("127.0.0.1", server.port) and len(answer) <= 56
    assert answer[8:20] == b"twelve bytes" and answer[20:24] == b"\0\x20\0\x08"
    assert answer[26:28] == struct.pack(">H", port ^ 0x2112)


def test_two_addresses_for_stun_must_differ(world, build):
    for other in ("127.0.0.1:0", "0.0.0.0:0", "[::1]:0", "nonsense"):
        done = subprocess.run([os.path.join(build, "berth-rendezvous"), "--listen", "127.0.0.1:0",
                               "--state", world._folder(), "--stun-other", other],
                              capture_output=True, text=True, timeout=20, check=False)
        assert done.returncode == 2 and "berth-rendezvous: " in done.stderr


def hold_udp(stack, address, port):
    s = stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
    try:
        s.bind((address, port))
    except OSError:  # somebody else's already
        s.close()


def test_ports_for_stun_are_chosen_until_all_four_sockets_are_free(world):
    with open("/proc/sys/net/ipv4/ip_local_port_range", encoding="ascii") as f:
        low, high = map(int, f.read().split())
    with contextlib.ExitStack() as stack:
        for port in range(low, high + 1, 2):  # so half of all first choices are no good
            hold_udp(stack, "127.0.0.2", port)
        for _ in range(3):
            assert world.server("--stun-other", "127.0.0.2:0").proc.is_running()


def test_an_address_for_stun_that_somebody_has_is_named(world, build):
    port, other = free_port(), free_port()
    with contextlib.ExitStack() as stack:
        hold_udp(stack, "127.0.0.2", port)
        done = subprocess.run([os.path.join(build, "berth-rendezvous"), "--listen",
                               f"127.0.0.1:{port}", "--state", world._folder(), "--stun-other",
                               f"127.0.0.2:{other}"], capture_output=True, text=True, timeout=20,
                              check=False)
    assert done.returncode == 1
    assert f"cannot listen addr=127.0.0.2:{port} err=Address already in use" in done.stderr


def test_for_stun_alone_a_port_may_be_somebodys_for_tcp(world):
    port = free_port()
    with socket.create_server(("127.0.0.2", port)):
        assert world.server("--stun-other", f"127.0.0.2:{port}").proc.is_running()


@pytest.mark.skipif(not shutil.which("stun"), reason="stun-client is not installed")
def test_a_client_of_the_old_stun_ends_politely(world):
    server = world.server()
    done = subprocess.run(["stun", f"127.0.0.1:{server.port}"], capture_output=True, text=True,
                          timeout=60, check=False)
    assert "Primary:" in done.stdout and "Blocked" not in done.stdout, done.stdout
