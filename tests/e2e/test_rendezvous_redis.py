"""Several berth-rendezvous that share a Redis: what is registered and claimed at one is found at the
others; Redis and servers that die, hang, lose their data or refuse the password."""

import os
import re
import signal
import socket
import subprocess
import time

import pytest

import peers
import rdv_peer
from harness import wait_until
from rdv_peer import (ALLOWED, ANSWERED, BY_TCP, EIM, GUESSED, OPENED, SEQUENCE, START, Answered,
                      Asker, Calling, Identity, Peer, hint_of_some, reason)
from redis_server import Redis
from rendezvous import World

pytestmark = pytest.mark.berth_only
LEASE_S = 3


class Member:
    """A key, and a socket for each server that it talks to."""

    def __init__(self, world):
        self.world, self.id, self.askers, self.sequence = world, Identity(), {}, 1
        self.tokens = {}

    def at(self, server, tcp=False):
        if (server, tcp) not in self.askers:
            self.askers[server, tcp] = self.world.keep(Asker(server.port, tcp))
        return self.askers[server, tcp]

    def register(self, server, tcp=False):
        asker = self.at(server, tcp)
        record = self.id.record(self.sequence, int(time.time()) + 3600)
        answer = asker.ask(rdv_peer.register(self.id, asker.cookie(), record))
        assert answer[2] == rdv_peer.REGISTERED, reason(answer)
        self.tokens[server] = answer[12:28]
        return record

    def refresh(self, server):
        message = rdv_peer.message(rdv_peer.REFRESH, self.tokens[server] + self.id.key)
        answer = self.at(server).ask(message)
        if answer[2] == rdv_peer.REFRESHED:
            self.tokens[server] = answer[12:28]
        return reason(answer)

    def lookup(self, server, key=bytes(32), name=""):
        """The record; empty for a name whose owner is not there; otherwise the reason."""
        asker = self.at(server)
        answer = asker.ask(rdv_peer.lookup(asker.cookie(), key, name))
        if answer[2] == rdv_peer.ERROR:
            return reason(answer)
        n = int.from_bytes(answer[56:58], "big")
        return answer[58:58 + n]

    def change(self, server, name, kind=rdv_peer.CLAIM):
        asker = self.at(server)
        answer = asker.ask(rdv_peer.claim(self.id, asker.cookie(), name, kind))
        return reason(answer) or "Done"

    def names(self, server):
        asker = self.at(server)
        body = asker.cookie() + self.id.key
        answer = asker.ask(rdv_peer.message(rdv_peer.LIST, body))
        return re.findall(rb"[a-z0-9-]+", answer[13:])


class Nodes(World):
    """Servers that share a Redis."""

    def __init__(self, build):
        super().__init__(build)
        self.redis = Redis(self._folder())
        self.ends.append(lambda: self.redis.proc and self.redis.kill())

    def node(self, *options, url=None, up=True):
        server = self.server("--registry", url or self.redis.url(), "--threads", 2, "--rate", 0,
                             *options)
        if up:
            self.is_up(server)
        return server

    def is_up(self, server, times=1):
        """Both threads have a connection; for the so many-th time."""
        for thread in (0, 1):
            wait_until(lambda: server.proc.output().count(f"redis up thread={thread}") >= times, 15,
                       "a connection to Redis")

    def make_folder(self):
        return self._folder()

    def program(self, name, server):
        """berth itself, for somebody who knows only this server."""
        self.server_address = server.address
        user = peers.Peer(self, name)
        self.ends.append(user.close)
        return user

    def peer(self):
        return Member(self)

    def caller(self, server, **over):
        """Somebody who is registered there, calls and is called."""
        return Peer(self.keep(Asker(server.port, **over))).register()


@pytest.fixture
def nodes(build):
    n = Nodes(build)
    yield n
    n.close()


def found(peer, server, key):
    """The record, once the server knows it."""
    def looked():
        record = peer.lookup(server, key)
        return record if isinstance(record, bytes) else None

    return wait_until(looked, 10, "a record")


