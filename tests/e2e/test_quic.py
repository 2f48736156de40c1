"""A stranger's QUIC client, which knows neither our protocol nor raw keys, at the port of a peer."""

import os
import re
import shutil
import subprocess
import tempfile

import pytest

from harness import wait_until

pytestmark = [
    pytest.mark.berth_only,
    pytest.mark.skipif(not shutil.which("gtlsclient"), reason="no gtlsclient"),
]
# TLS alert 120: no_application_protocol.
REFUSAL = "CRYPTO_ERROR(0x178)"


@pytest.fixture
def port(build):
    """The UDP port of a berth-peer, which must live on whatever comes to it."""
    folder = tempfile.mkdtemp(prefix="bq-")
    environment = {**os.environ, "HOME": folder, "BERTH_RUNTIME_DIR": folder,
                   "BERTH_KEY": folder + "/key"}
    log = os.path.join(folder, "log")
    subprocess.run([os.path.join(build, "berth"), "key", "new"], env=environment, check=True,
                   stdout=subprocess.DEVNULL)
    with open(log, "wb") as out:
        peer = subprocess.Popen([os.path.join(build, "berth-peer"), "--key", folder + "/key"],
                                env=environment, stderr=out)
    try:
        found = wait_until(lambda: re.search(r"ready port=(\d+)", open(log, encoding="utf-8").read()))
        yield int(found[1])
        assert peer.poll() is None, open(log, encoding="utf-8").read()
    finally:
        peer.terminate()
        peer.wait(10)
        shutil.rmtree(folder)


def ask(port, *options):
    run = subprocess.run(["gtlsclient", *options, "127.0.0.1", str(port), "https://localhost/"],
                         capture_output=True, text=True, timeout=20, check=False)
    return run.stdout + run.stderr


def test_a_strange_client_is_refused_in_the_words_of_tls(port):
    assert REFUSAL in ask(port)


def test_another_version_is_answered_with_the_versions_that_there_are(port):
    said = ask(port, "--version=0x1a2a3a4a", "--exit-on-first-stream-close")
    assert "Version Negotiation" in said or "VN" in said or "0x00000001" in said, said


def test_a_hundred_strangers_leave_the_port_as_it_was(port):
    clients = [subprocess.Popen(["gtlsclient", "127.0.0.1", str(port), "https://localhost/"],
                                stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
               for _ in range(40)]
    refused = sum(REFUSAL in client.communicate(timeout=30)[0] for client in clients)
    assert refused == len(clients)
    assert REFUSAL in ask(port)
