"""Directories for a moment, which outlive no killed process for long: the next one of the kind takes them away."""

import contextlib
import fcntl
import os
import re
import shutil
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def scratch(kind: str) -> Iterator[Path]:
    """A directory `sidecar-KIND-...` of this user's alone, locked while it is in use and removed afterwards.

    Those of the same kind that nobody has locked are of processes that were killed, and are removed. Raises OSError.
    """
    prefix = f"sidecar-{kind}-"
    _sweep(Path(tempfile.gettempdir()), prefix)
    directory, lock = _make(prefix)
    try:
        yield directory
    finally:
        shutil.rmtree(directory, ignore_errors=True)
        os.close(lock)


def _make(prefix: str) -> tuple[Path, int]:
    while True:
        directory = Path(tempfile.mkdtemp(prefix=prefix))
        with contextlib.suppress(FileNotFoundError):  # swept before it was locked
            lock = _open(directory)
            with contextlib.suppress(OSError):
                fcntl.flock(lock, fcntl.LOCK_EX)
            if directory.exists():
                return directory, lock
            os.close(lock)


def _sweep(place: Path, prefix: str) -> None:
    with contextlib.suppress(OSError):
        for name in os.listdir(place):
            if re.fullmatch(re.escape(prefix) + "[a-z0-9_]{8}", name):
                with contextlib.suppress(OSError):
                    _remove(place / name)


def _remove(directory: Path) -> None:
    """Remove it if it is ours and nobody's any more. Raises OSError."""
    lock = _open(directory)
    try:
        found = os.fstat(lock)
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if found.st_uid == os.geteuid() and stat.S_IMODE(found.st_mode) == 0o700:
            shutil.rmtree(directory, ignore_errors=True)
    finally:
        os.close(lock)


def _open(directory: Path) -> int:
    return os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
