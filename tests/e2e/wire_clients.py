"""Clients that speak just enough of a protocol to ask one question from a chosen source address:
Redis, PostgreSQL, and TLS whose first flight can be cut into pieces."""

import socket
import ssl
import struct

from harness import assert_silent, connect

TLS_RECORD_HANDSHAKE = 22


def redis_command(*words):
    parts = [f"*{len(words)}\r\n"] + [f"${len(w)}\r\n{w}\r\n" for w in words]
    return "".join(parts).encode()


def redis_ask(target, source=None):
    """The server's own settings and what it knows of this client."""
    with connect(target, source) as s:
        own = s.getsockname()[:2]
        s.sendall(redis_command("CONFIG", "GET", "pidfile") + redis_command("CLIENT", "INFO")
                  + redis_command("QUIT"))
        data = b""
        while part := s.recv(4096):
            data += part
        return data.decode(), own


def _postgres_message(stream):
    kind = stream.read(1)
    assert kind, "the PostgreSQL server closed the connection"
    (size,) = struct.unpack("!I", stream.read(4))
    return kind, stream.read(size - 4)


def postgres_startup(user="postgres", database="postgres"):
    words = b"".join(w.encode() + b"\0" for w in ("user", user, "database", database)) + b"\0"
    return struct.pack("!II", len(words) + 8, 3 << 16) + words


def postgres_ask(target, source=None):
    """Logs in (method trust) and asks the server for its marker and our address."""
    query = (b"select current_setting('cluster_name') || ' peer=' || host(inet_client_addr()) || "
             b"' port=' || inet_client_port() || ' pid=' || pg_backend_pid()\0")
    with connect(target, source) as s, s.makefile("rb") as stream:
        own = s.getsockname()[:2]
        s.sendall(postgres_startup())
        row = None
        while True:
            kind, body = _postgres_message(stream)
            assert kind != b"E", f"PostgreSQL refused: {body!r}"
            if kind == b"D":
                row = body[6:].decode()
            elif kind == b"Z" and row is None:
                s.sendall(b"Q" + struct.pack("!I", len(query) + 4) + query)
            elif kind == b"Z":
                return row, own


def _client_context():
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def tls_hello(host, alpn=()):
    """The first flight of a client, and the objects to go on with."""
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    context = _client_context()
    if alpn:
        context.set_alpn_protocols(list(alpn))
    tls = context.wrap_bio(incoming, outgoing, server_hostname=host)
    try:
        tls.do_handshake()
    except ssl.SSLWantReadError:
        pass
    return outgoing.read(), tls, incoming, outgoing


def split_records(hello, sizes):
    """The same handshake message in several TLS records instead of one."""
    body, records = hello[5:], b""
    start = bytes([TLS_RECORD_HANDSHAKE]) + hello[1:3]
    for size in [*sizes, len(body)]:
        part, body = body[:size], body[size:]
        if part:
            records += start + struct.pack("!H", len(part)) + part
    return records


def _pump(s, tls, incoming, outgoing, step):
    """Runs one step of the TLS machine, moving bytes, until it is done."""
    while True:
        try:
            result = step()
            if outgoing.pending:
                s.sendall(outgoing.read())
            return result
        except ssl.SSLWantReadError:
            if outgoing.pending:
                s.sendall(outgoing.read())
            data = s.recv(65536)
            if data:
                incoming.write(data)
            else:
                incoming.write_eof()


def tls_ask(target, source=None, pieces=None):
    """A whole TLS conversation; `pieces` turns the hello into the segments that are to be sent."""
    with connect(target, source) as s:
        own = s.getsockname()[:2]
        s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        hello, tls, incoming, outgoing = tls_hello(target.host)
        segments = pieces(hello) if pieces else [hello]
        for segment in segments[:-1]:
            s.sendall(segment)
            assert_silent(s, 0.05 if len(segments) < 5 else 0)
        s.sendall(segments[-1])
        _pump(s, tls, incoming, outgoing, tls.do_handshake)
        tls.write(b"GET / HTTP/1.0\r\n\r\n")
        text = b""
        while True:
            try:
                part = _pump(s, tls, incoming, outgoing, lambda: tls.read(65536))
            except (ssl.SSLZeroReturnError, ssl.SSLEOFError):
                return text.decode(), own
            if not part:
                return text.decode(), own
            text += part
