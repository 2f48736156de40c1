"""kill -9 of berthd, of dispatch and of both, with pools and under load: nobody is refused, nothing
that waits is lost, and the workers stay."""

import contextlib
import json
import os
import signal

import pytest

from harness import Target, alive, wait_until
from pools import POOL_APP, Client, Load, Pools, facts, get
from programs import PYTHON

pytestmark = pytest.mark.berth_only


@pytest.fixture
def pools(stage):
    return Pools(stage)


def known_again(pools, name, pids):
    """Until a new berthd has these very workers, and no others."""
    def same():
        return sorted(pools.pids(name)) == sorted(pids) and len(pools.workers(name)) == len(pids)

    wait_until(same, 10, f"the old workers of {name}")


def test_killing_dispatch_under_load_refuses_nobody_and_keeps_the_queue(pools):
    target = pools.define("two", workers=2, start="always")
    late = pools.define("late", words=["slow"])
    pools.up()
    pids = pools.wait_workers("two", 2)
    with Load(target, threads=6, requests=(1,)) as load:
        for _ in range(3):
            load.wait_more(50)
            pools.kill("berth-dispatch")
            pools.stage.daemon("berth-dispatch")
            load.wait_more(50)
    refused = [f for f in load.failures if "Refused" in f]
    assert not refused, refused
    load.check()
    with Client(late) as client:
        client.send(close=True)
        pools.wait_workers("late", 1, "starting")
        pools.kill("berth-dispatch")
        assert client.receive().status == 200
    assert sorted(pools.pids("two")) == sorted(pids)


def test_killing_berthd_under_load_disturbs_nobody_and_workers_stay(pools):
    target = pools.define("two", workers=2, start="always")
    pools.up()
    pids = pools.wait_workers("two", 2)
    with Load(target, threads=6) as load:
        for _ in range(3):
            load.wait_more(50)
            pools.kill("berthd")
            load.wait_more(50)
            pools.up(*pools.options)
            known_again(pools, "two", pids)
    load.check()
    assert load.pids == set(pids)
    report = pools.report("two")
    assert report["starts"] + report["failures"] == 0, report
    with Load(target, threads=4) as load:
        pools.ask("restart", "two")
        load.wait_more(50)
    load.check()
    assert not set(pids) & set(pools.pids("two"))


def test_a_worker_that_dies_while_there_is_no_berthd_is_replaced_by_the_next(pools):
    target = pools.define("two", workers=2, start="always")
    pools.up()
    first, second = pools.wait_workers("two", 2)
    pools.kill("berthd")
    os.kill(first, signal.SIGKILL)
    wait_until(lambda: not alive(first), 10, "the end of a worker")
    pools.up()
    wait_until(lambda: len(pools.pids("two")) == 2 and second in pools.pids("two"), 10, "a new one")
    with Load(target, threads=4) as load:
        load.wait_more(50)
    load.check()


def test_connections_that_wait_outlive_berthd_and_dispatch(pools, stage):
    folder = os.path.join(stage.files, "there")
    os.mkdir(folder)
    target = pools.define("one", words=["notify"], ready="notify", directory=folder)
    pools.up()
    with contextlib.ExitStack() as stack:
        clients = [stack.enter_context(Client(target)) for _ in range(10)]
        for client in clients:
            client.send(close=True)
        (pid,) = pools.wait_workers("one", 1, "starting")
        wait_until(lambda: pools.report("one")["parked"] == 10, 10, "ten that wait")
        pools.kill("berth-dispatch")
        pools.stage.daemon("berth-dispatch")
        wait_until(lambda: pools.report("one")["parked"] == 10, 10, "a dispatch that has them")
        pools.kill("berthd")
        pools.up()
        with open(os.path.join(folder, "ready"), "w", encoding="ascii"):
            pass
        assert {json.loads(c.receive().body)["pid"] for c in clients} == {pid}


def test_workers_attach_again_when_both_were_killed(pools):
    target = pools.define("two", workers=2, start="always")
    pools.up()
    pids = pools.wait_workers("two", 2)
    with Client(target) as client:
        assert client.get().status == 200
        pools.kill("berthd")
        pools.kill("berth-dispatch")
        assert client.get().status == 200, "a connection that was handed over is the worker's"
        pools.up()
        known_again(pools, "two", pids)
        wait_until(lambda: get(target).status == 200, 10, "an answer")
        assert client.get().status == 200
    with Load(target, threads=4) as load:
        load.wait_more(100)
    load.check()
    assert load.pids == set(pids), "both serve again"


