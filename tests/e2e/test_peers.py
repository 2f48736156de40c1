"""Programs that are published by one peer and dialled by another: unmodified servers and clients, who
may and who may not, and what is left when anything in between is killed."""

import base64
import contextlib
import hashlib
import json
import os
import re
import resource
import signal
import socket
import subprocess
import threading
import time

import pytest

from harness import cpu_share, free_port, reset, wait_until
from peers import Server, started
from programs import Postgresql, Redis, Sshd
from rdv_peer import ANSWERED, Asker, Peer as Caller, sealed_offer

pytestmark = pytest.mark.berth_only
ROOT = os.geteuid() == 0
MIB = 1 << 20


@pytest.fixture
def pair(worlds):
    """home, which publishes, and laptop, which dials, on loopback."""
    world = worlds()
    home, laptop = world.peer("home"), world.peer("laptop")
    home.start("berthd", "berth-peer")
    laptop.start("berth-peer")
    return home, laptop


@pytest.fixture
def apart(worlds):
    """The same in two namespaces that reach the server, but not each other."""
    if not ROOT:
        pytest.skip("network namespaces take root")
    world = worlds(network=True)
    home, laptop = world.peer("home"), world.peer("laptop")
    home.start("berthd", "berth-peer")
    laptop.start("berth-peer")
    return home, laptop


class Listener:
    """A TCP server in this process: each connection is given to a function in a thread."""

    def __init__(self, serve):
        self.socket = socket.create_server(("127.0.0.1", 0))
        self.serve, self.peers = serve, []
        self.address = "127.0.0.1:%d" % self.socket.getsockname()[1]
        threading.Thread(target=self._run, daemon=True).start()

    def _run(self):
        while True:
            try:
                s, peer = self.socket.accept()
            except OSError:
                return
            self.peers.append(peer)
            threading.Thread(target=self._one, args=(s,), daemon=True).start()

    def _one(self, s):
        try:
            with s:
                self.serve(s)
        except OSError:
            pass

    def close(self):
        self.socket.close()


@pytest.fixture
def listen():
    made = []

    def make(serve):
        made.append(Listener(serve))
        return made[-1]

    yield make
    for listener in made:
        listener.close()


def echo(s):
    while data := s.recv(65536):
        s.sendall(data)


# Programs ----------------------------------------------------------------------------------------


def test_curl_gets_a_page_through_a_forward(pair, tmp_path):
    home, laptop = pair
    (tmp_path / "page").write_text("from home\n", encoding="ascii")
    port = free_port()
    home.run(["/usr/bin/python3", "-m", "http.server", "--bind", "127.0.0.1", "--directory",
              str(tmp_path), str(port)])
    home.publish("web", port, "--allow", "laptop")
    _, addresses = laptop.forwarding("127.0.0.1:0", "home/web")

    def page():
        return subprocess.run(["curl", "-s", "-m", "10", f"http://{addresses['home/web']}/page"],
                              capture_output=True, timeout=20, check=False).stdout == b"from home\n"

    wait_until(page, 20, "the page")
    assert laptop.path("home") == "direct"
    listed = json.loads(laptop.good("forward", "--json"))
    assert [(f["address"], f["target"], f["detached"]) for f in listed] == [(addresses["home/web"], "home/web", False)]
    assert "home/web" in laptop.good("forward")


def test_ssh_logs_in_over_dial_in_another_network(apart):
    home, laptop = apart
    _, port, folder = started(home, Sshd())
    home.publish("ssh", port, "--allow", "laptop")
    done = laptop.command(
        ["ssh", "-F", "/dev/null", "-i", f"{folder}/id", "-o", "ProxyCommand=berth dial home/ssh",
         "-o", "StrictHostKeyChecking=no", "-o", f"UserKnownHostsFile={laptop.home}/hosts", "-o",
         "BatchMode=yes", "home", "echo logged in; head -c 300000 /dev/zero | wc -c"])
    assert done.stdout.split() == [b"logged", b"in", b"300000"], done.stderr
    assert laptop.path("home") == "relay"


