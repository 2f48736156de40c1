#!/usr/bin/python3
"""`make check`: builds, runs every test in the usual build and again with sanitizers, and counts.
The last line is `N passed, N failed, N skipped`; the exit status is 1 when anything failed. Output
of what runs goes to files in the build folders; of what fails, its end is shown here, too. An
end-to-end test that fails is run once more by itself: when it passes then, it is named as UNSTEADY,
and more than a few of those are a failure."""

import argparse
import concurrent.futures
import dataclasses
import json
import os
import pathlib
import queue
import re
import signal
import subprocess
import sys
import tempfile
import time
import xml.etree.ElementTree

ROOT = pathlib.Path(__file__).resolve().parent.parent
E2E = ROOT / "tests" / "e2e"
NATLAB = ROOT / "tests" / "natlab"
SANITIZERS = ["-Db_sanitize=address,undefined", "-Dbuildtype=debugoptimized", "-Db_lundef=false"]
# What is not about our own daemons' memory is tested once.
PLAIN_ONLY = {"test_abuse", "test_bench", "test_completion", "test_conf", "test_dead_path",
              "test_dialled", "test_fire", "test_keeping", "test_lab", "test_learned",
              "test_peers_net", "test_portmap", "test_programs", "test_punch", "test_shim",
              "test_shim_claims", "test_systemd", "test_why"}
# What measures, looks at the whole machine or has names that all see runs alone; other files two at a time.
SERIAL = {"test_bench", "test_crash", "test_dialled", "test_fire", "test_lab", "test_peers",
          "test_peers_net", "test_punch", "test_relay", "test_systemd", "test_why"}
SLOTS = 2
BUILD_SECONDS, UNIT_SECONDS, FILE_SECONDS = 900, 600, 600
SHOWN_BYTES = 6000
UNSTEADY_MAX, UNSTEADY_SHOWN_BYTES = 5, 2500


@dataclasses.dataclass
class Count:
    passed: int = 0
    failed: int = 0
    skipped: int = 0
    names: list = dataclasses.field(default_factory=list)
    unsteady: dict = dataclasses.field(default_factory=dict)  # name -> the end of its first failure

    def add(self, other):
        self.passed += other.passed
        self.failed += other.failed
        self.skipped += other.skipped
        self.names += other.names
        self.unsteady.update(other.unsteady)

    def fail(self, name):
        self.failed += 1
        self.names.append(name)

    def __str__(self):
        return f"{self.passed} passed, {self.failed} failed, {self.skipped} skipped"


def run(argv, log, seconds, env=None):
    """The exit status, or None when it had to be ended; output in the file `log`."""
    log.parent.mkdir(parents=True, exist_ok=True)
    with open(log, "wb") as out:
        process = subprocess.Popen([str(a) for a in argv], stdin=subprocess.DEVNULL, stdout=out,
                                   stderr=out, cwd=ROOT, env=env, start_new_session=True)
        try:
            return process.wait(seconds)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            return None


def show(text):
    print("".join(f"    | {line}\n" for line in text.splitlines()), flush=True)


def show_end(log):
    show(log.read_bytes()[-SHOWN_BYTES:].decode(errors="replace"))


