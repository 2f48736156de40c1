"""Names that belong to users: a berthd of root's, and local users with made-up numbers. Everything
here needs root, who alone can become them."""

import json
import os
import signal
import socket
import struct
import subprocess

import pytest

from harness import Proc, Target, alive, free_port, http_get, wait_until
from programs import PYTHON, PYTHON_HTTP

pytestmark = [pytest.mark.berth_only,
              pytest.mark.skipif(os.geteuid() != 0, reason="becomes other users")]

SHOP, BOB, EVE = 41001, 41002, 41003


def as_uid(uid):
    return ["setpriv", f"--reuid={uid}", f"--regid={uid}", "--clear-groups", "--"]


@pytest.fixture
def stage(new_stage):
    """One whose programs every user may execute."""
    made = new_stage()
    made.user = "nobody"
    made.build = made._reachable(made.build)  # pylint: disable=protected-access
    made.user = None
    return made


def berth_as(stage, uid, *args, env=None):
    argv = stage._wrap([stage.tool(), *map(str, args)], as_uid(uid))  # pylint: disable=protected-access
    return subprocess.run(argv, capture_output=True, text=True, timeout=20, check=False, cwd="/",
                          env={**stage.env, **(env or {})}, stdin=subprocess.DEVNULL)


def reserve(stage, *args):
    done = stage.berth("reserve", *args)
    assert done.returncode == 0, done.stderr
    return done.stdout


def reservations(stage):
    done = stage.berth("reserve", "--list", "--json")
    assert done.returncode == 0, done.stderr
    return {r["route"]: r for r in json.loads(done.stdout)["reservations"]}


def start_as(stage, uid, route, **more):
    return stage.start(PYTHON_HTTP, route.split("://")[-1].split("/")[0].split(":")[0],
                       routes=[route], prefix=as_uid(uid), **more)


def refused_as(stage, uid, route, port=None, address="127.0.0.1", options=()):
    """What a program of the user's writes that is not let in."""
    log = os.path.join(stage.files, f"refused-{uid}-{free_port()}.log")
    argv = [stage.tool(), "run", "--as", route, *options, "--", PYTHON, "-m", "http.server",
            str(port or stage.port), "--bind", address]
    proc = Proc(stage._wrap(argv, as_uid(uid)), log, stage.env, "/")  # pylint: disable=protected-access
    assert proc.wait() != 0
    return proc.output()


def status_of(stage, host, path="/", address="127.0.0.1", port=None):
    return http_get(Target(address, port or stage.port, host, stage.netns), path).status


def any_listener(stage, **more):
    """Root's program for whatever nobody else has."""
    return stage.start(PYTHON_HTTP, "else.localhost", routes=["http://*/"], **more)


# Who may claim what -------------------------------------------------------------------------------


def test_a_name_of_another_user_is_refused_with_the_owners_name(stage):
    reserve(stage, "http://shop.localhost/", "--user", SHOP)
    shop = start_as(stage, SHOP, "http://shop.localhost/")
    for route in ("http://shop.localhost/", "shop.localhost", "http://shop.localhost/below/"):
        said = refused_as(stage, BOB, route)
        assert f"reserved for user {SHOP}" in said and f"you are user {BOB}" in said, said
    shop.check()


def test_the_owner_is_named_by_name(stage):
    reserve(stage, "http://shop.localhost/", "--user", "nobody")
    assert "reserved for user nobody" in refused_as(stage, BOB, "http://shop.localhost/")


def test_any_user_has_localhost_names_on_loopback_first_come(stage):
    stage.serve()
    bob = start_as(stage, BOB, "bob.localhost")
    eve = start_as(stage, EVE, "eve.localhost")
    said = refused_as(stage, EVE, "bob.localhost")
    assert "belongs to bob" in said and f"user {BOB}" in said, said
    bob.check()
    eve.check()


