"""A TLS server: after the handshake it says its marker, and who asked.
ADDRESS PORT MARKER CERT KEY"""

import os
import socket
import ssl
import sys
import threading

ADDRESS, PORT, MARKER, CERT, KEY = sys.argv[1:]


def serve(context, raw, peer):
    try:
        with context.wrap_socket(raw, server_side=True) as s:
            s.recv(4096)
            body = f"{MARKER} peer={peer[0]} port={peer[1]} pid={os.getpid()}\n"
            s.sendall(f"HTTP/1.0 200 OK\r\n\r\n{body}".encode())
            s.unwrap()
    except OSError:
        raw.close()


def main():
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(CERT, KEY)
    listener = socket.create_server((ADDRESS, int(PORT)))
    while True:
        raw, peer = listener.accept()
        threading.Thread(target=serve, args=(context, raw, peer[:2]), daemon=True).start()


main()
