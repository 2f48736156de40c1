"""`berth why` over real sockets of real programs."""

import ctypes
import os
import shutil
import socket
import struct
import subprocess

import pytest

from why_util import (BERTH, IS_ROOT, LISTEN, PYTHON, free_port, holder, namespace, public_berth,
                      why, why_json)

root = pytest.mark.skipif(not IS_ROOT, reason="needs root")
NOBODY = ("runuser", "-u", "nobody", "--")


def bind_of(answer, host):
    [found] = [b for b in answer["bind"] if b["address"].rsplit(":", 1)[0] == host]
    return found


def wait_until_listening(proc, port):
    """http.server says nothing that can be waited for through a pipe in time, so connect."""
    while True:
        assert proc.poll() is None
        try:
            socket.create_connection(("127.0.0.1", port)).close()
            return
        except ConnectionRefusedError:
            os.sched_yield()


def test_a_free_port_is_free():
    port = free_port()
    result = why(port)
    assert result.returncode == 0
    assert result.stdout.startswith(f"nobody listens on port {port}; a bind would succeed\n")


def test_http_server_is_named_with_its_command_line():
    port = free_port()
    command = [PYTHON, "-m", "http.server", str(port), "--bind", "0.0.0.0"]
    proc = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        wait_until_listening(proc, port)
        result = why(port)
        answer = why_json(port)
    finally:
        proc.kill()
        proc.wait()
    first = result.stdout.splitlines()[0]
    assert result.returncode == 1
    assert first.startswith(f"port {port} is held by python3 (pid {proc.pid}, user ")
    assert first.endswith(" on 0.0.0.0")
    assert " ".join(command) in result.stdout
    assert "berth run -- COMMAND" in result.stdout
    assert f"kill {proc.pid}" in [m["command"] for m in answer["mend"]]
    assert answer["holders"][0]["processes"][0]["cmdline"] == " ".join(command)
    assert bind_of(answer, "127.0.0.1")["plain"] == "EADDRINUSE"
    assert bind_of(answer, "0.0.0.0")["reuseaddr"] == "EADDRINUSE"


def test_brief_is_the_verdict_and_the_command():
    with holder(LISTEN, "127.0.0.1", 0) as (pid, port):
        lines = why("--brief", f"127.0.0.1:{port}").stdout.splitlines()
    assert len(lines) == 2
    assert f"(pid {pid}, " in lines[0]
    assert lines[1].startswith("berth run -- COMMAND: ")


@pytest.mark.skipif(not shutil.which("node"), reason="needs node")
def test_a_dual_stack_listener_of_node_shadows_ipv4():
    code = "s=require('http').createServer().listen(0,()=>console.log(s.address().port))"
    with holder(code, python=(shutil.which("node"), "-e")) as (pid, port):
        answer = why_json(port)
        for_v4 = why(f"127.0.0.1:{port}")
    assert f"node (pid {pid}, " in answer["verdict"]
    assert any("holds 0.0.0.0 as well" in n for n in answer["notes"])
    assert bind_of(answer, "0.0.0.0")["plain"] == "EADDRINUSE"
    assert "includes IPv4" in bind_of(answer, "127.0.0.1")["reason"]
    assert for_v4.returncode == 1


def test_an_ipv6_only_listener_leaves_ipv4_free():
    with holder(LISTEN, "::", 0, "v6only") as (_, port):
        answer = why_json(port)
        for_v4 = why(f"0.0.0.0:{port}")
    assert answer["holders"][0]["v6only"] is True
    assert bind_of(answer, "0.0.0.0")["plain"] is None
    assert not any("holds 0.0.0.0 as well" in n for n in answer["notes"])
    assert for_v4.returncode == 0


def test_one_loopback_address_blocks_the_wildcard_but_not_its_neighbour():
    with holder(LISTEN, "127.0.0.1", 0) as (_, port):
        neighbour = why(f"127.0.0.2:{port}")
        answer = why_json(port)
    assert neighbour.returncode == 0
    assert "a bind would succeed" in neighbour.stdout
    assert "a wildcard needs every address" in bind_of(answer, "0.0.0.0")["reason"]


def test_two_programs_in_one_reuseport_group_are_warned_about():
    with holder(LISTEN, "127.0.0.1", 0, "reuseport") as (first, port):
        with holder(LISTEN, "127.0.0.1", port, "reuseport", "other") as (second, _):
            answer = why_json(port)
    [note] = [n for n in answer["notes"] if "spread blindly" in n]
    assert f"pid {first}," in note and f"pid {second}," in note


def test_workers_that_share_a_socket_are_counted():
    fork = "if not (os.fork() and os.fork()): sys.stdin.read(); sys.exit()"
    code = LISTEN.replace("ready(", fork + "\n    ready(")
    with holder(code, "127.0.0.1", 0) as (pid, port):
        verdict = why_json(port)["verdict"]
    assert f"(pid {pid} and 2 more, user " in verdict


