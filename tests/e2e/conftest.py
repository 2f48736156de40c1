"""Fixtures. BERTH_BUILD names the build folder; BERTH_E2E_NATIVE=1 runs the same programs and
clients without berth, which proves that the tests themselves are right."""

import os
import resource
import subprocess

import pytest

import harness
import peers
import rendezvous
from programs import Postgresql
from stage import BERTH, NATIVE, Stage

HERE = os.path.dirname(os.path.abspath(__file__))
MODE = NATIVE if os.environ.get("BERTH_E2E_NATIVE") == "1" else BERTH
STAGES = pytest.StashKey()


def pytest_configure(config):
    config.addinivalue_line("markers", "berth_only: has no meaning without berth")
    harness.adopt_orphans()
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = 20000 if hard == resource.RLIM_INFINITY else min(20000, hard)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, wanted), hard))


def pytest_generate_tests(metafunc):
    if "mode" in metafunc.fixturenames:
        metafunc.parametrize("mode", [MODE])


def pytest_collection_modifyitems(items):
    skip = pytest.mark.skip(reason="has no meaning without berth")
    for item in items:
        if MODE == NATIVE and item.get_closest_marker("berth_only"):
            item.add_marker(skip)


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item, call):
    outcome = yield
    report = outcome.get_result()
    if report.failed and call.when in ("setup", "call"):
        for stage in item.stash.get(STAGES, []):
            report.sections += [(f"output of {name}", text) for name, text in stage.report()]


@pytest.fixture(scope="session", autouse=True)
def no_template_left():
    yield
    Postgresql.forget_template()


@pytest.fixture(scope="session")
def build():
    path = os.path.abspath(os.environ.get("BERTH_BUILD", os.path.join(HERE, "..", "..", "build")))
    if MODE == BERTH and not os.access(os.path.join(path, "berth"), os.X_OK):
        pytest.fail(f"{path} holds no berth: run make first, or set BERTH_BUILD")
    return path


@pytest.fixture
def new_stage(request, mode, build):
    """Makes stages; each is closed at the end of the test."""
    stages = request.node.stash.setdefault(STAGES, [])

    def make(user=None):
        stages.append(Stage(mode, build, user))
        return stages[-1]

    yield make
    errors = []
    for stage in stages:
        try:
            stage.close()
        except AssertionError as e:
            errors.append(str(e))
    assert not errors, "; ".join(errors)


@pytest.fixture
def stage(new_stage):
    return new_stage()


@pytest.fixture
def world(build):
    """Rendezvous servers, and users who ask them."""
    made = rendezvous.World(build)
    yield made
    made.close()


@pytest.fixture
def worlds(build):
    """Makes worlds of peers; each is closed at the end of the test. What its daemons said is
    shown when that failed."""
    made = []

    def make(**options):
        made.append(peers.World(build, **options))
        return made[-1]

    yield make
    for each in made:
        for name, text in each.report():
            print(f"--- {name}\n{text}")
        each.close()


@pytest.fixture
def netns():
    """The pid of a process in a network namespace of its own, which has the address 10.99.0.1."""
    if os.geteuid() != 0:
        pytest.skip("a network namespace needs root")
    holder = subprocess.Popen(["unshare", "-n", "sh", "-c", "echo ready; exec sleep 600"],
                              stdout=subprocess.PIPE)
    try:
        assert holder.stdout.readline() == b"ready\n"
        for command in ("link set lo up", "addr add 10.99.0.1/24 dev lo"):
            subprocess.run(["nsenter", f"--net=/proc/{holder.pid}/ns/net", "ip", *command.split()],
                           check=True, timeout=10)
        yield holder.pid
    finally:
        holder.kill()
        holder.wait()
        holder.stdout.close()
