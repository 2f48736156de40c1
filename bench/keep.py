#!/usr/bin/python3
"""keep.py PROGRAM [ARGUMENT...]: what a service manager does for berthd. Starts the program again
at once whenever it ends, adopts the processes that it leaves behind, and reaps them."""

import ctypes
import os
import signal
import sys
import time

PR_SET_CHILD_SUBREAPER = 36
# A program that ends at once is not started in a busy loop.
SHORTEST_S = 0.02


def main():
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    while True:
        began = time.monotonic()
        child = os.posix_spawn(sys.argv[1], sys.argv[1:], os.environ)
        while os.wait()[0] != child:
            pass
        time.sleep(max(0, began + SHORTEST_S - time.monotonic()))


if __name__ == "__main__":
    main()
