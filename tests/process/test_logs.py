"""The log: its two forms, levels by part, floods held back and counted, and the journal of what it said."""

import io
import json
import logging
from collections.abc import Iterator

import pytest

from sidecar.process.journal import Journal, JournalEntry
from sidecar.process.logs import Log

PARTS = ("sidecar.net", "sidecar.api", "sidecar.api.server", "asyncio", "grpc")


@pytest.fixture(autouse=True)
def restored_loggers() -> Iterator[None]:
    root = logging.getLogger()
    handlers = list(root.handlers)
    before = {name: logging.getLogger(name).level for name in (None, *PARTS)}
    yield
    root.handlers[:] = handlers
    for name, level in before.items():
        logging.getLogger(name).setLevel(level)


def made(level: str = "info", form: str = "text", parts: tuple[str, ...] = ()) -> tuple[Log, io.StringIO]:
    log, out = Log(), io.StringIO()
    log.configure(level, form, out, parts)
    return log, out


def record(text: str, *args: object, at: float = 0.0, level: int = logging.WARNING) -> logging.LogRecord:
    record = logging.LogRecord("sidecar.net", level, "f.py", 1, text, args, None)
    record.created = 1000.0 + at
    return record


def texts(out: io.StringIO) -> list[str]:
    return [line.partition(" net: ")[2] for line in out.getvalue().splitlines()]


# ---------------------------------------------------------------- floods


def test_a_flood_is_held_back_and_its_end_is_told() -> None:
    log, out = made()
    for number in range(46):
        log.handle(record("refused %s", number, at=number / 100))
    log.handle(record("something else", at=59))
    log.handle(record("something else", at=61))
    assert texts(out) == [
        *(f"refused {number}" for number in range(5)),
        "something else",
        "refused 45 (and 41 more like it in 60 s)",
        "something else",
    ]
    assert (log.written["warning"], log.hidden["warning"]) == (8, 41)
    log.handle(record("refused %s", 100, at=62))
    assert texts(out)[-1] == "refused 100"  # a new window


def test_the_end_of_a_flood_is_told_though_nothing_else_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    log, out = made()
    for _ in range(7):
        log.handle(record("refused"))
    monkeypatch.setattr("time.time", lambda: 1059.0)
    log.tick()
    assert len(texts(out)) == 5
    monkeypatch.setattr("time.time", lambda: 1060.0)
    log.tick()
    log.tick()
    assert texts(out)[5:] == ["refused (and 2 more like it in 60 s)"]


def test_a_clock_that_is_set_back_hides_nothing_for_longer() -> None:
    log, out = made()
    for _ in range(7):
        log.handle(record("refused"))
    log.handle(record("refused", at=-500))
    assert texts(out)[5:] == ["refused (and 2 more like it in 60 s)", "refused"]


def test_debug_is_not_limited() -> None:
    log, out = made("debug")
    for _ in range(100):
        log.handle(record("detail", level=logging.DEBUG))
    assert len(texts(out)) == 100
    assert log.hidden == dict.fromkeys(log.hidden, 0)


def test_the_kinds_remembered_are_bounded() -> None:
    log, _ = made()
    for number in range(5000):
        log.handle(record(f"kind {number}"))
    assert len(log._repeats._kinds) == 512


# ---------------------------------------------------------------- forms


def test_text_lines_cannot_be_forged_by_what_they_quote() -> None:
    _, out = made()
    logging.getLogger("sidecar.net").info("agent %s", "x\n2026 ERROR fake\x1b[2J")
    logging.getLogger("sidecar.net").debug("not written")
    (line,) = out.getvalue().splitlines()
    assert line.endswith("Z INFO net: agent x\\n2026 ERROR fake\\x1b[2J")


def test_json_lines_hold_fields_and_the_exception() -> None:
    _, out = made("warning", "json")
    try:
        raise ValueError("broken")
    except ValueError:
        logging.getLogger("sidecar.api").exception("call failed", extra={"fields": {"peer": "12D3"}})
    document = json.loads(out.getvalue())
    assert (document["level"], document["logger"], document["message"]) == ("error", "sidecar.api", "call failed")
    assert document["peer"] == "12D3"
    assert "ValueError: broken" in document["exception"]


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_the_form_is_for_people_on_a_terminal_and_for_collectors_elsewhere() -> None:
    terminal, file = Terminal(), io.StringIO()
    Log().configure("info", "auto", terminal)
    logging.getLogger("sidecar.net").info("here")
    Log().configure("info", "auto", file)
    logging.getLogger("sidecar.net").info("there")
    assert terminal.getvalue().endswith("INFO net: here\n")
    assert json.loads(file.getvalue())["message"] == "there"


