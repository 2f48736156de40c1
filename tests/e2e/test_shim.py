"""Programs that know nothing of us, run under libberth-preload.so against a fake berthd."""
import os
import socket
import struct
import subprocess
import sys
import time

import pytest

import fake_berthd as fb
from fake_berthd import FakeBerthd
from shim_rig import (environment, connect, send_client, SERVER, EPOLL_SERVER, INSTANCE, PORT,
                      TIMEOUT, path, berthd, run)


def test_a_blocking_server_accepts_and_sees_its_client(berthd, run):
    program = run(SERVER + """
    c, peer = s.accept()
    print(peer[0], peer[1], c.getpeername()[1], os.get_blocking(c.fileno()),
          os.get_inheritable(c.fileno()))
    c.sendall(b"hello")
    """)
    assert program.line() == "ready"
    client = send_client(berthd)
    port = client.getsockname()[1]
    assert program.line() == f"127.0.0.1 {port} {port} True False"
    assert client.recv(9) == b"hello"
    program.end()
    app, bind = berthd.wait(fb.APP), berthd.wait(fb.BIND)
    assert (app.name, app.routes) == ("blog", ["blog.localhost", "any://:8080"])
    assert app.instance.hex() == INSTANCE
    assert bind.addr == (socket.AF_INET, "127.0.0.1", PORT)


def test_a_listening_socket_is_what_it_looks_like(berthd, run):
    program = run("""
    s = socket.socket()
    s.bind(("127.0.0.1", PORT))
    accepts = lambda: s.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
    before = accepts()
    s.listen()
    get = lambda o: s.getsockopt(socket.SOL_SOCKET, o)
    print(before, accepts(), s.getsockname() == ("127.0.0.1", PORT))
    print(get(socket.SO_DOMAIN) == socket.AF_INET, get(socket.SO_TYPE) == socket.SOCK_STREAM,
          get(socket.SO_PROTOCOL) == socket.IPPROTO_TCP, get(socket.SO_ERROR))
    info = s.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 104)
    print(info[0] == 10, s.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY),
          s.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE) > 0)
    for call in (s.getpeername, lambda: s.bind(("127.0.0.1", PORT + 1)),
                 lambda: s.connect(("127.0.0.1", 1))):
        try:
            call()
        except OSError as e:
            print(errno.errorcode[e.errno])
    copy = socket.socket(fileno=os.dup(s.fileno()))
    print(copy.family == socket.AF_INET, copy.type == socket.SOCK_STREAM, copy.getsockname())
    """)
    assert program.line() == "0 1 True"
    assert program.line() == "True True True 0"
    assert program.line() == "True 0 True"
    assert [program.line() for _ in range(3)] == ["ENOTCONN", "EINVAL", "EISCONN"]
    assert program.line() == f"True True ('127.0.0.1', {PORT})"
    program.end()


SO_MAX_PACING_RATE = 47  # of a queue: the counter of connections whose sender has closed them


def test_accept_waits_until_the_sender_has_closed_its_copy(berthd, run):
    program = run(SERVER + """
    for _ in range(3):
        s.accept()[0].close()
        print("closed")
    """)
    assert program.line() == "ready"
    reader = berthd.queues[1].reader
    reader.setsockopt(socket.SOL_SOCKET, SO_MAX_PACING_RATE, struct.pack("Q", 2 ** 24 - 2))
    for number in range(2 ** 24 - 1, 2 ** 24 + 2):
        with socket.create_server(("127.0.0.1", 0)) as listener:
            client = socket.create_connection(listener.getsockname(), TIMEOUT)
            conn, peer = listener.accept()
        berthd.deliver(conn, (socket.AF_INET, *peer), close=False,
                       flags=16 | (number & 0xFFFFFF) << 8)
        time.sleep(0.02)  # the program has the message by now, mostly
        conn.close()
        reader.setsockopt(socket.SOL_SOCKET, SO_MAX_PACING_RATE, struct.pack("Q", number))
        assert program.line() == "closed"
        client.setblocking(False)
        assert client.recv(1) == b""  # its close was the last one
    program.end()


def test_nonblocking_accept_and_edge_triggered_epoll(berthd, run):
    program = run(SERVER + """
    s.setblocking(False)
    e = select.epoll()
    e.register(s, select.EPOLLIN | select.EPOLLET)
    for _ in range(3):
        try:
            while True:
                c, peer = s.accept()
                print("accepted")
        except BlockingIOError:
            print("empty")
        e.poll()
    """)
    assert program.line() == "ready"
    assert program.line() == "empty"
    for _ in range(2):
        send_client(berthd)
        assert program.line() == "accepted"
        assert program.line() == "empty"
    send_client(berthd)
    program.end()


