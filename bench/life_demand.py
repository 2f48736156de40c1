"""Start on demand: from the client's SYN to the first byte of the answer, when that connection
starts the program; beside the same program started by hand and asked as soon as it listens. The two
take turns."""

import shutil
import socket
import subprocess
import time

from fronts import HOST
from life_rig import Site, wait_until
from procs import Failure, free_port

NODE = ("require('http').createServer((q, a) => a.end('x'.repeat(128)))"
        ".listen(Number(process.argv[2]), '127.0.0.1');\n")
LIMIT_S = 30
# How often the program that starts by hand is tried.
KNOCK_S = 0.001


def programs(bench):
    """Title -> the command for a port."""
    script = bench.scratch / "server.js"
    script.write_text(NODE)
    found = {
        "python3 -m http.server": lambda port: ["/usr/bin/python3", "-m", "http.server", port,
                                                "--bind", "127.0.0.1"],
        "node": lambda port: [shutil.which("node"), script, port],
        "bench/worker": lambda port: [bench.worker, "--small", port],
    }
    if not shutil.which("node"):
        del found["node"]
    return found


def first_byte(client, port):
    client.sendall(f"GET / HTTP/1.1\r\nHost: {HOST}:{port}\r\nConnection: close\r\n\r\n".encode())
    if not client.recv(12).startswith(b"HTTP/1."):
        raise Failure("the program does not answer")


def knock(port):
    """A connection as soon as somebody listens."""
    deadline = time.monotonic() + LIMIT_S
    while time.monotonic() < deadline:
        client = socket.socket()
        client.settimeout(LIMIT_S)
        try:
            client.connect(("127.0.0.1", port))
            return client
        except ConnectionRefusedError:
            client.close()
            time.sleep(KNOCK_S)
    raise Failure("the program does not listen")


def by_hand_ms(bench, command):
    port = free_port()
    began = time.monotonic()
    process = bench.stable.start(command(port), subprocess.DEVNULL)
    try:
        with knock(port) as client:
            first_byte(client, port)
            return (time.monotonic() - began) * 1000
    finally:
        bench.stable.stop(process)


def on_demand_ms(port):
    began = time.monotonic()
    with socket.create_connection(("127.0.0.1", port), timeout=LIMIT_S) as client:
        first_byte(client, port)
        return (time.monotonic() - began) * 1000


def is_resting(site):
    pool = site.pool("shop")
    return pool["state"] == "waiting" and not pool["workers"]


def make_site(bench, command, port):
    site = Site(bench)
    site.settle()
    site.app("shop", route=f"http://{HOST}/", listen=f"127.0.0.1:{port}", start="demand",
             idle_timeout="50ms", stop_timeout="2s", command=" ".join(map(str, command(port))))
    site.start()
    return site


def measure_program(bench, command, rounds):
    port = free_port()
    site = make_site(bench, command, port)
    hand, demand = [], []
    try:
        for _ in range(rounds):
            hand.append(by_hand_ms(bench, command))
            wait_until(lambda: is_resting(site), LIMIT_S, "an idle worker does not end")
            demand.append(on_demand_ms(port))
    finally:
        site.stop()
    return {"hand": hand, "demand": demand, "added": [b - a for a, b in zip(hand, demand)]}


def measure(bench, options):
    results = {}
    for title, command in programs(bench).items():
        taken = measure_program(bench, command, options.rounds)
        results[title] = taken
        added = sorted(taken["added"])
        print(f"demand {title}: by hand {sorted(taken['hand'])[len(added) // 2]:.1f} ms, added "
              f"{added[len(added) // 2]:.1f} ({added[0]:.1f} to {added[-1]:.1f}) ms", flush=True)
    return results
