#!/usr/bin/python3
"""What others reach over the same NATs: nebula, n2n and tinc from Debian, each with its server on the public
side. Measured from the moment when both peers have been started and the caller begins to send: until the first
answer over the overlay, and until one that takes the direct way.

    baselines.py [--runs 3] [--kinds pub,apdf,...] [--tools nebula,n2n,tinc] [--delay 10]"""

import argparse
import concurrent.futures
import contextlib
import itertools
import os
import pathlib
import re
import statistics
import subprocess
import sys
import tempfile
import time

from lab import Lab

LIMIT_SECONDS = 12
ADDRESSES = {"srv": "10.99.0.1", "a": "10.99.0.2", "b": "10.99.0.3"}
PORT = 9999
QUIET = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
COUNTERS = """table ip direct { chain f { type filter hook forward priority 10;
  ip saddr 11.1.0.0/16 ip daddr 11.2.0.0/16 counter
  ip saddr 11.2.0.0/16 ip daddr 11.1.0.0/16 counter
}
}"""


def write(folder, name, text):
    path = pathlib.Path(folder, name)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="ascii")
    return path


def nebula(lab, folder):
    """A lighthouse, two hosts that punch; nebula 1.6 relays only where a relay is set up."""
    subprocess.run(["nebula-cert", "ca", "-name", "lab"], cwd=folder, check=True, **QUIET)
    for name, address in ADDRESSES.items():
        subprocess.run(["nebula-cert", "sign", "-name", name, "-ip", f"{address}/24"], cwd=folder, check=True, **QUIET)
        here = name == "srv"
        write(folder, f"{name}.yml", f"""
pki: {{ca: {folder}/ca.crt, cert: {folder}/{name}.crt, key: {folder}/{name}.key}}
static_host_map: {{"10.99.0.1": ["11.0.0.1:4242"]}}
lighthouse: {{am_lighthouse: {str(here).lower()}, interval: 5, hosts: [{'' if here else '"10.99.0.1"'}]}}
listen: {{host: 0.0.0.0, port: {4242 if here else 0}}}
punchy: {{punch: true, respond: true, delay: 100ms}}
relay: {{am_relay: {str(here).lower()}, use_relays: true, relays: [{'' if here else '"10.99.0.1"'}]}}
tun: {{dev: neb0}}
firewall: {{outbound: [{{port: any, proto: any, host: any}}], inbound: [{{port: any, proto: any, host: any}}]}}
""")
    for name, ns in (("srv", lab.server), ("a", lab.a), ("b", lab.b)):
        ns.popen(["nebula", "-config", f"{folder}/{name}.yml"], **QUIET)


def n2n(lab, folder):
    """A supernode, which relays until the edges have registered with each other."""
    del folder
    lab.server.popen(["supernode", "-l", "7654"], **QUIET)
    for name, ns in (("a", lab.a), ("b", lab.b)):
        ns.popen(["edge", "-d", "n2n0", "-a", ADDRESSES[name], "-s", "255.255.255.0", "-c", "lab",
                  "-k", "secret", "-l", "11.0.0.1:7654", "-u", "0", "-g", "0"], **QUIET)


def tinc(lab, folder):
    """A node on the public side that both connect to; it relays until they find each other."""
    for name, address in ADDRESSES.items():
        own = f"{folder}/{name}"
        connect = "" if name == "srv" else "ConnectTo = srv\n"
        write(own, "tinc.conf", f"Name = {name}\nInterface = tinc0\nLocalDiscovery = no\n{connect}")
        outside = "Address = 11.0.0.1\n" if name == "srv" else ""
        write(own, f"hosts/{name}", f"{outside}Subnet = {address}/32\n")
        write(own, "tinc-up", f"#!/bin/sh\nip link set tinc0 up\nip addr add {address}/24 dev tinc0\n").chmod(0o755)
        subprocess.run(["tincd", "-c", own, "-K2048"], stdin=subprocess.DEVNULL, check=True, **QUIET)
    for one, other in itertools.permutations(ADDRESSES, 2):
        write(f"{folder}/{other}", f"hosts/{one}", pathlib.Path(folder, one, "hosts", one).read_text(encoding="ascii"))
    for name, ns in (("srv", lab.server), ("a", lab.a), ("b", lab.b)):
        ns.popen(["tincd", "-c", f"{folder}/{name}", "-D", f"--pidfile={folder}/{name}.pid"], **QUIET)


