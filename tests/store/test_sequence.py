"""Sequence numbers over restarts, kills and clocks that are set back."""

import logging
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from sidecar.store.directory import StateDirectory
from sidecar.store.sequence import RESERVED, reserve

WALL = 1_700_000_000_000_000_000
DAY = 86_400 * 10**9

KILLED = """
import os, pathlib, signal, sys
from sidecar.store import files
from sidecar.store.directory import StateDirectory
replace = os.replace
def end(*arguments):
    if sys.argv[2] == "after":
        replace(*arguments)
    os.kill(os.getpid(), signal.SIGKILL)
files.os.replace = end
with StateDirectory.open(pathlib.Path(sys.argv[1])) as state:
    print(state.sequence(int(sys.argv[3])))
"""


def test_they_begin_at_the_clock_and_never_again_below_what_was_reserved(tmp_path: Path) -> None:
    path = tmp_path / "sequence"
    assert reserve(path, WALL) == WALL
    assert path.stat().st_mode & 0o777 == 0o600
    assert reserve(path, WALL - DAY) == WALL + RESERVED
    assert reserve(path, WALL - DAY) == WALL + 2 * RESERVED
    assert reserve(path, WALL + DAY) == WALL + DAY


@pytest.mark.parametrize("at", ["before", "after"])
def test_a_kill_while_they_are_reserved_loses_nothing(tmp_path: Path, at: str) -> None:
    with StateDirectory.open(tmp_path) as state:
        first = state.sequence(WALL)
    killed = subprocess.run([sys.executable, "-c", KILLED, tmp_path, at, str(WALL)], capture_output=True, text=True)
    assert (killed.returncode, killed.stdout, killed.stderr) == (-signal.SIGKILL, "", "")
    with StateDirectory.open(tmp_path) as state:
        assert state.sequence(WALL - DAY) == first + (RESERVED if at == "before" else 2 * RESERVED)


@pytest.mark.parametrize("content", [b"", b"many\n", b"-1\n", str(1 << 63).encode(), bytes(100)])
def test_a_damaged_file_leaves_the_clock_and_is_mended(
    tmp_path: Path, content: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "sequence"
    path.write_bytes(content)
    path.chmod(0o600)
    assert reserve(path, WALL) == WALL
    assert reserve(path, 0) == WALL + RESERVED
    (warning,) = caplog.messages
    assert warning.startswith(str(path))
    assert warning.endswith("sequence numbers begin at what the clock shows")


def test_a_disk_that_refuses_costs_no_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "sequence"
    assert reserve(path, WALL) == WALL

    def refuse(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", refuse)
    assert reserve(path, WALL - DAY) == WALL + RESERVED
    (warning,) = caplog.records
    assert warning.levelno == logging.WARNING
    assert "cannot be written: No space left on device; should the clock be set back" in warning.getMessage()
    assert os.listdir(tmp_path) == ["sequence"]