@pytest.mark.parametrize("route, address, options, why", [
    ("bob.localhost", "0.0.0.0", (), "loopback"),
    ("http://bob.example/", "127.0.0.1", (), "only *.localhost"),
    ("http://*/", "127.0.0.1", (), "only *.localhost"),
    ("http://+/", "127.0.0.1", (), "only *.localhost"),
    ("ssh://", "127.0.0.1", (), "only *.localhost"),
    ("bob.localhost", "127.0.0.1", ("--listen", "unix:/tmp/berth-test-refused.sock"), "root's"),
])
def test_what_nobody_reserved_is_not_anybodys(stage, route, address, options, why):
    stage.serve()
    said = refused_as(stage, BOB, route, address=address, options=options)
    assert why in said and "berth reserve" in said, said
    assert not os.path.exists("/tmp/berth-test-refused.sock")


def test_low_ports_and_outside_addresses_come_with_a_reservation(netns, stage):
    stage.netns = netns
    reserve(stage, "http://shop.example/", "--user", SHOP)
    shop = start_as(stage, SHOP, "http://shop.example/", port=80, address="0.0.0.0")
    assert status_of(stage, "shop.example", "/marker.txt", "10.99.0.1", 80) == 200
    with open(f"/proc/{shop.pid}/status", encoding="ascii") as f:
        assert f"Uid:\t{SHOP}\t{SHOP}" in f.read()
    assert "below 1024" in refused_as(stage, BOB, "bob.localhost", port=80)
    assert "without a port" in refused_as(stage, SHOP, "http://shop.example/", port=22)


def test_the_policy_for_unreserved_names_can_be_wider_or_narrower(stage, new_stage):
    stage.serve("--unreserved", "anyone")
    bob = start_as(stage, BOB, "http://bob.example/", address="0.0.0.0")
    bob.check()
    assert "go before" in refused_as(stage, EVE, "http://+/")
    assert "go before" in refused_as(stage, EVE, "tcp://127.0.0.1")
    bob.kill()
    assert stage.berth("stop").returncode == 0
    stage.serve("--unreserved", "root")
    assert "root's" in refused_as(stage, BOB, "bob.localhost")


def test_root_may_have_every_name(stage):
    reserve(stage, "http://shop.localhost/", "--user", SHOP)
    stage.start(PYTHON_HTTP, "shop.localhost").check()


# A name that is not served ------------------------------------------------------------------------


@pytest.mark.parametrize("status", [503, 400, 404])
def test_a_reserved_name_answers_for_itself_and_never_falls_through(stage, status):
    reserve(stage, "http://shop.localhost/", "--user", SHOP, "--status", status)
    wild = any_listener(stage)
    assert status_of(stage, "shop.localhost") == status
    assert status_of(stage, "shop.localhost", "/deeper/marker.txt") == status
    wild.check()
    shop = start_as(stage, SHOP, "http://shop.localhost/")
    shop.check()
    wild.check()
    shop.kill()
    wait_until(lambda: status_of(stage, "shop.localhost") == status, 10, "the name's own answer")
    wild.check()


def test_a_reserved_path_does_not_fall_to_the_path_above(stage):
    reserve(stage, "http://shop.localhost/admin/", "--user", BOB)
    shop = stage.start(PYTHON_HTTP, "shop.localhost")
    assert status_of(stage, "shop.localhost", "/admin/marker.txt") == 503
    shop.check()


def test_only_what_the_owner_serves_is_served(stage):
    reserve(stage, "http://shop.localhost/", "--user", SHOP)
    any_listener(stage)
    start_as(stage, SHOP, "http://shop.localhost/marker.txt", ready=False)
    wait_until(lambda: status_of(stage, "shop.localhost", "/marker.txt") == 200, 10, "the owner")
    assert status_of(stage, "shop.localhost", "/other/") == 503


def test_it_answers_on_listeners_that_come_later_and_on_its_port_only(stage):
    other = free_port()
    reserve(stage, f"http://shop.localhost:{stage.port}/", "--user", SHOP)
    first = any_listener(stage, port=other)
    assert status_of(stage, "shop.localhost", "/marker.txt", port=other) == 200
    any_listener(stage, address="127.0.0.1")
    assert status_of(stage, "shop.localhost") == 503
    any_listener(stage, address="127.0.0.3")
    assert status_of(stage, "shop.localhost", address="127.0.0.3") == 503
    assert status_of(stage, "shop.localhost", "/marker.txt", port=other) == 200
    first.check()


