"""Bidirectional streams: one task reads what the app says, the call itself writes answers."""

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, Protocol

from ...core.errors import SidecarError
from .status import Context
from .wakeup import Wakeup

MAX_BATCH = 65_536  # messages in one request

_log = logging.getLogger(__name__)


class Outlet(Protocol):
    """What the answering half takes its responses from."""

    ready: Wakeup

    def take(self) -> Any:
        """The next response; falsy when there is none now, None when the stream is over. May raise its error."""

    def finish(self) -> None:
        """The app has said everything."""

    def end(self, error: SidecarError) -> None:
        """End with an error, after what is there already."""


class Answers:
    """What outlets of answers have in common: when there are no more, and with what they end."""

    def __init__(self) -> None:
        self._finished = False
        self._end: SidecarError | None = None
        self.ready = Wakeup()
        self._drained = Wakeup()  # some have been taken

    def finish(self) -> None:
        """The app has asked for everything."""
        self._finished = True
        self.ready.set()

    def end(self, error: SidecarError) -> None:
        """End the stream with an error once the answers that are there have been written."""
        self._end = self._end or error
        self.ready.set()

    def _nothing(self, *, expected: bool) -> bytes | None:
        """What to take where nothing is there; None where nothing will be. Raises the error that ends the stream.

        `expected`: whether something asked for has no answer yet.
        """
        if self._end is not None:
            raise self._end
        return b"" if expected or not self._finished else None


async def converse(
    requests: AsyncIterator[Any],
    outlet: Outlet,
    consume: Callable[[Any], Awaitable[None]],
    context: Context,
    refusing: Callable[[], bool] = bool,
) -> None:
    """Feed every request to `consume` while writing what the outlet gives; returns when it is over.

    What comes while `refusing()` is left alone: what was taken on before gets its answers, then the stream ends.
    """
    reader = asyncio.create_task(_read(requests, outlet, consume, refusing), name="api reader")
    try:
        while (response := outlet.take()) is not None:
            if response:
                await context.write(response)
            else:
                await outlet.ready.wait()
    finally:
        reader.cancel()


async def _read(
    requests: AsyncIterator[Any],
    outlet: Outlet,
    consume: Callable[[Any], Awaitable[None]],
    refusing: Callable[[], bool],
) -> None:
    try:
        async for request in requests:
            if refusing():
                return
            await consume(request)
        outlet.finish()
    except SidecarError as error:
        outlet.end(error)
    except asyncio.CancelledError:
        raise
    except Exception:  # noqa: BLE001 - a task boundary
        _log.exception("reading a bulk stream failed")
        outlet.end(SidecarError("internal error; the sidecar's log has it"))
