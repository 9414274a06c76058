"""Directories for a moment: nothing of a killed process stays, and nothing of a living one or of others is touched."""

import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from sidecar.commands.common.scratch import scratch

HOLDER = """
import sys
from sidecar.commands.common.scratch import scratch
with scratch("demo") as directory:
    (directory / "file").write_text("x")
    print(directory, flush=True)
    sys.stdin.read()
"""


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path


def test_it_is_private_and_gone_afterwards(place: Path) -> None:
    with scratch("demo") as directory:
        assert directory.stat().st_mode & 0o777 == 0o700
        assert list(place.iterdir()) == [directory]
    assert list(place.iterdir()) == []


def test_what_a_killed_process_left_is_swept_and_nothing_else(place: Path) -> None:
    environ = os.environ | {"TMPDIR": str(place)}
    command = [sys.executable, "-c", HOLDER]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environ, text=True) as holder:
        assert holder.stdout is not None
        left = Path(holder.stdout.readline().rstrip())
        with scratch("demo"):
            assert (left / "file").exists()
        holder.kill()
        assert holder.wait() == -signal.SIGKILL
    kept = [place / "sidecar-demo-mine", place / "sidecar-other-abcdefgh", place / "sidecar-demo-0open0to"]
    for directory in kept:
        directory.mkdir(0o755)
    (place / "sidecar-demo-abcdefgh").symlink_to(kept[0])
    with scratch("demo"):
        assert not left.exists()
    assert sorted(place.iterdir()) == sorted([*kept, place / "sidecar-demo-abcdefgh"])
