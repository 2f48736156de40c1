"""What operators look at: metrics, logs of applications, berth top."""

import array
import json
import os
import pty
import re
import select
import signal
import socket
import struct
import subprocess
import tempfile
import termios
import threading

import pytest

from harness import Proc, Target, connect, free_port, fresh_source, http_get, wait_until
from programs import PYTHON, PYTHON_HTTP

pytestmark = pytest.mark.berth_only

# Metrics -----------------------------------------------------------------------------------------

NAME = r"[a-zA-Z_:][a-zA-Z0-9_:]*"
LABEL = r'[a-zA-Z_][a-zA-Z0-9_]*="(?:[^"\\\n]|\\["\\n])*"'
SAMPLE = re.compile(rf"({NAME})(?:\{{({LABEL}(?:,{LABEL})*)\}})? (\S+)")
COMMENT = re.compile(rf"# (HELP|TYPE) ({NAME}) (.+)")


def parse_metrics(text):
    """Text format 0.0.4, strictly: each family once, HELP and TYPE first, each series once."""
    assert text.endswith("\n")
    families, series, current = {}, {}, None
    for line in text.splitlines():
        comment = COMMENT.fullmatch(line)
        if comment:
            kind, name, rest = comment.groups()
            assert (kind == "HELP") == (name not in families), line
            families.setdefault(name, rest)
            assert kind == "HELP" or rest in ("counter", "gauge"), line
            assert kind == "HELP" or (rest == "counter") == name.endswith("_total"), line
            current = name
            continue
        sample = SAMPLE.fullmatch(line)
        assert sample and sample[1] == current, line
        key = (sample[1], sample[2] or "")
        assert key not in series, line
        series[key] = float(sample[3])
    return families, series


def total(series, name, **labels):
    wanted = [f'{k}="{v}"' for k, v in labels.items()]
    return sum(value for (n, text), value in series.items()
               if n == name and all(w in text for w in wanted))


def ask_raw(stage, data, where=None):
    """One exchange with the metrics socket (or an address): everything until it closes."""
    with socket.socket(socket.AF_INET if where else socket.AF_UNIX) as s:
        s.settimeout(10)
        s.connect(where or stage.control_path("metrics"))
        s.sendall(data)
        answer = b""
        while part := s.recv(65536):
            answer += part
        return answer


def scrape(stage, where=None):
    head, _, body = ask_raw(stage, b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n",
                            where).partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200 ")
    assert b"Content-Type: text/plain; version=0.0.4" in head
    assert f"Content-Length: {len(body)}".encode() in head
    return parse_metrics(body.decode())


def test_metrics_count_what_happens(stage):
    shop = stage.start(PYTHON_HTTP, "shop.localhost", options=("--name", 'sh"op'))
    stage.start(PYTHON_HTTP, "other.localhost")
    # A page is a second old at most; from here on there is only what this test does.
    before = parse_metrics(stage.berth("metrics").stdout)[1]
    seen = []
    stop = threading.Event()

    def traffic():
        while not stop.is_set():
            seen.append(http_get(shop.target).status)

    thread = threading.Thread(target=traffic)
    thread.start()
    try:
        while len(seen) < 200 and thread.is_alive():
            scrape(stage)
    finally:
        stop.set()
        thread.join()
    nobody = http_get(shop.target.named("nobody.localhost")).status
    assert nobody == 404 and set(seen) == {200}

    def counted():
        series = scrape(stage)[1]

        def rise(name, **labels):
            return total(series, name, **labels) - total(before, name, **labels)

        delivered = rise("berth_app_connections_delivered_total", app=r'sh\"op',
                         route=f"http://shop.localhost:{shop.target.port}/")
        return (delivered == len(seen) and rise("berth_connections_refused_total") == 1
                and rise("berth_connections_accepted_total") == len(seen) + 1)

    wait_until(counted, 10, "metrics that count every connection")