def test_accept_times_out_as_so_rcvtimeo_says(berthd, run):
    program = run("""
    import struct
    s = socket.socket()
    s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, struct.pack("ll", 0, 20000))
    s.bind(("127.0.0.1", PORT))
    s.listen()
    try:
        s.accept()
    except BlockingIOError:
        print("timed out")
    """)
    assert program.line() == "timed out"
    program.end()


def test_a_dual_stack_server_sees_mapped_addresses(berthd, run):
    program = run("""
    s = socket.socket(socket.AF_INET6)
    s.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
    s.bind(("::", PORT))
    s.listen()
    print(s.getsockname()[:2], s.getsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY))
    for _ in range(3):
        print(s.accept()[1][0])
    """)
    assert program.line() == f"('::', {PORT}) 0"
    assert berthd.wait(fb.BIND).v6only is False
    send_client(berthd)
    assert program.line() == "::ffff:127.0.0.1"
    send_client(berthd, family=socket.AF_INET6)
    assert program.line() == "::1"
    _, accepted, _ = connect()
    berthd.deliver(accepted, (socket.AF_UNIX, "", 0))
    assert program.line() == "::1"
    program.end()


def test_options_reach_berthd_whenever_they_are_set(berthd, run):
    program = run("""
    import struct
    s = socket.socket()
    s.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 100000)
    s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    s.bind(("127.0.0.1", PORT))
    s.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 77)
    s.setsockopt(socket.IPPROTO_TCP, socket.TCP_DEFER_ACCEPT, 5)
    s.setsockopt(socket.SOL_SOCKET, socket.SO_PRIORITY, 3)
    s.listen()
    print(s.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE),
          s.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY),
          s.getsockopt(socket.SOL_SOCKET, socket.SO_PRIORITY),
          s.getsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR),
          s.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN))
    for bad in ((socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 0), (socket.IPPROTO_TCP, 9999, 1),
                (socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)):
        try:
            s.setsockopt(*bad)
        except OSError as e:
            print(errno.errorcode[e.errno])
    """)
    assert program.line() == "77 1 3 1 1"
    assert [program.line() for _ in range(3)] == ["EINVAL", "ENOPROTOOPT", "EINVAL"]
    program.end()
    berthd.wait(fb.OPTION, 5)
    sent = {(m.level, m.option): struct.unpack("i", m.value)[0]
            for m in berthd.seen if m.kind == fb.OPTION}
    assert sent == {(socket.SOL_SOCKET, socket.SO_KEEPALIVE): 1,
                    (socket.IPPROTO_TCP, socket.TCP_NODELAY): 1,
                    (socket.SOL_SOCKET, socket.SO_RCVBUF): 100000,
                    (socket.IPPROTO_TCP, socket.TCP_KEEPIDLE): 77,
                    (socket.SOL_SOCKET, socket.SO_PRIORITY): 3}


def test_forked_workers_share_the_queue(berthd, run):
    program = run(SERVER + """
    for _ in range(3):
        if os.fork() == 0:
            c, peer = s.accept()
            os.write(1, b"%d\\n" % os.getpid())
            os._exit(0)
    for _ in range(3):
        os.wait()
    """)
    assert program.line() == "ready"
    for _ in range(3):
        send_client(berthd)
    assert len({program.line() for _ in range(3)}) == 3
    program.end()


def test_an_executed_program_inherits_the_listener_with_its_environment_scrubbed(berthd, run):
    program = run("""
    s = socket.socket()
    s.bind(("127.0.0.1", PORT))
    s.listen()
    os.set_inheritable(s.fileno(), True)
    code = '''if 1:
        import socket, sys, os
        s = socket.socket(fileno=int(sys.argv[1]))
        print(s.getsockname(), sorted(k for k in os.environ if k.startswith("BERTH")), flush=True)
        print(s.accept()[1][0], flush=True)
    '''
    os.execve(sys.executable, [sys.executable, "-c", code, str(s.fileno())], {"A": "b"})
    """)
    names = ["BERTH_APP", "BERTH_COMMAND", "BERTH_CONTROL", "BERTH_INSTANCE", "BERTH_ROUTES"]
    assert program.line() == f"('127.0.0.1', {PORT}) {names}"
    send_client(berthd)
    assert program.line() == "127.0.0.1"
    program.end()


def test_an_environment_is_left_scrubbed_when_no_listener_is_passed_on(berthd, run):
    program = run(SERVER + """
    os.execve("/usr/bin/env", ["env"], {"A": "b"})
    """)
    assert program.line() == "ready"
    assert program.line() == "A=b"
    program.end()


