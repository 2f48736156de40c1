"""Nothing is lost: many requests while pools are restarted, the configuration is read again,
programs are replaced or killed; and the same while nginx and HAProxy reload. Once with a connection
for each request, once with wrk over connections that stay open."""

import re
import shutil
import subprocess

from fronts import HOST
from life_rig import Disturbance, Haproxy, Nginx, Pool
from procs import Failure

CONNECTIONS = 64
# After the last request, this long for answers that are on their way.
GRACE_S = 20
# So many that no port is asked for again while an earlier connection rests in TIME_WAIT.
SOURCES = 1024


class Trial:
    """A front, and what is done to it how often."""

    def __init__(self, front, what, act=None, interval_s=1.0):
        self.front = front
        self.what = what
        self.act = act
        self.interval_s = interval_s


TRIALS = [
    Trial(Pool, "nothing"),
    Trial(Pool, "restart of the pool, every second", "restart"),
    Trial(Pool, "reload with a change, every 100 ms", "reload", 0.1),
    Trial(Pool, "upgrade, every 3 s", "upgrade", 3.0),
    Trial(Pool, "kill -9 of berth-dispatch, every second", "kill_dispatch"),
    Trial(Pool, "kill -9 of berthd, every second", "kill_berthd"),
    Trial(Nginx, "nothing"),
    Trial(Nginx, "reload with a change, every second", "reload"),
    Trial(Haproxy, "nothing"),
    Trial(Haproxy, "reload with a change, every second", "reload"),
]
LATENCY_UNIT = {"us": 1, "ms": 1000, "s": 1e6, "m": 6e7}


def wrk_latency(text, percent):
    found = re.search(rf"^\s*{percent}%\s+([\d.]+)(us|ms|s|m)\s*$", text, re.M)
    return float(found[1]) * LATENCY_UNIT[found[2]] if found else 0.0


def wrk_count(text, pattern):
    return sum(int(number) for number in re.findall(pattern, text))


def run_wrk(port, seconds):
    """One run of wrk as the same keys that bench/load prints."""
    argv = ["wrk", "-t", "2", "-c", str(CONNECTIONS), "-d", f"{max(1, round(seconds))}s",
            "--latency", "--timeout", f"{GRACE_S}s", "-H", f"Host: {HOST}:{port}",
            f"http://127.0.0.1:{port}/"]
    answer = subprocess.run(argv, capture_output=True, text=True, timeout=seconds + 120,
                            check=False)
    if answer.returncode != 0:
        raise Failure(f"wrk: {(answer.stderr or answer.stdout).strip()[-200:]}")
    errors = "".join(re.findall(r"^\s*Socket errors:.*$", answer.stdout, re.M))
    failed = wrk_count(errors, r"(?:connect|read|write|timeout) (\d+)")
    failed += wrk_count(answer.stdout, r"Non-2xx or 3xx responses: (\d+)")
    return {"done": wrk_count(answer.stdout, r"(\d+) requests in"), "failed": failed,
            "p50_us": wrk_latency(answer.stdout, 50), "p99_us": wrk_latency(answer.stdout, 99)}


def run_connect(bench, port, options):
    result = bench.load(port, "connect", seconds=options.seconds, threads=2,
                        connections=CONNECTIONS, requests=options.requests, grace=GRACE_S,
                        sources=SOURCES)
    result["failed"] += result["stalled"]
    return result


def disturbed(front, trial, run):
    """What `run` gives back, with how often the front was disturbed meanwhile."""
    if not trial.act:
        return {**run(), "events": 0, "errors": []}
    with Disturbance(lambda number: getattr(front, trial.act)(number), trial.interval_s) as steady:
        result = run()
    return {**result, "events": steady.done, "errors": steady.errors}


def kinds(result):
    names = ("refused", "reset", "cut", "wrong", "stalled")
    found = [f"{result[name]:.0f} {name}" for name in names if result.get(name)]
    return f" ({', '.join(found)})" if found else ""


def show(trial, mode, result):
    print(f"loss {trial.front.name}, {trial.what}, {mode}: {result['done']:.0f} answered, "
          f"{result['failed']:.0f} failed{kinds(result)}, {result['events']} times, "
          f"p50 {result['p50_us']:.0f} us, p99 {result['p99_us']:.0f} us, "
          f"slowest {result.get('max_us', 0):.0f} us", flush=True)
    for error in dict.fromkeys(result["errors"]):
        print(f"  {result['errors'].count(error)} times: {error}", flush=True)


def measure_trial(bench, trial, options):
    front = trial.front(bench)
    result = {"trial": trial}
    try:
        front.start()
        if trial.act == "upgrade" and not front.site.knows("upgrade"):
            print("loss: berth has no `upgrade`; left out", flush=True)
            return None
        bench.load(front.port, "connect", seconds=0.2)
        result["connect"] = disturbed(front, trial,
                                      lambda: run_connect(bench, front.port, options))
        show(trial, "short connections", result["connect"])
        if shutil.which("wrk"):
            seconds = options.seconds
            result["keepalive"] = disturbed(front, trial, lambda: run_wrk(front.port, seconds))
            show(trial, "wrk, kept alive", result["keepalive"])
    finally:
        front.stop()
    return result


def chosen(options):
    fronts = [front for front in (Pool, Nginx, Haproxy) if front is Pool or front.available()]
    return [trial for trial in TRIALS if trial.front in fronts
            and (not options.trial or trial.act in options.trial)]


def measure(bench, options):
    results = []
    for trial in chosen(options):
        try:
            results.append(measure_trial(bench, trial, options))
        except (Failure, subprocess.SubprocessError) as failure:
            print(f"loss {trial.front.name}, {trial.what}: {failure}; the end of the log: "
                  f"{bench.log_tail()}", flush=True)
            results.append({"trial": trial, "failure": str(failure)})
    return [result for result in results if result]
