"""A name that is advertised for as long as it is held."""

import asyncio
import contextlib
from collections.abc import Callable
from types import TracebackType
from typing import Any, Self

from . import _checks, _convert
from ._link import Link
from ._stream import Stream
from ._waiting import Items
from .errors import Closed, SidecarError
from .types import Announcement
from .v1 import discovery_pb2


class Advertisement(Stream[Any]):
    """Use it with `async with`: the name is advertised inside, also over restarts of the sidecar.

    Entering waits for the first announcement. It ends by itself only with a `ttl`.
    """

    _greets = True

    def __init__(self, link: Link, name: str, ttl: float, call: Callable[..., Any]) -> None:
        super().__init__(link, f"advertising {name}")
        self._advertise = call
        self._request = _checks.request(discovery_pb2.AdvertiseRequest, name=name)
        self._request.ttl.FromNanoseconds(_checks.nanoseconds(ttl, "ttl"))
        self._over = False
        self._failure: SidecarError | None = None
        self._task: asyncio.Task[None] | None = None
        self._news = asyncio.Condition()
        self.announcement: Announcement | None = None
        """The last announcement; None before the first."""

    def _open(self) -> Any:
        return self._advertise(self._request)

    async def _read(self) -> Any:
        try:
            return await super()._read()
        except Closed:
            self._over = not self._link.closed  # ended in order: its time is over
            raise

    def _worth_another(self, failure: SidecarError) -> bool:
        return not self._over and super()._worth_another(failure)

    async def __aenter__(self) -> Self:
        await super().__aenter__()
        try:
            await self._take()  # the first announcement is there already
        except BaseException:
            self.close()
            raise
        self._task = asyncio.create_task(self._keep(), name=self._name)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task
        await super().__aexit__(kind, error, trace)

    def announcements(self) -> Items[Announcement]:
        """The last announcement, then every further one; of those that come too fast the newest.

        Ends with its `ttl`. Raises the SidecarError that ends it otherwise.
        """
        told: Announcement | None = None

        async def following() -> Announcement:
            nonlocal told
            async with self._news:
                while self.announcement is told and self._failure is None:
                    await self._news.wait()
                if self.announcement is not told and self.announcement is not None:
                    told = self.announcement
                    return told
            if self._failure is not None and not self._over:
                raise self._failure.again()
            raise StopAsyncIteration

        return Items(following)

    async def _take(self) -> None:
        response = await self._next()
        async with self._news:
            self.announcement = _convert.announcement(response)
            self._news.notify_all()

    async def _keep(self) -> None:
        """Read on, so that a lost stream is opened again."""
        try:
            while True:
                await self._take()
        except SidecarError as error:
            async with self._news:
                self._failure = error
                self._news.notify_all()
