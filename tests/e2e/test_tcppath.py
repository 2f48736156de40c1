"""Where UDP gets nowhere peers talk directly over TCP, and what strangers say to that port."""

import hashlib
import json
import os
import socket
import struct
import subprocess

import pytest

from harness import free_port, wait_until
from peers import World

MIB = 1 << 20
SIZE = 48 * MIB
# Prints the first greeting that goes by: the payload of 34 bytes that begins with 0, 32, 7, 1.
SNIFFER = """
import socket
s = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(0x0800))
s.settimeout(30)
print('sniffing', flush=True)
while True:
    p = s.recv(4096)
    at = p.find(bytes([0, 32, 7, 1, 1]))
    if at > 0 and len(p) - at == 34:
        print('greeting', p[at:].hex(), flush=True)
        break
"""
# Connects, says what it has to, and tells how long the other side kept the connection.
STRANGER = """
import socket, sys, time
begun = time.monotonic()
s = socket.create_connection((sys.argv[1], int(sys.argv[2])), 5)
s.settimeout(15)
s.sendall(bytes.fromhex(sys.argv[3]))
try:
    got = s.recv(100)
except ConnectionResetError:
    got = b''
print(got.hex(), time.monotonic() - begun)
"""


@pytest.fixture
def blocked(build):
    """Two networks between which TCP passes, and UDP does not get out of the laptop's."""
    if os.geteuid() != 0:
        pytest.skip("network namespaces take root")
    world = World(build, network=True)
    try:
        home, laptop = world.peer("home"), world.peer("laptop")
        world.network.forward(True)
        laptop.namespace.run("nft", "add table inet t; add chain inet t o "
                             "{ type filter hook output priority 0; }; add rule inet t o "
                             "oifname wan meta l4proto udp drop")
        home.start("berthd", "berth-peer")
        laptop.start("berth-peer")
        yield home, laptop
    finally:
        world.close()


def sender(home):
    port = free_port()
    script = ("import socket\n"
              f"l = socket.create_server(('127.0.0.1', {port}))\n"
              "print('listening', flush=True)\n"
              "block = bytes(range(256)) * 4096\n"
              "while True:\n"
              "    s, _ = l.accept()\n"
              f"    for _ in range({SIZE} // len(block)): s.sendall(block)\n"
              "    s.close()\n")
    server = home.run(["/usr/bin/python3", "-c", script])
    wait_until(lambda: "listening" in server.output(), 10, "the sender")
    home.publish("data", port, "--allow", "laptop")


def session(peer, name):
    return peer.peers().get(name, {}).get("session", {})


def over_tcp(laptop):
    s = session(laptop, "home")
    return s.get("path") == "direct" and s.get("transport") == "tcp"


def asked(peer, verb):
    """berth-peer's answer to COMMAND on its control socket."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as s:
        s.settimeout(10)
        s.connect(os.path.join(peer.runtime, "peer"))
        s.send(struct.pack("!HBBH", 0xBE47, 1, 6, len(verb)) + verb.encode() + bytes(2))
        text = b""
        while (packet := s.recv(20000))[3] == 14:
            text += packet[6:]
        assert packet[3] == 12, packet
    return json.loads(text)


def tcp(peer):
    return asked(peer, "status")["tcp"]


class Transfer:
    def __init__(self, laptop):
        self.dial = laptop.dialling("home/data")
        self.digest, self.got = hashlib.sha256(), 0

    def read_until(self, wanted):
        while self.got < wanted:
            data = self.dial.stdout.read1(65536)
            assert data, f"ended after {self.got} bytes: {self.dial.stderr.read()}"
            self.digest.update(data)
            self.got += len(data)

    def check(self):
        self.read_until(SIZE)
        assert self.dial.stdout.read() == b""
        expected = hashlib.sha256(bytes(range(256)) * 4096 * (SIZE // MIB))
        assert self.digest.hexdigest() == expected.hexdigest()


def test_a_transfer_moves_from_the_relay_to_tcp_and_back_when_it_is_reset(blocked):
    home, laptop = blocked
    sender(home)
    transfer = Transfer(laptop)
    transfer.read_until(MIB)
    wait_until(lambda: over_tcp(laptop), 20, "a direct path over TCP")
    assert session(home, "laptop")["transport"] == "tcp"
    assert "direct, TCP" in laptop.good("why", "home")
    assert "(TCP)" in laptop.good("peers")
    transfer.read_until(SIZE // 4)
    home.world.network.middle.run("nft", "add table inet t; add chain inet t f "
                                  "{ type filter hook forward priority 0; }; add rule inet t f "
                                  "meta l4proto tcp reject with tcp reset")
    assert session(laptop, "home")["bytes_in"] < SIZE - MIB
    transfer.check()
    assert asked(laptop, "peers")["peers"][0]["falls"] == 1
    assert session(laptop, "home")["path"] == "relay"


def test_udp_takes_over_from_tcp_when_it_works_again(blocked):
    home, laptop = blocked
    sender(home)
    Transfer(laptop).check()
    wait_until(lambda: over_tcp(laptop), 20, "a direct path over TCP")
    laptop.namespace.run("nft", "delete table inet t")

    def over_udp():
        laptop.berth("why", "home", stdin=subprocess.DEVNULL)
        return session(laptop, "home").get("transport") == "udp"

    wait_until(over_udp, 20, "a direct path over UDP")
    Transfer(laptop).check()


def test_strangers_are_closed_and_counted(blocked):
    home, laptop = blocked
    sniffer = subprocess.Popen(home.wrap(["/usr/bin/python3", "-c", SNIFFER]),
                               stdout=subprocess.PIPE, stdin=subprocess.DEVNULL, text=True)
    home.world.ends.append(lambda: (sniffer.kill(), sniffer.wait(10)))
    assert sniffer.stdout.readline() == "sniffing\n"
    sender(home)
    Transfer(laptop).check()
    wait_until(lambda: over_tcp(laptop), 20, "a direct path over TCP")
    replay = sniffer.stdout.readline().split()[1]
    state = tcp(home)

    def says(words):
        done = subprocess.run(home.world.network.middle.wrap(
            ["/usr/bin/python3", "-c", STRANGER, "10.77.1.2", str(state["port"]), words]),
            capture_output=True, text=True, timeout=30, check=True)
        got, seconds = (done.stdout.split() if done.stdout[0] != " " else ["", done.stdout])
        assert got == ""
        return float(seconds)

    assert says(replay) < 3
    assert says("16030100c8") < 3
    assert says("0020" + "07010100" + "00" * 28) < 3
    assert 3 < says("") < 10
    after = tcp(home)
    assert after["refused"] == state["refused"] + 4
    assert after["strange"] == 0
    assert over_tcp(laptop)