def test_the_command_prints_the_same_page(stage):
    stage.start(PYTHON_HTTP, "shop.localhost")
    done = stage.berth("metrics")
    assert done.returncode == 0, done.stderr
    families, series = parse_metrics(done.stdout)
    assert set(families) == set(scrape(stage)[0])
    assert total(series, "berth_build_info") == 1
    assert total(series, "berth_dispatch_restarts_total") == 0
    assert total(series, "berth_routes") == total(scrape(stage)[1], "berth_routes") >= 1
    assert total(series, "process_start_time_seconds") > 1.6e9


def test_a_killed_dispatch_is_counted(stage):
    stage.start(PYTHON_HTTP, "shop.localhost")
    os.kill(stage.daemon("berth-dispatch"), signal.SIGKILL)
    wait_until(lambda: total(scrape(stage)[1], "berth_dispatch_restarts_total") == 1, 10,
               "a counted restart")


@pytest.mark.parametrize("request_text, status", [
    (b"GET / HTTP/1.1\r\n\r\n", 404),
    (b"GET /metricsandmore HTTP/1.1\r\n\r\n", 404),
    (b"GET /metrics?x=1 HTTP/1.0\n\n", 200),
    (b"HEAD /metrics HTTP/1.1\r\n\r\n", 200),
    (b"POST /metrics HTTP/1.1\r\n\r\n", 405),
    (b"\0\xff\r\n\r\n", 405),
    (b"GET /metrics HTTP/1.1\r\nX: " + 4096 * b"x", 431),
])
def test_a_request_is_understood_by_its_first_line(stage, request_text, status):
    stage.serve()
    answer = ask_raw(stage, request_text[:4096])
    assert answer.startswith(f"HTTP/1.1 {status} ".encode()), answer
    assert b"\r\nConnection: close\r\n" in answer


def test_an_answer_comes_whole_to_a_client_that_has_said_too_much(stage):
    port = free_port()
    stage.serve("--metrics", f"127.0.0.1:{port}")
    for _ in range(20):
        answer = ask_raw(stage, b"GET /metrics HTTP/1.1\r\nX: " + 60000 * b"x", ("127.0.0.1", port))
        assert answer.startswith(b"HTTP/1.1 431 ") and b"Connection: close" in answer


def test_clients_that_hold_on_do_not_keep_others_out(stage):
    stage.serve()
    held = []
    try:
        for _ in range(30):
            s = socket.socket(socket.AF_UNIX)
            held.append(s)
            s.connect(stage.control_path("metrics"))
            s.sendall(b"GET /metr")
        assert scrape(stage)[1]
    finally:
        for s in held:
            s.close()


def test_metrics_can_be_at_a_loopback_address(stage):
    port = free_port()
    stage.serve("--metrics", f"127.0.0.1:{port}")
    assert scrape(stage, ("127.0.0.1", port))[1]
    assert not os.path.exists(stage.control_path("metrics"))


def test_metrics_move_when_the_configuration_says_so(stage):
    port = free_port()
    path = os.path.join(stage.files, "berth.conf")
    with open(path, "w", encoding="utf-8") as f:
        f.write("[berth]\n")
    stage.serve("--config", path)
    assert scrape(stage)[1]
    with open(path, "w", encoding="utf-8") as f:
        f.write(f"[berth]\nmetrics = 127.0.0.1:{port}\n")
    done = stage.berth("reload")
    assert done.returncode == 0, done.stderr
    assert scrape(stage, ("127.0.0.1", port))[1]
    assert not os.path.exists(stage.control_path("metrics"))


def test_metrics_can_be_nowhere(stage):
    stage.serve("--metrics", "off")
    assert not os.path.exists(stage.control_path("metrics"))
    assert stage.berth("metrics").returncode == 0


def test_an_address_that_others_reach_is_refused(stage):
    port = free_port()
    stage.serve("--metrics", f"0.0.0.0:{port}")
    assert "metrics not served" in stage.by_hand[0].output()
    with socket.socket() as s:
        assert s.connect_ex(("127.0.0.1", port)) != 0


# Logs --------------------------------------------------------------------------------------------

OK, ERROR = 12, 13


