"""Processes die and local clients are hostile: traffic goes on, or resumes by itself."""

import array
import json
import os
import random
import signal
import socket
import subprocess

import pytest

from harness import alive, as_user, read_to_close, read_to_end, user_exists, wait_until
from programs import ASYNCIO, GUNICORN_SYNC, NGINX, NODE, NODE_CLUSTER, PYTHON
from stage import BERTH, Stage
from test_faults import open_gate, queue_request, start_gated
from test_programs import Loop


@pytest.fixture
def pair(stage):
    return stage.start(ASYNCIO, "one.localhost"), stage.start(NODE, "two.localhost")


def kill_daemon(stage, *names):
    for pid in [stage.daemon(name) for name in names]:
        os.kill(pid, signal.SIGKILL)
        wait_until(lambda p=pid: not alive(p), 10, f"the end of {pid}")


# A program dies -----------------------------------------------------------------------------------


@pytest.mark.berth_only
def test_waiting_connections_go_to_the_successor_of_a_dead_program(stage):
    stage.start(ASYNCIO, "other.localhost")
    slow = start_gated(stage, "accept", "slow.localhost")
    waiting = [queue_request(slow) for _ in range(10)]
    slow.proc.kill()
    successor = stage.start(ASYNCIO, "slow.localhost")
    for s in waiting:
        with s:
            assert successor.marker.encode() in read_to_close(s)


@pytest.mark.berth_only
def test_waiting_connections_of_a_dead_program_are_refused_when_nobody_comes(stage):
    other = stage.start(ASYNCIO, "other.localhost")
    slow = start_gated(stage, "accept", "slow.localhost")
    waiting = [queue_request(slow, timeout=30) for _ in range(5)]
    slow.proc.kill()
    for s in waiting:
        with s:
            data = read_to_close(s)
        assert not data or b"503" in data.split(b"\r\n")[0], data
    other.check()


def test_a_program_that_dies_before_it_reads_lets_its_client_know(stage):
    other = stage.start(ASYNCIO, "other.localhost")
    slow = start_gated(stage, "read", "slow.localhost")
    client = queue_request(slow)
    accepted = os.path.join(slow.folder, "gate.accepted")
    wait_until(lambda: os.path.exists(accepted), 10, "an accepted connection")
    slow.proc.kill()
    with client:
        assert read_to_close(client) == b""
    other.check()


# The daemon dies ----------------------------------------------------------------------------------


@pytest.mark.berth_only
def test_traffic_goes_on_without_berthd_and_the_next_command_brings_it_back(stage, pair):
    one, two = pair
    with Loop(one, least=50) as loop:
        kill_daemon(stage, "berthd")
        done = loop.done
        wait_until(lambda: loop.done > done + 50, 10, "50 more answers")
        listing = stage.berth("ls")
        assert listing.returncode == 0, listing.stderr
        wait_until(lambda: stage.lists_a_process_of(one) and stage.lists_a_process_of(two), 10,
                   "both programs in the list of the new berthd")
    assert not loop.failures, loop.failures[:5]
    third = stage.start(NODE, "three.localhost")
    for running in (one, two, third):
        running.check()


@pytest.mark.berth_only
def test_traffic_resumes_by_itself_when_dispatch_is_killed(stage, pair):
    slow = start_gated(stage, "accept", "slow.localhost")
    waiting = [queue_request(slow) for _ in range(5)]
    pair[0].check()
    kill_daemon(stage, "berth-dispatch")
    wait_until(lambda: all(r.answers() for r in pair), 10, "answers by a new dispatch")
    open_gate(slow)
    for s in waiting:
        with s:
            assert slow.marker.encode() in read_to_end(s), "a queued connection was lost"
    for running in (*pair, slow):
        running.check()


@pytest.mark.berth_only
def test_dispatch_that_is_killed_again_and_again_comes_back(stage, pair):
    for _ in range(3):
        kill_daemon(stage, "berth-dispatch")
        wait_until(lambda: all(r.answers() for r in pair), 10, "answers by a new dispatch")


