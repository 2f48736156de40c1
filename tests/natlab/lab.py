#!/usr/bin/python3
"""A laboratory of NATs in network namespaces: a server on a public net and two peers, each behind a
NAT of any kind. As a library:

    with Lab("apdf", "sym", delay_ms=20, loss=0.05) as lab:
        lab.server.popen(["turnserver", ...])
        lab.a.run(["turnutils_natdiscovery", "-m", "-f", lab.server_addresses[0]])

and as a command: `lab.py up A B`, `list`, `down`, `kinds`, `verify`.

    host a - NAT - access a -+                  +- access b - NAT - host b
                             +- core - server   |
                             +------------------+

Everything public is routed, so a packet with TTL 2 or 3 passes its own NAT and dies before the other.
Names hold the pid, so labs stand side by side. Without root the lab builds a user namespace round the
process (kinds without unat, no delay)."""

import argparse
import atexit
import ctypes
import os
import pathlib
import signal
import socket
import subprocess
import sys
import threading

import rules
from standing import (NETNS, PREFIX, LabError, ip_batch, labs, owner_is_alive, pids_in,
                      remove)

ROOT = pathlib.Path(__file__).resolve().parents[2]
LIBC = ctypes.CDLL(None, use_errno=True)
CLONE_NEWNS, CLONE_NEWUSER, CLONE_NEWNET = 0x00020000, 0x10000000, 0x40000000
HOST, SECOND = 2, 3  # the last byte of a host's address on its LAN

_count = 0


def unat_program():
    """Where the build put the user-space NAT."""
    build = pathlib.Path(os.environ.get("BERTH_BUILD", ROOT / "build"))
    program = build / "tests" / "natlab" / "unat"
    if not program.exists():
        raise LabError(f"{program} is not built")
    return str(program)


def _check(result, what):
    if result != 0:
        error = ctypes.get_errno()
        raise LabError(f"{what}: {os.strerror(error)}")


def enter_user_namespace():
    """Makes this process root of namespaces of its own. For a process with one thread, once."""
    uid, gid = os.geteuid(), os.getegid()
    _check(LIBC.unshare(CLONE_NEWUSER | CLONE_NEWNS | CLONE_NEWNET), "user namespace")
    for name, text in (("setgroups", "deny"), ("uid_map", f"0 {uid} 1"), ("gid_map", f"0 {gid} 1")):
        pathlib.Path("/proc/self", name).write_text(text, encoding="ascii")
    _check(LIBC.mount(b"tmpfs", b"/run", b"tmpfs", 0, None), "a /run of its own")


def can_use_tun():
    """Whether delay and the kinds with unat can be had."""
    return os.access("/dev/net/tun", os.R_OK | os.W_OK)