def test_descriptors_passed_to_another_process_are_recognised(berthd, run):
    program = run(SERVER + """
    a, b = socket.socketpair()
    if os.fork() == 0:
        s.close()
        _, fds, _, _ = socket.recv_fds(b, 1, 1)
        s = socket.socket(fileno=fds[0])
        print(s.type == socket.SOCK_STREAM, s.getsockname(), s.accept()[1][0])
        os._exit(0)
    socket.send_fds(a, [b"x"], [s.fileno()])
    os.wait()
    """)
    assert program.line() == "ready"
    send_client(berthd)
    assert program.line() == f"True ('127.0.0.1', {PORT}) 127.0.0.1"
    program.end()


@pytest.mark.parametrize("unlink", [True, False])
def test_a_program_in_epoll_wait_finds_a_restarted_berthd(path, run, unlink):
    first = FakeBerthd(path)
    program = run(EPOLL_SERVER.replace("s.listen", "s.setsockopt(6, 1, 1); s.listen"))
    assert program.line() == "ready"
    client = send_client(first)
    assert client.recv(99) == b"wakes 1"
    first.close(unlink)
    assert program.line() == f"nothing ('127.0.0.1', {PORT})"
    second = FakeBerthd(path)
    try:
        second.wait(fb.LISTEN)
        second.wait(fb.OPTION)
        assert second.wait(fb.BIND).flags == fb.REUSEPORT
        client = send_client(second)
        reply = client.recv(99)
        assert reply.startswith(b"wakes ") and int(reply.split()[1]) <= 6, "it was kept busy"
    finally:
        second.close()


def test_a_program_blocked_in_accept_finds_a_restarted_berthd(path, run):
    first = FakeBerthd(path)
    program = run(SERVER + """
    while True:
        print(s.accept()[1][0])
    """)
    assert program.line() == "ready"
    for _ in range(3):
        first.close(True)
        first = FakeBerthd(path)
        first.wait(fb.LISTEN)
        send_client(first)
        assert program.line() == "127.0.0.1"
    first.close()


def test_a_berthd_whose_folder_is_made_anew_is_found(tmp_path, run):
    folder = tmp_path / "berth"
    folder.mkdir()
    control = str(folder / "control")
    first = FakeBerthd(control)
    program = run(EPOLL_SERVER, environment(control))
    assert program.line() == "ready"
    first.close(True)
    folder.rmdir()
    assert program.line().startswith("nothing")
    folder.mkdir()
    second = FakeBerthd(control)
    second.wait(fb.LISTEN)
    client = send_client(second)
    assert client.recv(99).startswith(b"wakes")
    second.close()


def test_workers_that_share_a_listener_each_find_the_restarted_berthd(path, run):
    first = FakeBerthd(path)
    program = run(SERVER + """
    for _ in range(2):
        if os.fork() == 0:
            while True:
                s.accept()[0].sendall(b"%d" % os.getpid())
    os.wait()
    """)
    assert program.line() == "ready"
    first.close(True)
    second = FakeBerthd(path)
    second.wait(fb.LISTEN, 2)
    client = send_client(second)
    assert client.recv(99)
    assert len(second.queues) == 1
    second.close()


IMPOSTOR = """
import os, socket, sys
s = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
s.bind(sys.argv[1])
os.chmod(sys.argv[1], 0o666)
os.setuid(65534)
s.listen(5)
s.settimeout(5)
print("ready", flush=True)
try:
    c, _ = s.accept()
    c.settimeout(5)
    print("heard", len(c.recv(65536)), flush=True)
except OSError:
    print("heard 0", flush=True)
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="becomes another user")
@pytest.mark.parametrize("chosen, heard", [(None, "heard 0"), ("/nonexistent", "heard ")])
def test_the_secret_is_not_told_to_another_users_berthd(tmp_path, chosen, heard):
    """Unless the folder was chosen by hand. The program itself goes on by itself."""
    path = str(tmp_path / "control")
    with subprocess.Popen([sys.executable, "-c", IMPOSTOR, path], stdout=subprocess.PIPE,
                          text=True) as impostor:
        assert impostor.stdout.readline() == "ready\n"
        code = ("import socket\ns = socket.socket()\n"
                "with socket.socket() as free:\n    free.bind(('127.0.0.1', 0))\n"
                "    port = free.getsockname()[1]\n"
                "s.bind(('127.0.0.1', port))\nprint(s.getsockname()[1] == port)\n")
        env = environment(path, BERTH_RUNTIME_DIR=chosen)
        done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True,
                              text=True, timeout=TIMEOUT, check=False)
        assert done.stdout == "True\n", done.stderr
        said = impostor.stdout.readline()
        assert said == heard + "\n" if chosen is None else said.startswith(heard) and said != "heard 0\n"