@pytest.mark.berth_only
@pytest.mark.parametrize("how", ["ls", "run"])
def test_programs_attach_again_by_themselves_when_both_were_killed(stage, pair, how):
    kill_daemon(stage, "berthd", "berth-dispatch")
    if how == "ls":
        assert stage.berth("ls").returncode == 0
    else:
        stage.start(ASYNCIO, "three.localhost").check()
    wait_until(lambda: all(r.answers() for r in pair), 20, "answers of the old programs")
    for running in pair:
        running.check()
        assert stage.lists_a_process_of(running)


@pytest.mark.berth_only
@pytest.mark.parametrize("program", [NGINX, GUNICORN_SYNC, NODE_CLUSTER], ids=str)
def test_a_program_of_several_processes_attaches_again(stage, program):
    running = stage.start(program, "many.localhost")
    stage.start(ASYNCIO, "other.localhost")
    kill_daemon(stage, "berthd", "berth-dispatch")
    assert stage.berth("ls").returncode == 0
    wait_until(running.answers, 5, f"an answer of {program}")
    for _ in range(5):
        running.check()


@pytest.mark.berth_only
def test_berth_stop_ends_the_daemon(stage, pair):
    berthd, dispatch = stage.daemon("berthd"), stage.daemon("berth-dispatch")
    assert stage.berth("stop").returncode == 0
    wait_until(lambda: not alive(berthd) and not alive(dispatch), 10, "the end of the daemon")
    assert pair[0].is_running()


# Hostile clients of the control socket ------------------------------------------------------------


def send_packet(s, data, fds=()):
    ancillary = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))] if fds else []
    try:
        s.sendmsg([data], ancillary)
        return True
    except (BrokenPipeError, ConnectionResetError, socket.timeout, BlockingIOError):
        return False
    except OSError as e:
        if e.errno == 90:  # EMSGSIZE: larger than the socket's buffer takes
            return False
        raise


def drain(s):
    """Reads until the daemon closes or has nothing more to say."""
    s.settimeout(0.2)
    try:
        while s.recv(65536):
            pass
    except OSError:
        pass


def assert_unharmed(stage, pair, pids):
    for running in pair:
        running.check()
    assert stage.berth("ls").returncode == 0
    assert stage.daemons() == pids, "the daemon was restarted"


@pytest.mark.berth_only
@pytest.mark.parametrize("name", ["control", "dispatch"])
def test_random_bytes_on_a_socket_of_ours_do_no_harm(stage, pair, name):
    pids, rng = stage.daemons(), random.Random(3)
    sizes = [0, 1, 2, 3, 4, 7, 8, 16, 100, 4096, 16384]
    for size in sizes + [rng.randrange(1, 400) for _ in range(200)]:
        with stage.control(name) as s:
            send_packet(s, bytes([rng.randrange(1, 20)]) + rng.randbytes(max(size - 1, 0)))
            send_packet(s, rng.randbytes(size))
    assert_unharmed(stage, pair, pids)


@pytest.mark.berth_only
def test_huge_frames_on_the_control_socket_do_no_harm(stage, pair):
    pids = stage.daemons()
    for size in (16385, 65536, 150000):
        for fill in (0, 1, 2, 255):
            with stage.control() as s:
                s.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 20)
                send_packet(s, bytes([fill]) * size)
                drain(s)
    assert_unharmed(stage, pair, pids)


@pytest.mark.berth_only
def test_descriptors_that_are_no_sockets_do_no_harm_and_are_not_kept(stage, pair):
    pids = stage.daemons()
    berthd = pids["berthd"]
    before = len(os.listdir(f"/proc/{berthd}/fd"))
    reader, writer = os.pipe()
    null = os.open("/dev/null", os.O_RDWR)
    for kind in range(1, 16):
        for fds in ([reader], [null], [writer, null], [null] * 200):
            with stage.control() as s:
                send_packet(s, bytes([kind, 0, 0, 0]) * 8, fds)
    for fd in (reader, writer, null):
        os.close(fd)
    assert_unharmed(stage, pair, pids)
    wait_until(lambda: len(os.listdir(f"/proc/{berthd}/fd")) <= before + 2, 5, "no descriptor kept")


