"""Reads each connection to its end and returns, after a line with the marker, every byte that came:
what a client had sent before the hand-over must be there once and whole. ADDRESS PORT MARKER"""

import socket
import sys

ADDRESS, PORT, MARKER = sys.argv[1:]


def main():
    listener = socket.create_server((ADDRESS, int(PORT)))
    print("listening", flush=True)
    while True:
        s, _ = listener.accept()
        with s:
            data = b""
            while part := s.recv(65536):
                data += part
            s.sendall(f"HTTP/1.0 200 OK\r\nX-Marker: {MARKER}\r\n\r\n".encode() + data)


main()
