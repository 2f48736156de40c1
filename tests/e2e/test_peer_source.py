"""Streams that peers have dialled: whoever serves the service gets them as accepted connections."""

import contextlib
import errno
import os
import signal
import socket
import struct
import threading
import time

import pytest

from harness import Proc, alive, http_get, wait_until
from peer_source import HEAD, STREAM, Source
from pools import Pools
from programs import PYTHON, PYTHON_HTTP, Script, app

pytestmark = pytest.mark.berth_only


@pytest.fixture
def pools(stage):
    return Pools(stage)


def ask(stream, path="/"):
    """One HTTP request over a stream; the answer's bytes."""
    stream.settimeout(15)
    stream.sendall(f"GET {path} HTTP/1.1\r\nHost: app.localhost\r\nConnection: close\r\n\r\n".encode())
    got = b""
    while True:
        more = stream.recv(65536)
        if not more:
            stream.close()
            return got
        got += more


def test_an_unmodified_program_is_dialled(stage):
    running = stage.start(PYTHON_HTTP, options=["--as", "peer://web"])
    with Source(stage) as source:
        assert b" 200 " in ask(source.dial("web"))
        with pytest.raises(ConnectionRefusedError, match="NotServed"):
            source.dial("mail")
    assert running.is_running()
    assert stage.listed("peer://web")


def test_a_program_may_be_for_peers_only(stage):
    stage.start(PYTHON_HTTP, routes=["peer://web"], ready=False)
    wait_until(lambda: "peer://web" in stage.berth("ls", "--json").stdout, 15, "peer://web")
    with Source(stage) as source:
        assert b" 200 " in ask(source.dial("web"))
    with pytest.raises(OSError):
        socket.create_connection(("127.0.0.1", stage.port), timeout=5).close()


def test_a_pool_is_started_by_the_first_stream(pools):
    pools.define("one", route=["one.localhost", "peer://web"])
    pools.up()
    assert pools.state("one") == "waiting"
    with Source(pools.stage) as source:
        assert b" 200 " in ask(source.dial("web"))
        assert pools.report("one")["starts"] == 1


def test_a_pool_for_peers_only_needs_no_address(pools):
    pools.define("one", route="peer://web", listen=[])
    pools.up()
    with Source(pools.stage) as source:
        assert b" 200 " in ask(source.dial("web"))


def test_an_open_stream_keeps_its_worker(pools):
    pools.define("one", route="peer://web", listen=[], idle_timeout="1s")
    pools.up()
    with Source(pools.stage) as source:
        stream = source.dial("web")
        pools.wait_state("one", "running")
        pid = pools.wait_workers("one", 1)[0]
        wait_until(lambda: pools.workers("one")[0]["open"] == 1, 60, "one open connection")
        over = time.monotonic() + 2.5
        wait_until(lambda: time.monotonic() > over, 10, "more than twice the idle_timeout")
        assert alive(pid) and pools.pids("one") == [pid]
        stream.close()
        pools.wait_state("one", "waiting", 60)


def test_a_program_on_libberth_is_dialled(stage):
    """It takes the queue itself, and is told the service in the place of a host."""
    native = os.path.join(os.path.dirname(__file__), "..", "..", "examples", "native.py")
    proc = Proc([PYTHON, native, "peer://web"], os.path.join(stage.files, "native.log"),
                {**stage.env, "LIBBERTH": stage.tool("libberth.so")}, stage.files)
    try:
        wait_until(lambda: "peer://web" in stage.berth("ls", "--json").stdout, 15, "peer://web")
        with Source(stage) as source:
            assert b"asks for web" in ask(source.dial("web"))
    finally:
        proc.kill()


def test_an_upstream_is_dialled(stage):
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(10)
        port = server.getsockname()[1]
        done = stage.berth("route", "add", "peer://echo", "--to", f"127.0.0.1:{port}")
        assert done.returncode == 0, done.stderr
        with Source(stage) as source:
            stream = source.dial("echo")
            stream.sendall(b"hello")
            stream.shutdown(socket.SHUT_WR)
            there, _ = server.accept()
            there.settimeout(10)
            assert there.recv(100) == b"hello" and there.recv(100) == b""
            there.sendall(b"bye")
            there.close()
            assert stream.recv(100) == b"bye" and stream.recv(100) == b""