class Namespace:
    """One machine of the lab. What it is to be is collected first and done at once by commit()."""

    def __init__(self, lab, role):
        self.lab, self.role = lab, role
        self.name = f"{lab.name}-{role}"
        self.path = NETNS / self.name
        self._ip, self._ip6, self._write, self._nft = [], [], [], ""

    def command(self, argv):
        """The words that run argv here."""
        return ["nsenter", f"--net={self.path}", "--", *map(str, argv)]

    def run(self, argv, **kw):
        """As subprocess.run()."""
        return subprocess.run(self.command(argv), check=kw.pop("check", True), **kw)

    def output(self, argv, **kw):
        """What argv prints, errors with it."""
        return self.run(argv, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, **kw).stdout

    def popen(self, argv, **kw):
        """As subprocess.Popen(); ended with the lab at the latest."""
        process = subprocess.Popen(self.command(argv), start_new_session=True, **kw)
        self.lab.processes.append(process)
        return process

    def socket(self, family=socket.AF_INET, kind=socket.SOCK_DGRAM, protocol=0):
        """A socket of this process, that is in this namespace for good."""
        made = []

        def make():
            with open(self.path, "rb") as f:
                _check(LIBC.setns(f.fileno(), CLONE_NEWNET), f"enter {self.name}")
            made.append(socket.socket(family, kind, protocol))
        thread = threading.Thread(target=make)
        thread.start()
        thread.join()
        if not made:
            raise LabError(f"no socket in {self.name}")
        return made[0]

    def ip(self, *lines):
        self._ip += lines

    def ip6(self, *lines):
        """For what `ip` takes for IPv4 unless told."""
        self._ip6 += lines

    def set(self, path, value):
        self._write.append((path, value))

    def rules(self, text):
        self._nft += text

    def _script(self):
        yield "set -eu"
        for path, value in self._write:
            yield f'for f in /proc/sys/net/{path}; do echo {value} > "$f"; done'
        yield from ("ip -batch - <<'END'", *self._ip, "END")
        yield from ("ip -6 -batch - <<'END'", *self._ip6, "END") if self._ip6 else ()
        if self._nft:
            yield from ("nft -f - <<'END'", self._nft, "END")

    def commit(self):
        """Starts to do what was collected; returns the process, which says what went wrong."""
        script = "\n".join(self._script())
        self._ip, self._ip6, self._write, self._nft = [], [], [], ""
        return subprocess.Popen(self.command(["sh", "-c", script]), stdin=subprocess.DEVNULL,
                                stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


class Host(Namespace):
    """A peer. `address` is its own; `outside` the public address that its NAT shows, if it is known."""

    def __init__(self, lab, side):
        super().__init__(lab, f"h{side}")
        self.side = side
        self.network = 0
        self.nats, self.unats = [], []  # from the inside to the outside
        self.kind, self.address, self.address6, self.outside = "", "", "", ""

    def flush_nat(self):
        """The NATs forget every mapping, as after a restart of the router."""
        for nat in self.nats:
            # The maps first: what passes meanwhile would come back from them.
            for name in ("out", "back"):
                nat.run(["nft", "flush", "map", "ip", "nat", name], check=False, stderr=subprocess.DEVNULL)
            nat.run(["conntrack", "-F"], stderr=subprocess.DEVNULL)
        for process in self.unats:
            os.kill(process.pid, signal.SIGUSR1)

    def switch_network(self, kind=None):
        """Leaves its network and comes up in another one, behind another NAT (of the same kind unless
        said): the interface goes, a new one comes, with another address."""
        self.lab.move(self, kind or self.kind)


class Lab:
    """See the module. delay_ms is one way, over each peer's access line: peer and server are 2 * delay_ms
    apart, the peers 4 * delay_ms. loss is the share of packets that each line loses, in each direction.
    Both may be a pair, for a and b. b may be "same" (in the LAN of a) or "samecgn" (behind a's carrier).
    hairpin (or a kind with "+hp") makes a's outermost NAT turn packets round to its inside."""

    def __init__(self, a="pub", b="pub", **options):
        global _count
        _count += 1
        self.kinds = {"a": a.removesuffix("+hp"), "b": b}
        self.hairpin = options.pop("hairpin", False) or a.endswith("+hp")
        self.delay_ms = self._pair(options.pop("delay_ms", 0))
        self.jitter_ms = self._pair(options.pop("jitter_ms", 0))
        self.loss = self._pair(options.pop("loss", 0))
        self.ipv6 = options.pop("ipv6", "v6fw" in (a, b))
        self.name = options.pop("name", None) or f"{PREFIX}{os.getpid()}.{_count}"
        if options:
            raise TypeError(f"unknown options: {', '.join(options)}")
        self.namespaces, self.processes = {}, []
        self.server_addresses = ["11.0.0.1", "11.0.0.2", "11.0.0.3"]
        self.server_addresses6 = [f"2a00:b::{i}" for i in (1, 2, 3)] if self.ipv6 else []
        self.server = self.a = self.b = None

    @staticmethod
    def _pair(value):
        a, b = value if isinstance(value, (tuple, list)) else (value, value)
        return {"a": a, "b": b}

    # Building

    def __enter__(self):
        _catch_sigterm()
        if os.geteuid() != 0:
            enter_user_namespace()
        atexit.register(self.close)
        try:
            self._check_kinds()
            self._build()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *error):
        self.close()

    def _check_kinds(self):
        for side, kind in self.kinds.items():
            if kind not in rules.KINDS and not kind.startswith("u:") and \
                    not (side == "b" and kind in ("same", "samecgn")):
                raise LabError(f"no such kind of NAT: {kind}")
        if self.kinds["b"] == "samecgn" and self.kinds["a"] not in ("cgn", "cgnsym"):
            raise LabError("samecgn needs a kind with a carrier's NAT for a")
        if self.kinds["b"] == "same" and self.kinds["a"] == "pub":
            raise LabError("same needs a NAT for a")
        wanted = [k for k in self.kinds.values() if k in rules.UNAT or k.startswith("u:")]
        if (wanted or any(self.delay_ms.values())) and not can_use_tun():
            raise LabError("delay and the kinds cgn, cgnsym and u: need /dev/net/tun, and so root")

    def _add(self, role, cls=Namespace):
        """A namespace with forwarding; hosts have none."""
        ns = cls(self, role)
        self.namespaces[ns.role] = ns
        ip_batch(f"netns add {ns.name}")
        ns.ip("link set lo up")
        off = "0" if self.ipv6 else "1"
        # Without its link-local address a router asks for no neighbour, and duplicate detection takes a second.
        for name, value in (("disable_ipv6", off), ("accept_dad", "0")):
            ns.set(f"ipv6/conf/*/{name}", value)
        ns.set("ipv4/conf/*/rp_filter", "0")
        if cls is not Host:
            ns.set("ipv4/ip_forward", "1")
            ns.set("ipv6/conf/all/forwarding", "1")
            ns.set("ipv4/conf/*/send_redirects", "0")
        return ns

    @staticmethod
    def _link(one, name_one, two, name_two):
        ip_batch(f"link add name {name_one} netns {one.name} type veth peer name {name_two} netns {two.name}")
        one.ip(f"link set dev {name_one} up")
        two.ip(f"link set dev {name_two} up")

    def _commit(self, *namespaces):
        jobs = [(ns, ns.commit()) for ns in namespaces]
        said = [(ns, job.communicate()[0].strip(), job.returncode) for ns, job in jobs]
        for ns, text, status in said:
            if status != 0:
                raise LabError(f"{ns.name}: {text}")

    def _address(self, ns, dev, v4, v6=None):
        ns.ip(f"addr add {v4} dev {dev}")
        if v6 and self.ipv6:
            ns.ip(f"addr add {v6} dev {dev} nodad")

    def _route(self, ns, to, via, to6=None, via6=None):
        ns.ip(f"route add {to} via {via}")
        if via6 and self.ipv6:
            ns.ip(f"route add {to6 or to} via {via6}")

    def _build(self):
        core, self.server = self._add("core"), self._add("srv")
        self._link(core, "srv", self.server, "eth0")
        self._address(core, "srv", "11.0.0.254/24", "2a00:b::fe/64")
        for i, v4 in enumerate(self.server_addresses):
            self._address(self.server, "eth0", f"{v4}/24", f"2a00:b::{i + 1}/64")
        self._route(self.server, "default", "11.0.0.254", "::/0", "2a00:b::fe")
        # What has no way vanishes here, as on the Internet; an ICMP error would end a TURN allocation.
        core.ip("route add blackhole default")
        self.a, self.b = self._add("a", Host), self._add("b", Host)
        self._access("a")
        self._access("b")
        self._join(self.a, self.kinds["a"])
        if self.kinds["b"] == "same":
            self._host_lan(self.b, self.a.nats[0], self._lan(self.a), SECOND)
            self.b.nats, self.b.unats = self.a.nats, self.a.unats
            self.b.outside, self.b.kind = self.a.outside, self.a.kind
        elif self.kinds["b"] == "samecgn":
            self._same_carrier()
        else:
            self._join(self.b, self.kinds["b"])
        self._commit(*self.namespaces.values())

    def _access(self, side):
        """The provider's router of one side, with the delay and the loss of the line."""
        k = "ab".index(side) + 1
        ns = self._add(f"i{side}")
        core = self.namespaces["core"]
        self._link(core, f"to-{side}", ns, "up")
        self._address(core, f"to-{side}", f"11.255.{k}.1/24", f"2a00:b:ff:{k}::1/64")
        self._address(ns, "up", f"11.255.{k}.2/24", f"2a00:b:ff:{k}::2/64")
        self._route(core, f"11.{k}.0.0/16", f"11.255.{k}.2", f"2a00:b:{k}::/48", f"2a00:b:ff:{k}::2")
        self._route(ns, "default", f"11.255.{k}.1", "::/0", f"2a00:b:ff:{k}::1")
        ns.rules(rules.access(self.loss[side]))
        if not self.delay_ms[side] and not self.jitter_ms[side]:
            return
        self._unat(ns, {"mode": "wire", "dev": "wup", "back": "wdown",
                        "delay_us": round(self.delay_ms[side] * 1000),
                        "jitter_us": round(self.jitter_ms[side] * 1000)})
        for dev, table in (("wup", 100), ("wdown", 101)):
            ns.ip(f"link set {dev} up txqueuelen 20000", f"route add default dev {dev} table {table}")
            if self.ipv6:
                ns.ip(f"route add ::/0 dev {dev} table {table}")
        self._rule(ns, "up", 101)

    def _rule(self, ns, dev, table):
        rule = f"rule add iif {dev} pref {table} lookup {table}"
        ns.ip(rule)
        if self.ipv6:
            ns.ip6(rule)

    def _unat(self, ns, words):
        process = ns.popen([unat_program(), *(f"{k}={v}" for k, v in words.items())],
                           stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        if process.stdout.readline() != "ready\n":
            raise LabError(f"unat: {process.stderr.read().strip()}")
        return process

    # The networks of a side. `n` counts them: the second is where a host roams to.

    @staticmethod
    def _number(host):
        return "ab".index(host.side) + 1, host.network

    def _lan(self, host):
        k, n = self._number(host)
        return f"10.{16 * k + n}.0", f"2a00:b:{k}:{n}:"

    def _carrier(self, host):
        k, n = self._number(host)
        return f"100.{64 + 8 * k + n}.0"

    def _wire_to_access(self, host, ns, dev):
        """A line from ns to the side's provider; returns the public addresses of ns there."""
        k, n = self._number(host)
        access = self.namespaces[f"i{host.side}"]
        self._link(access, f"p{n}", ns, dev)
        self._address(access, f"p{n}", f"11.{k}.{n}.254/24", f"2a00:b:{k}:{n + 256}::fe/64")
        if self.delay_ms[host.side] or self.jitter_ms[host.side]:
            self._rule(access, f"p{n}", 100)
        return f"11.{k}.{n}", f"2a00:b:{k}:{n + 256}:"

    def _uplink(self, host, ns, dev, through_unat=False):
        """The public end of a side. With unat the public address is not the kernel's, but routed to it."""
        net, net6 = self._wire_to_access(host, ns, dev)
        own = f"{net}.11" if through_unat else f"{net}.10"
        self._address(ns, dev, f"{own}/24", f"{net6}:10/64")
        self._route(ns, "default", f"{net}.254", "::/0", f"{net6}:fe")
        if through_unat:
            self._route(self.namespaces[f"i{host.side}"], f"{net}.10/32", own)
        host.outside = f"{net}.10"
        return net6

    def _join(self, host, kind):
        host.kind, host.nats, host.unats = kind, [], []
        suffix = f"{host.side}{host.network or ''}"
        if kind == "pub":
            net6 = self._uplink(host, host, "eth0")
            host.address, host.address6 = host.outside, f"{net6}:10" if self.ipv6 else ""
            return
        home = self._add(f"r{suffix}")
        host.nats.append(home)
        if kind in rules.UNAT:
            carrier = self._add(f"c{suffix}")
            host.nats.append(carrier)
            self._carrier_nat(host, carrier, kind)
            self._home_behind_carrier(host, home, carrier, 2)
            return
        unat = kind.startswith("u:")
        net6 = self._uplink(host, home, "wan", unat)
        lan, lan6 = self._lan(host)
        if self.ipv6:
            self.namespaces[f"i{host.side}"].ip(f"route add {lan6}:/64 via {net6}:10")
        self._lan_side(home, lan, lan6)
        self._host_lan(host, home, (lan, lan6), HOST)
        if unat:
            self._unat_router(host, home, lan, dict(w.split("=", 1) for w in kind[2:].split(",")))
        else:
            home.rules(rules.nft(rules.Router(kind, host.outside, f"{lan}.0/24", self._turns(host))))

    def _turns(self, host):
        return self.hairpin and host.side == "a"

    def _lan_side(self, ns, lan, lan6=None):
        ns.ip("link add lan type bridge", "link set lan up")
        self._address(ns, "lan", f"{lan}.1/24", f"{lan6}:1/64" if lan6 else None)

    def _plug(self, router, ns, dev, where):
        """A cable from ns to the router's LAN."""
        port = f"l-{ns.role}"
        self._link(router, port, ns, dev)
        router.ip(f"link set {port} master lan")
        lan, last = where
        ns.ip(f"addr add {lan}.{last}/24 dev {dev}", f"route add default via {lan}.1")

    def _host_lan(self, host, router, lans, last):
        lan, lan6 = lans
        self._plug(router, host, "eth0", (lan, last))
        host.address, host.address6 = f"{lan}.{last}", ""
        if self.ipv6 and lan6:
            host.address6 = f"{lan6}:{last}"
            host.ip(f"addr add {host.address6}/64 dev eth0 nodad", f"route add ::/0 via {lan6}:1")

    def _unat_router(self, host, ns, inside, words):
        words = {"hairpin": int(self._turns(host)), **words}
        host.unats.append(self._unat(ns, {"outside": host.outside, "inside": f"{inside}.0", **words}))
        ns.ip("link set nat0 up txqueuelen 20000", f"route add {host.outside}/32 dev nat0",
              "rule add iif lan pref 100 lookup 100", "route add default dev nat0 table 100")

    def _carrier_nat(self, host, carrier, kind):
        self._uplink(host, carrier, "wan", through_unat=True)
        inside = self._carrier(host)
        self._lan_side(carrier, inside)
        k, n = self._number(host)
        words = {**rules.UNAT[kind], "first": 512 * (20 * k + 7 * n + 11)}
        self._unat_router(host, carrier, inside, words)

    def _home_behind_carrier(self, host, home, carrier, last):
        lan, _ = self._lan(host)
        inside = self._carrier(self.a if last == SECOND else host)
        self._plug(carrier, home, "wan", (inside, last))
        self._lan_side(home, lan)
        self._host_lan(host, home, (lan, None), HOST)
        home.rules(rules.nft(rules.Router("linux", f"{inside}.{last}", f"{lan}.0/24")))

    def _same_carrier(self):
        home = self._add("rb")
        carrier = self.a.nats[1]
        self.b.kind, self.b.nats, self.b.unats = self.a.kind, [home, carrier], self.a.unats
        self.b.outside = self.a.outside
        self._home_behind_carrier(self.b, home, carrier, SECOND)

    # Faults and changes

    def move(self, host, kind):
        """See Host.switch_network()."""
        host.run(["ip", "link", "del", "eth0"])
        host.network += 1
        before = set(self.namespaces)
        self._join(host, kind)
        new = [ns for role, ns in self.namespaces.items() if role not in before]
        self._commit(*new, self.namespaces[f"i{host.side}"], host)

    def _fault(self, side, rule):
        self.namespaces[f"i{side}"].run(["nft", "add rule inet access fault " + rule])

    def block_udp(self, side):
        """The provider of this side drops all UDP from now on."""
        self._fault(side, "meta l4proto udp drop")

    def cut(self, side):
        """Nothing passes this side's provider any more."""
        self._fault(side, "drop")

    def restore(self, side):
        """Undoes block_udp() and cut()."""
        self.namespaces[f"i{side}"].run(["nft", "flush chain inet access fault"])

    # The end

    def close(self):
        """Ends every process in the lab and takes the namespaces away. Safe to call twice."""
        atexit.unregister(self.close)
        if not self.namespaces:
            return
        old = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM, signal.SIGINT})
        try:
            # One that has only just begun may not have entered its namespace yet.
            for process in self.processes:
                process.kill()
            remove([ns.name for ns in self.namespaces.values()])
            for process in self.processes:
                process.wait()
                for stream in (process.stdin, process.stdout, process.stderr):
                    if stream:
                        stream.close()
            self.namespaces, self.processes = {}, []
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, old)

    def keep(self):
        """The lab stays when this process ends; `lab.py down` removes it."""
        atexit.unregister(self.close)
        self.namespaces = {}


