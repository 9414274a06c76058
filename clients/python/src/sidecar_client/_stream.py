"""Streams that only the sidecar feeds: opened, read, and opened again where the sidecar was gone meanwhile."""

import asyncio
import contextlib
import logging
import time
from types import TracebackType
from typing import Any, Generic, Self, TypeVar

import grpc

from ._link import Backoff, Link
from .errors import Closed, SidecarError

Response = TypeVar("Response")
OPEN = "sidecar-stream"  # in the initial metadata of a stream that is in force, not of one that is refused
_STEADY = 1.0  # seconds in force after which a quiet stream has worked
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
        self._backoff = Backoff()
        self._first: Response | None = None
        self._in_force_since: float | None = None
        self._lost_one = False  # a call that was in force, and nobody has been told

    def _open(self) -> Any:
        """Begin a call, from where the last one ended."""
        raise NotImplementedError

    def _gap(self) -> Response | None:
        """What to tell once the stream is in force again after a call was lost; None: nothing."""
        return None

    @property
    def name(self) -> str:
        """What the stream does, for messages."""
        return self._name

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

    async def aclose(self) -> None:
        """End the stream, as `close` does; for `contextlib.aclosing`."""
        self.close()

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
                self._in_force_since = time.monotonic()
            except (grpc.aio.AioRpcError, SidecarError) as error:
                await self._lost(error)
            except BaseException as error:
                self.close()
                if isinstance(error, asyncio.CancelledError):
                    self._link.check_ours()
                raise

    async def _next(self) -> Response:
        """The next response, over as many calls as it takes. Raises the SidecarError that ends the stream."""
        while True:
            await self._start()
            if self._lost_one:
                self._lost_one = False
                gap = self._gap()
                if gap is not None:
                    return gap
            try:
                first, self._first = self._first, None
                response: Response = await self._read() if first is None else first
            except (grpc.aio.AioRpcError, SidecarError) as error:
                await self._lost(error)
                continue
            self._backoff.reset()
            return response

    async def _read(self) -> Any:
        try:
            response = await self._call.read()
        except asyncio.CancelledError:
            self._link.check_ours()
            raise
        if response is grpc.aio.EOF:
            raise Closed(f"the sidecar ended {self._name}")
        return response

    def _worth_another(self, failure: SidecarError) -> bool:
        """Whether a call that ended so is to be made again."""
        return self._link.lost(failure)

    async def _lost(self, error: "grpc.aio.AioRpcError | SidecarError") -> None:
        """The call is over: wait before the next one, or raise when there is none to be."""
        since, self._in_force_since = self._in_force_since, None
        if since is not None:
            self._lost_one = True
            if time.monotonic() - since > _STEADY:
                self._backoff.reset()
        self.close()
        failure = self._link.error(error) if isinstance(error, grpc.aio.AioRpcError) else error
        if not self._worth_another(failure):
            raise failure from None
        pause = self._backoff.next()
        _log.info("%s: %s; trying again in %.2f s", self._name, failure, pause)
        await self._link.pause(pause)
