"""The preloaded library: claims that are refused, descriptors that change, programs that cannot be
preloaded."""
import errno
import shutil
import socket
import subprocess
import textwrap

import pytest

import fake_berthd as fb
from fake_berthd import FakeBerthd
from shim_rig import (environment, connect, send_client, SERVER, EPOLL_SERVER, PORT, path, berthd,
                      run, spawn)


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