@pytest.mark.berth_only
def test_a_flood_of_connections_on_the_control_socket_is_survived(stage, pair):
    pids, path = stage.daemons(), stage.control_path()
    clients = []
    try:
        for _ in range(2000):
            s = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            s.setblocking(False)
            clients.append(s)
            try:
                s.connect(path)
            except (BlockingIOError, ConnectionRefusedError):
                continue
        for running in pair:
            running.check()
    finally:
        for s in clients:
            s.close()
    wait_until(lambda: stage.berth("ls").returncode == 0, 15, "an answer after the flood")
    assert_unharmed(stage, pair, pids)


INTRUDER = """
import socket, sys
s = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
s.settimeout(5)
try:
    s.connect(sys.argv[1])
    for kind in range(1, 16):
        s.send(bytes([kind]) + bytes(40))
        s.recv(65536)
except OSError as e:
    print("refused", e)
"""


@pytest.mark.berth_only
@pytest.mark.skipif(os.geteuid() != 0 or not user_exists("nobody"), reason="needs root and nobody")
@pytest.mark.parametrize("folder_mode", [0o700, 0o755], ids=oct)
def test_another_user_sees_names_at_most_and_changes_nothing(stage, pair, folder_mode):
    """Names and owners, as `ss` shows ports to everybody; command lines are their owners'."""
    pids, path = stage.daemons(), stage.control_path()
    os.chmod(stage.runtime, folder_mode)
    if folder_mode != 0o700:
        os.chmod(path, 0o666)
    done = subprocess.run(as_user("nobody", [PYTHON, "-c", INTRUDER, path]), capture_output=True,
                          text=True, timeout=20, check=False, cwd="/")
    assert "one.localhost" not in done.stdout + done.stderr
    if folder_mode == 0o700:
        assert "refused" in done.stdout
    listing = subprocess.run(as_user("nobody", [stage.tool(), "ls", "--json"]), capture_output=True,
                             text=True, timeout=20, check=False, cwd="/", env=stage.env)
    seen = [a["name"] for a in json.loads(listing.stdout)["apps"]] if listing.stdout else []
    assert sorted(seen) == ([] if folder_mode == 0o700 else ["one", "two"])
    assert not any(a["command"] for a in json.loads(listing.stdout or '{"apps": []}')["apps"])
    stop = subprocess.run(as_user("nobody", [stage.tool(), "stop"]), capture_output=True,
                          text=True, timeout=20, check=False, cwd="/", env=stage.env)
    assert stop.returncode != 0
    assert_unharmed(stage, pair, pids)


DEAF = """
import socket, struct, sys
deaf = []
for _ in range(5):
    s = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    s.connect(sys.argv[1])
    s.setblocking(False)
    deaf.append(s)
    try:
        for _ in range(3000):
            s.send(struct.pack(">HBBH", 0xBE47, 1, int(sys.argv[2]), 4) + b"list" + bytes(2))
    except (BlockingIOError, BrokenPipeError):
        pass
print("sent", flush=True)
sys.stdin.read()
"""
COMMAND = 6


@pytest.mark.berth_only
@pytest.mark.parametrize("user", [None, "nobody"])
def test_clients_that_do_not_read_their_answers_hold_nobody_up(stage, pair, user):
    if user and (os.geteuid() != 0 or not user_exists(user)):
        pytest.skip("needs root and nobody")
    pids, path = stage.daemons(), stage.control_path()
    if user:
        os.chmod(path, 0o666)
    with subprocess.Popen(as_user(user, [PYTHON, "-c", DEAF, path, str(COMMAND)]), cwd="/",
                          stdin=subprocess.PIPE, stdout=subprocess.PIPE) as deaf:
        assert deaf.stdout.readline() == b"sent\n"
        assert stage.berth("ls").returncode == 0
        deaf.stdin.close()
    assert_unharmed(stage, pair, pids)


