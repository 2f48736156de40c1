"""The rendezvous protocol written down a second time, from docs/RENDEZVOUS.md, so that the tests can
say what no honest client would; signatures by libsodium. And a server that lies."""

import ctypes
import os
import socket
import struct
import threading
import time

SODIUM = ctypes.CDLL("libsodium.so.23")
assert SODIUM.sodium_init() >= 0

HELLO, COOKIE, REGISTER, REGISTERED, REFRESH, REFRESHED, LOOKUP, FOUND = range(1, 9)
CLAIM, RELEASE, DONE, LIST, NAMES, ERROR = range(9, 15)
ALLOW, ALLOWED, CALL, CALLING, INVITE, ANSWER, ANSWERED, START, OPEN, OPENED = range(15, 25)
WORKED = 25
UNKNOWN, PLAIN, CAREFUL, PREDICTED, GUESSED, BY_TCP = range(6)  # techniques
REASONS = ["", "BadMessage", "BadRecord", "BadVersion", "Forged", "Replayed", "SequenceReused",
           "Expired", "TooLongValid", "BadToken", "NotRegistered", "UnknownName", "BadName",
           "NameTaken", "NotOwner", "TooManyNames", "RateLimited", "Busy", "Full", "Storage",
           "NotAllowed", "NoRelay", "UnknownChannel", "Draining", "UnknownCall", "Declined"]


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


def sealed_offer(identity, to, call, candidates=(), nat=(0, 0, 0)):
    """docs/RENDEZVOUS.md, "Offers". A candidate: kind, transport, (IPv4 address, port); a NAT:
    mapping, allocation, step."""
    plain = struct.pack(">BQQ16sBBhB", 1, call, int(time.time() * 1000), os.urandom(16), *nat,
                        len(candidates))
    for kind, transport, (address, port) in candidates:
        plain += struct.pack(">BBBH4s", kind, transport, 4, port, socket.inet_aton(address))
    plain += bytes([0, 3])  # filtering; ports may be guessed, and the router maps some
    public, secret, shared, key = (ctypes.create_string_buffer(32) for _ in range(4))
    SODIUM.crypto_sign_ed25519_pk_to_curve25519(public, to)
    SODIUM.crypto_sign_ed25519_sk_to_curve25519(secret, identity.secret)
    SODIUM.crypto_box_beforenm(shared, public, secret)
    what = b"berth offer 1\0" + identity.key + to
    size = ctypes.c_ulonglong
    SODIUM.crypto_generichash(key, ctypes.c_size_t(32), what, size(len(what)), shared,
                              ctypes.c_size_t(32))
    nonce, box = os.urandom(24), ctypes.create_string_buffer(len(plain) + 16)
    SODIUM.crypto_secretbox_easy(box, plain, size(len(plain)), nonce, key)
    return nonce + box.raw


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


def relay_packet(channel, payload):
    return struct.pack(">BBHI", 6, 0, 0, channel) + payload


def early_packet(call, payload):
    """Of a call whose channel its caller has not heard of yet."""
    return struct.pack(">BBHQ", 6, 1, 0, call) + payload


