"""A worker is replaced by one that is ready before it stops taking connections; nothing is dropped."""

import json
import os

import pytest

from harness import Target, alive, free_port, wait_until
from pools import Client, Load, Pools, facts, get
from programs import POSTGRESQL

pytestmark = pytest.mark.berth_only


@pytest.fixture
def pools(stage):
    return Pools(stage)


def others_serve(pools, name, old, count, timeout=20):
    """Until all workers are others, and those have ended."""
    def changed():
        pids = pools.pids(name)
        return len(pids) == count and not set(pids) & set(old)

    wait_until(changed, timeout, f"{count} other workers of {name}")
    wait_until(lambda: not any(alive(pid) for pid in old), timeout, "the end of the old ones")


# By command ---------------------------------------------------------------------------------------


def test_a_restart_under_load_drops_nothing(pools):
    target = pools.define("two", workers=2, start="always")
    pools.up()
    pools.wait_workers("two", 2)
    with Load(target, threads=8) as load:
        for _ in range(4):
            load.wait_more(60)
            old = pools.pids("two")
            pools.ask("restart", "two")
            others_serve(pools, "two", old, 2)
        load.wait_more(60)
    load.check()
    assert len(load.pids) == 10, "each worker has served"
    report = pools.report("two")
    assert report["restarts"] == 8 and report["failures"] == 0


def test_a_restart_that_fails_leaves_the_old_worker_in_its_place(pools, stage):
    folder = os.path.join(stage.files, "there")
    os.mkdir(folder)
    ready = os.path.join(folder, "ready")
    target = pools.define("one", words=["notify"], ready="notify", directory=folder, start="always",
                          start_timeout="1s")
    with open(ready, "w", encoding="ascii"):
        pass
    pools.up()
    (old,) = pools.wait_workers("one", 1)
    os.unlink(ready)
    with Load(target, threads=4) as load:
        load.wait_more(20)
        done = pools.ask("restart", "one", good=False)
        assert done.returncode == 1 and "not ready in time" in done.stderr, done.stderr
        load.wait_more(20)
    load.check()
    assert load.pids == {old} and pools.pids("one") == [old]


def test_a_request_in_progress_is_finished_by_the_old_worker(pools):
    target = pools.define("one", start="always", drain_timeout="10s")
    pools.up()
    (old,) = pools.wait_workers("one", 1)
    with Client(target) as client:
        assert json.loads(client.get().body)["pid"] == old
        client.send("/slow/2")
        pools.ask("restart", "--no-wait", "one")
        wait_until(lambda: pools.pids("one") not in ([], [old]), 10, "another worker")
        assert facts(target)["pid"] != old
        assert json.loads(client.receive().body)["pid"] == old
        assert json.loads(client.get("/").body)["pid"] == old, "the connection is still its own"
    wait_until(lambda: not alive(old), 10, "the end of the old worker")
    assert pools.report("one")["failures"] == 0


def test_a_connection_that_never_ends_is_cut_off_after_the_drain_timeout(pools):
    target = pools.define("one", start="always", drain_timeout="1s")
    pools.up()
    (old,) = pools.wait_workers("one", 1)
    with Client(target) as client:
        client.get()
        client.send("/hang")
        pools.ask("restart", "--no-wait", "one")
        assert client.is_closed()
    wait_until(lambda: not alive(old), 10, "the end of the old worker")
    assert "drain_timeout" in pools.log()


def test_a_worker_that_ignores_term_is_killed(pools):
    pools.define("one", words=["stubborn"], start="always", drain_timeout="1s", stop_timeout="500ms")
    pools.up()
    (old,) = pools.wait_workers("one", 1)
    pools.ask("restart", "one")
    others_serve(pools, "one", [old], 1)
    assert "state=killed" in pools.log()


# By itself ----------------------------------------------------------------------------------------


def test_workers_are_replaced_when_they_are_old(pools):
    target = pools.define("one", start="always", recycle_after="1500ms")
    pools.up()
    pools.wait_workers("one", 1)
    with Load(target, threads=4) as load:
        wait_until(lambda: len(load.pids) >= 3, 20, "two that took over")
    load.check()


def test_workers_are_replaced_after_so_many_connections(pools):
    target = pools.define("two", workers=2, start="always", recycle_connections=100)
    pools.up()
    old = pools.wait_workers("two", 2)
    with Load(target, threads=6, requests=(1,), pause=0.005) as load:
        wait_until(lambda: len(load.pids) >= 5, 30, "three that took over")
    load.check()
    others_serve(pools, "two", old, 2)


def test_a_worker_that_grows_is_replaced(pools):
    target = pools.define("one", start="always", recycle_memory="64M")
    pools.up()
    (old,) = pools.wait_workers("one", 1)
    with Load(target, threads=4) as load:
        load.wait_more(20)
        get(target, "/grow/100")
        others_serve(pools, "one", [old], 1)
        load.wait_more(20)
    load.check()


