"""A berthd for the tests of the preloaded library: it speaks the control protocol of
src/wire/appmsg.h, owns queues, and does what a test tells it."""

import array
import os
import random
import selectors
import socket
import struct
import threading
from dataclasses import dataclass, field

MAGIC, VERSION = 0xBE47, 1
(APP, BIND, LISTEN, UNLISTEN, WHY, LIST, STATUS, STOP, OPTION, CLOSED, CONN, OK, ERROR, TEXT,
 BOUND) = range(1, 16)
REUSEPORT = 2
LISTENING_PRIORITY = 5


def pack_addr(family, ip, port):
    raw = socket.inet_pton(family, ip) if family != socket.AF_UNIX else b""
    return struct.pack(">BH16sI", family, port, raw, 0)


def unpack_addr(data):
    family, port, raw, _ = struct.unpack(">BH16sI", data[:23])
    size = 4 if family == socket.AF_INET else 16
    return (family, socket.inet_ntop(family, raw[:size]), port), data[23:]


def vec(data):
    return struct.pack(">H", len(data)) + data


def unvec(data):
    n, = struct.unpack(">H", data[:2])
    return data[2:2 + n], data[2 + n:]


def message(kind, body=b""):
    return struct.pack(">HBB", MAGIC, VERSION, kind) + body


@dataclass
class Message:
    kind: int
    queue: int = 0
    name: str = ""
    routes: list = field(default_factory=list)
    flags: int = 0
    instance: bytes = b""
    addr: tuple = ()
    v6only: bool = False
    level: int = 0
    option: int = 0
    value: bytes = b""
    err: int = 0


def unlist(data):
    count, data = data[0], data[1:]
    items = []
    for _ in range(count):
        item, data = unvec(data)
        items.append(item.decode())
    return items, data


def decode(data):
    magic, version, kind = struct.unpack(">HBB", data[:4])
    assert (magic, version) == (MAGIC, VERSION), data
    m, data = Message(kind), data[4:]
    if kind == APP:
        m.flags, m.instance = struct.unpack(">I16s", data[:20])
        name, data = unvec(data[20:])
        m.name = name.decode()
        _, data = unvec(data)
        m.routes, data = unlist(data)
        _, data = unlist(data)
    elif kind == BIND:
        m.flags, = struct.unpack(">I", data[:4])
        m.addr, data = unpack_addr(data[4:])
        m.v6only, data = bool(data[0]), data[1:]
    elif kind in (LISTEN, UNLISTEN):
        m.queue, data = struct.unpack(">I", data[:4])[0], data[4:]
    elif kind == WHY:
        m.addr, data = unpack_addr(data)
        m.err, data = struct.unpack(">i", data[:4])[0], data[4:]
    elif kind == OPTION:
        m.level, m.option = struct.unpack(">ii", data[:8])
        m.value, data = unvec(data[8:])
    assert data == b"", (kind, data)
    return m


class Queue:
    """Both ends: `writer` sends connections, `reader` is what programs get."""

    def __init__(self, number, nonce, addr, v6only):
        self.number, self.addr = number, addr
        self.writer, self.reader = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        family, ip, port = addr
        raw = socket.inet_pton(family, ip).ljust(16, b"\0")
        name = "berth/1/%01x/%02x%04x%s/%08x-%08x" % (v6only, family, port, raw.hex(), number,
                                                      nonce)
        self.reader.bind(b"\0" + name.encode())

    def set_listening(self, yes):
        self.reader.setsockopt(socket.SOL_SOCKET, socket.SO_PRIORITY,
                               LISTENING_PRIORITY if yes else 0)


class FakeBerthd:
    """Answers in a thread until close(); `seen` holds every message in order."""

    def __init__(self, path):
        self.nonce = random.getrandbits(32)  # abstract names are one space for the whole machine
        self.path, self.refusal, self.why, self.notice = path, None, "because", ""
        self.seen, self.queues, self.changed = [], {}, threading.Condition()
        self.selector = selectors.DefaultSelector()
        self.wake_in, self.wake_out = socket.socketpair()
        self.selector.register(self.wake_out, selectors.EVENT_READ, self._stop)
        self.listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        temporary = path + ".new"
        self.listener.bind(temporary)
        self.listener.listen(64)
        os.chmod(temporary, 0o666)
        os.rename(temporary, path)
        self.selector.register(self.listener, selectors.EVENT_READ, self._accept)
        self.running = True
        self.thread = threading.Thread(target=self._run)
        self.thread.start()

    def close(self, unlink=False):
        self.wake_in.send(b"x")
        self.thread.join()
        for key in list(self.selector.get_map().values()):
            key.fileobj.close()
        for queue in self.queues.values():
            queue.writer.close()
            queue.reader.close()
        self.wake_in.close()
        self.selector.close()
        if unlink:
            os.unlink(self.path)

    def _run(self):
        while self.running:
            for key, _ in self.selector.select():
                key.data(key.fileobj)

    def _stop(self, _):
        self.running = False

    def _accept(self, listener):
        conn, _ = listener.accept()
        self.selector.register(conn, selectors.EVENT_READ, self._control)

    def _note(self, m):
        with self.changed:
            self.seen.append(m)
            self.changed.notify_all()

    def _control(self, conn):
        data = conn.recv(65536)
        if not data:
            self.selector.unregister(conn)
            conn.close()
            return
        m = decode(data)
        fds = self._answer(conn, m)
        self._note(m)
        conn.sendmsg([self.reply], fds)

    def _answer(self, conn, m):
        self.reply = message(OK)
        if m.kind == WHY:
            self.reply = message(TEXT, vec(self.why.encode()))
        if m.kind in (LISTEN, UNLISTEN):
            self.queues[m.queue].set_listening(m.kind == LISTEN)
        if m.kind != BIND:
            return []
        if self.refusal:
            err, text = self.refusal
            self.reply = message(ERROR, struct.pack(">i", err) + vec(text.encode()))
            return []
        queue = next((q for q in self.queues.values() if q.addr == m.addr), None)
        if not queue:
            queue = Queue(len(self.queues) + 1, self.nonce, m.addr, m.v6only)
            self.queues[queue.number] = queue
            self.selector.register(queue.writer, selectors.EVENT_READ, self._queue)
        self.reply = message(BOUND, struct.pack(">I", queue.number) + vec(self.notice.encode()))
        return [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [queue.reader.fileno()]))]

    def _queue(self, writer):
        m = decode(writer.recv(65536))
        if m.kind == LISTEN:
            self.queues[m.queue].set_listening(True)
        self._note(m)

    def wait(self, kind, count=1, timeout=10):
        """The count-th message of this kind."""
        def found():
            return [m for m in self.seen if m.kind == kind]
        with self.changed:
            assert self.changed.wait_for(lambda: len(found()) >= count, timeout), \
                f"no message {kind}: {self.seen}"
            return found()[count - 1]

    def count(self, kind):
        with self.changed:
            return sum(m.kind == kind for m in self.seen)

    def deliver(self, conn, peer, number=1, fds=True, flags=0, close=True):
        """Passes an accepted socket as dispatch does, and closes our copy."""
        body = struct.pack(">I", flags) + pack_addr(*peer) + pack_addr(*peer) + b"\1"
        rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [conn.fileno()]))]
        self.queues[number].writer.sendmsg([message(CONN, body)], rights if fds else [])
        if close:
            conn.close()