class FakeLogs:
    """Answers COMMAND `logs` as berthd does, with descriptors of files that the test writes."""

    def __init__(self, folder):
        self.folder = folder
        self.listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.listener.bind(os.path.join(folder, "control"))
        self.listener.listen()
        self.turn = threading.Lock()  # berthd answers nobody while it rotates
        self.threads = []
        self.clients = []
        self._start(self._accept)

    def _start(self, target, *args):
        thread = threading.Thread(target=target, args=args, daemon=True)
        self.threads.append(thread)
        thread.start()

    def _accept(self):
        while True:
            try:
                client, _ = self.listener.accept()
            except OSError:
                return
            self.clients.append(client)
            self._start(self._serve, client)

    def _serve(self, client):
        while data := client.recv(65536):
            assert data[:4] == bytes((0xBE, 0x47, 1, 6))
            verb_length, = struct.unpack(">H", data[4:6])
            assert data[6:6 + verb_length] == b"logs"
            name, age = data[8 + verb_length:].split(b"\0")[:2]
            with self.turn:
                self._answer(client, name.decode(), int(age))

    def _answer(self, client, name, age):
        head = struct.pack(">HBB", 0xBE47, 1, OK)
        try:
            fd = os.open(self.path(age, name), os.O_RDONLY)
        except OSError:
            text = b"there is none"
            client.sendall(struct.pack(">HBBIH", 0xBE47, 1, ERROR, 2, len(text)) + text)
            return
        client.sendmsg([head], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [fd]))])
        os.close(fd)

    def path(self, age=0, name="shop"):
        return os.path.join(self.folder, f"{name}.log" + (f".{age}" if age else ""))

    def write(self, *lines, age=0):
        with open(self.path(age), "a", encoding="utf-8") as f:
            f.writelines(f"2026-11-22T21:00:00.123Z {line}\n" for line in lines)

    def rotate(self, *lines):
        with self.turn:
            for age in (2, 1, 0):
                if os.path.exists(self.path(age)):
                    os.rename(self.path(age), self.path(age + 1))
            self.write(*lines)

    def close(self):
        self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()
        for client in self.clients:
            client.shutdown(socket.SHUT_RDWR)
        for thread in self.threads:
            thread.join(10)
        for client in self.clients:
            client.close()


@pytest.fixture
def logs():
    with tempfile.TemporaryDirectory(prefix="l", dir="/tmp") as folder:
        fake = FakeLogs(folder)
        yield fake
        fake.close()


def berth_logs(build, logs, *args):
    return subprocess.run([os.path.join(build, "berth"), "logs", *args], capture_output=True,
                          text=True, timeout=20, check=False,
                          env={**os.environ, "BERTH_RUNTIME_DIR": logs.folder})


def texts(output):
    return [line.split(" ", 1)[1] for line in output.splitlines()]


def test_the_last_lines_come_from_as_many_files_as_needed(build, logs):
    logs.write("1 a", "1 b", age=2)
    logs.write("1 c", "2 d", age=1)
    logs.write("1 e")
    for count, expected in (("1", ["1 e"]), ("2", ["2 d", "1 e"]), ("0", []),
                            ("4", ["1 b", "1 c", "2 d", "1 e"]),
                            ("all", ["1 a", "1 b", "1 c", "2 d", "1 e"])):
        done = berth_logs(build, logs, "shop", "-n", count)
        assert done.returncode == 0 and texts(done.stdout) == expected, (count, done)


def test_lines_are_json_when_asked_for(build, logs):
    logs.write('1 say "hi"\t\x1b[31m', "- started")
    done = berth_logs(build, logs, "shop", "--json")
    assert [json.loads(line) for line in done.stdout.splitlines()] == [
        {"time": "2026-11-22T21:00:00.123Z", "worker": "1", "text": 'say "hi"\t\x1b[31m'},
        {"time": "2026-11-22T21:00:00.123Z", "worker": "-", "text": "started"}]


