"""An HTTP server that can be told to hold back. ADDRESS PORT MARKER GATE MODE

MODE accept: it listens, but accepts nothing before the file GATE exists.
MODE read:   it accepts (and writes a file GATE.accepted), but reads nothing before GATE exists."""

import os
import socket
import sys
import threading
import time

ADDRESS, PORT, MARKER, GATE, MODE = sys.argv[1:]


def wait_for_gate():
    while not os.path.exists(GATE):
        time.sleep(0.01)


def serve(s, peer):
    if MODE == "read":
        with open(GATE + ".accepted", "w", encoding="ascii"):
            pass
        wait_for_gate()
    with s:
        try:
            if s.recv(65536):
                body = f"{MARKER} peer={peer[0]} port={peer[1]} pid={os.getpid()}\n"
                s.sendall(f"HTTP/1.0 200 OK\r\n\r\n{body}".encode())
        except OSError:
            return


def main():
    with socket.create_server((ADDRESS, int(PORT)), backlog=4096) as listener:
        print("listening", flush=True)
        if MODE == "accept":
            wait_for_gate()
        while True:
            s, peer = listener.accept()
            if MODE == "read":
                threading.Thread(target=serve, args=(s, peer), daemon=True).start()
            else:
                serve(s, peer)


main()
