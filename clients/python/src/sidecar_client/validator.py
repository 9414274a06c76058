"""Judging messages of topics before anybody gets them."""

import asyncio
import inspect
import logging
from collections import deque
from collections.abc import Awaitable, Callable, Generator
from types import TracebackType
from typing import Any, Self

from . import _hot
from ._link import Link
from ._stream import Stream
from .errors import Closed
from .types import Message, Verdict
from .v1 import pubsub_pb2

Judge = Callable[[Message], "Verdict | Awaitable[Verdict]"]
_log = logging.getLogger(__name__)
_LONGEST = 65_536  # messages that one range may have
_END = 2.0  # seconds that the sidecar may take to end the call


class _Messages(Stream[Any]):
    """The stream of messages. Verdicts belong to the call that brought them."""

    def __init__(
        self, link: Link, name: str, first: pubsub_pb2.ValidateRequest, validate: Callable[[Any], Any]
    ) -> None:
        super().__init__(link, name)
        self._begin = first
        self._validate = validate
        self.verdicts: _Verdicts | None = None

    def _open(self) -> Any:
        self.verdicts = _Verdicts(self._begin)
        return self._validate(self.verdicts)

    def close(self) -> None:
        super().close()
        if self.verdicts is not None:
            self.verdicts.close()

    async def next(self) -> Any:
        """A ValidateResponse."""
        return await self._next()


class _Verdicts:
    """What one call writes: the topics, then verdicts, as many at once as have come while the last were written."""

    def __init__(self, first: pubsub_pb2.ValidateRequest) -> None:
        self._first = first
        self._waiting: deque[tuple[int, int, int]] = deque()  # bounded by the messages that wait for verdicts
        self._some = asyncio.Event()
        self._begun = self._last = self._over = False
        self.tasks: set[asyncio.Task[None]] = set()

    def close(self) -> None:
        """The call has ended: nobody waits for its verdicts."""
        self._over = True
        self._some.set()
        for task in list(self.tasks):
            task.cancel()

    def finish(self) -> None:
        """There will be no more verdicts: end this side of the call once they are written."""
        self._last = True
        self._some.set()

    def add(self, number: int, count: int, verdict: int) -> None:
        waiting = self._waiting
        if waiting:
            first, before, same = waiting[-1]
            if same == verdict and first + before == number and before + count <= _LONGEST:
                waiting[-1] = first, before + count, same
                return
        waiting.append((number, count, verdict))
        self._some.set()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> pubsub_pb2.ValidateRequest:
        if not self._begun:
            self._begun = True
            return self._first
        await self._some.wait()
        if self._over or not self._waiting:
            raise StopAsyncIteration
        request = pubsub_pb2.ValidateRequest()
        for _ in range(min(len(self._waiting), 4096)):
            first, count, verdict = self._waiting.popleft()
            request.verdicts.add(first=first, count=count, verdict=verdict)
        if not self._waiting and not self._last:
            self._some.clear()
        return request


class Validator:
    """Judges messages of some topics with a handler. Await it to judge until cancelled, or use `async with`.

    `async with` returns once messages wait for its verdicts, and goes on inside the block. It outlives the sidecar's
    restarts; while it is away, the fallback holds. The handler gets a message and returns its `Verdict`, or a coroutine
    that does: then up to `concurrency` run at once, and verdicts may come in any order. What a handler raises is
    logged, and the message ignored, as is one for which it returns something else.
    """

    def __init__(
        self,
        link: Link,
        name: str,
        first: pubsub_pb2.ValidateRequest,
        handler: Judge,
        concurrency: int,
        validate: Callable[[Any], Any],
    ) -> None:
        self._messages = _Messages(link, name, first, validate)
        self._handler = handler
        self._concurrency = concurrency
        self._room = asyncio.Event()
        self._running = 0
        self._task: asyncio.Task[None] | None = None
        self._ending = False

    def __await__(self) -> Generator[Any, None, None]:
        return self._judge_all().__await__()

    async def __aenter__(self) -> Self:
        await self._messages.__aenter__()
        self._task = asyncio.create_task(self._judge_all(), name="sidecar judging")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        task, self._task = self._task, None
        if task is not None:
            failed = task.done()
            task.cancel()
            await asyncio.wait((task,))
            if failed and error is None:
                task.result()  # what ended the judging while the block ran

    async def aclose(self) -> None:
        """Judge no more, as leaving its block does."""
        await self.__aexit__(None, None, None)

    async def _judge_all(self) -> None:
        try:
            while True:
                await self._judge_some(await self._messages.next())
        except asyncio.CancelledError:
            await self._end()
            raise
        finally:
            self._messages.close()

    async def _end(self) -> None:
        """Tell the sidecar that this was the end: then the topics are as they were before."""
        verdicts = self._messages.verdicts
        if verdicts is None:
            return
        verdicts.finish()
        try:
            async with asyncio.timeout(_END):
                while True:
                    await self._messages._read()
        except (Closed, TimeoutError, asyncio.CancelledError):
            return
        except Exception:  # noqa: BLE001 - the call has ended otherwise, which is all the same now
            return

    async def _judge_some(self, response: Any) -> None:
        verdicts = self._messages.verdicts
        assert verdicts is not None, "a call that gives messages has been opened"
        for number, item in enumerate(response.messages, response.first):
            found: Any
            try:
                found = self._handler(_hot.message(item))
            except Exception:  # noqa: BLE001 - the app's own
                _log.exception("%s: the handler failed", self._messages.name)
                found = Verdict.IGNORE
            if isinstance(found, Verdict):
                verdicts.add(number, 1, found if found else Verdict.IGNORE)
            elif inspect.isawaitable(found):
                self._begin(number, found, verdicts)
                while self._running >= self._concurrency:
                    self._room.clear()
                    await self._room.wait()
            else:
                self._odd(found)
                verdicts.add(number, 1, Verdict.IGNORE)

    def _begin(self, number: int, verdict: Awaitable[Verdict], verdicts: _Verdicts) -> None:
        task = asyncio.create_task(self._judge(number, verdict, verdicts), name="sidecar verdict")
        verdicts.tasks.add(task)
        self._running += 1

        def ended(task: "asyncio.Task[None]") -> None:
            verdicts.tasks.discard(task)
            self._running -= 1
            self._room.set()

        task.add_done_callback(ended)

    async def _judge(self, number: int, verdict: Awaitable[Verdict], verdicts: _Verdicts) -> None:
        found: object = Verdict.IGNORE
        try:
            found = await verdict
        except asyncio.CancelledError:
            raise
        except Exception:  # noqa: BLE001 - the app's own
            _log.exception("%s: the handler failed", self._messages.name)
        if not isinstance(found, Verdict):
            self._odd(found)
            found = Verdict.IGNORE
        verdicts.add(number, 1, found or Verdict.IGNORE)

    def _odd(self, found: object) -> None:
        _log.error("%s: the handler returned %s, no Verdict", self._messages.name, type(found).__name__)