WORKER = """
import os, socket, struct
def vec(text):
    return struct.pack(">H", len(text)) + text.encode()
def ask(s, kind, body=b""):
    s.send(struct.pack(">HBB", 0xBE47, 1, kind) + body)
    return s.recv(65536)[3]
os.setgid(65534)
os.setuid(65534)
s = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
s.connect(os.environ["BERTH_CONTROL"])
hello = struct.pack(">I", 0) + bytes.fromhex(os.environ["BERTH_INSTANCE"]) + vec("x") + vec("x")
print(ask(s, 1, hello + b"\\1" + vec("x.localhost") + b"\\0"), ask(s, 8), flush=True)
"""


@pytest.mark.berth_only
@pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
def test_a_worker_of_another_user_cannot_stop_the_daemon(stage, pair):
    """It speaks for its application, and only for that."""
    pids = stage.daemons()
    os.chmod(stage.control_path(), 0o666)
    done = stage.berth("run", "--as", "w.localhost", "--", PYTHON, "-c", WORKER)
    assert done.stdout.split() == ["12", "13"], done.stdout + done.stderr
    assert_unharmed(stage, pair, pids)


@pytest.mark.berth_only
@pytest.mark.parametrize("word", ["line one\nline two\t", b"\xff\xfe", "\u00e9" * 600],
                         ids=["lines", "bytes", "cut"])
def test_a_program_is_listed_whatever_its_command_line_holds(stage, pair, word):
    script = "import socket, sys; s = socket.create_server(('127.0.0.1', int(sys.argv[1])));" \
             "print('listening', flush=True); s.accept()"
    argv = [stage.tool(), "run", "--as", "odd.localhost", "--", PYTHON, "-c", script,
            str(stage.port), word]
    with subprocess.Popen(argv, env=stage.env, stdout=subprocess.PIPE, cwd="/") as odd:
        assert odd.stdout.readline() == b"listening\n"
        assert stage.listed("odd.localhost")
        odd.kill()


HIDDEN = """
import ctypes, os, signal, socket, sys
ctypes.CDLL(None).prctl(4, 0, 0, 0, 0)  # PR_SET_DUMPABLE: as sshd does
s = socket.create_server(("127.0.0.1", int(sys.argv[1])))
child = os.fork()
if child == 0:
    s.close()
    os._exit(0)
os.waitpid(child, 0)
print("listening", flush=True)
signal.pause()
"""


@pytest.mark.berth_only
@pytest.mark.skipif(os.geteuid() != 0 or not user_exists("nobody"), reason="needs root and nobody")
def test_a_program_whose_descriptors_nobody_may_see_keeps_its_queue(build):
    """Its child closes the listening socket, as that of every forking server does."""
    stage = Stage(BERTH, build, "nobody")
    try:
        argv = as_user("nobody", [stage.tool(), "run", "--as", "hidden.localhost", "--", PYTHON,
                                  "-c", HIDDEN, str(stage.port)])
        with subprocess.Popen(argv, env=stage.env, stdout=subprocess.PIPE, cwd="/") as hidden:
            try:
                assert hidden.stdout.readline() == b"listening\n"
                with socket.create_connection(("127.0.0.1", stage.port)):
                    for _ in range(20):
                        (bound,) = stage.ls()["apps"][0]["binds"]
                        assert bound["listening"] and not bound["orphaned"]
            finally:
                hidden.kill()
    finally:
        stage.close()


@pytest.mark.berth_only
def test_the_daemon_keeps_nothing_of_the_program_that_starts_it(stage):
    """Not a pipe that somebody waits for the end of; nor does an ignored SIGCHLD matter."""
    reader, writer = os.pipe()
    ignore = "import os, signal, sys; signal.signal(signal.SIGCHLD, signal.SIG_IGN);" \
             "os.execv(sys.argv[1], sys.argv[1:])"
    done = subprocess.run([PYTHON, "-c", ignore, stage.tool(), "run", "--as", "x.localhost", "--",
                           "sh", "-c", "exec cat"], env=stage.env, stdin=subprocess.DEVNULL,
                          pass_fds=[writer], capture_output=True, timeout=20, check=False)
    os.close(writer)
    assert done.returncode == 0, done.stderr
    assert stage.daemons()["berthd"]
    with open(reader, "rb") as pipe:
        assert pipe.read() == b""
