"""The log: its two forms, and that floods of one kind are held back and counted."""

import io
import json
import logging
from collections.abc import Iterator

import pytest

from sidecar import logs


@pytest.fixture(autouse=True)
def restored_root() -> Iterator[None]:
    root = logging.getLogger()
    before = root.level, list(root.handlers)
    yield
    root.setLevel(before[0])
    root.handlers[:] = before[1]


def record(text: str, *args: object, at: float = 0.0, level: int = logging.WARNING) -> logging.LogRecord:
    made = logging.LogRecord("sidecar.net", level, "f.py", 1, text, args, None)
    made.created = 1000.0 + at
    return made


def test_a_flood_is_held_back_and_counted() -> None:
    repeats = logs.RepeatFilter()
    flood = [record("refused %s", i, at=i / 100) for i in range(100)]
    assert [r.getMessage() for r in flood if repeats.filter(r)] == [f"refused {i}" for i in range(5)]
    assert repeats.filter(record("something else", at=2))
    after = record("refused %s", 100, at=30)
    assert repeats.filter(after)
    assert after.getMessage() == "refused 100 (95 more like this before)"
    assert all(repeats.filter(record("detail", level=logging.DEBUG)) for _ in range(100))


def test_the_kinds_remembered_are_bounded() -> None:
    repeats = logs.RepeatFilter()
    for number in range(5000):
        repeats.filter(record(f"kind {number}"))
    assert len(repeats._kinds) == 512


def test_text_lines_cannot_be_forged_by_what_they_quote() -> None:
    out = io.StringIO()
    logs.configure("info", "text", out)
    logging.getLogger("sidecar.net").info("agent %s", "x\n2026 ERROR fake\x1b[2J")
    logging.getLogger("sidecar.net").debug("not written")
    (line,) = out.getvalue().splitlines()
    assert line.endswith("Z INFO net: agent x\\n2026 ERROR fake\\x1b[2J")


def test_json_lines_hold_the_exception() -> None:
    out = io.StringIO()
    logs.configure("warning", "json", out)
    try:
        raise ValueError("broken")
    except ValueError:
        logging.getLogger("sidecar.api").exception("call failed")
    document = json.loads(out.getvalue())
    assert (document["level"], document["logger"], document["message"]) == ("error", "sidecar.api", "call failed")
    assert "ValueError: broken" in document["exception"]
