"""The thread that owns a database: what is asked of it in one moment becomes one transaction."""

import asyncio
import contextlib
import logging
import queue
import sqlite3
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar

from ..core.classes import NamedTuple
from ..core.errors import QueueFull, SidecarError, StorageError
from . import database

Result = TypeVar("Result")
StoreT = TypeVar("StoreT", bound="KeptStore[Any]")
ChangesT = TypeVar("ChangesT")
ChangesOut = TypeVar("ChangesOut", covariant=True)
Answer = Callable[[Any, SidecarError | None], None]

_MOST = 1024  # jobs in one transaction
_PENDING = 64 << 20  # bytes that wait for the disk
_LOOK_AGAIN = 60.0  # seconds until clocks are compared anew, whatever is due: they may have been set
_TRY_AGAIN = 5.0  # seconds until a disk that refused is tried again, if nothing else is asked of it; a guess
_SLOW = 1.0  # seconds that an answer takes at most while all is well; a guess
_log = logging.getLogger(__name__)


class KeptStore(Protocol[ChangesOut]):
    """What a keeper needs of a store. Everything but `begin`, `commit` and `roll_back` belongs between them."""

    def begin(self) -> None:
        """Begin a transaction."""

    def savepoint(self) -> None:
        """Begin a part of it."""

    def undo(self) -> None:
        """Undo the part, and end it."""

    def release(self) -> None:
        """Keep the part."""

    def commit(self) -> ChangesOut:
        """Bring all to the disk; what has changed. Raises sqlite3.Error, and then all is undone."""

    def roll_back(self) -> None:
        """Undo the transaction."""

    def next_expiry(self) -> float | None:
        """In how many seconds `expire` is wanted."""

    def expire(self) -> None:
        """End what is out of time."""

    def writes(self) -> int:
        """Grows by what is written."""

    def touch(self) -> None:
        """Write something that changes nothing."""

    def checkpoint(self) -> None:
        """Outside of a transaction: bring the log into the database, and give back what it takes."""

    def close(self) -> None:
        """Let go of the file."""


class _Asked(NamedTuple):
    job: Callable[[Any], Any]
    answer: Answer
    size: int
    changes: bool


class _Done(NamedTuple):
    """What became of those that asked in one moment."""

    group: list[_Asked]
    answers: list[tuple[Any, SidecarError | None]]
    changes: Any
    due: float | None
    trouble: SidecarError | None
    seconds: float
    """How long it took."""
    carried_out: bool
    """There was a transaction, or there should have been."""
    wrote: bool
    """The disk was given something: that all went well means something."""


