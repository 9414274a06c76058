"""Ids that callers give: a repeat within the window is answered with the first one's receipt."""

import asyncio
from collections.abc import Awaitable, Callable, Hashable, Sequence
from typing import Generic, TypeVar

from ..core.errors import Closed, SidecarError

Receipt = TypeVar("Receipt")


class Window(Generic[Receipt]):
    """The last `limit` ids, oldest first out. A receipt that is still awaited is shared by all who ask for it.

    `keeps` says of a receipt whether a repeat is to get it too; else the message has gone nowhere, and a repeat is a
    first one again.
    """

    def __init__(self, limit: int, keeps: Callable[[Receipt], bool]) -> None:
        self._limit = limit
        self._keeps = keeps
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
        if fresh:
            try:
                receipts = dict(zip(fresh, await send(fresh), strict=True))
            except BaseException as error:
                failure = error if isinstance(error, SidecarError) else Closed("the call that sent it was cancelled")
                for index, future in claimed.items():
                    self._release(keys[index], future)
                    future.set_exception(failure)
                    future.exception()  # seen: perhaps nobody else waits
                raise
        for index, future in claimed.items():
            if not self._keeps(receipts[index]):
                self._release(keys[index], future)
            future.set_result(receipts[index])
        for index, future in shared.items():
            receipts[index] = await asyncio.shield(future)
        return [receipts[index] for index in range(len(keys))]

    def _claim(self, key: Hashable) -> "asyncio.Future[Receipt]":
        future: asyncio.Future[Receipt] = asyncio.get_running_loop().create_future()
        self._receipts[key] = future
        if len(self._receipts) > self._limit:
            del self._receipts[next(iter(self._receipts))]
        return future

    def _release(self, key: Hashable, future: "asyncio.Future[Receipt]") -> None:
        if self._receipts.get(key) is future:
            del self._receipts[key]
