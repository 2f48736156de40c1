"""Connections that are passed on to an address: every byte, every end and every reset arrives, nobody
who does not read is read for, and whoever dies is replaced."""

import contextlib
import json
import os
import shutil
import signal
import socket
import struct
import subprocess
import tempfile
import threading

import pytest

from harness import (Proc, Target, alive, connect, free_port, fresh_source, http_get, reset,
                     wait_until)
from pools import Load, Pools
from programs import NGINX, PYTHON_HTTP, REDIS, SSHD, Running

pytestmark = pytest.mark.berth_only

MEGABYTE = b"x" * (1 << 20)


def native(stage, program):
    """The program as it is, without berth, on a port of its own."""
    if program.missing():
        pytest.skip(program.missing())
    port, marker = free_port(), program.new_marker()
    folder = tempfile.mkdtemp(prefix=f"{program}-", dir=stage.files)
    os.chmod(folder, 0o755)
    launch = program.launch(port, folder, "127.0.0.1", marker)
    proc = Proc(launch.argv, os.path.join(folder, "output.log"), {**stage.env, **launch.env},
                launch.cwd or folder)
    running = Running(program, proc, Target("127.0.0.1", port, "app.localhost"), marker, folder,
                      launch.argv)
    stage.running.append(running)
    return running.wait_ready()


def add(stage, route, to, *more):
    done = stage.berth("route", "add", route, "--to", to, *more)
    assert done.returncode == 0, done.stderr
    return Target("127.0.0.1", stage.port, "app.localhost")


def pool_of(stage, name):
    return next(a["pool"] for a in stage.ls()["apps"] if a["name"] == name)


def worker_of(stage, name="app"):
    return wait_until(lambda: [w["pid"] for w in pool_of(stage, name)["workers"]
                               if w["state"] == "ready"], 10, "a worker")[0]


class Server:
    """A listening socket whose connections the test itself serves."""

    def __init__(self, stage, *more, route=None):
        self.listener = socket.create_server(("127.0.0.1", 0), backlog=64)
        self.listener.settimeout(15)
        self.address = "127.0.0.1:%d" % self.listener.getsockname()[1]
        self.target = add(stage, route or f"any://127.0.0.1:{stage.port}", self.address, "--name",
                          "app", "--listen", f"127.0.0.1:{stage.port}", *more)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.listener.close()

    def pair(self):
        """A client, and what the server sees of it."""
        client = connect(self.target)
        there, _ = self.listener.accept()
        for s in (client, there):
            s.settimeout(15)
        return client, there


@pytest.fixture
def server(stage):
    with Server(stage) as made:
        yield made


def read_all(s):
    got = b""
    while True:
        more = s.recv(1 << 20)
        if not more:
            return got
        got += more


# Unmodified programs ------------------------------------------------------------------------------


@pytest.mark.parametrize("program", [NGINX, REDIS, PYTHON_HTTP, SSHD], ids=str)
def test_a_program_that_berth_did_not_start_is_reached(stage, program):
    running = native(stage, program)
    routes = program.routes(f"app.localhost:{stage.port}")
    first = routes[0] if "app" in routes[0] else f"{routes[0]}:{stage.port}"
    target = add(stage, first, f"127.0.0.1:{running.target.port}", "--name", "app", "--listen",
                 f"127.0.0.1:{stage.port}")
    for _ in range(3):
        assert running.marker in running.ask("127.0.0.1", target=target).text
    listed = [b["rung"] for a in stage.ls()["apps"] for b in a["binds"]]
    assert listed == ["upstream"] and stage.listed(f"127.0.0.1:{running.target.port}")


def test_a_unix_address_is_reached(stage):
    path = os.path.join(stage.files, "s")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path)
        listener.listen(8)
        listener.settimeout(10)
        target = add(stage, f"any://127.0.0.1:{stage.port}", f"unix:{path}")
        with connect(target) as client:
            there, _ = listener.accept()
            with there:
                client.sendall(b"hello")
                assert there.recv(10) == b"hello"
                there.sendall(b"world")
                assert client.recv(10) == b"world"


def test_a_name_is_looked_up(stage):
    """Every machine knows its own."""
    name = socket.gethostname()
    try:
        address = socket.gethostbyname(name)
    except OSError:
        pytest.skip("this machine does not know its name")
    with socket.create_server((address, 0)) as listener:
        listener.settimeout(10)
        target = add(stage, f"any://127.0.0.1:{stage.port}",
                     f"{name}:{listener.getsockname()[1]}")
        with connect(target) as client:
            there, _ = listener.accept()
            with there:
                there.sendall(b"hello")
                assert client.recv(10) == b"hello"


