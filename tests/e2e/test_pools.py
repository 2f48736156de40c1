"""Pools: workers that berthd starts itself, on demand, as many as are needed, as long as they are well."""

import contextlib
import json
import os
import pwd
import threading

import pytest

from harness import Target, alive, free_port, fresh_source, user_exists, wait_until
from pools import POOL_APP, Client, Load, Pools, facts, get
from programs import (GUNICORN_SYNC, NGINX, NODE, NODE_CLUSTER, POSTGRESQL, PYTHON, PYTHON_HTTP,
                      ROOT, SSHD)

pytestmark = pytest.mark.berth_only


@pytest.fixture
def pools(stage):
    return Pools(stage)


def waiting_client(target, path="/"):
    """One that has asked and has no answer yet."""
    client = Client(target)
    client.send(path, close=True)
    return client


# On demand, and not longer than that --------------------------------------------------------------


def test_the_first_connection_starts_the_program_and_is_served(pools):
    target = pools.define("one")
    pools.up()
    assert pools.state("one") == "waiting" and not pools.workers("one")
    source = fresh_source()
    seen = facts(target, source=source)
    assert seen["peer"] == source
    assert pools.pids("one") == [seen["pid"]] and pools.report("one")["starts"] == 1
    assert facts(target)["pid"] == seen["pid"]


def test_connections_wait_in_the_queue_while_it_starts(pools):
    target = pools.define("one", words=["slow"])
    pools.up()
    with contextlib.ExitStack() as stack:
        clients = [stack.enter_context(waiting_client(target)) for _ in range(30)]
        pids = {json.loads(c.receive().body)["pid"] for c in clients}
    assert len(pids) == 1 and pools.report("one")["starts"] == 1


def test_a_pool_without_an_open_connection_is_stopped_and_started_again(pools):
    target = pools.define("one", idle_timeout="1s")
    pools.up()
    pid = facts(target)["pid"]
    pools.wait_state("one", "waiting")
    wait_until(lambda: not alive(pid), 10, "the end of the worker")
    assert facts(target)["pid"] != pid
    assert pools.report("one")["failures"] == 0


def test_a_pool_is_not_stopped_while_a_kept_connection_is_open(pools):
    """Another pool with the same limit and no connection shows when that has passed, twice."""
    target = pools.define("held", idle_timeout="1s")
    clock = pools.define("clock", idle_timeout="1s")
    pools.up()
    with Client(target) as client:
        pid = json.loads(client.get().body)["pid"]
        for _ in range(2):
            facts(clock)
            pools.wait_state("clock", "waiting")
            assert pools.state("held") == "running"
        assert json.loads(client.get().body)["pid"] == pid
    pools.wait_state("held", "waiting")
    wait_until(lambda: not alive(pid), 10, "the end of the worker")


def test_a_caller_who_waits_too_long_is_told_to_come_again(pools):
    target = pools.define("one", words=["none"], patience="300ms", start_timeout="20s")
    pools.up()
    reply = get(target)
    assert reply.status == 503 and int(reply.headers["retry-after"]) >= 1, reply


def test_always_and_manual(pools):
    always = pools.define("always", start="always", idle_timeout="1s")
    manual = pools.define("manual", start="manual")
    pools.up()
    (pid,) = pools.wait_workers("always", 1)
    assert facts(always)["pid"] == pid
    assert get(manual).status == 503 and pools.state("manual") == "stopped"
    pools.ask("start", "manual")
    pid = facts(manual)["pid"]
    pools.ask("stop", "manual")
    assert not alive(pid) and get(manual).status == 503


# Workers ------------------------------------------------------------------------------------------


def test_two_workers_share_the_connections_evenly(pools):
    target = pools.define("two", workers=2, start="always")
    pools.up()
    pools.wait_workers("two", 2)
    with contextlib.ExitStack() as stack:
        clients = [stack.enter_context(Client(target)) for _ in range(20)]
        pids = [json.loads(c.get().body)["pid"] for c in clients]
        assert sorted(pids.count(pid) for pid in pools.pids("two")) == [10, 10]
        wait_until(lambda: [w["open"] for w in pools.workers("two")] == [10, 10], 10,
                   "ten open connections each")


def test_the_worker_with_fewer_open_connections_gets_the_next(pools):
    target = pools.define("two", workers=2, start="always")
    pools.up()
    pools.wait_workers("two", 2)
    with contextlib.ExitStack() as stack:
        clients = [stack.enter_context(Client(target)) for _ in range(10)]
        of = {c: json.loads(c.get().body)["pid"] for c in clients}
        freed = of[clients[0]]
        for client in clients:
            if of[client] == freed:
                client.close()
        wait_until(lambda: sorted(w["open"] for w in pools.workers("two")) == [0, 5], 10,
                   "five connections closed")
        for _ in range(4):
            client = stack.enter_context(Client(target))
            assert json.loads(client.get().body)["pid"] == freed


