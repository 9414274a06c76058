"""Streams that only the sidecar feeds: opened, read, and opened again where the sidecar was gone meanwhile."""

import asyncio
import contextlib
import logging
from types import TracebackType
from typing import Any, Generic, Self, TypeVar

import grpc

from ._link import FIRST_PAUSE, LAST_PAUSE, Link
from .errors import Closed, SidecarError

Response = TypeVar("Response")
OPEN = "sidecar-stream"  # in the initial metadata of a stream that is in force, not of one that is refused
_log = logging.getLogger(__name__)


class Stream(Generic[Response]):
    """One stream over as many calls as it takes. Use it with `async with`, or just iterate.

    `async with` returns once the stream is in force, and closes it at the end.
    """

    _greets = False
    """Whether the first response comes at once; then it is waited for when the stream is opened."""

    def __init__(self, link: Link, name: str) -> None:
        self._link = link
        self._name = name
        self._call: Any = None
        self._pause = FIRST_PAUSE
        self._first: Response | None = None

    def _open(self) -> Any:
        """Begin a call, from where the last one ended."""
        raise NotImplementedError

    async def __aenter__(self) -> Self:
        await self._start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __del__(self) -> None:
        """Iterating was broken off and nobody holds the stream any more: gRPC would keep its call open."""
        with contextlib.suppress(RuntimeError):  # the loop has been closed already, and with it the call
            self.close()

    def close(self) -> None:
        """End the stream."""
        call, self._call = self._call, None
        self._first = None
        if call is not None:
            call.cancel()

    async def _start(self) -> None:
        """Wait until the stream is in force. Raises SidecarError."""
        while self._call is None:
            self._link.check_open()
            call = self._call = self._open()
            try:
                metadata = await call.initial_metadata()
                if metadata is None or OPEN not in metadata:
                    await call.read()  # raises what it was refused with
                    raise Closed(f"{self._name} ended at once")
                if self._greets:
                    self._first = await self._read()
            except (grpc.aio.AioRpcError, SidecarError) as error:
                await self._lost(error)
            except BaseException:
                self.close()
                raise

    async def _next(self) -> Response:
        """The next response, over as many calls as it takes. Raises the SidecarError that ends the stream."""
        while True:
            await self._start()
            try:
                first, self._first = self._first, None
                response: Response = await self._read() if first is None else first
            except (grpc.aio.AioRpcError, SidecarError) as error:
                await self._lost(error)
                continue
            self._pause = FIRST_PAUSE
            return response

    async def _read(self) -> Any:
        try:
            response = await self._call.read()
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if self._link.closed and task is not None and not task.cancelling():
                raise Closed("this client has been closed") from None
            raise
        if response is grpc.aio.EOF:
            raise Closed(f"the sidecar ended {self._name}")
        return response

    def _worth_another(self, failure: SidecarError) -> bool:
        """Whether a call that ended so is to be made again."""
        return self._link.lost(failure)

    async def _lost(self, error: "grpc.aio.AioRpcError | SidecarError") -> None:
        """The call is over: wait before the next one, or raise when there is none to be."""
        self.close()
        failure = self._link.error(error) if isinstance(error, grpc.aio.AioRpcError) else error
        if not self._worth_another(failure):
            raise failure from None
        _log.info("%s: %s; trying again in %.2f s", self._name, failure, self._pause)
        await asyncio.sleep(self._pause)
        self._pause = min(self._pause * 2, LAST_PAUSE)