def answers(asker):
    """Its server answers now; what else came before is passed over."""
    def answered():
        asker.send(rdv_peer.message(rdv_peer.HELLO, bytes(52)))
        try:
            while asker.receive()[2] != rdv_peer.COOKIE:
                pass
        except TimeoutError:  # too much came at once
            return False
        return True

    asker.socket.settimeout(1)
    wait_until(answered, 10, "an answer")


def test_a_peer_is_found_at_another_server(nodes):
    nodes.redis.start()
    a, b = nodes.node(), nodes.node()
    home, laptop = nodes.peer(), nodes.peer()
    record = home.register(a)
    assert laptop.lookup(a, home.id.key) == record
    assert found(laptop, b, home.id.key) == record
    assert laptop.lookup(b, Identity().key) == "NotRegistered"
    tcp = nodes.keep(Asker(b.port, tcp=True))
    assert record in tcp.ask(rdv_peer.lookup(bytes(16), home.id.key))


def test_nothing_longer_goes_to_an_unproven_address_from_another_server(nodes):
    nodes.redis.start()
    a, b = nodes.node(), nodes.node()
    home, stranger = nodes.peer(), nodes.keep(Asker(b.port))
    record = home.register(a)
    found(home, b, home.id.key)
    stranger.send(rdv_peer.lookup(bytes(16), home.id.key, pad=80))
    answer = stranger.receive()
    assert answer[2] == rdv_peer.COOKIE and len(answer) <= 92
    padded = rdv_peer.lookup(bytes(16), home.id.key, pad=500)
    assert record in stranger.ask(padded)


def test_a_copy_goes_when_its_peer_is_silent_and_stays_while_it_refreshes(nodes):
    nodes.redis.start()
    a, b = nodes.node("--lease", LEASE_S), nodes.node("--lease", LEASE_S)
    silent, alive = nodes.peer(), nodes.peer()
    silent.register(a)
    alive.register(a)
    found(alive, b, silent.id.key)
    found(alive, b, alive.id.key)

    def gone():
        assert alive.refresh(a) is None
        assert isinstance(alive.lookup(b, alive.id.key), bytes)
        return alive.lookup(b, silent.id.key) == "NotRegistered"

    wait_until(gone, 3 * LEASE_S + 5, "the end of a lease")
    stats = nodes.redis.cli("INFO", "commandstats")
    written = int(re.search(r"cmdstat_set:calls=(\d+)", stats)[1])
    assert written <= 8, "a refresh costs Redis nothing but each third of a lease"


def test_names_belong_to_one_key_at_all_servers(nodes):
    nodes.redis.start()
    a, b = nodes.node("--names-max", 20), nodes.node("--names-max", 20)
    home, thief = nodes.peer(), nodes.peer()
    assert home.change(a, "home") == "Done"
    assert home.change(b, "home") == "Done", "a claim may be repeated"
    assert thief.change(b, "home") == "NameTaken"
    assert thief.change(a, "home", rdv_peer.RELEASE) == "NotOwner"
    assert thief.change(a, "away", rdv_peer.RELEASE) == "UnknownName"
    assert thief.lookup(b, name="home") == b"", "nobody is registered"
    record = home.register(a)
    assert thief.lookup(a, name="home") == record
    wait_until(lambda: thief.lookup(b, name="home") == record, 10, "the record by name")
    assert home.change(a, "attic") == "Done"
    assert home.names(b) == [b"attic", b"home"]
    assert home.change(b, "home", rdv_peer.RELEASE) == "Done"
    assert thief.lookup(a, name="home") == "UnknownName"
    assert thief.change(a, "home") == "Done"
    for i in range(15):
        assert home.change(a, f"n{i}") == "Done"
    assert home.change(a, "one-more") == "TooManyNames"
    assert [thief.change(a, f"t{i}") for i in range(4)] == ["Done"] * 3 + ["Full"]