class Gnutls:
    """A client's TLS 1.3 over a connected socket, to a server that shows a raw public key."""

    LIB = None
    PRIORITY = b"NORMAL:-VERS-ALL:+VERS-TLS1.3:-CTYPE-ALL:+CTYPE-SRV-RAWPK:+CTYPE-CLI-X509"

    def __init__(self, sock):
        if not Gnutls.LIB:
            Gnutls.LIB = ctypes.CDLL("libgnutls.so.30")
            Gnutls.LIB.gnutls_record_recv.restype = ctypes.c_ssize_t
            Gnutls.LIB.gnutls_record_send.restype = ctypes.c_ssize_t
            Gnutls.LIB.gnutls_certificate_get_peers.restype = ctypes.c_void_p
        self.session, credentials = ctypes.c_void_p(), ctypes.c_void_p()
        self._good(self.LIB.gnutls_init(ctypes.byref(self.session), 1 << 1 | 1 << 6 | 1 << 18))
        self._good(self.LIB.gnutls_priority_set_direct(self.session, self.PRIORITY, None))
        self._good(self.LIB.gnutls_certificate_allocate_credentials(ctypes.byref(credentials)))
        self._good(self.LIB.gnutls_credentials_set(self.session, 1, credentials))
        self.LIB.gnutls_transport_set_int2(self.session, sock.fileno(), sock.fileno())
        self._good(self.LIB.gnutls_handshake(self.session))

    @staticmethod
    def _good(result):
        if result < 0:
            raise ConnectionError("gnutls error %d" % result)
        return result

    def key(self):
        """The server's: the last 32 bytes of what it showed."""
        n = ctypes.c_uint()
        at = self.LIB.gnutls_certificate_get_peers(self.session, ctypes.byref(n))
        data, size = struct.unpack("PI", ctypes.string_at(at, 12))
        return ctypes.string_at(data, size)[-32:]

    def sendall(self, data):
        while data:
            data = data[self._good(self.LIB.gnutls_record_send(self.session, data,
                                                               ctypes.c_size_t(len(data)))):]

    def recv(self, n):
        buf = ctypes.create_string_buffer(n)
        got = self._good(self.LIB.gnutls_record_recv(self.session, buf, ctypes.c_size_t(n)))
        return buf.raw[:got]


class Asker:
    """A UDP socket, or a TCP connection with or without TLS, to a server."""

    def __init__(self, port, tcp=False, host="127.0.0.1", tls=False):
        self.tcp = tcp or tls
        self.socket = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET,
                                    socket.SOCK_STREAM if self.tcp else socket.SOCK_DGRAM)
        self.socket.settimeout(10)
        self.socket.connect((host, port))
        self.stream = self.socket
        if self.tcp:
            self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if tls:
            self.socket.settimeout(None)
            for option in (socket.SO_RCVTIMEO, socket.SO_SNDTIMEO):
                self.socket.setsockopt(socket.SOL_SOCKET, option, struct.pack("ll", 10, 0))
            self.stream = Gnutls(self.socket)

    def send(self, data):
        self.stream.sendall(struct.pack(">H", len(data)) + data if self.tcp else data)

    def _exactly(self, n):
        data = b""
        while len(data) < n:
            part = self.stream.recv(n - len(data))
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


