"""What commands say beside their output: on standard error, a line or, with `--json`, a JSON object."""

import sys

from .parsing import called

as_json = False  # set once, by the command line


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
        import json

        told = {kind: text, **{name: value for name, value in fields.items() if value is not None}}
        print(json.dumps(told, ensure_ascii=False), file=sys.stderr)
    else:
        print(f"sidecar: {text}", file=sys.stderr)