@pytest.mark.parametrize("what", ["file", "folder"])
def test_a_change_of_a_watched_file_replaces_all_workers(pools, stage, what):
    folder = os.path.join(stage.files, "source")
    os.mkdir(folder)
    path = os.path.join(folder, "program.py")
    with open(path, "w", encoding="ascii") as f:
        f.write("1")
    target = pools.define("two", workers=2, start="always", watch_delay="300ms",
                          watch=path if what == "file" else folder)
    pools.up()
    old = pools.wait_workers("two", 2)
    with Load(target, threads=4) as load:
        load.wait_more(50)
        for n in range(5):  # many changes, one restart
            with open(path + "~", "w", encoding="ascii") as f:
                f.write("changed" * n)
            os.rename(path + "~", path)
        others_serve(pools, "two", old, 2)
        load.wait_more(50)
    load.check()
    assert pools.report("two")["restarts"] == 2


# By the configuration -----------------------------------------------------------------------------


def test_a_changed_definition_replaces_workers_and_an_unchanged_one_does_not(pools):
    changed = pools.define("changed", start="always")
    same = pools.define("same", start="always")
    pools.up()
    (old,), (stays,) = pools.wait_workers("changed", 1), pools.wait_workers("same", 1)
    pools.define("changed", start="always", environment="COLOUR=blue")
    done = pools.ask("reload", "--dry-run")
    assert "changed" in done.stdout and "same" not in done.stdout
    assert pools.pids("changed") == [old]
    with Load(changed, threads=4) as load:
        load.wait_more(20)
        pools.ask("reload")
        others_serve(pools, "changed", [old], 1)
        load.wait_more(20)
    load.check()
    assert facts(changed)["environment"]["COLOUR"] == "blue"
    assert facts(same)["pid"] == stays


def test_more_and_fewer_workers_by_a_reload(pools):
    target = pools.define("some", start="always")
    pools.up()
    (first,) = pools.wait_workers("some", 1)
    with Load(target, threads=4) as load:
        for count in (3, 1, 2):
            pools.define("some", start="always", workers=count)
            pools.ask("reload")
            pools.wait_workers("some", count)
            load.wait_more(50)
    load.check()
    assert first in pools.pids("some"), "the oldest stays"


def test_an_application_comes_and_goes_with_the_configuration(pools):
    stays = pools.define("stays", start="always")
    pools.define("third", start="manual")
    pools.up()
    (pid,) = pools.wait_workers("stays", 1)
    with Load(stays, threads=4) as load:
        goes = pools.define("goes")
        pools.ask("reload")
        gone = facts(goes)["pid"]
        pools.forget("goes")
        pools.ask("reload")
        wait_until(lambda: not alive(gone), 10, "the end of its worker")
        assert get(goes).status in (404, 421, 503)
        assert pools.report("goes") is None
        load.wait_more(20)
    load.check()
    assert pools.pids("stays") == [pid]


@pytest.mark.skipif(POSTGRESQL.missing() is not None, reason="needs PostgreSQL")
def test_a_program_that_must_not_run_twice_is_restarted_after_its_end(pools):
    running = pools.define_program("data", POSTGRESQL, start="always", start_timeout="60s",
                                   ready="notify", overlap="no", stop_timeout="20s")
    pools.up()
    pools.wait_workers("data", 1, timeout=60)
    running.check()
    pid = pools.pids("data")[0]
    pools.ask("restart", "data")
    running.check()
    report = pools.report("data")
    assert pools.pids("data") != [pid] and not alive(pid)
    assert report["failures"] == 0 and report["restarts"] == 1, report


def test_a_program_that_takes_its_sockets_from_its_starter_gets_them(pools, stage):
    if not os.path.exists("/usr/bin/gunicorn"):
        pytest.skip("needs gunicorn")
    with open(os.path.join(stage.files, "passed.py"), "w", encoding="ascii") as f:
        f.write("def app(environ, start):\n"
                "    start('200 OK', [('Content-Length', '2')])\n"
                "    return [b'ok']\n")
    target = pools.define("one", ["/usr/bin/gunicorn", "passed:app"], directory=stage.files,
                          pass_sockets="yes")
    pools.up()
    assert get(target).body == "ok"
    with Load(target, requests=(1,)) as load:
        load.wait_more(50)
        pools.ask("restart", "one")
        load.wait_more(50)
    load.check()
    assert pools.report("one")["failures"] == 0


def test_a_port_that_moves_takes_its_workers_along(pools):
    before = pools.define("one")
    pools.up()
    pid = facts(before)["pid"]
    port = free_port()
    after = pools.define("one", listen=f"127.0.0.1:{port}")
    after = Target("127.0.0.1", port, after.host)
    pools.ask("reload")
    assert facts(after)["pid"] == pid
    with pytest.raises(OSError):
        get(before)
