"""Pools whose programs are broken, whose clients are slow, whose berthd is killed: everybody else is
served, and who waits is told what is the matter."""

import contextlib
import json
import os
import signal
import subprocess
import threading
import time

import pytest

from harness import Target, alive, connect, request_bytes, wait_until
from pools import POOL_APP, Client, Load, Pools, facts, get
from programs import ASYNCIO, PYTHON, ROOT

pytestmark = pytest.mark.berth_only


@pytest.fixture
def pools(stage):
    return Pools(stage)


@pytest.fixture
def good(pools):
    """A pool that is well, beside the one that is not."""
    return pools.define("good", start="always")


# Programs that do not start -----------------------------------------------------------------------


def test_a_program_that_ends_at_once_pauses_its_pool_until_it_is_mended(pools, good):
    target = pools.define("bad", words=["exit"], pause="1h")
    pools.up()
    reply = get(target, timeout=30)
    assert reply.status == 503 and int(reply.headers["retry-after"]) > 60, reply
    report = pools.report("bad")
    assert report["state"] == "paused" and "exit status 3" in report["reason"], report
    assert report["failures"] == 5
    assert get(target).status == 503 and pools.report("bad")["failures"] == 5, "no more attempts"
    done = pools.ask("start", "bad", good=False)
    assert done.returncode == 1 and "exit status 3" in done.stderr, done.stderr
    facts(good)
    pools.define("bad", pause="1h")
    pools.ask("reload")
    pools.ask("start", "bad")
    facts(target)


def test_a_paused_pool_comes_back_by_itself(pools, stage):
    program = os.path.join(stage.files, "program.py")
    target = pools.define("bad", [PYTHON, program, "127.0.0.1", pools.port], pause="1s..2s",
                          failures=3)
    pools.up()
    assert get(target, timeout=30).status == 503
    assert "exit status 2" in pools.report("bad")["reason"]
    os.symlink(POOL_APP, program)
    wait_until(lambda: get(target, timeout=30).status == 200, 20, "an answer")


def test_a_command_that_does_not_exist_is_named(pools, good):
    target = pools.define("bad", ["/usr/bin/no-such-program"], pause="1h")
    pools.up()
    assert get(target, timeout=30).status == 503
    assert "no-such-program" in pools.report("bad")["reason"]
    facts(good)
    done = pools.stage.berth("run", "--name", "worse", "--as", "worse.localhost", "--workers", "1", "--detach", "--",
                             "/usr/bin/no-such-program")
    assert done.returncode != 0 and "no-such-program" in done.stderr, done.stderr
    assert pools.report("worse") is None


def test_a_user_that_does_not_exist_is_named(pools, good):
    target = pools.define("bad", user="no-such-user", pause="1h")
    pools.up()
    assert get(target, timeout=30).status == 503
    assert "no-such-user" in pools.report("bad")["reason"]
    facts(good)


def test_a_program_that_never_listens_is_given_up(pools, good):
    target = pools.define("bad", words=["none"], start_timeout="300ms", failures=2, pause="1h")
    pools.up()
    assert get(target, timeout=30).status == 503
    assert "not ready in time" in pools.report("bad")["reason"]
    facts(good)


def test_a_program_that_never_accepts_is_replaced_and_then_paused(pools, good):
    target = pools.define("bad", words=["deaf"], stall_timeout="1s", failures=2, pause="1h")
    pools.up()
    assert get(target, timeout=40).status == 503
    assert "takes no connections" in pools.report("bad")["reason"]
    facts(good)


def test_a_program_that_goes_into_the_background_is_followed(pools):
    target = pools.define("one", words=["daemon"], idle_timeout="1s")
    pools.up()
    pid = facts(target)["pid"]
    assert pools.pids("one") == [pid] and facts(target)["pid"] == pid
    pools.wait_state("one", "waiting")
    wait_until(lambda: not alive(pid), 10, "the end of the background process")
    assert pools.report("one")["failures"] == 0


# Programs that go wrong ---------------------------------------------------------------------------


