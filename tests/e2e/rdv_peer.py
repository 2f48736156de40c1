"""The rendezvous protocol written down a second time, from docs/RENDEZVOUS.md, so that the tests can
say what no honest client would; signatures by libsodium. And a server that lies."""

import ctypes
import os
import socket
import struct
import threading

SODIUM = ctypes.CDLL("libsodium.so.23")
assert SODIUM.sodium_init() >= 0

HELLO, COOKIE, REGISTER, REGISTERED, REFRESH, REFRESHED, LOOKUP, FOUND = range(1, 9)
CLAIM, RELEASE, DONE, LIST, NAMES, ERROR = range(9, 15)
REASONS = ["", "BadMessage", "BadRecord", "BadVersion", "Forged", "Replayed", "SequenceReused",
           "Expired", "TooLongValid", "BadToken", "NotRegistered", "UnknownName", "BadName",
           "NameTaken", "NotOwner", "TooManyNames", "RateLimited", "Busy", "Full", "Storage"]


class Identity:
    def __init__(self):
        public, secret = ctypes.create_string_buffer(32), ctypes.create_string_buffer(64)
        SODIUM.crypto_sign_keypair(public, secret)
        self.key, self.secret = public.raw, secret.raw

    def sign(self, purpose, message):
        signature = ctypes.create_string_buffer(64)
        whole = purpose.encode() + b"\0" + message
        SODIUM.crypto_sign_detached(signature, None, whole, ctypes.c_ulonglong(len(whole)),
                                    self.secret)
        return signature.raw

    def record(self, sequence, not_after, fields=b"", version=1):
        body = struct.pack(">B32sQQ", version, self.key, sequence, not_after) + fields
        return body + self.sign("berth record 1", body)


def message(kind, body, transaction=b"12345678"):
    return bytes([5, 1, kind, 0]) + transaction + body


def register(identity, cookie, record):
    login = identity.sign("berth login 1", cookie + record)
    return message(REGISTER, cookie + login + struct.pack(">H", len(record)) + record)


def claim(identity, cookie, name, kind=CLAIM):
    purpose = "berth name claim 1" if kind == CLAIM else "berth name release 1"
    signature = identity.sign(purpose, cookie + name.encode())
    return message(kind, cookie + identity.key + signature + bytes([len(name)]) + name.encode())


def lookup(cookie, key=bytes(32), name="", pad=0):
    body = cookie + key + bytes([len(name)]) + name.encode()
    return message(LOOKUP, body.ljust(pad, b"\0"))


def reason(answer):
    """The word of an ERROR; None for any other answer."""
    return REASONS[answer[12]] if answer and answer[2] == ERROR else None


class Asker:
    """A UDP socket, or a TCP connection, to a server."""

    def __init__(self, port, tcp=False, host="127.0.0.1"):
        self.tcp = tcp
        self.socket = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET,
                                    socket.SOCK_STREAM if tcp else socket.SOCK_DGRAM)
        self.socket.settimeout(10)
        self.socket.connect((host, port))

    def send(self, data):
        self.socket.sendall(struct.pack(">H", len(data)) + data if self.tcp else data)

    def _exactly(self, n):
        data = b""
        while len(data) < n:
            part = self.socket.recv(n - len(data))
            assert part, "the server closed the connection"
            data += part
        return data

    def receive(self):
        if not self.tcp:
            return self.socket.recv(2000)
        return self._exactly(struct.unpack(">H", self._exactly(2))[0])

    def ask(self, data):
        self.send(data)
        return self.receive()

    def cookie(self):
        answer = self.ask(message(HELLO, bytes(52)))
        assert answer[2] == COOKIE, answer
        return answer[12:28]

    def close(self):
        self.socket.close()


class Liar:
    """A server that answers every lookup with what it was told to, whatever was asked."""

    def __init__(self):
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.bind(("127.0.0.1", 0))
        self.address = "127.0.0.1:%d" % self.socket.getsockname()[1]
        self.key, self.record, self.claimed = bytes(32), b"", 0
        self.thread = threading.Thread(target=self._serve, daemon=True)
        self.thread.start()

    def _serve(self):
        while True:
            data, sender = self.socket.recvfrom(2000)
            if data == b"end":
                return
            transaction = data[4:12]
            if data[2] == HELLO:
                body = os.urandom(16) + struct.pack(">HBH", 120, 4, 1) + bytes([127, 0, 0, 1])
                self.socket.sendto(message(COOKIE, body, transaction), sender)
            else:
                body = self.key + struct.pack(">IQH", 1, self.claimed, len(self.record))
                self.socket.sendto(message(FOUND, body + self.record, transaction), sender)

    def close(self):
        self.socket.sendto(b"end", self.socket.getsockname())
        self.thread.join(10)
        self.socket.close()


class TcpOnly:
    """A port that lets only TCP through to the server, as some networks do."""

    def __init__(self, port):
        self.server = port
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.address = "127.0.0.1:%d" % self.listener.getsockname()[1]
        self.sockets = []
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self):
        while True:
            try:
                client, _ = self.listener.accept()
            except OSError:
                return
            server = socket.create_connection(("127.0.0.1", self.server))
            self.sockets += [client, server]
            for pair in ((client, server), (server, client)):
                threading.Thread(target=self._copy, args=pair, daemon=True).start()

    @staticmethod
    def _copy(source, sink):
        try:
            while data := source.recv(4096):
                sink.sendall(data)
            sink.shutdown(socket.SHUT_WR)
        except OSError:
            pass

    def close(self):
        for s in (self.listener, *self.sockets):
            try:
                s.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass
            s.close()
