"""An HTTP server on asyncio streams: says its marker, and who asked. ADDRESS PORT MARKER"""

import asyncio
import os
import sys

ADDRESS, PORT, MARKER = sys.argv[1], int(sys.argv[2]), sys.argv[3]


async def serve(reader, writer):
    try:
        await reader.readuntil(b"\r\n\r\n")
        peer = writer.get_extra_info("peername")
        body = f"{MARKER} peer={peer[0]} port={peer[1]} pid={os.getpid()}\n".encode()
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nConnection: close\r\n"
                     b"Content-Length: %d\r\n\r\n" % len(body) + body)
        await writer.drain()
    except (asyncio.IncompleteReadError, asyncio.LimitOverrunError, ConnectionError):
        pass
    finally:
        writer.close()


async def main():
    server = await asyncio.start_server(serve, ADDRESS, PORT)
    async with server:
        await server.serve_forever()


asyncio.run(main())