def test_a_list_a_delete_and_the_name_is_free(stage):
    route = f"http://app.localhost:{stage.port}/"
    add(stage, route, "127.0.0.1:9", "--name", "one")
    again = stage.berth("route", "add", route, "--to", "127.0.0.1:9", "--name", "two")
    assert again.returncode == 2 and "one" in again.stderr
    assert route in stage.berth("route", "ls").stdout
    assert stage.berth("route", "delete", route).returncode == 0
    assert stage.berth("route", "delete", route).returncode == 1
    add(stage, route, "127.0.0.1:9", "--name", "two")


@pytest.mark.parametrize("words", [["--to", "nonsense"], ["--to", "127.0.0.1:9", "--proxy", "v3"],
                                   [], ["--to", "*:80"]], ids=lambda words: " ".join(words) or "-")
def test_what_is_not_understood_is_refused(stage, words):
    done = stage.berth("route", "add", f"http://app.localhost:{stage.port}/", *words)
    assert done.returncode == 2 and done.stderr


# Bytes, ends and resets ---------------------------------------------------------------------------


def test_bytes_arrive_as_they_are_in_both_directions(server):
    client, there = server.pair()
    data = os.urandom(5 << 20)

    def send(s):
        s.sendall(data)
        s.shutdown(socket.SHUT_WR)

    senders = [threading.Thread(target=send, args=(s,)) for s in (client, there)]
    got = {}
    readers = [threading.Thread(target=lambda s=s: got.__setitem__(s, read_all(s)))
               for s in (client, there)]
    for thread in senders + readers:
        thread.start()
    for thread in senders + readers:
        thread.join(30)
    assert got[client] == data and got[there] == data


def test_the_end_of_one_direction_leaves_the_other(server):
    client, there = server.pair()
    client.sendall(b"question")
    client.shutdown(socket.SHUT_WR)
    assert read_all(there) == b"question"
    for _ in range(3):
        there.sendall(b"answer")
        assert client.recv(100) == b"answer"
    there.close()
    assert client.recv(1) == b""


def test_the_server_may_end_first(server):
    client, there = server.pair()
    there.sendall(b"bye")
    there.shutdown(socket.SHUT_WR)
    assert read_all(client) == b"bye"
    client.sendall(b"late")
    client.close()
    assert read_all(there) == b"late"


@pytest.mark.parametrize("who", ["client", "server"])
def test_a_reset_arrives_as_a_reset(server, who):
    client, there = server.pair()
    client.sendall(b"x")
    assert there.recv(1) == b"x"
    gone, other = (client, there) if who == "client" else (there, client)
    reset(gone)
    with pytest.raises(ConnectionResetError):
        other.recv(1)


@pytest.mark.parametrize("who", ["client", "server"])
def test_a_reset_after_the_end_of_a_direction_arrives(server, who):
    client, there = server.pair()
    gone, other = (client, there) if who == "client" else (there, client)
    gone.shutdown(socket.SHUT_WR)
    assert other.recv(1) == b""
    reset(gone)

    def refused():
        try:
            other.send(b"x")
            return False
        except (ConnectionResetError, BrokenPipeError):
            return True

    wait_until(refused, 10, "the reset")


def test_what_was_said_before_a_reset_arrives(server):
    """A server that answers and hangs up without reading all of the question resets."""
    client, there = server.pair()
    client.sendall(b"a long question")
    assert there.recv(1, socket.MSG_PEEK) == b"a"
    there.sendall(b"answer")
    there.close()
    with contextlib.suppress(ConnectionResetError):
        assert client.recv(100) == b"answer"


def memory(pid):
    with open(f"/proc/{pid}/status", encoding="ascii") as f:
        return next(int(line.split()[1]) for line in f if line.startswith("VmRSS"))


def stuff(s):
    """Sends until nothing more is taken; how much that was."""
    s.setblocking(False)
    total, rested = 0, 0
    while rested < 10:
        try:
            total += s.send(MEGABYTE)
            rested = 0
        except BlockingIOError:
            rested += 1
            threading.Event().wait(0.01)
    s.setblocking(True)
    return total


