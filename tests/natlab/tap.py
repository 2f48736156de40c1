"""What passes an interface of the lab, with the kernel's time for each packet. Only IPv4."""

import collections
import socket
import struct

SO_TIMESTAMPNS = 35
PACKET_OUTGOING, ETH_P_ALL = 4, 3
SIZE_MAX = 256  # of what is kept of a packet

Packet = collections.namedtuple("Packet", "at outgoing protocol source target ttl payload")


def _decoded(data, at, kind):
    """A Packet with (address, port) on both sides; None: it is of no interest."""
    if len(data) < 28 or data[0] >> 4 != 4 or data[9] not in (socket.IPPROTO_UDP, socket.IPPROTO_TCP):
        return None
    header = 4 * (data[0] & 15)
    ports = struct.unpack(">HH", data[header:header + 4])
    hosts = socket.inet_ntoa(data[12:16]), socket.inet_ntoa(data[16:20])
    payload = data[header + 8:] if data[9] == socket.IPPROTO_UDP else b""
    return Packet(at, kind == PACKET_OUTGOING, data[9], (hosts[0], ports[0]), (hosts[1], ports[1]),
                  data[8], payload)


class Tap:
    """Listens from now on. The packets stay in the socket until they are asked for."""

    def __init__(self, machine, dev):
        self.socket = machine.socket(socket.AF_PACKET, socket.SOCK_DGRAM)
        self.socket.setsockopt(socket.SOL_SOCKET, 33, 1 << 24)  # SO_RCVBUFFORCE
        self.socket.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPNS, 1)
        self.socket.bind((dev, ETH_P_ALL))
        self.socket.setblocking(False)
        self.packets = []

    def look(self):
        """Everything that has come so far."""
        while True:
            try:
                data, extra, _, address = self.socket.recvmsg(SIZE_MAX, 64)
            except BlockingIOError:
                return self.packets
            seconds, nanoseconds = struct.unpack("qq", extra[0][2][:16])
            packet = _decoded(data, seconds + nanoseconds / 1e9, address[2])
            if packet:
                self.packets.append(packet)

    def to(self, host, outgoing=None):
        """What has gone to this address, over all ports."""
        return [p for p in self.look() if p.target[0] == host and outgoing in (None, p.outgoing)]

    def close(self):
        self.socket.close()


def is_probe(packet):
    """A question of docs/PUNCH.md, not an answer."""
    return packet.protocol == socket.IPPROTO_UDP and len(packet.payload) == 32 and packet.payload[0] == 7 and \
        packet.payload[2] == 1