def test_a_worker_without_descriptors_does_not_take_connections_from_the_others(pools):
    target = pools.define("two", workers=2, start="always", files_max=64, stall_timeout="1s")
    pools.up()
    pools.wait_workers("two", 2)
    with Client(target) as client:
        client.send("/leak", close=True)
        wait_until(lambda: 64 in [len(os.listdir(f"/proc/{pid}/fd")) for pid in pools.pids("two")],
                   10, "a full table of descriptors")
    with Load(target, threads=4, requests=(1,)) as load:
        load.wait_more(200)
    # The kernel drops the descriptor that finds no place; from then on the others are asked first.
    assert len(load.failures) <= 2, load.failures


@pytest.mark.skipif(not ROOT, reason="needs root")
def test_a_worker_without_memory_ends_alone(pools, good):
    limited = ["/usr/bin/prlimit", "--as=200000000", PYTHON, POOL_APP, "127.0.0.1", pools.port]
    target = pools.define("bad", limited, start="always")
    pools.up()
    pid = facts(target)["pid"]
    with Client(target) as client:
        client.send("/grow/500")
        assert client.is_closed()
    assert facts(good) and facts(target)["pid"] == pid


def waiting(pools, name):
    """Connections that no worker has taken."""
    report = pools.report(name)
    return report["parked"] + sum(w["waiting"] for w in report["workers"])


def test_a_killed_worker_loses_only_what_it_had_accepted(pools):
    target = pools.define("two", words=["single"], workers=2, start="always", stall_timeout="off")
    pools.up()
    first, second = pools.wait_workers("two", 2)
    with contextlib.ExitStack() as stack:
        clients = [stack.enter_context(Client(target)) for _ in range(12)]
        for i, client in enumerate(clients):
            client.send("/slow/0.5" if i < 2 else "/", close=True)
            time.sleep(0)
        wait_until(lambda: waiting(pools, "two") >= 8, 10, "a queue")
        os.kill(first, signal.SIGKILL)
        lost, pids = 0, []
        for client in clients:
            try:
                pids.append(json.loads(client.receive().body)["pid"])
            except OSError:
                lost += 1
    assert lost <= 1 and len(pids) >= 11, (lost, pids)
    assert first not in pids or pids.count(first) <= 1


# Names --------------------------------------------------------------------------------------------


def test_two_pools_of_one_name_are_a_mistake_of_the_configuration(pools, good):
    pools.up()
    pid = facts(good)["pid"]
    pools.define("second", route="good.localhost")
    done = pools.ask("reload", good=False)
    assert done.returncode == 1 and "second.conf:" in done.stderr and "good" in done.stderr
    assert facts(good)["pid"] == pid


def test_a_name_of_a_pool_is_refused_to_berth_run_and_free_when_the_pool_goes(pools, good, stage):
    run = ["run", "--name", "mine", "--as", "good.localhost", "--workers", "1", "--detach", "--set",
           f"listen=127.0.0.1:{pools.port}", "--", PYTHON, POOL_APP, "127.0.0.1", pools.port]
    pools.up()
    pid = facts(good)["pid"]
    refused = stage.berth(*run)
    assert refused.returncode != 0 and "good" in refused.stderr, refused.stderr
    assert facts(good)["pid"] == pid and pools.report("mine") is None
    pools.forget("good")
    pools.ask("reload")
    assert stage.berth(*run).returncode == 0
    assert facts(good)["pid"] in pools.pids("mine")


def test_a_name_that_a_program_under_berth_run_has_blocks_a_pool(pools, stage):
    pools.up()
    solo = stage.start(ASYNCIO, "good.localhost")
    pools.define("good", start="always")
    pools.ask("reload")
    assert pools.state("good") == "blocked" and "good.localhost" in pools.report("good")["reason"]
    solo.check()
    solo.kill()
    pools.wait_state("good", "running")
    facts(Target("127.0.0.1", pools.port, "good.localhost"))
    late = stage.start(ASYNCIO, "good.localhost", ready=False)
    assert late.proc.wait() != 0 and "good" in late.proc.output()


# The configuration --------------------------------------------------------------------------------


@pytest.mark.parametrize("text,key", [
    ("workers = none", "workers"), ("wrkers = 2", "wrkers"), ("idle_timeout = 5 apples", "idle_timeout"),
    ("listen = somewhere", "listen"), ("route = http://a b/", "route"), ("start = maybe", "start"),
    ("umask = 999", "umask"), ("recycle_at = 25:00", "recycle_at"), ("workers = 4..2", "workers"),
    ("memory_max = lots", "memory_max"), ("command = \"unfinished", "command"),
    ("environment = NOVALUE", "environment"),
    ("no equals sign", ""), ("[app", "")])
