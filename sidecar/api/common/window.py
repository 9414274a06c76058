"""Ids that callers give: a repeat within the window is answered with the first one's receipt."""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Hashable, Sequence
from typing import Any, Generic, TypeVar

from ...core.errors import Closed, SidecarError

Receipt = TypeVar("Receipt")
_CANCELLED = "the call that sent it was cancelled"


class Window(Generic[Receipt]):
    """The last `limit` ids, oldest first out. A receipt that is still awaited is shared by all who ask for it.

    `keeps` says of a receipt whether a repeat is to get it too; else the message has gone nowhere, and a repeat is a
    first one again. A caller that is cancelled does not end the sending of what has an id; `withdraws` says that the
    sending is cancelled with it, and then tells how far it had come.
    """

    def __init__(self, limit: int, keeps: Callable[[Receipt], bool], *, withdraws: bool) -> None:
        self._limit = limit
        self._keeps = keeps
        self._withdraws = withdraws
        self._sending: set[asyncio.Task[dict[int, Receipt]]] = set()
        self._receipts: dict[Hashable, asyncio.Future[Receipt]] = {}

    async def once(
        self, keys: Sequence[Hashable | None], send: Callable[[list[int]], Awaitable[list[Receipt]]]
    ) -> list[Receipt]:
        """Send what has not been sent before, and give every message's receipt.

        `keys` has each message's id, None where it has none. `send` gets the indexes of those to send now and returns
        their receipts.
        """
        fresh: list[int] = []
        claimed: dict[int, asyncio.Future[Receipt]] = {}
        shared: dict[int, asyncio.Future[Receipt]] = {}
        for index, key in enumerate(keys):
            known = None if key is None else self._receipts.get(key)
            if known is not None:
                shared[index] = known
                continue
            fresh.append(index)
            if key is not None and self._limit:
                claimed[index] = self._claim(key)
        receipts: dict[int, Receipt] = {}
        if claimed:
            receipts = await self._outliving(self._sent(keys, fresh, claimed, send))
        elif fresh:
            receipts = dict(zip(fresh, await send(fresh), strict=True))
        for index, future in shared.items():
            receipts[index] = await asyncio.shield(future)
        return [receipts[index] for index in range(len(keys))]

    async def _outliving(self, sending: Coroutine[Any, Any, dict[int, Receipt]]) -> dict[int, Receipt]:
        """Wait for what goes on when the caller is cancelled: a repeat must learn what became of the message."""
        task = asyncio.create_task(sending, name="api sending once")
        self._sending.add(task)
        task.add_done_callback(self._over)
        try:
            return await asyncio.shield(task)
        except asyncio.CancelledError:
            if self._withdraws:
                task.cancel()
            raise

    def _over(self, task: "asyncio.Task[dict[int, Receipt]]") -> None:
        self._sending.discard(task)
        if not task.cancelled():
            task.exception()  # seen: perhaps the caller has gone

    async def _sent(
        self,
        keys: Sequence[Hashable | None],
        fresh: list[int],
        claimed: dict[int, "asyncio.Future[Receipt]"],
        send: Callable[[list[int]], Awaitable[list[Receipt]]],
    ) -> dict[int, Receipt]:
        """Send, and tell all who wait for a claimed id what came of it."""
        try:
            receipts = dict(zip(fresh, await send(fresh), strict=True))
        except BaseException as error:
            failure = error if isinstance(error, SidecarError) else Closed(_CANCELLED)
            for index, future in claimed.items():
                self._fail(keys[index], future, failure)
            raise
        task = asyncio.current_task()
        withdrawn = task is not None and task.cancelling() > 0
        for index, future in claimed.items():
            if self._keeps(receipts[index]):
                future.set_result(receipts[index])
            elif withdrawn:
                self._fail(keys[index], future, Closed(_CANCELLED))
            else:
                self._release(keys[index], future)
                future.set_result(receipts[index])
        return receipts

    def _fail(self, key: Hashable, future: "asyncio.Future[Receipt]", failure: SidecarError) -> None:
        self._release(key, future)
        future.set_exception(failure)
        future.exception()  # seen: perhaps nobody else waits

    def _claim(self, key: Hashable) -> "asyncio.Future[Receipt]":
        future: asyncio.Future[Receipt] = asyncio.get_running_loop().create_future()
        self._receipts[key] = future
        if len(self._receipts) > self._limit:
            del self._receipts[next(iter(self._receipts))]
        return future

    def _release(self, key: Hashable, future: "asyncio.Future[Receipt]") -> None:
        if self._receipts.get(key) is future:
            del self._receipts[key]
