#!/usr/bin/env python3
"""A web server that takes its sockets from a queue, without any library of berth:

    berth run --queue --as http://queue.localhost:8080/ -- python3 queue.py
    curl http://queue.localhost:8080/

Each packet of the queue stands for one accepted connection and brings its socket along; the bytes
of the packet describe it, and need not be looked at. The end of the queue is the end of berth.
"""

import os
import socket
import sys


def queue_open():
    names = os.environ.get("LISTEN_FDNAMES", "").split(":")
    if os.environ.get("LISTEN_PID") != str(os.getpid()) or "berth" not in names:
        sys.exit("queue.py: start it by: berth run --queue --as ROUTE -- python3 queue.py")
    return socket.socket(fileno=3 + names.index("berth"))


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
        for fd in fds:
            try:
                with socket.socket(fileno=fd) as client:
                    answer(client)
            except OSError as e:
                print(f"queue.py: {e}", file=sys.stderr)


if __name__ == "__main__":
    main()
