"""The catalogue: real programs as Debian ships them. Each knows its command line, writes its own
configuration, and can be asked a question whose answer proves two things: that this very program
answered (its marker), and which client address the program itself saw."""

import dataclasses
import getpass
import os
import pwd
import re
import shutil
import signal
import subprocess
import tempfile
import uuid

import wire_clients
from harness import (as_user, fresh_source, has_ipv6, http_get, group_members, kill_group,
                     user_exists, wait_until)

HERE = os.path.dirname(os.path.abspath(__file__))
APPS = os.path.join(HERE, "apps")
PYTHON = "/usr/bin/python3"
ROOT = os.geteuid() == 0


@dataclasses.dataclass
class Launch:
    """What to start, and where."""

    argv: list
    env: dict = dataclasses.field(default_factory=dict)
    cwd: str = None


@dataclasses.dataclass
class Answer:
    """What came back, what the program saw of the client, and what the client knows of itself."""

    text: str
    saw_address: str = None
    saw_port: int = None
    pid: int = None
    source: tuple = None


@dataclasses.dataclass
class Running:
    """A program that was started, and the way to it."""

    program: object
    proc: object
    target: object
    marker: str
    folder: str
    argv: list
    lead: int = None

    @property
    def pid(self):
        """The process that led the program when this was first asked, or None when it never ran."""
        self.lead = self.lead or self.program.leader(self)
        return self.lead

    def group(self):
        """All its living processes."""
        return self.proc.group() or group_members(self.pid)

    def is_running(self):
        return self.proc.is_running() or self.program.has_left(self)

    def kill(self):
        self.proc.kill()
        if self.pid not in (None, self.proc.pid):
            kill_group(self.pid)

    def ask(self, source=None, path="/", target=None):
        return self.program.ask(self, target or self.target, source, path)

    def answers(self):
        """For polling: whether the program itself answers. Any refusal means not yet."""
        assert self.is_running(), f"{self.program} ended:\n{self.proc.output()}"
        try:
            return self.marker in self.ask().text
        except (OSError, AssertionError, subprocess.SubprocessError):
            return False

    def wait_ready(self, timeout=20):
        wait_until(self.answers, timeout, f"an answer of {self.program} ({self.proc.log})")
        assert self.pid
        return self

    def check(self, source=None, target=None, path="/"):
        """One request from a client address of its own; fails unless the program proves both."""
        source = source or fresh_source()
        answer = self.ask(source, path, target)
        assert self.marker in answer.text, f"somebody else answered: {answer.text!r}"
        assert plain(answer.saw_address) == source, f"it saw {answer.saw_address}, not {source}"
        if answer.saw_port and answer.source:
            assert answer.saw_port == answer.source[1], "it saw another port than the client's"
        return answer


def plain(address):
    """An IPv4 client of a dual-stack program may be written as an IPv4-mapped address."""
    return address and address.removeprefix("::ffff:")


def literal(address):
    return f"[{address}]" if ":" in address else address


def read_number(path):
    """What a pid file says, or None while there is none."""
    try:
        with open(path, encoding="ascii") as f:
            return int(f.read())
    except (FileNotFoundError, ValueError):
        return None


def write(folder, name, text):
    path = os.path.join(folder, name)
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "w", encoding="utf-8") as f:
        f.write(text)
    return path


class Program:
    """Speaks HTTP and writes `MARKER peer=ADDRESS port=PORT [pid=PID]` into the body, unless a
    subclass says otherwise."""

    name = "program"
    address = "127.0.0.1"  # what it listens on
    user = None            # started as this user instead of the caller's
    static = False         # nothing can be preloaded into it
    stop_signal = signal.SIGTERM

    def __str__(self):
        return self.name

    def missing(self):
        """Why it cannot run here at all, or None."""
        return None

    def leader(self, running):
        return running.proc.pid

    def has_left(self, running):
        """Whether the end of the process that we started is no end of the program: it went into the
        background."""
        return False

    def routes(self, host):
        return [host]

    def new_marker(self):
        return f"{self.name}-{uuid.uuid4().hex[:12]}"

    def launch(self, port, folder, address, marker):
        raise NotImplementedError

    def ask(self, running, target, source, path):
        reply = http_get(target, path, source)
        return self.read_answer(reply.headers.get("x-seen", "") + " " + reply.body, reply.source)

    @staticmethod
    def read_answer(text, source):
        def found(key):
            match = re.search(rf"\b{key}=(\S+)", text)
            return match and match[1]

        port, pid = found("port"), found("pid")
        return Answer(text, found("peer"), int(port) if port else None, int(pid) if pid else None,
                      source)