class DatabaseKeeper(Generic[StoreT, ChangesT]):
    """Answers on the running event loop. The file is made when it is first needed."""

    def __init__(
        self,
        path: Path,
        open_store: Callable[[], StoreT],
        on_changes: Callable[[ChangesT], None],
        on_trouble: Callable[[str], None] = lambda trouble: None,
        what: str = "durable messages",
        *,
        on_slow: Callable[[str], None] = lambda slow: None,
        reopens: bool = False,
    ) -> None:
        """`on_changes` hears of every transaction before those that asked for it are answered.

        `on_trouble` hears when the disk begins to refuse, and with "" when it no longer does. `what` it keeps, for the
        log. `on_slow` hears when it takes long, with a sentence, and with "" when it no longer does. `reopens`: a file
        that turns out to be damaged is opened anew, by whoever knows what to do with it.
        """
        self.path = path
        self._open_store = open_store
        self._on_changes = on_changes
        self._on_trouble = on_trouble
        self._on_slow = on_slow
        self._what = what
        self._reopens = reopens
        self._damaged = False
        self._damage: SidecarError | None = None  # what was found when the file was last looked at as a whole
        self._look_at = 0.0  # monotonic seconds: nothing is looked at or tidied up before that
        self._loop = asyncio.get_running_loop()
        self._asked: queue.SimpleQueue[_Asked | None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None
        self._pending = 0
        self._timer: asyncio.TimerHandle | None = None
        self._ended = asyncio.Event()
        self._closed = False
        self.trouble = ""
        """Why the disk refused last; empty where it has not since."""
        self.slow = ""
        """What shows that the disk is slow; empty where it is not."""
        self._waiting = 0  # jobs that are not answered
        self._slow_timer: asyncio.TimerHandle | None = None

    @property
    def damaged(self) -> bool:
        """Whether the file is to blame when the disk refuses."""
        return bool(self.trouble) and self._damaged

    async def start(self) -> None:
        """Open the file where there is one already. Raises StorageError."""
        if self.path.exists():
            await self.run(lambda store: None)

    async def run(self, job: Callable[[StoreT], Result], size: int = 0) -> Result:
        """Do something in a transaction; returns once it is on the disk.

        Raises what the job does, StorageError, QueueFull.
        """
        future, answer = self._future()
        self.ask(job, answer, size)
        result: Result = await future
        return result

    async def read(self, job: Callable[[StoreT], Result]) -> Result:
        """Look at what is there, with what was asked for before. Raises what the job does, StorageError."""
        future, answer = self._future()
        self.look(job, answer)
        result: Result = await future
        return result

    def _future(self) -> "tuple[asyncio.Future[Any], Answer]":
        future: asyncio.Future[Any] = self._loop.create_future()

        def answer(result: Any, error: SidecarError | None) -> None:
            if future.done():
                return
            if error is not None:
                future.set_exception(error)
            else:
                future.set_result(result)

        return future, answer

    def ask(self, job: Callable[[StoreT], Any], answer: Answer, size: int = 0) -> None:
        """As `run`, with a callback. `size`: bytes that the job holds. Raises QueueFull, StorageError."""
        self._put(_Asked(job, answer, size, True))

    def look(self, job: Callable[[StoreT], Any], answer: Answer) -> None:
        """As `read`, with a callback: a disk that takes nothing more can still be read. Raises StorageError."""
        self._put(_Asked(job, answer, 0, False))

    def _put(self, asked: _Asked) -> None:
        if self._closed:
            raise StorageError("the sidecar is stopping")
        if asked.size and self._pending + asked.size > _PENDING:
            raise QueueFull(f"{self._pending} bytes wait for the disk, at most {_PENDING}")
        self._pending += asked.size
        self._waiting += 1
        if self._slow_timer is None:
            self._slow_timer = self._loop.call_later(_SLOW, self._nothing_answered)
        if self._thread is None:
            self._thread = threading.Thread(target=self._work, name=self._what, daemon=True)
            self._thread.start()
        self._asked.put(asked)

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
        if self._slow_timer is not None:
            self._slow_timer.cancel()

    # ------------------------------------------------------------ in the thread

    def _work(self) -> None:
        store: StoreT | None = None
        ending = False
        while not ending:
            asked = [self._asked.get()]
            with contextlib.suppress(queue.Empty):
                while len(asked) < _MOST:
                    asked.append(self._asked.get_nowait())
            ending = None in asked
            group = [each for each in asked if each is not None]
            changing = [each for each in group if each.changes]
            looking = [each for each in group if not each.changes]
            changes: ChangesT | None = None
            due: float | None = None
            answers: list[tuple[Any, SidecarError | None]] = []
            trouble: SidecarError | None = None
            wrote = False
            begun = time.monotonic()
            try:
                if store is None and group:
                    store = self._opened()
                    wrote = not changing
                if store is not None and changing:
                    before = store.writes()
                    answers, changes = _carry_out(store, changing)
                    wrote = store.writes() != before
                    due = store.next_expiry()
            except SidecarError as error:
                trouble = error
            except (sqlite3.Error, OSError) as error:
                trouble = self._error(error)
            if trouble is not None:
                answers = [(None, trouble)] * len(changing)
            answers += [self._looked(store, each, trouble) for each in looking]
            if trouble is not None and store is not None and not self._damaged:
                self._make_room(store)
            if self._damaged and store is not None:  # nothing is answered for on top of what is damaged
                with contextlib.suppress(sqlite3.Error):
                    store.close()
                store = None
            carried_out = bool(changing) or store is None
            seconds = time.monotonic() - begun
            done = _Done(changing + looking, answers, changes, due, trouble, seconds, carried_out, wrote)
            self._loop.call_soon_threadsafe(self._told, done)
        if store is not None:
            with contextlib.suppress(sqlite3.Error):
                store.close()
        self._loop.call_soon_threadsafe(self._ended.set)

    def _make_room(self, store: StoreT) -> None:
        """What makes a small disk full may be the log, of which all is in the database soon."""
        if time.monotonic() >= self._look_at:
            self._look_at = time.monotonic() + _TRY_AGAIN
            with contextlib.suppress(sqlite3.Error):
                store.checkpoint()

    def _opened(self) -> StoreT:
        """Raises what opening does; of a damaged file again and again, without looking at it each time."""
        if self._reopens or not self._damaged:
            return self._open_store()
        now = time.monotonic()
        if self._damage is None or now >= self._look_at:
            self._look_at = now + _TRY_AGAIN
            try:
                store = self._open_store()
            except SidecarError as error:
                self._damage = error
                raise
            self._damaged, self._damage = False, None
            return store
        raise self._damage

    def _looked(
        self, store: StoreT | None, asked: _Asked, trouble: SidecarError | None
    ) -> tuple[Any, SidecarError | None]:
        if store is None:
            return None, trouble
        try:
            return asked.job(store), None
        except SidecarError as error:
            return None, error
        except (sqlite3.Error, OSError) as error:
            return None, self._error(error)

    def _error(self, error: Exception) -> StorageError:
        if isinstance(error, sqlite3.DatabaseError) and database.says_damaged(error):
            self._damaged = True
        return StorageError(f"{self.path}: {database.because(self.path, error)}")

    # ------------------------------------------------------------ on the loop

    def _told(self, done: _Done) -> None:
        self._waiting -= len(done.group)
        if self._slow_timer is not None:
            self._slow_timer.cancel()
            self._slow_timer = self._loop.call_later(_SLOW, self._nothing_answered) if self._waiting else None
        if done.wrote or done.seconds >= _SLOW:
            self._note_slow(done.seconds)
        if done.wrote or done.trouble is not None:
            self._note(done.trouble)
        if done.changes is not None:
            self._on_changes(done.changes)
        for each, (result, error) in zip(done.group, done.answers, strict=True):
            self._pending -= each.size
            each.answer(result, error)
        if done.group and done.carried_out:
            self._arm(_TRY_AGAIN if self.trouble else done.due)

    def _nothing_answered(self) -> None:
        self._slow_timer = self._loop.call_later(_SLOW, self._nothing_answered)
        self._note_slow(_SLOW)

    def _note_slow(self, seconds: float) -> None:
        before = self.slow
        self.slow = ""
        if seconds >= _SLOW:
            self.slow = before or f"{self.path}: its disk takes {seconds:.1f} s or more for one transaction"
        if self.slow == before:
            return
        if self.slow:
            _log.warning("%s: the disk is slow: %s", self._what, self.slow)
        else:
            _log.info("%s: the disk is no longer slow", self._what)
        self._on_slow(self.slow)

    def _note(self, trouble: SidecarError | None) -> None:
        before, self.trouble = self.trouble, "" if trouble is None else str(trouble)
        if trouble is not None and not before:
            _log.error("%s cannot be kept: %s", self._what, trouble)
        elif trouble is None and before:
            _log.info("%s can be kept again", self._what)
        if before != self.trouble:
            self._on_trouble(self.trouble)

    def _arm(self, due: float | None) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if due is not None and not self._closed:
            self._timer = self._loop.call_later(min(due + 0.001, _LOOK_AGAIN), self._expire)

    def _expire(self) -> None:
        self._timer = None
        if not self._closed:
            self.ask(_expire_and_write if self.trouble else _expire, lambda result, error: None)


def _expire(store: KeptStore[Any]) -> None:
    store.expire()


def _expire_and_write(store: KeptStore[Any]) -> None:
    """Whether the disk takes it again shows only where something is written."""
    store.expire()
    store.touch()


def _carry_out(
    store: KeptStore[ChangesT], group: list[_Asked]
) -> tuple[list[tuple[Any, SidecarError | None]], ChangesT]:
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
