"""A disk that is full."""

import contextlib
from pathlib import Path


def fill(disk: Path) -> None:
    """Leave not a byte."""
    with (disk / "rest").open("wb", buffering=0) as rest, contextlib.suppress(OSError):
        while rest.write(bytes(4096)):
            pass
