"""What the life-cycle is measured with: a berthd under a service manager with a configuration of
its own, proxies that can be told to reload, and disturbances that come at intervals."""

import json
import os
import re
import shutil
import signal
import subprocess
import threading
import time

from fronts import HOST, IDLE, comm, run_text
from procs import Failure, free_port, is_gone, signal_quietly, tree, wait_for

KEEP = os.path.join(os.path.dirname(os.path.abspath(__file__)), "keep.py")


class Site:
    """A berthd with a runtime folder and a configuration of its own."""

    def __init__(self, bench):
        self.bench = bench
        self.command = bench.build / "berth"
        self.folder = bench.scratch / f"s{free_port()}"
        self.config = self.folder / "etc"
        (self.config / "apps.d").mkdir(parents=True)
        self.runtime = self.folder / "run"
        self.runtime.mkdir(mode=0o755)
        os.chmod(self.folder, 0o755)
        self.environment = {**os.environ, "BERTH_RUNTIME_DIR": str(self.runtime),
                            "BERTH_LOG_DIR": str(self.folder)}
        self.keeper = None

    def write(self, name, text):
        """Never half a file, and always a later time stamp: it is read while it is written."""
        path = self.config / name
        fresh = path.with_suffix(".new")
        fresh.write_text(text)
        fresh.rename(path)

    def settle(self, text=""):
        self.write("berth.conf", "[berth]\nper_source = off\n" + text)

    def app(self, name, **keys):
        lines = [f"{key} = {value}" for key, value in keys.items()]
        self.write(f"apps.d/{name}.conf", "\n".join(["[app]"] + lines) + "\n")

    def start(self):
        argv = ["/usr/bin/python3", KEEP, self.bench.build / "berthd", "--config", self.config,
                "--log", "warn"]
        self.keeper = self.bench.stable.start(argv, self.bench.log, env=self.environment)
        wait_until(lambda: self.ask("status").returncode == 0, 20, "berthd does not come up")

    def ask(self, *words, seconds=60):
        argv = [str(word) for word in (self.command, *words)]
        return subprocess.run(argv, env=self.environment, text=True, capture_output=True,
                              timeout=seconds, check=False, stdin=subprocess.DEVNULL)

    def tell(self, *words, seconds=60):
        answer = self.ask(*words, seconds=seconds)
        if answer.returncode != 0:
            said = (answer.stderr + answer.stdout).strip().splitlines()
            raise Failure(f"berth {' '.join(words)}: {said[-1] if said else 'failed'}")
        return answer.stdout

    def knows(self, verb):
        return re.search(rf"^\s*{verb}\b", self.ask("help").stdout, re.M) is not None

    def pool(self, name):
        apps = json.loads(self.tell("ls", "--json"))["apps"]
        for app in apps:
            if app.get("name") == name and app.get("pool"):
                return app["pool"]
        raise Failure(f"berth ls shows no pool {name}")

    def status(self):
        return json.loads(self.tell("status", "--json"))

    def processes(self, name):
        """The living ones of this site that are called so."""
        return [pid for pid in tree(self.keeper.pid) if comm(pid) == name and not is_gone(pid)]

    def own_pids(self):
        return self.processes("berthd") + self.processes("berth-dispatch")

    def stop(self):
        if self.keeper:
            self.bench.stable.stop(self.keeper)
        shutil.rmtree(self.folder, ignore_errors=True)


def wait_until(test, seconds, what):
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if test():
            return
        time.sleep(0.02)
    raise Failure(what)


class Disturbance:
    """Does something at intervals while something else is measured."""

    def __init__(self, act, interval_s):
        self.act = act
        self.interval_s = interval_s
        self.done = 0
        self.errors = []
        self.over = threading.Event()
        self.thread = threading.Thread(target=self.run)

    def run(self):
        due = time.monotonic() + self.interval_s
        while not self.over.wait(max(0, due - time.monotonic())):
            due = max(due + self.interval_s, time.monotonic())
            try:
                self.act(self.done)
                self.done += 1
            except (Failure, OSError, ValueError, subprocess.SubprocessError) as error:
                self.errors.append(str(error))

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.over.set()
        self.thread.join()


