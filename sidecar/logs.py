"""The log: text or JSON lines on standard error, with repeats held back and counted."""

import json
import logging
import sys
import time
from collections import OrderedDict
from typing import TextIO

_BURST = 5  # lines of one kind in a window that are all written
_WINDOW = 10.0  # seconds
_KINDS = 512  # kinds of lines remembered


class RepeatFilter(logging.Filter):
    """Lets `_BURST` lines of a kind through in a window and counts the others; the next one through tells how many.

    A kind is a logger, a level and the text before its arguments are joined in, so that a flood of refused peers is one
    kind whatever their addresses. DEBUG is not limited: who asks for it wants all of it.
    """

    def __init__(self) -> None:
        super().__init__()
        self._kinds: OrderedDict[tuple[str, int, str], tuple[float, int]] = OrderedDict()

    def filter(self, record: logging.LogRecord) -> bool:
        if record.levelno <= logging.DEBUG:
            return True
        kind = (record.name, record.levelno, str(record.msg))
        begun, seen = self._kinds.get(kind, (record.created, 0))
        hidden = 0
        if record.created - begun >= _WINDOW or record.created < begun:  # the wall clock may be set back
            hidden = max(0, seen - _BURST)
            begun, seen = record.created, 0
        self._kinds[kind] = (begun, seen + 1)
        self._kinds.move_to_end(kind)
        if len(self._kinds) > _KINDS:
            self._kinds.popitem(last=False)
        if hidden:
            record.msg = f"{record.getMessage()} ({hidden} more like this before)"
            record.args = ()
        return seen < _BURST


class TextFormatter(logging.Formatter):
    """`2026-01-31T12:00:00.123Z INFO net: text`."""

    def format(self, record: logging.LogRecord) -> str:
        name = record.name.removeprefix("sidecar.")
        line = f"{_timestamp(record)} {record.levelname} {name}: {_one_line(record.getMessage())}"
        return f"{line}\n{self.formatException(record.exc_info)}" if record.exc_info else line


class JsonFormatter(logging.Formatter):
    """One object a line: time, level, logger, message and, if there is one, exception."""

    def format(self, record: logging.LogRecord) -> str:
        fields = {
            "time": _timestamp(record),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        if record.exc_info:
            fields["exception"] = self.formatException(record.exc_info)
        return json.dumps(fields, ensure_ascii=False)


def configure(level: str, form: str, stream: TextIO | None = None) -> None:
    """Send every logger's lines from `level` on to `stream`, standard error by default, in the `form` text or json."""
    handler = logging.StreamHandler(stream or sys.stderr)
    handler.setFormatter(JsonFormatter() if form == "json" else TextFormatter())
    handler.addFilter(RepeatFilter())
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
    # Other people's DEBUG lines carry payloads and drown ours.
    for name in ("asyncio", "grpc"):
        logging.getLogger(name).setLevel(max(logging.WARNING, logging.getLogger().level))


def _timestamp(record: logging.LogRecord) -> str:
    whole = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
    return f"{whole}.{int(record.msecs):03d}Z"


def _one_line(text: str) -> str:
    """What a peer sent may be part of a message; it must not be able to forge a line or steer a terminal."""
    return (
        text
        if text.isprintable()
        else "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
    )
