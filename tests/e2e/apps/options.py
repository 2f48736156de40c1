"""Sets socket options on its listening socket, some before bind() and some after listen(), and
tells what an accepted connection has of them. ADDRESS PORT MARKER"""

import socket
import sys

ADDRESS, PORT, MARKER = sys.argv[1:]
BEFORE = {
    "SO_KEEPALIVE": (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1),
    "TCP_KEEPIDLE": (socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 77),
    "TCP_USER_TIMEOUT": (socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, 54321),
}
AFTER = {
    "TCP_NODELAY": (socket.IPPROTO_TCP, socket.TCP_NODELAY, 1),
    "TCP_KEEPINTVL": (socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 33),
    "TCP_KEEPCNT": (socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 5),
}


def main():
    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    for option in BEFORE.values():
        listener.setsockopt(*option)
    listener.bind((ADDRESS, int(PORT)))
    listener.listen(64)
    for option in AFTER.values():
        listener.setsockopt(*option)
    while True:
        s, peer = listener.accept()
        with s:
            s.recv(4096)
            seen = " ".join(f"{name}={s.getsockopt(level, option)}"
                            for name, (level, option, _) in (BEFORE | AFTER).items())
            own = s.getsockname()
            body = f"{MARKER} peer={peer[0]} port={peer[1]} {seen} local={own[0]}:{own[1]}\n"
            s.sendall(f"HTTP/1.0 200 OK\r\n\r\n{body}".encode())


main()
