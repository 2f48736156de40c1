"""`berth check` and `berth config`: files as people write them, good and bad, and what they are told."""

import json
import os
import pathlib
import pwd
import subprocess

import pytest

BUILD = pathlib.Path(os.environ.get("BERTH_BUILD", pathlib.Path(__file__).parents[2] / "build"))

BLOG = """[app]
route = blog.example
listen = 0.0.0.0:80
command = /usr/bin/node server.js
"""
SHOP = """[app shop]
route = http://shop.example/
route = http://blog.example/shop/
listen = 0.0.0.0:80 127.0.0.1:8080
command = /usr/bin/gunicorn 'shop:app'
workers = 1..4
start = manual

[reserve http://mail.example/]
user = root
status = 404
"""


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "apps.d").mkdir()
    (tmp_path / "apps.d" / "blog.conf").write_text(BLOG)
    (tmp_path / "apps.d" / "shop.conf").write_text(SHOP)
    return tmp_path


def berth(*argv, env=None):
    return subprocess.run([BUILD / "berth", *map(str, argv)], capture_output=True, text=True,
                          timeout=30, check=False, env=dict(os.environ, **(env or {})))


def check(folder, *requests):
    return berth("check", "--config", folder, *requests)


def test_a_good_configuration_is_summed_up(folder):
    done = check(folder)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "2 applications" in done.stdout and "2 listeners" in done.stdout
    assert "blog.example at 0.0.0.0:80" in done.stdout


def test_each_mistake_is_named_with_its_file_line_and_key(folder):
    (folder / "berth.conf").write_text("[berth]\nthreads = many\n")
    (folder / "apps.d" / "blog.conf").write_text(BLOG + "\nwrkers = 2\nidle_timeout = 5 apples\n")
    done = check(folder)
    assert done.returncode == 1
    lines = done.stdout.splitlines()
    assert lines[0].startswith(f"{folder}/berth.conf:2: [berth] threads: ")
    assert lines[1] == (f"{folder}/apps.d/blog.conf:6: [app] wrkers: there is no such key; "
                        "did you mean `workers`?")
    assert lines[2].startswith(f"{folder}/apps.d/blog.conf:7: [app] idle_timeout: ")
    assert "20min" in lines[2]
    assert lines[3] == "3 errors"


def test_mistakes_are_given_as_json(folder):
    (folder / "apps.d" / "blog.conf").write_text(BLOG + "workers = 8..2\n")
    done = berth("check", "--json", "--config", folder)
    assert done.returncode == 1
    assert json.loads(done.stdout)["errors"] == [
        {"file": f"{folder}/apps.d/blog.conf", "line": 5, "section": "app", "key": "workers",
         "message": "the smaller value of \"8..2\" comes first"}]


def test_a_user_that_does_not_exist_is_a_mistake(folder):
    (folder / "apps.d" / "blog.conf").write_text(BLOG + "user = no-such-user\n")
    done = check(folder)
    assert done.returncode == 1
    assert "there is no user no-such-user" in done.stdout


def test_a_route_that_two_applications_claim_names_the_other(folder):
    (folder / "apps.d" / "z.conf").write_text(BLOG.replace("0.0.0.0", "127.0.0.1"))
    done = check(folder)
    assert done.returncode == 1
    assert f"{folder}/apps.d/z.conf:2: [app] route: " in done.stdout
    assert f"application blog already ({folder}/apps.d/blog.conf:1)" in done.stdout


def test_what_is_missing_or_no_file_is_said(tmp_path):
    done = check(tmp_path / "nowhere.conf")
    assert done.returncode == 1 and "No such file" in done.stdout
    assert check(tmp_path).returncode == 0


@pytest.mark.parametrize("request_, answer", [
    ("GET http://blog.example/x", "app blog, handed off, which it starts when none runs"),
    ("http://blog.example/shop/cart?x=1", "app shop, handed off, once `berth start`"),
    ("http://blog.example/shopping", "app blog"),
    ("http://mail.example/", "refused, Reserved (HTTP 404)"),
    ("http://blgo.example/", "refused, NoRoute"),
    ("https://blog.example/", "nobody: no application listens on that port"),
    ("tls://blog.example:80", "app blog"),
    ("http://shop.example:8080/ at 127.0.0.1", "app shop"),
    ("http://shop.example:8080/ at 10.0.0.1", "nobody: no application listens at 10.0.0.1:8080"),
    ("http://blog.example/%zz", "refused, BadRequest"),
])
def test_a_request_is_explained(folder, request_, answer):
    done = check(folder, request_)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(f"{request_} → {answer}"), done.stdout


def test_a_name_that_was_meant_is_offered(folder):
    assert "there is blog.example (app blog at 0.0.0.0:80)" in check(
        folder, "http://blgo.example/").stdout