def test_a_reservation_takes_effect_and_ends_while_traffic_flows(stage):
    wild = any_listener(stage)
    assert status_of(stage, "shop.localhost", "/marker.txt") == 200
    reserve(stage, "shop.localhost", "--user", SHOP)
    assert status_of(stage, "shop.localhost", "/marker.txt") == 503
    reserve(stage, "--delete", "shop.localhost")
    assert status_of(stage, "shop.localhost", "/marker.txt") == 200
    assert reservations(stage) == {}
    wild.check()


def test_dispatch_is_killed_and_the_name_still_answers(stage):
    reserve(stage, "http://shop.localhost/", "--user", SHOP)
    any_listener(stage)
    old = stage.daemon("berth-dispatch")
    os.kill(old, signal.SIGKILL)
    wait_until(lambda: stage.daemons().get("berth-dispatch") not in (None, old), 10, "another one")
    assert status_of(stage, "shop.localhost") == 503


# Who may reserve what -----------------------------------------------------------------------------


def test_only_root_reserves(stage):
    stage.serve()
    done = berth_as(stage, BOB, "reserve", "http://bob.example/", "--user", BOB)
    assert done.returncode == 1 and "only root" in done.stderr, done.stderr
    reserve(stage, "http://shop.example/", "--user", SHOP)
    done = berth_as(stage, SHOP, "reserve", "http://shop.example/a/", "--user", BOB)
    assert done.returncode == 1 and "--delegate" in done.stderr, done.stderr
    for uid in (SHOP, BOB):
        done = berth_as(stage, uid, "reserve", "--delete", "http://shop.example/")
        assert done.returncode == 1, done.stdout
    assert set(reservations(stage)) == {"http://shop.example/"}


def test_a_delegate_reserves_for_others_what_lies_below(stage):
    reserve(stage, "http://shop.localhost/", "--user", SHOP, "--delegate")
    any_listener(stage)
    done = berth_as(stage, SHOP, "reserve", "http://shop.localhost/bob/", "--user", BOB)
    assert done.returncode == 0, done.stderr
    done = berth_as(stage, SHOP, "reserve", "http://other.localhost/", "--user", BOB)
    assert done.returncode == 1, done.stdout
    assert "reserved for user" in refused_as(stage, EVE, "http://shop.localhost/bob/")
    assert "reserved for user" in refused_as(stage, SHOP, "http://shop.localhost/bob/")
    start_as(stage, BOB, "http://shop.localhost/bob/", ready=False)
    wait_until(lambda: status_of(stage, "shop.localhost", "/bob/") == 404, 10, "bob's program")
    done = berth_as(stage, BOB, "reserve", "--delete", "http://shop.localhost/bob/")
    assert done.returncode == 1, done.stdout
    done = berth_as(stage, SHOP, "reserve", "--delete", "http://shop.localhost/bob/")
    assert done.returncode == 0, done.stderr
    assert reservations(stage)["http://shop.localhost/"]["delegate"] is True


@pytest.mark.parametrize("arguments, word", [
    (["http://shop.example/"], "--user"),
    (["http://shop.example/", "--user", "no-such-user-here"], "no such user"),
    (["nonsense://x", "--user", "0"], "unknown scheme"),
    (["http://shop.example/", "--user", "0", "--status", "200"], "400 to 599"),
    (["--delete", "http://shop.example/", "--user", "0"], "--delete"),
    (["--list", "http://shop.example/"], "--list"),
])
def test_a_wrong_command_line_says_what_is_right(stage, arguments, word):
    done = stage.berth("reserve", *arguments)
    assert done.returncode == 2 and word in done.stderr, done.stderr


def test_the_same_route_twice_names_its_owner(stage):
    reserve(stage, "http://shop.example/", "--user", SHOP)
    done = stage.berth("reserve", "http://shop.example", "--user", BOB)
    assert done.returncode == 1 and f"user {SHOP} already" in done.stderr
    done = stage.berth("reserve", "--delete", "http://nobody.example/")
    assert done.returncode == 1 and "is not reserved" in done.stderr


# The file -----------------------------------------------------------------------------------------