def test_redis_dies_and_comes_back_with_its_data(nodes):
    nodes.redis.start(durable=True)
    a, b = nodes.node(), nodes.node()
    home, laptop = nodes.peer(), nodes.peer()
    record = home.register(a)
    assert home.change(a, "home") == "Done"
    found(laptop, b, home.id.key)
    nodes.redis.kill()
    wait_until(lambda: laptop.lookup(b, name="home") == "Storage", 10, "that it is noticed")
    assert laptop.change(b, "home") == "Storage" and laptop.change(a, "other") == "Storage"
    assert laptop.lookup(a, home.id.key) == record, "its own peers need no Redis"
    laptop.register(b)
    assert home.refresh(a) is None
    nodes.redis.start(durable=True)
    nodes.is_up(a, 2)
    nodes.is_up(b, 2)
    assert laptop.change(b, "home") == "NameTaken"
    assert isinstance(found(home, a, laptop.id.key), bytes), "who came meanwhile is found"
    wait_until(lambda: laptop.lookup(b, name="home") == record, 10, "the name")


def test_redis_loses_its_data_and_gets_all_peers_back_at_once(nodes):
    nodes.redis.start()
    a, b = nodes.node(), nodes.node()
    peers = [nodes.peer() for _ in range(50)]
    for peer in peers:
        peer.register(a)
    nodes.redis.kill()
    wait_until(lambda: peers[0].lookup(b, peers[1].id.key) == "Storage", 10, "that it is noticed")
    nodes.redis.start()
    wait_until(lambda: nodes.redis.cli("DBSIZE").strip() == "50", 10, "all copies, unasked")
    nodes.is_up(b, 2)
    for peer in peers:
        assert isinstance(peer.lookup(b, peer.id.key), bytes)


def test_a_server_dies_and_its_peers_register_at_another(nodes):
    nodes.redis.start()
    a, b = nodes.node(), nodes.node()
    home, laptop = nodes.peer(), nodes.peer()
    home.register(a)
    assert home.change(a, "home") == "Done"
    a.proc.kill()
    record = home.register(b)
    assert laptop.lookup(b, name="home") == record
    c = nodes.node()
    assert found(laptop, c, home.id.key) == record


def test_a_redis_that_hangs_holds_nobody_up(nodes):
    nodes.redis.start()
    a, b = nodes.node(), nodes.node()
    home, laptop = nodes.peer(), nodes.peer()
    record = home.register(a)
    found(laptop, b, home.id.key)
    nodes.redis.pause()
    before = b.memory()
    waiting = nodes.keep(Asker(b.port))
    cookie = waiting.cookie()
    for i in range(40000):
        waiting.send(rdv_peer.lookup(cookie, i.to_bytes(32, "big")))
        if i % 100 == 0:
            answers(waiting)
    # With sanitizers five times as much; what is not bounded goes on growing.
    assert b.memory() - before < 100 << 20
    assert home.refresh(a) is None and laptop.lookup(a, home.id.key) == record
    laptop.register(b)
    assert wait_until(lambda: "err=no answer" in b.proc.output(), 10, "that it is given up")
    assert laptop.change(b, "home") == "Storage"
    assert b.counters()["refused.Busy"] > 1000, "what waits is bounded"
    nodes.redis.go_on()
    wait_until(lambda: laptop.change(b, "home") == "Done", 10, "a claim")
    assert found(home, a, laptop.id.key)


def test_a_wrong_password_is_said_and_may_be_mended(nodes):
    nodes.redis.password = "right@:/"
    nodes.redis.start()
    a = nodes.node(url=nodes.redis.url("wrong"), up=False)
    wait_until(lambda: "err=WRONGPASS" in a.proc.output(), 10, "a complaint")
    home = nodes.peer()
    home.register(a)
    assert home.change(a, "home") == "Storage"
    b = nodes.node(url=nodes.redis.url("right%40%3A%2f", db=3))
    assert nodes.peer().lookup(b, name="home") == "UnknownName"
    nodes.redis.cli("CONFIG", "SET", "requirepass", "wrong")
    nodes.is_up(a)
    assert home.change(a, "home") == "Done"
    with open(f"/proc/{a.proc.pid}/cmdline", "rb") as f:
        assert b"wrong" not in f.read()


