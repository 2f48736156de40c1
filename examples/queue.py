#!/usr/bin/env python3
"""A web server that takes its sockets from a queue, without any library of berth:

    berth run --queue --as http://queue.localhost:8080/ -- python3 queue.py
    curl http://queue.localhost:8080/

Each packet of the queue stands for one accepted connection and brings its socket along. Of the
bytes of the packet only the number counts: see wait_for_sender(). The end of the queue is the end
of berth.
"""

import os
import socket
import struct
import sys
import time

SO_MAX_PACING_RATE = 47


def queue_open():
    names = os.environ.get("LISTEN_FDNAMES", "").split(":")
    if os.environ.get("LISTEN_PID") != str(os.getpid()) or "berth" not in names:
        sys.exit("queue.py: start it by: berth run --queue --as ROUTE -- python3 queue.py")
    return socket.socket(fileno=3 + names.index("berth"))


def wait_for_sender(queue, packet):
    """Whoever sent the socket may not have closed his own copy yet, and then our close() would not
    be the last one: the socket would stay in an epoll set of ours. The queue counts what its sender
    has closed."""
    flags, = struct.unpack_from(">I", packet, 4)
    if flags & 32:
        time.sleep(0.001)
    for _ in range(1000 if flags & 16 else 0):
        count, = struct.unpack("Q", queue.getsockopt(socket.SOL_SOCKET, SO_MAX_PACING_RATE, 8))
        ahead = ((flags >> 8) - count) & 0xFFFFFF
        if ahead == 0 or ahead > 8192 or count == 2 ** 64 - 1:
            return
        time.sleep(0.0001)


def answer(client):
    client.settimeout(10)
    if not client.recv(4096):
        return
    host, port = client.getpeername()[:2]
    client.sendall("HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nConnection: close\r\n\r\n"
                   f"{host} {port} got here by a queue\n".encode())


def main():
    queue = queue_open()
    while True:
        packet, fds, _, _ = socket.recv_fds(queue, 2048, 1)
        if not packet:
            return
        if fds:
            wait_for_sender(queue, packet)
        for fd in fds:
            try:
                with socket.socket(fileno=fd) as client:
                    answer(client)
            except OSError as e:
                print(f"queue.py: {e}", file=sys.stderr)


if __name__ == "__main__":
    main()
