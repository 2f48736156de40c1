"""A source of peers' streams, as berth-peer is one: asks berthd for it and hands sockets over."""

import array
import itertools
import socket
import struct

CONTROL = struct.Struct(">HBB")
OK, ERROR, SOURCE = 12, 13, 16
HEAD = struct.Struct(">HBBIB")
STREAM, ANSWER, CLOSED = 1, 2, 3
PROXY = 1
LOCAL = "127.7.7.7"

# As share/reason.h numbers them.
REASONS = {0: "", 13: "QueueFull", 17: "AppStopped", 24: "NotServed", 25: "BadStream"}


def received_fds(ancillary):
    fds = array.array("i")
    for level, kind, data in ancillary:
        if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
            fds.frombytes(data[:len(data) - len(data) % fds.itemsize])
    return list(fds)


class Source:
    """One socket to dispatch. Each stream is a TCP connection, of which one end is ours."""

    def __init__(self, stage):
        self.ids = itertools.count(1)
        self.listener = socket.create_server((LOCAL, 0), backlog=128)
        with stage.control() as control:
            control.send(CONTROL.pack(0xbe47, 1, SOURCE))
            data, ancillary, _, _ = control.recvmsg(16384, socket.CMSG_SPACE(16))
            fds = received_fds(ancillary)
            assert CONTROL.unpack_from(data)[2] == OK and len(fds) == 1, data
        self.socket = socket.socket(fileno=fds[0])
        self.socket.settimeout(10)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def close(self):
        self.socket.close()
        self.listener.close()

    def pair(self):
        """Our end, and the one that is given away."""
        ours = socket.create_connection(self.listener.getsockname(), timeout=10)
        theirs, _ = self.listener.accept()
        return ours, theirs

    @staticmethod
    def packet(number, service, key=b"\x07" * 32, name="laptop"):
        head = HEAD.pack(0xbe57, 1, STREAM, number, 0)
        service, name = service.encode(), name.encode()
        return head + key + bytes([len(service)]) + service + bytes([len(name)]) + name

    def send(self, data, fds=()):
        rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))] if fds else []
        self.socket.sendmsg([data], rights)

    def closed(self):
        self.send(HEAD.pack(0xbe57, 1, CLOSED, 0, 0))

    def answer(self):
        """The stream's number, its reason word, and the flags."""
        data = self.socket.recv(256)
        if not data:
            raise EOFError("the source has ended")
        magic, version, kind, number, flags = HEAD.unpack_from(data)
        assert (magic, version, kind, len(data)) == (0xbe57, 1, ANSWER, HEAD.size + 1), data
        return number, REASONS.get(data[-1], data[-1]), flags

    def dial(self, service, **more):
        """Our end of a stream that was delivered; ConnectionRefusedError with the reason word."""
        ours, theirs = self.pair()
        number = next(self.ids)
        self.send(self.packet(number, service, **more), [theirs.fileno()])
        theirs.close()
        self.closed()
        got, reason, self.flags = self.answer()
        assert got == number, (got, number)
        if reason:
            ours.close()
            raise ConnectionRefusedError(reason)
        return ours
