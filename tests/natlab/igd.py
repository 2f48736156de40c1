"""A router that maps ports when it is asked: Debian's miniupnpd, by PCP and NAT-PMP, by UPnP-IGD, or by all."""

import pathlib
import subprocess
import time

CONFIGURATION = """
ext_ifname=wan
listening_ip=lan
enable_upnp={upnp}
enable_natpmp={natpmp}
secure_mode=yes
min_lifetime=60
max_lifetime=86400
system_uptime=yes
uuid=00000000-0000-0000-0000-000000000001
lease_file={folder}/leases
allow 1024-65535 10.0.0.0/8 1024-65535
deny 0-65535 0.0.0.0/0 0-65535
upnp_table_name=miniupnpd
upnp_nat_table_name=miniupnpd
"""
TABLE = """
table inet miniupnpd {
  chain miniupnpd { }
  chain prerouting_miniupnpd { }
  chain postrouting_miniupnpd { }
  chain prerouting { type nat hook prerouting priority -100; jump prerouting_miniupnpd; }
  chain postrouting { type nat hook postrouting priority 100; jump postrouting_miniupnpd; }
}
"""


def start(host, folder, upnp="yes", natpmp="yes"):
    """On the router of this host of a lab; the process."""
    router = host.nats[0]
    router.run(["nft", "-f", "-"], input=TABLE, text=True)
    router.run(["nft", "insert rule ip nat forward ct status dnat accept"])
    router.run(["nft", "insert rule ip nat input iifname lan accept"])
    for ns, dev in ((router, "lan"), (host, "eth0")):
        ns.run(["ip", "route", "add", "224.0.0.0/4", "dev", dev])
    conf = pathlib.Path(folder, "conf")
    conf.write_text(CONFIGURATION.format(upnp=upnp, natpmp=natpmp, folder=folder), encoding="ascii")
    process = router.popen(["miniupnpd", "-d", "-f", conf, "-P", f"{folder}/pid"],
                           stdout=open(f"{folder}/log", "wb"), stderr=subprocess.STDOUT)
    _wait_for_port(router, ":5351" if natpmp == "yes" else ":1900")
    return process


def _wait_for_port(router, port):
    deadline = time.monotonic() + 10
    while port not in router.output(["ss", "-Hlun"]):
        assert time.monotonic() < deadline, "miniupnpd does not listen"
        time.sleep(0.02)


USELESS = """
import socket
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.bind(("0.0.0.0", 5351))
print("ready", flush=True)
while True:
    q, at = s.recvfrom(1100)
    if len(q) == 60 and q[0] == 2:  # RFC 6887 7.2 and 11.1
        s.sendto(bytes([2, 0x81, 0, 0]) + q[4:8] + bytes(16) + q[24:44] + bytes(10) + b"\\xff\\xff"
                 + socket.inet_aton("100.64.7.7"), at)
"""


def start_useless(host):
    """On the router of this host: says by PCP that it maps to an address of a carrier's inner network. (miniupnpd
    refuses instead.)"""
    router = host.nats[0]
    router.run(["nft", "insert rule ip nat input iifname lan accept"])
    process = router.popen(["/usr/bin/python3", "-c", USELESS], stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "ready\n"


NAMELESS = r"""
import http.server, socket, socketserver, sys, threading
LAN = sys.argv[1]
TYPE = "urn:schemas-upnp-org:service:WANIPConnection:1"
DEVICE = "urn:schemas-upnp-org:device:InternetGatewayDevice:1"
XML = f'''<?xml version="1.0"?><root xmlns="urn:schemas-upnp-org:device-1-0"><device><deviceType>{DEVICE}</deviceType>
<deviceList><device><deviceType>urn:schemas-upnp-org:device:WANDevice:1</deviceType><serviceList><service>
<serviceType>urn:schemas-upnp-org:service:WANCommonInterfaceConfig:1</serviceType><serviceId>b</serviceId>
<controlURL>/i</controlURL><eventSubURL>/e</eventSubURL><SCPDURL>/s</SCPDURL></service></serviceList><deviceList><device>
<deviceType>urn:schemas-upnp-org:device:WANConnectionDevice:1</deviceType><serviceList><service>
<serviceType>{TYPE}</serviceType><serviceId>a</serviceId><controlURL>/c</controlURL><eventSubURL>/e</eventSubURL>
<SCPDURL>/s</SCPDURL></service></serviceList></device></deviceList></device></deviceList></device></root>'''

class Router(http.server.BaseHTTPRequestHandler):
    def answer(self, status, text):
        self.send_response(status)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text.encode())

    def do_GET(self):
        self.answer(200, XML)

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"])).decode()
        action = self.headers["SOAPAction"].strip('"').split("#")[1]
        port = body.split("<NewExternalPort>")[1].split("<")[0] if "<NewExternalPort>" in body else ""
        print(action, port, flush=True)
        self.answer(500 if action == "GetExternalIPAddress" else 200,
                    f"<s:Envelope><s:Body><u:{action}Response xmlns:u='{TYPE}'/></s:Body></s:Envelope>")

    def log_message(self, *words):
        pass

web = socketserver.ThreadingTCPServer((LAN, 0), Router)  # an HTTPServer would ask for its name
threading.Thread(target=web.serve_forever, daemon=True).start()
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.bind(("", 1900))
s.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, socket.inet_aton("239.255.255.250") + socket.inet_aton(LAN))
print("ready", flush=True)
while True:
    _, at = s.recvfrom(2000)
    s.sendto(f"HTTP/1.1 200 OK\r\nST: {DEVICE}\r\nUSN: uuid:1::{DEVICE}\r\nLOCATION: http://{LAN}:{web.server_address[1]}/d\r\n\r\n"
             .encode(), at)
"""


def start_nameless(host):
    """On the router of this host: maps ports by UPnP-IGD, and does not say at which address. Its process writes each
    action and its port."""
    router = host.nats[0]
    router.run(["nft", "insert rule ip nat input iifname lan accept"])
    for ns, dev in ((router, "lan"), (host, "eth0")):
        ns.run(["ip", "route", "add", "224.0.0.0/4", "dev", dev])
    lan = router.output(["ip", "-4", "-o", "addr", "show", "dev", "lan"]).split("inet ")[1].split("/")[0]
    process = router.popen(["/usr/bin/python3", "-c", NAMELESS, lan], stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "ready\n"
    return process


def mapped(host):
    """What the router lets in now, as nft shows it."""
    return host.nats[0].output(["nft", "list", "chain", "inet", "miniupnpd", "prerouting_miniupnpd"])