def test_any_other_service_goes_to_the_wildcard(stage):
    stage.start(PYTHON_HTTP, routes=["app.localhost", "peer://*"])
    with Source(stage) as source:
        assert b" 200 " in ask(source.dial("whatever"))


def test_a_source_outlives_berthd(stage):
    stage.serve()
    stage.start(PYTHON_HTTP, options=["--as", "peer://web"])
    with Source(stage) as source:
        pid = stage.daemon("berthd")
        os.kill(pid, signal.SIGKILL)
        wait_until(lambda: not alive(pid), 10, "the end of berthd")
        assert b" 200 " in ask(source.dial("web"))
        stage.serve()
        assert b" 200 " in ask(source.dial("web"))


def test_a_new_source_after_the_death_of_dispatch(stage):
    stage.start(PYTHON_HTTP, options=["--as", "peer://web"])
    with Source(stage) as source:
        pid = stage.daemon("berth-dispatch")
        os.kill(pid, signal.SIGKILL)
        with pytest.raises((EOFError, ConnectionResetError)):
            source.answer()

        def again():
            try:
                with Source(stage) as fresh:
                    return b" 200 " in ask(fresh.dial("web"))
            except (AssertionError, OSError, EOFError):
                return False

        wait_until(again, 10, "a source at the next dispatch")


def test_a_new_source_after_an_upgrade(stage):
    stage.start(PYTHON_HTTP, options=["--as", "peer://web"])
    with Source(stage) as source:
        assert b" 200 " in ask(source.dial("web"))
        done = stage.berth("upgrade", timeout=40)
        assert done.returncode == 0, done.stderr
        with pytest.raises((EOFError, OSError)):
            source.dial("web")
    with Source(stage) as source:
        assert b" 200 " in ask(source.dial("web"))


def test_what_makes_no_sense_ends_its_source_and_no_other(stage):
    stage.start(PYTHON_HTTP, options=["--as", "peer://web"])
    with Source(stage) as good:
        for bad in (b"", b"x", HEAD.pack(0xbe57, 1, STREAM, 1, 0) + b"\0" * 40,
                    Source.packet(1, "web") + b"x"):
            with Source(stage) as source:
                source.send(bad or b"\0")
                with pytest.raises((EOFError, ConnectionResetError)):
                    source.answer()
        with Source(stage) as source:
            ours, theirs = source.pair()
            source.send(Source.packet(1, "web"), [theirs.fileno(), theirs.fileno()])
            with pytest.raises((EOFError, ConnectionResetError)):
                source.answer()
            ours.close()
            theirs.close()
        assert b" 200 " in ask(good.dial("web"))


def test_a_socket_of_another_kind_is_refused(stage):
    stage.start(PYTHON_HTTP, options=["--as", "peer://web"])
    with Source(stage) as source, socket.create_server(("127.0.0.1", 0)) as other:
        unix, _peer = socket.socketpair()
        udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        elsewhere = socket.create_connection(other.getsockname(), timeout=10)
        eager, theirs = source.pair()
        theirs.setblocking(False)
        with open("/dev/null", "rb") as file:
            fds = [unix.fileno(), udp.fileno(), elsewhere.fileno(), other.fileno(), file.fileno(),
                   theirs.fileno()]
            for number, fd in enumerate(fds):
                source.send(Source.packet(number, "web"), [fd])
            source.send(Source.packet(len(fds), "web"))
            source.closed()
            for number in range(len(fds) + 1):
                assert source.answer() == (number, "BadStream", 0)
        for s in (unix, _peer, udp, elsewhere, eager, theirs):
            s.close()
        assert b" 200 " in ask(source.dial("web"))


def test_more_than_may_be_held_ends_the_source(stage):
    stage.start(PYTHON_HTTP, options=["--as", "peer://web"])
    with Source(stage) as source:
        ours, theirs = source.pair()
        with pytest.raises((EOFError, OSError)):
            for number in range(100):
                source.send(Source.packet(number, "web"), [theirs.fileno()])
            source.answer()
        ours.close()
        theirs.close()


def test_a_program_that_expects_a_proxy_header_is_told_of(stage):
    stage.start(PYTHON_HTTP, options=["--as", "peer://web"])
    with Source(stage) as source:
        source.dial("web").close()
        assert source.flags == 0
    done = stage.berth("route", "add", "peer://x", "--to", "127.0.0.1:9", "--set", "proxy=yes")
    assert done.returncode == 0, done.stderr
    with Source(stage) as source:
        source.dial("x").close()
        assert source.flags == 1