class Script(Program):
    """A small server of ours that an interpreter runs: ADDRESS PORT MARKER and what `more` adds."""

    def __init__(self, name, *argv, address="127.0.0.1", more=()):
        self.name, self.argv, self.address, self.more = name, argv, address, more

    def launch(self, port, folder, address, marker):
        more = [str(m).format(folder=folder) for m in self.more]
        return Launch([*self.argv, address, str(port), marker, *more])


class Logged(Program):
    """Serves a file, and shows the client's address only in the log that is its output."""

    log_line = r"{source}\b"

    def ask(self, running, target, source, path):
        reply = http_get(target, "/marker.txt", source)
        pattern = self.log_line.format(source=re.escape(reply.source[0]), port=reply.source[1])
        seen = running.marker in reply.body and wait_until(
            lambda: re.search(pattern, running.proc.output()), 5, f"{pattern} in the log of {self}")
        return Answer(reply.body, reply.source[0] if seen else None, source=reply.source)


class PythonHttp(Logged):
    name = "python-http"
    log_line = r'(?m)^(?:::ffff:)?{source} - - \[.*"GET /marker\.txt'

    def __init__(self, name="python-http", address="127.0.0.1"):
        self.name, self.address = name, address

    def launch(self, port, folder, address, marker):
        write(folder, "www/marker.txt", marker)
        return Launch([PYTHON, "-u", "-m", "http.server", str(port), "--bind", address, "-d",
                       os.path.join(folder, "www")])

    def missing(self):
        return None if self.address != "::" or has_ipv6() else "this machine has no IPv6"


class Busybox(Logged):
    name = "busybox"
    static = True
    log_line = r"(?:\[::ffff:)?{source}\]?:{port}"

    def launch(self, port, folder, address, marker):
        write(folder, "www/marker.txt", marker)
        return Launch(["/bin/busybox", "httpd", "-f", "-vv", "-p", f"{literal(address)}:{port}",
                       "-h", os.path.join(folder, "www")])


class MuslStatic(Program):
    name = "musl-static"
    static = True

    def launch(self, port, folder, address, marker):
        binary = os.path.join(folder, "server")
        subprocess.run(["musl-gcc", "-static", "-O1", "-o", binary, os.path.join(APPS, "server.c")],
                       check=True, timeout=60)
        return Launch([binary, address, str(port), marker])


class Nginx(Program):
    name = "nginx"
    stop_signal = signal.SIGQUIT

    def __init__(self, name="nginx", listen_option="", daemon=False):
        self.name, self.listen_option, self.daemon = name, listen_option, daemon

    def leader(self, running):
        """In the background the first master leads its own session, whatever becomes of it."""
        if not self.daemon:
            return running.proc.pid
        return read_number(os.path.join(running.folder, "nginx.pid"))

    def has_left(self, running):
        return self.daemon and running.proc.popen.returncode == 0

    def launch(self, port, folder, address, marker):
        temp = "\n".join(f"    {kind}_temp_path {folder}/{kind};"
                         for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi"))
        conf = write(folder, "nginx.conf", f"""daemon {"on" if self.daemon else "off"};
worker_processes 2;
{"user www-data www-data;" if ROOT else ""}
pid {folder}/nginx.pid;
error_log stderr notice;
events {{ worker_connections 256; }}
http {{
{temp}
    access_log off;
    server {{
        listen {literal(address)}:{port} {self.listen_option};
        default_type text/plain;
        location / {{ return 200 "{marker} peer=$remote_addr port=$remote_port pid=$pid\\n"; }}
    }}
}}
""")
        return Launch(["/usr/sbin/nginx", "-e", "stderr", "-p", folder, "-c", conf])


class Apache(Program):
    def __init__(self, mpm):
        self.mpm, self.name = mpm, f"apache-{mpm}"

    def launch(self, port, folder, address, marker):
        write(folder, "www/index.html", marker)
        modules = {f"mpm_{self.mpm}": f"mod_mpm_{self.mpm}", "authz_core": "mod_authz_core",
                   "headers": "mod_headers", "dir": "mod_dir"}
        load = "\n".join(f"LoadModule {name}_module /usr/lib/apache2/modules/{file}.so"
                         for name, file in modules.items())
        conf = write(folder, "httpd.conf", f"""{load}
ServerRoot {folder}
DefaultRuntimeDir {folder}
PidFile {folder}/httpd.pid
ErrorLog /dev/stderr
ServerName localhost
Listen {literal(address)}:{port}
{"User www-data" if ROOT else ""}
{"Group www-data" if ROOT else ""}
StartServers 2
DocumentRoot {folder}/www
DirectoryIndex index.html
<Directory {folder}/www>
    Require all granted
</Directory>
Header always set X-Seen "expr=peer=%{{REMOTE_ADDR}} port=%{{REMOTE_PORT}}"
""")
        return Launch(["/usr/sbin/apache2", "-f", conf, "-DFOREGROUND"])


class Lighttpd(Program):
    """Its access log is written late, so a page with server-side includes tells the address."""

    name = "lighttpd"

    def launch(self, port, folder, address, marker):
        write(folder, "www/index.shtml", f'{marker} peer=<!--#echo var="REMOTE_ADDR"--> '
              'port=<!--#echo var="REMOTE_PORT"-->\n')
        conf = write(folder, "lighttpd.conf", f"""server.document-root = "{folder}/www"
server.bind = "{address}"
server.port = {port}
server.modules = ("mod_ssi")
ssi.extension = (".shtml")
index-file.names = ("index.shtml")
""")
        return Launch(["/usr/sbin/lighttpd", "-D", "-f", conf])


class Haproxy(Program):
    name = "haproxy"

    def launch(self, port, folder, address, marker):
        answer = f"{marker} peer=%[src] port=%[src_port] pid=%pid\\n"
        conf = write(folder, "haproxy.cfg", f"""global
    maxconn 256
defaults
    mode http
    timeout client 20s
    timeout server 20s
    timeout connect 5s
frontend all
    bind {address}:{port}
    http-request return status 200 content-type text/plain lf-string "{answer}"
""")
        return Launch(["/usr/sbin/haproxy", "-db", "-f", conf])


class Redis(Program):
    name = "redis"

    def routes(self, host):
        return ["redis://"]

    def launch(self, port, folder, address, marker):
        return Launch(["/usr/bin/redis-server", "--port", str(port), "--bind", address, "--dir",
                       folder, "--save", "", "--daemonize", "no", "--protected-mode", "no",
                       "--pidfile", os.path.join(folder, marker)])

    def ask(self, running, target, source, path):
        text, own = wire_clients.redis_ask(target, source)
        peer = re.search(r"\baddr=(\S+):(\d+)", text)
        assert peer, f"this is no answer of redis: {text[:200]!r}"
        return Answer(text, peer[1], int(peer[2]), running.pid, own)


class Postgresql(Program):
    name = "postgresql"
    user = "postgres" if ROOT and user_exists("postgres") else None
    stop_signal = signal.SIGINT  # "fast shutdown": does not wait for clients
    _template = None

    @staticmethod
    def _binary(name):
        versions = sorted(os.listdir("/usr/lib/postgresql"), key=int)
        return f"/usr/lib/postgresql/{versions[-1]}/bin/{name}"

    def missing(self):
        return None if not ROOT or user_exists("postgres") else "there is no user postgres"

    def _cluster(self, folder):
        """initdb takes a second, so that it is done once and copied."""
        cls = type(self)
        if cls._template is None:
            parent = tempfile.mkdtemp(prefix="pg", dir="/tmp")
            if self.user:
                shutil.chown(parent, self.user)
            cls._template = os.path.join(parent, "data")
            initdb = [self._binary("initdb"), "-D", cls._template, "-A", "trust", "-U", "postgres",
                      "--no-sync", "-E", "UTF8", "--locale=C"]
            subprocess.run(as_user(self.user, initdb), check=True, stdout=subprocess.DEVNULL,
                           cwd="/", timeout=60)
            with open(f"{cls._template}/pg_hba.conf", "a", encoding="ascii") as f:
                f.write("host all all 127.0.0.0/8 trust\n")
        data = os.path.join(folder, "data")
        subprocess.run(["cp", "-a", cls._template, data], check=True, timeout=60)
        return data

    @classmethod
    def forget_template(cls):
        if cls._template:
            shutil.rmtree(os.path.dirname(cls._template), ignore_errors=True)
            cls._template = None

    def routes(self, host):
        return ["postgres://"]

    def launch(self, port, folder, address, marker):
        settings = ["cluster_name=" + marker, "fsync=off", "unix_socket_directories=",
                    "shared_buffers=4MB", "max_connections=20"]
        return Launch([self._binary("postgres"), "-D", self._cluster(folder), "-h", address, "-p",
                       str(port), *(word for s in settings for word in ("-c", s))], cwd="/")

    def ask(self, running, target, source, path):
        text, own = wire_clients.postgres_ask(target, source)
        return self.read_answer(text, own)


class Sshd(Program):
    """A login with a generated key; the marker is set by the server, which is known by its key."""

    name = "sshd"

    def missing(self):
        shell = pwd.getpwuid(os.geteuid()).pw_shell
        locked = os.path.basename(shell) in ("nologin", "false")
        return "this account may not log in" if locked else None

    def routes(self, host):
        return ["ssh://"]

    def launch(self, port, folder, address, marker):
        if ROOT:
            os.makedirs("/run/sshd", mode=0o755, exist_ok=True)
        for key in ("host", "id"):
            subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", f"{folder}/{key}"],
                           check=True, timeout=20)
        with open(f"{folder}/host.pub", encoding="ascii") as f:
            write(folder, "known", f"e2e {f.read()}")
        conf = write(folder, "sshd_config", f"""ListenAddress {literal(address)}:{port}
AuthorizedKeysFile {folder}/id.pub
PermitRootLogin prohibit-password
PasswordAuthentication no
KbdInteractiveAuthentication no
UsePAM no
UseDNS no
StrictModes no
PidFile none
SetEnv E2E_MARKER={marker}
""")
        return Launch(["/usr/sbin/sshd", "-D", "-e", "-f", conf, "-h", f"{folder}/host"])

    def ask(self, running, target, source, path):
        options = ("BatchMode=yes", "StrictHostKeyChecking=yes", "HostKeyAlias=e2e",
                   "LogLevel=ERROR", "IdentitiesOnly=yes", "ConnectTimeout=10",
                   f"UserKnownHostsFile={running.folder}/known")
        argv = ["ssh", "-F", "none", "-p", str(target.port), "-i", f"{running.folder}/id",
                *(word for o in options for word in ("-o", o)),
                *(("-b", source) if source else ()), f"{getpass.getuser()}@{target.address}",
                'set -- $SSH_CONNECTION; echo "$E2E_MARKER peer=$1 port=$2 pid=$$"']
        done = subprocess.run(argv, capture_output=True, text=True, timeout=20, check=False,
                              stdin=subprocess.DEVNULL)
        assert done.returncode == 0, f"ssh failed: {done.stderr}"
        return self.read_answer(done.stdout, None)


class Gunicorn(Program):
    def __init__(self, worker_class):
        self.worker_class, self.name = worker_class, f"gunicorn-{worker_class}"

    def launch(self, port, folder, address, marker):
        threads = ["--threads", "2"] if self.worker_class == "gthread" else []
        argv = ["/usr/bin/gunicorn", "-w", "2", "-k", self.worker_class, *threads,
                "-b", f"{literal(address)}:{port}", "--graceful-timeout", "3",
                "--pythonpath", APPS, "wsgi_app:application"]
        env = {"E2E_MARKER": marker, "E2E_RELEASE": os.path.join(folder, "release")}
        return Launch(argv, env, folder)


class Php(Program):
    name = "php"

    def launch(self, port, folder, address, marker):
        return Launch(["/usr/bin/php", "-S", f"{literal(address)}:{port}",
                       os.path.join(APPS, "router.php")], {"E2E_MARKER": marker}, folder)


class Tls(Script):
    """Reached by TLS only; its certificate is of no authority and the client does not care."""

    def __init__(self):
        super().__init__("python-tls", PYTHON, os.path.join(APPS, "tls_server.py"),
                         more=("{folder}/cert.pem", "{folder}/key.pem"))

    def launch(self, port, folder, address, marker):
        subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt",
                        "ec_paramgen_curve:P-256", "-nodes", "-days", "2", "-subj", "/CN=e2e",
                        "-keyout", f"{folder}/key.pem", "-out", f"{folder}/cert.pem"],
                       check=True, capture_output=True, timeout=20)
        return super().launch(port, folder, address, marker)

    def ask(self, running, target, source, path):
        text, own = wire_clients.tls_ask(target, source)
        return self.read_answer(text, own)