# ---------------------------------------------------------------- levels


def test_parts_have_levels_of_their_own_that_can_be_changed() -> None:
    log, out = made("warning", parts=("net=debug", "asyncio=error"))

    def said() -> list[str]:
        out.seek(0)
        out.truncate()
        for name in PARTS:
            for level in (logging.DEBUG, logging.INFO, logging.WARNING):
                logging.getLogger(name).log(level, "%s %s", name, logging.getLevelName(level))
        return [line.rpartition(": ")[2].removeprefix("sidecar.") for line in out.getvalue().splitlines()]

    warnings = ["api WARNING", "api.server WARNING"]
    assert said() == ["net DEBUG", "net INFO", "net WARNING", *warnings, "grpc WARNING"]
    log.levels.set("net", "")
    log.levels.set("asyncio", "")
    assert said() == ["net WARNING", *warnings, "asyncio WARNING", "grpc WARNING"]
    log.levels.set("", "error")
    log.levels.set("api", "info")
    assert said() == ["api INFO", "api WARNING", "api.server INFO", "api.server WARNING"]
    assert log.levels.shown() == ("error", {"api": "info"})
    log.levels.reset("info", ())
    assert log.levels.shown() == ("info", {})
    assert said()[:2] == ["net INFO", "net WARNING"]


def test_what_is_not_written_costs_no_record_unless_the_journal_has_it() -> None:
    log, out = made("error")
    assert not logging.getLogger("sidecar.net").isEnabledFor(logging.DEBUG)
    logging.getLogger("sidecar.net").info("quiet")
    assert out.getvalue() == ""
    (entry,) = log.journal.since(0, 10)[0]
    assert (entry.severity, entry.part, entry.message) == ("info", "net", "quiet")
    assert log.written == dict.fromkeys(log.written, 0)


def test_parts_that_there_are_not_are_known() -> None:
    log = Log()
    logging.getLogger("sidecar.api.server")
    assert [log.has_part(part) for part in ("", "api", "api.server", "grpc")] == [True] * 4
    assert not log.has_part("nothing")


# ---------------------------------------------------------------- the journal


def entry(number: int) -> JournalEntry:
    return JournalEntry(float(number), "info", "net", f"line {number}", {})


def test_the_journal_keeps_the_newest_and_says_what_is_missing() -> None:
    journal = Journal(limit=3)
    told: list[int] = []

    def tell() -> None:
        told.append(1)

    journal.watch(tell)
    for number in range(5):
        journal.append(entry(number))
    journal.unwatch(tell)
    journal.append(entry(5))
    assert len(told) == 5
    assert journal.oldest == 3
    assert journal.since(0, 2) == ([entry(3), entry(4)], 5, 3)
    assert journal.since(5, 2) == ([entry(5)], 6, 0)
    assert journal.since(6, 2) == ([], 6, 0)


def test_the_journal_has_no_debug_and_holds_exceptions_as_a_field() -> None:
    log, _ = made("debug")
    logger = logging.getLogger("sidecar.net")
    logger.debug("detail")
    try:
        raise ValueError("broken")
    except ValueError:
        logger.critical("call failed", exc_info=True)
    (entry,) = log.journal.since(0, 10)[0]
    assert (entry.severity, entry.message) == ("error", "call failed")
    assert "ValueError: broken" in entry.fields["exception"]


def test_what_the_journal_keeps_of_a_line_is_bounded() -> None:
    log, _ = made()
    try:
        raise ValueError("x" * 50_000 + "end")
    except ValueError:
        logging.getLogger("sidecar.net").exception("%s", "y" * 50_000)
    (entry,) = log.journal.since(0, 10)[0]
    assert len(entry.message) == 2_000
    assert len(entry.fields["exception"]) == 8_000
    assert entry.fields["exception"].endswith("xend")