def test_workers_come_when_all_are_busy_and_go_when_they_are_not(pools):
    target = pools.define("many", words=["single"], workers="1..3", idle_timeout="2s")
    pools.up()
    facts(target)
    assert len(pools.pids("many")) == 1
    done = threading.Event()

    def busy():
        while not done.is_set():
            assert get(target, "/slow/0.05", timeout=30).status == 200

    threads = [threading.Thread(target=busy) for _ in range(12)]
    for thread in threads:
        thread.start()
    try:
        pools.wait_workers("many", 3, timeout=20)
    finally:
        done.set()
        for thread in threads:
            thread.join()
    with Client(target) as client:
        client.get()
        pools.wait_workers("many", 1, timeout=20)
    pools.wait_state("many", "waiting")


# Real programs ------------------------------------------------------------------------------------


def readiness(program):
    """PostgreSQL listens long before it lets anybody in, and says when it does."""
    return "notify" if program is POSTGRESQL else "listen"


@pytest.mark.parametrize("program", [NGINX, NODE, NODE_CLUSTER, GUNICORN_SYNC, PYTHON_HTTP,
                                     POSTGRESQL, SSHD], ids=str)
def test_a_real_program_is_started_by_its_first_client(pools, program):
    if program.missing():
        pytest.skip(program.missing())
    running = pools.define_program("real", program, idle_timeout="1s", start_timeout="60s",
                                   ready=readiness(program))
    pools.up()
    running.check()
    assert len(pools.pids("real")) == 1
    for _ in range(5):
        running.check()
    pools.wait_state("real", "waiting")
    running.check()
    report = pools.report("real")
    assert report["starts"] == 2 and report["failures"] == 0, report


@pytest.mark.parametrize("program", [NGINX, NODE], ids=str)
def test_a_real_program_is_restarted_without_a_failure(pools, program):
    running = pools.define_program("real", program, workers=2, start="always", start_timeout="60s")
    pools.up()
    old = set(pools.wait_workers("real", 2))
    with Load(running.target, threads=4, requests=(1,)) as load:
        load.wait_more(50)
        pools.ask("restart", "real")
        load.wait_more(50)
    load.check()
    assert not old & set(pools.pids("real"))


def test_all_of_them_share_one_port(pools):
    programs = [p for p in (NGINX, NODE, PYTHON_HTTP, POSTGRESQL, SSHD) if not p.missing()]
    running = [pools.define_program(f"p{i}", p, start_timeout="60s", ready=readiness(p))
               for i, p in enumerate(programs)]
    pools.up()
    for one in (*running, *running):
        one.check()


