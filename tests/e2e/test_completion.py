"""What the shells offer behind `berth`: the files of completion/ loaded as the shells load them."""

import os
import pathlib
import shutil
import socket
import subprocess

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
BASH = ROOT / "completion" / "berth.bash"
ZSH = ROOT / "completion"

# Bash takes a line apart at blanks and at its word breaks; the test does as readline would.
COMPLETE = r"""
source "$1"
COMP_LINE=$2
COMP_POINT=${#COMP_LINE}
mapfile -t COMP_WORDS < <(grep -oE '[^[:space:]:=]+|[:=]+' <<<"$COMP_LINE")
[[ $COMP_LINE == *[[:space:]] ]] && COMP_WORDS+=("")
COMP_CWORD=$((${#COMP_WORDS[@]} - 1))
_berth
printf '%s\n' "${COMPREPLY[@]}"
"""

VERBS = {"run", "ls", "why", "reserve", "status", "stop"}


@pytest.fixture
def environment(tmp_path):
    """No berthd is asked, and the `berth` in the path is the one under test."""
    build = os.environ.get("BERTH_BUILD", str(ROOT / "build"))
    return dict(os.environ, PATH=f"{build}:{os.environ['PATH']}", BERTH_RUNTIME_DIR=str(tmp_path))


def bash(line, environment, cwd):
    done = subprocess.run(["bash", "--norc", "--noprofile", "-c", COMPLETE, "bash", BASH, line],
                          capture_output=True, text=True, timeout=20, check=False, cwd=cwd,
                          env=environment)
    assert done.returncode == 0 and not done.stderr, done.stderr
    return set(done.stdout.split())


def test_bash_offers_the_verbs(environment, tmp_path):
    assert VERBS <= bash("berth ", environment, tmp_path)


def test_bash_completes_the_beginning_of_a_verb(environment, tmp_path):
    assert bash("berth wh", environment, tmp_path) == {"why"}


def test_bash_offers_the_options_of_run(environment, tmp_path):
    assert {"--as", "--port", "--listen", "--name", "--proxy", "--queue", "--"} <= bash(
        "berth run -", environment, tmp_path)


def test_bash_offers_this_folder_as_a_name(environment, tmp_path):
    folder = tmp_path / "My Shop"
    folder.mkdir()
    assert bash("berth run --as my", environment, folder) == {"my-shop.localhost"}


def test_bash_goes_on_behind_the_colon_that_it_breaks_words_at(environment, tmp_path):
    assert bash("berth run --as ssh:", environment, tmp_path) == {"//"}


def test_bash_completes_the_program_behind_the_route(environment, tmp_path):
    assert "true" in bash("berth run --as ssh://:22 -- tru", environment, tmp_path)
    (tmp_path / "a-file").touch()
    assert bash("berth run --as x true a-f", environment, tmp_path) == {"a-file"}


def test_bash_offers_options_of_the_verbs_that_read(environment, tmp_path):
    assert "--json" in bash("berth ls --j", environment, tmp_path)
    assert {"--json", "--brief"} <= bash("berth why --", environment, tmp_path)


def test_bash_offers_the_options_of_logs_and_top(environment, tmp_path):
    assert {"--follow", "--lines", "--json"} <= bash("berth logs -", environment, tmp_path)
    assert bash("berth logs shop -n a", environment, tmp_path) == {"all"}
    assert {"--interval", "--once", "--json"} <= bash("berth top ", environment, tmp_path)


def test_bash_offers_ports_that_are_listened_on(environment, tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = str(server.getsockname()[1])
        assert port in bash("berth why ", environment, tmp_path)


def test_bash_offers_every_verb_that_the_program_has(environment, tmp_path):
    done = subprocess.run(["berth", "--help"], capture_output=True, text=True, timeout=20,
                          check=True, env=environment)
    verbs = {line.split()[0] for line in done.stdout.splitlines()
             if line.startswith("  ") and not line.strip().startswith("berth")}
    assert verbs and verbs <= bash("berth ", environment, tmp_path)


@pytest.mark.skipif(not shutil.which("zsh"), reason="zsh is not installed")
def test_zsh_loads_its_completion(environment, tmp_path):
    script = """
fpath=($1 $fpath)
autoload -Uz compinit && compinit -u -D
autoload -Uz +X _berth && print -r -- $_comps[berth]
"""
    done = subprocess.run(["zsh", "-f", "-c", script, "zsh", ZSH], capture_output=True, text=True,
                          timeout=30, check=False, cwd=tmp_path,
                          env=dict(environment, HOME=str(tmp_path)))
    assert done.returncode == 0 and not done.stderr, done.stderr
    assert done.stdout.strip() == "_berth"


@pytest.mark.skipif(not shutil.which("zsh"), reason="zsh is not installed")
def test_zsh_offers_the_verbs(environment, tmp_path):
    """In a terminal, as zsh completes only where somebody types."""
    script = r"""
zmodload zsh/zpty
zpty shell zsh -f
zpty -w shell "PS1=; fpath=($1 \$fpath); autoload -Uz compinit; compinit -u -D"
zpty -w shell 'berth() print "GOT<$*>"; bindkey "^I" complete-word; print REA""DY'
zpty -r shell seen '*READY*'
zpty -w shell $'berth stat\t'
zpty -r shell seen '*GOT<status>*'
"""
    done = subprocess.run(["zsh", "-f", "-c", script, "zsh", ZSH], capture_output=True, text=True,
                          timeout=30, check=False, cwd=tmp_path,
                          env=dict(environment, HOME=str(tmp_path), TERM="dumb"))
    assert done.returncode == 0, done.stdout + done.stderr
