"""Reads a trace back: its records, and the messages that their bytes are made of."""

import base64
import binascii
import json
from collections.abc import Iterable, Iterator
from typing import Any

from ..core.classes import NamedTuple
from ..core.errors import InvalidArgument
from .file import VERSION
from .messages import Decoded, StreamReader

Record = dict[str, Any]
_MAX_LINE = 256 * 1024 * 1024  # bytes; far above a gossip frame of the largest size configurable, in base64


class Shown(NamedTuple):
    """A record as it was written, and for bytes one of the messages in them; None for what is no message."""

    record: Record
    message: Decoded | None


def records(lines: Iterable[bytes]) -> Iterator[Record]:
    """The records of a trace in order.

    A session that was killed may end inside a line, which is left out. Raises InvalidArgument for whatever else is not
    as it was written, with the number of the line.
    """
    broken = ""  # why the line before is none: forgiven at the end of a session
    version: object = None
    for number, line in enumerate(lines, 1):
        if len(line) > _MAX_LINE:
            raise InvalidArgument(f"line {number}: of {len(line)} bytes, at most {_MAX_LINE}")
        found = _parse(line)
        if broken and (isinstance(found, str) or found["event"] != "trace"):
            raise InvalidArgument(broken)
        if isinstance(found, str):
            broken = f"line {number}: {found}"
            if version is None:
                break
            continue
        broken = ""
        if found["event"] == "trace":
            version = found.get("version")
        if version != VERSION:
            named = "it has none" if version is None else f"it has {version!r}"
            raise InvalidArgument(f"line {number}: no trace of version {VERSION} begins here: {named}")
        yield found
    if version is None:
        raise InvalidArgument(broken or "the file is empty: no trace begins there")


def _parse(line: bytes) -> Record | str:
    """The record of a line, or why it is none."""
    try:
        record = json.loads(line)
    except (ValueError, RecursionError):
        return "not JSON"
    if not isinstance(record, dict) or not isinstance(record.get("event"), str):
        return "not an object with an event"
    if not isinstance(record.get("time"), str) or not isinstance(record.get("monotonic"), int | float):
        return "no time"
    whole = (number for name in ("connection", "stream", "token", "dial") if (number := record.get(name)) is not None)
    texts = (text for name in ("peer", "protocol", "direction", "reason") if (text := record.get(name)) is not None)
    if not all(type(number) is int for number in whole) or not all(isinstance(text, str) for text in texts):
        return "a field is not of its type"
    if record["event"] == "data" and not _has_bytes(record):
        return "data without its stream, direction or bytes"
    return record


def _has_bytes(record: Record) -> bool:
    if "connection" not in record or "stream" not in record or record.get("direction") not in ("in", "out"):
        return False
    try:
        return len(payload(record)) == record.get("length")
    except (KeyError, TypeError, ValueError, binascii.Error):
        return False


def payload(record: Record) -> bytes:
    """The bytes of a `data` record."""
    return base64.b64decode(record["data"], validate=True)


def messages(read: Iterable[Record]) -> Iterator[Shown]:
    """Every record, with one `Shown` for each message that the bytes of `data` complete.

    What a stream leaves unfinished is told at its end, its connection's, or the session's.
    """
    readers: dict[tuple[int, int, str], tuple[StreamReader, Record]] = {}
    for record in read:
        event = record["event"]
        if event == "data":
            key = (record["connection"], record["stream"], record["direction"])
            if key not in readers:
                answers = record.get("opener") == {"in": "us", "out": "them"}[record["direction"]]
                readers[key] = (StreamReader(record.get("protocol", ""), answers=answers), record)
            reader, _ = readers[key]
            readers[key] = (reader, record)
            yield from (Shown(record, message) for message in reader.receive(payload(record)))
            continue
        if event == "trace":
            gone = list(readers)
        elif event == "connection closed":
            gone = [key for key in readers if key[0] == record.get("connection")]
        elif event == "reset" or (event == "end" and record.get("direction") == "in"):
            where = (record.get("connection"), record.get("stream"))
            gone = [key for key in readers if key[:2] == where and (event == "reset" or key[2] == "in")]
        else:
            gone = []
        for key in gone:
            reader, last = readers.pop(key)
            yield from (Shown(last, message) for message in reader.finish())
        yield Shown(record, None)
    for reader, last in readers.values():
        yield from (Shown(last, message) for message in reader.finish())