def test_who_does_not_read_stops_the_sender(stage, server):
    pairs = [server.pair() for _ in range(8)]
    pid = worker_of(stage)
    before = memory(pid)
    sent = [stuff(client) for client, _ in pairs]
    assert max(sent) < 64 << 20, "nobody stopped the sender"
    assert memory(pid) - before < 8 * 300, "the bytes are kept in memory"
    for (client, there), size in zip(pairs, sent):
        client.shutdown(socket.SHUT_WR)
        assert len(read_all(there)) == size
        client.close()
        there.close()


def test_it_runs_without_rights(stage, server):
    client, there = server.pair()
    done = stage.berth("status", "--security", "--json")
    assert done.returncode == 0, done.stderr
    found = {p["name"]: p for p in json.loads(done.stdout)["processes"]}
    own, dispatch = found["berth-upstream"], found["berth-dispatch"]
    assert own["pid"] == worker_of(stage) and not own["capabilities"]
    assert all(own[key] == dispatch[key] for key in ("uid", "seccomp", "no_new_privs"))
    client.close()
    there.close()


def test_many_connections_at_once(stage, server):
    pairs = [server.pair() for _ in range(500)]
    for number, (client, _) in enumerate(pairs):
        client.sendall(struct.pack(">I", number))
    for number, (_, there) in enumerate(pairs):
        assert struct.unpack(">I", there.recv(4))[0] == number
    assert pool_of(stage, "app")["workers"][0]["open"] == 500
    for s in (s for pair in pairs for s in pair):
        s.close()
    wait_until(lambda: pool_of(stage, "app")["workers"][0]["open"] == 0, 10, "none open")


def test_without_descriptors_connections_wait(stage):
    """The queue keeps them until others have ended."""
    with Server(stage, "--set", "files_max=300") as server:
        clients, there = [connect(server.target) for _ in range(200)], []
        for client in clients:
            client.settimeout(15)
            client.sendall(b"x")
        served = 0
        while served < 200:
            s, _ = server.listener.accept()
            s.settimeout(15)
            assert s.recv(1) == b"x"
            there.append(s)
            served += 1
            if len(there) > 20:
                reset(there.pop(0))
        for s in there + clients:
            s.close()


# What cannot be connected -------------------------------------------------------------------------


def dead_port():
    with socket.create_server(("127.0.0.1", 0)) as s:
        return s.getsockname()[1]


def test_an_http_client_is_told_that_nothing_listens(stage):
    add(stage, f"http://app.localhost:{stage.port}/", f"127.0.0.1:{dead_port()}")
    reply = http_get(Target("127.0.0.1", stage.port, "app.localhost"))
    assert reply.status == 502 and "UpstreamRefused" in reply.body
    assert "UpstreamRefused" in stage.berth("logs", "app").stdout


def test_other_clients_are_reset(stage):
    target = add(stage, f"any://127.0.0.1:{stage.port}", f"127.0.0.1:{dead_port()}")
    with connect(target) as client, pytest.raises(ConnectionResetError):
        client.settimeout(10)
        client.sendall(b"\0\0\0")
        client.recv(1)


def test_a_server_that_comes_later_is_found(stage):
    port = dead_port()
    add(stage, f"http://app.localhost:{stage.port}/", f"127.0.0.1:{port}")
    target = Target("127.0.0.1", stage.port, "app.localhost")
    assert http_get(target).status == 502
    with socket.create_server(("127.0.0.1", port)) as listener, connect(target) as client:
        listener.settimeout(10)
        client.sendall(b"GET / HTTP/1.1\r\nHost: app.localhost\r\n\r\n")
        there, _ = listener.accept()
        with there:
            assert there.recv(3) == b"GET"


# Who the client is --------------------------------------------------------------------------------


@pytest.mark.parametrize("version", ["v1", "v2"])
def test_nginx_sees_the_client_by_the_proxy_header(stage, version):
    port, folder = free_port(), tempfile.mkdtemp(prefix="nginx-", dir=stage.files)
    os.chmod(folder, 0o755)
    launch = NGINX.launch(port, folder, "127.0.0.1", "marker")
    conf = launch.argv[-1]
    with open(conf, encoding="utf-8") as f:
        text = f.read()
    text = text.replace(f"{port} ;", f"{port} proxy_protocol;")
    text = text.replace("$remote_addr port=$remote_port", "$proxy_protocol_addr "
                        "port=$proxy_protocol_port to=$proxy_protocol_server_port")
    with open(conf, "w", encoding="utf-8") as f:
        f.write(text)
    with running_proc(stage, launch.argv, folder, port):
        add(stage, f"http://app.localhost:{stage.port}/", f"127.0.0.1:{port}", "--proxy", version)
        source = fresh_source()
        reply = http_get(Target("127.0.0.1", stage.port, "app.localhost"), source=source)
        assert f"peer={source} port={reply.source[1]} to={stage.port}" in reply.body


