"""kill -9 of whatever can be killed, many times, under a load of short connections: none is refused
or lost. And: what is written about it stays small."""

import json
import os
import random
import re
import shutil
import signal
import subprocess
import threading
import time

import pytest

from harness import (alive, connect, http_get, process_table, read_to_close, read_to_end,
                     wait_until)
from programs import ASYNCIO, NODE
from service_manager import ServiceManager

pytestmark = pytest.mark.berth_only
SECONDS = float(os.environ.get("BERTH_CRASH_SECONDS", "5"))


class Load:
    """Short connections by some threads until the end of the block; `failures` says what went
    wrong with which."""

    def __init__(self, targets, threads=4):
        self.targets, self.count = targets, threads
        self.done, self.failures = 0, []
        self.over = threading.Event()
        self.lock = threading.Lock()

    def _run(self, rng):
        while not self.over.is_set():
            try:
                reply = http_get(rng.choice(self.targets))
                error = None if reply.status == 200 else f"status {reply.status}: {reply.body[:80]}"
            except (OSError, AssertionError) as e:
                error = repr(e)
            with self.lock:
                self.done += 1
                if error:
                    self.failures.append(error)

    def __enter__(self):
        self.threads = [threading.Thread(target=self._run, args=(random.Random(i),))
                        for i in range(self.count)]
        for t in self.threads:
            t.start()
        return self

    def __exit__(self, *_):
        self.over.set()
        for t in self.threads:
            t.join(30)


def kill_again_and_again(stage, names, after=lambda name: None):
    """Returns how often. Pauses of 100 to 300 ms: the moment is to be any."""
    rng, count, end = random.Random(7), 0, time.monotonic() + SECONDS
    while time.monotonic() < end:
        time.sleep(rng.uniform(0.1, 0.3))  # the rhythm of the kills; nothing is waited for
        name = rng.choice(names)
        pid = stage.daemons().get(name)
        if pid:
            os.kill(pid, signal.SIGKILL)
            wait_until(lambda p=pid: not alive(p), 10, f"the end of {pid}")
            count += 1
            after(name)
    return count


def report(load, kills):
    print(f"\n{load.done} connections, {kills} kills, {len(load.failures)} failures")
    assert not load.failures, f"{len(load.failures)} of {load.done}: {load.failures[:5]}"


@pytest.fixture
def targets(stage):
    return [stage.start(p, h).target for p, h in ((ASYNCIO, "one.localhost"),
                                                   (NODE, "two.localhost"))]


def test_kills_of_dispatch_lose_no_connection(stage, targets):
    with Load(targets) as load:
        kills = kill_again_and_again(stage, ["berth-dispatch"])
    report(load, kills)


def test_kills_of_berthd_lose_no_connection(stage, targets):
    def next_one(_):
        assert stage.berth("ls").returncode == 0

    with Load(targets) as load:
        kills = kill_again_and_again(stage, ["berthd"], next_one)
    report(load, kills)


def test_kills_of_any_under_a_service_manager_lose_no_connection(stage):
    manager = ServiceManager(stage)
    try:
        manager.start()
        targets = [stage.start(p, h).target for p, h in ((ASYNCIO, "one.localhost"),
                                                          (NODE, "two.localhost"))]

        def restart(name):
            if name == "berthd":
                manager.proc.popen.wait(10)
                manager.start()

        with Load(targets) as load:
            kills = kill_again_and_again(stage, ["berthd", "berth-dispatch"], restart)
        report(load, kills)
    finally:
        manager.close()


def test_a_dispatch_that_cannot_start_is_tried_ever_more_slowly_and_comes_back(stage):
    folder = os.path.join(stage.files, "bin")
    shutil.copytree(stage.build, folder, ignore=lambda d, names: [n for n in names if "." in n or
                    os.path.isdir(os.path.join(d, n))])
    shutil.copy(stage.tool("libberth-preload.so"), folder)
    stage.build = folder
    one = stage.start(ASYNCIO, "one.localhost")
    away = stage.tool("berth-dispatch") + ".away"
    os.rename(stage.tool("berth-dispatch"), away)
    os.kill(stage.daemon("berth-dispatch"), signal.SIGKILL)

    def waits():
        with open(stage.control_path("log"), encoding="utf-8") as f:
            return [int(n) for n in re.findall(r"in_ms=(\d+)", f.read())]

    wait_until(lambda: waits()[-1:] == [400], 10, "longer pauses")
    os.rename(away, stage.tool("berth-dispatch"))
    wait_until(one.answers, 10, "an answer by the next dispatch")
    assert len(waits()) < 8


def test_the_log_of_a_daemon_is_bounded(stage):
    one = stage.start(ASYNCIO, "one.localhost")
    log = stage.control_path("log")
    with open(log, "a", encoding="utf-8") as f:
        f.write("x" * 99 + "\n" * 1)
        f.write(("x" * 99 + "\n") * 20000)
    wait_until(lambda: os.path.getsize(log) < 1 << 20, 20, "a log begun anew")
    assert os.path.getsize(log + ".old") > 1 << 20
    one.check()


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
def test_a_full_disk_for_the_log_stops_nothing(stage):
    small = os.path.join(stage.runtime, "r")
    os.mkdir(small, 0o755)
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1700k,mode=755", "none", small], check=True,
                   timeout=10)
    try:
        stage.env["BERTH_RUNTIME_DIR"] = small
        one = stage.start(ASYNCIO, "one.localhost")
        log = os.path.join(small, "log")
        with pytest.raises(OSError), open(log, "a", encoding="utf-8", buffering=1) as f:
            while True:
                f.write("x" * 99 + "\n")
        http_get(one.target)
        wait_until(lambda: os.path.getsize(log) < 1 << 20, 20, "a log begun anew")
        one.check()
        assert stage.berth("stop").returncode == 0
        one.proc.kill()
    finally:
        subprocess.run(["umount", "-l", small], check=True, timeout=10)


def keeper_of(dispatch):
    found = [p for p, (parent, _, state, name) in process_table().items()
             if parent == dispatch and name == "berth-keeper" and state not in "ZX"]
    return found[0]


@pytest.mark.parametrize("keeper_dies", [False, True], ids=["kept", "without keeper"])
def test_who_is_undecided_outlives_dispatch(stage, targets, keeper_dies):
    dispatch = stage.daemon("berth-dispatch")
    keeper = keeper_of(dispatch)
    if keeper_dies:
        os.kill(keeper, signal.SIGKILL)
        wait_until(lambda: not alive(keeper), 10, "the end of the keeper")
        http_get(targets[0])
    clients = [connect(targets[0]) for _ in range(100)]
    for c in clients:
        c.sendall(b"GET / HTTP/1.1\r\nHost: one.local")

    def undecided():
        return json.loads(stage.berth("status", "--json").stdout)["sniffing"] == len(clients)

    wait_until(undecided, 10, "undecided connections")
    os.kill(dispatch, signal.SIGKILL)
    wait_until(lambda: stage.daemons().get("berth-dispatch") not in (None, dispatch), 10,
               "the next dispatch")
    for c in clients:
        with c:
            if keeper_dies:
                assert read_to_close(c) == b""
                continue
            c.sendall(b"host\r\nConnection: close\r\n\r\n")
            assert b" 200 " in read_to_end(c)[:20]
    wait_until(lambda: not alive(keeper), 10, "the end of the keeper")
    http_get(targets[1])
