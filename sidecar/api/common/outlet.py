"""What calls are answered from: something fills it, one task writes what it gives, something ends it."""

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

from ...core.errors import SidecarError
from .wakeup import Wakeup

MAX_BATCH = 65_536  # messages in one request

_log = logging.getLogger("sidecar.api.bulk")


class Outlet:
    """What one call still has to write.

    Whoever adds something sets `ready`. It is over when `finish` was called and nothing is left; `end` gives it an
    error to end with, behind what is there already. The first error counts.
    """

    def __init__(self) -> None:
        self.ready = Wakeup()
        self._finished = False
        self._end: SidecarError | None = None
        self._parting: SidecarError | None = None

    def take(self) -> Any:
        """What to write next; something false when there is nothing now, None when it is over. Raises its error."""
        raise NotImplementedError

    def finish(self) -> None:
        """No more will be added: the app has said everything, or what it follows has ended."""
        self._finished = True
        self.ready.set()

    def end(self, error: SidecarError) -> None:
        """End with an error once what is there has been written."""
        self._end = self._end or error
        self.ready.set()

    def part(self, error: SidecarError) -> None:
        """End with an error as soon as nothing is expected any more: at once, where the call is only kept open."""
        self._parting = error
        self.ready.set()

    def check(self) -> None:
        """Raises the error to end with, if there is one."""
        if self._end is not None:
            raise self._end

    def nothing(self, *, expected: bool = False) -> bytes | None:
        """What `take` gives where nothing is there: None when it is finished. Raises the error to end with.

        `expected`: whether something is sure to come, such as the answer to what was asked.
        """
        self.check()
        if self._parting is not None and not expected:
            raise self._parting
        return None if self._finished and not expected else b""


async def pour(outlet: Outlet, write: Callable[[Any], Awaitable[object]]) -> None:
    """Write what the outlet gives until it is over. Raises the error that it ends with."""
    while (response := outlet.take()) is not None:
        if response:
            await write(response)
        else:
            await outlet.ready.wait()


async def converse(
    requests: AsyncIterator[Any],
    outlet: Outlet,
    consume: Callable[[Any], Awaitable[None]],
    write: Callable[[Any], Awaitable[object]],
    refusing: Callable[[], bool] = bool,
) -> None:
    """Feed every request to `consume`, in a task of its own, while writing what the outlet gives until it is over.

    What comes while `refusing()` is left alone: what was taken on before gets its answers, then the stream ends.
    """
    reader = asyncio.create_task(_read(requests, outlet, consume, refusing), name="api reader")
    try:
        await pour(outlet, write)
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
