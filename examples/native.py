#!/usr/bin/env python3
"""A web server on a shared port, in Python by ctypes, beside whatever else its event loop does:

    python3 native.py http://py.localhost:8080/
    curl http://py.localhost:8080/hello
"""

import ctypes
import os
import selectors
import socket
import sys

NOWAIT = 1  # for berth_attach(): berth_accept() never waits


class Conn(ctypes.Structure):
    """struct berth_conn."""

    _fields_ = [("size", ctypes.c_size_t), ("peer", ctypes.c_uint8 * 128),
                ("local", ctypes.c_uint8 * 128), ("peer_len", ctypes.c_uint32),
                ("local_len", ctypes.c_uint32), ("protocol", ctypes.c_char * 16),
                ("host", ctypes.c_char * 256), ("path", ctypes.c_char * 1032)]


class Peer(ctypes.Structure):
    """struct berth_peer."""

    _fields_ = [("size", ctypes.c_size_t), ("key", ctypes.c_char * 57), ("name", ctypes.c_char * 41),
                ("service", ctypes.c_char * 41)]


def load(path="libberth.so.0"):
    lib = ctypes.CDLL(path)
    lib.berth_new.restype = ctypes.c_void_p
    lib.berth_free.argtypes = lib.berth_fd.argtypes = lib.berth_reason.argtypes = [ctypes.c_void_p]
    lib.berth_attach.argtypes = [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_uint]
    lib.berth_accept.argtypes = [ctypes.c_void_p, ctypes.POINTER(Conn), ctypes.c_uint]
    lib.berth_reason.restype = ctypes.c_char_p
    lib.berth_peer.argtypes = [ctypes.c_int, ctypes.POINTER(Peer)]
    return lib


def caller(lib, fd):
    """Who dialled, when a peer did: (key, name, service), else None."""
    peer = Peer(size=ctypes.sizeof(Peer))
    if lib.berth_peer(fd, peer) < 0:
        return None
    return peer.key.decode(), peer.name.decode(), peer.service.decode()


def answer(fd, conn):
    with socket.socket(fileno=fd) as client:
        client.settimeout(10)
        if not client.recv(4096):
            return
        host, port = client.getpeername()[:2]
        client.sendall("HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nConnection: close\r\n\r\n"
                       f"{host} {port} asks for {conn.host.decode()}{conn.path.decode()} "
                       f"by {conn.protocol.decode()}\n".encode())


def main():
    lib = load(os.environ.get("LIBBERTH", "libberth.so.0"))
    berth = lib.berth_new()
    route = sys.argv[1].encode() if len(sys.argv) > 1 else None
    if lib.berth_attach(berth, route, NOWAIT) < 0:
        sys.exit(f"native.py: {lib.berth_reason(berth).decode()}")
    loop = selectors.DefaultSelector()
    loop.register(lib.berth_fd(berth), selectors.EVENT_READ)
    conn = Conn(size=ctypes.sizeof(Conn))
    while True:
        loop.select()
        fd = lib.berth_accept(berth, conn, 0)
        if fd >= 0:
            try:
                answer(fd, conn)
            except OSError as e:
                print(f"native.py: {e}", file=sys.stderr)
        elif fd != -11:  # EAGAIN: it was for another process, or there is no berthd at the moment
            print(f"native.py: {os.strerror(-fd)}", file=sys.stderr)


if __name__ == "__main__":
    main()
