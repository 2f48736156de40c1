"""Ports that a router maps when it is asked: PCP and NAT-PMP by src/punch/portmap, UPnP-IGD by berth-upnp,
with Debian's miniupnpd on the router."""

import contextlib
import pathlib
import subprocess
import tempfile
import time

import pytest

import punching
from lab import Lab

INSIDE = 40404

CONFIGURATION = """
ext_ifname=wan
listening_ip=lan
enable_upnp={upnp}
enable_natpmp={natpmp}
secure_mode=yes
min_lifetime=60
max_lifetime=86400
system_uptime=yes
uuid=00000000-0000-0000-0000-000000000001
lease_file={folder}/leases
allow 1024-65535 10.0.0.0/8 1024-65535
deny 0-65535 0.0.0.0/0 0-65535
upnp_table_name=miniupnpd
upnp_nat_table_name=miniupnpd
"""
TABLE = """
table inet miniupnpd {
  chain miniupnpd { }
  chain prerouting_miniupnpd { }
  chain postrouting_miniupnpd { }
  chain prerouting { type nat hook prerouting priority -100; jump prerouting_miniupnpd; }
  chain postrouting { type nat hook postrouting priority 100; jump postrouting_miniupnpd; }
}
"""


@contextlib.contextmanager
def _router(kind="linux", upnp="yes", natpmp="yes"):
    with Lab(kind, "pub") as lab, tempfile.TemporaryDirectory(prefix="natlab-") as folder:
        router = lab.a.nats[0]
        router.run(["nft", "-f", "-"], input=TABLE, text=True)
        router.run(["nft", "insert rule ip nat forward ct status dnat accept"])
        router.run(["nft", "insert rule ip nat input iifname lan accept"])
        for ns, dev in ((router, "lan"), (lab.a, "eth0")):
            ns.run(["ip", "route", "add", "224.0.0.0/4", "dev", dev])
        conf = pathlib.Path(folder, "conf")
        conf.write_text(CONFIGURATION.format(upnp=upnp, natpmp=natpmp, folder=folder), encoding="ascii")
        router.popen(["miniupnpd", "-d", "-f", conf, "-P", f"{folder}/pid"],
                     stdout=open(f"{folder}/log", "wb"), stderr=subprocess.STDOUT)
        _wait_for_port(router)
        yield lab


def _wait_for_port(router):
    deadline = time.monotonic() + 10
    while ":5351" not in router.output(["ss", "-Hlun"]):
        assert time.monotonic() < deadline, "miniupnpd does not listen"
        time.sleep(0.02)


def _mapper(lab, protocol="udp"):
    return lab.a.popen([punching.built("tests/natlab/portmapper"), protocol, INSIDE], stdin=subprocess.PIPE,
                       stdout=subprocess.PIPE, text=True)


def _reaches(lab, external):
    """Whether a packet from the server to this address arrives at the inside port."""
    address, port = external.rsplit(":", 1)
    with lab.a.socket() as a, lab.server.socket() as s:
        a.bind(("0.0.0.0", INSIDE))
        a.settimeout(0.5)
        s.sendto(b"hello", (address, int(port)))
        try:
            return a.recv(100) == b"hello"
        except TimeoutError:
            return False


@pytest.mark.parametrize("protocol", ["udp", "tcp"])
def test_pcp_maps_a_port_and_gives_it_back(protocol):
    with _router() as lab:
        mapper = _mapper(lab, protocol)
        state, external, version = mapper.stdout.readline().split()
        assert (state, version) == ("mapped", "pcp")
        assert external.startswith(lab.a.outside + ":")
        if protocol == "udp":
            assert _reaches(lab, external)
        mapper.stdin.close()
        mapper.wait()
        deadline = time.monotonic() + 5
        while "dnat" in lab.a.nats[0].output(["nft", "list", "chain", "inet", "miniupnpd", "prerouting_miniupnpd"]):
            assert time.monotonic() < deadline, "the mapping is still there"
            time.sleep(0.02)


def test_a_router_without_the_service_is_silent():
    with Lab("linux", "pub") as lab:
        mapper = _mapper(lab)
        assert mapper.stdout.readline().split()[0] == "silent"


def test_an_external_address_behind_a_carrier_is_useless():
    with _router("cgn") as lab:
        mapper = _mapper(lab)
        state = mapper.stdout.readline().split()[0]
        assert state in ("useless", "refused")


def test_upnp_maps_a_port_and_removes_it():
    with _router(natpmp="yes") as lab:
        program = punching.built("berth-upnp")
        said = lab.a.output([program, "add", "udp", INSIDE, 3600])
        assert said.split()[0] == "mapped", said
        assert said.split()[1] == f"{lab.a.outside}:{INSIDE}"
        assert _reaches(lab, said.split()[1])
        assert lab.a.output([program, "remove", "udp", INSIDE]) == "removed\n"
        assert not _reaches(lab, f"{lab.a.outside}:{INSIDE}")


def test_upnp_without_a_router_says_so():
    with Lab("linux", "pub") as lab:
        lab.a.run(["ip", "route", "add", "224.0.0.0/4", "dev", "eth0"])
        said = lab.a.output([punching.built("berth-upnp"), "add", "udp", INSIDE, 3600], check=False)
        assert said == "failed NoRouter\n"