def test_an_upstream_passes_on_what_is_said_of_the_peer(stage):
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(10)
        port = server.getsockname()[1]
        done = stage.berth("route", "add", "peer://x", "--to", f"127.0.0.1:{port}", "--proxy", "v2")
        assert done.returncode == 0, done.stderr
        with Source(stage) as source:
            stream = source.dial("x")
            assert source.flags == 1
            stream.sendall(b"header and all")
            there, _ = server.accept()
            there.settimeout(10)
            assert there.recv(100) == b"header and all"
            stream.close()
            there.close()


class FakePeer:
    """As much of berth-peer as answers `who`: addresses to what is known of them."""

    def __init__(self, stage, known):
        self.known, self.asked = known, []
        self.path = stage.control_path("peer")
        self.listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.listener.bind(self.path)
        self.listener.listen(8)
        self.thread = threading.Thread(target=self.serve, daemon=True)
        self.thread.start()

    def serve(self):
        with contextlib.suppress(OSError):
            while True:
                client, _ = self.listener.accept()
                with client:
                    self.answer(client, client.recv(16384))

    def answer(self, client, request):
        assert request[:6] == struct.pack(">HBBH", 0xbe47, 1, 6, 3) and request[6:9] == b"who"
        address, *local = request[11:].rstrip(b"\0").decode().split("\0")
        self.asked.append(address)
        self.local = local
        text = self.known(address)
        if text is None:
            client.send(struct.pack(">HBBIH", 0xbe47, 1, 13, errno.ENOENT, 0))
            return
        client.send(struct.pack(">HBBH", 0xbe47, 1, 14, len(text)) + text.encode())
        client.send(struct.pack(">HBB", 0xbe47, 1, 12))

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()
        self.thread.join(5)
        os.unlink(self.path)


KEY = "k" * 56


def caller(stage):
    """A program that answers every connection with who dialled it."""
    program = Script("caller", "/usr/bin/env", f"LIBBERTH={stage.tool('libberth.so')}",
                     "PYTHONDONTWRITEBYTECODE=1", PYTHON, app("caller.py"))
    return stage.start(program, options=["--as", "peer://web"])


def test_a_program_learns_who_dials(stage):
    caller(stage)
    with Source(stage) as source:
        with FakePeer(stage, lambda a: f"{KEY} laptop web\n") as peer:
            stream = source.dial("web")
            own, far = "%s:%d" % stream.getsockname(), "%s:%d" % stream.getpeername()
            assert f"{KEY} by laptop as web".encode() in ask(stream)
            assert peer.asked == [own]
            # The other end alone could be anybody's of this machine.
            assert peer.local == [far]
        with FakePeer(stage, lambda a: f"{KEY} - web"):
            assert f"{KEY} by - as web".encode() in ask(source.dial("web"))


def test_a_program_is_told_that_nobody_is_known(stage):
    running = caller(stage)
    with Source(stage) as source:
        assert b"nobody 2" in ask(source.dial("web")), "berth-peer does not run"
        with FakePeer(stage, lambda a: None) as peer:
            assert b"nobody 2" in ask(source.dial("web"))
            assert len(peer.asked) == 1
            assert "nobody 2" in http_get(running.target).body
            assert len(peer.asked) == 1, "only of peers' connections it is asked"


def test_an_answer_that_makes_no_sense_is_an_error(stage):
    caller(stage)
    with Source(stage) as source:
        for text in ("", "short", f"{KEY} a b c", f"{KEY}x a b", f"{KEY} {'a' * 41} b", f"{KEY}  b"):
            with FakePeer(stage, lambda a, text=text: text):
                assert b"nobody 71" in ask(source.dial("web")), text


def test_only_the_owner_of_berthd_gets_a_source(stage):
    if os.geteuid() != 0:
        pytest.skip("needs a second user")
    stage.start(PYTHON_HTTP, options=["--as", "peer://web"])
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            os.setuid(65534)
            Source(stage)
        except AssertionError:
            status = 0
        finally:
            os._exit(status)
    assert os.waitpid(pid, 0)[1] == 0