def test_redis_and_postgres_answer_over_forward_all(pair):
    home, laptop = pair
    _, redis_port, _ = started(home, Redis())
    _, postgres_port, _ = started(home, Postgresql())
    home.publish("redis", redis_port, "--allow", "laptop")
    home.publish("postgres", postgres_port, "--allow", "laptop")
    proc, _ = laptop.forwarding("--all", "home")
    found = dict(re.findall(r"^(127\.\S+)\s+(\w+)\.home$", proc.output(), re.MULTILINE))
    addresses = {service: address.split(":") for address, service in found.items()}
    assert addresses["redis"][1] == str(redis_port)
    assert addresses["redis"][0] != addresses["postgres"][0]
    host, port = addresses["redis"]
    done = laptop.command(["redis-cli", "-h", host, "-p", port, "set", "a", "b"])
    assert done.stdout == b"OK\n", done.stderr
    host, port = addresses["postgres"]
    done = laptop.command(["psql", "-h", host, "-p", port, "-U", "postgres", "-Atc", "select 6*7"])
    assert done.stdout == b"42\n", done.stderr


def test_a_program_under_berth_run_is_published(pair):
    home, laptop = pair
    port = free_port()
    proc = home.run([os.path.join(home.world.build, "berth"), "run", "--publish", "web", "--",
                     "/usr/bin/python3", "-u", "-m", "http.server", "--bind", "127.0.0.1",
                     str(port)])
    wait_until(lambda: "Serving" in proc.output() or not proc.is_running(), 15, "the server")
    assert proc.is_running(), proc.output()
    home.good("allow", "laptop", "web")
    dial = laptop.dialling("home/web")
    out, err = dial.communicate(b"GET / HTTP/1.0\r\n\r\n", 20)
    assert out.startswith(b"HTTP/1.0 200"), (out, err)
    proc.stop()


# Who may -----------------------------------------------------------------------------------------


def test_refusals_have_reasons_and_strangers_are_not_heard_of(pair, listen):
    home, laptop = pair
    service = listen(echo)
    stranger = home.world.peer("stranger").start()
    home.publish("web", service.address, "--allow", "laptop")
    assert "UnknownName" in laptop.refused("dial", "nobody/web")
    assert "NoSuchService" in laptop.refused("dial", "home/mail")
    assert "NotAllowed" in stranger.refused("dial", "home/web")
    assert stranger.key not in home.good("peers", "--json")
    assert "calls" not in home.daemons["berth-peer"].output()
    home.publish("web", service.address, "--allow", "anyone")
    assert stranger.good("dial", f"{home.key}/web", input=b"hello") == "hello"
    home.good("deny", "anyone")
    assert "NotAllowed" in stranger.refused("dial", "home/web")
    home.good("unpublish", "web")
    assert "NotAllowed" in stranger.refused("dial", "home/web")
    assert len(service.peers) == 1


def test_allow_and_deny_take_effect_at_once(pair, listen):
    home, laptop = pair
    home.publish("a", listen(echo).address)
    home.publish("b", listen(echo).address)
    assert "NotAllowed" in laptop.refused("dial", "home/a")
    home.good("allow", "laptop", "a")
    assert laptop.good("dial", "home/a", input=b"1") == "1"
    assert "NotAllowed" in laptop.refused("dial", "home/b")
    home.good("allow", "laptop")
    assert laptop.good("dial", "home/b", input=b"2") == "2"
    assert "still let in" in home.refused("deny", "laptop", "b")
    home.good("deny", "laptop")
    assert "NotAllowed" in laptop.refused("dial", "home/a")
    assert "was not allowed" in home.refused("deny", "laptop")


def test_what_could_not_be_published_is_not(pair, listen):
    home, laptop = pair
    home.good("route", "add", "peer://web", "--to", listen(echo).address, "--name", "mine")
    home.publish("mail", listen(echo).address)
    home.refused("publish", "web", "--to", listen(echo).address, "--allow", "anyone")
    home.publish("mail", listen(echo).address)
    assert "web" not in home.good("publish", "--json")
    assert "NotAllowed" in laptop.refused("dial", f"{home.key}/web")


def test_a_peer_that_calls_again_and_again_leaves_room_for_others(worlds, listen):
    world = worlds()
    world.server.kill()
    world.server.start("--rate", "0")
    home, laptop = world.peer("home"), world.peer("laptop")
    home.start("berthd", "berth-peer")
    laptop.start("berth-peer")
    home.publish("web", listen(echo).address, "--allow", "anyone")
    text = home.key.upper()
    key = base64.b32decode(text + "=" * (-len(text) % 8))[:32]
    glutton = Caller(Asker(world.server.port)).register()
    glutton.asker.socket.settimeout(1)

    def is_answered(number):
        """Too many in a second are not looked at."""
        glutton.call(key, number, sealed_offer(glutton.identity, key, number))
        with contextlib.suppress(TimeoutError):
            return glutton.next(ANSWERED)

    for number in range(1, 257):
        wait_until(lambda number=number: is_answered(number), 10, "an answer")
    assert laptop.good("dial", "--timeout", "10", "home/web", input=b"room") == "room"
    glutton.asker.close()