def test_a_mistake_changes_nothing_and_is_named(pools, good, text, key):
    pools.up()
    pid = facts(good)["pid"]
    pools.define("fresh")
    path = pools.write("apps.d/bad.conf", f"[app bad]\ncommand = /bin/true\n{text}\n")
    done = pools.ask("reload", good=False)
    assert done.returncode == 1
    assert f"{path}:3:" in done.stderr and key in done.stderr, done.stderr
    assert pools.report("fresh") is None and facts(good)["pid"] == pid


def test_reloads_all_the_time_disturb_nobody(pools, good):
    pools.up()
    pools.wait_workers("good", 1)
    stop = threading.Event()
    outcomes = []

    def reload():
        while not stop.wait(0.1):
            pools.define("changing", idle_timeout=f"{len(outcomes) + 1}s")
            outcomes.append(pools.stage.berth("reload").returncode)

    thread = threading.Thread(target=reload)
    with Load(good, threads=6) as load:
        thread.start()
        try:
            load.wait_more(1500, timeout=60)
        finally:
            stop.set()
            thread.join()
    load.check()
    assert len(outcomes) > 3 and not any(outcomes)
    assert len(load.pids) == 1


# Clients and resources ----------------------------------------------------------------------------


def answers_a_second(target, seconds=1.0):
    with Load(target, threads=2, requests=(1,)) as load:
        wait_until(lambda: load.done > 0, 10, "an answer")
        began, before = time.monotonic(), load.done
        load.stopped.wait(seconds)
        rate = (load.done - before) / (time.monotonic() - began)
    load.check()
    return rate


def test_two_thousand_slow_clients_do_not_slow_a_fast_one(pools, good):
    pools.define("other", start="manual")
    pools.up("--header-wait", "60000")
    pools.wait_workers("good", 1)
    alone = answers_a_second(good)
    request = request_bytes(good)
    # From many addresses: what one address may hold is limited.
    slow = [connect(good, f"127.88.{n % 20}.1") for n in range(2000)]
    stop = threading.Event()

    def trickle():
        for n in range(len(request)):
            for s in slow:
                try:
                    s.sendall(request[n:n + 1])
                except OSError:
                    continue
            if stop.wait(1):
                return

    thread = threading.Thread(target=trickle)
    thread.start()
    try:
        among = answers_a_second(good)
    finally:
        stop.set()
        thread.join()
        for s in slow:
            s.close()
    assert among > alone / 4, f"{among:.0f} answers a second, {alone:.0f} alone"


@pytest.mark.skipif(not ROOT, reason="needs root to mount")
def test_a_full_disk_for_logs_stops_nobody(pools, stage):
    folder = os.path.join(stage.files, "small")
    os.mkdir(folder)
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", folder],
                      check=False, capture_output=True).returncode != 0:
        pytest.skip("nothing may be mounted here")
    try:
        stage.env["BERTH_LOG_DIR"] = folder
        target = pools.define("one", start="always")
        pools.up()
        with Load(target, threads=2) as load:
            for _ in range(40):
                get(target, "/say/" + 4000 * "x")
            load.wait_more(50)
        load.check()
        assert len(load.pids) == 1 and pools.report("one")["failures"] == 0
        pools.ask("restart", "one")
        facts(target)
    finally:
        pools.ask("stop")
        subprocess.run(["umount", "-l", folder], check=True)


def test_a_berthd_that_is_out_of_descriptors_answers_and_serves_those_that_it_has(pools, stage):
    target = pools.define("a000")
    for i in range(1, 150):
        pools.define(f"a{i:03}")
    config = pools.folder
    stage.serve("--config", config, limit=("prlimit", "--nofile=256:256"))
    states = {a["name"]: a["pool"] for a in stage.ls()["apps"]}
    blocked = [p for p in states.values() if p["state"] == "blocked"]
    assert blocked and all("descriptors" in p["reason"] for p in blocked), blocked
    assert states["a000"]["state"] == "waiting"
    assert get(target).status == 200
    assert pools.ask("status").returncode == 0
