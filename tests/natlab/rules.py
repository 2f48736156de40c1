"""What each kind of NAT is made of: texts for nft, and words for the user-space NAT (unat.c).

A router has two interfaces, `wan` and `lan`. Mapping and filtering are meant as in RFC 4787: EIM, ADM
and APDM are endpoint-independent, address-dependent, and address-and-port-dependent mapping; EIF, ADF
and APDF the same of filtering."""

import dataclasses

# kind -> what it is, as `lab.py kinds` prints it
KINDS = {
    "pub": "no NAT: a host on the public net",
    "v6fw": "IPv6 behind a stateful firewall; IPv4 behind a symmetric NAT with random ports",
    "eif": "EIM with random ports, EIF",
    "adf": "EIM with random ports, ADF",
    "apdf": "EIM with random ports, APDF",
    "linux": "Linux masquerade (keeps ports, APDF); drops what nobody asked for",
    "linuxrej": "the same; answers what nobody asked for with RST or ICMP",
    "linuxopen": "the same without any input filter: what nobody asked for takes the port away",
    "adm": "ADM with random ports, ADF",
    "sym": "APDM with random ports, APDF",
    "symseq": "APDM with ports one after the other, APDF",
    "cgn": "a home NAT (linux) behind a carrier's: EIM, EIF, ports from a block of 512",
    "cgnsym": "a home NAT (linux) behind a carrier's: APDM, APDF, ports from a block of 512",
    "udpblock": "linux, and no UDP at all",
    "tcp443": "linux, and nothing but TCP to port 443",
}
# What needs the TUN device, and so the real root.
UNAT = {
    "cgn": {"map": "eim", "filter": "eif", "count": 512},
    "cgnsym": {"map": "apdm", "filter": "apdf", "count": 512},
}

MAPS_EIM = """
  map out { type inet_proto . ipv4_addr . inet_service : ipv4_addr . inet_service
            flags dynamic,timeout; timeout 300s; size 65535; }
  map back { type inet_proto . inet_service : ipv4_addr . inet_service
             flags dynamic,timeout; timeout 300s; size 65535; }
"""
MAPS_ADM = """
  map out { type inet_proto . ipv4_addr . inet_service . ipv4_addr : ipv4_addr . inet_service
            flags dynamic,timeout; timeout 300s; size 65535; }
  map back { type inet_proto . inet_service . ipv4_addr : ipv4_addr . inet_service
             flags dynamic,timeout; timeout 300s; size 65535; }
"""
SET_PEERS = """
  set peers { type inet_proto . ipv4_addr . ipv4_addr . inet_service
              flags dynamic,timeout; timeout 300s; size 65535; }
"""
PORTS = "meta l4proto { tcp, udp }"


@dataclasses.dataclass
class Router:
    """One router with an nft NAT: where it stands between its two networks."""
    kind: str
    outside: str  # its address at wan
    inside: str   # the network at lan
    hairpin: bool = False


def _late(router, keyed):
    """Remembers which port the kernel chose, so that the next connection of the same socket gets it
    again (out), and the way back to it (back)."""
    remote = " . ip daddr" if keyed else ""
    where = f'ip saddr {router.outside}' if router.hairpin else 'oifname "wan"'
    return f"""
  chain late {{ type filter hook postrouting priority srcnat + 10;
    {where} {PORTS} ct direction original ct status snat \\
      update @out {{ meta l4proto . ct original ip saddr . ct original proto-src{remote} : ip saddr . th sport }} \\
      update @back {{ meta l4proto . th sport{remote} : ct original ip saddr . ct original proto-src }}
  }}"""


def _translated(router):
    """(maps, rules of the postrouting chain, rules of the prerouting chain, further chains)"""
    kind = router.kind
    if kind in ("sym", "v6fw"):
        return "", 'oifname "wan" masquerade fully-random', "", ""
    if kind == "symseq":
        ports = ", ".join(f"{i} : {20000 + i}" for i in range(4096))
        return "", f"""oifname "wan" {PORTS} snat ip to {router.outside} : numgen inc mod 4096 map {{ {ports} }}
    oifname "wan" masquerade""", "", ""
    if kind in ("eif", "adf", "apdf", "adm"):
        keyed = kind == "adm"
        to, source = (" . ip daddr", " . ip saddr") if keyed else ("", "")
        out = f"snat ip to meta l4proto . ip saddr . th sport{to} map @out"
        post = f"""oifname "wan" {PORTS} {out}
    oifname "wan" masquerade fully-random"""
        if router.hairpin:
            # A hairpinned packet leaves through lan, but as if it had come from outside.
            post += f"""
    oifname "lan" ip saddr {router.inside} {PORTS} {out}
    oifname "lan" ip saddr {router.inside} {PORTS} snat to {router.outside}:1024-65535 fully-random"""
        from_wan = "" if router.hairpin else 'iifname "wan" '
        pre = f"{from_wan}ip daddr {router.outside} {PORTS} dnat ip to meta l4proto . th dport{source} map @back"
        return MAPS_ADM if keyed else MAPS_EIM, post, pre, _late(router, keyed)
    return "", 'oifname "wan" masquerade', "", ""


def _forward(kind):
    rules = []
    if kind == "adf":
        rules += [f'iifname "lan" {PORTS} update @peers {{ meta l4proto . ip daddr . ip saddr . th sport }}']
    if kind in ("udpblock", "tcp443"):
        rules += ["ip protocol udp drop"]
    if kind == "tcp443":
        rules += ['iifname "lan" tcp dport != 443 drop']
    rules += ["ct state established,related accept", 'iifname "lan" accept']
    if kind == "adf":
        rules += [f'ct status dnat {PORTS} meta l4proto . ip saddr . ip daddr . th dport @peers accept']
    if kind in ("eif", "adm"):
        rules += ["ct status dnat accept"]
    return "\n    ".join(rules)


def _unasked(kind):
    """What the router itself does with a packet that belongs to nothing."""
    if kind == "linuxrej":
        return "meta l4proto tcp reject with tcp reset\n    reject"
    return "accept" if kind == "linuxopen" else "drop"


def nft(router):
    """The whole ruleset of a router."""
    maps, post, pre, chains = _translated(router)
    return f"""
table ip nat {{
{maps}{SET_PEERS if router.kind == "adf" else ""}
  chain input {{ type filter hook input priority 0; policy accept;
    ct state established,related accept
    iifname {{ "lo", "lan" }} accept
    ip protocol icmp accept
    {_unasked(router.kind)}
  }}
  chain forward {{ type filter hook forward priority 0; policy drop;
    {_forward(router.kind)}
  }}
  chain pre {{ type nat hook prerouting priority dstnat;
    {pre}
  }}
  chain post {{ type nat hook postrouting priority srcnat;
    {post}
  }}{chains}
}}
table ip6 firewall {{
  chain forward {{ type filter hook forward priority 0; policy drop;
    ct state established,related accept
    iifname "lan" accept
  }}
}}
"""


def access(loss):
    """The provider's router: loses packets when asked to, and has a chain for faults."""
    lose = f"numgen random mod 1000000 < {round(loss * 1000000)} drop"
    rules = f'iifname "up" {lose}\n    iifname "p*" {lose}' if loss else ""
    return f"""
table inet access {{
  chain fault {{ type filter hook forward priority -10; policy accept;
  }}
  chain forward {{ type filter hook forward priority 0; policy accept;
    {rules}
  }}
}}
"""
