#!/usr/bin/python3
"""`make fuzz`: builds each fuzz/*-fuzz.c with libFuzzer and lets it run for a while over a copy of
its corpus. Which sources a target needs is asked of meson. Stops at the first finding."""

import argparse
import json
import os
import pathlib
import shutil
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
FOLDER = ROOT / "build-fuzz"
LIBRARIES = ["libnghttp2", "inih", "jansson"]
FLAGS = ["-g", "-O1", "-std=gnu11", "-D_GNU_SOURCE", "-fno-sanitize-recover=all",
         "-fsanitize=fuzzer,address,undefined", "-I" + str(ROOT / "src")]


def run(argv, **options):
    return subprocess.run([str(a) for a in argv], check=True, cwd=ROOT, **options)


def targets():
    """Name -> sources, from the programs that replay the corpora."""
    if not (FOLDER / "build.ninja").exists():
        run(["meson", "setup", FOLDER], stdout=subprocess.DEVNULL)
    text = run(["meson", "introspect", FOLDER, "--targets"], capture_output=True, text=True).stdout
    found = {}
    for target in json.loads(text):
        if not target["name"].startswith("replay-"):
            continue
        sources = [s for group in target["target_sources"] for s in group.get("sources", [])]
        found[target["name"].removeprefix("replay-")] = sorted(
            s for s in sources if pathlib.Path(s).name != "replay.c")
    return found


def build(name, sources):
    flags = run(["pkg-config", "--cflags", "--libs", *LIBRARIES], capture_output=True, text=True)
    program = FOLDER / (name + "-fuzz")
    run(["clang", *FLAGS, *sources, "-o", program, *flags.stdout.split()])
    return program


def fuzz(name, program, seconds):
    """Finds go to the build folder; what is worth keeping is added to fuzz/corpus by hand."""
    corpus = FOLDER / "corpus" / name
    shutil.copytree(ROOT / "fuzz" / "corpus" / name, corpus, dirs_exist_ok=True)
    artifacts = FOLDER / "findings" / name
    artifacts.mkdir(parents=True, exist_ok=True)
    run([program, corpus, f"-max_total_time={seconds}", "-max_len=32768", "-timeout=5",
         "-print_final_stats=1", f"-artifact_prefix={artifacts}/"],
        stderr=subprocess.STDOUT, stdout=open(FOLDER / (name + ".log"), "wb"))


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=int, default=60, help="for each target")
    parser.add_argument("--only", help="one target")
    options = parser.parse_args()
    os.chdir(ROOT)
    for name, sources in sorted(targets().items()):
        if options.only and name != options.only:
            continue
        print(f"fuzz {name:10} {options.seconds} s ... ", end="", flush=True)
        try:
            fuzz(name, build(name, sources), options.seconds)
        except subprocess.CalledProcessError as e:
            print(f"FOUND SOMETHING (exit {e.returncode}): see {FOLDER / (name + '.log')}")
            return 1
        print("nothing found")
    return 0


if __name__ == "__main__":
    sys.exit(main())