class Pool:
    """berth in front of a pool of two workers, and a second application on the same port."""

    name = "berth"

    def __init__(self, bench):
        self.bench = bench
        self.port = free_port()
        self.site = Site(bench)

    def start(self):
        worker = f"{self.bench.worker} --small --graceful {self.port}"
        common = {"listen": f"127.0.0.1:{self.port}", "drain_timeout": "3s", "stop_timeout": "3s"}
        self.site.settle()
        self.site.app("shop", route=f"http://{HOST}/", command=worker, workers=2, start="always",
                      **common)
        self.site.app("idle", route=f"http://{IDLE}/", command=worker, **common)
        self.vary(0)
        self.site.start()
        wait_for(self.port, HOST, "the pool")

    def vary(self, number):
        self.site.app("varying", route=f"http://v{number % 2}.localhost/", command="/bin/true",
                      listen=f"127.0.0.1:{self.port}", start="manual")

    def reload(self, number):
        self.vary(number + 1)
        if "nothing has changed" in self.site.tell("reload"):
            raise Failure("the reload found nothing changed")

    def restart(self, _number):
        self.site.tell("restart", "--no-wait", "shop")

    def upgrade(self, _number):
        self.site.tell("upgrade")

    def kill_dispatch(self, _number):
        signal_quietly(self.site.status()["dispatch_pid"], signal.SIGKILL)

    def kill_berthd(self, _number):
        pids = self.site.processes("berthd")
        if not pids:
            raise Failure("no berthd to be killed")
        signal_quietly(pids[0], signal.SIGKILL)

    def stop(self):
        self.site.stop()


class ReloadedProxy:
    """A proxy in front of two workers of the same kind, which is told to read its file again."""

    program = None
    reload_signal = None

    def __init__(self, bench):
        self.bench = bench
        self.port = free_port()
        self.process = None
        self.targets = []
        self.options = ["--small"]

    @classmethod
    def available(cls):
        return shutil.which(cls.program) is not None

    def start_workers(self):
        for _ in range(2):
            port = free_port()
            argv = [self.bench.worker, *self.options, port]
            process = self.bench.stable.start(argv, self.bench.log)
            wait_for(port, HOST, "a worker", process)
            self.targets.append((port, process))

    def start(self):
        if not self.targets:
            self.start_workers()
        self.write(0)
        self.process = self.bench.stable.start(self.argv(), self.bench.log)
        wait_for(self.port, HOST, self.program, self.process)

    def path(self):
        return self.bench.scratch / f"{self.program}-{self.port}.conf"

    def write(self, number):
        ports = [port for port, _ in self.targets]
        text = self.config.format(port=self.port, one=ports[0], two=ports[1], number=number % 2,
                                  scratch=self.bench.scratch)
        self.path().write_text(text)

    def reload(self, number):
        self.write(number + 1)
        signal_quietly(self.process.pid, self.reload_signal)

    def stop(self):
        if self.process:
            self.bench.stable.stop(self.process)
        for _, process in self.targets:
            self.bench.stable.stop(process)


class Nginx(ReloadedProxy):
    name = "nginx"
    program = "nginx"
    reload_signal = signal.SIGHUP
    config = """
daemon off;
user root;
worker_processes 2;
pid {scratch}/nginx-{port}.pid;
error_log {scratch}/nginx.log crit;
events {{ worker_connections 15000; }}
http {{
    access_log off;
    keepalive_requests 1000000000; keepalive_timeout 300s;
    proxy_http_version 1.1;
    proxy_set_header Connection "";
    proxy_set_header Host $host;
    client_body_temp_path {scratch}/body; proxy_temp_path {scratch}/proxy;
    fastcgi_temp_path {scratch}/fastcgi;
    uwsgi_temp_path {scratch}/uwsgi; scgi_temp_path {scratch}/scgi;
    upstream bench {{
        zone bench 256k;
        least_conn;
        server 127.0.0.1:{one}; server 127.0.0.1:{two};
        keepalive 512; keepalive_requests 1000000000;
    }}
    server {{
        listen 127.0.0.1:{port} backlog=4096;
        server_name bench.localhost v{number}.localhost;
        location / {{ proxy_pass http://bench; }}
    }}
}}
"""

    def argv(self):
        return ["nginx", "-e", "stderr", "-c", self.path()]

    @staticmethod
    def version():
        return run_text(["nginx", "-v"])


class Haproxy(ReloadedProxy):
    name = "HAProxy"
    program = "haproxy"
    reload_signal = signal.SIGUSR2
    config = """
global
    nbthread 2
    maxconn 12000
    no strict-limits
defaults
    mode http
    timeout connect 10s
    timeout client 300s
    timeout server 300s
    option http-keep-alive
    http-reuse always
frontend front
    bind 127.0.0.1:{port} backlog 4096
    acl varying req.hdr(host),field(1,:) -m str v{number}.localhost
    default_backend bench
backend bench
    balance leastconn
    server one 127.0.0.1:{one} pool-max-conn 512
    server two 127.0.0.1:{two} pool-max-conn 512
"""

    def argv(self):
        return ["haproxy", "-W", "-db", "-f", self.path()]

    @staticmethod
    def version():
        return run_text(["haproxy", "-v"]).splitlines()[0]
