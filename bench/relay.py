#!/usr/bin/python3
"""Measures the relay of berth-rendezvous beside coturn in one run: packets of 1,200 bytes that a core-second
of the server carries from socket to socket on loopback, each with one thread; and what a pair costs in
memory. Prints lines of key=value; nothing is left running."""

import argparse
import pathlib
import shutil
import socket
import subprocess
import sys
import tempfile
import time

from rendezvous import ROOT, listening


def free_port():
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def answers(port, server, log):
    """Until it answers STUN."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
        s.settimeout(0.1)
        deadline = time.monotonic() + 15
        while time.monotonic() < deadline and server.poll() is None:
            try:
                s.sendto(bytes.fromhex("000100002112a442") + b"123456789012", ("127.0.0.1", port))
                s.recv(1000)
                return port
            except (TimeoutError, ConnectionRefusedError):
                time.sleep(0.05)
    sys.exit("coturn did not start:\n" + log.read_text(encoding="utf-8"))


def start_berth(build, folder):
    log = folder / "log"
    with open(log, "wb") as out:
        server = subprocess.Popen(
            [build / "berth-rendezvous", "--listen", "127.0.0.1:0", "--state", folder / "state",
             "--threads", "1", "--rate", "0", "--relay-rate", "0"], stderr=out)
    return server, lambda: listening(log, server)


def start_coturn(folder):
    port = free_port()
    server = subprocess.Popen(
        ["turnserver", "-n", "--listening-ip", "127.0.0.1", "--relay-ip", "127.0.0.1",
         "--listening-port", str(port), "--no-auth", "--allow-loopback-peers", "--no-cli", "--no-tcp", "--no-tls",
         "--no-dtls", "--relay-threads", "1", "--simple-log", "--log-file", str(folder / "log"),
         "--pidfile", str(folder / "pid"), "--userdb", str(folder / "db")],
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd=folder)
    return server, lambda: answers(port, server, folder / "log")


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--build", type=pathlib.Path, default=ROOT / "build")
    parser.add_argument("--seconds", type=int, default=4, help="of each measurement")
    parser.add_argument("--pairs", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=2)
    options = parser.parse_args()
    bench = str(options.build / "bench" / "relay-bench")
    subprocess.run([bench, "memory", "100000"], check=True, timeout=60)
    starts = {"berth": lambda folder: start_berth(options.build, folder)}
    if shutil.which("turnserver"):
        starts["turn"] = start_coturn
    else:
        print("coturn is not installed: berth alone", file=sys.stderr)
    for _ in range(options.rounds):
        for segments in (1, 16):
            for name, start in starts.items():
                with tempfile.TemporaryDirectory(prefix="berth-bench-") as folder:
                    server, port = start(pathlib.Path(folder))
                    try:
                        subprocess.run([bench, name, str(port()), str(server.pid), str(options.pairs),
                                        str(segments), str(options.seconds)], check=True, timeout=120)
                    finally:
                        server.kill()
                        server.wait()


if __name__ == "__main__":
    main()