def time_wait(reuse):
    """Leaves one connection in TIME_WAIT on the side of a listener that is gone."""
    server = socket.socket()
    server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, reuse)
    server.bind(("127.0.0.1", 0))
    server.listen()
    client = socket.create_connection(server.getsockname())
    accepted, _ = server.accept()
    port = server.getsockname()[1]
    server.close()
    accepted.close()
    assert client.recv(1) == b""
    client.close()
    return port


def test_time_wait_is_told_from_a_listener():
    port = time_wait(reuse=1)
    answer = why_json(port)
    assert answer["states"] == {"time-wait": 1}
    assert "succeed only with SO_REUSEADDR" in answer["verdict"]
    assert bind_of(answer, "127.0.0.1")["plain"] == "EADDRINUSE"
    assert bind_of(answer, "127.0.0.1")["reuseaddr"] is None
    assert answer["mend"][0]["command"].startswith("set SO_REUSEADDR")


def test_time_wait_of_a_program_without_reuseaddr_refuses_everybody():
    answer = why_json(time_wait(reuse=0))
    assert bind_of(answer, "127.0.0.1")["reuseaddr"] == "EADDRINUSE"
    assert "1 connection is in TIME_WAIT" in answer["verdict"]
    assert answer["mend"][0]["command"] == "sleep 60"


def test_an_outgoing_connection_is_told_from_a_listener():
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()
        with socket.create_connection(server.getsockname()) as client:
            port = client.getsockname()[1]
            answer = why_json(port)
    assert answer["verdict"].startswith(f"nobody listens on port {port}; a bind would fail")
    assert any("probably outgoing" in n for n in answer["notes"])
    assert any("ip_local_reserved_ports" in m["command"] for m in answer["mend"])


def test_a_socket_that_is_bound_and_does_not_listen_is_found():
    with holder(LISTEN, "127.0.0.1", 0, "bound") as (pid, port):
        answer = why_json(port)
    if not answer["holders"]:
        pytest.skip("this kernel does not list bound sockets")
    assert f"it is bound by python3 (pid {pid}, " in answer["verdict"]
    assert answer["holders"][0]["state"] == "bound"
    assert bind_of(answer, "127.0.0.1")["plain"] == "EADDRINUSE"


def test_a_listener_whose_queue_is_full_is_noticed():
    with holder(LISTEN.replace("listen()", "listen(0)"), "127.0.0.1", 0) as (_, port):
        with socket.create_connection(("127.0.0.1", int(port))):
            answer = why_json(port)
    assert any("does not accept: its queue on 127.0.0.1 is full" in n for n in answer["notes"])


def test_multipath_tcp_is_noted():
    code = LISTEN.replace("socket.socket(family)", "socket.socket(family, proto=262)")
    try:
        socket.socket(proto=262).close()
    except OSError:
        pytest.skip("this kernel has no MPTCP")
    with holder(code, "127.0.0.1", 0) as (_, port):
        assert why_json(port)["holders"][0]["mptcp"] is True


def test_a_process_is_asked_for_what_it_listens_on():
    with holder(LISTEN, "127.0.0.1", 0) as (pid, port):
        for question in (("--pid", pid), (f"pid:{pid}",)):
            result = why(*question)
            assert result.returncode == 0
            first = result.stdout.splitlines()[0]
            assert first.startswith(f"python3 (pid {pid}, user ")
            assert first.endswith(f" listens on 127.0.0.1:{port}")
        assert why_json("--pid", pid)["pid"] == pid
    gone = why("--pid", pid)
    assert gone.returncode == 1
    assert "there is no process" in gone.stderr


def test_a_url_stands_for_its_port():
    with holder(LISTEN, "127.0.0.1", 0) as (_, port):
        result = why(f"http://name-that-nobody-looks-up.invalid:{port}/x")
    assert result.returncode == 1
    assert result.stdout.startswith(f"port {port} is held by python3 ")


def test_an_address_of_no_interface_is_said_so():
    answer = why_json(f"192.0.2.1:{free_port()}")
    assert "EADDRNOTAVAIL because no interface has this address" in answer["verdict"]


@root
def test_another_users_program_is_not_named_without_root():
    with public_berth() as berth, holder(LISTEN, "127.0.0.1", 0) as (pid, port):
        result = why(port, prefix=NOBODY, berth=berth)
    assert result.returncode == 1
    assert result.stdout.startswith(f"port {port} is held by a process of user root on 127.0.0.1")
    assert f"sudo berth why {port}" in result.stdout
    assert str(pid) not in result.stdout


@root
def test_another_users_process_is_not_answered_without_root():
    with public_berth() as berth, holder(LISTEN, "127.0.0.1", 0) as (pid, _):
        result = why("--pid", pid, prefix=NOBODY, berth=berth)
    assert result.returncode == 1
    assert "belongs to another user" in result.stderr


@root
def test_root_names_the_program_of_another_user():
    with holder(LISTEN, "127.0.0.1", 0, prefix=NOBODY) as (_, port):
        assert "user nobody) on 127.0.0.1" in why(port).stdout


