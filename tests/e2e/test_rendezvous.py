"""berth-rendezvous and the verbs that ask it: keys, names, records; bad input, floods, kill -9."""

import base64
import hashlib
import json
import os
import re
import socket
import struct
import subprocess
import time

import pytest

import rdv_peer
from harness import can_bind, cpu_share, free_port, has_ipv6, wait_until
from rdv_peer import Asker, Identity, Liar, TcpOnly

pytestmark = pytest.mark.berth_only


# Keys ---------------------------------------------------------------------------------------------


def test_a_key_is_made_once_and_shown_on_a_line_of_its_own(world):
    user = world.user(has_key=False)
    assert "berth key new" in user.refused("key", "show")
    made = user.good("key")
    assert re.fullmatch(r"[a-z2-7]{56}\n", made)
    assert user.good("key", "show") == made == user.good("key")
    assert "not overwritten" in user.refused("key", "new")
    assert os.stat(user.key_file).st_mode & 0o777 == 0o600


def test_the_text_of_a_key_is_base32_with_a_checksum(world):
    text = world.user().key()
    data = base64.b32decode(text.upper() + "=" * (-len(text) % 8))
    checksum = hashlib.blake2b(data[:32], digest_size=32, key=b"berth key text 1").digest()
    assert len(data) == 35 and data[32:] == checksum[:3]


def test_a_key_that_others_can_read_is_refused(world):
    user = world.user()
    os.chmod(user.key_file, 0o604)
    assert "can be read or written by others" in user.refused("key", "show")
    assert "can be read or written by others" in user.refused(
        "register", "--rendezvous", "127.0.0.1:1")


# Names and records --------------------------------------------------------------------------------


def test_a_name_is_claimed_registered_and_looked_up(world):
    server, home, laptop = world.server(), world.user(), world.user()
    at = ("--rendezvous", server.address)
    assert "home is yours" in home.good("name", "claim", "home", *at)
    assert home.good("name", "list", *at) == "home\n"
    assert laptop.berth("lookup", "home", *at).returncode == 1  # held, but not registered
    world.register(home, server.address, "--service", "web=8080", "--service", "files=udp:9000",
                   "--address", "192.0.2.7", "--address", "2001:db8::7")
    shown = laptop.good("lookup", "home", *at)
    for text in (home.key(), "192.0.2.7", "2001:db8::7", "web  tcp port 8080",
                 "files  udp port 9000", "heard of"):
        assert text in shown
    found = json.loads(laptop.good("lookup", "home/web", "--json", *at))
    assert found["key"] == home.key() and found["registered"] and found["age"] < 30
    assert found["services"] == [{"name": "web", "transport": "tcp", "port": 8080}]
    assert [a["address"] for a in found["addresses"]] == ["192.0.2.7", "2001:db8::7"]
    by_key = json.loads(laptop.good("lookup", home.key().upper(), "--json", *at))
    assert by_key["key"] == home.key()
    assert "no service 'ssh'" in laptop.refused("lookup", "home/ssh", *at)


def test_servers_may_stand_in_the_configuration(world):
    server, home = world.server(), world.user()
    path = os.path.join(home.home, ".config", "berth", "berth.conf")
    with open(path, "w", encoding="utf-8") as f:
        f.write(f"[berth]\nrendezvous = 127.0.0.1:{free_port()} {server.address}\n")
    home.env.pop("BERTH_RENDEZVOUS", None)
    home.good("name", "claim", "home", "--rendezvous", server.address)
    assert home.key() in home.berth("lookup", "--json", "home").stdout
    with open(path, "w", encoding="utf-8") as f:
        f.write("[berth]\nrendezvous = not:a:server\n")
    assert "rendezvous" in home.berth("check", "--config", path).stdout
    done = home.berth("lookup", "home")
    assert done.returncode == 2 and "berth.conf" in done.stderr


def test_no_address_is_shown_that_was_not_given(world):
    server, home, laptop = world.server(), world.user(), world.user()
    world.register(home, server.address)
    found = json.loads(laptop.good("lookup", home.key(), "--json", "--rendezvous", server.address))
    assert found["addresses"] == []
    assert "127.0.0.1" not in json.dumps({k: v for k, v in found.items() if k != "server"})


