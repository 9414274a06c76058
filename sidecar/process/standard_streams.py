"""The standard streams as they may be found: closed, full, read by nobody, or unable to hold what is to be said."""

import contextlib
import functools
import os
import stat
import sys
import threading
import time
from collections import deque
from collections.abc import Callable

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
    """Writes to a descriptor from a thread of its own, since whoever reads there may have stopped to.

    What `write` is given and would be more than 1 MiB ahead of the reader is dropped and counted, and the next text
    that is taken is preceded by a line that says so; what cannot be written is dropped too. A text is never written in
    part. `put` waits for its reader instead.
    A regular file has no reader to wait for: there `write` writes at once, as if there were no thread.
    """

    def __init__(self, descriptor: int) -> None:
        self.lost = 0  # texts
        self._descriptor = descriptor
        self._waiting: deque[tuple[bytes, Callable[[OSError | None], None] | None]] = deque()
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
            self._take(data, None)

    async def put(self, data: bytes) -> None:
        """Wait until all of it is written, however long the reader takes. Raises OSError where it cannot be.

        The event loop goes on meanwhile. One that is cancelled may still be written, in whole or in part.
        """
        import asyncio  # not at the top: `sidecar health` does without

        loop = asyncio.get_running_loop()
        written: asyncio.Future[None] = loop.create_future()

        def settle(error: OSError | None) -> None:
            if written.done():
                return  # cancelled
            if error is None:
                written.set_result(None)
            else:
                written.set_exception(error)

        def done(error: OSError | None) -> None:
            with contextlib.suppress(RuntimeError):  # the loop has ended
                loop.call_soon_threadsafe(settle, error)

        with self._changed:
            self._take(data, done)
        await written

    def flush(self, patience: float = 0.0) -> None:
        """Wait until all is written, for `patience` seconds at most."""
        end = time.monotonic() + patience
        with self._changed:
            while self._held and (left := end - time.monotonic()) > 0:
                self._changed.wait(left)

    def isatty(self) -> bool:
        """Whether a terminal is behind it."""
        return os.isatty(self._descriptor)

    @functools.cached_property
    def _is_file(self) -> bool:
        """Asked with the first text: `prepare` may have opened the descriptor."""
        with contextlib.suppress(OSError):
            return stat.S_ISREG(os.fstat(self._descriptor).st_mode)
        return False

    def _put(self, data: bytes) -> OSError | None:
        rest = memoryview(data)
        try:
            while rest:
                rest = rest[os.write(self._descriptor, rest) :]
        except OSError as error:
            return error
        return None

    def _take(self, data: bytes, done: Callable[[OSError | None], None] | None) -> None:
        self._waiting.append((data, done))
        self._held += len(data)
        if self._thread is None:
            self._thread = threading.Thread(target=self._work, name="standard stream", daemon=True)
            self._thread.start()
        self._changed.notify_all()

    def _work(self) -> None:
        while True:
            with self._changed:
                while not self._waiting:
                    self._changed.wait()
                data, done = self._waiting.popleft()
            failure = self._put(data)
            with self._changed:
                self._held -= len(data)
                self._changed.notify_all()
            if done is not None:
                done(failure)


output = Writer(1)
errors = Writer(2)
"""Of this process, for what must not be held up: `sidecar run`, and the commands that talk to it."""
