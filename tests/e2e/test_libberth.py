"""libberth and its examples: a name by one call, sockets with what was sniffed, and an end of berthd
that the program does not notice."""

import os
import re
import shutil
import signal
import subprocess

import pytest

from harness import Proc, Target, cpu_share, http_get, read_to_close, wait_until
from programs import ASYNCIO, PYTHON, Answer, Program, Running
from test_faults import queue_request
from test_recovery import kill_daemon

pytestmark = pytest.mark.berth_only

ROOT = os.path.abspath(os.path.join(os.path.dirname(__file__), "..", ".."))
APP = os.path.join(ROOT, "tests", "e2e", "apps", "libberth_app.py")


class OnLibberth(Program):
    """Answers `ADDRESS PORT asks for HOSTPATH by PROTOCOL`, or `ADDRESS PORT got here by a queue`."""

    name = "libberth"

    def ask(self, running, target, source, path):
        reply = http_get(target, path, source)
        seen = re.match(r"(\S+) (\d+) (.*)\n", reply.body)
        if not seen:
            return Answer(reply.body)
        return Answer(seen[3], seen[1], int(seen[2]), source=reply.source)


def route_of(stage, host):
    return f"http://{host}:{stage.port}/"


def start(stage, argv, host, marker=None, ready=True):
    """Starts a program as it is; libberth does the rest. Who is alone on the port gets everything,
    with no name: only beside another one an answer proves whose it is."""
    marker = marker or (f"asks for {host}" if stage.running else "asks for ")
    log = os.path.join(stage.files, f"{host}-{len(stage.running)}.log")
    env = {**stage.env, "LIBBERTH": stage.tool("libberth.so"), "PYTHONDONTWRITEBYTECODE": "1"}
    proc = Proc(argv, log, env, stage.files)
    target = Target("127.0.0.1", stage.port, host)
    running = Running(OnLibberth(), proc, target, marker, stage.files, argv)
    stage.running.append(running)
    return running.wait_ready() if ready else running


def example(stage, name):
    if name == "native":
        return [os.path.join(stage.build, "examples", "native")]
    return [PYTHON, os.path.join(ROOT, "examples", name)]


def start_example(stage, name, host, **more):
    return start(stage, [*example(stage, name), route_of(stage, host)], host, **more)


def start_queue(stage, name, host, marker=None):
    argv = [stage.tool(), "run", "--queue", "--as", route_of(stage, host), "--",
            *example(stage, name)]
    return start(stage, argv, host, marker)


def start_app(stage, mode, host, **more):
    return start(stage, [PYTHON, APP, mode, route_of(stage, host)], host, **more)


@pytest.fixture
def other(stage):
    """Something that makes the shared port one of several names."""
    return stage.start(ASYNCIO, "other.localhost")


# What a connection says ---------------------------------------------------------------------------


def test_the_first_program_starts_berthd_and_shares_with_unmodified_ones(stage):
    c = start_example(stage, "native", "c.localhost")
    py = start_example(stage, "native.py", "py.localhost")
    unmodified = stage.start(ASYNCIO, "plain.localhost")
    for _ in range(3):
        for running in (c, py, unmodified):
            running.check()
            assert stage.lists_a_process_of(running)


@pytest.mark.parametrize("name", ["native", "native.py"])
def test_a_program_gets_host_and_path_as_they_were_sniffed(stage, other, name):
    running = start_example(stage, name, "seen.localhost")
    assert running.check().text == "asks for seen.localhost/ by http"
    answer = running.check(path="/a/../%62/c?x=1")
    assert answer.text == "asks for seen.localhost/b/c by http"
    long = running.check(path="/" + "a" * 1100)
    assert long.text == "asks for seen.localhost by http", "half a path is another path"
    other.check()


def test_a_program_alone_on_its_port_gets_its_connections_unread(stage):
    running = start_example(stage, "native", "alone.localhost")
    assert running.check(path="/x").text == "asks for  by "


@pytest.mark.parametrize("name,marker", [("queue.py", "by a queue"), ("native", None), ("native.py", None)])
def test_a_program_takes_a_queue_from_listen_fds(stage, other, name, marker):
    running = start_queue(stage, name, "queue.localhost", marker)
    for _ in range(3):
        running.check()
        other.check()
    assert stage.lists_a_process_of(running)


# Names that are taken -----------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["native", "native.py"])
def test_a_name_that_is_taken_is_refused_with_its_owner(stage, name):
    owner = start_example(stage, "native", "mine.localhost")
    second = start_example(stage, name, "mine.localhost", ready=False)
    assert second.proc.wait() == 1
    assert f"pid {owner.pid}" in second.proc.output(), second.proc.output()
    owner.check()