def test_reservations_outlive_berthd_killed_or_stopped(stage):
    reserve(stage, "http://shop.localhost/", "--user", SHOP, "--status", 404)
    any_listener(stage)
    shop = start_as(stage, SHOP, "http://shop.localhost/a/", ready=False)
    wait_until(lambda: "shop" in str(stage.ls()), 10, "the owner's program")
    before = reservations(stage)
    pid = stage.daemon("berthd")
    os.kill(pid, signal.SIGKILL)
    wait_until(lambda: not alive(pid), 10, "its end")
    assert status_of(stage, "shop.localhost") == 404
    assert reservations(stage) == before
    assert status_of(stage, "shop.localhost") == 404
    assert "reserved for user" in refused_as(stage, BOB, "http://shop.localhost/")
    shop.kill()
    assert stage.berth("stop").returncode == 0
    assert set(reservations(stage)) == set(before)


def test_what_runs_stays_admitted_when_berthd_is_killed_after_its_reservation_went(stage):
    reserve(stage, "http://shop.example/", "--user", SHOP)
    shop = start_as(stage, SHOP, "http://shop.example/")
    reserve(stage, "--delete", "http://shop.example/")
    os.kill(stage.daemon("berthd"), signal.SIGKILL)
    wait_until(lambda: stage.berth("ls").returncode == 0, 10, "the next berthd")
    shop.check()


@pytest.fixture
def small_disk(stage):
    folder = os.path.join(stage.files, "state")
    os.mkdir(folder)
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=16k,mode=755", "none", folder], check=True,
                   timeout=20)
    stage.env["BERTH_STATE_DIR"] = folder
    yield folder
    subprocess.run(["umount", "-l", folder], check=True, timeout=20)


def test_a_full_disk_changes_nothing_and_says_so(stage, small_disk):
    reserve(stage, "http://shop.localhost/", "--user", SHOP)
    any_listener(stage)
    path = os.path.join(small_disk, "reservations.conf")
    with open(path, encoding="ascii") as f:
        before = f.read()
    with open(os.path.join(small_disk, "fill"), "wb", buffering=0) as fill:
        try:
            while fill.write(bytes(1024)):
                pass
        except OSError:
            pass
    done = stage.berth("reserve", "http://bob.localhost/", "--user", BOB)
    assert done.returncode == 1, done.stdout
    assert "No space left" in done.stderr and "nothing was changed" in done.stderr, done.stderr
    done = stage.berth("reserve", "--delete", "http://shop.localhost/")
    assert done.returncode == 1 and "nothing was changed" in done.stderr, done.stderr
    assert set(reservations(stage)) == {"http://shop.localhost/"}
    assert status_of(stage, "bob.localhost", "/marker.txt") == 200
    assert status_of(stage, "shop.localhost") == 503
    with open(path, encoding="ascii") as f:
        assert f.read() == before
    os.unlink(os.path.join(small_disk, "fill"))
    reserve(stage, "http://bob.localhost/", "--user", BOB)
    assert len(reservations(stage)) == 2


def test_a_file_that_is_not_understood_is_not_overwritten(stage):
    folder = os.path.join(stage.files, "state")
    os.mkdir(folder)
    stage.env["BERTH_STATE_DIR"] = folder
    path = os.path.join(folder, "reservations.conf")
    text = "[reserve http://shop.localhost/]\nuser = 41001\n\n[reserve nonsense]\nuser = 1\n"
    with open(path, "w", encoding="ascii") as f:
        f.write(text)
    assert set(reservations(stage)) == {"http://shop.localhost/"}
    done = stage.berth("reserve", "http://bob.localhost/", "--user", BOB)
    assert done.returncode == 1 and path in done.stderr, done.stderr
    with open(path, encoding="ascii") as f:
        assert f.read() == text


# What users see of each other, and cannot do ------------------------------------------------------


def test_names_are_for_all_to_see_and_command_lines_for_their_owners(stage):
    stage.serve()
    start_as(stage, BOB, "bob.localhost")
    seen = {uid: json.loads(berth_as(stage, uid, "ls", "--json").stdout)["apps"][0]
            for uid in (BOB, EVE)}
    assert seen[EVE]["name"] == seen[BOB]["name"] == "bob"
    assert seen[EVE]["user"] == str(BOB)
    assert "http.server" in seen[BOB]["command"] and not seen[EVE]["command"]
    for uid in (BOB, EVE):
        assert berth_as(stage, uid, "stop").returncode == 1
    assert alive(stage.daemon("berthd"))


