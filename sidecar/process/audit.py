"""The audit log: one JSON object a line for each change of the node, with who made it.

    {"time": "2026-01-31T12:00:00.123Z", "action": "token.created", "caller": "user:root", "name": "app1", ...}

Callers are `token:NAME` (an app with that token), `api` (one without), `user:NAME` (the command line), `signal:NAME`
and `node` (the sidecar itself). No field holds a secret.
"""

import contextlib
import errno
import fcntl
import json
import logging
import os
import stat
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ..core.classes import dataclass
from ..core.errors import StorageError
from ..core.statistics import Statistics
from ..store.disk_thread import DiskThread
from ..store.files import give_to_owner_of

AUDIT_FILE = "audit.log"
_FULL = (errno.ENOSPC, errno.EDQUOT)
# Seconds that a change waits for its line, so that who is answered finds it there; a guess. A disk that takes longer
# holds up nobody else: while it is behind, nothing waits for it.
_PATIENCE = 0.25
_MAX_TEXT = 1024  # characters of one field
_log = logging.getLogger("sidecar.audit")


@dataclass(slots=True)
class AuditStatistics(Statistics):
    """Lines of the audit log."""

    prefix = "audit_"

    written: int = 0
    lost: int = 0


class Audit:
    """Writes the audit log. Changes are rare, so each line opens the file anew: it may be moved away at any time.

    A line that cannot be written is logged as an error and counted, and the next one that can says how many are lost;
    the node goes on.
    """

    def __init__(
        self,
        file: Path | None,
        limit: int = 1 << 26,
        wall: Callable[[], float] = time.time,
        disk: DiskThread | None = None,
    ) -> None:
        """Take what to write to, without opening it.

        `file`: made with mode 0600; None: changes are told to the process's log only.
        `limit`: bytes; a file that has grown to so much becomes `NAME.1`, in place of the one that was.
        `wall`: seconds since 1970.
        `disk`: writes the lines; None: whoever records them does.
        """
        self._file = file
        self._disk = disk
        self._limit = limit
        self._wall = wall
        self._written = 0
        self._lost = 0
        self._untold = 0  # of the lost ones

    def check(self) -> None:
        """Raises StorageError where the file cannot be used at all; a full disk may have room again later."""
        if self._file is None:
            return
        try:
            descriptor = self._open(self._file)
        except OSError as error:
            if error.errno in _FULL:
                return
            raise StorageError(f"audit file {self._file} cannot be used: {error.strerror}; see audit.file") from None
        mode = stat.S_IMODE(os.fstat(descriptor).st_mode)
        os.close(descriptor)
        if mode & (stat.S_IWGRP | stat.S_IWOTH):
            _log.warning("audit file %s can be written by others (mode %04o), so it proves little", self._file, mode)

    def record(self, action: str, caller: str, **fields: Any) -> None:
        """Add a line. `action`: `what.done`, such as `peer.banned`. Fields are left out where they are None."""
        line: dict[str, Any] = {"time": _moment(self._wall()), "action": action, "caller": caller}
        line |= {name: _bounded(value) for name, value in fields.items() if value is not None}
        details = ", ".join(f"{_words(name)} {_shown(line[name])}" for name in line if name in fields)
        _log.info("%s by %s%s", _words(action), caller, f": {details}" if details else "")
        file = self._file
        if file is None:
            return
        if self._disk is None:
            self._write(file, line)
        elif not self._disk.post(lambda: self._write(file, line), _PATIENCE):
            self._lose(file, "the disk is too slow")

    def _write(self, file: Path, line: dict[str, Any]) -> None:
        lines = [line]
        if self._untold:
            lines.insert(0, {"time": line["time"], "action": "audit.lost", "caller": "node", "lines": self._untold})
        try:
            self._append(file, "".join(json.dumps(row, default=str) + "\n" for row in lines).encode())
        except OSError as error:
            self._lose(file, error.strerror or str(error))
        else:
            self._written += 1
            self._untold = 0

    def _lose(self, file: Path, reason: str) -> None:
        self._lost += 1
        self._untold += 1
        _log.error("the audit log has lost a line: %s cannot be written: %s; the node goes on", file, reason)

    def statistics(self) -> AuditStatistics:
        """Lines written and lost since the start."""
        return AuditStatistics(self._written, self._lost)

    def _append(self, file: Path, data: bytes) -> None:
        """Raises OSError."""
        descriptor = self._open(file)
        try:
            size = os.fstat(descriptor).st_size
            if size >= self._limit:
                os.replace(file, file.with_name(file.name + ".1"))
                full, descriptor = descriptor, self._open(file)
                os.close(full)
                size = os.fstat(descriptor).st_size
            if size and os.pread(descriptor, 1, size - 1) != b"\n":
                data = b"\n" + data  # a disk that was full has cut the line before
            if os.write(descriptor, data) != len(data):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        finally:
            os.close(descriptor)

    @staticmethod
    def _open(file: Path) -> int:
        """The file, for us alone if that can be had at once: the command line writes to it too. Raises OSError."""
        flags = os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
        while True:
            descriptor = os.open(file, flags, 0o600)
            try:
                found = os.fstat(descriptor)
                if not stat.S_ISREG(found.st_mode):
                    raise OSError(errno.EINVAL, "it is not a regular file")
                if not found.st_size:
                    give_to_owner_of(file.parent, descriptor)
                with contextlib.suppress(BlockingIOError):
                    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                with contextlib.suppress(FileNotFoundError):
                    if os.path.samestat(found, os.stat(file, follow_symlinks=False)):
                        return descriptor
            except BaseException:
                os.close(descriptor)
                raise
            os.close(descriptor)  # moved away in this moment


def user() -> str:
    """Who runs this process, as a caller."""
    import getpass  # of use to the command line alone

    try:
        return f"user:{getpass.getuser()}"
    except (KeyError, OSError):  # a user without a name, as in a container
        return f"user:{os.getuid()}"


def _shown(value: Any) -> str:
    """A field for people: the parts of a larger one as `name = value`."""
    if isinstance(value, dict):
        return "; ".join(f"{name} = {_shown(part)}" for name, part in value.items()) or "as by default"
    if isinstance(value, list | tuple):
        return ", ".join(map(_shown, value)) or "none"
    return str(value)


def _bounded(value: Any) -> Any:
    if isinstance(value, str) and len(value) > _MAX_TEXT:
        return value[:_MAX_TEXT] + "..."
    return value


def _words(name: str) -> str:
    """An action or a field as people say it: `log.level_changed` is `log level changed`."""
    return name.replace(".", " ").replace("_", " ")


def _moment(wall: float) -> str:
    whole = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(wall))
    return f"{whole}.{int(wall % 1 * 1000):03d}Z"
