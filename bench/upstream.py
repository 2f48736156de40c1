#!/usr/bin/python3
"""Measures what passes connections on to an address: berth-upstream (`berth route add`), HAProxy in tcp
mode with splice, nginx's stream module, one thread each, in interleaved rounds. Connections and bytes a
second, and what each costs of the front's processor time. Puts its table into docs/BENCHMARKS.md."""

import argparse
import pathlib
import signal
import statistics
import subprocess
import sys
import tempfile

from fronts import HAPROXY, HOST, Berth, Front, Proxy, run_text
from procs import Failure, cpu_ns, free_port, tree, wait_for
from run import Bench, raise_fd_limit, use_two_cpus

ROOT = pathlib.Path(__file__).resolve().parent.parent
TITLE = "# Upstream"
NEXT = "# Life-cycle"
STREAM = pathlib.Path("/usr/lib/nginx/modules/ngx_stream_module.so")

HAPROXY_PLAIN = HAPROXY + """
    mode tcp
    option splice-auto
frontend front
    bind 127.0.0.1:{port} backlog 4096
    default_backend bench
backend bench
    server worker 127.0.0.1:{target}
"""

NGINX_STREAM = """
load_module {module};
daemon off;
user root;
worker_processes 1;
pid {scratch}/nginx.pid;
error_log {scratch}/nginx.log crit;
events {{ worker_connections 25000; multi_accept on; }}
stream {{
    tcp_nodelay on;
    server {{
        listen 127.0.0.1:{port} backlog=4096;
        proxy_buffer_size 64k;
        proxy_pass 127.0.0.1:{target};
    }}
}}
"""


class Plain(Proxy):
    """One worker behind it, and no name to look at."""

    def start(self):
        target, self.worker_pids = self.start_worker()
        self.port = free_port()
        self.process = self.bench.stable.start(self.argv(target, None), self.bench.log)
        wait_for(self.port, HOST, self.title, self.process)


class HaproxyPlain(Plain):
    program = name = "haproxy"
    title = "HAProxy tcp, splice, 1 thread"

    def version(self):
        return run_text(["haproxy", "-v"]).splitlines()[0]

    def argv(self, target, idle):
        text = HAPROXY_PLAIN.format(threads=1, port=self.port, target=target)
        return ["haproxy", "-db", "-f", self.write("haproxy.cfg", text)]


class NginxStream(Plain):
    program = name = "nginx"
    title = "nginx stream, 1 worker"

    @classmethod
    def available(cls, _build):
        return STREAM.exists()

    def version(self):
        return run_text(["nginx", "-v"])

    def argv(self, target, idle):
        text = NGINX_STREAM.format(module=STREAM, scratch=self.bench.scratch, target=target,
                                   port=self.port)
        return ["nginx", "-e", "stderr", "-c", self.write("nginx.conf", text)]