CROWD = """
import socket, struct, sys
def vec(text):
    return struct.pack(">H", len(text)) + text.encode()
last = b""
for i in range(300):
    s = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    s.connect(sys.argv[1])
    s.send(struct.pack(">HBBI", 0xBE47, 1, 1, 0) + i.to_bytes(16, "big") + vec("x") + vec("x")
           + b"\\1" + vec("x%d.localhost" % i) + b"\\0")
    last = s.recv(65536)
    if last[3] == 13:
        break
    s.close()
print(i, last[10:].decode(), flush=True)
sys.stdin.read()
"""


def test_one_user_cannot_use_up_the_tables(stage):
    stage.serve()
    argv = [*as_uid(EVE), PYTHON, "-c", CROWD, stage.control_path()]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
                          cwd="/") as crowd:
        line = crowd.stdout.readline()
        assert line.startswith("256 ") and "at most 256" in line, line
        start_as(stage, BOB, "bob.localhost").check()
        crowd.stdin.close()


def test_one_users_connections_do_not_push_out_those_of_others(stage):
    stage.serve()
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as mine:
        mine.connect(stage.control_path())
        crowd = ("import socket, sys\nkept = []\n"
                 "for i in range(400):\n"
                 "    s = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)\n"
                 "    s.connect(sys.argv[1])\n    kept.append(s)\n")
        subprocess.run([*as_uid(EVE), PYTHON, "-c", crowd, stage.control_path()], check=True,
                       timeout=20, cwd="/")
        assert stage.berth("ls").returncode == 0
        mine.send(struct.pack(">HBB", 0xBE47, 1, 6) + b"\0\6status\0\0")
        mine.settimeout(5)
        assert mine.recv(65536)[3] == 14


# What is in force ---------------------------------------------------------------------------------


def security(stage):
    done = stage.berth("status", "--security", "--json")
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_the_report_on_security_is_what_the_kernel_shows(stage):
    stage.start(PYTHON_HTTP, "one.localhost")
    report = security(stage)
    berthd, dispatch = report["processes"]
    assert berthd["pid"] == stage.daemon("berthd")
    assert dispatch["pid"] == stage.daemon("berth-dispatch")
    assert berthd["uid"] == 0 and dispatch["uid"] != 0 and dispatch["gid"] != 0
    kept = {c["capability"] for c in report["berthd_keeps"]}
    assert set(berthd["permitted"]) <= kept and "net_bind_service" in berthd["capabilities"]
    assert "sys_module" not in berthd["bounding"] and "setuid" in berthd["bounding"]
    assert dispatch["capabilities"] == dispatch["permitted"] == dispatch["bounding"] == []
    assert dispatch["no_new_privs"] == 1 and dispatch["root"] != "/"
    assert berthd["network_sockets"]["connections"] == 0
    assert berthd["network_sockets"]["listening"] > 0
    assert {r["request"] for r in report["rights"]["commands"]} >= {"list", "reserve", "security"}
    text = stage.berth("status", "--security")
    assert text.returncode == 0 and "berth-dispatch" in text.stdout, text.stderr


def test_a_note_that_somebody_changed_is_not_believed(stage):
    """Whoever has taken dispatch over has the notes, and not the key: with another key the notes of
    now are as false as theirs would be."""
    one = stage.start(PYTHON_HTTP, "one.localhost")
    one.check()
    with open(os.path.join(stage.runtime, "key"), "r+b") as key:
        assert len(key.read()) == 16
        key.seek(0)
        key.write(os.urandom(16))
    os.kill(stage.daemon("berthd"), signal.SIGKILL)
    wait_until(lambda: stage.berth("ls").returncode == 0, 10, "the next berthd")
    assert "reason=Seal" in "".join(text for _, text in stage.report())