@pytest.mark.parametrize("ready", ["listen", "notify", "probe"])
def test_a_worker_that_was_ready_just_before_berthd_died_is_ready(pools, stage, ready):
    folder = os.path.join(stage.files, "there")
    os.mkdir(folder)
    with open(os.path.join(folder, "ready"), "w", encoding="ascii"):
        pass
    health = {"health": "/"} if ready == "probe" else {}
    pools.define("one", words=["notify"], ready=ready, directory=folder, start="always", **health)
    pools.up()
    pids = pools.wait_workers("one", 1)
    pools.kill("berthd")
    path = stage.control_path("pools")
    with open(path, encoding="utf-8") as f:
        state = json.load(f)
    for worker in state[0]["workers"]:  # what stands there before the last change is written
        worker.update(state=0, said_ready=False)
    with open(path, "w", encoding="utf-8") as f:
        json.dump(state, f)
    pools.up()
    known_again(pools, "one", pids)


def test_a_pool_of_berth_run_outlives_berthd(pools, stage):
    done = stage.berth("run", "--name", "mine", "--as", "mine.localhost", "--workers", "2",
                       "--detach", "--", PYTHON, POOL_APP, "127.0.0.1", pools.port,
                       env={"COLOUR": "blue"})
    assert done.returncode == 0, done.stderr
    target = Target("127.0.0.1", pools.port, "mine.localhost")
    pids = pools.pids("mine")
    with Load(target, threads=4) as load:
        load.wait_more(20)
        pools.kill("berthd")
        load.wait_more(20)
        known_again(pools, "mine", pids)
        pools.ask("restart", "mine")
        load.wait_more(20)
    load.check()
    assert facts(target)["environment"]["COLOUR"] == "blue"
    assert not set(pids) & set(pools.pids("mine"))


def test_a_killed_worker_costs_no_more_than_what_it_was_serving(pools):
    target = pools.define("two", workers=2, start="always")
    pools.up()
    pools.wait_workers("two", 2)
    with Load(target, threads=6, requests=(1,)) as load:
        for _ in range(3):
            load.wait_more(50)
            os.kill(pools.pids("two")[0], signal.SIGKILL)
            pools.wait_workers("two", 2)
    assert not [f for f in load.failures if "Refused" in f or "503" in f], load.failures
    assert len(load.failures) <= 3 * 6, load.failures
    assert pools.report("two")["failures"] == 3


def test_a_drain_goes_on_after_berthd_was_killed(pools):
    target = pools.define("one", start="always", drain_timeout="30s")
    pools.up()
    (old,) = pools.wait_workers("one", 1)
    with Client(target) as client:
        client.get()
        pools.ask("restart", "--no-wait", "one")
        wait_until(lambda: [w["pid"] for w in pools.workers("one", "draining")] == [old], 10,
                   "a draining worker")
        pools.kill("berthd")
        pools.up()
        assert json.loads(client.get().body)["pid"] == old
        assert facts(target)["pid"] != old
    wait_until(lambda: not alive(old), 10, "the end of the drained worker")
    assert len(pools.pids("one")) == 1


def test_logs_go_on_after_berthd_was_killed(pools):
    target = pools.define("one", start="always")
    pools.up()
    (pid,) = pools.wait_workers("one", 1)
    pools.kill("berthd")
    get(target, "/say/meanwhile")
    pools.up()
    get(target, "/say/afterwards")
    wait_until(lambda: "afterwards" in pools.ask("logs", "one").stdout, 10, "the line in the log")
    assert "meanwhile" in pools.ask("logs", "one").stdout
    assert pools.pids("one") == [pid]


def test_a_berthd_that_a_command_starts_reads_the_configuration_of_the_dead_one(pools):
    target = pools.define("one")
    pools.up()
    pid = facts(target)["pid"]
    pools.kill("berthd")
    pools.ask("ls")
    known_again(pools, "one", [pid])
    assert facts(target)["pid"] == pid
    assert "nothing has changed" in pools.ask("reload").stdout
