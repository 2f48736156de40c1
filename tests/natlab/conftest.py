"""The lab's modules are beside its tests; what cannot run here is skipped, with the reason. Fixtures of tests
with the real daemons."""

import os
import pathlib
import sys

import pytest

sys.path.insert(0, str(pathlib.Path(__file__).parent))
import lab  # noqa: E402  (needs the path above)
from peered import LabWorld, built_folder  # noqa: E402  (it knows the way to the following)
from harness import adopt_orphans  # noqa: E402


def pytest_collection_modifyitems(items):
    if os.geteuid() == 0 and lab.can_use_tun():
        return
    for item in items:
        item.add_marker(pytest.mark.skip(reason="needs root and /dev/net/tun"))


@pytest.fixture(scope="session")
def orphans():
    """Daemons are waited for by whoever runs the tests."""
    adopt_orphans()


@pytest.fixture
def worlds(request, orphans):  # pylint: disable=unused-argument,redefined-outer-name
    """Makes worlds in labs; each is closed at the end of the test. What its daemons said is shown
    when that failed."""
    made = []

    def make(a, b):
        made.append(LabWorld(built_folder(), a, b))
        return made[-1]

    failed = request.session.testsfailed
    yield make
    for world in made:
        if request.session.testsfailed > failed:
            for name, text in world.report():
                print(f"--- {name}\n{text}")
        world.close()
