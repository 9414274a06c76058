"""`sidecar trace`."""

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ..core.errors import InvalidArgument
from ..process.printable import escaped
from ..trace.reader import Record, Shown, messages, records
from .common.exit_codes import FAILED
from .common.said import clean, document, failed

_ARROWS = {"in": "<-", "out": "->"}
# Of a record that is no message, what a line says beside its event.
_SAID = ("direction", "remote", "listening", "addresses", "protocols", "security", "muxer", "input", "agent", "reason")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.usage = "sidecar trace show FILE [--peer TEXT] [--protocol TEXT] [--json]"
    parser.add_argument("action", choices=["show"], help="print the messages of a trace, one a line")
    parser.add_argument("file", metavar="FILE", type=Path, help="what `sidecar run --trace-wire FILE` has written")
    parser.add_argument("--peer", metavar="TEXT", help="only peers whose id has this in it")
    parser.add_argument("--protocol", metavar="TEXT", help="only protocols whose id has this in it")
    parser.add_argument("--json", action="store_true", help="one JSON document a line, for scripts")
    parser.epilog = "A file that may still grow is read as far as it goes. What each line says: docs/tracing.md."


def run(options: argparse.Namespace) -> int:
    try:
        with options.file.open("rb") as file:
            for shown in messages(records(file)):
                if _wanted(shown.record, options):
                    print(document(_document(shown)) if options.json else clean(_line(shown)))
    except BrokenPipeError:
        raise
    except OSError as error:
        return failed(FAILED, f"{options.file}: {error.strerror}")
    except InvalidArgument as error:
        return failed(FAILED, f"{options.file} is not a trace, or damaged: {error}")
    return 0


def _wanted(record: Record, options: argparse.Namespace) -> bool:
    return all(
        text is None or text in record.get(name, "")
        for name, text in (("peer", options.peer), ("protocol", options.protocol))
    )


def _document(shown: Shown) -> dict[str, Any]:
    if shown.message is None:
        return shown.record
    kept = {name: value for name, value in shown.record.items() if name not in ("data", "length", "event")}
    return {**kept, "event": "message", "kind": shown.message.kind, **shown.message.fields}


def _line(shown: Shown) -> str:
    record = shown.record
    columns = [record["time"][11:26], *_where(record)]
    if shown.message is None:
        columns += [record["event"], *_details(record)]
        if "protocol" in record:
            columns.append(escaped(record["protocol"]))
    else:
        columns += [_ARROWS[record["direction"]], f"{shown.message.kind}:", shown.message.line]
    return " ".join(columns)


def _where(record: Record) -> Iterator[str]:
    if "peer" in record:
        yield escaped(record["peer"])[-8:]
    if "connection" in record:
        yield f"{record['connection']}" + (f".{record['stream']}" if "stream" in record else "")


def _details(record: Record) -> Iterator[str]:
    for name in _SAID:
        value = record.get(name)
        if isinstance(value, list):
            yield " ".join(escaped(str(item)) for item in value) or "nothing"
        elif value is not None:
            yield escaped(str(value))