class Build:
    """One build folder and the tests that run from it."""

    def __init__(self, folder, options, reports):
        self.folder = folder if folder.is_absolute() else ROOT / folder
        self.options = options
        self.logs = self.folder / "check"
        self.env = dict(os.environ, BERTH_BUILD=str(self.folder), PYTHONDONTWRITEBYTECODE="1")
        self.env["UBSAN_OPTIONS"] = "halt_on_error=1:print_stacktrace=1"
        self.reports = reports if options else None
        self.slots = queue.SimpleQueue()
        for slot in range(SLOTS):
            self.slots.put(str(slot))
        self.daemon_env = dict(self.env)
        if options:
            # A daemon ends with all that it knows still allocated; unit tests look for leaks.
            self.daemon_env["ASAN_OPTIONS"] = f"detect_leaks=0:log_path={reports}/asan"

    def _done(self, name, count, began, log):
        seconds = time.monotonic() - began
        print(f"  {self.folder.name + ': ' + name:42} {count} ({seconds:.0f} s)", flush=True)
        if count.failed:
            show_end(log)
        return count

    def build(self):
        began, log = time.monotonic(), self.logs / "build.log"
        argv = ["ninja", "-C", self.folder]
        status = 0
        if not (self.folder / "build.ninja").exists():
            status = run(["meson", "setup", self.folder, *self.options], log, BUILD_SECONDS)
        if status == 0:
            status = run(argv, log, BUILD_SECONDS)
        if status == 0:
            print(f"  {self.folder.name}: built ({time.monotonic() - began:.0f} s)", flush=True)
            return Count()
        count = Count()
        count.fail(f"{self.folder.name}: build")
        return self._done("build", count, began, log)

    def units(self):
        """Everything that meson knows of, but the end-to-end tests: those are counted one by one."""
        began, log = time.monotonic(), self.logs / "unit.log"
        results = self.folder / "meson-logs" / "testlog.json"
        results.unlink(missing_ok=True)
        status = run(["meson", "test", "-C", self.folder, "--no-rebuild", "--no-suite", "e2e",
                      "--print-errorlogs"], log, UNIT_SECONDS, self.env)
        count = meson_count(results, self.folder.name)
        if status != 0 and not count.failed:
            count.fail(f"{self.folder.name}: meson test")
        return self._done("unit and fuzz corpora", count, began, log)

    def _pytest(self, what, name):
        """One run of pytest: its status, and its results as a file that need not be there."""
        results = self.logs / (name + ".xml")
        results.unlink(missing_ok=True)
        slot = self.slots.get()
        status = run([sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider",
                      f"--junitxml={results}", what], self.logs / (name + ".log"), FILE_SECONDS,
                     dict(self.daemon_env, BERTH_TEST_SLOT=slot))
        self.slots.put(slot)
        return status, results

    def _once_more(self, path, count, failed):
        """What failed is run by itself, and counts as what it is then."""
        said = (self.logs / (path.stem + ".log")).read_text(encoding="utf-8", errors="replace")
        for case in failed:
            name = f"{self.folder.name}: {path.stem}::{case}"
            status, _ = self._pytest(f"{path}::{case}", f"{path.stem}-again")
            if status == 0:
                count.passed += 1
                count.unsteady[name] = section_of(said, case)
            else:
                count.fail(name)

    def end_to_end(self, path):
        began, log = time.monotonic(), self.logs / (path.stem + ".log")
        status, results = self._pytest(path, path.stem)
        count, failed = junit_count(results)
        if status not in (0, 5) and not failed:
            count.fail(f"{self.folder.name}: {path.stem} ended early")
        # More than that is no accident.
        if len(failed) <= UNSTEADY_MAX:
            self._once_more(path, count, failed)
        else:
            for case in failed:
                count.fail(f"{self.folder.name}: {path.stem}::{case}")
        return self._done(path.stem, count, began, log)

    def sanitizer_reports(self):
        """What a daemon said before it died, even where the tests got over it."""
        count = Count()
        for report in sorted(self.reports.glob("asan.*")) if self.reports else []:
            count.fail(f"{self.folder.name}: sanitizer report {report.name}")
            show_end(report)
        return count

    def all(self):
        count = self.build()
        if count.failed:
            return count
        count.add(self.units())
        paths = [path for path in sorted(E2E.glob("test_*.py")) + sorted(NATLAB.glob("test_*.py"))
                 if not (self.options and path.stem in PLAIN_ONLY)]
        with concurrent.futures.ThreadPoolExecutor(SLOTS) as pool:
            for more in pool.map(self.end_to_end, [p for p in paths if p.stem not in SERIAL]):
                count.add(more)
        for path in paths:
            if path.stem in SERIAL:
                count.add(self.end_to_end(path))
        count.add(self.sanitizer_reports())
        return count


def meson_count(results, where):
    count = Count()
    for line in results.read_text(encoding="utf-8").splitlines() if results.exists() else []:
        test = json.loads(line)
        if test["result"] in ("OK", "EXPECTEDFAIL"):
            count.passed += 1
        elif test["result"] == "SKIP":
            count.skipped += 1
        else:
            count.fail(f"{where}: {test['name']}: {test['result']}")
    return count


def section_of(said, case):
    """What pytest says of one failure, with the output of the programs."""
    title = rf"^_+ (?:ERROR at \w+ of )?{re.escape(case)} _+$"
    found = re.search(title + r"(.*?)(?=^_+ (?!_).* _+$|^=+ |\Z)", said, re.MULTILINE | re.DOTALL)
    return found[1] if found else said


def junit_count(results):
    """What passed and was skipped, and apart from that the names of what failed."""
    count, failed = Count(), []
    if not results.exists():
        return count, failed
    for case in xml.etree.ElementTree.parse(results).iter("testcase"):
        if case.find("failure") is not None or case.find("error") is not None:
            failed.append(case.get("name"))
        elif case.find("skipped") is not None:
            count.skipped += 1
        else:
            count.passed += 1
    return count, failed


def show_unsteady(total):
    for name, text in total.unsteady.items():
        print(f"UNSTEADY {name}")
        show(text[-UNSTEADY_SHOWN_BYTES:])
    if len(total.unsteady) > UNSTEADY_MAX:
        total.fail(f"{len(total.unsteady)} tests are unsteady")


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--build", type=pathlib.Path, default=pathlib.Path("build"))
    parser.add_argument("--san", type=pathlib.Path, default=pathlib.Path("build-san"))
    parser.add_argument("--only", choices=["plain", "san"], help="one of the two builds")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="berth-check-") as reports:
        os.chmod(reports, 0o777)
        plain = Build(options.build, [], pathlib.Path(reports))
        san = Build(options.san, SANITIZERS, pathlib.Path(reports))
        total = Count()
        for name, build in (("plain", plain), ("san", san)):
            if options.only in (None, name):
                total.add(build.all())
    show_unsteady(total)
    for name in total.names:
        print(f"FAILED {name}")
    print(total)
    return 1 if total.failed else 0


if __name__ == "__main__":
    sys.exit(main())
