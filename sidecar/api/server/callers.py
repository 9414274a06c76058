"""Who is at the other end of the Unix socket, for the log."""

import contextlib
import functools
import logging
import os
import socket
import stat
import struct
from pathlib import Path
from typing import Any

from ..common.call import Call, Handler

_CREDENTIALS = struct.Struct("3i")  # struct ucred: process, user, group
_log = logging.getLogger("sidecar.api.callers")


class Callers:
    """Logs the process, user and group of each connection to the socket, at level DEBUG, with its first call.

    gRPC accepts connections by itself and does not tell their sockets. They are sockets of this process, though, and
    the kernel tells who connected them; so with DEBUG, and only then, a call looks for those not seen yet.
    """

    def __init__(self) -> None:
        self._names: list[bytes] = []
        self._seen: dict[int, None] = {}  # inodes of the connections that are open

    def bound(self, path: Path) -> None:
        """The name that the socket was bound by, which is what the kernel tells; the last two are looked for."""
        self._names = [*self._names[-1:], os.fsencode(path)]

    def noted(self, handler: Handler) -> Handler:
        """Wrap a service's method so that its calls are looked at."""

        @functools.wraps(handler)
        async def noted(request: Any, call: Call) -> Any:
            if _log.isEnabledFor(logging.DEBUG) and call.peer.startswith("unix:"):
                for process, user, group in self.fresh():
                    _log.debug("API connection of process %d, user %d, group %d", process, user, group)
            return await handler(request, call)

        return noted

    def fresh(self) -> list[tuple[int, int, int]]:
        """Process, user and group of the connections that were not there before; empty where the system cannot tell."""
        if not hasattr(socket, "SO_PEERCRED"):
            return []
        present: dict[int, None] = {}
        found = []
        try:
            names = os.listdir("/proc/self/fd")
        except OSError:  # no descriptor is left for it; that is no reason to fail a call
            return []
        for name in names:
            try:
                copy = os.dup(int(name))
            except OSError:  # closed meanwhile
                continue
            status = os.fstat(copy)
            seen = status.st_ino in self._seen
            if seen or not stat.S_ISSOCK(status.st_mode):
                if seen:
                    present[status.st_ino] = None
                os.close(copy)
                continue
            try:
                connection = socket.socket(fileno=copy)
            except OSError:  # of a family that Python does not know
                os.close(copy)
                continue
            with contextlib.suppress(OSError), connection:
                if connection.family == socket.AF_UNIX and _name(connection) in self._names:
                    credentials = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
                    present[status.st_ino] = None
                    if not connection.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
                        found.append(_CREDENTIALS.unpack(credentials))
        self._seen = present
        return found


def _name(connection: socket.socket) -> bytes:
    name = connection.getsockname()
    return name if isinstance(name, bytes) else os.fsencode(name)