def test_who_comes_first_has_the_name(world):
    server, home, other = world.server(), world.user(), world.user()
    at = ("--rendezvous", server.address)
    home.good("name", "claim", "home", *at)
    assert "NameTaken" in other.refused("name", "claim", "home", *at)
    assert "NotOwner" in other.refused("name", "release", "home", *at)
    assert "UnknownName" in other.refused("name", "release", "house", *at)
    home.good("name", "release", "home", *at)
    assert "UnknownName" in other.refused("lookup", "home", *at)
    other.good("name", "claim", "home", *at)


def test_a_mistyped_key_is_noticed_before_anybody_is_asked(world):
    user = world.user()
    key = user.key()
    wrong = ("b" if key[0] == "a" else "a") + key[1:]
    assert "mistyped" in user.refused("lookup", wrong, "--rendezvous", "127.0.0.1:1")


def test_a_changed_key_is_an_error_until_it_is_accepted(world):
    server, home, thief, laptop = world.server(), world.user(), world.user(), world.user()
    at = ("--rendezvous", server.address)
    home.good("name", "claim", "home", *at)
    laptop.berth("lookup", "home", *at)
    home.good("name", "release", "home", *at)
    thief.good("name", "claim", "home", *at)
    world.register(thief, server.address)
    said = laptop.refused("lookup", "home", *at)
    assert "KeyChanged" in said and home.key() in said and thief.key() in said
    assert f"berth peers accept home {thief.key()}" in said
    laptop.good("peers", "accept", "home", thief.key())
    assert thief.key() in laptop.good("lookup", "home", *at)
    peers = json.loads(laptop.good("peers", "--json"))["peers"]
    assert [(p["name"], p["key"]) for p in peers] == [("home", thief.key())]
    laptop.good("peers", "forget", "home")
    assert json.loads(laptop.good("peers", "--json"))["peers"] == []


def test_where_udp_is_blocked_tcp_carries_it_all(world):
    server, home, laptop = world.server("--lease", 4), world.user(), world.user()
    through = world.keep(TcpOnly(server.port)).address
    home.good("name", "claim", "home", "--rendezvous", through)
    proc = world.register(home, through, "--service", "web")
    assert "over TCP" in proc.output()
    before = server.counters().get("refreshed", 0)
    wait_until(lambda: server.counters().get("refreshed", 0) >= before + 2, 15, "refreshes")
    assert "web" in laptop.good("lookup", "home", "--rendezvous", through)


def test_a_server_that_is_not_there_is_passed_over_for_the_next(world):
    server, home, laptop = world.server(), world.user(), world.user()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
        s.bind(("127.0.0.1", 0))
        nobody = f"127.0.0.1:{s.getsockname()[1]}"
    world.register(home, server.address)
    assert laptop.good("lookup", home.key(), "--rendezvous", nobody, "--rendezvous", server.address)
    assert "cannot ask" in laptop.refused("lookup", home.key(), "--rendezvous", nobody)


def test_a_host_of_several_addresses_is_tried_at_each_over_udp(world):
    server, home = world.server(), world.user()
    proc = world.register(home, f"localhost:{server.port}")  # ::1, too, where there is IPv6
    assert "over UDP" in proc.output()


@pytest.mark.parametrize("listen, asked", [("0.0.0.0", "127.0.0.5"), ("[::]", "::1")])
def test_a_server_at_all_addresses_answers_from_the_one_that_was_asked(world, listen, asked):
    """A connected socket hears nobody else. A claim's answer takes another way than the others."""
    if asked == "::1" and not has_ipv6():
        pytest.skip("no IPv6 here")
    server = world.server(host=listen)
    asker = world.keep(Asker(server.port, host=asked))
    cookie = asker.cookie()
    assert asker.ask(rdv_peer.claim(Identity(), cookie, "home"))[2] == rdv_peer.DONE
    assert asker.ask(rdv_peer.lookup(cookie, name="home"))[2] == rdv_peer.FOUND


