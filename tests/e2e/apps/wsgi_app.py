"""A WSGI application: says its marker, and who asked. /hold keeps this worker busy until the file
that E2E_RELEASE names exists (and says so by a file of that name and ".held"), so that a test can
see another worker answer."""

import os
import time


def application(environ, start_response):
    if environ["PATH_INFO"] == "/hold":
        with open(os.environ["E2E_RELEASE"] + ".held", "w", encoding="ascii"):
            pass
        deadline = time.monotonic() + 20
        while not os.path.exists(os.environ["E2E_RELEASE"]) and time.monotonic() < deadline:
            time.sleep(0.01)
    body = (f"{os.environ['E2E_MARKER']} peer={environ['REMOTE_ADDR']} "
            f"port={environ['REMOTE_PORT']} pid={os.getpid()}\n").encode()
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", str(len(body)))])
    return [body]