@root
def test_a_privileged_port_is_refused_to_nobody_and_says_what_helps():
    with namespace() as inside, public_berth() as berth:
        result = why(80, prefix=(*inside, *NOBODY), berth=berth)
        as_root = why(80, prefix=inside)
    assert result.returncode == 1
    assert result.stdout.startswith("nobody listens on port 80; a bind would fail with EACCES "
                                    "because ports below 1024 need CAP_NET_BIND_SERVICE")
    assert "sysctl net.ipv4.ip_unprivileged_port_start=80" in result.stdout
    assert as_root.returncode == 0


@root
def test_a_reserved_port_is_noted():
    with namespace() as inside:
        subprocess.run([*inside, "sh", "-c",
                        "echo 8080,9000-9010 >/proc/sys/net/ipv4/ip_local_reserved_ports"],
                       check=True)
        assert "ip_local_reserved_ports" in why(9005, prefix=inside).stdout
        assert "ip_local_reserved_ports" not in why(9011, prefix=inside).stdout


@root
@pytest.mark.skipif(not shutil.which("nft"), reason="needs nft")
def test_a_redirect_of_the_packet_filter_is_found():
    rules = """
        table ip web {
            chain pre {
                type nat hook prerouting priority -100;
                tcp dport { 80, 8000-8010 } redirect to :8080
                tcp dport 443 dnat to 10.0.0.5:8443
            }
        }
    """
    with namespace() as inside:
        subprocess.run([*inside, "nft", "-f", "-"], input=rules, text=True, check=True)
        result = why(8005, prefix=inside)
        answer = why_json(443, prefix=inside)
        free = why(81, prefix=inside)
    assert result.returncode == 1
    assert "but nftables sends its connections to port 8080 (chain ip web pre)" in result.stdout
    assert answer["steering"] == [{"via": "nftables",
                                   "to": "to port 8443 of 10.0.0.5 (chain ip web pre)"}]
    assert free.returncode == 0


@root
def test_a_holder_in_another_namespace_does_not_conflict():
    with namespace() as here, namespace() as there:
        with holder(LISTEN, "127.0.0.1", 0, prefix=there) as (pid, port):
            answer = why_json(port, prefix=here)
            inside = why_json(port, prefix=there)
            of_process = why("--pid", pid)
    assert answer["trouble"] is False
    assert [e["pid"] for e in answer["elsewhere"]] == [pid]
    assert any("does not conflict" in n for n in answer["notes"])
    assert inside["trouble"] is True and inside["elsewhere"] == []
    assert f"listens on 127.0.0.1:{port}" in of_process.stdout
    assert "lives in another network namespace" in of_process.stdout


def attach_sk_lookup(name):
    """Attaches the program `return SK_PASS` to this process's network namespace; the link lives as
    long as the descriptor."""
    libc = ctypes.CDLL(None, use_errno=True)
    code = struct.pack("<BBhi", 0xb7, 0, 0, 1) + struct.pack("<BBhi", 0x95, 0, 0, 0)
    code, licence = ctypes.create_string_buffer(code), ctypes.create_string_buffer(b"GPL")

    def bpf(command, attr):
        fd = libc.syscall(321, command, ctypes.create_string_buffer(attr, 128), 128)
        if fd < 0:
            raise OSError(ctypes.get_errno(), "bpf")
        return fd

    load = struct.pack("<IIQQIIQII16sII", 30, 2, ctypes.addressof(code), ctypes.addressof(licence),
                       0, 0, 0, 0, 0, name.encode(), 0, 36)
    program = bpf(5, load)
    with open("/proc/self/ns/net", "rb") as ns:
        return bpf(28, struct.pack("<IIII", program, ns.fileno(), 36, 0))


@root
@pytest.mark.skipif(os.uname().machine != "x86_64", reason="knows the system call by its number")
def test_a_program_that_steers_lookups_is_named():
    here = os.path.dirname(__file__)
    code = f"sys.path.insert(0, {here!r}); import test_why; test_why.attach_sk_lookup('steer'); ready()"
    with namespace() as inside, holder(code, prefix=inside) as _:
        answer = why_json(8080, prefix=inside)
    assert {"via": "sk_lookup", "to": "steer"} in answer["steering"]
    assert any("sk_lookup program `steer`" in n for n in answer["notes"])


@pytest.mark.parametrize("question", [[], ["0"], ["x!"], ["80", "81"], ["--pid"], ["--nonsense", "80"],
                                      ["99999999999"], ["localhost:70000"]])
def test_a_question_that_is_none_is_refused_with_2(question):
    result = why(*question)
    assert result.returncode == 2
    assert result.stdout == ""
    assert result.stderr.startswith("berth why: ")


def test_help_shows_examples_and_needs_no_question():
    result = why("--help")
    assert result.returncode == 0
    assert "examples:" in result.stdout


def test_the_frame_knows_its_verbs():
    def berth(*args):
        return subprocess.run([BERTH, *args], capture_output=True, text=True, timeout=60,
                              check=False)

    assert berth("--version").stdout.startswith("berth ")
    assert "why" in berth("--help").stdout
    assert berth("help", "why").stdout == why("--help").stdout
    slip = berth("wyh", "80")
    assert slip.returncode == 2 and "did you mean `why`?" in slip.stderr
    assert berth().returncode == 2


def test_no_colours_without_a_terminal():
    assert "\033" not in why(free_port()).stdout
