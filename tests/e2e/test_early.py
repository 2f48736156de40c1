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


class Network:
    """Carries datagrams to a server and back, but those of which lose(up, datagram) is true."""

    def __init__(self, port, lose):
        self.server, self.lose, self.ways, self.seen = ("127.0.0.1", port), lose, {}, []
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
        if self.lose(up, data):
            return
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

    def make(lose):
        world = worlds()
        home = world.peer("home")
        home.start("berthd", "berth-peer")
        greeter = home.run(["/usr/bin/python3", "-c", GREETER])
        port = wait_until(lambda: re.search(r"port (\d+)", greeter.output()), 10, "the greeter")[1]
        made.append(Network(world.server.port, lose))
        world.server_address = made[-1].address
        laptop = world.peer("laptop")
        laptop.start("berth-peer")
        home.publish("data", f"127.0.0.1:{port}", "--allow", laptop.key)
        laptop.good("lookup", "home")  # pins it
        return laptop, made[-1]

    yield make
    for network in made:
        network.close()


def is_message(data, kind):
    return len(data) > 2 and data[0] == 5 and data[2] == kind


def says_hello(laptop):
    assert laptop.good("dial", "home/data", input=b"hello") == "you said hello"


def test_a_session_begins_behind_the_call(through):
    laptop, network = through(lambda up, data: False)
    says_hello(laptop)
    kinds = ["early" if up and data.startswith(EARLY) else "calling"
             for up, data in network.seen if data.startswith(EARLY) or is_message(data, CALLING)]
    assert kinds[:2] == ["early", "calling"]


def test_early_packets_that_are_lost_go_out_again_when_the_channel_is_known(through):
    laptop, network = through(lambda up, data: up and data.startswith(EARLY))
    says_hello(laptop)
    lost = network.sent(EARLY)
    assert lost and lost[0][12:] in [data[8:] for data in network.sent(USUAL)]


def test_a_session_comes_about_while_the_answer_to_the_call_is_lost(through):
    lost = []

    def lose(up, data):
        if up or not is_message(data, CALLING) or lost:
            return False
        lost.append(data)
        return True

    laptop, network = through(lose)
    says_hello(laptop)
    assert lost
    early = [data[12:] for data in network.sent(EARLY)]
    assert len(set(early)) > 1  # what follows the first packet could not wait


def test_a_call_of_who_is_not_there_says_so_and_leaves_no_session(through):
    laptop, network = through(lambda up, data: False)
    laptop.world.peer("away")  # has a name, and nothing that runs
    laptop.refused("lookup", "away")  # it is pinned all the same
    assert "NotRegistered" in laptop.refused("dial", "away/data")
    assert network.sent(EARLY) and not network.sent(USUAL)
    assert not laptop.peers().get("away", {}).get("session")
