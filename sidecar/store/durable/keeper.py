"""The thread that owns the file: what is asked of it in one moment becomes one transaction, with one fsync."""

import asyncio
import contextlib
import logging
import queue
import sqlite3
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from ...core.errors import QueueFull, SidecarError, StorageError
from ...core.parameters import DurableConfig
from .. import database
from .store import Changes, DurableStore, Sizes

Result = TypeVar("Result")
Job = Callable[[DurableStore], Result]

_MOST = 1024  # jobs in one transaction
_PENDING = 64 << 20  # bytes that wait for the disk
_LOOK_AGAIN = 60.0  # seconds until clocks are compared anew, whatever is due: they may have been set
_log = logging.getLogger(__name__)


class _Asked(NamedTuple):
    job: Job[Any]
    answer: Callable[[Any, SidecarError | None], None]
    size: int


class Keeper:
    """Answers on the running event loop. The file is made when it is first needed."""

    def __init__(
        self,
        path: Path,
        config: DurableConfig,
        on_changes: Callable[[Changes], None],
        on_trouble: Callable[[str], None] = lambda trouble: None,
        open_store: Callable[[Path, DurableConfig], DurableStore] = DurableStore,
    ) -> None:
        """`on_changes` hears of every transaction before those that asked for it are answered.

        `on_trouble` hears when the disk begins to refuse, and with "" when it no longer does.
        """
        self.path = path
        self._config = config
        self._on_changes = on_changes
        self._on_trouble = on_trouble
        self._open_store = open_store
        self._loop = asyncio.get_running_loop()
        self._asked: queue.SimpleQueue[_Asked | None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None
        self._pending = 0
        self._timer: asyncio.TimerHandle | None = None
        self._ended = asyncio.Event()
        self._closed = False
        self.sizes = Sizes()
        """What is kept."""
        self.trouble = ""
        """Why the disk refused last; empty where it has not since."""

    async def start(self) -> None:
        """Open the file where there is one already. Raises StorageError."""
        if self.path.exists():
            await self.run(lambda store: None)

    async def run(self, job: Job[Result], size: int = 0) -> Result:
        """Do something in a transaction; returns once it is on the disk.

        Raises what the job does, StorageError, QueueFull.
        """
        future: asyncio.Future[Result] = self._loop.create_future()

        def answer(result: Result, error: SidecarError | None) -> None:
            if future.done():
                return
            if error is not None:
                future.set_exception(error)
            else:
                future.set_result(result)

        self.ask(job, answer, size)
        return await future

    def ask(self, job: Job[Any], answer: Callable[[Any, SidecarError | None], None], size: int = 0) -> None:
        """The same with a callback. `size`: bytes that the job holds. Raises QueueFull, StorageError."""
        if self._closed:
            raise StorageError("the sidecar is stopping")
        if size and self._pending + size > _PENDING:
            raise QueueFull(f"{self._pending} bytes wait for the disk, at most {_PENDING}")
        self._pending += size
        if self._thread is None:
            self._thread = threading.Thread(target=self._work, name="durable messages", daemon=True)
            self._thread.start()
        self._asked.put(_Asked(job, answer, size))

    async def close(self) -> None:
        """Finish what was asked, and let go of the file."""
        if self._closed:
            return
        self._closed = True
        if self._timer is not None:
            self._timer.cancel()
        if self._thread is not None:
            self._asked.put(None)
            await self._ended.wait()

    # ------------------------------------------------------------ in the thread

    def _work(self) -> None:
        store: DurableStore | None = None
        ending = False
        while not ending:
            asked = [self._asked.get()]
            with contextlib.suppress(queue.Empty):
                while len(asked) < _MOST:
                    asked.append(self._asked.get_nowait())
            ending = None in asked
            group = [each for each in asked if each is not None]
            changes: Changes | None = None
            due: float | None = None
            try:
                if store is None and group:
                    store = self._open_store(self.path, self._config)
                if store is not None and group:
                    answers, changes = _carry_out(store, group)
                    due = store.next_expiry()
                else:
                    answers = []
                trouble = None
            except SidecarError as error:
                trouble = error
                answers = [(None, error)] * len(group)
            except (sqlite3.Error, OSError) as error:
                trouble = StorageError(f"{self.path}: {database.because(self.path, error)}")
                answers = [(None, trouble)] * len(group)
            self._loop.call_soon_threadsafe(self._told, group, answers, changes, due, trouble)
        if store is not None:
            with contextlib.suppress(sqlite3.Error):
                store.close()
        self._loop.call_soon_threadsafe(self._ended.set)

    # ------------------------------------------------------------ on the loop

    def _told(
        self,
        group: list[_Asked],
        answers: list[tuple[Any, SidecarError | None]],
        changes: Changes | None,
        due: float | None,
        trouble: SidecarError | None,
    ) -> None:
        before, self.trouble = self.trouble, "" if trouble is None else str(trouble)
        if trouble is not None and not before:
            _log.error("durable messages cannot be kept: %s", trouble)
        elif trouble is None and before:
            _log.info("durable messages can be kept again")
        if before != self.trouble:
            self._on_trouble(self.trouble)
        if changes is not None:
            self.sizes = changes.sizes
            self._on_changes(changes)
        for each, (result, error) in zip(group, answers, strict=True):
            self._pending -= each.size
            each.answer(result, error)
        if group:
            self._arm(due)

    def _arm(self, due: float | None) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if due is not None and not self._closed:
            self._timer = self._loop.call_later(min(due + 0.001, _LOOK_AGAIN), self._expire)

    def _expire(self) -> None:
        self._timer = None
        if not self._closed:
            self.ask(DurableStore.expire, lambda result, error: None)


def _carry_out(store: DurableStore, group: list[_Asked]) -> tuple[list[tuple[Any, SidecarError | None]], Changes]:
    """Do a group of jobs in one transaction. One that fails has changed nothing; where the disk does, none has."""
    answers: list[tuple[Any, SidecarError | None]] = []
    store.begin()
    try:
        for each in group:
            store.savepoint()
            try:
                answers.append((each.job(store), None))
            except SidecarError as error:
                store.undo()
                answers.append((None, error))
            else:
                store.release()
    except BaseException:
        store.roll_back()
        raise
    return answers, store.commit()
