"""The file that a trace is written to: one JSON object a line, private, bounded, and never the node's trouble."""

import fcntl
import json
import logging
import os
import stat
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from time import monotonic
from typing import Any

from ..core.errors import StorageError

log = logging.getLogger(__name__)

VERSION = 1
_HELD = 1024 * 1024  # bytes that wait for the end of the turn at most
_LAST_LINE = 512  # bytes kept free below the limit, for the line that says why the trace ends


class TraceFile:
    """Appends records to a trace, together at the end of each turn of the event loop.

    When the limit is reached or the disk refuses, it says so in the log once and takes nothing more: `active` is False
    then. Nothing of that is raised.
    """

    def __init__(self, file: Path, limit: int, later: Callable[[Callable[[], None]], object]) -> None:
        """Open the file. Raises StorageError, which says what to do, where it cannot be used.

        `file`: made with mode 0600. One that exists is continued when it is a regular file of this user that nobody
        else can read, and no other sidecar writes it.
        `limit`: the size in bytes that the file may have, earlier sessions included.
        `later`: calls a function at the end of this turn of the loop: `loop.call_soon`.
        """
        self.file = file
        self.active = True
        self._limit = limit
        self._later = later
        self._lines: list[bytes] = []
        self._held = 0
        self._descriptor = _open(file)
        self._size = os.fstat(self._descriptor).st_size
        if self._size and os.pread(self._descriptor, 1, self._size - 1) != b"\n":
            self._add(b"\n")  # the process before was killed inside a line

    def write(self, event: str, now: float | None = None, **fields: Any) -> None:
        """Add a record: wall time, monotonic seconds (`now`, else this moment), event, fields that are not None."""
        if not self.active:
            return
        record = {
            "time": datetime.now(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z"),
            "monotonic": round(monotonic() if now is None else now, 6),
            "event": event,
        }
        record.update((name, value) for name, value in fields.items() if value is not None)
        line = json.dumps(record, separators=(",", ":")).encode() + b"\n"
        if self._size + self._held + len(line) > self._limit - _LAST_LINE:
            self._stop(f"the trace has reached its limit of {self._limit} bytes (log.trace_limit)")
        else:
            self._add(line)

    def flush(self) -> None:
        """Write what waits."""
        lines, self._lines, self._held = self._lines, [], 0
        if not lines or self._descriptor < 0:
            return
        data = memoryview(b"".join(lines))
        try:
            while data:
                written = os.write(self._descriptor, data)
                self._size += written
                data = data[written:]
        except OSError as error:
            self.active = False
            self._release()
            log.error("trace of the wire stopped: %s cannot be written: %s; the node goes on", self.file, error)

    def close(self) -> None:
        """Write what waits and end. Further records are ignored."""
        self.active = False
        self.flush()
        self._release()

    def _add(self, line: bytes) -> None:
        if not self._lines:
            self._later(self.flush)
        self._lines.append(line)
        self._held += len(line)
        if self._held > _HELD:
            self.flush()

    def _stop(self, reason: str) -> None:
        self.active = False
        last = {"time": datetime.now(UTC).isoformat(), "monotonic": monotonic(), "event": "stopped", "reason": reason}
        self._add(json.dumps(last, separators=(",", ":")).encode() + b"\n")
        self.flush()
        self._release()
        log.error("trace of the wire stopped: %s; the node goes on", reason)

    def _release(self) -> None:
        if self._descriptor >= 0:
            descriptor, self._descriptor = self._descriptor, -1
            os.close(descriptor)


def _open(file: Path) -> int:
    """Open or make the file, locked. Raises StorageError."""
    # Not blocking: a named pipe without a reader would hold the start up, and is refused below.
    flags = os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    try:
        descriptor = os.open(file, flags, 0o600)
    except OSError as error:
        raise StorageError(f"trace file {file} cannot be opened: {error.strerror}") from None
    try:
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode):
            raise StorageError(f"trace file {file} is not a regular file; name another")
        if found.st_uid != os.geteuid():
            raise StorageError(f"trace file {file} belongs to user {found.st_uid}; name another")
        if found.st_mode & 0o077:
            mode = stat.S_IMODE(found.st_mode)
            raise StorageError(f"trace file {file} has mode {mode:04o}: others may read it; `chmod 600` it first")
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise StorageError(f"trace file {file} is being written by another sidecar; name another") from None
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor
