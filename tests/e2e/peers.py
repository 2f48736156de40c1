"""Peers: identities with a berth-peer and a berthd of their own, a rendezvous server, and, for root,
network namespaces in which they reach the server but each other only when they are let."""

import contextlib
import itertools
import json
import os
import re
import shutil
import subprocess
import tempfile

import pytest

from harness import Proc, free_port, wait_until


def run(argv, **options):
    return subprocess.run(argv, check=True, capture_output=True, text=True, timeout=20, **options)


class Namespace:
    """A network namespace that lives as long as its process sleeps."""

    def __init__(self):
        self.popen = subprocess.Popen(["unshare", "-n", "sleep", "300"], stdin=subprocess.DEVNULL)
        own = os.readlink("/proc/self/ns/net")
        wait_until(lambda: os.readlink(f"/proc/{self.popen.pid}/ns/net") != own, 10, "a namespace")
        self.run("ip", "link", "set", "lo", "up")

    def wrap(self, argv):
        return ["nsenter", f"--net=/proc/{self.popen.pid}/ns/net", *argv]

    def run(self, *argv):
        return run(self.wrap(argv)).stdout

    def close(self):
        self.popen.kill()
        self.popen.wait(10)


class Network:
    """A middle with the server, and hosts around it, each in a subnet of its own. The middle routes
    between them only after forward(True). With `bridge` they are all on one network, whose hosts
    hear each other's multicast."""

    def __init__(self, bridge=False):
        self.middle = Namespace()
        self.hosts = []
        self.bridge = bridge
        if bridge:
            self.middle.run("ip", "link", "add", "lan", "type", "bridge")
            self.middle.run("ip", "address", "add", "10.77.1.1/24", "dev", "lan")
            self.middle.run("ip", "link", "set", "lan", "up")

    def host(self):
        n = len(self.hosts) + 1
        host = Namespace()
        self.hosts.append(host)
        self.middle.run("ip", "link", "add", f"h{n}", "type", "veth", "peer", "name", "wan", "netns",
                        str(host.popen.pid))
        if self.bridge:
            self.middle.run("ip", "link", "set", f"h{n}", "master", "lan")
            address, router = f"10.77.1.{n + 1}", "10.77.1.1"
        else:
            self.middle.run("ip", "address", "add", f"10.77.{n}.1/24", "dev", f"h{n}")
            address, router = f"10.77.{n}.2", f"10.77.{n}.1"
        self.middle.run("ip", "link", "set", f"h{n}", "up")
        host.run("ip", "address", "add", f"{address}/24", "dev", "wan")
        host.run("ip", "link", "set", "wan", "up")
        host.run("ip", "route", "add", "default", "via", router)
        return host

    def forward(self, on):
        self.middle.run("sysctl", "-q", "-w", f"net.ipv4.ip_forward={int(on)}")

    def close(self):
        for namespace in [*self.hosts, self.middle]:
            namespace.close()


class Peer:
    """Somebody with a key, a home folder and daemons of their own."""

    def __init__(self, world, name, namespace=None):
        self.world, self.name, self.namespace = world, name, namespace
        self.home = world.make_folder()
        self.runtime = os.path.join(self.home, "r")
        os.mkdir(self.runtime, 0o700)
        self.env = {k: v for k, v in os.environ.items() if not k.startswith(("BERTH_", "XDG_"))}
        self.env.update(HOME=self.home, BERTH_RUNTIME_DIR=self.runtime,
                        BERTH_RENDEZVOUS=world.server_address,
                        PATH=f"{world.build}:{os.environ['PATH']}")
        self.daemons = {}
        self.key = self.good("key", "new").strip()

    def wrap(self, argv):
        return self.namespace.wrap(argv) if self.namespace else list(argv)

    def berth(self, *args, **options):
        return subprocess.run(self.wrap([os.path.join(self.world.build, "berth"), *map(str, args)]),
                              capture_output=True, timeout=options.pop("timeout", 40), check=False,
                              env=self.env, cwd="/", **options)

    def good(self, *args, **options):
        done = self.berth(*args, **options)
        assert done.returncode == 0, done.stderr.decode()
        return done.stdout.decode()

    def refused(self, *args, status=1, **options):
        options.setdefault("stdin", subprocess.DEVNULL)
        done = self.berth(*args, **options)
        assert done.returncode == status, (done.returncode, done.stdout, done.stderr)
        return done.stderr.decode()

    def start(self, *programs, options=()):
        """berth-peer, or whatever else is named, in the foreground."""
        for program in programs or ("berth-peer",):
            number = next(self.world.count)
            log = os.path.join(self.home, f"{program}-{number}.log")
            argv = [os.path.join(self.world.build, program), "--log", "debug", *options]
            proc = Proc(self.wrap(argv), log, self.env, "/")
            self.daemons[program] = proc
            socket = os.path.join(self.runtime, "peer" if program == "berth-peer" else "control")

            def ready(proc=proc, socket=socket):
                assert proc.is_running(), proc.output()
                return "ready" in proc.output() and os.path.exists(socket)

            wait_until(ready, 15, f"{program} of {self.name}")
        return self

    def kill(self, program="berth-peer"):
        self.daemons.pop(program).kill()

    def run(self, argv, **options):
        """Another program of this peer's, in the background."""
        log = os.path.join(self.home, f"{os.path.basename(argv[0])}-{next(self.world.count)}.log")
        proc = Proc(self.wrap(argv), log, {**self.env, **options.get("env", {})}, self.home)
        self.world.ends.append(lambda: proc.is_running() and proc.kill())
        return proc

    def command(self, argv, **options):
        return subprocess.run(self.wrap(argv), capture_output=True, env=self.env, check=False,
                              timeout=options.pop("timeout", 40), cwd=self.home, **options)

    def dialling(self, target, *options):
        """`berth dial` with pipes."""
        popen = subprocess.Popen(
            self.wrap([os.path.join(self.world.build, "berth"), "dial", *options, target]),
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=self.env)
        self.world.ends.append(lambda: (popen.poll() is None and popen.kill(), popen.wait(10)))
        return popen

    def forwarding(self, *args):
        """`berth forward` in the foreground: its process, and the addresses by target."""
        proc = self.run([os.path.join(self.world.build, "berth"), "forward", *map(str, args)])

        def lines():
            assert proc.is_running(), proc.output()
            return re.findall(r"^(\d\S+:\d+)\s+(?:-> )?(\S+)$", proc.output(), re.MULTILINE)

        found = wait_until(lines, 20, "a forward")
        return proc, {target: address for address, target in found}

    def peers(self):
        return {p["name"] or p["key"]: p for p in json.loads(self.good("peers", "--json"))["peers"]}

    def path(self, name):
        return self.peers().get(name, {}).get("session", {}).get("path")

    def publish(self, service, to=None, *options):
        where = ["--to", to] if to else []
        return self.good("publish", service, *where, *options)

    def close(self):
        for program in list(self.daemons):
            if program == "berthd" and self.daemons[program].is_running():
                self.berth("stop")
            self.kill(program)


def started(peer, program, address="127.0.0.1"):
    """An unmodified program of the peer's: its launch, port and process."""
    if program.missing():
        pytest.skip(program.missing())
    folder = os.path.join(peer.home, str(program))
    os.makedirs(folder, exist_ok=True)
    port = free_port()
    launch = program.launch(port, folder, address, program.new_marker())
    argv = launch.argv
    if program.user:
        subprocess.run(["chown", "-R", program.user, folder], check=True, timeout=20)
        for path in (peer.world.folder, peer.home):
            os.chmod(path, 0o755)
        argv = ["runuser", "-u", program.user, "--", *argv]
    proc = peer.run(argv, env=launch.env)

    def answers():
        assert proc.is_running(), proc.output()
        return peer.command(["/usr/bin/python3", "-c",
                             f"import socket; socket.create_connection(('{address}', {port}), 1)"],
                            timeout=20).returncode == 0

    wait_until(answers, 20, f"{program} listening")
    return launch, port, folder


class Server:
    def __init__(self, world, address, namespace=None, *, port=0, options=()):
        self.world, self.address, self.namespace = world, address, namespace
        self.state = world.make_folder()
        self.port, self.options, self.proc = port, options, None
        self.start()

    def start(self, *options):
        argv = [os.path.join(self.world.build, "berth-rendezvous"), "--listen",
                f"{self.address}:{self.port}", "--state", self.state, "--log", "debug",
                *self.options, *options]
        log = os.path.join(self.state, "..", f"rendezvous-{next(self.world.count)}.log")
        self.proc = Proc(self.namespace.wrap(argv) if self.namespace else argv, log)

        def listens():
            assert self.proc.is_running(), self.proc.output()
            return re.search(r"listening addr=\S+:(\d+)", self.proc.output())

        self.port = int(wait_until(listens, 15, "a rendezvous server")[1])

    def kill(self):
        self.proc.kill()


class World:
    """On loopback, or with `network` in namespaces."""

    def __init__(self, build, network=False, bridge=False):
        self.build = build
        self.folder = tempfile.mkdtemp(prefix="p", dir="/tmp")
        os.chmod(self.folder, 0o755)
        self.ends, self.count, self.all = [], itertools.count(), []
        self.network = Network(bridge) if network or bridge else None
        middle = self.network.middle if self.network else None
        self.server_address = ""
        self.server = Server(self, "0.0.0.0" if self.network else "127.0.0.1", middle)
        host = "10.77.1.1" if self.network else "127.0.0.1"
        self.server_address = f"{host}:{self.server.port}"

    def make_folder(self):
        path = os.path.join(self.folder, str(next(self.count)))
        os.mkdir(path)
        return path

    def peer(self, name, claim=True):
        peer = Peer(self, name, self.network.host() if self.network else None)
        self.all.append(peer)
        if claim:
            peer.good("name", "claim", name)
        return peer

    def close(self):
        with contextlib.ExitStack() as stack:
            stack.callback(shutil.rmtree, self.folder, ignore_errors=True)
            if self.network:
                stack.callback(self.network.close)
            stack.callback(self.server.kill)
            for peer in self.all:
                stack.callback(peer.close)
            for end in self.ends:
                stack.callback(end)

    def report(self):
        for peer in self.all:
            for program, proc in peer.daemons.items():
                yield f"{program} of {peer.name}", proc.output()[-5000:]
        yield "rendezvous server", self.server.proc.output()[-3000:]