TOOLS = {"nebula": nebula, "n2n": n2n, "tinc": tinc}


def counts(core):
    text = core.output(["nft", "list", "table", "ip", "direct"])
    return [int(n) for n in re.findall(r"packets (\d+)", text)]


def echoed(a, b, word):
    """One question over the overlay, and its answer."""
    with contextlib.suppress(OSError):
        a.sendto(word, (ADDRESSES["b"], PORT))
        data, source = b.recvfrom(100)
        b.sendto(data, source)
        return a.recv(100) == data
    return False


def measure(lab):
    """(seconds to the first answer, seconds to the first direct one), None for what did not happen."""
    core = lab.namespaces["core"]
    core.run(["nft", "-f", "-"], input=COUNTERS, text=True)
    first = direct = None
    with lab.a.socket() as a, lab.b.socket() as b:
        b.bind(("0.0.0.0", PORT))
        a.settimeout(0.1)
        b.settimeout(0.1)
        began = time.monotonic()
        for i in itertools.count():
            now = time.monotonic() - began
            if now > LIMIT_SECONDS:
                return first, None
            before = counts(core)
            answered = echoed(a, b, b"%d" % i)
            now = time.monotonic() - began
            first = first or (now if answered else None)
            if answered and all(y > x for x, y in zip(before, counts(core))):
                direct = now
                break
            time.sleep(0.02)
        # Checks of the tool's own may have passed the counters: now everything has to go that way.
        before = counts(core)
        good = sum(echoed(a, b, b"again %d" % i) for i in range(20))
        went = [y - x for x, y in zip(before, counts(core))]
        return first, direct if good > 10 and min(went) >= good else None


def run(tool, a, b, delay):
    with Lab(a, b, delay_ms=delay) as lab, tempfile.TemporaryDirectory(prefix="natlab-") as folder:
        os.chmod(folder, 0o755)
        TOOLS[tool](lab, folder)
        return measure(lab)


def text_of(runs):
    firsts = [f for f, _ in runs if f is not None]
    directs = [d for _, d in runs if d is not None]
    first = f"{1000 * statistics.median(firsts):.0f}" if firsts else "none"
    direct = f"{1000 * statistics.median(directs):.0f}" if directs else "never"
    return f"{first} / {direct}" + (f" {len(directs)} of {len(runs)}" if 0 < len(directs) < len(runs) else "")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--delay", type=float, default=10)
    parser.add_argument("--kinds", default="pub,eif,apdf,linux,linuxopen,symseq,sym,cgn")
    parser.add_argument("--tools", default=",".join(TOOLS))
    parser.add_argument("--jobs", type=int, default=3)
    args = parser.parse_args()
    pairs = list(itertools.combinations_with_replacement(args.kinds.split(","), 2))
    print("ms to the first answer / to the first direct one (median)\n")
    print("| pair | " + " | ".join(args.tools.split(",")) + " |\n|---" + "|---" * len(args.tools.split(",")) + "|")
    with concurrent.futures.ThreadPoolExecutor(args.jobs) as pool:
        jobs = {pair: {tool: [pool.submit(run, tool, *pair, args.delay) for _ in range(args.runs)]
                       for tool in args.tools.split(",")} for pair in pairs}
        for (a, b), tools in jobs.items():
            cells = " | ".join(text_of([job.result() for job in runs]) for runs in tools.values())
            print(f"| {a} x {b} | {cells} |", flush=True)


if __name__ == "__main__":
    sys.exit(main())
