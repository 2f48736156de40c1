"""`berth upgrade`: other binaries in the place of the running ones, under load, and what happens
when they are no good."""

import json
import os
import re
import shutil
import socket

import pytest

from harness import http_get, read_to_end, wait_until
from programs import ASYNCIO, NODE
from stage import DAEMONS
from test_faults import open_gate, queue_request, start_gated
from test_programs import Loop

pytestmark = pytest.mark.berth_only


@pytest.fixture
def installed(stage):
    """A stage whose programs can be replaced as an installation does it."""
    folder = os.path.join(stage.files, "bin")
    os.mkdir(folder)
    for name in (*DAEMONS, "berth", "libberth-preload.so"):
        shutil.copy(stage.tool(name), folder)
    stage.build = folder
    return stage


def replace(stage, name, data):
    path = stage.tool(name)
    with open(path + ".new", "wb") as f:
        f.write(data)
    os.chmod(path + ".new", 0o755)
    os.rename(path + ".new", path)


def newer(stage):
    """The same programs under another version."""
    for name in DAEMONS:
        with open(stage.tool(name), "rb") as f:
            data = f.read()
        assert b"0.1.0" in data
        replace(stage, name, data.replace(b"0.1.0", b"0.1.9"))


def upgrade(stage):
    done = stage.berth("upgrade", "--json", timeout=40)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_an_upgrade_keeps_everything_and_shows_both_versions(installed):
    one, two = installed.start(ASYNCIO, "one.localhost"), installed.start(NODE, "two.localhost")
    slow = start_gated(installed, "accept", "slow.localhost")
    waiting = [queue_request(slow) for _ in range(5)]
    before = installed.daemons()
    newer(installed)
    with Loop(one, least=50) as loop:
        answer = upgrade(installed)
        done = loop.done
        wait_until(lambda: loop.done > done + 50, 10, "50 more answers")
    assert not loop.failures, loop.failures[:5]
    assert (answer["from"]["version"], answer["to"]["version"]) == ("0.1.0", "0.1.9")
    wait_until(lambda: len(installed.daemons()) == 2, 10, "one berthd and one dispatch")
    after = installed.daemons()
    assert after["berthd"] == before["berthd"] == answer["pid"]
    assert after["berth-dispatch"] == answer["to"]["dispatch_pid"] != before["berth-dispatch"]
    open_gate(slow)
    for s in waiting:
        with s:
            assert slow.marker.encode() in read_to_end(s), "a queued connection was lost"
    for running in (one, two, slow, installed.start(ASYNCIO, "three.localhost")):
        running.check()
        assert installed.lists_a_process_of(running)


def test_upgrades_one_after_the_other_lose_nothing_under_load(installed):
    one = installed.start(ASYNCIO, "one.localhost")
    fds = len(os.listdir(f"/proc/{installed.daemon('berthd')}/fd"))
    with Loop(one, least=50) as loop:
        for _ in range(8):
            upgrade(installed)
    assert not loop.failures, loop.failures[:5]
    assert len(os.listdir(f"/proc/{installed.daemon('berthd')}/fd")) <= fds + 2


def test_who_is_undecided_during_an_upgrade_is_served(installed):
    one = installed.start(ASYNCIO, "one.localhost")
    installed.start(ASYNCIO, "two.localhost")
    with socket.create_connection(("127.0.0.1", installed.port)) as s:
        s.sendall(b"GET / HTTP/1.1\r\nHost: one.local")
        wait_until(lambda: json.loads(installed.berth("status", "--json").stdout)["sniffing"] == 1,
                   10, "one undecided connection")
        shown = installed.berth("status", "--json")
        before = json.loads(shown.stdout)["dispatch_pid"]
        process = installed.berth_later("upgrade")
        wait_until(lambda: json.loads(installed.berth("status", "--json").stdout)["retiring"] == 1,
                   10, "the old dispatch retiring")
        assert http_get(one.target).status == 200
        s.sendall(b"host\r\nConnection: close\r\n\r\n")
        assert one.marker.encode() in read_to_end(s)
    out, _ = process.communicate(timeout=20)
    assert str(before) in out


def test_a_program_between_its_introduction_and_its_bind_notices_nothing(installed):
    installed.start(ASYNCIO, "one.localhost")
    with installed.control() as s:
        s.send(b"\xbe\x47\x01\x01" + bytes(4) + os.urandom(16) + b"\0\1x" + b"\0\1x" + b"\1" +
               b"\0\x0bx.localhost" + b"\0")
        assert s.recv(100)[3] == 12
        upgrade(installed)
        port = installed.port.to_bytes(2, "big")
        s.send(b"\xbe\x47\x01\x02" + bytes(4) + b"\2" + port + bytes([127, 0, 0, 1]) + bytes(16) +
               b"\0")
        assert s.recv(1000)[3] == 15


SCRIPTS = {
    "silent": "#!/bin/sh\nexit 0\n",
    "failing": "#!/bin/sh\necho 'berth.conf:3: no such key' >&2\nexit 1\n",
    "incompatible": "#!/bin/sh\necho berthd 9.0 handover 99\n",
    "hollow": "no program at all",
    "killed after the trial": "#!/bin/sh\n[ \"$1$2$3\" = --version ] && exit 0\n"
                              "case \"$*\" in *--trial*) echo berthd 9.0 handover 1; rm \"$0\"; esac\n",
}
REASONS = {"silent": "does not start", "failing": "no such key", "incompatible": "cannot take over",
           "hollow": "xec format", "killed after the trial": "No such file"}


@pytest.mark.parametrize("kind", SCRIPTS)
def test_a_berthd_that_is_no_good_leaves_the_old_one_serving(installed, kind):
    one = installed.start(ASYNCIO, "one.localhost")
    before = installed.daemons()
    replace(installed, "berthd", SCRIPTS[kind].encode())
    with Loop(one, least=20) as loop:
        done = installed.berth("upgrade", timeout=40)
        assert done.returncode == 1 and REASONS[kind] in done.stderr, done.stderr
    assert not loop.failures and installed.daemons() == before
    assert installed.start(ASYNCIO, "two.localhost").answers()


@pytest.mark.parametrize("words", ["--version) exec {0} --version;; *) exit 1",
                                   "--version) echo something else"])
def test_a_dispatch_that_is_no_good_leaves_the_old_one_serving(installed, words):
    one = installed.start(ASYNCIO, "one.localhost")
    before = installed.daemons()
    real = installed.tool("real-dispatch")
    shutil.copy(installed.tool("berth-dispatch"), real)
    script = f"#!/bin/sh\ncase $1 in {words.format(real)};; esac\n"
    replace(installed, "berth-dispatch", script.encode())
    with Loop(one, least=20) as loop:
        done = installed.berth("upgrade", timeout=40)
        assert done.returncode == 1 and "dispatch" in done.stderr, done.stderr
    assert not loop.failures and installed.daemons() == before
    assert installed.start(ASYNCIO, "two.localhost").answers()
    os.replace(real, installed.tool("berth-dispatch"))
    upgrade(installed)
    one.check()


def test_an_upgrade_needs_a_running_berthd(installed):
    done = installed.berth("upgrade")
    assert done.returncode == 1 and "no berthd runs" in done.stderr
    assert re.search(r"\bupgrade\b", installed.berth("--help").stdout)
