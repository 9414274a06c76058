"""The log: text or JSON lines on standard error, levels by part, repeats held back and counted."""

import json
import logging
import time
from collections import OrderedDict
from collections.abc import Iterable, Mapping
from typing import TextIO, cast

from ..core.override import override
from .journal import Journal, JournalEntry
from .printable import escaped
from .standard_streams import errors

LEVELS = ("debug", "info", "warning", "error")
_BURST = 5  # lines of one kind in a window that are all written
_WINDOW = 60.0  # seconds
_KINDS = 512  # kinds of lines remembered
_MAX_MESSAGE, _MAX_EXCEPTION = 2_000, 8_000  # characters kept in the journal, of a traceback the end
_FOREIGN = ("asyncio", "grpc")  # other people's parts; their DEBUG lines carry payloads and drown ours
_COUNTED = (*LEVELS, "critical")


class _Kind:
    """Lines of one kind in the window that began with the first of them."""

    __slots__ = ("begun", "fields", "last", "seen")

    def __init__(self, begun: float) -> None:
        self.begun = begun
        self.seen = 0
        self.last = ""  # of those held back; its text, for arguments may be large
        self.fields: dict[str, str] = {}


class Repeats:
    """Lets `_BURST` lines of a kind through in a window and counts the others, which the window's end tells.

    A kind is a logger, a level and the text before its arguments are joined in, so that a flood of refused peers is one
    kind whatever their addresses; but what different errors caused is of different kinds. DEBUG is not limited: who
    asks for it wants all of it.
    """

    def __init__(self) -> None:
        self._kinds: OrderedDict[tuple[str, int, str, tuple[type, ...]], _Kind] = OrderedDict()

    def passes(self, record: logging.LogRecord) -> bool:
        """Whether a line is written."""
        if record.levelno <= logging.DEBUG:
            return True
        arguments = record.args if isinstance(record.args, tuple) else ()
        causes = tuple(type(argument) for argument in arguments if isinstance(argument, BaseException))
        name = (record.name, record.levelno, str(record.msg), causes)
        kind = self._kinds.get(name)
        if kind is None:
            kind = self._kinds[name] = _Kind(record.created)
            if len(self._kinds) > _KINDS:
                self._kinds.popitem(last=False)
        kind.seen += 1
        if kind.seen <= _BURST:
            return True
        kind.last, kind.fields = record.getMessage(), _fields(record)
        return False

    def ended(self, now: float) -> list[logging.LogRecord]:
        """The windows that are over are forgotten; a line for each that held something back. `now` is Unix seconds."""
        told = []
        while self._kinds:  # in the order in which their windows began
            name, kind = next(iter(self._kinds.items()))
            if 0 <= now - kind.begun < _WINDOW:  # the wall clock may be set back
                break
            del self._kinds[name]
            count = kind.seen - _BURST
            if count > 0:
                text = f"{kind.last} (and {count} more like it in {_WINDOW:.0f} s)"
                summary = logging.LogRecord(name[0], name[1], "", 0, text, (), None)
                summary.__dict__["fields"] = {**kind.fields, "repeats": str(count)}
                summary.created, summary.msecs = now, now % 1 * 1000
                told.append(summary)
        return told


class Levels:
    """From which level on each part is written. A part is a logger and all below it."""

    def __init__(self) -> None:
        self._all = logging.INFO
        self._parts: dict[str, int] = {}  # by the loggers' names
        self._found: dict[str, int] = {}  # logger -> level, looked up before

    def of(self, name: str) -> int:
        """The level of a logger."""
        level = self._found.get(name)
        if level is None:
            if len(self._found) > _KINDS:
                self._found.clear()
            level = self._found[name] = self._look_up(name)
        return level

    def _look_up(self, name: str) -> int:
        while name:
            if name in self._parts:
                return self._parts[name]
            if name in _FOREIGN:
                return max(logging.WARNING, self._all)
            name = name.rpartition(".")[0]
        return self._all

    def shown(self) -> tuple[str, dict[str, str]]:
        """The level of all, and those of parts."""
        return _word(self._all), {_part(name): _word(level) for name, level in sorted(self._parts.items())}

    def set(self, part: str, level: str) -> None:
        """Change one; an empty part is all others, an empty level the end of a part's own."""
        name = _logger(part)
        if not part:
            self._all = _number(level)
        elif level:
            self._parts[name] = _number(level)
        else:
            self._parts.pop(name, None)
        self._found.clear()
        self._tell_loggers(name)

    def reset(self, level: str, parts: Iterable[str]) -> None:
        """Begin anew: `level` for all, `part=level` for parts."""
        gone = list(self._parts)
        self._parts.clear()
        for name in gone:
            self._tell_loggers(name)
        self.set("", level)
        for word in parts:
            part, _, own = word.partition("=")
            self.set(part, own)

    def _tell_loggers(self, changed: str) -> None:
        """Loggers let through what is written, and INFO always: the journal has it whatever is written."""
        logging.getLogger().setLevel(min(self._all, logging.INFO))
        for name in dict.fromkeys((changed, *_FOREIGN)):
            if name in self._parts:
                logging.getLogger(name).setLevel(min(self._parts[name], logging.INFO))
            elif name in _FOREIGN:
                logging.getLogger(name).setLevel(logging.WARNING)
            elif name:
                logging.getLogger(name).setLevel(logging.NOTSET)


