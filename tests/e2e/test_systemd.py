"""berthd under a service manager: what it is told, and what it keeps when berthd and dispatch die."""

import os
import signal
import socket
import subprocess

import pytest

from harness import alive, read_to_end, wait_until
from programs import ASYNCIO, NODE
from service_manager import ServiceManager
from test_faults import open_gate, queue_request, start_gated

pytestmark = pytest.mark.berth_only
UNITS = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "units")


@pytest.fixture
def manager(stage):
    made = ServiceManager(stage, watchdog_us=600000)
    yield made
    made.close()


def kill_both(stage, manager):
    dispatch = stage.daemon("berth-dispatch")
    manager.kill()
    os.kill(dispatch, signal.SIGKILL)
    wait_until(lambda: not alive(dispatch), 10, "the end of dispatch")


def test_the_manager_is_told_and_the_watchdog_fed(stage, manager):
    manager.start()
    seen = len(manager.said)
    for _ in range(3):
        manager.wait_said("WATCHDOG", seen)
        seen = len(manager.said)
    os.kill(manager.proc.pid, signal.SIGTERM)
    manager.wait_said("STOPPING", seen)
    assert manager.proc.wait(10) == 0


def test_queued_connections_survive_the_death_of_berthd_and_dispatch(stage, manager):
    manager.start()
    one, two = stage.start(ASYNCIO, "one.localhost"), stage.start(NODE, "two.localhost")
    slow = start_gated(stage, "accept", "slow.localhost")
    waiting = [queue_request(slow) for _ in range(5)]
    one.check()
    kill_both(stage, manager)
    late = socket.create_connection(("127.0.0.1", stage.port), timeout=10)
    late.sendall(f"GET / HTTP/1.1\r\nHost: {one.target.host}\r\nConnection: close\r\n\r\n".encode())
    manager.start()
    with late:
        assert one.marker.encode() in read_to_end(late), "refused in between"
    open_gate(slow)
    for s in waiting:
        with s:
            assert slow.marker.encode() in read_to_end(s), "a queued connection was lost"
    for running in (one, two, slow):
        running.check()
        assert stage.lists_a_process_of(running)


def test_it_survives_again_and_with_dispatch_alive_and_an_upgrade_in_between(stage, manager):
    manager.start()
    one, two = stage.start(ASYNCIO, "one.localhost"), stage.start(NODE, "two.localhost")
    kill_both(stage, manager)
    manager.start()
    stored = sorted(manager.store)
    manager.kill()
    manager.start()
    assert sorted(manager.store) == stored
    done = stage.berth("upgrade")
    assert done.returncode == 0, done.stderr
    assert sorted(manager.store) == stored
    kill_both(stage, manager)
    manager.start()
    for running in (one, two):
        running.check()
    two.proc.kill()
    wait_until(lambda: not stage.listed("two.localhost"), 10, "the end of the second program")
    wait_until(lambda: len(manager.store) < len(stored), 10, "fewer stored descriptors")


def test_a_restart_by_the_manager_loses_nothing(stage, manager):
    manager.start()
    one = stage.start(ASYNCIO, "one.localhost")
    slow = start_gated(stage, "accept", "slow.localhost")
    waiting = [queue_request(slow) for _ in range(3)]
    os.kill(manager.proc.pid, signal.SIGTERM)
    assert manager.proc.wait(10) == 0
    manager.start()
    one.check()
    open_gate(slow)
    for s in waiting:
        with s:
            assert slow.marker.encode() in read_to_end(s), "a queued connection was lost"


def test_berth_stop_is_told_apart_from_a_crash(stage, manager):
    manager.start()
    stage.start(ASYNCIO, "one.localhost")
    assert stage.berth("stop").returncode == 0
    assert manager.proc.wait(10) == 10


def test_the_control_socket_can_be_the_managers(stage, manager):
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as s:
        s.bind(stage.control_path())
        s.listen(64)
        manager.start([("control", s.fileno()), ("unknown", s.fileno())])
        stage.start(ASYNCIO, "one.localhost").check()
        os.kill(manager.proc.pid, signal.SIGTERM)
        assert manager.proc.wait(10) == 0
        assert os.path.exists(stage.control_path())
        manager.start([("control", s.fileno())])
        assert stage.berth("status").returncode == 0


def analyze(*args):
    return subprocess.run(["systemd-analyze", *args], capture_output=True, text=True, timeout=60,
                          check=False)


@pytest.mark.skipif(not os.path.exists("/usr/bin/systemd-analyze"), reason="needs systemd-analyze")
def test_the_units_are_right_and_closed_as_far_as_workers_allow(build):
    units = os.path.join(build, "units")
    done = analyze("verify", "--man=no", *(os.path.join(units, n) for n in sorted(os.listdir(units))
                               if n.startswith("berthd.")))
    complaints = [line for line in done.stderr.splitlines()
                  if "berth" in line and "is not executable" not in line]
    assert not complaints, complaints
    done = analyze("security", "--offline=true", "--threshold=65",
                   os.path.join(units, "berthd.service"))
    assert done.returncode == 0, done.stdout[-600:] + done.stderr