def _catch_sigterm():
    """SIGTERM becomes an exception, so that a lab is removed on its way."""
    if threading.current_thread() is threading.main_thread() and \
            signal.getsignal(signal.SIGTERM) is signal.SIG_DFL:
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))


# The command

def _command_up(args):
    with Lab(args.a, args.b, delay_ms=args.delay, jitter_ms=args.jitter, loss=args.loss,
             hairpin=args.hairpin) as lab:
        print(f"{lab.name}: {args.a} and {args.b}, server {' '.join(lab.server_addresses)}")
        for host in (lab.a, lab.b):
            seen = f", seen as {host.outside}" if host.outside != host.address else ""
            print(f"  {host.side} {host.address} {host.address6}{seen}: ip netns exec {host.name} ...")
        print(f"  server: ip netns exec {lab.server.name} ...")
        lab.keep()


def _command_down(args):
    chosen = args.name or [name for name in labs() if not owner_is_alive(name)]
    for name in chosen:
        if name not in labs():
            sys.exit(f"no such lab: {name}")
        remove(labs()[name])
        print(f"removed {name}")


def _command_list(_args):
    for name, namespaces in labs().items():
        state = "in use by its builder" if owner_is_alive(name) else "left standing"
        print(f"{name}  {state}  {' '.join(n.rpartition('-')[2] for n in namespaces)}  "
              f"{len(pids_in(namespaces))} processes")


