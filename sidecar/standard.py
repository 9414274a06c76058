"""The standard streams as they may be found: closed, full, read by nobody, or unable to hold what is to be said."""

import contextlib
import functools
import os
import stat
import sys
import threading
import time
from collections import deque

_HELD = 1 << 20  # bytes that wait for a reader at most


def prepare() -> None:
    """Make descriptors 0 to 2 be there, so that nothing else gets these numbers, and take text that they cannot hold.

    Writing to a standard output that was closed fails; what goes to a standard error that was is dropped.
    """
    for number, flags in ((0, os.O_RDONLY), (1, os.O_RDONLY), (2, os.O_WRONLY)):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, flags)  # gets the lowest number that is free
    if sys.stdin is None:
        sys.stdin = open(0, closefd=False)  # noqa: SIM115 - it lives as long as the process
    if sys.stdout is None:
        sys.stdout = open(1, "w", closefd=False)  # noqa: SIM115 - it lives as long as the process
    if sys.stderr is None:
        sys.stderr = open(2, "w", buffering=1, closefd=False)  # noqa: SIM115 - it lives as long as the process
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")


def discard_output() -> None:
    """Let what is still held back for standard output go nowhere, at interpreter exit as well."""
    with contextlib.suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


class Writer:
    """Writes texts to a descriptor from a thread of its own, since whoever reads there may have stopped to.

    What would be more than 1 MiB ahead of the reader is dropped and counted, and the next text that is taken is
    preceded by a line that says so. What cannot be written is dropped too. A text is never written in part.
    A regular file has no reader to wait for: there a text is written at once, as if there were no thread.
    """

    def __init__(self, descriptor: int) -> None:
        self.lost = 0  # texts
        self._descriptor = descriptor
        self._waiting: deque[bytes] = deque()
        self._held = 0
        self._untold = 0
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None

    def write(self, text: str) -> None:
        """Never blocks, never raises."""
        data = text.encode(errors="backslashreplace")
        if self._is_file:
            self._put(data)
            return
        with self._changed:
            if self._held + len(data) > _HELD:
                self.lost += 1
                self._untold += 1
                return
            if self._untold:
                data = b"(%d lines were lost here: nobody read them)\n" % self._untold + data
                self._untold = 0
            self._waiting.append(data)
            self._held += len(data)
            if self._thread is None:
                self._thread = threading.Thread(target=self._work, name="standard stream", daemon=True)
                self._thread.start()
            self._changed.notify_all()

    def flush(self, patience: float = 0.0) -> None:
        """Wait until all is written, for `patience` seconds at most."""
        end = time.monotonic() + patience
        with self._changed:
            while self._held and (left := end - time.monotonic()) > 0:
                self._changed.wait(left)

    def isatty(self) -> bool:
        return os.isatty(self._descriptor)

    @functools.cached_property
    def _is_file(self) -> bool:
        """Asked with the first text: `prepare` may have opened the descriptor."""
        with contextlib.suppress(OSError):
            return stat.S_ISREG(os.fstat(self._descriptor).st_mode)
        return False

    def _put(self, data: bytes) -> None:
        rest = memoryview(data)
        with contextlib.suppress(OSError):
            while rest:
                rest = rest[os.write(self._descriptor, rest) :]

    def _work(self) -> None:
        while True:
            with self._changed:
                while not self._waiting:
                    self._changed.wait()
                data = self._waiting.popleft()
            self._put(data)
            with self._changed:
                self._held -= len(data)
                self._changed.notify_all()


output = Writer(1)
errors = Writer(2)
"""Of this process, for what must not be held up: `sidecar run`."""
