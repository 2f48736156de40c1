"""Programs that know nothing of us, run under libberth-preload.so against a fake berthd."""

import errno
import os
import select
import shutil
import signal
import socket
import struct
import subprocess
import sys
import textwrap

import pytest

import fake_berthd as fb
from fake_berthd import FakeBerthd

HERE = os.path.dirname(os.path.abspath(__file__))
BUILD = os.path.abspath(os.environ.get("BERTH_BUILD", os.path.join(HERE, "../../build")))
SHIM = os.path.join(BUILD, "libberth-preload.so")
INSTANCE = "00112233445566778899aabbccddeeff"
PORT = 8080  # only claimed at the fake berthd: no socket is ever bound to it
TIMEOUT = 20


def environment(path, **extra):
    env = dict(os.environ, LD_PRELOAD=SHIM, BERTH_CONTROL=path, BERTH_APP="blog",
               BERTH_INSTANCE=INSTANCE, BERTH_ROUTES="blog.localhost any://:8080",
               BERTH_COMMAND="test", PYTHONUNBUFFERED="1")
    env.update(extra)
    return {k: v for k, v in env.items() if v is not None}


class Program:
    def __init__(self, argv, env, **popen):
        self.process = subprocess.Popen(argv, env=env, stdin=subprocess.PIPE,
                                        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                                        start_new_session=True, **popen)
        self.buffer = b""

    def line(self):
        """The next line of its output, without the line end."""
        out = self.process.stdout.fileno()
        while b"\n" not in self.buffer:
            ready, _, _ = select.select([out], [], [], TIMEOUT)
            assert ready, "the program says nothing"
            data = os.read(out, 4096)
            assert data, "the program has ended: " + self.process.stderr.read().decode()
            self.buffer += data
        line, _, self.buffer = self.buffer.partition(b"\n")
        return line.decode()

    def tell(self, text="go"):
        self.process.stdin.write(text.encode() + b"\n")
        self.process.stdin.flush()

    def end(self):
        """Waits for its end; its standard error."""
        out, err = self.process.communicate(timeout=TIMEOUT)
        assert self.process.returncode == 0, (self.process.returncode, out, err.decode())
        return err.decode()

    def stop(self):
        """Ends it and what it forked."""
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.communicate()


@pytest.fixture
def path(tmp_path):
    return str(tmp_path / "control")


@pytest.fixture
def berthd(path):
    daemon = FakeBerthd(path)
    yield daemon
    daemon.close()


@pytest.fixture
def run(path):
    programs = []

    def start(script, env=None, **extra):
        prelude = f"import os, sys, socket, select, errno, time\nPORT = {PORT}\n"
        argv = [sys.executable, "-c", prelude + textwrap.dedent(script)]
        program = Program(argv, env or environment(path, **extra))
        programs.append(program)
        return program

    yield start
    for program in programs:
        program.stop()


@pytest.fixture
def spawn(path):
    programs = []

    def start(*argv, **extra):
        programs.append(Program(argv, environment(path, **extra)))
        return programs[-1]

    yield start
    for program in programs:
        program.stop()


def connect(family=socket.AF_INET):
    """A client and the accepted side of a real connection over loopback."""
    listener = socket.create_server(("127.0.0.1" if family == socket.AF_INET else "::1", 0),
                                    family=family)
    client = socket.socket(family)
    client.settimeout(TIMEOUT)
    client.connect(listener.getsockname())
    accepted, peer = listener.accept()
    listener.close()
    return client, accepted, (family, peer[0], peer[1])


def send_client(berthd, number=1, family=socket.AF_INET):
    client, accepted, peer = connect(family)
    berthd.deliver(accepted, peer, number)
    return client


SERVER = """
    s = socket.socket()
    s.bind(("127.0.0.1", PORT))
    s.listen()
    print("ready")
"""


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


