"""Standard streams that are closed, full, or read by nobody."""

import contextlib
import os
import shlex
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from sidecar.cli import COMMANDS, main

from .processes import PATIENCE, Process, environment, running


def shell(home: Path, line: str) -> "subprocess.CompletedProcess[str]":
    words = ["bash", "-c", f'sidecar() {{ "{sys.executable}" -m sidecar "$@"; }}; {line}']
    return subprocess.run(words, env=environment(home), capture_output=True, text=True, timeout=PATIENCE)


@pytest.fixture(params=["full", "closed"])
def here(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[[str], str]:
    """Run a command in this process, unconfigured, with a standard output that is a full disk, or as a closed one is
    prepared: it must end with 1; returns what it says."""
    for name in list(os.environ):
        if name.startswith(("SIDECAR_", "XDG_")):
            monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))

    def run(line: str) -> str:
        descriptor = os.open("/dev/full", os.O_WRONLY) if request.param == "full" else os.open(os.devnull, os.O_RDONLY)
        with monkeypatch.context() as patched, open(descriptor, "w") as output:
            patched.setattr(sys, "stdout", output)
            assert main(shlex.split(line)) == 1
        return capsys.readouterr().err

    return run


@pytest.fixture
def stalled() -> Iterator[int]:
    """A pipe that is full, and that nobody reads."""
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    with contextlib.suppress(BlockingIOError):
        while True:
            os.write(writer, bytes(4096))
    os.set_blocking(writer, True)
    yield writer
    os.close(reader)
    os.close(writer)


@pytest.mark.parametrize("name", COMMANDS)
def test_help_that_cannot_be_written_is_told_by_the_exit_code(here: Callable[[str], str], name: str) -> None:
    assert here(f"{name} --help").startswith("sidecar: it cannot be written: ")


@pytest.mark.parametrize("what", ["--help", "--version", "completion bash", "config --template", "config"])
def test_what_cannot_be_written_is_told_by_the_exit_code(here: Callable[[str], str], what: str) -> None:
    assert here(what).startswith("sidecar: it cannot be written: ")


@pytest.mark.parametrize("line", ["sidecar health --help > /dev/full", "sidecar config --template >&-"])
def test_a_process_ends_without_a_word_more_where_it_cannot_write(tmp_path: Path, line: str) -> None:
    done = shell(tmp_path, line)
    assert done.returncode == 1
    assert "Exception ignored" not in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("flag", ["--json", "--quiet"])
def test_a_simulation_ends_quietly_where_nobody_reads_its_report(tmp_path: Path, flag: str) -> None:
    (tmp_path / "tiny.toml").write_text("duration = 1\n[nodes.plain]\ncount = 1\n")
    line = f"sidecar sim run {tmp_path}/tiny.toml --out {tmp_path}/out {flag} | true; echo ${{PIPESTATUS[0]}}"
    done = shell(tmp_path, line)
    assert done.stdout == "0\n"
    assert "error" not in done.stderr
    assert "Broken pipe" not in done.stderr


def test_a_token_that_nobody_got_to_see_is_revoked(tmp_path: Path) -> None:
    done = shell(tmp_path, "sidecar token create --name a --allow '*' > /dev/full; echo $?; sidecar token list")
    assert done.stdout.startswith("1\nno tokens")
    assert "it has been revoked: a" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_token_that_cannot_be_written_is_revoked(here: Callable[[str], str]) -> None:
    assert "it has been revoked: a" in here("token create --name a --allow '*'")


def test_a_node_starts_and_ends_though_nobody_reads_its_log(tmp_path: Path, stalled: int) -> None:
    with running(tmp_path, stderr=stalled) as sidecar:
        sidecar.line("Ready after")
        assert sidecar.json("status")["ready"]
        late = command(sidecar, "status", "--timeout", "0.5", output=stalled)
        goes_on = command(sidecar, "subscribe", "news", output=stalled)
        assert goes_on.stderr is not None
        with late, goes_on:
            assert goes_on.stderr.readline().startswith("sidecar: listening for news")
            assert "1 subscription at this sidecar got it" in sidecar.command("publish", "news", "hello").stdout
            goes_on.send_signal(signal.SIGINT)
            assert goes_on.wait(PATIENCE) == 130
            assert late.wait(PATIENCE) == 4
        assert sidecar.terminate() == 0


def command(sidecar: Process, *words: str, output: int) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, "-m", "sidecar", *words, "--api", str(sidecar.socket)],
        env=environment(sidecar.home),
        stdout=output,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_a_node_starts_with_closed_streams(tmp_path: Path) -> None:
    with running(tmp_path, prefix=("bash", "-c", 'exec "$@" 2>&- <&-', "bash")) as sidecar:
        sidecar.line("Ready after")
        status = shell(tmp_path, f"sidecar status --api {sidecar.socket} > /dev/full")
        assert (status.returncode, status.stderr) == (1, "sidecar: it cannot be written: No space left on device\n")
        published = shell(tmp_path, f"sidecar publish news $'\\xff' --api {sidecar.socket}")
        assert "NO_PEERS" in published.stdout
        refused = shell(tmp_path, f"sidecar publish $'\\xff' x --api {sidecar.socket}")
        assert refused.returncode == 2
        assert "not UTF-8" in refused.stderr


def test_standard_input_is_waited_for_beside_the_sidecar(tmp_path: Path) -> None:
    (tmp_path / "state").mkdir()
    (tmp_path / "state").chmod(0o777)

    def publish(*words: str) -> "subprocess.Popen[str]":
        command = [sys.executable, "-m", "sidecar", "publish", "news", *words, "--api", str(sidecar.socket)]
        pipe = subprocess.PIPE
        return subprocess.Popen(command, env=environment(tmp_path), stdin=pipe, stdout=pipe, stderr=pipe, text=True)

    with running(tmp_path) as sidecar:
        sidecar.line("Ready after")
        assert "is open to others (mode 0777)" in sidecar.log()
        with publish("--lines", "--timeout", "5") as lines, publish("-", "--timeout", "5.5") as whole:
            assert lines.stdin is not None
            assert lines.stdout is not None
            lines.stdin.write("one\n")
            lines.stdin.flush()
            assert lines.stdout.readline().startswith("message 0: NO_PEERS")
            assert whole.wait(PATIENCE) == 4  # its input never ends
            lines.stdin.write("two\n")  # after more than the time-out
            lines.stdin.close()
            assert lines.stdout.readline().startswith("message 1: NO_PEERS")
            assert lines.wait(PATIENCE) == 1
