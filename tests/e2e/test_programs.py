"""Real programs, unmodified: each answers by its name, sees the true client, shares its port."""

import os
import signal
import threading

import pytest

import programs
from harness import (alive, can_bind, command_name, descendants, fresh_source, has_ipv6, http_get,
                     wait_until)
from programs import (APACHE_EVENT, APACHE_PREFORK, ASYNCIO, DYNAMIC, GUNICORN_GTHREAD,
                      GUNICORN_SYNC, HAPROXY, JAVA, LIGHTTPD, NGINX, NGINX_DAEMON,
                      NGINX_DAEMON_REUSEPORT, NGINX_REUSEPORT, NODE, NODE_CLUSTER, PHP,
                      POSTGRESQL, PYTHON_HTTP, REDIS, SSHD, STATIC, TLS, WEBRICK)

SERVED_BY_ALL = sorted(DYNAMIC, key=str)


@pytest.mark.parametrize("program", SERVED_BY_ALL, ids=str)
def test_a_program_answers_sees_the_client_and_leaves(new_stage, mode, program):
    stage = new_stage(program.user)
    running = stage.start(program)
    for _ in range(3):
        running.check()
    if program.address == "::" and has_ipv6():
        running.check("::1", running.target.at("::1"))
    if mode == "berth":
        assert stage.listed("app.localhost") or stage.listed(program.routes("x")[0])
        assert stage.lists_a_process_of(running), f"{running.group()} not in {stage.ls()}"
    running.proc.stop(program.stop_signal)
    wait_until(lambda: can_bind(stage.port), 5, f"port {stage.port} free for a native program")


@pytest.mark.parametrize("program", STATIC, ids=str)
def test_a_static_program_is_refused_with_a_sentence(stage, mode, program):
    if mode == "native":
        stage.start(program).check()
        return
    running = stage.start(program, ready=False)
    assert running.proc.wait() == 2
    assert "static" in running.proc.output()
    assert not running.proc.group()


PAIRS = [(PYTHON_HTTP, NODE), (NGINX, SSHD), (APACHE_EVENT, REDIS), (GUNICORN_SYNC, JAVA),
         (HAPROXY, PHP), (LIGHTTPD, WEBRICK), (NODE_CLUSTER, APACHE_PREFORK), (TLS, ASYNCIO),
         (NGINX_REUSEPORT, GUNICORN_GTHREAD)]


@pytest.mark.berth_only
@pytest.mark.parametrize("first,second", PAIRS, ids=lambda p: str(p))
def test_two_programs_share_a_port_by_name(stage, first, second):
    one = stage.start(first, "one.localhost")
    two = stage.start(second, "two.localhost")
    for _ in range(5):
        one.check()
        two.check()
    assert stage.lists_a_process_of(one) and stage.lists_a_process_of(two)


@pytest.mark.berth_only
def test_postgresql_shares_its_port_with_a_web_server(new_stage):
    stage = new_stage(POSTGRESQL.user)
    database = stage.start(POSTGRESQL)
    web = stage.start(PYTHON_HTTP, "web.localhost")
    for _ in range(3):
        database.check()
        web.check()


@pytest.mark.berth_only
def test_the_paths_of_one_host_belong_to_two_programs(stage):
    root = stage.start(NODE, "shop.localhost", routes=["http://shop.localhost/"])
    api = stage.start(ASYNCIO, "shop.localhost", routes=["http://shop.localhost/api/"], ready=False)
    wait_until(lambda: api.marker in http_get(api.target, "/api/").body, 10, "an answer at /api/")
    for path, owner in (("/", root), ("/apix", root), ("/API/", root), ("/api/", api),
                        ("/api", api), ("/api/v1?q=1", api), ("/x/../api/", api),
                        ("/api/../", root)):
        answer = owner.ask(path=path)
        assert owner.marker in answer.text, f"{path} was answered by the other: {answer.text}"


@pytest.mark.berth_only
def test_a_program_that_is_killed_leaves_the_other_working(stage):
    one = stage.start(ASYNCIO, "one.localhost")
    two = stage.start(NODE, "two.localhost")
    one.proc.kill()
    for _ in range(20):
        two.check()
    wait_until(lambda: not stage.listed(one.pid), 5, "the dead program's leaving the list")
    # Alone on its port again, the other gets everything that comes.
    assert two.marker in two.ask(target=one.target).text


class Loop:
    """A client that asks again and again over new connections, and counts what went wrong."""

    def __init__(self, running, least=200):
        self.running, self.least = running, least
        self.pids, self.failures, self.done = [], [], 0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def _run(self):
        while self.done < self.least or not self._stop.is_set():
            try:
                answer = self.running.ask(fresh_source())
                assert self.running.marker in answer.text, answer.text
                self.pids.append(answer.pid)
            except (OSError, AssertionError) as e:
                self.failures.append(f"{self.done}: {e!r}")
            self.done += 1
            if self.done > 20000:
                break

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._stop.set()
        self._thread.join(60)
        assert not self._thread.is_alive(), "the client hangs"


