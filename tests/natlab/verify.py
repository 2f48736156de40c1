"""Is each kind of NAT what it is called? Asked twice: with sockets of our own at both ends of the
NAT, so that nothing is guessed from silence, and with programs that nobody here wrote (coturn's
turnutils_natdiscovery and stun-client's stun)."""

import concurrent.futures
import contextlib
import dataclasses
import os
import re
import socket
import subprocess
import time

from lab import Lab

PORTS = (3478, 3479)
SAMPLES = 8
BLOCK_MAX = 2048  # ports that are all this close come from one block

# kind -> mapping, filtering, allocation of ports
EXPECTED = {
    "pub": ("eim", "eif", "keep"),
    "v6fw": ("apdm", "apdf", "random"),
    "eif": ("eim", "eif", "random"),
    "adf": ("eim", "adf", "random"),
    "apdf": ("eim", "apdf", "random"),
    "linux": ("eim", "apdf", "keep"),
    "linuxrej": ("eim", "apdf", "keep"),
    "linuxopen": ("eim", "apdf", "keep"),
    "adm": ("adm", "adf", "random"),
    "sym": ("apdm", "apdf", "random"),
    "symseq": ("apdm", "apdf", "sequence"),
    "cgn": ("eim", "apdf", "block"),
    "cgnsym": ("apdm", "apdf", "block"),
    "udpblock": ("blocked", "blocked", "blocked"),
    "tcp443": ("blocked", "blocked", "blocked"),
    "u:map=eim,filter=adf": ("eim", "adf", "random"),
    "u:map=adm,filter=adf": ("adm", "adf", "random"),
    "u:map=apdm,filter=eif,ports=sequence,step=2": ("apdm", "eif", "sequence"),
    "u:ports=keep": ("eim", "apdf", "keep"),
}


@dataclasses.dataclass(frozen=True)
class Behaviour:
    """What was seen."""
    mapping: str
    filtering: str
    allocation: str

    def __str__(self):
        return f"{self.mapping}/{self.filtering}/{self.allocation}"


class Observer:
    """Four sockets of the server, at two addresses and two ports, that say where a packet came from."""

    def __init__(self, lab, family=socket.AF_INET):
        addresses = lab.server_addresses if family == socket.AF_INET else lab.server_addresses6
        self.family = family
        self.ends = {}
        for address in addresses[:2]:
            for port in PORTS:
                s = lab.server.socket(family)
                s.bind((address, port))
                s.settimeout(1)
                self.ends[addresses.index(address), PORTS.index(port)] = s

    def close(self):
        for s in self.ends.values():
            s.close()

    def seen(self, client, end=(0, 0), timeout=1.0):
        """The address that the server sees of client; None when nothing arrives. Answers, too."""
        word = os.urandom(8)
        server = self.ends[end]
        server.settimeout(timeout)
        client.settimeout(timeout)
        client.sendto(word, server.getsockname()[:2])
        with contextlib.suppress(TimeoutError):
            while True:
                data, address = server.recvfrom(100)
                if data == word:
                    server.sendto(data, address)
                    client.recv(100)
                    return address[:2]
        return None


@contextlib.contextmanager
def observing(lab, family=socket.AF_INET):
    observer = Observer(lab, family)
    try:
        yield observer
    finally:
        observer.close()


def mapping_of(observer, host):
    with host.socket(observer.family) as s:
        first, port, address = (observer.seen(s, end) for end in ((0, 0), (0, 1), (1, 0)))
    if first == port == address:
        return "eim"
    return "adm" if first == port else "apdm"


def filtering_of(observer, host):
    """Packets from elsewhere, and then one that certainly arrives: what is not there by then was
    filtered, because nothing overtakes on the way."""
    with host.socket(observer.family) as s:
        mapped = observer.seen(s)
        observer.ends[0, 1].sendto(b"port", mapped)
        observer.ends[1, 0].sendto(b"address", mapped)
        observer.ends[0, 0].sendto(b"end", mapped)
        arrived = set()
        while (data := s.recv(100)) != b"end":
            arrived.add(data)
    if b"address" in arrived:
        return "eif"
    return "adf" if b"port" in arrived else "apdf"


def allocation_of(observer, host):
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(host.socket(observer.family)) for _ in range(SAMPLES)]
        ports = [observer.seen(s)[1] for s in sockets]
        own = [s.getsockname()[1] for s in sockets]
    steps = {b - a for a, b in zip(ports, ports[1:])}
    if ports == own:
        return "keep"
    if len(steps) == 1 and 0 < abs(steps.pop()) <= 16:
        return "sequence"
    return "block" if max(ports) - min(ports) < BLOCK_MAX else "random"