def _command_kinds(_args):
    for kind, text in rules.KINDS.items():
        print(f"{kind:10} {text}")


def _command_verify(args):
    import verify
    sys.exit(verify.main(args.kind))


def main():
    parser = argparse.ArgumentParser(description="A laboratory of NATs in network namespaces.")
    verbs = parser.add_subparsers(required=True)
    up = verbs.add_parser("up", help="build a lab and leave it standing")
    up.add_argument("a", help="kind of the NAT of a; +hp behind it: with hairpin")
    up.add_argument("b", help="kind of the NAT of b; same or samecgn: behind the NAT of a")
    up.add_argument("--delay", type=float, default=0, help="ms one way over each access line")
    up.add_argument("--jitter", type=float, default=0, help="ms more, at most")
    up.add_argument("--loss", type=float, default=0, help="share of packets each line loses")
    up.add_argument("--hairpin", action="store_true")
    up.set_defaults(run=_command_up)
    down = verbs.add_parser("down", help="remove labs: all that were left standing, or these")
    down.add_argument("name", nargs="*")
    down.set_defaults(run=_command_down)
    verbs.add_parser("list", help="the labs that stand").set_defaults(run=_command_list)
    verbs.add_parser("kinds", help="the kinds of NAT").set_defaults(run=_command_kinds)
    verify = verbs.add_parser("verify", help="check that each kind behaves as it is called")
    verify.add_argument("kind", nargs="*")
    verify.set_defaults(run=_command_verify)
    args = parser.parse_args()
    try:
        args.run(args)
    except LabError as e:
        sys.exit(f"lab: {e}")


if __name__ == "__main__":
    main()