class BerthUpstream(Berth):
    name = "berth"
    title = "berth, 1 worker"

    def start(self):
        target, self.worker_pids = self.start_worker()
        self.runtime = self.bench.scratch / f"b{free_port()}"
        self.runtime.mkdir(mode=0o700)
        self.port = free_port()
        self.environment = {**self.environment_base(), "BERTH_RUNTIME_DIR": str(self.runtime)}
        argv = [self.command, "route", "add", f"any://127.0.0.1:{self.port}", "--to",
                f"127.0.0.1:{target}", "--name", "bench", "--listen", f"127.0.0.1:{self.port}",
                "--set", "queue_length=10000"]
        done = subprocess.run([str(a) for a in argv], env=self.environment, timeout=20,
                              capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise Failure(f"berth route add: {done.stderr}")
        wait_for(self.port, HOST, self.title, None)

    @staticmethod
    def environment_base():
        import os
        return dict(os.environ)

    def pids(self):
        names = ("berth-dispatch", "berthd", "berth-upstream")
        mine = {pid for pid, name in self.own_pids().items() if name in names}
        daemon = [pid for pid, name in self.own_pids().items() if name == "berthd"]
        return sorted(mine.union(*(tree(pid) for pid in daemon)) if daemon else mine)


FRONTS = [Front, BerthUpstream, HaproxyPlain, NginxStream]


def spent(front, act):
    before = cpu_ns(front.pids())
    result = act()
    return result, cpu_ns(front.pids()) - before


def measure(bench, front):
    taken = {}
    result, cpu = spent(front, lambda: bench.load(front.port, "connect", threads=2, connections=200))
    taken["connect"] = result["per_second"]
    taken["connect_cpu"] = cpu / max(result["done"], 1) / 1000
    taken["failed"] = result["failed"] + result["stalled"]
    result, cpu = spent(front, lambda: bench.load(front.port, "keepalive", connections=64))
    taken["keepalive"] = result["per_second"]
    taken["keepalive_cpu"] = cpu / max(result["done"], 1) / 1000
    result, cpu = spent(front, lambda: bench.load(front.port, "keepalive", path="/64m",
                                                  connections=2))
    taken["bytes"] = result["bytes_per_second"] / 1e9
    moved = result["bytes_per_second"] * bench.seconds
    taken["bytes_cpu"] = cpu / 1e6 / max(moved / 1e9, 1e-9)
    return taken


def run_rounds(bench, kinds, count):
    rounds = {kind.name: [] for kind in kinds}
    for number in range(count):
        shift = number % len(kinds)
        for kind in kinds[shift:] + kinds[:shift]:
            front = kind(bench)
            try:
                front.start()
                bench.load(front.port, "connect", seconds=0.2)
                rounds[kind.name].append(measure(bench, front))
                print(f"round {number + 1}/{count} {kind.name} {rounds[kind.name][-1]}", flush=True)
            except Failure as failure:
                print(f"  {failure}; the end of the log: {bench.log_tail()}", flush=True)
            finally:
                bench.stable.stop_all()
                front.finish()
    return rounds


COLUMNS = [("connect", "connections/s", "{:,.0f}"), ("connect_cpu", "µs of CPU each", "{:.0f}"),
           ("keepalive", "requests/s, kept alive", "{:,.0f}"),
           ("keepalive_cpu", "µs of CPU each", "{:.1f}"), ("bytes", "GB/s, 64 MiB bodies", "{:.2f}"),
           ("bytes_cpu", "ms of CPU a GB", "{:.0f}"), ("failed", "failed", "{:.0f}")]


def table(kinds, rounds):
    lines = ["| front | " + " | ".join(head for _, head, _ in COLUMNS) + " |",
             "|---|" + "---|" * len(COLUMNS)]
    for kind in kinds:
        cells = []
        for key, _, form in COLUMNS:
            values = [taken[key] for taken in rounds[kind.name]]
            shown = max(values, default=0) if key == "failed" else statistics.median(values or [0])
            cells.append(form.format(shown) if values and (kind is not Front or "cpu" not in key)
                         else "-")
        lines.append(f"| {kind.title} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def document(kinds, rounds, options):
    versions = [v for v in (kind(options).version() if kind is not BerthUpstream else None
                            for kind in kinds) if v]
    return (f"{TITLE}\n\nWritten by `bench/upstream.py`: connections passed on to an address, on two "
            f"cores shared by load, front and server. Medians of {options.rounds} interleaved rounds of "
            f"{options.seconds:g} s. The processor time is the front's own, and of berth that of "
            f"berthd, dispatch and berth-upstream together. {'; '.join(versions)}.\n\n"
            + table(kinds, rounds) + "\n")


def put(path, text):
    """In the place of what was there, before what another script has put behind it."""
    old = path.read_text() if path.exists() else ""
    head, _, rest = old.partition("\n" + TITLE + "\n")
    behind = (rest if rest else old).find(NEXT + "\n")
    if rest:
        tail = rest[behind:] if behind >= 0 else ""
    elif behind >= 0:
        head, tail = old[:behind].rstrip("\n") + "\n", old[behind:]
    else:
        tail = ""
    path.write_text(head.rstrip("\n") + "\n\n" + text + ("\n" + tail if tail else ""))


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--build", default=str(ROOT / "build"))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=1.5)
    parser.add_argument("--held", type=int, default=0)
    parser.add_argument("--quick", action="store_true", help="one round; nothing is written")
    options = parser.parse_args()
    if options.quick:
        options.rounds = 1
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    with tempfile.TemporaryDirectory(prefix="bu") as scratch:
        bench = Bench(options, scratch)
        options.build, options.scratch = bench.build, bench.scratch
        raise_fd_limit()
        use_two_cpus()
        kinds = [kind for kind in FRONTS if kind.available(bench.build)]
        try:
            rounds = run_rounds(bench, kinds, options.rounds)
        finally:
            bench.stable.stop_all()
            bench.log.close()
        text = document(kinds, rounds, options)
        print(text)
        if not options.quick:
            put(ROOT / "docs" / "BENCHMARKS.md", text)


if __name__ == "__main__":
    main()
