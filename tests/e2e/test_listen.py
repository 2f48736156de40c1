"""What the shared port is: Unix listeners, PROXY headers in front, addresses of an application's own."""

import os
import socket

import pytest

from harness import connect, exchange, parse_reply, read_to_close, read_to_end
from programs import ASYNCIO, NODE, PYTHON_HTTP, RECORDER, REDIS
from wire_clients import redis_ask

PROXY_V1 = b"PROXY TCP4 %s 127.0.0.1 4711 80\r\n"


def head(*lines):
    return "\r\n".join((*lines, "", "")).encode()


def unix_get(path, host, target="/"):
    with socket.socket(socket.AF_UNIX) as s:
        s.settimeout(10)
        s.connect(path)
        s.sendall(head(f"GET {target} HTTP/1.1", f"Host: {host}", "Connection: close"))
        return parse_reply(read_to_close(s))


@pytest.mark.berth_only
def test_a_unix_listener_is_shared_by_name(stage):
    path = os.path.join(stage.files, "web.sock")
    options = ("--listen", f"unix:{path}")
    one = stage.start(PYTHON_HTTP, "one.localhost", options=options)
    two = stage.start(NODE, "two.localhost", options=options)
    assert one.marker in unix_get(path, "one.localhost", "/marker.txt").body
    assert two.marker in unix_get(path, "two.localhost").body
    nobody = unix_get(path, "three.localhost")
    assert nobody.status == 404 and "http://one.localhost/" in nobody.body
    one.check()


@pytest.mark.berth_only
def test_a_proxy_header_is_looked_through_and_left_for_the_program(stage):
    recorder = stage.start(RECORDER, "rec.localhost", options=("--proxy",), ready=False)
    stage.wait_listening(recorder)
    other = stage.start(RECORDER, routes=["http://rec.localhost/?from=192.0.2.0/24"],
                        options=("--proxy",), ready=False)
    stage.wait_listening(other)
    for source, owner in ((b"198.51.100.7", recorder), (b"192.0.2.9", other)):
        sent = PROXY_V1 % source + head("GET / HTTP/1.1", "Host: rec.localhost")
        with connect(recorder.target) as s:
            s.sendall(sent)
            s.shutdown(socket.SHUT_WR)
            data = read_to_end(s)
        assert owner.marker.encode() in data and data.endswith(sent)


@pytest.mark.berth_only
def test_who_sends_no_proxy_header_where_one_is_expected_is_closed(stage):
    for host in ("one.localhost", "two.localhost"):
        running = stage.start(RECORDER, host, options=("--proxy",), ready=False)
        stage.wait_listening(running)
    assert exchange(running.target, head("GET / HTTP/1.1", "Host: one.localhost")) == b""


@pytest.mark.berth_only
def test_programs_that_disagree_about_proxy_headers_do_not_share(stage):
    first = stage.start(RECORDER, "one.localhost", options=("--proxy",), ready=False)
    stage.wait_listening(first)
    second = stage.start(ASYNCIO, "two.localhost", ready=False)
    assert second.proc.wait() != 0
    assert "--proxy" in second.proc.output()


@pytest.mark.berth_only
def test_an_application_has_a_loopback_address_of_its_own(stage):
    stage.start(NODE, "two.localhost")
    redis = stage.start(REDIS, "one.localhost", routes=["redis://"])
    own = next(r["address"] for a in stage.ls()["apps"] for b in a["binds"] for r in b["routes"]
               if a["name"] == "redis-server" and r["route"].startswith("tcp://127."))
    address = own.rpartition(":")[0]
    text, _ = redis_ask(redis.target.at(address))
    assert f"laddr={own}" in text


@pytest.mark.berth_only
def test_a_route_with_a_port_opens_that_port(stage):
    other = stage.start(NODE, "two.localhost")
    port = other.target.port
    moved = stage.start(RECORDER, port=port + 1 if port < 32000 else port - 1,
                        routes=[f"http://moved.localhost:{port}/"], ready=False)
    stage.wait_listening(moved)
    with connect(other.target) as s:
        s.sendall(head("GET / HTTP/1.1", "Host: moved.localhost"))
        s.shutdown(socket.SHUT_WR)
        assert moved.marker.encode() in read_to_end(s)
    other.check()
