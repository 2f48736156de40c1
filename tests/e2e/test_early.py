"""The first packets of a session go out behind the call; what is lost of them, or of the call's answer,
costs nothing but time. Between one peer and the server stands a network that loses what it is told to."""

import os
import re
import select
import socket
import threading

import pytest

from harness import wait_until
from rdv_peer import CALLING

pytestmark = pytest.mark.berth_only
EARLY, USUAL = b"\x06\x01\x00\x00", b"\x06\x00\x00\x00"


def is_message(data, kind):
    return len(data) > 2 and data[0] == 5 and data[2] == kind


class Network:
    """Carries datagrams to a server and back, but those of which lose(up, datagram) is true. What
    answers a call waits here until one has come of which awaited(up, datagram) is true."""

    def __init__(self, port, lose, awaited):
        self.server, self.lose, self.ways, self.seen = ("127.0.0.1", port), lose, {}, []
        self.awaited, self.held = awaited, []
        self.front = self._socket()
        self.address = "127.0.0.1:%d" % self.front.getsockname()[1]
        self.woken, self.waker = os.pipe()
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.thread.start()

    @staticmethod
    def _socket():
        s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        s.bind(("127.0.0.1", 0))
        return s

    def _run(self):
        while True:
            ready = select.select([self.woken, self.front, *self.ways.values()], [], [])[0]
            if self.woken in ready:
                return
            for s in ready:
                self._carry(s)

    def _carry(self, s):
        data, sender = s.recvfrom(65536)
        up = s is self.front
        self.seen.append((up, data))
        lost = self.lose(up, data)
        if is_message(data, CALLING) and not any(self.awaited(*each) for each in self.seen):
            self.held.append((s, data))
        elif not lost:
            self._pass_on(s, up, data, sender)
        if self.awaited(up, data):
            for way, answer in self.held:
                self._pass_on(way, False, answer, None)
            self.held.clear()

    def _pass_on(self, s, up, data, sender):
        if up:
            way = self.ways.setdefault(sender, None) or self._socket()
            self.ways[sender] = way
            way.sendto(data, self.server)
        else:
            client = next(address for address, way in self.ways.items() if way is s)
            self.front.sendto(data, client)

    def sent(self, head):
        """What stood behind this head in packets to the server."""
        return [data for up, data in list(self.seen) if up and data.startswith(head)]

    def close(self):
        os.write(self.waker, b"x")
        self.thread.join(10)
        for s in [self.front, *self.ways.values()]:
            s.close()
        os.close(self.woken)
        os.close(self.waker)


GREETER = """
import socket
listener = socket.create_server(("127.0.0.1", 0))
print("port", listener.getsockname()[1], flush=True)
while True:
    s = listener.accept()[0]
    s.sendall(b"you said " + s.recv(100))
    s.close()
"""


@pytest.fixture
def through(worlds):
    """A world in which laptop reaches the server, and so home, only through such a network."""
    made = []

    def make(lose, awaited):
        world = worlds()
        home = world.peer("home")
        home.start("berthd", "berth-peer")
        greeter = home.run(["/usr/bin/python3", "-c", GREETER])
        port = wait_until(lambda: re.search(r"port (\d+)", greeter.output()), 10, "the greeter")[1]
        made.append(Network(world.server.port, lose, awaited))
        world.server_address = made[-1].address
        laptop = world.peer("laptop")
        laptop.start("berth-peer", options=["--rendezvous", world.server_address])
        daemon = laptop.daemons["berth-peer"]
        wait_until(lambda: "state=registered" in daemon.output(), 10, "laptop registered")
        home.publish("data", f"127.0.0.1:{port}", "--allow", laptop.key)
        laptop.good("lookup", "home")  # pins it
        return laptop, made[-1]

    yield make
    for network in made:
        network.close()


def went_early(up, data):
    return up and data.startswith(EARLY)


def came_back(up, data):
    return not up and data.startswith(USUAL)


def says_hello(laptop):
    assert laptop.good("dial", "home/data", input=b"hello") == "you said hello"


def test_the_callee_answers_what_follows_the_call_before_the_server_does(through):
    laptop, network = through(lambda up, data: False, came_back)
    says_hello(laptop)
    assert network.sent(EARLY)


def test_early_packets_that_are_lost_go_out_again_when_the_channel_is_known(through):
    laptop, network = through(went_early, went_early)
    says_hello(laptop)
    assert network.sent(EARLY)[0][12:] in [data[8:] for data in network.sent(USUAL)]


def test_a_session_comes_about_while_the_answer_to_the_call_is_lost(through):
    lost = []

    def lose(up, data):
        if lost or not is_message(data, CALLING):
            return False
        lost.append(data)
        return True

    laptop, network = through(lose, lambda up, data: True)
    says_hello(laptop)
    assert lost
    assert len({data[12:] for data in network.sent(EARLY)}) > 1  # the rest could not wait either


def test_a_call_of_who_is_not_there_says_so_and_leaves_no_session(through):
    laptop, network = through(lambda up, data: False, came_back)
    laptop.world.peer("away")  # has a name, and nothing that runs
    laptop.refused("lookup", "away")  # it is pinned all the same
    assert "NotRegistered" in laptop.refused("dial", "away/data")
    assert network.sent(EARLY) and not network.sent(USUAL)
    assert not laptop.peers().get("away", {}).get("session")
