"""The lab's modules are beside its tests; what cannot run here is skipped, with the reason."""

import os
import pathlib
import sys

import pytest

sys.path.insert(0, str(pathlib.Path(__file__).parent))
import lab  # noqa: E402  (needs the path above)


def pytest_collection_modifyitems(items):
    if os.geteuid() == 0 and lab.can_use_tun():
        return
    for item in items:
        item.add_marker(pytest.mark.skip(reason="needs root and /dev/net/tun"))