def test_a_redis_is_reached_over_tcp_from_inside_the_sandbox(nodes):
    nodes.redis.password = "secret"
    nodes.redis.start(durable=True)
    a, b = (nodes.node(url=f"redis://:secret@localhost:{nodes.redis.port}") for _ in range(2))
    home = nodes.peer()
    home.register(a)
    found(home, b, home.id.key)
    nodes.redis.kill()
    nodes.redis.start(durable=True)
    nodes.is_up(b, 2)
    assert home.change(b, "home") == "Done"


def test_a_user_that_may_do_no_more_than_the_manual_says_is_enough(nodes):
    nodes.redis.start()
    rules = "on >pw ~berth:* &berth:* +@read +@write +@pubsub +@connection +eval"
    assert "OK" in nodes.redis.cli("ACL", "SETUSER", "b", *rules.split())
    a, b = (nodes.node(url=nodes.redis.url("pw", user="b")) for _ in range(2))
    laptop, home = nodes.caller(a), nodes.caller(b)
    home.allow(anyone=True)
    assert isinstance(call(laptop, home), Calling)
    owner = nodes.peer()
    assert owner.change(a, "home") == "Done" and owner.names(b) == [b"home"]
    assert owner.lookup(b, name="home") == b""
    assert owner.change(b, "home", rdv_peer.RELEASE) == "Done"
    assert "No such" not in a.proc.output() and "refuses" not in a.proc.output()


def test_a_redis_that_refuses_to_write_is_said_once(nodes):
    nodes.redis.start()
    a = nodes.node()
    nodes.redis.cli("CONFIG", "SET", "maxmemory", "1")
    home = nodes.peer()
    for _ in range(3):
        home.register(a)
    wait_until(lambda: "redis refuses" in a.proc.output(), 10, "a complaint")
    assert home.change(a, "home") == "Storage"
    assert home.lookup(a, Identity().key) == "NotRegistered", "reading goes on"
    nodes.redis.cli("CONFIG", "SET", "maxmemory", "0")
    assert home.change(a, "home") == "Done"
    home.register(a)
    wait_until(lambda: "1" in nodes.redis.cli("EXISTS", "berth:names"), 10, "the name")
    assert a.proc.output().count("redis refuses thread=") <= 2


# Calls --------------------------------------------------------------------------------------------


def stop(pid):
    """Until all its threads stand still."""
    def stands():
        states = []
        for task in os.listdir(f"/proc/{pid}/task"):
            with open(f"/proc/{pid}/task/{task}/stat", encoding="ascii") as f:
                states.append(f.read().rsplit(")", 1)[1].split()[0])
        return set(states) == {"T"}

    os.kill(pid, signal.SIGSTOP)
    wait_until(stands, 10, "a process that stands still")


def refusal(answer):
    return None if isinstance(answer, Calling) else reason(answer)


def call(caller, callee):
    """Repeats it until the callee's copy is where the caller's server finds it."""
    def called():
        answer = caller.call(callee.key, 7, b"sealed for b", rtt=40000)
        return answer if refusal(answer) != "NotRegistered" else None

    return wait_until(called, 10, "an answer to a call")


@pytest.mark.parametrize("over", [("udp", "udp"), ("udp", "tcp"), ("tcp", "udp"), ("tls", "tls")],
                         ids="-".join)