def test_a_service_that_nothing_serves_says_so(pair):
    home, laptop = pair
    home.publish("web", None, "--allow", "laptop")
    assert "NotServed" in laptop.refused("dial", "home/web")


def test_a_connection_that_is_cut_off_does_not_pass_for_whole(pair, listen):
    home, laptop = pair

    def half(s):
        s.recv(100)
        s.sendall(b"the first half")
        assert s.recv(100) == b"go"
        reset(s)

    home.publish("half", listen(half).address, "--allow", "laptop")
    home.publish("gone", f"127.0.0.1:{free_port()}", "--allow", "laptop")
    assert "reset" in laptop.refused("dial", "home/gone")
    dial = laptop.dialling("home/half")
    dial.stdin.write(b"hello")
    dial.stdin.flush()
    assert dial.stdout.read(14) == b"the first half"
    dial.stdin.write(b"go")
    dial.stdin.flush()
    out, err = dial.communicate(timeout=20)
    assert (out, dial.returncode) == (b"", 1) and b"reset" in err, (out, err)


def test_a_mistyped_server_is_refused_and_leaves_the_others(pair, listen):
    home, laptop = pair
    home.publish("echo", listen(echo).address, "--allow", "laptop")
    assert laptop.good("dial", "home/echo", input=b"hello") == "hello"
    wrong = ("--rendezvous", "127.0.0.1:99999")
    assert "HOST:PORT" in laptop.refused("dial", *wrong, "home/echo", status=2)
    laptop.env["BERTH_RENDEZVOUS"] = wrong[1]
    assert "HOST:PORT" in laptop.refused("dial", "home/echo")
    del laptop.env["BERTH_RENDEZVOUS"]
    assert laptop.good("dial", "home/echo", input=b"still there") == "still there"


def test_a_changed_key_is_an_error_that_shows_both(pair, listen):
    home, laptop = pair
    service = listen(echo)
    home.publish("web", service.address, "--allow", "laptop")
    assert laptop.good("dial", "home/web", input=b"x") == "x"
    home.kill()
    home.good("name", "release", "home")
    thief = home.world.peer("thief", claim=False)
    thief.good("name", "claim", "home")
    laptop.kill()
    laptop.start("berth-peer")
    home.world.server.kill()
    home.world.server.start()
    said = laptop.refused("dial", "home/web")
    assert "KeyChanged" in said and home.key in said and thief.key in said, said


def test_publications_outlive_berth_peer(pair, listen):
    home, laptop = pair
    home.publish("web", listen(echo).address, "--allow", "laptop")
    home.kill()
    home.start("berth-peer")
    wait_until(lambda: laptop.berth("dial", "home/web", input=b"x").stdout == b"x", 20, "an echo")


# The bytes ---------------------------------------------------------------------------------------


def test_half_close_and_reset_are_carried(pair, listen):
    home, laptop = pair

    def count(s):
        total = 0
        while data := s.recv(65536):
            total += len(data)
        if total:
            s.sendall(str(total).encode())
        else:
            reset(s)

    home.publish("count", listen(count).address, "--allow", "laptop")
    _, addresses = laptop.forwarding("127.0.0.1:0", "home/count")
    host, port = addresses["home/count"].split(":")
    with socket.create_connection((host, int(port)), 10) as s:
        s.sendall(b"x" * 100000)
        s.shutdown(socket.SHUT_WR)
        assert s.recv(100) == b"100000"
        assert s.recv(100) == b""
    with socket.create_connection((host, int(port)), 10) as s:
        s.shutdown(socket.SHUT_WR)
        with pytest.raises(ConnectionResetError):
            s.recv(100)
            s.recv(100)


def test_without_descriptors_a_forward_waits_and_goes_on(pair, listen):
    home, laptop = pair
    home.publish("hello", listen(lambda s: s.sendall(b"hello")).address, "--allow", "laptop")
    _, addresses = laptop.forwarding("127.0.0.1:0", "home/hello")
    host, port = addresses["home/hello"].split(":")
    assert laptop.good("dial", "home/hello", stdin=subprocess.DEVNULL) == "hello"
    pid = laptop.daemons["berth-peer"].pid
    before = resource.prlimit(pid, resource.RLIMIT_NOFILE)
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (3, before[1]))
    with contextlib.ExitStack() as stack:
        clients = [stack.enter_context(socket.create_connection((host, int(port)), 20))
                   for _ in range(3)]
        assert cpu_share(pid) < 0.3, "it turns round and round"
        resource.prlimit(pid, resource.RLIMIT_NOFILE, before)
        assert [s.recv(5) for s in clients] == 3 * [b"hello"]


