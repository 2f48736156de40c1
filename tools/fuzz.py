#!/usr/bin/python3
"""`make fuzz`: builds each fuzz/*-fuzz.c with libFuzzer and lets it run for a while over a copy of
its corpus. Stops at the first finding."""

import argparse
import os
import pathlib
import shutil
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
FOLDER = ROOT / "build-fuzz"
SETUP = ["-Dlibfuzzer=true", "-Db_sanitize=address,undefined", "-Db_lundef=false", "-Dwerror=false",
         "-Dbuildtype=debugoptimized",
         "-Dc_args=-fsanitize=fuzzer-no-link -fno-sanitize-recover=all -O1"]


def run(argv, **options):
    return subprocess.run([str(a) for a in argv], check=True, cwd=ROOT, **options)


def build(names):
    if not (FOLDER / "build.ninja").exists():
        run(["meson", "setup", FOLDER, *SETUP], stdout=subprocess.DEVNULL,
            env={**os.environ, "CC": "clang"})
    run(["ninja", "-C", FOLDER, "--quiet", *(f"fuzz/{name}-fuzz" for name in names)])


def fuzz(name, seconds):
    """Finds go to the build folder; what is worth keeping is added to fuzz/corpus by hand."""
    corpus = FOLDER / "corpus" / name
    shutil.copytree(ROOT / "fuzz" / "corpus" / name, corpus, dirs_exist_ok=True)
    artifacts = FOLDER / "findings" / name
    artifacts.mkdir(parents=True, exist_ok=True)
    run([FOLDER / "fuzz" / f"{name}-fuzz", corpus, f"-max_total_time={seconds}", "-max_len=32768", "-timeout=5",
         "-print_final_stats=1", f"-artifact_prefix={artifacts}/"],
        stderr=subprocess.STDOUT, stdout=open(FOLDER / (name + ".log"), "wb"))


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=int, default=60, help="for each target")
    parser.add_argument("--only", help="one target")
    options = parser.parse_args()
    os.chdir(ROOT)
    names = [options.only] if options.only else sorted(
        path.name.removesuffix("-fuzz.c") for path in (ROOT / "fuzz").glob("*-fuzz.c"))
    build(names)
    for name in names:
        print(f"fuzz {name:10} {options.seconds} s ... ", end="", flush=True)
        try:
            fuzz(name, options.seconds)
        except subprocess.CalledProcessError as e:
            print(f"FOUND SOMETHING (exit {e.returncode}): see {FOLDER / (name + '.log')}")
            return 1
        print("nothing found")
    return 0


if __name__ == "__main__":
    sys.exit(main())