def app(name):
    return os.path.join(APPS, name)


def gate(mode):
    """A program that holds back until the file `gate` in its folder exists: see apps/gate.py."""
    return Script(f"gate-{mode}", PYTHON, app("gate.py"), more=("{folder}/gate", mode))


PYTHON_HTTP = PythonHttp()
PYTHON_HTTP_DUAL = PythonHttp("python-http-dual", "::")
ASYNCIO = Script("asyncio", PYTHON, app("asyncio_server.py"))
NODE = Script("node", "/usr/bin/node", app("server.js"))
NODE_CLUSTER = Script("node-cluster", "/usr/bin/node", app("cluster.js"))
NGINX = Nginx()
NGINX_REUSEPORT = Nginx("nginx-reuseport", "reuseport")
NGINX_DAEMON = Nginx("nginx-daemon", daemon=True)
NGINX_DAEMON_REUSEPORT = Nginx("nginx-daemon-reuseport", "reuseport", daemon=True)
APACHE_PREFORK = Apache("prefork")
APACHE_EVENT = Apache("event")
LIGHTTPD = Lighttpd()
HAPROXY = Haproxy()
REDIS = Redis()
POSTGRESQL = Postgresql()
SSHD = Sshd()
GUNICORN_SYNC = Gunicorn("sync")
GUNICORN_GTHREAD = Gunicorn("gthread")
PHP = Php()
WEBRICK = Script("webrick", "/usr/bin/ruby", app("webrick.rb"))
JAVA = Script("java", "/usr/bin/java", "-XX:TieredStopAtLevel=1", app("Server.java"))
TLS = Tls()
BUSYBOX = Busybox()
MUSL_STATIC = MuslStatic()
RECORDER = Script("recorder", PYTHON, app("recorder.py"))
OPTIONS = Script("options", PYTHON, app("options.py"))

DYNAMIC = [PYTHON_HTTP, PYTHON_HTTP_DUAL, ASYNCIO, NODE, NODE_CLUSTER, NGINX, NGINX_REUSEPORT,
           APACHE_PREFORK, APACHE_EVENT, LIGHTTPD, HAPROXY, REDIS, POSTGRESQL, SSHD, GUNICORN_SYNC,
           GUNICORN_GTHREAD, PHP, WEBRICK, JAVA, TLS, OPTIONS]
STATIC = [BUSYBOX, MUSL_STATIC]