@pytest.mark.parametrize("program", [NGINX_DAEMON, NGINX_DAEMON_REUSEPORT], ids=str)
def test_nginx_reloads_and_upgrades_its_binary_without_a_failure(stage, program):
    running = stage.start(program)
    pid_file = os.path.join(running.folder, "nginx.pid")
    old_master = running.pid
    with Loop(running) as loop:
        wait_until(lambda: loop.pids, 10, "a first answer")
        first = set(workers_of(old_master))
        os.kill(old_master, signal.SIGHUP)
        wait_until(lambda: not first & set(workers_of(old_master)), 15, "the first workers' end")
        second = set(workers_of(old_master))
        wait_until(lambda: second & set(loop.pids), 15, "an answer from a worker after the reload")
        os.kill(old_master, signal.SIGUSR2)
        new_master = wait_until(lambda: changed_pid(pid_file, old_master), 15, "a new master")
        third = set(wait_until(lambda: workers_of(new_master), 15, "workers of the new master"))
        os.kill(old_master, signal.SIGQUIT)
        wait_until(lambda: not alive(old_master), 15, "the end of the old master")
        wait_until(lambda: third & set(loop.pids), 15, "an answer from a worker of the new master")
    # A REUSEPORT socket that is closed takes its queue with it: so the kernel does it natively.
    if program is NGINX_DAEMON or stage.mode == "berth":
        assert not loop.failures, loop.failures[:5]
    os.kill(new_master, signal.SIGQUIT)
    wait_until(lambda: not alive(new_master), 15, "the end of the new master")
    wait_until(lambda: can_bind(stage.port), 5, f"port {stage.port} free for a native program")


def changed_pid(path, old):
    pid = programs.read_number(path)
    return pid if pid != old else None


def workers_of(master):
    return [p for p in descendants(master) if command_name(p) == "nginx" and p != master]


def test_both_workers_of_a_node_cluster_answer(stage):
    running = stage.start(NODE_CLUSTER)
    pids = set()
    wait_until(lambda: pids.add(running.check().pid) or len(pids) >= 2, 10, "another worker")
    assert running.pid not in pids


@pytest.mark.parametrize("program", [GUNICORN_SYNC], ids=str)
def test_a_busy_worker_does_not_hold_up_its_neighbour(stage, program):
    running = stage.start(program)
    release = os.path.join(running.folder, "release")
    held = []
    holder = threading.Thread(target=lambda: held.append(running.check(path="/hold")))
    holder.start()
    try:
        wait_until(lambda: os.path.exists(release + ".held"), 10, "a held request")
        others = {running.check().pid for _ in range(10)}
        assert not held, "the held request was answered before its time"
    finally:
        with open(release, "w", encoding="ascii"):
            pass
        holder.join(20)
    assert held and held[0].pid not in others


@pytest.mark.parametrize("program", [ASYNCIO, PYTHON_HTTP, NGINX, NODE_CLUSTER], ids=str)
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL], ids=lambda s: s.name)
def test_a_program_that_is_restarted_at_once_gets_its_name_again(stage, program, number):
    stage.start(NODE, "other.localhost", port=stage.port) if stage.mode == "berth" else None
    first = stage.start(program)
    if number == signal.SIGKILL:
        first.proc.kill()
    else:
        first.proc.stop(number)
    second = stage.start(program)
    assert second.marker != first.marker
    second.check()


@pytest.mark.berth_only
def test_a_taken_name_is_refused_and_the_owner_is_named(stage):
    owner = stage.start(ASYNCIO, "blog.localhost")
    second = stage.start(PYTHON_HTTP, "blog.localhost", ready=False)
    assert second.proc.wait() != 0
    said = second.proc.output()
    assert "Address already in use" in said
    for word in (str(owner.pid), programs.getpass.getuser(), "python3", "blog.localhost"):
        assert word in said, f"{word} is missing in: {said}"
    owner.check()


@pytest.mark.berth_only
def test_a_program_keeps_working_while_names_come_and_go(stage):
    steady = stage.start(ASYNCIO, "steady.localhost")
    with Loop(steady) as loop:
        for _ in range(3):
            guest = stage.start(PYTHON_HTTP, "guest.localhost")
            guest.check()
            guest.proc.stop()
    assert not loop.failures, loop.failures[:5]


@pytest.mark.berth_only
def test_a_name_is_told_by_case_dot_and_port_all_the_same(stage):
    one = stage.start(ASYNCIO, "one.localhost")
    stage.start(NODE, "two.localhost")
    for host in ("ONE.LOCALHOST", "one.localhost.", "One.Localhost"):
        assert one.marker in one.ask(target=one.target.named(host)).text


@pytest.mark.berth_only
def test_a_port_that_is_not_shared_is_left_alone(stage, new_stage):
    """--port restricts sharing; the program's socket is then its own."""
    running = stage.start(ASYNCIO, options=["--port", str(stage.port ^ 1)])
    running.check()
    assert not can_bind(stage.port)
    assert not stage.listed("app.localhost") or not stage.listed(stage.port)


def test_a_program_on_ipv6_only_is_reached_there(stage):
    if not has_ipv6():
        pytest.skip("this machine has no IPv6")
    running = stage.start(ASYNCIO, address="::1")
    running.check("::1")
