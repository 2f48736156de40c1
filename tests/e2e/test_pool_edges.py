"""Pools where definitions change, owners differ, and programs leave something behind."""

import json
import os
import signal
import subprocess
import time

import pytest

from harness import Target, alive, connect, free_port, http_get, user_exists, wait_until
from pools import POOL_APP, Pools
from programs import PYTHON
from test_reserve import as_uid, berth_as

pytestmark = [pytest.mark.berth_only]
ROOT = os.geteuid() == 0
EVE = 41003


@pytest.fixture
def pools(stage):
    return Pools(stage)


def facts(target):
    return json.loads(http_get(target, "/").body)


def write_program(pools, name, text):
    path = os.path.join(pools.stage.files, name)
    with open(path, "w", encoding="utf-8") as f:
        f.write(text)
    os.chmod(path, 0o755)
    return path


# Owners -------------------------------------------------------------------------------------------


@pytest.mark.skipif(not ROOT or not user_exists("nobody"), reason="becomes other users")
def test_a_users_pool_never_becomes_one_of_the_configuration(new_stage):
    stage = new_stage()
    stage.user = "nobody"
    stage.build = stage._reachable(stage.build)  # pylint: disable=protected-access
    stage.user = None
    pools = Pools(stage).up()
    done = berth_as(stage, EVE, "run", "--name", "one", "--as", "one.localhost", "--workers", "1",
                    "--detach", "--", PYTHON, POOL_APP, "127.0.0.1", pools.port,
                    env={"EVIL": "yes", "PYTHONPATH": "/tmp/evil"})
    assert done.returncode == 0, done.stderr
    target = Target("127.0.0.1", pools.port, "one.localhost")
    theirs = facts(target)
    assert theirs["uid"] == EVE and theirs["environment"]["EVIL"] == "yes"
    pools.define("one", start="always")
    pools.ask("reload")
    wait_until(lambda: (pools.report("one") or {}).get("by_hand") is False, 10, "the pool of root")
    pools.wait_workers("one", 1)
    wait_until(lambda: not alive(theirs["pid"]), 10, "the end of the user's worker")
    ours = facts(target)
    assert ours["uid"] == 0 and "EVIL" not in ours["environment"]
    assert "PYTHONPATH" not in ours["environment"]
    assert berth_as(stage, EVE, "stop", "one").returncode != 0
    said = berth_as(stage, EVE, "logs", "one")
    assert said.returncode != 0 and "user" in said.stderr


@pytest.mark.skipif(not ROOT, reason="becomes other users")
@pytest.mark.parametrize("key", ["workers=100", "log_size=1G", "log_files=99", "files_max=1073741800"])
def test_what_root_pays_for_is_limited(new_stage, key):
    stage = new_stage()
    stage.user = "nobody"
    stage.build = stage._reachable(stage.build)  # pylint: disable=protected-access
    stage.user = None
    pools = Pools(stage).up()
    done = berth_as(stage, EVE, "run", "--name", "one", "--as", "one.localhost", "--set", key,
                    "--workers", "1", "--detach", *(["--set", key] if "workers" in key else []),
                    "--", PYTHON, POOL_APP, "127.0.0.1", pools.port)
    assert done.returncode != 0 and key.split("=", maxsplit=1)[0] in done.stderr, done.stderr
    assert pools.report("one") is None


def test_any_bytes_in_the_environment_outlive_berthd(pools, stage):
    stage.serve()
    odd = b"\xff\xfe caf\xc3\xa9"
    argv = [stage.tool(), "run", "--name", "one", "--as", "one.localhost", "--workers", "1",
            "--detach", "--", PYTHON, POOL_APP, "127.0.0.1", str(pools.port)]
    subprocess.run(argv, env={**{k.encode(): v.encode() for k, v in stage.env.items()}, b"ODD": odd},
                   check=True, timeout=30, capture_output=True)
    target = Target("127.0.0.1", pools.port, "one.localhost")
    before = facts(target)
    pools.kill("berthd")
    stage.ls()
    os.kill(before["pid"], signal.SIGKILL)
    wait_until(lambda: not alive(before["pid"]), 10, "its end")
    after = facts(target)
    assert after["pid"] != before["pid"]
    assert os.fsencode(after["environment"]["ODD"]) == odd


# Changes of a definition --------------------------------------------------------------------------