def behaviour(lab, host, family=socket.AF_INET):
    """What the NAT of a host does, seen from both sides of it."""
    with observing(lab, family) as observer:
        with host.socket(family) as s:
            if not observer.seen(s, timeout=1.0 if host.kind not in ("udpblock", "tcp443") else 0.2):
                return Behaviour("blocked", "blocked", "blocked")
        return Behaviour(mapping_of(observer, host), filtering_of(observer, host),
                         allocation_of(observer, host))


def hairpins(lab):
    """Whether b reaches a, in the same NAT, at a's public address. b is let in first."""
    with observing(lab) as observer, lab.a.socket() as a, lab.b.socket() as b:
        at_a, at_b = observer.seen(a), observer.seen(b)
        a.sendto(b"opens", at_b)
        b.sendto(b"hello", at_a)
        observer.ends[0, 0].sendto(b"end", at_a)
        data, source = a.recvfrom(100)
        while data == b"opens":
            data, source = a.recvfrom(100)
        return data == b"hello" and source == at_b


# The programs of others

BINDING = b"\x00\x01\x00\x00\x21\x12\xa4\x42" + b"natlabnatlab"
COTURN = ["turnserver", "-L", "11.0.0.1", "-L", "11.0.0.2", "-p", "3478", "--alt-listening-port", "3479",
          "-n", "--no-cli", "--no-tls", "--no-dtls", "--no-auth", "-S", "--log-file=stdout", "--pidfile="]


def start_coturn(lab):
    """coturn as STUN server with RFC 5780; returns when it answers."""
    process = lab.server.popen(COTURN, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 20
    with lab.server.socket() as s:
        s.settimeout(0.05)
        while time.monotonic() < deadline:
            s.sendto(BINDING, ("11.0.0.1", 3478))
            with contextlib.suppress(OSError):
                s.recv(1000)
                return process
    raise AssertionError("coturn does not answer")


def coturn_says(lab, host):
    """(mapping, filtering) as turnutils_natdiscovery has them."""
    text = host.output(["timeout", "20", "turnutils_natdiscovery", "-m", "-f", "11.0.0.1"], check=False)
    words = {"Endpoint Independent": "ei", "Address Dependent": "ad", "Address and Port Dependent": "apd"}
    found = {what: words.get(name, name) for name, what in
             re.findall(r"NAT with (.*) (Mapping|Filtering)!", text)}
    if "No NAT detected" in text or "Public address" in text:
        found.setdefault("Mapping", "ei")
    return (found.get("Mapping", "?") + "m", found.get("Filtering", "?") + "f")


def stun_says(host):
    """(mapping, filtering, allocation, hairpin), the first as far as stun-client tells them apart."""
    text = host.output(["timeout", "20", "stun", "11.0.0.1"], check=False)
    line = next((x for x in text.splitlines() if x.startswith("Primary:")), text)
    mapping = "eim" if "Independent Mapping" in line or "Open" in line else "other"
    filtering = "eif" if "Independent Filter" in line or "Open" in line else "other"
    for text, short in (("Port Dependent Filter", "apdf"), ("Address Dependent Filter", "adf")):
        filtering = short if text in line else filtering
    allocation = "keep" if "preserves ports" in line or "Open" in line else "other"
    return mapping, filtering, allocation, "will hairpin" in line


@dataclasses.dataclass
class Verdict:
    kind: str
    ours: Behaviour
    coturn: tuple
    stun: tuple


def verdict(kind):
    """Builds a lab with this kind and asks everybody."""
    with Lab(kind, "pub") as lab:
        ours = behaviour(lab, lab.a)
        if ours.mapping == "blocked":
            return Verdict(kind, ours, (), ())
        start_coturn(lab)
        return Verdict(kind, ours, coturn_says(lab, lab.a), stun_says(lab.a))


def verdicts(kinds, at_once=12):
    """kind -> Verdict. They wait for silence most of the time, so many run at once."""
    with concurrent.futures.ThreadPoolExecutor(at_once) as pool:
        return dict(zip(kinds, pool.map(verdict, kinds)))


def main(kinds):
    """For the command `lab.py verify`."""
    kinds = kinds or list(EXPECTED)
    bad = 0
    for kind, v in verdicts(kinds).items():
        expected = EXPECTED.get(kind)
        right = expected is None or dataclasses.astuple(v.ours) == expected
        bad += not right
        print(f"{kind:45} {v.ours!s:22} {'/'.join(v.coturn):12} {v.stun}  "
              f"{'' if right else 'expected ' + '/'.join(expected)}")
    return 1 if bad else 0
