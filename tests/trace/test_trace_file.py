"""The file of a trace: private, bounded, continued, refused, and never the node's trouble."""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sidecar.core.errors import StorageError
from sidecar.trace import TraceFile
from sidecar.trace.reader import records


class Turn:
    """A loop's turn: what was put off until its end."""

    def __init__(self) -> None:
        self.later: list[Callable[[], None]] = []

    def __call__(self, function: Callable[[], None]) -> None:
        self.later.append(function)

    def end(self) -> None:
        due, self.later = self.later, []
        for function in due:
            function()


@pytest.fixture
def turn() -> Turn:
    return Turn()


def lines(file: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in file.read_text().splitlines()]


def test_a_turn_is_written_at_its_end_into_a_private_file(tmp_path: Path, turn: Turn) -> None:
    file = tmp_path / "trace"
    trace = TraceFile(file, 1 << 20, turn)
    trace.write("trace", 1.5, version=1)
    trace.write("app", 2.0, input="Published", peer=None)
    assert file.read_bytes() == b""
    turn.end()
    assert file.stat().st_mode & 0o777 == 0o600
    first, second = lines(file)
    assert (first["event"], first["version"], first["monotonic"]) == ("trace", 1, 1.5)
    assert first["time"].endswith("Z")
    assert second == {"time": second["time"], "monotonic": 2.0, "event": "app", "input": "Published"}
    trace.write("app", 3.0, input="TopicJoined")
    trace.close()  # writes what waits
    trace.write("app", 4.0, input="ignored")
    turn.end()
    assert [line.get("input") for line in lines(file)] == [None, "Published", "TopicJoined"]


def test_a_trace_is_continued_behind_a_session_that_was_killed(tmp_path: Path, turn: Turn) -> None:
    file = tmp_path / "trace"
    for _ in range(2):
        trace = TraceFile(file, 1 << 20, turn)
        trace.write("trace", 1.0, version=1)
        trace.close()
        with file.open("ab") as torn:
            torn.write(b'{"time":"2026')
    with file.open("rb") as read:
        assert [record["event"] for record in records(read)] == ["trace", "trace"]


def test_what_is_not_a_private_file_of_ours_is_refused(tmp_path: Path, turn: Turn) -> None:
    public = tmp_path / "public"
    public.write_text("somebody's")
    public.chmod(0o644)
    (tmp_path / "link").symlink_to(public)
    os.mkfifo(tmp_path / "pipe", 0o600)
    (tmp_path / "folder").mkdir()
    for name in ("public", "link", "pipe", "folder", "missing/trace"):
        with pytest.raises(StorageError, match="trace file"):
            TraceFile(tmp_path / name, 1 << 20, turn)
    with pytest.raises(StorageError, match="not a regular file"):
        TraceFile(Path("/dev/full"), 1 << 20, turn)
    assert public.read_text() == "somebody's"
    assert turn.later == []


def test_one_sidecar_at_a_time_writes_it(tmp_path: Path, turn: Turn) -> None:
    trace = TraceFile(tmp_path / "trace", 1 << 20, turn)
    with pytest.raises(StorageError, match="another sidecar"):
        TraceFile(tmp_path / "trace", 1 << 20, turn)
    trace.close()
    TraceFile(tmp_path / "trace", 1 << 20, turn).close()


def test_it_ends_at_its_limit_and_says_so(tmp_path: Path, turn: Turn, caplog: pytest.LogCaptureFixture) -> None:
    file = tmp_path / "trace"
    trace = TraceFile(file, 4096, turn)
    for number in range(1000):
        trace.write("data", 1.0, data="x" * 100, number=number)
        turn.end()
    assert not trace.active
    assert file.stat().st_size <= 4096
    *kept, last = lines(file)
    assert [line["number"] for line in kept] == list(range(len(kept)))
    assert last["event"] == "stopped"
    assert [record.levelname for record in caplog.records] == ["ERROR"]
    assert "limit of 4096 bytes" in caplog.text
    trace.close()


def test_a_disk_that_refuses_ends_the_trace_and_nothing_else(
    tmp_path: Path, turn: Turn, caplog: pytest.LogCaptureFixture
) -> None:
    trace = TraceFile(tmp_path / "trace", 1 << 20, turn)
    full = os.open("/dev/full", os.O_WRONLY)
    os.dup2(full, trace._descriptor)  # the disk fills up under it
    os.close(full)
    trace.write("app", 1.0)
    turn.end()
    assert not trace.active
    assert "No space left on device; the node goes on" in caplog.text
    trace.write("app", 2.0)
    turn.end()
    trace.close()


def test_a_long_turn_is_written_in_parts(tmp_path: Path, turn: Turn) -> None:
    file = tmp_path / "trace"
    trace = TraceFile(file, 1 << 30, turn)
    for _ in range(12):
        trace.write("data", 1.0, data="x" * 100_000)
    assert file.stat().st_size > 1_000_000
    trace.close()
    assert len(lines(file)) == 12