EPOLL_SERVER = SERVER + """
    s.setblocking(False)
    e = select.epoll()
    e.register(s, select.EPOLLIN)
    wakes = 0
    while True:
        e.poll()
        wakes += 1
        try:
            c, peer = s.accept()
            c.sendall(b"wakes %d" % wakes)
            c.close()
        except BlockingIOError:
            print("nothing", s.getsockname(), flush=True)
"""


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


def test_a_refused_claim_fails_the_bind_and_says_why(berthd, run):
    berthd.refusal = (errno.EADDRINUSE, "8080 is held by nginx (pid 1)\nrun: berth\x1b[2J why 8080")
    program = run("""
    s = socket.socket()
    try:
        s.bind(("127.0.0.1", PORT))
    except OSError as e:
        print(errno.errorcode[e.errno])
    """)
    assert program.line() == "EADDRINUSE"
    assert program.end() == ("berth: 8080 is held by nginx (pid 1)\n"
                             "berth: run: berth?[2J why 8080\n")


def test_a_notice_that_comes_with_the_claim_is_shown(berthd, run):
    berthd.notice = "http://blog.localhost:8080/"
    program = run(SERVER)
    assert program.line() == "ready"
    assert program.end() == "berth: http://blog.localhost:8080/\n"


def test_a_port_that_no_route_is_for_is_bound_natively(berthd, run):
    berthd.refusal = (errno.ENOENT, "no route")
    program = run("""
    s = socket.create_server(("127.0.0.1", 0))
    port = s.getsockname()[1]
    s.close()
    s = socket.create_server(("127.0.0.1", port))
    c = socket.create_connection(("127.0.0.1", port))
    print(s.accept()[1] == c.getsockname())
    """)
    assert program.line() == "True"
    assert program.end() == ""
    assert berthd.count(fb.BIND) == 1


def test_without_berthd_the_program_binds_by_itself(path, run):
    script = """
    s = socket.socket()
    s.bind(("127.0.0.1", 0))
    port = s.getsockname()[1]
    s.close()
    for _ in range(2):
        s = socket.socket()
        s.bind(("127.0.0.1", port))
        s.listen()
        c = socket.create_connection(("127.0.0.1", port))
        print(s.accept()[1] == c.getsockname())
        c.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\\1\\0\\0\\0\\0\\0\\0\\0")
        c.close()
        s.close()
    """
    program = run(script)
    assert [program.line(), program.line()] == ["True", "True"]
    said = program.end()
    assert said.count("berth: ") == 1 and path in said


def test_a_native_bind_that_fails_is_explained(berthd, run):
    berthd.why = "it is the test's"
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        program = run(f"""
    try:
        socket.socket().bind(("127.0.0.1", {port}))
    except OSError as e:
        print(errno.errorcode[e.errno])
    """, BERTH_PORTS="80,443")
        assert program.line() == "EADDRINUSE"
        assert program.end() == "berth: it is the test's\n"
    why = berthd.wait(fb.WHY)
    assert (why.addr[2], why.err) == (port, errno.EADDRINUSE)


def test_only_listed_tcp_ports_are_shared(berthd, run):
    program = run("""
    def binds(kind, port):
        s = socket.socket(socket.AF_INET, kind)
        s.bind(("127.0.0.1", port))
        return s.getsockname()[1]
    free = binds(socket.SOCK_STREAM, 0)
    print(binds(socket.SOCK_STREAM, free) == free, binds(socket.SOCK_DGRAM, free) == free,
          binds(socket.SOCK_STREAM, PORT))
    """, BERTH_PORTS=f"1,{PORT}")
    assert program.line() == f"True True {PORT}"
    program.end()
    assert berthd.count(fb.BIND) == 1


