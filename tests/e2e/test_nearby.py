"""Peers that reach each other without a rendezvous server: on one network, and where they were before;
and servers that are reached by TLS alone."""

import os
import re

import pytest

from harness import wait_until

pytestmark = [pytest.mark.berth_only,
              pytest.mark.skipif(os.geteuid() != 0, reason="network namespaces take root")]


ECHO = ("import socket, threading\n"
        "l = socket.create_server(('127.0.0.1', 0))\n"
        "print('ready at', l.getsockname()[1], flush=True)\n"
        "def one(s):\n"
        "    while data := s.recv(65536):\n"
        "        s.sendall(data)\n"
        "    s.close()\n"
        "while True:\n"
        "    threading.Thread(target=one, args=(l.accept()[0],), daemon=True).start()\n")


def publish(home, *options):
    echo = home.run(["/usr/bin/python3", "-c", ECHO])
    port = wait_until(lambda: re.search(r"ready at (\d+)\n", echo.output()), 10, "the echo server")[1]
    home.start("berthd", "berth-peer")
    home.publish("echo", f"127.0.0.1:{port}", *options)


def says(laptop, text=b"to be said\n"):
    return laptop.berth("dial", "home/echo", input=text)


def test_two_on_one_network_find_each_other_when_no_server_is_there(worlds):
    world = worlds(bridge=True)
    home, laptop = world.peer("home"), world.peer("laptop")
    publish(home, "--allow", "laptop")
    laptop.good("lookup", "home")  # pins it
    world.server.kill()
    laptop.start()
    done = says(laptop)
    assert (done.returncode, done.stdout) == (0, b"to be said\n"), done.stderr
    assert laptop.path("home") == "direct"
    assert "local network" in laptop.good("why", "home/echo")


def test_who_is_not_allowed_finds_nobody(worlds):
    world = worlds(bridge=True)
    home, laptop = world.peer("home"), world.peer("laptop")
    publish(home)
    laptop.good("lookup", "home")
    world.server.kill()
    laptop.start()
    done = says(laptop)
    assert done.returncode == 1 and done.stdout == b""
    assert b"NoServer" in done.stderr
    assert b"nobody on the local network" in laptop.berth("why", "home/echo").stdout


def test_a_peer_is_reached_where_it_was_when_no_server_is_there(worlds):
    world = worlds(network=True)
    world.network.forward(True)
    home, laptop = world.peer("home"), world.peer("laptop")
    publish(home, "--allow", "laptop")
    laptop.start()
    assert says(laptop).returncode == 0
    dialling = laptop.dialling("home/echo")
    wait_until(lambda: laptop.path("home") == "direct", 10, "a direct path")
    dialling.kill()
    world.server.kill()
    laptop.kill()
    laptop.start()
    done = says(laptop)
    assert (done.returncode, done.stdout) == (0, b"to be said\n"), done.stderr
    assert "answered before" in laptop.good("why", "home/echo")


def test_a_servers_name_is_looked_up(worlds):
    world = worlds()
    home, laptop = world.peer("home"), world.peer("laptop")
    world.server_address = home.env["BERTH_RENDEZVOUS"] = laptop.env["BERTH_RENDEZVOUS"] = (
        f"localhost:{world.server.port}")
    publish(home, "--allow", "laptop")
    laptop.start()
    done = says(laptop)
    assert (done.returncode, done.stdout) == (0, b"to be said\n"), done.stderr


def test_a_peer_that_is_on_another_network_registers_at_once(worlds):
    world = worlds(bridge=True)
    home, laptop = world.peer("home"), world.peer("laptop")
    publish(home, "--allow", "laptop")
    laptop.start()
    home.namespace.run("ip", "address", "del", "10.77.1.2/24", "dev", "wan")
    home.namespace.run("ip", "address", "add", "10.77.1.99/24", "dev", "wan")
    wait_until(lambda: "network has changed" in home.daemons["berth-peer"].output(), 10, "the news")
    wait_until(lambda: "state=registered" in home.daemons["berth-peer"].output().split("has changed")[-1],
               10, "the new registration")
    done = says(laptop)
    assert (done.returncode, done.stdout) == (0, b"to be said\n"), done.stderr


def test_where_udp_is_blocked_everything_goes_by_tls(worlds):
    world = worlds(network=True)
    home, laptop = world.peer("home"), world.peer("laptop")
    publish(home, "--allow", "laptop")
    laptop.namespace.run("nft", "add table inet block; add chain inet block out "
                         "{ type filter hook output priority 0; }; "
                         "add rule inet block out meta l4proto udp drop")
    laptop.start()
    done = says(laptop, b"x" * 200000)
    assert (done.returncode, done.stdout) == (0, b"x" * 200000), done.stderr
    assert laptop.path("home") == "relay"
    known = open(os.path.join(laptop.home, ".config/berth/known_servers"), encoding="utf-8").read()
    assert re.fullmatch(rf"{re.escape(world.server_address)} [a-z2-7]{{56}} \d+\n", known)
