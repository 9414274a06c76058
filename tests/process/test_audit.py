"""The audit log: whole lines, whatever happens to its file."""

import errno
import json
import os
import stat
from pathlib import Path
from typing import Any

import pytest

from sidecar.core.errors import StorageError
from sidecar.process.audit import Audit

NOW = 1_000_000.1239


def lines(file: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in file.read_text().splitlines()]


def actions(file: Path) -> list[str]:
    return [line["action"] for line in lines(file)]


def test_one_line_says_what_was_changed_when_and_by_whom(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    file = tmp_path / "audit.log"
    audit = Audit(file, wall=lambda: NOW)
    audit.check()
    with caplog.at_level("INFO"):
        audit.record("peer.banned", "token:app1", peer="12D3", reason="two\nlines", until=None, more="x" * 5000)
    (line,) = lines(file)
    assert list(line) == ["time", "action", "caller", "peer", "reason", "more"]
    assert line["time"] == "1970-01-12T13:46:40.123Z"
    assert line["reason"] == "two\nlines"
    assert len(line["more"]) < 1100
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert "peer banned by token:app1: peer 12D3" in caplog.text
    assert audit.statistics().flat() == {"audit_written": 1, "audit_lost": 0}


def test_a_file_that_is_moved_away_is_made_anew(tmp_path: Path) -> None:
    file = tmp_path / "audit.log"
    audit = Audit(file)
    audit.record("a", "node")
    file.rename(tmp_path / "audit.log-yesterday")
    audit.record("b", "node")
    assert (actions(tmp_path / "audit.log-yesterday"), actions(file)) == (["a"], ["b"])


def test_two_processes_write_to_it(tmp_path: Path) -> None:
    file = tmp_path / "audit.log"
    node, command = Audit(file), Audit(file)
    for number in range(3):
        node.record(f"node.{number}", "node")
        command.record(f"command.{number}", "user:a")
    assert len(lines(file)) == 6


def test_it_takes_no_more_room_than_twice_its_limit(tmp_path: Path) -> None:
    file = tmp_path / "audit.log"
    audit = Audit(file, limit=1000)
    for number in range(100):
        audit.record(f"number.{number}", "node")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["audit.log", "audit.log.1"]
    assert all(path.stat().st_size < 1200 for path in tmp_path.iterdir())
    kept = actions(tmp_path / "audit.log.1") + actions(file)
    assert kept == [f"number.{number}" for number in range(100 - len(kept), 100)]


def test_a_full_disk_loses_lines_and_says_how_many(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    file = tmp_path / "audit.log"
    audit = Audit(file)
    audit.record("first", "node")

    write = os.write
    monkeypatch.setattr(os, "write", lambda descriptor, data: write(descriptor, data[:10]))  # what fits
    audit.record("cut", "node")
    monkeypatch.setattr(os, "write", _full)
    audit.record("lost", "node")
    monkeypatch.undo()
    assert "lost a line" in caplog.text
    assert os.strerror(errno.ENOSPC) in caplog.text
    assert audit.statistics().flat() == {"audit_written": 1, "audit_lost": 2}

    audit.record("again", "node")
    audit.record("and again", "node")
    text = file.read_text().splitlines()
    assert json.loads(text[0])["action"] == "first"
    assert len(text[1]) == 10  # the cut one; what follows begins on a line of its own
    told = [json.loads(line) for line in text[2:]]
    assert [line["action"] for line in told] == ["audit.lost", "again", "and again"]
    assert told[0]["lines"] == 2


def _full(descriptor: int, data: bytes) -> int:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_a_disk_that_is_full_at_the_start_may_have_room_later(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    audit = Audit(tmp_path / "audit.log")

    def refuse(*arguments: object) -> int:
        raise OSError(errno.EDQUOT, os.strerror(errno.EDQUOT))

    monkeypatch.setattr(os, "open", refuse)
    audit.check()


@pytest.mark.parametrize("kind", ["directory", "link", "pipe", "nowhere"])
def test_what_can_never_be_written_stops_the_start(kind: str, tmp_path: Path) -> None:
    file = tmp_path / "audit.log"
    match kind:
        case "directory":
            file.mkdir()
        case "link":
            file.symlink_to(tmp_path / "elsewhere")
        case "pipe":
            os.mkfifo(file)
        case "nowhere":
            file = tmp_path / "no" / "audit.log"
    audit = Audit(file)
    with pytest.raises(StorageError, match=r"audit\.file"):
        audit.check()
    audit.record("lost", "node")  # found so later, it is the log's trouble alone
    assert audit.statistics().flat() == {"audit_written": 0, "audit_lost": 1}


def test_one_that_others_can_write_is_remarked_upon(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    file = tmp_path / "audit.log"
    file.touch()
    file.chmod(0o660)
    Audit(file).check()
    assert "mode 0660" in caplog.text


def test_the_log_has_no_dictionaries(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level("INFO"):
        Audit(None).record("node.started", "node", configuration={"listen.addresses": ["/a", "/b"], "dht.k": 20})
    assert caplog.messages == ["node started by node: configuration listen.addresses = /a, /b; dht.k = 20"]


def test_a_full_file_that_no_other_can_follow_is_closed_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    file = tmp_path / "audit.log"

    class OutOfFiles(Audit):
        opened = 0

        def _open(self, file: Path) -> int:  # type: ignore[override]
            self.opened += 1
            if self.opened == 3:
                raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
            return super()._open(file)

    audit = OutOfFiles(file, limit=1)
    audit.record("node.started", "node")
    audit.record("peer.banned", "api")
    assert f"cannot be written: {os.strerror(errno.EMFILE)}" in caplog.text
    audit.record("peer.unbanned", "api")
    assert actions(file) == ["audit.lost", "peer.unbanned"]