class Peer:
    """Who is registered, calls, is called, and sends through the relay, over one Asker."""

    def __init__(self, asker, identity=None):
        self.asker, self.identity = asker, identity or Identity()
        self.key, self.waiting, self.token = self.identity.key, [], None
        self.word = None  # what the server shows in what comes unasked
        self.print = bytes(4)  # of its NAT

    def ask(self, data, *types):
        """The answer with our transaction; what else comes is kept for next()."""
        transaction = os.urandom(8)
        self.asker.send(data[:4] + transaction + data[12:])
        while True:
            got = self.asker.receive()
            if got[0] == 5 and got[4:12] == transaction:
                assert not types or got[2] in types, (got[2], reason(got))
                return got
            self.waiting.append(got)

    def next(self, kind=None):
        """The next message of this type that came unasked, or the next relayed payload."""
        while True:
            for i, got in enumerate(self.waiting):
                if got[0] == 6 if kind is None else got[0] == 5 and got[2] == kind:
                    assert kind not in (INVITE, ANSWERED) or got[4:12] == self.word
                    return self.waiting.pop(i)
            self.waiting.append(self.asker.receive())

    def register(self, sequence=1):
        cookie = self.ask(message(HELLO, bytes(52)), COOKIE)[12:28]
        record = self.identity.record(sequence, int(time.time()) + 3600)
        got = self.ask(register(self.identity, cookie, record), REGISTERED)
        self.token, self.word = got[12:28], got[40:48]
        return self

    def allow(self, *keys, anyone=False):
        body = struct.pack(">BH", anyone, len(keys)) + b"".join(k[:8] for k in keys)
        return self.ask(message(ALLOW, self.token + self.key + body))

    def call(self, callee, number=1, offer=b"offer", rtt=0):
        body = struct.pack(">QI4sH", number, rtt, self.print, len(offer)) + offer
        got = self.ask(message(CALL, self.token + self.key + callee + body))
        return Calling(got) if got[2] == CALLING else got

    def invited(self):
        return Invite(self.next(INVITE))

    def answer(self, invite, taken=0, offer=b"answer", rtt=0):
        body = struct.pack(">QBI4sH", invite.call, taken, rtt, self.print, len(offer)) + offer
        return self.ask(message(ANSWER, self.token + self.key + invite.key + body))

    def worked(self, callee, number, technique):
        """Has no answer."""
        body = callee + struct.pack(">QB", number, technique)
        self.asker.send(message(WORKED, self.token + self.key + body))

    def open(self, channel, ticket, cookie=bytes(16)):
        """Shows a cookie when it is asked for one."""
        body = struct.pack(">16sI16s", cookie, channel, ticket)
        got = self.ask(message(OPEN, body.ljust(52, b"\0")))
        return self.open(channel, ticket, got[12:28]) if got[2] == COOKIE else got

    def call_with(self, callee, number, *payloads):
        """A call, and relayed packets right behind it."""
        body = struct.pack(">QI4sH", number, 0, self.print, 5) + b"offer"
        for payload in (message(CALL, self.token + self.key + callee + body),
                        *(early_packet(number, payload) for payload in payloads)):
            self.asker.send(payload)
        return Calling(self.next(CALLING))

    def relay(self, channel, payload):
        self.asker.send(relay_packet(channel, payload))

    def relayed(self):
        """Channel and payload of the next relayed packet."""
        got = self.next()
        return struct.unpack(">I", got[4:8])[0], got[8:]


EIM, SEQUENCE = bytes([2, 3, 1, 0]), bytes([4, 3, 2, 1])  # fingerprints of NATs


def hint_of(caller, callee, number):
    """Of a call from its beginning to the answer: what both are told to begin with."""
    assert isinstance(caller.call(callee.key, number), Calling)
    invite = callee.invited()
    while invite.call != number:
        invite = callee.invited()
    start = callee.answer(invite)
    answered = Answered(caller.next(ANSWERED))
    while answered.call != number:
        answered = Answered(caller.next(ANSWERED))
    assert start[2] == START and start[24] == answered.hint
    return answered.hint


def hint_of_some(caller, callee, numbers):
    """One call in 16 gets none."""
    return next(filter(None, (hint_of(caller, callee, i) for i in numbers)), None)


def _address(data):
    """Address and port, and what follows."""
    if data[0] == 0:
        return None, data[1:]
    n = 16 if data[0] == 6 else 4
    family = socket.AF_INET6 if n == 16 else socket.AF_INET
    return (socket.inet_ntop(family, data[3:3 + n]), struct.unpack(">H", data[1:3])[0]), data[3 + n:]


class Calling:
    def __init__(self, data):
        self.call, self.channel, self.ticket = struct.unpack(">QI16s", data[12:40])
        self.relay, rest = _address(data[40:])
        assert not rest


class Invite:
    def __init__(self, data):
        self.call, self.key, self.channel, self.ticket = struct.unpack(">Q32sI16s", data[12:72])
        self.relay, rest = _address(data[72:])
        self.seen, rest = _address(rest)
        self.offer = rest[2:]
        assert struct.unpack(">H", rest[:2])[0] == len(self.offer)


class Answered:
    def __init__(self, data):
        self.call, self.key, self.reason, self.wait, self.hint = struct.unpack(">Q32sBIB",
                                                                               data[12:58])
        self.seen, rest = _address(data[58:])
        self.offer = rest[2:]


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