def test_answers_are_given_as_json(folder):
    done = berth("check", "--json", "--config", folder, "http://blog.example/", "ssh://:80")
    document = json.loads(done.stdout)
    assert document["errors"] == []
    assert [a["fate"] for a in document["answers"]] == ["delivered", "refused"]
    assert document["answers"][0]["app"] == "blog"
    assert document["answers"][0]["route"] == "http://blog.example:80/"
    assert document["answers"][1]["reason"] == "NoRoute"


def test_what_is_no_request_is_a_wrong_command_line(folder):
    for words in (["blog.example"], ["http://blog.example/ from"], ["--bogus"], ["--config"]):
        done = berth("check", "--config", folder, *words)
        assert done.returncode == 2 and done.stderr, words


def test_the_printed_configuration_reads_to_the_same(folder, tmp_path):
    printed = berth("config", "--config", folder)
    assert printed.returncode == 0
    assert "workers = 1..4" in printed.stdout and "idle_timeout = 20min" in printed.stdout
    again = tmp_path / "again.conf"
    again.write_text(printed.stdout)
    twice = berth("config", "--config", again)
    assert [line for line in twice.stdout.splitlines() if not line.startswith("#")] == [
        line for line in printed.stdout.splitlines() if not line.startswith("#")]


def test_the_configuration_is_given_as_json(folder):
    document = json.loads(berth("config", "--json", "--config", folder).stdout)
    blog = next(app for app in document["apps"] if app["name"] == "blog")
    assert blog["command"] == ["/usr/bin/node", "server.js"]
    assert blog["idle_timeout"] == 20 * 60 * 1000
    assert blog["listen"] == ["0.0.0.0:80"] and blog["line"] == 1
    assert document["reserved"][0]["user"] == "root"
    assert document["berth"]["max_connections"] == 50000


def test_a_configuration_with_mistakes_is_not_printed(folder):
    (folder / "berth.conf").write_text("nonsense\n")
    done = berth("config", "--config", folder)
    assert done.returncode == 1 and done.stdout == ""
    assert "berth.conf:1: " in done.stderr


def test_the_defaults_are_a_file_to_begin_with(tmp_path):
    done = berth("config", "--defaults")
    assert done.returncode == 0
    file = tmp_path / "berth.conf"
    file.write_text(done.stdout)
    assert check(file).returncode == 0
    # Every key, uncommented as it stands, is one that the reader knows.
    uncommented = [line[1:] if line.startswith("#") and line[1:2] not in (" ", "") else line
                   for line in done.stdout.splitlines()]
    file.write_text("\n".join(uncommented).replace("[app NAME]", "[app a]")
                    .replace("[reserve ROUTE]", "[reserve a.example]"))
    lines = check(file).stdout
    assert "no such key" not in lines and "out of range" not in lines


def test_the_manual_names_every_key():
    page = BUILD / "man" / "berth.conf.5"
    if not page.exists():
        pytest.skip("there is no scdoc")
    text = page.read_text().replace("\\", "")
    for line in berth("config", "--defaults").stdout.splitlines():
        key = line[1:].split(" = ")[0] if line.startswith("#") and " = " in line[:40] else None
        assert not key or " " in key or f"{key}" in text, key


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
def test_a_user_has_a_configuration_of_their_own():
    home = pathlib.Path("/tmp") / f"berth-home-{os.getpid()}"
    (home / ".config" / "berth").mkdir(parents=True)
    nobody = pwd.getpwnam("nobody")
    try:
        (home / ".config" / "berth" / "berth.conf").write_text(BLOG.replace("[app]", "[app mine]")
                                                               + "user = root\n")
        program = home / "berth"
        program.write_bytes((BUILD / "berth").read_bytes())
        program.chmod(0o755)
        env = {k: v for k, v in os.environ.items() if k != "XDG_CONFIG_HOME"}
        env["HOME"] = str(home)
        done = subprocess.run([program, "check"], capture_output=True, text=True, timeout=30,
                              check=False, env=env, user=nobody.pw_uid, group=nobody.pw_gid,
                              extra_groups=[])
        assert done.returncode == 1, done.stdout + done.stderr
        assert "[app mine] user: only the berthd of root" in done.stdout
        env["XDG_CONFIG_HOME"] = str(home / "empty")
        done = subprocess.run([program, "check"], capture_output=True, text=True, timeout=30,
                              check=False, env=env, user=nobody.pw_uid, group=nobody.pw_gid,
                              extra_groups=[])
        assert done.returncode == 0 and "0 applications" in done.stdout
    finally:
        subprocess.run(["rm", "-r", home], check=True)
