"""What commands say: the one place where text of others is made harmless, and what goes to standard error."""

import contextlib
import os
import sys
import time
from typing import Any

from ...process import standard_streams
from ...process.printable import escaped

as_json = False  # set once, by the command line
_PATIENCE = 1.0  # seconds


def called() -> str:
    """How this program was called, as it is to be typed again: `sidecar`, `.venv/bin/sidecar`."""
    program = sys.argv[0] if sys.argv else ""
    name = os.path.basename(program)
    if name != "sidecar":
        return "sidecar"  # `python -m sidecar`, whose user knows how it is called, or a program of somebody else
    for folder in os.get_exec_path():
        candidate = os.path.join(folder, name)
        if os.path.exists(candidate):
            if os.path.exists(program) and os.path.samefile(candidate, program):
                return name
            break
    if os.path.isabs(program):
        with contextlib.suppress(FileNotFoundError):  # the current directory is gone
            short = os.path.relpath(program)
            program = program if short.startswith("..") else short
    from shlex import quote  # for the few who need it, not at each start

    return quote(program)


def clean(text: str) -> str:
    """A line for a terminal, with its tabs: what could steer it, or forge another line, is escaped."""
    return escaped(text, but="\t")


def document(fields: Any) -> str:
    """A JSON document in a line, readable, but with every character escaped that could steer a terminal."""
    import json

    text = json.dumps(fields, ensure_ascii=False)
    return text if text.isprintable() else "".join(c if c.isprintable() else _code(c) for c in text)


def moment(unix: float) -> str:
    """A time of the wall clock, in seconds since 1970, to the second: `2026-01-31T12:00:00Z`."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(unix))


def _code(character: str) -> str:
    """As JSON writes it in a string; json.dumps leaves DEL as it is."""
    units = character.encode("utf-16-be", "surrogatepass").hex()
    return "".join(f"\\u{units[at : at + 4]}" for at in range(0, len(units), 4))


def complain(message: object, **fields: object) -> None:
    """One line on standard error; with `--json` an object with `error`, and `fields` that are not None."""
    print(line("error", message, **fields), file=sys.stderr)


def failed(code: int, message: object, **fields: object) -> int:
    """Complain of what ends the command; returns the exit code, which JSON has as `exit_code`."""
    complain(message, exit_code=code, **fields)
    return code


def not_in_time(code: int, message: object, **fields: object) -> int:
    """As `failed`, but no reader of standard error is waited for any longer than a moment."""
    standard_streams.errors.write(line("error", message, exit_code=code, **fields) + "\n")
    standard_streams.errors.flush(_PATIENCE)
    return code


def note(message: object) -> None:
    """What is no error: as `complain`, but `note` in JSON."""
    print(line("note", message), file=sys.stderr)


def line(kind: str, message: object, **fields: object) -> str:
    """What standard error is told; `kind` and the fields are for JSON."""
    text = str(message)
    if (program := called()) != "sidecar":
        text = text.replace("`sidecar ", f"`{program} ")
    if as_json:
        told = {kind: text, **{name: value for name, value in fields.items() if value is not None}}
        return document(told)
    return f"sidecar: {clean(text)}"
