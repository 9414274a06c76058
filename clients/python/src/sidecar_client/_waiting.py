"""Reading from calls so that cancelling who reads costs nothing, and iterators that keep what they hold.

gRPC ends a call when one of its reads is cancelled. So a read is a task of its own, which whoever reads next finds
again. What has been read and not handed out lives in the iterator, never in the frame of a generator, which is gone
when a loop is left or its time is over.
"""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterable
from typing import Any, Generic, Self, TypeVar

from . import _fork, _rpc

Item = TypeVar("Item")


class Pending:
    """One thing at a time that is waited for, and goes on while nobody does."""

    def __init__(self) -> None:
        self._task: asyncio.Task[Any] | None = None

    async def result(self, begin: Callable[[], Coroutine[Any, Any, Any]]) -> Any:
        """What `begin` gives, or what it gave to a reader that was cancelled; each result goes to one reader.

        Raises DroppedError where it was given up.
        """
        while True:
            task = self._task
            if task is None:
                task = self._task = asyncio.create_task(begin(), name="sidecar read")
                task.add_done_callback(_seen)
            if not task.done():
                await self._wait(task)
            if self._task is task:
                self._task = None
            elif not task.cancelled():
                continue  # another reader was first
            if task.cancelled():
                raise DroppedError
            return task.result()

    async def _wait(self, task: "asyncio.Task[Any]") -> None:
        await asyncio.wait((task,))

    def drop(self) -> None:
        """Wait for it no longer."""
        task, self._task = self._task, None
        if task is not None:
            task.cancel()


class Interruptible(Pending):
    """A thing that is waited for, beside which something else may come that ends the waiting."""

    def __init__(self) -> None:
        super().__init__()
        self._come = False
        self._waiting: asyncio.Future[None] | None = None

    def interrupt(self) -> None:
        """One that waits, now or next, gets InterruptedError from `result`. What is waited for goes on."""
        self._come = True
        if self._waiting is not None and not self._waiting.done():
            self._waiting.set_result(None)

    async def _wait(self, task: "asyncio.Task[Any]") -> None:
        if not self._come:
            if self._waiting is None or self._waiting.done():
                self._waiting = asyncio.get_running_loop().create_future()
            await asyncio.wait((task, self._waiting), return_when=asyncio.FIRST_COMPLETED)
        if self._come and not task.done():
            self._come = False
            raise InterruptedError


class DroppedError(Exception):
    """What was waited for has been given up: by `drop`, or with its call."""


def _seen(task: "asyncio.Task[Any]") -> None:
    if not task.cancelled():
        task.exception()  # perhaps nobody asks for it any more, which asyncio would log


class Items(AsyncIterator[Item], Generic[Item]):
    """What `following` gives, one after the other; it raises StopAsyncIteration at the end.

    A step that is cancelled loses nothing: the next one gives what it would have.
    """

    def __init__(self, following: Callable[[], Awaitable[Item]]) -> None:
        self._following = following

    def __aiter__(self) -> Self:
        return self

    def __anext__(self) -> Awaitable[Item]:
        return self._following()

    async def aclose(self) -> None:
        """For `contextlib.aclosing`; what it reads from stays open."""


class Pages(AsyncIterator[Item], Generic[Item]):
    """A list that comes page by page."""

    def __init__(self, fetch: Callable[[str], Awaitable[tuple[Iterable[Item], str]]]) -> None:
        """`fetch` takes a page's token and gives its items and the next page's token, which is empty at the end."""
        self._fetch = fetch
        self._items: deque[Item] = deque()
        self._token: str | None = ""

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Item:
        while not self._items:
            if self._token is None:
                raise StopAsyncIteration
            items, following = await self._fetch(self._token)
            self._items.extend(items)
            self._token = following or None
        return self._items.popleft()

    async def aclose(self) -> None:
        """Give nothing more."""
        self._items.clear()
        self._token = None


class Found(AsyncIterator[Item], Generic[Item]):
    """The items of a call's responses, up to its end. The call begins with the first step."""

    def __init__(
        self,
        call: Callable[[], Any],
        convert: Callable[[Any], Iterable[Item]],
        failed: Callable[[Any], Exception],
        check_open: Callable[[], None],
    ) -> None:
        self._new_call = call
        self._convert = convert
        self._failed = failed
        self._check_open = check_open
        self._call: Any = None
        self._over = False
        self._items: deque[Item] = deque()
        self._pending = Pending()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Item:
        while not self._items:
            if self._over:
                raise StopAsyncIteration
            self._check_open()
            if self._call is None:
                self._call = self._new_call()
            try:
                response = await self._pending.result(self._call.read)
            except _rpc.failures() as error:
                await self.aclose()
                raise self._failed(error) from None
            except DroppedError:
                self._check_open()
                raise StopAsyncIteration from None
            if not response:
                await self.aclose()
            else:
                self._items.extend(self._convert(response))
        return self._items.popleft()

    async def aclose(self) -> None:
        """End the call."""
        self._over = True
        self._items.clear()
        if _fork.parent:
            _fork.keep(self._call, self._pending)
            return
        self._pending.drop()
        if self._call is not None:
            self._call.cancel()

    def __del__(self) -> None:
        """Nobody holds it any more: gRPC would keep its call open."""
        if _fork.parent:
            _fork.keep(self._call, self._pending)
        elif self._call is not None and not self._over:
            try:
                self._pending.drop()
                self._call.cancel()
            except RuntimeError:
                pass  # the loop has been closed already, and with it the call
