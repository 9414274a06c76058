"""The thread that writes what is small and rare, so that a slow disk stops nobody but those who wait for it."""

import asyncio
import contextlib
import logging
import queue
import threading
from collections.abc import Callable
from typing import TypeVar

Result = TypeVar("Result")

_log = logging.getLogger(__name__)

_MOST = 10_000  # jobs that wait; a guess
_LAST = 10.0  # seconds for what waits at the end; a guess: a disk that takes longer may never answer


class DiskThread:
    """Does jobs one after the other, in the order of the calls. It begins with the first one.

    Before that and after the end, there is nothing to be slow for: jobs are done by the caller.
    """

    def __init__(self) -> None:
        self._jobs: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None
        self._closed = False
        self._put_count = self._done_count = 0  # each is changed by one thread only
        self._last = threading.Event()  # set when the last job that was waited for is done
        self._last.set()

    async def run(self, job: Callable[[], Result]) -> Result:
        """What the job gives, or raises. One whose caller is cancelled is done all the same."""
        if self._closed:
            return job()
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Result] = loop.create_future()

        def told(result: Result | None, error: Exception | None) -> None:
            if future.done():
                return
            if error is not None:
                future.set_exception(error)
            else:
                future.set_result(result)  # type: ignore[arg-type]

        def do() -> None:
            result, failed = None, None
            try:
                result = job()
            except Exception as error:  # noqa: BLE001 - it is raised where it was asked for
                failed = error
            with contextlib.suppress(RuntimeError):  # the loop has ended
                loop.call_soon_threadsafe(told, result, failed)

        self._put(do)
        return await future

    def post(self, job: Callable[[], None], patience: float = 0.0) -> bool:
        """Have a job done that raises nothing; False where too many wait, and it is not.

        `patience`: seconds to wait for it. Where the last one that was waited for is still not done, none is.
        """
        if self._closed:
            job()
            return True
        if self._put_count - self._done_count >= _MOST:
            return False
        if not patience or not self._last.is_set():
            self._put(job)
            return True
        done = self._last = threading.Event()

        def do() -> None:
            try:
                job()
            finally:
                done.set()

        self._put(do)
        done.wait(patience)
        return True

    def _put(self, job: Callable[[], None]) -> None:
        if self._thread is None:
            self._thread = threading.Thread(target=self._work, name="disk", daemon=True)
            self._thread.start()
        self._put_count += 1
        self._jobs.put(job)

    def _work(self) -> None:
        while (job := self._jobs.get()) is not None:
            try:
                job()
            except Exception:  # noqa: BLE001 - a job is a task boundary
                _log.exception("a write failed")
            self._done_count += 1

    async def close(self) -> None:
        """Have done what waits, within 10 s."""
        if self._closed:
            return
        self._closed = True
        thread, self._thread = self._thread, None
        if thread is None:
            return
        loop = asyncio.get_running_loop()
        ended: asyncio.Future[None] = loop.create_future()

        def told() -> None:
            if not ended.done():
                ended.set_result(None)

        def last() -> None:
            with contextlib.suppress(RuntimeError):
                loop.call_soon_threadsafe(told)

        self._jobs.put(last)
        self._jobs.put(None)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_LAST):
                await ended
