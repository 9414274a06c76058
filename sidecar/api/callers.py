"""Who is at the other end of the Unix socket, for the log."""

import functools
import logging
import os
import socket
import struct
from pathlib import Path
from typing import Any

from .errors import Context, Handler

_CREDENTIALS = struct.Struct("3i")  # struct ucred: process, user, group
_log = logging.getLogger(__name__)


class Callers:
    """Logs the process, user and group of each connection to the socket, at level DEBUG, with its first call.

    gRPC accepts connections by itself and does not tell their sockets. They are sockets of this process, though, and
    the kernel tells who connected them; so with DEBUG, and only then, a call looks for those not seen yet.
    """

    def __init__(self, path: Path) -> None:
        self._name = str(path)
        self._seen: dict[int, None] = {}  # inodes of the connections that are open

    def noted(self, handler: Handler) -> Handler:
        """Wrap a service's method so that its calls are looked at."""

        @functools.wraps(handler)
        async def call(request: Any, context: Context) -> Any:
            if _log.isEnabledFor(logging.DEBUG) and context.peer().startswith("unix:"):
                for process, user, group in self.fresh():
                    _log.debug("API connection of process %d, user %d, group %d", process, user, group)
            return await handler(request, context)

        return call

    def fresh(self) -> list[tuple[int, int, int]]:
        """Process, user and group of the connections that were not there before; empty where the system cannot tell."""
        if not hasattr(socket, "SO_PEERCRED"):
            return []
        present: dict[int, None] = {}
        found = []
        for name in os.listdir("/proc/self/fd"):
            try:
                copy = os.dup(int(name))
            except OSError:  # closed meanwhile
                continue
            try:
                inode = os.fstat(copy).st_ino
                if inode in self._seen:
                    present[inode] = None
                    continue
                with socket.socket(fileno=os.dup(copy)) as connection:
                    if connection.family == socket.AF_UNIX and connection.getsockname() == self._name:
                        credentials = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
                        accepting = connection.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
                        present[inode] = None
                        if not accepting:
                            found.append(_CREDENTIALS.unpack(credentials))
            except OSError:  # no socket
                continue
            finally:
                os.close(copy)
        self._seen = present
        return found
