"""Ports that a router maps when it is asked: PCP and NAT-PMP by src/punch/portmap, UPnP-IGD by berth-upnp,
with Debian's miniupnpd on the router."""

import contextlib
import subprocess
import tempfile
import time

import pytest

import igd
import punching
from lab import Lab

INSIDE = 40404


@contextlib.contextmanager
def _router(kind="linux", upnp="yes", natpmp="yes"):
    with Lab(kind, "pub") as lab, tempfile.TemporaryDirectory(prefix="natlab-") as folder:
        igd.start(lab.a, folder, upnp, natpmp)
        yield lab


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
        while "dnat" in igd.mapped(lab.a):
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


def test_upnp_gives_a_port_back_whose_outer_address_nobody_tells():
    with Lab("linux", "pub") as lab:
        router = igd.start_nameless(lab.a)
        said = lab.a.output([punching.built("berth-upnp"), "add", "udp", INSIDE, 3600], check=False)
        assert said == "failed NoAddress\n"
        router.terminate()
        actions = router.stdout.read().splitlines()
        assert f"AddPortMapping {INSIDE}" in actions
        assert actions[-1] == f"DeletePortMapping {INSIDE}"


def test_upnp_without_a_router_says_so():
    with Lab("linux", "pub") as lab:
        lab.a.run(["ip", "route", "add", "224.0.0.0/4", "dev", "eth0"])
        said = lab.a.output([punching.built("berth-upnp"), "add", "udp", INSIDE, 3600], check=False)
        assert said == "failed NoRouter\n"