def test_peers_of_two_servers_are_introduced_and_relayed(nodes, over):
    nodes.redis.start()
    a, b = nodes.node(), nodes.node()
    transports = {"udp": {}, "tcp": {"tcp": True}, "tls": {"tls": True}}
    for at, to in ((a, b), (b, a)):
        laptop = nodes.caller(at, **transports[over[0]])
        home = nodes.caller(to, **transports[over[1]])
        assert home.allow(laptop.key)[2] == ALLOWED
        calling = call(laptop, home)
        invite = home.invited()
        assert (invite.call, invite.key, invite.offer) == (7, laptop.key, b"sealed for b")
        assert invite.relay is None and calling.relay == ("127.0.0.1", to.port)
        seen = laptop.asker.socket.getsockname()
        assert invite.seen == (seen if over[0] == "udp" else (seen[0], 0))
        home.relay(invite.channel, b"to nobody, yet")
        assert home.answer(invite, offer=b"sealed for a", rtt=10000)[2] == START
        answered = Answered(laptop.next(ANSWERED))
        assert (answered.key, answered.reason, answered.offer) == (home.key, 0, b"sealed for a")
        assert answered.wait == 8000
        near = Peer(nodes.keep(Asker(to.port)), laptop.identity)
        assert near.open(calling.channel, calling.ticket)[2] == OPENED
        near.relay(calling.channel, b"from afar")
        assert home.relayed() == (invite.channel, b"from afar")
        home.relay(invite.channel, b"and back")
        assert near.relayed() == (calling.channel, b"and back")
        again = call(laptop, home)
        assert (again.channel, again.ticket) == (calling.channel, calling.ticket)
        assert home.invited().channel == invite.channel
        assert home.answer(invite, taken=25)[2] == START
        assert Answered(laptop.next(ANSWERED)).reason == 25


def test_what_worked_is_told_to_the_server_of_the_callee_which_gives_the_hint(nodes):
    nodes.redis.start()
    a, b = nodes.node(), nodes.node()
    laptop, home, near = nodes.caller(a), nodes.caller(b), nodes.caller(b)
    home.allow(anyone=True)
    laptop.print = near.print = EIM
    home.print = SEQUENCE
    call(laptop, home)
    assert home.answer(home.invited())[2] == START
    laptop.worked(home.key, 7, GUESSED)
    laptop.worked(home.key, 8, BY_TCP)  # there is no such call
    wait_until(lambda: b.counters().get("worked.guessed") == 1, 10, "what worked")
    wait_until(lambda: b.counters().get("refused.UnknownCall") == 1, 10, "what did not")
    assert "worked.guessed" not in a.counters()
    assert hint_of_some(laptop, home, range(10, 20)) == GUESSED
    assert hint_of_some(near, home, range(10, 20)) == GUESSED


def test_what_is_said_of_calls_that_never_were_costs_the_other_servers_nothing(nodes):
    nodes.redis.start()
    a, _ = nodes.node(), nodes.node()
    laptop, home = nodes.caller(a), nodes.caller(a)
    for number in range(40):
        laptop.worked(home.key, number, GUESSED)
    wait_until(lambda: a.counters().get("refused.UnknownCall") == 40, 10, "what is not known")
    stats = nodes.redis.cli("INFO", "commandstats")
    gets = re.search(r"cmdstat_get:calls=(\d+)", stats)
    assert gets is None or int(gets[1]) == 0


def test_a_service_is_dialled_by_the_name_that_was_claimed_at_another_server(nodes):
    nodes.redis.start()
    a, b = nodes.node(), nodes.node()
    home, laptop = nodes.program("home", a), nodes.program("laptop", b)
    home.good("name", "claim", "home")
    web = nodes.keep(socket.create_server(("127.0.0.1", 0)))
    home.start("berthd", "berth-peer")
    laptop.start("berth-peer")
    home.publish("web", "127.0.0.1:%d" % web.getsockname()[1], "--allow", laptop.key)
    wait_until(lambda: nodes.redis.cli("DBSIZE").strip() == "3", 10, "the name, and a copy")
    dialling = laptop.dialling("home/web")
    web.settimeout(20)
    served, _ = web.accept()
    with served:
        dialling.stdin.write(b"from afar")
        dialling.stdin.flush()
        assert served.recv(100) == b"from afar"
        served.sendall(b"and back")
    assert dialling.communicate(timeout=20)[0] == b"and back"
    assert a.counters()["invited"] >= 1 and a.counters()["answered"] >= 1
    assert b.counters()["invited"] == 0


