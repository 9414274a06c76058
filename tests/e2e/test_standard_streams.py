"""Standard streams that are closed, full, or read by nobody."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from sidecar.cli import COMMANDS

from .processes import PATIENCE, environment, running


def shell(home: Path, line: str) -> "subprocess.CompletedProcess[str]":
    words = ["bash", "-c", f'sidecar() {{ "{sys.executable}" -m sidecar "$@"; }}; {line}']
    return subprocess.run(words, env=environment(home), capture_output=True, text=True, timeout=PATIENCE)


@pytest.mark.parametrize("name", COMMANDS)
def test_no_command_fails_with_a_traceback_where_its_help_cannot_be_written(tmp_path: Path, name: str) -> None:
    done = shell(tmp_path, f"sidecar {name} --help > /dev/full")
    assert "Traceback" not in done.stderr
    assert "Exception ignored" not in done.stderr


@pytest.mark.parametrize("where", ["> /dev/full", ">&-"])
@pytest.mark.parametrize("what", ["--help", "--version", "completion bash", "config --template", "health --help"])
def test_what_cannot_be_written_is_told_by_the_exit_code(tmp_path: Path, what: str, where: str) -> None:
    done = shell(tmp_path, f"sidecar {what} {where}")
    assert done.returncode == 1
    assert "Exception ignored" not in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("where", ["> /dev/full", ">&-"])
def test_a_token_that_nobody_got_to_see_is_revoked(tmp_path: Path, where: str) -> None:
    done = shell(tmp_path, f"sidecar token create --name a --allow '*' {where}")
    assert done.returncode == 1
    assert "it has been revoked: a" in done.stderr
    assert "Traceback" not in done.stderr
    assert shell(tmp_path, "sidecar token list").stdout.startswith("no tokens")


def test_a_node_starts_and_ends_though_nobody_reads_its_log(tmp_path: Path) -> None:
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    try:
        while True:
            os.write(writer, bytes(4096))
    except BlockingIOError:
        os.set_blocking(writer, True)
    try:
        with running(tmp_path, stderr=writer) as sidecar:
            sidecar.line("Ready after")
            assert sidecar.json("status")["ready"]
            assert sidecar.terminate() == 0
    finally:
        os.close(reader)
        os.close(writer)


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
