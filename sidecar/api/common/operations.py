"""What apps ask the node for: each operation has a number, by which the effect that answers it is known."""

import asyncio
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from ...core.errors import SidecarError
from ...core.events import OperationCancelled, OperationCompleted
from ...core.node import NodeInput
from ..surface import Feed
from .lifetime import Lifetime
from .news import OperationNews

Make = Callable[[int], NodeInput]
"""Makes the input that begins or cancels the operation of this number."""
Done = Callable[[Any], None]


class AppOperations:
    """The operations that are under way. Draining waits for all but those of followers, which have no end of their own.

    `completed` and `told` take the effects that services know to answer their operations.
    """

    def __init__(self, new_op: Callable[[], int], feed: Feed, lifetime: Lifetime) -> None:
        """`new_op`: gives a fresh number."""
        self._new_op = new_op
        self._feed = feed
        self._lifetime = lifetime
        self._done: dict[int, Done] = {}
        self._followers: dict[int, OperationNews] = {}
        lifetime.await_end_of(self._busy)

    def __len__(self) -> int:
        return len(self._done)

    # ------------------------------------------------------------ for the services

    def start(self, make: Make, done: Done) -> int:
        """Feed the input that `make` builds around a fresh number; `done` gets the effect that answers it.

        `done` may be called before this returns. Raises what the node says of misuse, and Closed when it stops.
        """
        op = self.begin(done)
        self.begun((op,), make(op))
        return op

    def begin(self, done: Done) -> int:
        """A fresh number, of an operation that an input to `begun` is to begin. Raises Closed when the node stops."""
        self._lifetime.check_open()
        op = self._new_op()
        self._done[op] = done
        return op

    def begun(self, ops: Sequence[int], input: NodeInput) -> None:
        """Feed the one input that begins these operations. Raises what the node says of misuse: none has begun then."""
        try:
            self._feed(input)
        except BaseException:
            for op in ops:
                self._taken_off(op)
            raise

    async def run(self, make: Make, cancel: Make | None = OperationCancelled) -> Any:
        """Run an operation to its end and return the effect that answers it; when cancelled, cancel it too."""
        op, answer = self._begin(make)
        try:
            return await answer
        except asyncio.CancelledError:
            if cancel is None:
                self._taken_off(op)
            else:
                self.cancel(op, cancel)
            raise

    async def run_partly(self, make: Make, cancel: Make) -> Any:
        """As `run`; but when cancelled, return what the cancelled one is answered with, if that comes at once."""
        op, answer = self._begin(make)
        try:
            return await asyncio.shield(answer)
        except asyncio.CancelledError:
            if op in self._done:
                self._feed(cancel(op))
                self._taken_off(op)
            if answer.done():
                return answer.result()
            raise

    async def ask(self, make: Make) -> Any:
        """The result of an operation that OperationCompleted answers; raises the error that it ends with."""
        completed: OperationCompleted = await self.run(make)
        if isinstance(completed.result, SidecarError):
            raise completed.result
        return completed.result

    def cancel(self, op: int, cancel: Make) -> None:
        """Nobody waits for an operation any more: tell the node, unless it has ended."""
        if self._taken_off(op) is not None:
            self._feed(cancel(op))

    @contextmanager
    def following(self, make: Make, follower: OperationNews) -> Iterator[None]:
        """Run an operation that tells something before it ends; cancelled where it has not ended. Raises Closed."""
        with self._lifetime.stream(follower):
            op = self._new_op()
            self._followers[op] = follower
            self._done[op] = lambda completed: follower.complete(completed.result)
            try:
                self._feed(make(op))
                yield
            finally:
                del self._followers[op]
                self.cancel(op, OperationCancelled)

    # ------------------------------------------------------------ the node's news

    def completed(self, effect: Any) -> None:
        """An operation has ended with this effect, which has its number as `op`."""
        done = self._taken_off(effect.op)
        if done is not None:
            done(effect)

    def told(self, news: Any) -> None:
        """An operation that is followed tells something; `op` is its number."""
        follower = self._followers.get(news.op)
        if follower is not None:
            follower.push(news)

    def _begin(self, make: Make) -> tuple[int, asyncio.Future[Any]]:
        answer: asyncio.Future[Any] = asyncio.get_running_loop().create_future()

        def done(effect: object) -> None:
            if not answer.done():
                answer.set_result(effect)

        return self.start(make, done), answer

    def _taken_off(self, op: int) -> Done | None:
        done = self._done.pop(op, None)
        self._lifetime.settled()
        return done

    def _busy(self) -> bool:
        return any(op not in self._followers for op in self._done)