@contextlib.contextmanager
def running_proc(stage, argv, folder, port):
    proc = Proc(argv, os.path.join(folder, "output.log"), stage.env, folder)

    def listens():
        assert proc.is_running(), proc.output()
        try:
            socket.create_connection(("127.0.0.1", port), timeout=5).close()
            return True
        except OSError:
            return False

    try:
        wait_until(listens, 15, f"{argv[0]} listening")
        yield proc
    finally:
        proc.kill()


@pytest.mark.skipif(not shutil.which("haproxy"), reason="there is no haproxy")
@pytest.mark.parametrize("version", ["v1", "v2"])
def test_haproxy_sees_the_client_by_the_proxy_header(stage, version):
    port, folder = free_port(), tempfile.mkdtemp(prefix="haproxy-", dir=stage.files)
    conf = os.path.join(folder, "haproxy.cfg")
    with open(conf, "w", encoding="utf-8") as f:
        f.write(f"""defaults
    mode http
    timeout client 10s
    timeout server 10s
    timeout connect 10s
frontend f
    bind 127.0.0.1:{port} accept-proxy
    http-request return status 200 content-type text/plain lf-string "peer=%[src] port=%[src_port]"
""")
    with running_proc(stage, ["/usr/sbin/haproxy", "-db", "-f", conf], folder, port):
        add(stage, f"http://app.localhost:{stage.port}/", f"127.0.0.1:{port}", "--proxy", version)
        source = fresh_source()
        reply = http_get(Target("127.0.0.1", stage.port, "app.localhost"), source=source)
        assert f"peer={source} port={reply.source[1]}" in reply.body


def test_a_header_that_came_is_taken_off_and_written_anew(stage):
    with Server(stage, "--proxy", "v1", "--set", "proxy=yes") as server:
        client = connect(server.target)
        client.sendall(b"PROXY TCP4 192.0.2.7 192.0.2.8 4711 443\r\nhello")
        there, _ = server.listener.accept()
        there.settimeout(10)
        want = b"PROXY TCP4 192.0.2.7 192.0.2.8 4711 443\r\nhello"
        got = b""
        while len(got) < len(want):
            got += there.recv(100)
        assert got == want
        client.close()
        there.close()