def test_a_peer_that_falls_silent_is_forgotten(world):
    server, home, laptop = world.server("--lease", 1), world.user(), world.user()
    home.good("register", "--once", "--rendezvous", server.address)
    wait_until(lambda: "NotRegistered" in laptop.berth(
        "lookup", home.key(), "--rendezvous", server.address).stderr, 15, "the end of the lease")
    wait_until(lambda: server.counters()["peers"] == 0, 15, "the sweep")


# Death --------------------------------------------------------------------------------------------


def test_names_survive_kill_9_at_any_instant(world):
    server = world.server("--rate", 0)
    granted = {}
    for round_number in range(5):
        asker, cookie = Asker(server.port), None
        cookie = asker.cookie()
        for i in range(40):
            who, name = Identity(), f"n{round_number}-{i}"
            asker.send(rdv_peer.claim(who, cookie, name))
            if i < 20 + round_number * 3:
                answer = asker.receive()
                assert answer[2] == rdv_peer.DONE, rdv_peer.reason(answer)
                granted[name] = who.key
        server.proc.kill()  # while it is busy with the rest
        asker.close()
        server.start("--rate", 0)
    asker = Asker(server.port)
    cookie = asker.cookie()
    for name, key in granted.items():
        answer = asker.ask(rdv_peer.lookup(cookie, name=name))
        assert answer[2] == rdv_peer.FOUND and answer[12:44] == key, name
    asker.close()


def test_a_registration_comes_back_after_kill_9_by_itself(world):
    server, home, laptop = world.server("--lease", 4), world.user(), world.user()
    home.good("name", "claim", "home", "--rendezvous", server.address)
    world.register(home, server.address, "--service", "web")
    server.proc.kill()
    server.start("--lease", 4)
    wait_until(lambda: laptop.berth("lookup", "home", "--rendezvous",
                                    server.address).returncode == 0, 30, "the registration")


def test_a_second_server_on_the_same_folder_or_port_does_not_start(world, build):
    server = world.server()
    program = os.path.join(build, "berth-rendezvous")
    done = subprocess.run([program, "--listen", "127.0.0.1:0", "--state", server.state],
                          capture_output=True, text=True, timeout=20, check=False)
    assert done.returncode == 1 and "in use by another server" in done.stderr
    done = subprocess.run([program, "--listen", server.address, "--state", world._folder()],
                          capture_output=True, text=True, timeout=20, check=False)
    assert done.returncode == 1 and "Address already in use" in done.stderr


def test_as_root_it_gives_up_its_rights(world):
    server = world.server()
    with open(f"/proc/{server.proc.pid}/status", encoding="ascii") as f:
        status = f.read()
    if os.geteuid() == 0:
        assert not re.search(r"Uid:.*\b0\b", status)
        assert os.readlink(f"/proc/{server.proc.pid}/root") == server.state
    if "build-san" not in server.build:
        assert re.search(r"Seccomp:\s+2", status)
    assert os.stat(os.path.join(server.state, "names.db")).st_mode & 0o777 == 0o600


# Bad input ----------------------------------------------------------------------------------------


@pytest.fixture(params=["udp", "tcp"])
def asker(request, world):
    world.bad_server = world.server("--rate", 0)
    return world.keep(Asker(world.bad_server.port, request.param == "tcp"))


