"""The labs that stand on this machine, by the names of their network namespaces; and how one goes."""

import contextlib
import os
import pathlib
import signal
import subprocess
import time

NETNS = pathlib.Path("/run/netns")
PREFIX = "natlab-"


class LabError(Exception):
    """The lab cannot be built; says why."""


def ip_batch(*lines, check=True):
    made = subprocess.run(["ip", "-force", "-batch", "-"] if not check else ["ip", "-batch", "-"],
                          input="\n".join(lines) + "\n", capture_output=True, text=True, check=False)
    if check and made.returncode != 0:
        raise LabError(f"ip: {made.stderr.strip()}")


def pids_in(names):
    """The processes in these namespaces."""
    inodes = set()
    for name in names:
        with contextlib.suppress(OSError):
            inodes.add((NETNS / name).stat().st_ino)
    found = []
    for entry in os.listdir("/proc"):
        with contextlib.suppress(OSError):
            if entry.isdigit() and os.stat(f"/proc/{entry}/ns/net").st_ino in inodes:
                found.append(int(entry))
    return found


def remove(names):
    """Ends what runs in these namespaces and deletes them."""
    deadline = time.monotonic() + 5
    while (pids := pids_in(names)) and time.monotonic() < deadline:
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(0.002)
    ip_batch(*(f"netns del {name}" for name in names), check=False)


def labs():
    """name -> the namespaces of each lab that stands."""
    found = {}
    for entry in sorted(os.listdir(NETNS)) if NETNS.exists() else []:
        name, _, role = entry.rpartition("-")
        if name.startswith(PREFIX) and role:
            found.setdefault(name, []).append(entry)
    return found


def owner_is_alive(name):
    """Whether the process that built this lab still runs."""
    pid = name.removeprefix(PREFIX).split(".")[0]
    return os.path.exists(f"/proc/{pid}")
