#!/usr/bin/python3
"""An ICE agent that nobody here wrote (python3-aioice), with the words of puncher.c: what it reaches in the
same laboratory. `ice_peer.py caller|callee SERVER:PORT`."""

import asyncio
import base64
import sys
import time

import aioice

FAILED_SECONDS = 6


def pack(text):
    return base64.urlsafe_b64encode(text.encode()).decode()


def unpack(word):
    return base64.urlsafe_b64decode(word).decode()


async def main():
    host, port = sys.argv[2].rsplit(":", 1)
    connection = aioice.Connection(ice_controlling=sys.argv[1] == "caller", stun_server=(host, int(port)),
                                   use_ipv6=False)
    await connection.gather_candidates()
    words = [pack(f"{connection.local_username} {connection.local_password}")]
    words += [pack(c.to_sdp()) for c in connection.local_candidates]
    print("offer 0 0 0 0 - ice", *words, flush=True)
    line = await asyncio.to_thread(sys.stdin.readline)
    _, _, wait_us, _, _, _, _, _, _, login, *candidates = line.split()
    connection.remote_username, connection.remote_password = unpack(login).split()
    for word in candidates:
        await connection.add_remote_candidate(aioice.Candidate.from_sdp(unpack(word)))
    await connection.add_remote_candidate(None)
    await asyncio.sleep(int(wait_us) / 1e6)
    began = time.monotonic()
    try:
        await asyncio.wait_for(connection.connect(), FAILED_SECONDS - 1)
        print(f"proven {1000 * (time.monotonic() - began):.1f} 0 ice - 0\nguesses 0 plain\ndone", flush=True)
    except (ConnectionError, asyncio.TimeoutError):
        print("failed 0 the ICE agent found none", flush=True)
    await asyncio.to_thread(sys.stdin.readline)


asyncio.run(main())