def test_bad_records_are_refused_with_a_reason_and_counted(world, asker):
    me, other, cookie, now = Identity(), Identity(), asker.cookie(), int(time.time())

    def enter(record, who=me):
        answer = asker.ask(rdv_peer.register(who, cookie, record))
        return rdv_peer.reason(answer) or answer[2]

    good = me.record(10, now + 60)
    assert enter(good) == rdv_peer.REGISTERED
    assert enter(good) == rdv_peer.REGISTERED
    assert enter(me.record(9, now + 60)) == "Replayed"
    assert enter(me.record(10, now + 61)) == "SequenceReused"
    assert enter(good[:-1] + bytes([good[-1] ^ 1])) == "Forged"
    assert enter(me.record(11, now + 60)[:-64] + bytes(64)) == "Forged"
    assert enter(me.record(11, now + 60), other) == "Forged"
    assert enter(me.record(11, now - 1)) == "Expired"
    assert enter(me.record(11, now + 30 * 86400)) == "TooLongValid"
    assert enter(me.record(11, now + 60, version=2)) == "BadVersion"
    assert enter(me.record(11, now + 60, b"\x03\x06\x02\0\0")) == "BadRecord"
    assert enter(good[:100]) in ("BadRecord", "Forged")
    unknown = b"\xc8\xff" + bytes(255)  # a field that nobody knows
    assert enter(me.record(11, now + 60, 3 * unknown)) == rdv_peer.REGISTERED
    assert enter(me.record(12, now + 60, 3 * unknown + b"\xc8\x96" + bytes(150))) == "BadRecord"
    counters = world.bad_server.counters()
    assert counters["peers"] == 1 and counters["refused.Forged"] >= 3
    answer = asker.ask(rdv_peer.lookup(cookie, me.key))
    assert answer.endswith(me.record(11, now + 60, 3 * unknown))


def test_bad_messages_get_a_word_and_harm_nobody(asker):
    me, cookie, now = Identity(), asker.cookie(), int(time.time())
    whole = rdv_peer.register(me, cookie, me.record(1, now + 60))
    for n in range(40, len(whole)):
        assert rdv_peer.reason(asker.ask(whole[:n])) == "BadMessage"
    assert rdv_peer.reason(asker.ask(whole + b"x")) == "BadMessage"
    asker.send(rdv_peer.message(rdv_peer.FOUND, bytes(46)))  # a server's: not answered at all
    assert asker.ask(whole)[2] == rdv_peer.REGISTERED


def test_an_oversized_datagram_is_refused(world):
    server = world.server()
    asker = world.keep(Asker(server.port))
    answer = asker.ask(rdv_peer.message(rdv_peer.HELLO, bytes(60000)))
    assert rdv_peer.reason(answer) == "BadMessage" and len(answer) < 64
    assert asker.cookie()


def test_an_oversized_length_ends_the_connection(world):
    server = world.server()
    asker = world.keep(Asker(server.port, tcp=True))
    asker.cookie()
    asker.socket.sendall(b"\xff\xff")
    assert asker.socket.recv(10) == b""


def test_a_message_in_pieces_and_many_at_once_are_read_over_tcp(world):
    server = world.server()
    asker = world.keep(Asker(server.port, tcp=True))
    hello = rdv_peer.message(rdv_peer.HELLO, bytes(52))
    whole = struct.pack(">H", len(hello)) + hello
    for byte in whole:
        asker.socket.sendall(bytes([byte]))
    assert asker.receive()[2] == rdv_peer.COOKIE
    asker.socket.sendall(whole * 50)
    assert {asker.receive()[2] for _ in range(50)} == {rdv_peer.COOKIE}


def test_without_descriptors_accepting_rests_and_goes_on(world):
    server = world.server()
    server.proc.kill()
    server.limit = ("prlimit", "--nofile=48:48")
    server.start()
    askers = [world.keep(Asker(server.port, tcp=True)) for _ in range(60)]
    wait_until(lambda: "Too many open files" in server.proc.output(), 10, "a lack of descriptors")
    assert cpu_share(server.proc.pid) < 0.3, "it turns round and round"
    for asker in askers[:50]:
        asker.close()
    assert askers[-1].cookie()

def test_who_takes_no_answers_is_not_read_any_more(world):
    """A connection holds a few answers at most, whatever is asked."""
    server = world.server()
    asker = world.keep(Asker(server.port, tcp=True))
    hello = rdv_peer.message(rdv_peer.HELLO, bytes(52))
    whole = (struct.pack(">H", len(hello)) + hello) * 1000
    asker.socket.settimeout(1)
    before = server.memory()
    with pytest.raises(OSError):
        while True:
            asker.socket.sendall(whole)
    assert server.memory() < before + (4 << 20)
    assert Asker(server.port).cookie()