def test_a_local_client_cannot_pass_for_a_peer_that_brings_its_own_header(stage):
    """Streams of peers come to 127.7.7.7, but so can any user of this machine."""
    route = f"any://127.7.7.7:{stage.port}"
    more = ("--proxy", "v2", "--listen", f"127.7.7.7:{stage.port}")
    with Server(stage, *more, route=route) as server:
        client = socket.create_connection(("127.7.7.7", stage.port), 15)
        client.sendall(b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0cforged-addr!hello")
        there, _ = server.listener.accept()
        there.settimeout(15)
        got = b""
        while b"hello" not in got:
            got += there.recv(1000)
        assert got[16:20] == socket.inet_aton(client.getsockname()[0])
        assert b"forged-addr!" in got[20:]
        client.close()
        there.close()


# Who dies -----------------------------------------------------------------------------------------


def test_a_killed_worker_is_replaced_by_the_next_connection(stage, server):
    client, there = server.pair()
    pid = worker_of(stage)
    os.kill(pid, signal.SIGKILL)
    with contextlib.suppress(ConnectionResetError):
        assert client.recv(1) == b""
    there.close()
    fresh, there = server.pair()
    fresh.sendall(b"again")
    assert there.recv(10) == b"again"
    assert worker_of(stage) != pid


def test_connections_go_on_while_berthd_dies(stage):
    stage.serve()
    with Server(stage) as server:
        client, there = server.pair()
        worker = worker_of(stage)
        pid = stage.daemon("berthd")
        os.kill(pid, signal.SIGKILL)
        wait_until(lambda: not alive(pid), 10, "the end of berthd")
        client.sendall(b"still")
        assert there.recv(10) == b"still"
        second, there_too = server.pair()
        stage.serve()
        assert worker_of(stage) == worker
        second.sendall(b"there")
        assert there_too.recv(10) == b"there"
        for s in (client, there, second, there_too):
            s.close()


def test_daemons_die_under_load_and_nobody_notices(stage):
    stage.serve()
    running = native(stage, PYTHON_HTTP)
    target = add(stage, f"http://app.localhost:{stage.port}/",
                 f"127.0.0.1:{running.target.port}", "--name", "app")
    with Load(target, threads=4, requests=(1,)) as load:
        load.wait_more(20)
        for name in ("berthd", "berth-dispatch", "berthd"):
            pid = stage.daemon(name)
            os.kill(pid, signal.SIGKILL)
            wait_until(lambda pid=pid: not alive(pid), 10, f"the end of {name}")
            if name == "berthd":
                stage.serve()
            load.wait_more(20)
    load.check()


def test_workers_die_under_load_and_others_come(stage):
    """What a killed worker had is lost, as without berth; nothing else is."""
    running = native(stage, PYTHON_HTTP)
    target = add(stage, f"http://app.localhost:{stage.port}/",
                 f"127.0.0.1:{running.target.port}", "--name", "app", "--set", "failures=off")
    with Load(target, threads=4, requests=(1,)) as load:
        for _ in range(3):
            load.wait_more(20)
            os.kill(worker_of(stage), signal.SIGKILL)
        load.wait_more(20)
    assert len(load.failures) <= 3 * 4, load.failures


def test_what_is_connected_outlives_berthd_and_dispatch(stage):
    stage.serve()
    with Server(stage) as server:
        client, there = server.pair()
        pids = [stage.daemon("berthd"), stage.daemon("berth-dispatch")]
        for pid in pids:
            os.kill(pid, signal.SIGKILL)
        wait_until(lambda: not any(map(alive, pids)), 10, "the end of both")
        client.sendall(b"still")
        assert there.recv(10) == b"still"
        stage.serve()
        wait_until(lambda: stage.listed("any://"), 10, "the route")
        fresh, there_too = server.pair()
        fresh.sendall(b"new")
        client.sendall(b"old")
        assert there_too.recv(10) == b"new" and there.recv(10) == b"old"
        for s in (client, there, fresh, there_too):
            s.close()


def test_a_restart_drops_nothing(stage, server):
    client, there = server.pair()
    old = worker_of(stage)
    done = stage.berth("restart", "--no-wait", "app")
    assert done.returncode == 0, done.stderr
    wait_until(lambda: any(w["state"] == "ready" and w["pid"] != old
                           for w in pool_of(stage, "app")["workers"]), 10, "the next worker")
    fresh, there_too = server.pair()
    client.sendall(b"old")
    fresh.sendall(b"new")
    assert there.recv(10) == b"old" and there_too.recv(10) == b"new"
    for s in (client, there, fresh, there_too):
        s.close()
    wait_until(lambda: not alive(old), 15, "the end of the old worker")


def test_the_configuration_can_say_it(stage):
    pools = Pools(stage)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(10)
        to = f"127.0.0.1:{listener.getsockname()[1]}"
        pools.write("apps.d/app.conf", f"[app app]\nroute = any://\nto = {to}\nsend_proxy = v1\n"
                                       f"listen = 127.0.0.1:{stage.port}\n")
        pools.up()
        with connect(Target("127.0.0.1", stage.port, "x")):
            there, _ = listener.accept()
            with there:
                assert there.recv(6) == b"PROXY "


@pytest.mark.parametrize("text,word", [("command = /bin/true\nto = 127.0.0.1:9", "command"),
                                       ("to = nonsense", "to"), ("send_proxy = v1", "send_proxy"),
                                       ("to = 127.0.0.1:9\nsend_proxy = v3", "send_proxy"),
                                       ("to = 127.0.0.1:9\nroute = peer://a\n[app two]\n"
                                        "route = peer://a\nto = 127.0.0.1:9", "route")])
def test_mistakes_in_the_configuration_are_found(stage, text, word):
    path = os.path.join(stage.files, "app.conf")
    with open(path, "w", encoding="utf-8") as f:
        f.write(f"[app app]\nroute = any://\nlisten = 127.0.0.1:1\n{text}\n")
    done = stage.berth("check", "--config", path)
    assert done.returncode == 1 and f"{word}:" in done.stdout + done.stderr