def test_a_closed_and_reused_descriptor_is_a_plain_socket_again(berthd, run):
    program = run(SERVER + """
    import ctypes
    def plain():
        t = socket.socket()
        t.bind(("127.0.0.1", 0))
        t.listen()
        c = socket.create_connection(t.getsockname())
        return t.fileno() == fd and t.accept()[1] == c.getsockname()
    fd = s.fileno()
    s.close()
    print(plain())
    s = socket.socket()
    s.bind(("127.0.0.1", PORT))
    s.listen()
    fd = s.detach()
    # Closed behind the library's back: the hint is wrong now.
    ctypes.CDLL("libc.so.6").close(fd)
    print(plain())
    """)
    assert program.line() == "ready"
    assert program.line() == "True"
    assert program.line() == "True"
    program.end()
    berthd.wait(fb.CLOSED)
    assert berthd.count(fb.BIND) == 2


def test_every_way_to_close_tells_berthd(berthd, run):
    program = run("""
    import ctypes
    libc = ctypes.CDLL(None)
    def listener():
        s = socket.socket()
        s.bind(("127.0.0.1", PORT))
        s.listen()
        return s.detach()
    null = os.open("/dev/null", os.O_RDONLY)
    for close in (os.close, lambda fd: os.dup2(null, fd), lambda fd: libc.dup3(null, fd, 0),
                  lambda fd: libc.close_range(fd, 1000, 0), libc.closefrom,
                  lambda fd: libc.syscall(ctypes.c_long(3), ctypes.c_long(fd))):
        close(listener())
        sys.stdin.readline()
    """)
    for i in range(6):
        berthd.wait(fb.CLOSED, i + 1)
        program.tell()
    program.end()
    assert berthd.count(fb.CLOSED) == 6


def test_a_child_of_vfork_does_not_make_its_parent_forget(path, run):
    first = FakeBerthd(path)
    program = run(SERVER + """
    import subprocess
    subprocess.run(["/bin/true"], close_fds=True)
    """ + textwrap.dedent(EPOLL_SERVER.replace(SERVER, "")).replace(
        "while True:", "subprocess.run(['/bin/true'], close_fds=True)\nprint('run')\nwhile True:"
    ).replace("\n", "\n    "))
    assert program.line() == "ready"
    assert program.line() == "run"
    first.close(True)
    assert program.line().startswith("nothing")
    second = FakeBerthd(path)
    second.wait(fb.LISTEN)
    assert send_client(second).recv(99).startswith(b"wakes")
    second.close()


def test_a_full_descriptor_table_is_emfile_and_heals(berthd, run):
    program = run(SERVER + """
    import resource
    s.setblocking(False)
    resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))
    sys.stdin.readline()
    full = []
    try:
        while True:
            full.append(os.dup(0))
    except OSError:
        pass
    for _ in range(3):
        try:
            s.accept()
        except OSError as e:
            print(errno.errorcode[e.errno])
    for fd in full:
        os.close(fd)
    print(s.accept()[1][0])
    """)
    assert program.line() == "ready"
    clients = [send_client(berthd) for _ in range(2)]
    program.tell()
    assert [program.line() for _ in range(3)] == ["EMFILE"] * 3
    assert program.line() == "127.0.0.1"
    assert "a connection was lost" in program.end()
    assert clients[0].recv(1) == b""


def test_messages_without_a_socket_are_passed_over(berthd, run):
    program = run(SERVER + """
    print(s.accept()[1][0])
    """)
    assert program.line() == "ready"
    _, accepted, peer = connect()
    berthd.deliver(accepted, peer, fds=False)
    berthd.queues[1].writer.send(b"garbage")
    send_client(berthd)
    assert program.line() == "127.0.0.1"
    program.end()


def test_shutdown_leaves_the_queue_to_the_others(berthd, run):
    program = run(SERVER + """
    s.shutdown(socket.SHUT_RDWR)
    try:
        s.accept()
    except OSError as e:
        print(errno.errorcode[e.errno])
    s.listen()
    print(s.accept()[1][0])
    """)
    assert program.line() == "ready"
    assert program.line() == "EINVAL"
    berthd.wait(fb.UNLISTEN)
    berthd.wait(fb.LISTEN, 2)
    send_client(berthd)
    assert program.line() == "127.0.0.1"
    program.end()