def test_somebody_elses_token_and_cookie_are_of_no_use(world):
    server = world.server("--rate", 0)
    mine, theirs = world.keep(Asker(server.port)), world.keep(Asker(server.port))
    me, cookie = Identity(), mine.cookie()
    answer = mine.ask(rdv_peer.register(me, cookie, me.record(1, int(time.time()) + 60)))
    refresh = rdv_peer.message(rdv_peer.REFRESH, answer[12:28] + me.key)
    assert mine.ask(refresh)[2] == rdv_peer.REFRESHED
    assert rdv_peer.reason(theirs.ask(refresh)) == "BadToken"
    assert theirs.ask(rdv_peer.claim(me, cookie, "home"))[2] == rdv_peer.COOKIE


# Servers that lie ---------------------------------------------------------------------------------


def test_a_lying_server_is_not_believed(world):
    liar, laptop, now = world.keep(Liar()), world.user(), int(time.time())
    home, other = Identity(), Identity()

    def told(record, key=home.key):
        liar.key, liar.record = key, record
        return laptop.berth("lookup", "home", "--rendezvous", liar.address)

    good = home.record(10, now + 60)
    for i in (0, 5, 40, len(good) - 1):
        bad = bytearray(good)
        bad[i] ^= 0x40
        assert re.search("Forged|BadVersion", told(bytes(bad)).stderr)
    assert "BadRecord" in told(good[:60]).stderr
    assert "Forged" in told(good, other.key).stderr
    assert "Expired" in told(home.record(10, now - 1)).stderr
    assert json.loads(laptop.good("peers", "--json"))["peers"] == []
    assert told(good).returncode == 0
    assert "Replayed" in told(home.record(9, now + 60)).stderr
    assert "KeyChanged" in told(other.record(20, now + 60), other.key).stderr
    assert told(good).returncode == 0


def test_another_peers_record_is_not_taken_for_the_key_that_was_asked_for(world):
    liar, laptop, wanted = world.keep(Liar()), world.user(), world.user()
    other = Identity()
    liar.key, liar.record = other.key, other.record(1, int(time.time()) + 60)
    assert "Forged" in laptop.refused("lookup", wanted.key(), "--rendezvous", liar.address)


# Floods -------------------------------------------------------------------------------------------


def test_a_flood_costs_no_memory_and_nobody_else_their_answer(world):
    server = world.server("--peers-max", 100)
    asker, cookies = world.keep(Asker(server.port)), []
    now = int(time.time())
    for _ in range(50):
        asker.ask(rdv_peer.message(rdv_peer.HELLO, bytes(52)))
    before = server.memory()
    flood = [world.keep(Asker(server.port)) for _ in range(20)]
    me = Identity()
    noise = [rdv_peer.message(rdv_peer.HELLO, bytes(52)), os.urandom(200),
             rdv_peer.message(rdv_peer.REFRESH, os.urandom(48)),
             rdv_peer.register(me, bytes(16), me.record(1, now + 60)),
             rdv_peer.lookup(bytes(16), me.key, pad=1100)]
    for i in range(30000):
        flood[i % 20].send(noise[i % 5])
        if i % 1000 == 0:
            cookies.append(asker.cookie())
    assert len(cookies) == 30
    counters = server.counters()
    assert counters["peers"] == 0
    assert server.memory() < before + (8 << 20)


def test_registrations_beyond_the_rate_and_the_room_are_refused(world):
    server = world.server("--rate", 5, "--peers-max", 10, "--threads", 1)
    asker, words = world.keep(Asker(server.port)), []
    cookie, now = asker.cookie(), int(time.time())
    for i in range(60):
        who = Identity()
        words.append(rdv_peer.reason(asker.ask(rdv_peer.register(who, cookie,
                                                                 who.record(1, now + 60)))))
    assert words[:10] == [None] * 10
    assert set(words[10:]) == {"Full", "RateLimited"}
    assert server.counters()["refused.RateLimited"] > 0


def test_the_port_is_free_when_the_server_has_ended(world):
    server = world.server()
    assert server.proc.stop() == 0
    assert "ended" in server.proc.output()
    assert can_bind(server.port)
