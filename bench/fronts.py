"""What is measured: the worker alone, and the worker behind berth and behind each proxy. A front is
started fresh for every round, on free ports of the loopback, with two applications behind it, so
that each has to look at the name; `idle.localhost` is the one that nobody asks for."""

import json
import os
import pathlib
import shutil
import subprocess

from procs import Failure, free_port, stop_pids, tree, wait_for

HOST = "bench.localhost"
IDLE = "idle.localhost"


class Front:
    """One row of the tables. `pids` are the processes whose time and memory are the front's own."""

    name = "direct"
    title = "none (the worker accepts)"
    program = None
    # Whether 10,000 silent clients can be asked of it at all.
    held = True

    def __init__(self, bench):
        self.bench = bench
        self.port = None
        self.worker_pids = []

    @classmethod
    def available(cls, _build):
        return cls.program is None or shutil.which(cls.program) is not None

    def version(self):
        return None

    def start(self):
        self.port, self.worker_pids = self.start_worker()

    def pids(self):
        return []

    def finish(self):
        """Called after the processes in the stable were stopped."""

    def start_worker(self):
        port = free_port()
        process = self.bench.stable.start([self.bench.worker, port], self.bench.log)
        wait_for(port, HOST, "the worker", process)
        return port, [process.pid]

    def write(self, name, text):
        path = self.bench.scratch / name
        path.write_text(text)
        return path


class Again(Front):
    """The same as direct: what differs between the two is noise."""

    name = "direct-again"
    title = "direct once more"


class Proxy(Front):
    """A front that is another program with a configuration file."""

    process = None

    def start(self):
        target, self.worker_pids = self.start_worker()
        idle, _ = self.start_worker()
        self.port = free_port()
        argv = self.argv(target, idle)
        self.process = self.bench.stable.start(argv, self.bench.log)
        wait_for(self.port, HOST, self.title, self.process)

    def argv(self, target, idle):
        raise NotImplementedError

    def pids(self):
        # A master that only supervises is counted too: it does nothing while we measure.
        return tree(self.process.pid)


NGINX = """
daemon off;
user root;
worker_processes {workers};
pid {scratch}/nginx.pid;
error_log {scratch}/nginx.log crit;
events {{ worker_connections 15000; multi_accept on; accept_mutex off; use epoll; }}
http {{
    access_log off;
    sendfile on; tcp_nopush on; tcp_nodelay on; server_tokens off;
    keepalive_requests 1000000000; keepalive_timeout 300s; client_header_timeout 300s;
    proxy_http_version 1.1;
    proxy_set_header Connection "";
    proxy_set_header Host $host;
    proxy_buffer_size 16k; proxy_buffers 16 64k; proxy_busy_buffers_size 512k;
    proxy_max_temp_file_size 0;
    client_body_temp_path {scratch}/body; proxy_temp_path {scratch}/proxy;
    fastcgi_temp_path {scratch}/fastcgi;
    uwsgi_temp_path {scratch}/uwsgi; scgi_temp_path {scratch}/scgi;
    upstream bench {{ server 127.0.0.1:{target}; keepalive 512; keepalive_requests 1000000000; }}
    upstream idle {{ server 127.0.0.1:{idle}; keepalive 512; }}
    server {{
        listen 127.0.0.1:{port} backlog=4096 reuseport;
        server_name bench.localhost;
        location / {{ proxy_pass http://bench; }}
    }}
    server {{
        listen 127.0.0.1:{port};
        server_name idle.localhost;
        location / {{ proxy_pass http://idle; }}
    }}
}}
"""


class Nginx(Proxy):
    program = "nginx"
    workers = 1
    name = "nginx-1"
    title = "nginx, 1 worker"

    def version(self):
        return run_text(["nginx", "-v"])

    def argv(self, target, idle):
        text = NGINX.format(workers=self.workers, scratch=self.bench.scratch, target=target,
                            idle=idle, port=self.port)
        return ["nginx", "-e", "stderr", "-c", self.write(f"{self.name}.conf", text)]


class Nginx2(Nginx):
    workers = 2
    name = "nginx-2"
    title = "nginx, 2 workers"


HAPROXY = """
global
    nbthread {threads}
    maxconn 12000
    no strict-limits
    tune.maxpollevents 256
    tune.bufsize 65536
defaults
    timeout connect 10s
    timeout client 300s
    timeout server 300s
    timeout http-request 300s
    timeout http-keep-alive 300s
    maxconn 12000
"""

HAPROXY_HTTP = HAPROXY + """
    mode http
    option http-keep-alive
    http-reuse always
    option splice-response
frontend front
    bind 127.0.0.1:{port} backlog 4096
    use_backend bench if {{ req.hdr(host),field(1,:) -m str bench.localhost }}
    default_backend idle
backend bench
    server worker 127.0.0.1:{target} pool-max-conn 512
backend idle
    server worker 127.0.0.1:{idle}
"""

HAPROXY_TCP = HAPROXY + """
    mode tcp
    option splice-auto
frontend front
    bind 127.0.0.1:{port} backlog 4096
    tcp-request inspect-delay 300s
    tcp-request content accept if {{ req.len gt 0 }}
    use_backend bench if {{ req.payload(0,0) -m sub bench.localhost }}
    default_backend idle
backend bench
    server worker 127.0.0.1:{target}
backend idle
    server worker 127.0.0.1:{idle}
"""


