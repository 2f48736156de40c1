"""Where UDP gets nowhere peers talk directly over TCP, and what strangers say to that port."""

import hashlib
import json
import os
import resource
import socket
import struct
import subprocess
import threading

import pytest

from harness import cpu_share, free_port, wait_until
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
# Connects once for each word, says it, and tells what came and how long the other side kept the
# connection. A word with a slash is said byte by byte, so slowly that it never ends in time.
STRANGERS = """
import json, socket, sys, threading, time
answers = [None] * len(sys.argv[3:])
def stranger(i, words):
    begun = time.monotonic()
    got = b''
    try:
        with socket.create_connection((sys.argv[1], int(sys.argv[2])), 10) as s:
            s.settimeout(15)
            s.sendall(bytes.fromhex(words.rstrip('/')[:None if words[-1:] != '/' else 20]))
            while words[-1:] == '/':
                s.settimeout(1)
                try:
                    got = s.recv(100)
                    break
                except TimeoutError:
                    s.sendall(b'0')
            else:
                got = s.recv(100)
    except (ConnectionResetError, BrokenPipeError):
        pass
    answers[i] = got.hex(), time.monotonic() - begun
threads = [threading.Thread(target=stranger, args=a) for a in enumerate(sys.argv[3:])]
for t in threads: t.start()
for t in threads: t.join()
print(json.dumps(answers))
"""
FIREWALL = """
table inet wall {
 chain in {
  type filter hook input priority 0; policy accept;
  iifname wan ct state established,related accept
  iifname wan tcp flags & (syn|ack) == syn drop
 }
}
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

    # The checks of the last introduction are answered for 12 s; only then there is another one.
    wait_until(over_udp, 40, "a direct path over UDP")
    Transfer(laptop).check()


def wall(peer):
    """Nobody outside begins a connection to it."""
    subprocess.run(peer.namespace.wrap(["nft", "-f", "-"]), input=FIREWALL, text=True, check=True,
                   timeout=20)


def strangers(home, port, *words):
    done = subprocess.run(home.world.network.middle.wrap(
        ["/usr/bin/python3", "-c", STRANGERS, "10.77.1.2", str(port), *words]),
        capture_output=True, text=True, timeout=60, check=True)
    return json.loads(done.stdout)


def test_firewalls_that_let_nobody_in_are_passed_by_both_at_once(blocked):
    home, laptop = blocked
    wall(home)
    wall(laptop)
    sender(home)
    transfer = Transfer(laptop)
    transfer.read_until(MIB)
    wait_until(lambda: over_tcp(laptop), 20, "a direct path over TCP")
    assert tcp(home)["greeted"] >= 1 and tcp(laptop)["refused"] == 0
    transfer.check()


def test_a_flood_of_strangers_and_a_lack_of_descriptors_keep_nobody_out(blocked):
    home, laptop = blocked
    sender(home)
    port, pid = tcp(home)["port"], home.daemons["berth-peer"].pid
    flood = threading.Thread(target=strangers, args=(home, port, *[""] * 100))
    flood.start()
    wait_until(lambda: tcp(home)["strange"] >= 60, 10, "strangers")
    before = resource.prlimit(pid, resource.RLIMIT_NOFILE)
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (3, before[1]))
    more = threading.Thread(target=strangers, args=(home, port, "00"))
    more.start()
    assert cpu_share(pid) < 0.3, "it turns round and round"
    resource.prlimit(pid, resource.RLIMIT_NOFILE, before)
    transfer = Transfer(laptop)
    transfer.read_until(MIB)
    wait_until(lambda: over_tcp(laptop), 20, "a direct path over TCP")
    flood.join(60)
    more.join(60)
    state = tcp(home)
    assert state["strange"] == 0 and state["refused"] >= 101
    transfer.check()


def test_strangers_are_closed_and_counted(blocked):
    home, laptop = blocked
    sniffer = subprocess.Popen(home.wrap(["/usr/bin/python3", "-c", SNIFFER]),
                               stdout=subprocess.PIPE, stdin=subprocess.DEVNULL, text=True)
    home.world.ends.append(lambda: (sniffer.kill(), sniffer.wait(10)))
    assert sniffer.stdout.readline() == "sniffing\n"
    wall(laptop)  # so that it is the laptop that connects
    sender(home)
    Transfer(laptop).check()
    wait_until(lambda: over_tcp(laptop), 20, "a direct path over TCP")
    replay = sniffer.stdout.readline().split()[1]
    state = tcp(home)
    wrong = "0020" + "07010100" + "00" * 28
    answers = strangers(home, state["port"], replay, "16030100c8", wrong, "", replay[:40], replay + "/")
    assert [got for got, _ in answers] == 6 * [""]
    assert all(seconds < 3 for _, seconds in answers[:3]), answers
    assert all(3 < seconds < 10 for _, seconds in answers[3:]), answers
    after = tcp(home)
    assert after["refused"] == state["refused"] + 6
    assert after["strange"] == 0
    assert over_tcp(laptop)