def test_a_client_that_chose_its_port_gets_a_real_socket(berthd, run):
    with socket.create_server(("127.0.0.1", 0)) as server:
        program = run(f"""
    s = socket.socket()
    s.bind(("127.0.0.1", 0))
    port = s.getsockname()[1]
    s.close()
    s = socket.socket()
    s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    s.bind(("127.0.0.1", port))
    s.connect(("127.0.0.1", {server.getsockname()[1]}))
    print(s.getsockname()[1] == port, s.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY))
    """)
        assert program.line() == "True 1"
        program.end()
    berthd.wait(fb.UNLISTEN)


def test_reuseport_workers_each_bind_and_share_one_queue(berthd, run):
    program = run("""
    def listener():
        s = socket.socket()
        s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        s.bind(("127.0.0.1", PORT))
        s.listen()
        return s
    a, b = listener(), listener()
    print(a.getsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT))
    print(a.accept()[1][0], b.accept()[1][0])
    """)
    assert program.line() == "1"
    assert berthd.wait(fb.BIND).flags == fb.REUSEPORT
    for _ in range(2):
        send_client(berthd)
    assert program.line() == "127.0.0.1 127.0.0.1"
    program.end()


def test_the_library_does_nothing_without_its_environment(tmp_path, run):
    program = run("""
    s = socket.socket()
    s.bind(("127.0.0.1", 0))
    port = s.getsockname()[1]
    s.close()
    s = socket.socket()
    s.bind(("127.0.0.1", port))
    print("ok")
    """, environment(None))
    assert program.line() == "ok"
    assert program.end() == ""


def test_programs_that_cannot_be_preloaded_are_named(berthd, run, tmp_path):
    source, static = tmp_path / "p.c", tmp_path / "program"
    source.write_text("int main(void) { return 0; }\n")
    subprocess.run(["cc", "-static", "-o", static, source], check=True)
    program = run(f"""
    import subprocess
    subprocess.run(["{static}"], check=True)
    os.environ["PATH"] = "{tmp_path}:" + os.environ["PATH"]
    os.posix_spawnp("program", ["program"], os.environ)
    os.wait()
    os.execve("{static}", ["program"], {{}})
    """)
    line = f"berth: {static} is statically linked: its ports cannot be shared by preloading\n"
    assert program.end() == 2 * line


@pytest.mark.skipif(not shutil.which("musl-gcc"), reason="musl is not installed")
def test_a_program_of_another_libc_is_named_and_still_runs(berthd, run, tmp_path):
    source, program = tmp_path / "p.c", tmp_path / "program"
    source.write_text("#include <stdio.h>\nint main(void) { return puts(\"runs\") < 0; }\n")
    subprocess.run(["musl-gcc", "-o", program, source], check=True)
    shell = run(f"""
    os.execv("{program}", ["program"])
    """)
    assert shell.line() == "runs"
    assert shell.end() == (f"berth: {program} uses another C library: "
                           "its ports cannot be shared by preloading\n")


NODE = """
const s = require("http").createServer((q, r) => r.end(q.socket.remoteAddress));
s.listen(8080, "127.0.0.1", () => console.log(s.address().address, s.address().port));
process.stdin.on("data", () => s.close(() => process.exit(0)));
"""


@pytest.mark.skipif(not shutil.which("node"), reason="node is not installed")
def test_node_serves_over_a_restart_and_closes(path, spawn):
    first = FakeBerthd(path)
    program = spawn("node", "-e", NODE)
    assert program.line() == "127.0.0.1 8080"

    def get(daemon):
        client = send_client(daemon)
        client.sendall(b"GET / HTTP/1.0\r\n\r\n")
        reply = b""
        while chunk := client.recv(4096):
            reply += chunk
        return reply

    assert get(first).endswith(b"127.0.0.1")
    first.close(True)
    second = FakeBerthd(path)
    second.wait(fb.LISTEN)
    assert get(second).endswith(b"127.0.0.1")
    program.tell()
    program.end()
    second.wait(fb.CLOSED)
    second.close()
