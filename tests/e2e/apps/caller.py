"""An HTTP server that says who dialled each connection, as libberth tells. ADDRESS PORT MARKER; the
library's path in LIBBERTH."""

import ctypes
import importlib.util
import os
import socket
import sys

EXAMPLE = os.path.join(os.path.dirname(os.path.abspath(__file__)), *[".."] * 3, "examples/native.py")
spec = importlib.util.spec_from_file_location("native", EXAMPLE)
native = importlib.util.module_from_spec(spec)
spec.loader.exec_module(native)
lib = native.load(os.environ["LIBBERTH"])

server = socket.create_server((sys.argv[1], int(sys.argv[2])))
while True:
    client, _ = server.accept()
    with client:
        client.settimeout(10)
        try:
            client.recv(4096)
            peer = native.Peer(size=ctypes.sizeof(native.Peer))
            r = lib.berth_peer(client.fileno(), peer)
            words = (peer.key, peer.name or b"-", peer.service)
            said = b"%s by %s as %s" % words if r == 0 else b"nobody %d" % -r
            body = b"%s peer=%s %s" % (sys.argv[3].encode(), client.getpeername()[0].encode(), said)
            client.sendall(b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: %d\r\n\r\n%s" %
                           (len(body), body))
        except OSError:
            pass