def test_a_slow_reader_stops_the_sender(pair, listen):
    home, laptop = pair
    sent = [0]

    def flood(s):
        s.settimeout(60)
        for _ in range(400):
            s.sendall(bytes(MIB))
            sent[0] += MIB

    home.publish("flood", listen(flood).address, "--allow", "laptop")
    dial = laptop.dialling("home/flood")
    assert dial.stdout.read(1000)
    seen = [-1]

    def stands():
        before, seen[0] = seen[0], sent[0]
        time.sleep(0.3)  # The measure itself: nothing moves for so long.
        return before == sent[0]

    wait_until(stands, 20, "the sender to be stopped")
    assert sent[0] < 100 * MIB
    for peer in (home, laptop):
        with open(f"/proc/{peer.daemons['berth-peer'].pid}/status", encoding="ascii") as f:
            assert int(re.search(r"VmRSS:\s+(\d+)", f.read())[1]) < 150 * 1024


def test_a_transfer_goes_from_the_relay_to_a_direct_path_and_back(apart):
    home, laptop = apart
    size = 100 * MIB
    port = free_port()
    script = ("import socket, sys\n"
              f"l = socket.create_server(('127.0.0.1', {port}))\n"
              "print('listening', flush=True)\n"
              "s, _ = l.accept()\n"
              "block = bytes(range(256)) * 4096\n"
              f"for _ in range({size} // len(block)): s.sendall(block)\n"
              "s.close()\n")
    server = home.run(["/usr/bin/python3", "-c", script])
    wait_until(lambda: "listening" in server.output(), 10, "the sender")
    home.publish("data", port, "--allow", "laptop")
    dial = laptop.dialling("home/data")
    digest, got = hashlib.sha256(), 0

    def read_until(wanted):
        nonlocal got
        while got < wanted:
            data = dial.stdout.read1(65536)
            assert data, f"ended after {got} bytes: {dial.stderr.read()}"
            digest.update(data)
            got += len(data)

    read_until(MIB)
    assert laptop.path("home") == "relay"
    home.world.network.forward(True)

    def direct():
        laptop.berth("why", "home", stdin=subprocess.DEVNULL)
        return laptop.path("home") == "direct"

    wait_until(direct, 20, "a direct path")
    read_until(size // 2)
    home.world.network.forward(False)
    begun = time.monotonic()
    read_until(size)
    assert time.monotonic() - begun < 30
    assert laptop.path("home") == "relay"
    block = bytes(range(256)) * 4096
    expected = hashlib.sha256()
    for _ in range(size // len(block)):
        expected.update(block)
    assert digest.hexdigest() == expected.hexdigest()


# What may be killed ------------------------------------------------------------------------------


def test_kill_of_the_server_leaves_sessions_and_is_recovered_from(pair, listen):
    home, laptop = pair
    home.publish("echo", listen(echo).address, "--allow", "laptop")
    dial = laptop.dialling("home/echo")
    dial.stdin.write(b"before\n")
    dial.stdin.flush()
    assert dial.stdout.readline() == b"before\n"
    wait_until(lambda: laptop.path("home") == "direct", 10, "a direct path")
    home.world.server.kill()
    dial.stdin.write(b"after\n")
    dial.stdin.flush()
    assert dial.stdout.readline() == b"after\n"
    assert laptop.good("dial", "home/echo", input=b"new") == "new"
    home.world.server.start()
    other = home.world.peer("other", claim=False).start()
    home.good("allow", other.key)
    wait_until(lambda: other.berth("dial", f"{home.key}/echo", input=b"x").stdout == b"x", 40,
               "a dial through the server that was started again")


def test_kill_of_a_peer_in_mid_transfer_ends_the_other_side(pair, listen):
    home, laptop = pair
    home.publish("echo", listen(echo).address, "--allow", "laptop")
    dial = laptop.dialling("home/echo")
    dial.stdin.write(b"hello\n")
    dial.stdin.flush()
    assert dial.stdout.readline() == b"hello\n"
    home.kill()
    begun = time.monotonic()
    assert dial.stdout.read() == b""
    dial.wait(10)
    assert time.monotonic() - begun < 30


@pytest.mark.parametrize("daemon", ["berthd", "berth-dispatch"])
def test_kill_of_a_daemon_of_the_publisher_is_recovered_from(pair, listen, daemon):
    home, laptop = pair
    home.publish("echo", listen(echo).address, "--allow", "laptop")
    dial = laptop.dialling("home/echo")
    dial.stdin.write(b"hello\n")
    dial.stdin.flush()
    assert dial.stdout.readline() == b"hello\n"
    if daemon == "berthd":
        home.kill("berthd")
        home.start("berthd")
    else:
        status = home.good("status")
        os.kill(int(re.search(r"dispatch_pid\s+(\d+)", status)[1]), signal.SIGKILL)
    wait_until(lambda: laptop.berth("dial", "home/echo", input=b"x").stdout == b"x", 30, "an echo")
    dial.stdin.write(b"still\n")
    dial.stdin.flush()
    assert dial.stdout.readline() == b"still\n"


# The command line --------------------------------------------------------------------------------


def test_verbs_start_what_they_need_and_why_tells_the_way(worlds, listen):
    world = worlds()
    home, laptop = world.peer("home"), world.peer("laptop")
    try:
        home.publish("web", listen(echo).address, "--allow", "laptop")
        assert laptop.good("dial", "home/web", input=b"x") == "x"
        said = laptop.good("why", "home/web")
        assert "can be reached" in said and "path in use" in said, said
        assert "NoSuchService" in laptop.berth("why", "home/mail").stdout.decode()
    finally:
        for peer in (home, laptop):
            peer.berth("peers", "stop")
        home.berth("stop")


def test_dial_gives_a_socket_away_when_it_is_standard_input_and_output(pair, listen):
    home, laptop = pair
    home.publish("echo", listen(echo).address, "--allow", "laptop")
    ours, theirs = socket.socketpair()
    ours.settimeout(10)
    with ours:
        with theirs:
            subprocess.run([os.path.join(laptop.world.build, "berth"), "dial", "home/echo"],
                           env=laptop.env, stdin=theirs, stdout=theirs, timeout=20, check=True)
        ours.sendall(b"hello")
        assert ours.recv(100) == b"hello"
        ours.shutdown(socket.SHUT_WR)
        assert ours.recv(100) == b""


def test_dial_passes_a_connected_socket_to_ssh(pair, listen):
    home, laptop = pair
    home.publish("echo", listen(echo).address, "--allow", "laptop")
    ours, theirs = socket.socketpair()
    with ours, theirs:
        subprocess.run([os.path.join(laptop.world.build, "berth"), "dial", "--fdpass", "home/echo"],
                       env=laptop.env, stdin=subprocess.DEVNULL, stdout=theirs, timeout=20,
                       check=True)
        _, fds, _, _ = socket.recv_fds(ours, 1, 1)
        with socket.socket(fileno=fds[0]) as s:
            s.settimeout(10)
            s.sendall(b"hello")
            assert s.recv(100) == b"hello"


def test_kill_of_the_relay_in_use_moves_a_session_to_another_server(apart):
    home, laptop = apart
    world = home.world
    other = Server(world, "0.0.0.0", world.network.middle)
    world.ends.append(other.kill)
    both = [word for port in (world.server.port, other.port)
            for word in ("--rendezvous", f"10.77.1.1:{port}")]
    script = ("import socket\n"
              "l = socket.create_server(('127.0.0.1', 0))\n"
              "print('ready at', l.getsockname()[1], flush=True)\n"
              "s, _ = l.accept()\n"
              "while data := s.recv(65536): s.sendall(data)\n")
    echo = home.run(["/usr/bin/python3", "-c", script])
    port = wait_until(lambda: re.search(r"ready at (\d+)\n", echo.output()), 10, "an echo")[1]
    home.publish("echo", port, "--allow", "laptop", *both)
    dial = laptop.dialling("home/echo", *both)
    dial.stdin.write(b"before\n")
    dial.stdin.flush()
    assert dial.stdout.readline() == b"before\n"
    used = laptop.peers()["home"]["session"]
    assert used["path"] == "relay"
    (other if used["address"].endswith(f":{other.port}") else world.server).kill()
    dial.stdin.write(b"after\n")
    dial.stdin.flush()
    assert dial.stdout.readline() == b"after\n"