SYSTEM = """
set -e
mount -t tmpfs none /run; mkdir /run/berth
mkdir -p /var/lib; mount -t tmpfs none /var/lib
"$1/berthd" 2>/run/log &
until [ -S /run/berth/control ]; do sleep 0.02; done
"$1/berth" reserve http://shop.localhost/ --user 41001 >/run/said
test -s /var/lib/berth/reservations.conf
$2 "$1/berth" run --as http://shop.localhost/ -- /usr/bin/python3 -m http.server "$3" --bind 127.0.0.1 2>/run/out &
program=$!
until grep -q Serving /run/out || "$1/berth" ls --json | grep -q '"listening": true'; do sleep 0.05; done
$2 "$1/berth" --system ls
$2 "$1/berth" --system stop || echo "stop refused"
kill $program
"$1/berth" stop
"""


def test_a_program_finds_the_berthd_in_which_its_name_is_reserved(stage):
    """In the folders of a real system, which only this process sees."""
    env = {k: v for k, v in stage.env.items() if not k.startswith(("BERTH_", "XDG_"))}
    done = subprocess.run(["timeout", "30", "unshare", "-m", "sh", "-c", SYSTEM, "sh", stage.build,
                           " ".join(as_uid(SHOP)), str(stage.port)], capture_output=True, text=True,
                          timeout=40, check=False, cwd="/", env=env, stdin=subprocess.DEVNULL)
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"http://shop.localhost:{stage.port}/" in done.stdout
    assert "stop refused" in done.stdout


def test_the_configuration_reserves_and_a_reload_changes_it(stage):
    path = os.path.join(stage.files, "berth.conf")

    def configure(text):
        with open(path, "w", encoding="ascii") as f:
            f.write(text)

    configure("[reserve http://shop.localhost/]\nuser = 41001\nstatus = 404\n"
              "[reserve http://bob.localhost/]\nuser = 41002\n")
    stage.serve("--config", path)
    any_listener(stage)
    assert status_of(stage, "shop.localhost", "/marker.txt") == 404
    assert "reserved for user 41001" in refused_as(stage, BOB, "http://shop.localhost/")
    done = stage.berth("reserve", "--delete", "http://shop.localhost/")
    assert done.returncode == 1 and "configuration" in done.stderr, done.stderr
    configure("[berth]\nunreserved = root\n[reserve http://shop.localhost/]\nuser = 41002\n")
    done = stage.berth("reload")
    assert done.returncode == 0, done.stderr
    assert status_of(stage, "shop.localhost", "/marker.txt") == 503
    assert status_of(stage, "bob.localhost", "/marker.txt") == 200
    assert "root's" in refused_as(stage, EVE, "eve.localhost")
    start_as(stage, BOB, "http://shop.localhost/").check()


def test_a_pool_of_a_local_user_runs_as_him_and_is_his(stage):
    stage.serve()
    argv = ["run", "--name", "pool", "--as", "bob.localhost", "--workers", "2", "--", PYTHON, "-m",
            "http.server", str(stage.port), "--bind", "127.0.0.1"]
    said = berth_as(stage, EVE, "run", "--name", "x", "--as", "http://+/", *argv[5:])
    assert said.returncode != 0, said.stdout
    log = os.path.join(stage.files, "pool.log")
    pool = Proc(stage._wrap([stage.tool(), *argv], as_uid(BOB)), log, stage.env, "/")  # pylint: disable=protected-access
    wait_until(lambda: stage.listed("pool"), 10, "the pool")
    wait_until(lambda: status_answers(stage, "bob.localhost"), 15, "an answer of the pool")
    worker = next(p for p in stage.ls()["apps"] if p["name"] == "pool")
    assert worker["user"] == str(BOB)
    for verb in ("stop", "restart"):
        assert berth_as(stage, EVE, verb, "pool").returncode != 0
    pids = [w["pid"] for w in worker["pool"]["workers"]]
    for pid in pids:
        with open(f"/proc/{pid}/status", encoding="ascii") as f:
            status = f.read()
        assert f"Uid:\t{BOB}\t{BOB}\t{BOB}\t{BOB}\n" in status
        assert f"Gid:\t{BOB}\t{BOB}\t{BOB}\t{BOB}\n" in status and "CapPrm:\t0000000000000000" in status
    assert pids
    assert berth_as(stage, BOB, "stop", "pool").returncode == 0
    pool.stop()


def status_answers(stage, host):
    try:
        return status_of(stage, host) == 200
    except (OSError, AssertionError):
        return False
