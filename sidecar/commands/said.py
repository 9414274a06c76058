"""What commands say: the one place where text of others is made harmless, and what goes to standard error."""

import sys
from typing import Any

from .parsing import called

as_json = False  # set once, by the command line


def clean(text: str) -> str:
    """A line for a terminal: what could steer it, or forge another line, is escaped."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() or c == "\t" else c.encode("unicode_escape").decode() for c in text)


def document(fields: Any) -> str:
    """A JSON document in a line, readable, but with every character escaped that could steer a terminal."""
    import json

    text = json.dumps(fields, ensure_ascii=False)
    return text if text.isprintable() else "".join(c if c.isprintable() else _code(c) for c in text)


def _code(character: str) -> str:
    """As JSON writes it in a string; json.dumps leaves DEL as it is."""
    units = character.encode("utf-16-be", "surrogatepass").hex()
    return "".join(f"\\u{units[at : at + 4]}" for at in range(0, len(units), 4))


def complain(message: object, **fields: object) -> None:
    """One line on standard error; with `--json` an object with `error`, and `fields` that are not None."""
    _write("error", message, fields)


def failed(code: int, message: object, **fields: object) -> int:
    """Complain of what ends the command; returns the exit code, which JSON has as `exit_code`."""
    complain(message, exit_code=code, **fields)
    return code


def note(message: object) -> None:
    """What is no error: as `complain`, but `note` in JSON."""
    _write("note", message, {})


def _write(kind: str, message: object, fields: dict[str, object]) -> None:
    text = str(message)
    if (program := called()) != "sidecar":
        text = text.replace("`sidecar ", f"`{program} ")
    if as_json:
        told = {kind: text, **{name: value for name, value in fields.items() if value is not None}}
        print(document(told), file=sys.stderr)
    else:
        print(f"sidecar: {clean(text)}", file=sys.stderr)