def test_a_name_can_be_given_back_and_taken_again(stage, other):
    start_app(stage, "again", "again.localhost").check()
    other.check()


def test_what_the_header_refuses_is_refused(stage):
    app = start_app(stage, "misused", "misused.localhost", ready=False)
    assert app.proc.wait() == 0, app.proc.output()


def test_connections_that_wait_go_to_the_successor_of_a_dead_program(stage, other):
    first = start_app(stage, "lazy", "lazy.localhost", ready=False)
    stage.wait_listening(first)
    waiting = [queue_request(first) for _ in range(5)]
    other.check()
    first.proc.kill()
    # The same name for the same routes: that makes a successor.
    start_app(stage, "threads", "lazy.localhost")
    for s in waiting:
        with s:
            assert b"asks for lazy.localhost/" in read_to_close(s)


# Threads, processes, descriptors ------------------------------------------------------------------


@pytest.mark.parametrize("many", ["threads", "workers"])
def test_several_threads_or_processes_take_from_one_queue(stage, other, many):
    running = start_app(stage, many, "many.localhost")
    for _ in range(20):
        running.check()


def test_a_connection_stays_queued_while_no_descriptor_is_left(stage, other):
    starved = start_app(stage, "starved", "starved.localhost", ready=False)
    stage.wait_listening(starved)
    for _ in range(3):
        starved.check()


# berthd is gone -----------------------------------------------------------------------------------


def test_programs_attach_again_when_berthd_and_dispatch_were_killed(stage, other):
    programs = [start_example(stage, "native", "c.localhost"),
                start_example(stage, "native.py", "py.localhost"),
                start_queue(stage, "native", "queue.localhost"),
                start_app(stage, "threads", "threads.localhost"),
                start_app(stage, "workers", "workers.localhost")]
    for running in programs:
        wait_until(running.answers, 20, f"an answer of {running.argv}")
    for _ in range(2):
        kill_daemon(stage, "berthd", "berth-dispatch")
        third = stage.start(ASYNCIO, "third.localhost")
        for running in programs:
            wait_until(running.answers, 20, f"an answer of {running.argv}")
            for _ in range(5):
                running.check()
            assert stage.lists_a_process_of(running)
        third.proc.kill()


def test_a_program_does_not_notice_that_berthd_alone_was_killed(stage, other):
    running = start_example(stage, "native", "calm.localhost")
    kill_daemon(stage, "berthd")
    running.check()
    second = start_example(stage, "native.py", "second.localhost")
    for one in (running, second, other):
        one.check()
    wait_until(lambda: stage.lists_a_process_of(running), 10, "the old program in the new list")


def test_a_program_that_waits_for_berthd_uses_no_processor(stage):
    running = start_example(stage, "native.py", "idle.localhost")
    kill_daemon(stage, "berthd", "berth-dispatch")
    assert cpu_share(running.pid) < 0.2, "it turns round and round"
    third = stage.start(ASYNCIO, "third.localhost")
    wait_until(running.answers, 20, "an answer")
    third.check()


# What is installed --------------------------------------------------------------------------------

CALLER = "#include <berth.h>\nint main(void) { struct berth_conn c; c.size = sizeof c; return 0; }\n"


@pytest.mark.parametrize("command", [["cc", "-std=c99", "-x", "c"], ["cc", "-std=c11", "-x", "c"],
                                     ["clang", "-std=c99", "-x", "c"],
                                     ["g++", "-std=c++11", "-x", "c++"],
                                     ["g++", "-std=c++20", "-x", "c++"]], ids=" ".join)
def test_the_header_compiles_by_itself(command):
    if not shutil.which(command[0]):
        pytest.skip(f"no {command[0]}")
    flags = ["-pedantic", "-Wall", "-Wextra", "-Werror", "-fsyntax-only"]
    done = subprocess.run([*command, *flags, "-I", os.path.join(ROOT, "include"), "-"], input=CALLER,
                          text=True, capture_output=True, timeout=30, check=False)
    assert done.returncode == 0, done.stderr


def test_the_library_shows_only_its_own_names(build):
    done = subprocess.run(["nm", "-D", "--defined-only", os.path.join(build, "libberth.so")],
                          text=True, capture_output=True, timeout=30, check=True)
    names = [line.split()[-1] for line in done.stdout.splitlines()]
    with open(os.path.join(ROOT, "include", "berth.h"), encoding="ascii") as f:
        declared = set(re.findall(r"\b(berth_\w+)\(", "".join(
            line for line in f.read().splitlines(True) if line.startswith("BERTH_API"))))
    assert set(names) == declared


def test_an_interrupted_example_ends(stage):
    running = start_example(stage, "native", "end.localhost")
    assert running.proc.stop(signal.SIGINT) == -signal.SIGINT