class Log(logging.Handler):
    """Where all lines of the process go: to the stream from their part's level on, from INFO on to the journal too."""

    def __init__(self) -> None:
        super().__init__()
        self.journal = Journal()
        self.levels = Levels()
        self.written = dict.fromkeys(_COUNTED, 0)  # lines since the start, by level
        self.hidden = dict.fromkeys(_COUNTED, 0)  # repeats that were held back
        self._repeats = Repeats()
        self._stream: logging.StreamHandler[TextIO] | None = None

    def configure(self, level: str, form: str, stream: TextIO | None = None, parts: Iterable[str] = ()) -> None:
        """Take every logger's lines and write them to `stream`, by default standard error, which may stop to take them.

        `form`: text or json; auto is text where the stream is a terminal. `parts`: exceptions from `level`, as
        `part=level`.
        """
        stream = stream or cast(TextIO, errors)
        if form == "auto":
            form = "text" if stream.isatty() else "json"
        self._repeats = Repeats()
        self._stream = logging.StreamHandler(stream)
        self._stream.setFormatter(JsonFormatter() if form == "json" else TextFormatter())
        logging.basicConfig(handlers=[self], force=True)
        self.levels.reset(level, parts)

    def has_part(self, part: str) -> bool:
        """Whether there is a part of that name, as far as is known by now."""
        return not part or part in _FOREIGN or _logger(part) in logging.root.manager.loggerDict

    def tick(self) -> None:
        """To be called about every second: tells of repeats."""
        self.acquire()
        try:
            for summary in self._repeats.ended(time.time()):
                self._put(summary)
        finally:
            self.release()

    @override
    def emit(self, record: logging.LogRecord) -> None:
        for summary in self._repeats.ended(record.created):
            self._put(summary)
        if self._repeats.passes(record):
            self._put(record)
        elif record.levelno >= self.levels.of(record.name):
            _count(self.hidden, record)

    def _put(self, record: logging.LogRecord) -> None:
        if record.levelno >= logging.INFO:
            self.journal.append(_entry(record))
        if record.levelno >= self.levels.of(record.name) and self._stream is not None:
            _count(self.written, record)
            self._stream.emit(record)


class TextFormatter(logging.Formatter):
    """`2026-01-31T12:00:00.123Z INFO net: text`."""

    @override
    def format(self, record: logging.LogRecord) -> str:
        line = f"{_timestamp(record)} {record.levelname} {_part(record.name)}: {escaped(record.getMessage())}"
        return f"{line}\n{self.formatException(record.exc_info)}" if record.exc_info else line


class JsonFormatter(logging.Formatter):
    """One object a line: time, level, logger, message, and what there is of fields and an exception."""

    @override
    def format(self, record: logging.LogRecord) -> str:
        line = {
            "time": _timestamp(record),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            **_fields(record),
        }
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line, ensure_ascii=False)


log = Log()
"""Of this process, whose log there is one of."""


def _entry(record: logging.LogRecord) -> JournalEntry:
    fields = _fields(record)
    if record.exc_info:
        fields["exception"] = _EXCEPTIONS.formatException(record.exc_info)[-_MAX_EXCEPTION:]
    severity = "error" if record.levelno >= logging.ERROR else record.levelname.lower()
    return JournalEntry(
        record.created, severity, _part(record.name), escaped(record.getMessage())[:_MAX_MESSAGE], fields
    )


def _fields(record: logging.LogRecord) -> dict[str, str]:
    """What the caller gave as `extra={"fields": ...}`."""
    fields: Mapping[str, str] = record.__dict__.get("fields", {})
    return dict(fields)


def _count(counts: dict[str, int], record: logging.LogRecord) -> None:
    level = record.levelname.lower()
    counts[level] = counts.get(level, 0) + 1


def _part(name: str) -> str:
    return name.removeprefix("sidecar.")


def _logger(part: str) -> str:
    return part if part in _FOREIGN or not part else f"sidecar.{part}"


def _word(level: int) -> str:
    return logging.getLevelName(level).lower()


def _number(level: str) -> int:
    return logging.getLevelNamesMapping()[level.upper()]


def _timestamp(record: logging.LogRecord) -> str:
    whole = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
    return f"{whole}.{int(record.msecs):03d}Z"


_EXCEPTIONS = logging.Formatter()