def test_a_call_across_servers_is_refused_with_the_reason(nodes):
    nodes.redis.start()
    a, b = nodes.node(), nodes.node("--relay-pairs", 0)
    laptop, home = nodes.caller(a), nodes.caller(b)
    assert reason(laptop.call(Identity().key)) == "NotRegistered"
    wait_until(lambda: refusal(laptop.call(home.key)) == "NotAllowed", 10, "a refusal")
    home.allow(anyone=True)
    assert reason(laptop.call(home.key)) == "NoRelay"
    assert b.counters()["refused.NotAllowed"] >= 1
    assert not home.waiting, "it has heard of nobody"


def test_a_call_for_a_server_that_died_or_hangs_ends(nodes):
    nodes.redis.start()
    a, b = nodes.node(), nodes.node()
    laptop, home = nodes.caller(a), nodes.caller(b)
    home.allow(anyone=True)
    call(laptop, home)
    stop(b.proc.pid)
    assert refusal(laptop.call(home.key)) == "Busy"
    b.proc.send(signal.SIGCONT)
    # Its Redis may have dropped it meanwhile; then it comes back by itself.
    wait_until(lambda: isinstance(call(laptop, home), Calling), 10, "a call that gets through")
    b.proc.kill()
    assert refusal(laptop.call(home.key)) == "NotRegistered"
    moved = Peer(nodes.keep(Asker(nodes.node().port)), home.identity).register(2)
    moved.allow(anyone=True)
    assert isinstance(call(laptop, moved), Calling)
    nodes.redis.kill()
    wait_until(lambda: refusal(laptop.call(moved.key)) == "Storage", 10, "that it is noticed")


def test_a_peer_of_two_servers_is_called_at_the_one_that_is_left(nodes):
    nodes.redis.start()
    a, b, c = nodes.node(), nodes.node(), nodes.node()
    laptop, home = nodes.caller(a), nodes.caller(b)
    home.allow(anyone=True)
    wait_until(lambda: isinstance(laptop.call(home.key), Calling), 10, "the copy of the first")
    other = Peer(nodes.keep(Asker(c.port)), home.identity).register()
    other.allow(anyone=True)
    wait_until(lambda: laptop.call(home.key).relay == ("127.0.0.1", c.port), 10,
               "the copy of the second")
    c.proc.kill()
    assert laptop.call(home.key).relay == ("127.0.0.1", b.port)


def test_a_server_hears_the_others_again_when_its_channel_was_lost(nodes):
    nodes.redis.start()
    a, b = nodes.node(), nodes.node()
    laptop, home = nodes.caller(a), nodes.caller(b)
    home.allow(anyone=True)
    call(laptop, home)
    assert int(nodes.redis.cli("CLIENT", "KILL", "TYPE", "pubsub")) == 4
    assert isinstance(call(laptop, home), Calling)
    assert home.answer(home.invited())[2] == START


@pytest.mark.parametrize("text", ["redis://", "redis:///1", "redis://h:0", "redis://h:99999",
                                  "redis://h/x", "unix://relative", "unix:///s?db=", "http://h",
                                  "redis://u@h", "redis://:%00@h", "redis://[::1"])
def test_a_bad_address_of_redis_is_refused(nodes, text):
    state = os.path.join(nodes.folder, "state")
    done = subprocess.run([os.path.join(nodes.build, "berth-rendezvous"), "--listen", "127.0.0.1:0",
                           "--state", state, "--registry", text], stdin=subprocess.DEVNULL,
                          capture_output=True, text=True, timeout=10, check=False)
    assert done.returncode == 2 and "--registry" in done.stderr
