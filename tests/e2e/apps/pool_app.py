"""A server for pools: threads, keep-alive, and whatever a test asks for by a path. ADDRESS PORT [WORD...]

Words: deaf (listens, never accepts), stubborn (ignores TERM), notify (says READY=1 when the file
`ready` is in its folder), probe (is not well before that), watchdog (says WATCHDOG=1 until it is asked
for /silent), none (no socket), exit (ends at once), daemon (goes on in the background), slow (takes a
second to start), single (one connection at a time)."""

import json
import os
import resource
import signal
import socket
import sys
import threading
import time

ADDRESS, PORT, *WORDS = sys.argv[1:]
BORN = time.monotonic()
state = {"silent": False, "sick": False, "hoard": [], "served": 0}


def notify(text):
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as s:
        s.sendto(text.encode(), os.environ["NOTIFY_SOCKET"])


def facts(peer):
    umask = os.umask(0o22)
    os.umask(umask)
    return {"pid": os.getpid(), "peer": peer[0], "port": peer[1], "uid": os.getuid(),
            "gid": os.getgid(), "groups": os.getgroups(), "directory": os.getcwd(),
            "umask": umask, "files": resource.getrlimit(resource.RLIMIT_NOFILE),
            "environment": dict(os.environ), "descriptors": sorted(os.listdir("/proc/self/fd")),
            "served": state["served"]}


def leak():
    while True:
        try:
            state["hoard"].append(os.open("/dev/null", os.O_RDONLY))
        except OSError:
            state["full"] = True
            time.sleep(0.001)


def answer(path, peer):
    word, _, value = path.lstrip("/").partition("/")
    if word == "slow":
        time.sleep(float(value))
    elif word == "grow":
        state["hoard"].append(b"x" * (int(value) << 20))
    elif word == "silent":
        state["silent"] = True
    elif word == "sick":
        state["sick"] = True
    elif word == "leak":
        threading.Thread(target=leak, daemon=True).start()
    elif word == "deaf":
        state["deaf"] = True
    elif word == "hang":
        threading.Event().wait()
    elif word == "die":
        os.kill(os.getpid(), signal.SIGKILL)
    elif word == "say":
        print(value, flush=True)
    if state["sick"] or "probe" in WORDS and not os.path.exists("ready"):
        return 500, "sick"
    state["served"] += 1
    return 200, json.dumps(facts(peer))


def serve(s, peer):
    """Requests without bodies, one after the other, until one says close."""
    with s, s.makefile("rb") as stream:
        while line := stream.readline(65536):
            close = False
            while (header := stream.readline(65536)) not in (b"\r\n", b""):
                close |= header.lower().startswith(b"connection: close")
            status, body = answer(line.split()[1].decode(), peer)
            s.sendall(f"HTTP/1.1 {status} X\r\nContent-Length: {len(body)}\r\n\r\n{body}".encode())
            if close:
                return


def served(s, peer):
    try:
        serve(s, peer)
    except (OSError, IndexError):
        pass


def watchdog():
    every = int(os.environ["WATCHDOG_USEC"]) / 1e6 / 4
    while not state["silent"]:
        notify("WATCHDOG=1")
        time.sleep(every)


def ready_when_told():
    while not os.path.exists("ready"):
        time.sleep(0.02)
    notify("READY=1\nSTATUS=at your service")


def main():
    if "exit" in WORDS:
        sys.exit(3)
    if "stubborn" in WORDS:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    if "slow" in WORDS:
        time.sleep(1)
    if "daemon" in WORDS and os.fork():
        os._exit(0)
    if "none" in WORDS:
        signal.pause()
    listener = socket.create_server((ADDRESS, int(PORT)), backlog=1024)
    for word, action in (("notify", ready_when_told), ("watchdog", watchdog)):
        if word in WORDS:
            threading.Thread(target=action, daemon=True).start()
    while "deaf" in WORDS or state.get("deaf"):
        signal.pause()
    while True:
        try:
            s, peer = listener.accept()
        except OSError:
            time.sleep(0.05)
            continue
        if "single" in WORDS:
            served(s, peer)
        else:
            threading.Thread(target=served, args=(s, peer), daemon=True).start()
        if state.get("deaf"):
            signal.pause()


main()
