"""A program on libberth that does one unusual thing: MODE ROUTE. It answers HTTP requests with its
mode, process id and what the library said of the connection; `listening` in its output means that
berth_attach() has returned, and what goes wrong ends it with a Python traceback."""

import ctypes
import errno
import importlib.util
import os
import resource
import selectors
import sys
import threading

EXAMPLE = os.path.join(os.path.dirname(os.path.abspath(__file__)), *[".."] * 3, "examples/native.py")
spec = importlib.util.spec_from_file_location("native", EXAMPLE)
native = importlib.util.module_from_spec(spec)
spec.loader.exec_module(native)
lib = native.load(os.environ["LIBBERTH"])
lib.berth_detach.argtypes = [ctypes.c_void_p]
NO_START, NONBLOCK = 4, 1


def attach(route, flags=0):
    berth = lib.berth_new()
    assert lib.berth_attach(berth, route, flags) == 0, lib.berth_reason(berth)
    return berth


def serve_waiting(berth, conn=None):
    """For a thread: berth_accept() waits."""
    conn = conn or native.Conn(size=ctypes.sizeof(native.Conn))
    while True:
        fd = lib.berth_accept(berth, conn, 0)
        assert fd >= 0, os.strerror(-fd)
        try:
            native.answer(fd, conn)
        except OSError:
            pass


def serve_polling(berth):
    """For a process: the descriptor is registered once and for all, edge-triggered or not."""
    loop, conn = selectors.EpollSelector(), native.Conn(size=ctypes.sizeof(native.Conn))
    loop.register(lib.berth_fd(berth), selectors.EVENT_READ)
    while True:
        loop.select()
        fd = lib.berth_accept(berth, conn, NONBLOCK)
        if fd == -errno.EAGAIN:
            continue
        assert fd >= 0, os.strerror(-fd)
        assert not os.get_blocking(fd) and not os.get_inheritable(fd)
        try:
            native.answer(fd, conn)
        except OSError:
            pass


def threads(route):
    berth = attach(route)
    for _ in range(4):
        threading.Thread(target=serve_waiting, args=(berth,)).start()


def workers(route):
    """A master that only waits, a worker that gives its handle back at once, and two that serve."""
    berth = attach(route, native.NOWAIT)
    for i in range(3):
        if os.fork():
            continue
        if i == 0:
            lib.berth_free(berth)
            os._exit(0)
        serve_polling(berth)
    os.wait()
    print("listening", flush=True)
    os.wait()


def lazy(route):
    """Takes nothing until it is killed."""
    attach(route)
    print("listening", flush=True)
    threading.Event().wait()


def again(route):
    """Gives its name back and takes it again, by the same handle and by another one."""
    berth = attach(route)
    fd = lib.berth_fd(berth)
    assert lib.berth_attach(berth, route, 0) == -errno.EISCONN
    assert lib.berth_detach(berth) == 0
    assert lib.berth_detach(berth) == -errno.ENOTCONN
    assert lib.berth_accept(berth, None, 0) == -errno.ENOTCONN
    assert lib.berth_attach(berth, route, 0) == 0, lib.berth_reason(berth)
    assert lib.berth_fd(berth) == fd
    other = lib.berth_new()
    assert lib.berth_attach(other, route, 0) == -errno.EADDRINUSE
    assert b"belongs to" in lib.berth_reason(other)
    lib.berth_free(berth)
    assert lib.berth_attach(other, route, 0) == 0, lib.berth_reason(other)
    serve_waiting(other)


def starved(route):
    """Has no descriptor left when the first connection comes, and then has some."""
    berth = attach(route, native.NOWAIT)
    print("listening", flush=True)
    poll = selectors.PollSelector()
    poll.register(lib.berth_fd(berth), selectors.EVENT_READ)
    poll.select()
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (4, hard))
    assert lib.berth_accept(berth, None, 0) == -errno.EMFILE
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    serve_polling(berth)


def misused(route):
    """Everything that the header says is refused."""
    berth, conn = lib.berth_new(), native.Conn(size=8)
    assert lib.berth_attach(berth, None, 0) == -errno.ENOENT
    assert lib.berth_attach(berth, route, 4) == -errno.ENOENT
    assert lib.berth_attach(berth, route, 1 << 20) == -errno.EINVAL
    assert lib.berth_attach(berth, b"http://a.localhost/", 0) == -errno.EINVAL
    assert lib.berth_attach(berth, b"no route:at all", 0) == -errno.EINVAL
    assert lib.berth_attach(berth, b" ".join([route] * 65), 0) == -errno.E2BIG
    assert lib.berth_attach(berth, b"http://a.localhost:8080/" + b"a" * 20000, 0) == -errno.EMSGSIZE
    lib.berth_set_name.argtypes = [ctypes.c_void_p, ctypes.c_char_p]
    for name in (b"", b"a\nb", b"a" * 65):
        assert lib.berth_set_name(berth, name) == -errno.EINVAL
        assert lib.berth_reason(berth)
    assert lib.berth_set_name(berth, b"tidy") == 0
    assert lib.berth_attach(berth, route, native.NOWAIT) == 0, lib.berth_reason(berth)
    assert lib.berth_accept(berth, conn, 0) == -errno.EINVAL
    assert lib.berth_accept(berth, None, 2) == -errno.EINVAL
    assert lib.berth_accept(berth, None, 0) == -errno.EAGAIN
    lib.berth_free(None)
    lib.berth_free(berth)


globals()[sys.argv[1]](sys.argv[2].encode())