def test_following_goes_on_over_rotations_and_loses_nothing(build, logs):
    logs.write("1 old")
    out = os.path.join(logs.folder, "out")
    follower = Proc([os.path.join(build, "berth"), "logs", "shop", "-f", "-n", "1"], out,
                    {**os.environ, "BERTH_RUNTIME_DIR": logs.folder})
    expected = ["1 old"]
    try:
        wait_until(lambda: texts(follower.output()) == expected, 10, "the first line")
        for i in range(4):
            logs.write(f"1 before {i}")
            wait_until(lambda: texts(follower.output())[-1:] == [f"1 before {i}"], 10, "the line")
            logs.write(f"1 last {i}")
            for k in range(i % 3 + 1):
                logs.rotate(f"1 file {i} {k}")
            expected += [f"1 before {i}", f"1 last {i}"]
            expected += [f"1 file {i} {k}" for k in range(i % 3 + 1)]
            wait_until(lambda: len(texts(follower.output())) >= len(expected), 10, "all lines")
            assert texts(follower.output()) == expected
    finally:
        follower.kill()


def test_a_terminal_is_not_taken_over_by_a_log(build, logs):
    logs.write("1 \x1b[32mgreen\x1b[0m \x1b]0;title\x07 \x1b[2J")
    master, slave = pty.openpty()
    with subprocess.Popen([os.path.join(build, "berth"), "logs", "shop"], stdin=slave,
                          stdout=slave, env={**os.environ, "BERTH_RUNTIME_DIR": logs.folder}) as p:
        os.close(slave)
        assert p.wait(20) == 0
    shown = os.read(master, 65536).decode()
    os.close(master)
    assert "1 \x1b[32mgreen\x1b[0m ?]0;title? ?[2J" in shown


def test_an_application_of_a_terminal_has_no_log_and_says_where_its_output_is(stage):
    shop = stage.start(PYTHON_HTTP, "shop.localhost")
    done = stage.berth("logs", "shop")
    assert done.returncode == 1 and "terminal" in done.stderr
    assert any(f"pid {pid}" in done.stderr for pid in shop.group())
    done = stage.berth("logs", "nobody")
    assert done.returncode == 1 and "no application 'nobody'" in done.stderr
    for args in ((), ("shop", "-n"), ("shop", "-n", "many"), ("shop", "--what")):
        assert stage.berth("logs", *args).returncode == 2


# berth top ---------------------------------------------------------------------------------------


def test_top_shows_rates_without_a_terminal(stage):
    shop = stage.start(PYTHON_HTTP, "shop.localhost")
    done = stage.berth("top", "--interval", "0.2")
    assert done.returncode == 0, done.stderr
    head, row, last = done.stdout.splitlines()
    assert head.split()[:2] == ["NAME", "STATE"] and last.startswith("total")
    assert row.split()[:3] == ["shop", "running", "1"]
    stop = threading.Event()

    def traffic():
        while not stop.is_set():
            http_get(shop.target)

    thread = threading.Thread(target=traffic)
    thread.start()
    try:
        done = stage.berth("top", "--once", "--json", "--interval", "0.5")
    finally:
        stop.set()
        thread.join()
    app, = json.loads(done.stdout)["apps"]
    assert app["name"] == "shop" and app["connections_per_s"] > 0
    assert app["cpu_percent"] > 0 and app["memory"] > 1e6 and app["open"] is None


def test_top_says_that_no_berthd_runs(stage):
    done = stage.berth("top", "--once")
    assert done.returncode == 1 and "no berthd runs" in done.stderr


class Screen:
    """`berth top` in a terminal."""

    def __init__(self, stage):
        self.master, self.slave = pty.openpty()
        self.before = termios.tcgetattr(self.slave)
        self.popen = subprocess.Popen([stage.tool(), "top", "--interval", "0.1"],
                                      stdin=self.slave, stdout=self.slave, env=stage.env,
                                      start_new_session=True)
        self.seen = ""

    def read_until(self, text):
        def found():
            if select.select([self.master], [], [], 0.02)[0]:
                self.seen += os.read(self.master, 65536).decode()
            return text in self.seen

        wait_until(found, 10, f"{text!r} on the screen")
        self.seen = self.seen.partition(text)[2]

    def is_restored(self):
        self.read_until("\x1b[?25h\x1b[?1049l")
        return termios.tcgetattr(self.slave) == self.before

    def close(self):
        self.popen.kill()
        self.popen.wait(10)
        os.close(self.master)
        os.close(self.slave)