class Haproxy(Proxy):
    program = "haproxy"
    name = "haproxy-http-1"
    title = "HAProxy http, 1 thread"
    threads = 1
    config = HAPROXY_HTTP

    def version(self):
        return run_text(["haproxy", "-v"]).splitlines()[0]

    def argv(self, target, idle):
        text = self.config.format(threads=self.threads, port=self.port, target=target, idle=idle)
        return ["haproxy", "-db", "-f", self.write(f"{self.name}.cfg", text)]


class Haproxy2(Haproxy):
    name = "haproxy-http-2"
    title = "HAProxy http, 2 threads"
    threads = 2


class HaproxyTcp(Haproxy):
    name = "haproxy-tcp"
    title = "HAProxy tcp, 2 threads"
    threads = 2
    config = HAPROXY_TCP


# sslh knows protocols, not hosts: its second application is the one for ssh.
SSLH = """
foreground: true;
inetd: false;
numeric: true;
verbose: 0;
timeout: 300;
listen: ( {{ host: "127.0.0.1"; port: "{port}"; }} );
protocols: (
    {{ name: "http"; host: "127.0.0.1"; port: "{target}"; log_level: 0; }},
    {{ name: "ssh"; host: "127.0.0.1"; port: "{idle}"; log_level: 0; }}
);
"""


class SslhSelect(Proxy):
    program = "sslh-select"
    name = "sslh-select"
    title = "sslh-select"

    def version(self):
        return run_text([self.program, "-V"])

    def argv(self, target, idle):
        text = SSLH.format(port=self.port, target=target, idle=idle)
        return [self.program, "-F" + str(self.write(f"{self.name}.cfg", text))]


class SslhEv(SslhSelect):
    program = "sslh-ev"
    name = "sslh-ev"
    title = "sslh-ev"


class SslhFork(SslhSelect):
    program = "sslh"
    name = "sslh-fork"
    title = "sslh (forks)"
    # It would be a process for each.
    held = False


class Berth(Front):
    """Two workers that both listen on the same port; the daemon starts by itself."""

    name = "berth"
    title = "berth"

    def __init__(self, bench):
        super().__init__(bench)
        self.command = bench.build / "berth"
        self.runtime = None
        self.environment = None

    @classmethod
    def available(cls, build):
        names = ("berth", "berthd", "berth-dispatch")
        return all((build / name).exists() for name in names)

    def version(self):
        return run_text([self.command, "--version"])

    def start(self):
        self.runtime = self.bench.scratch / f"b{free_port()}"
        self.runtime.mkdir(mode=0o700)
        self.environment = {**os.environ, "BERTH_RUNTIME_DIR": str(self.runtime)}
        self.port = free_port()
        launched = [self.run_worker(host) for host in (IDLE, HOST)]
        self.worker_pids = tree(launched[-1].pid)
        if not self.pids():
            raise Failure("berth answers, but no berth-dispatch of this run was found")

    def run_worker(self, host):
        process = self.bench.stable.start(
            [self.command, "run", "--as", host, "--", self.bench.worker, self.port],
            self.bench.log, env=self.environment)
        wait_for(self.port, host, f"berth ({host})", process)
        return process

    def status_pids(self):
        answer = subprocess.run([self.command, "status", "--json"], env=self.environment, text=True,
                                capture_output=True, timeout=5, check=False)
        try:
            status = json.loads(answer.stdout)
        except ValueError:
            return []
        return [value for key, value in status.items()
                if key.endswith("_pid") and isinstance(value, int) and value > 0]

    def own_pids(self):
        """The processes of this runtime folder: it is in their environment, or `berth status`
        names them."""
        mark = b"BERTH_RUNTIME_DIR=" + str(self.runtime).encode()
        found = set(self.status_pids())
        for entry in pathlib.Path("/proc").iterdir():
            try:
                if entry.name.isdigit() and mark in (entry / "environ").read_bytes().split(b"\0"):
                    found.add(int(entry.name))
            except OSError:
                continue
        return {pid: comm(pid) for pid in found}

    def pids(self):
        """Dispatch and the daemon: all that is ours, though the daemon sleeps while we measure."""
        return [pid for pid, name in self.own_pids().items()
                if name in ("berth-dispatch", "berthd")]

    def finish(self):
        if self.runtime:
            stop_pids([pid for pid, name in self.own_pids().items()
                       if name in ("berth-dispatch", "berthd")])


def comm(pid):
    try:
        return pathlib.Path(f"/proc/{pid}/comm").read_text().strip()
    except OSError:
        return ""


def run_text(argv):
    try:
        answer = subprocess.run([str(a) for a in argv], text=True, stdout=subprocess.PIPE,
                                stderr=subprocess.STDOUT, timeout=5, check=False)
    except OSError:
        return "version unknown"
    return answer.stdout.strip()


FRONTS = [Front, Again, Berth, Nginx, Nginx2, Haproxy, Haproxy2, HaproxyTcp, SslhSelect, SslhEv,
          SslhFork]