def test_an_address_that_cannot_be_had_leaves_the_others_alone(pools):
    target = pools.define("one", start="always")
    pools.up()
    before = facts(target)["pid"]
    taken = free_port()
    with __import__("socket").create_server(("127.0.0.1", taken)):
        pools.define("one", start="always",
                     listen=[f"127.0.0.1:{pools.port}", f"127.0.0.1:{taken}"])
        pools.ask("reload")
        assert pools.state("one") == "running" and str(taken) in pools.report("one")["reason"]
        assert facts(target)["pid"] == before
    other = Target("127.0.0.1", taken, "one.localhost")
    wait_until(lambda: not pools.report("one")["reason"], 10, "the second address")
    connect(other).close()
    assert facts(target)["pid"] == before


def test_what_was_stopped_by_hand_stays_so_when_its_definition_changes(pools):
    pools.define("one", start="always")
    pools.up().wait_workers("one", 1)
    pools.ask("stop", "one")
    pools.define("one", start="always", queue_length=77)
    pools.ask("reload")
    assert pools.state("one") == "stopped"
    pools.ask("start", "one")
    pools.wait_workers("one", 1)


def test_a_start_while_the_next_start_is_put_off_is_not_lost(pools):
    pools.define("one", words=["exit"], start="always", failures="off")
    pools.up()
    wait_until(lambda: pools.report("one")["failures"] >= 4, 20, "failures")
    pools.stage.berth("start", "one", timeout=60)
    seen = pools.report("one")["failures"]
    wait_until(lambda: pools.report("one")["failures"] > seen, 10, "the next attempt")


def test_a_stop_timeout_of_nothing_kills_at_once(pools):
    target = pools.define("one", words=["stubborn"], start="always", stop_timeout="0")
    pools.up().wait_workers("one", 1)
    pid = facts(target)["pid"]
    pools.ask("stop", "one")
    wait_until(lambda: not alive(pid), 5, "its end")


# Failures -----------------------------------------------------------------------------------------


def test_a_good_worker_outlives_replacements_that_fail(pools):
    flag = os.path.join(pools.stage.files, "broken")
    program = write_program(pools, "maybe.sh", f'#!/bin/sh\n[ -e {flag} ] && exit 1\n'
                            f'exec {PYTHON} {POOL_APP} 127.0.0.1 {pools.port}\n')
    target = pools.define("one", command=[program], start="always", recycle_connections=1,
                          failures=2)
    pools.up().wait_workers("one", 1)
    with open(flag, "w", encoding="ascii"):
        pass
    pid = facts(target)["pid"]
    wait_until(lambda: pools.report("one")["failures"] >= 1, 10, "a replacement that fails")
    for _ in range(6):
        pools.stage.berth("restart", "one", timeout=40)
        assert facts(target)["pid"] == pid
    assert pools.state("one") == "running"


def test_a_program_that_ends_well_without_serving_is_not_started_for_ever(pools):
    program = write_program(pools, "brief.py", f"#!{PYTHON}\nimport socket\n"
                            f"s = socket.create_server(('127.0.0.1', {pools.port}))\n")
    pools.define("one", command=[PYTHON, program], start="always", failures=3)
    pools.up()
    pools.wait_state("one", "paused", 30)
    assert pools.report("one")["starts"] <= 4


def test_each_pause_of_a_pool_on_demand_is_longer(pools):
    target = pools.define("one", words=["exit"], failures=1, pause="200ms..30s")
    pools.up()

    def paused(times):
        try:
            with connect(target) as s:
                s.sendall(b"GET / HTTP/1.1\r\nHost: one.localhost\r\n\r\n")
                s.recv(100)
        except OSError:
            pass
        return pools.report("one")["failures"] >= times

    began = time.monotonic()
    wait_until(lambda: paused(4), 30, "four pauses")
    assert time.monotonic() - began >= 1.4


def test_nothing_of_a_worker_stays_when_it_ends(pools):
    note = os.path.join(pools.stage.files, "child")
    program = write_program(pools, "parent.sh", f"#!/bin/sh\n{PYTHON} {POOL_APP} 127.0.0.1 "
                            f"{pools.port} &\necho $! > {note}\nwait\n")
    pools.define("one", command=[program], start="always")
    pools.up().wait_workers("one", 1)
    with open(note, encoding="ascii") as f:
        child = int(f.read())
    pools.ask("stop", "one")
    wait_until(lambda: not alive(child), 10, "the end of the child")
    pools.ask("start", "one")
    pools.wait_workers("one", 1)
    with open(note, encoding="ascii") as f:
        child = int(f.read())
    os.kill(pools.pids("one")[0], signal.SIGKILL)
    wait_until(lambda: not alive(child), 10, "the end of the second child")
    pools.wait_workers("one", 1)