@pytest.fixture
def screen(stage):
    stage.start(PYTHON_HTTP, "shop.localhost")
    s = Screen(stage)
    yield s
    s.close()


@pytest.mark.parametrize("end", ["q", signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_top_gives_the_terminal_back(screen, end):
    screen.read_until("\x1b[?1049h")
    screen.read_until("shop")
    assert termios.tcgetattr(screen.slave) != screen.before
    if end == "q":
        os.write(screen.master, b"q")
    else:
        screen.popen.send_signal(end)
    assert screen.popen.wait(10) == 0 and screen.is_restored()


def test_top_gives_the_terminal_back_while_it_is_stopped(screen):
    screen.read_until("shop")
    screen.popen.send_signal(signal.SIGTSTP)
    pid, status = os.waitpid(screen.popen.pid, os.WUNTRACED)
    assert pid == screen.popen.pid and os.WIFSTOPPED(status) and screen.is_restored()
    screen.popen.send_signal(signal.SIGCONT)
    screen.read_until("\x1b[?1049h")
    screen.read_until("shop")
    os.write(screen.master, b"q")
    assert screen.popen.wait(10) == 0 and screen.is_restored()


def test_top_goes_on_when_berthd_is_replaced(stage, screen):
    screen.read_until("shop")
    os.kill(stage.daemon("berthd"), signal.SIGKILL)
    wait_until(lambda: stage.berth("ls").returncode == 0, 10, "a new berthd")
    screen.seen = ""
    screen.read_until("running")
    os.write(screen.master, b"m")
    screen.read_until("\x1b[1m MEMORY")


# Pools -------------------------------------------------------------------------------------------


@pytest.fixture
def pool(stage):
    """Two workers, which berthd runs, and a log folder of the test's own."""
    stage.env["BERTH_LOG_DIR"] = os.path.join(stage.files, "logs")
    done = stage.berth("run", "--name", "pool", "--as", "pool.localhost", "--workers", "2",
                       "--detach", "--", PYTHON, "-u", "-m", "http.server", "--bind", "127.0.0.1",
                       stage.port)
    assert done.returncode == 0, done.stderr
    yield Target("127.0.0.1", stage.port, "pool.localhost")
    stage.berth("stop", "pool")


def test_the_output_of_a_pool_is_in_its_log(stage, pool):
    sources = [fresh_source() for _ in range(4)]
    for source in sources:
        assert http_get(pool, source=source).status == 200

    def logged():
        text = stage.berth("logs", "pool").stdout
        return all(re.search(rf"Z [12] {re.escape(s)} - - .*\"GET /", text) for s in sources)

    wait_until(logged, 10, "a line for each request")
    path = os.path.join(stage.files, "logs", "pool.log")
    assert os.stat(path).st_mode & 0o777 == 0o640


def test_ls_top_and_metrics_show_a_pool(stage, pool):
    with connect(pool) as held:
        held.sendall(b"GET / HTTP/1.1\r\nHost: pool.localhost\r\n")
        wait_until(lambda: total(scrape(stage)[1], "berth_app_open_connections", app="pool") == 1,
                   10, "one open connection")
        series = scrape(stage)[1]
        assert total(series, "berth_app_workers", app="pool", state="ready") == 2
        assert total(series, "berth_app_memory_bytes", app="pool") > 1e6
        assert total(series, "berth_app_restarts_total", app="pool") == 0
        row, = (line.split() for line in stage.berth("ls").stdout.splitlines()
                if re.match(r"pool +running", line))
        assert row[:4] == ["pool", "running", "2/2", "1"]
        app, = json.loads(stage.berth("top", "--once", "--json", "--interval", "0.2").stdout)["apps"]
        assert app["open"] == 1 and app["workers"] == 2 and 0 < app["age_ms"] < 600_000


def test_a_replaced_worker_is_counted(stage, pool):
    assert stage.berth("restart", "pool", timeout=60).returncode == 0
    wait_until(lambda: total(scrape(stage)[1], "berth_app_restarts_total", app="pool",
                             reason="replaced") == 2, 10, "two replacements")
