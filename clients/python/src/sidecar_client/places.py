"""Where a sidecar serves when nothing says otherwise: the one rule, which the sidecar and its clients share."""

import os
from collections.abc import Mapping
from pathlib import Path


def default_socket(environ: Mapping[str, str] | None = None) -> Path:
    """`$XDG_RUNTIME_DIR/sidecar/api.sock`, else `sidecar-<uid>/api.sock` in `$TMPDIR`, else in `/tmp`.

    `XDG_RUNTIME_DIR` counts when it is an absolute path, `TMPDIR` when it is also a directory that exists. No other
    variable is looked at, and nothing is tried out: who starts later, or may write less, finds the same place.
    `environ`: None takes that of the process.
    """
    environ = os.environ if environ is None else environ
    runtime = environ.get("XDG_RUNTIME_DIR", "")
    if runtime.startswith("/"):
        return Path(runtime) / "sidecar" / "api.sock"
    temporary = environ.get("TMPDIR", "")
    if not temporary.startswith("/") or not os.path.isdir(temporary):
        temporary = "/tmp"
    return Path(temporary) / f"sidecar-{os.getuid()}" / "api.sock"


def expand_home(path: str) -> str:
    """`~` and `~/...` as paths in the home directory: `HOME`, else that of the user's entry in the system's list.

    Raises ValueError where neither says one.
    """
    if path != "~" and not path.startswith("~/"):
        return path
    expanded = os.path.expanduser(path)
    if not expanded.startswith("/"):
        raise ValueError(f"{path} is in the home directory, and this user has none: HOME is not set")
    return expanded