def test_two_ports_of_nginx_are_shared_with_another_pool(pools, stage):
    second = free_port()
    folder = os.path.join(stage.files, "nginx")
    os.mkdir(folder)
    conf = os.path.join(folder, "nginx.conf")
    temp = "".join(f"{kind}_temp_path {folder}/{kind};"
                   for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi"))
    with open(conf, "w", encoding="ascii") as f:
        f.write(f"daemon off; pid {folder}/pid; error_log stderr; events {{}}\n"
                f"{'user www-data www-data;' if ROOT else ''}"
                f"http {{ {temp} access_log off; server {{ listen 127.0.0.1:{pools.port};"
                f"listen 127.0.0.1:{second}; return 200 'nginx $server_port $remote_port'; }} }}\n")
    listen = [f"127.0.0.1:{pools.port}", f"127.0.0.1:{second}"]
    target = pools.define("web", ["/usr/sbin/nginx", "-e", "stderr", "-c", conf], listen=listen,
                          workers=2)
    other = pools.define("app", listen=listen)
    pools.up()
    for port in (second, pools.port):
        reply = get(Target("127.0.0.1", port, "web.localhost"))
        assert reply.body == f"nginx {port} {reply.source[1]}"
    facts(other)
    assert get(target).body.startswith("nginx")


# Ready, and well ----------------------------------------------------------------------------------


@pytest.mark.parametrize("ready,health", [("notify", "off"), ("probe", "/healthz")])
def test_a_worker_gets_connections_when_it_is_ready(pools, stage, ready, health):
    folder = os.path.join(stage.files, "there")
    os.mkdir(folder)
    target = pools.define("one", words=[ready], ready=ready, health=health, directory=folder)
    pools.up()
    with waiting_client(target) as client:
        (pid,) = pools.wait_workers("one", 1, "starting")
        with Client(target) as second:
            second.send(close=True)
            wait_until(lambda: pools.report("one")["parked"] == 2, 10, "two that wait")
            with open(os.path.join(folder, "ready"), "w", encoding="ascii"):
                pass
            assert json.loads(client.receive().body)["pid"] == pid
            assert second.receive().status == 200
    if ready == "notify":
        assert pools.workers("one")[0]["status"] == "at your service"


def test_a_worker_that_is_not_ready_in_time_is_replaced(pools, stage):
    target = pools.define("one", words=["notify"], ready="notify", directory=stage.files,
                          start_timeout="700ms")
    pools.up()
    with waiting_client(target) as client:
        wait_until(lambda: pools.report("one")["failures"] >= 1, 10, "a failure")
        with open(os.path.join(stage.files, "ready"), "w", encoding="ascii"):
            pass
        assert client.receive().status == 200


def replaced(pools, target, path):
    """Asks one worker for that path, and returns when another has taken its place."""
    old = facts(target)["pid"]
    get(target, path)
    wait_until(lambda: pools.pids("one") and old not in pools.pids("one"), 20, "another worker")
    assert facts(target)["pid"] != old
    wait_until(lambda: not alive(old), 10, "the end of the old worker")
    return pools.report("one")


def test_a_worker_whose_watchdog_is_silent_is_replaced(pools):
    target = pools.define("one", words=["watchdog"], watchdog="1s", start="always")
    clock = pools.define("clock", idle_timeout="2s")
    pools.up()
    (pid,) = pools.wait_workers("one", 1)
    facts(clock)
    pools.wait_state("clock", "waiting")
    assert facts(target)["pid"] == pid and pools.report("one")["failures"] == 0
    assert replaced(pools, target, "/silent")["failures"] == 1


def test_a_worker_whose_health_is_bad_is_replaced(pools):
    target = pools.define("one", health="/healthz", health_interval="1s", health_timeout="2s",
                          start="always")
    pools.up()
    pools.wait_workers("one", 1)
    assert replaced(pools, target, "/sick")["failures"] == 1


def test_what_waits_for_a_worker_that_stalls_goes_to_the_next(pools):
    target = pools.define("one", stall_timeout="1s", start="always")
    pools.up()
    (old,) = pools.wait_workers("one", 1)
    get(target, "/deaf")
    with contextlib.ExitStack() as stack:
        clients = [stack.enter_context(waiting_client(target)) for _ in range(5)]
        answers = [c.receive() for c in clients]
    assert all(r.status == 200 for r in answers), answers
    # Its accept() may have been waiting already when it was told: that one it takes.
    pids = [json.loads(r.body)["pid"] for r in answers]
    assert pids.count(old) <= 1, pids


# What the program sees ----------------------------------------------------------------------------


@pytest.mark.skipif(not ROOT or not user_exists("nobody"), reason="needs root and nobody")
def test_the_program_gets_user_folder_and_limits_as_they_were_defined(pools):
    target = pools.define("one", user="nobody", group="daemon", directory="/var", umask="0077",
                          files_max=321, environment=['"COLOUR=dark blue"', "SIZE=7"])
    pools.up()
    seen = facts(target)
    nobody = pwd.getpwnam("nobody")
    assert (seen["uid"], seen["directory"], seen["umask"]) == (nobody.pw_uid, "/var", 0o77)
    assert seen["gid"] == 1 and 0 not in seen["groups"] and seen["files"] == [321, 321]
    environment = seen["environment"]
    assert environment["COLOUR"] == "dark blue" and environment["SIZE"] == "7"
    assert environment["USER"] == "nobody" and environment["HOME"] == nobody.pw_dir
    assert "BERTH_LOG_DIR" not in environment, "berthd's own environment"
    assert seen["descriptors"][:3] == ["0", "1", "2"] and len(seen["descriptors"]) <= 6


def test_the_environment_and_folder_of_berth_run_are_passed_on(pools, stage):
    run = ["run", "--name", "by-hand", "--as", "by-hand.localhost", "--workers", "2", "--set",
           "umask=0027", "--detach", "--", PYTHON, POOL_APP, "127.0.0.1", pools.port]
    done = stage.berth(*run, env={"COLOUR": "dark blue", "ODD": "a\nb = 'c'"})
    assert done.returncode == 0, done.stderr
    target = Target("127.0.0.1", pools.port, "by-hand.localhost")
    seen = facts(target)
    assert seen["environment"]["COLOUR"] == "dark blue"
    assert seen["environment"]["ODD"] == "a\nb = 'c'"
    assert seen["directory"] == "/" and seen["umask"] == 0o27
    assert len(pools.pids("by-hand")) == 2
    again = stage.berth(*run)
    assert again.returncode == 2 and "by-hand" in again.stderr
    pools.ask("stop", "by-hand")
    assert pools.report("by-hand") is None and not alive(seen["pid"])


def test_what_workers_write_is_kept(pools):
    target = pools.define("one", workers=2, start="always")
    pools.up()
    pools.wait_workers("one", 2)
    get(target, "/say/hello")
    wait_until(lambda: "hello" in pools.ask("logs", "one").stdout, 10, "the line in the log")
