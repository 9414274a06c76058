"""Streams that only the sidecar feeds: opened, read, and opened again where the sidecar was gone meanwhile."""

import contextlib
import logging
import time
from collections.abc import Callable, Coroutine
from functools import partial
from types import TracebackType
from typing import Any, Generic, Self, TypeVar

from . import _fork, _rpc
from ._link import PATIENCE, Backoff, Link
from ._waiting import DroppedError, Pending
from .errors import AlreadyExists, Closed, ResourceExhausted, SidecarError, SlowReader, Unauthenticated

Response = TypeVar("Response")
OPEN = "sidecar-stream"  # in the initial metadata of a stream that is in force, not of one that is refused
_STEADY = 1.0  # seconds in force after which a quiet stream has worked
_PASSING = (AlreadyExists, ResourceExhausted, Unauthenticated)
_log = logging.getLogger(__name__)


class Stream(Generic[Response]):
    """One stream over as many calls as it takes. Use it with `async with`, or just iterate.

    `async with` returns once the stream is in force, and closes it at the end. Cancelling who reads, as a time-out
    does, loses nothing and ends nothing: reading goes on where it was.
    """

    _greets = False
    """Whether the first response comes at once; then it is waited for when the stream is opened."""

    def __init__(self, link: Link, name: str) -> None:
        self._link = link
        self._name = name
        self._call: Any = None
        self._backoff = Backoff()
        self._accepting, self._reading = Pending(), Pending()
        self._met = self._ready = False  # the present call: has been accepted; is in force
        self._first: Response | None = None
        self._in_force_since: float | None = None
        self._served = False  # whether any call has been in force
        self._refused_since: float | None = None  # by a sidecar that answers
        self._perhaps_taken = False  # a call by a sidecar, before it was lost
        self._lost_one = False  # a call that was in force, and nobody has been told

    async def _prepare(self) -> None:
        """Do what there is to be done before a call is begun."""

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
        try:
            await self._start()
        except BaseException:
            self.close()
            raise
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
        """End the stream; whoever waits for it gets Closed."""
        if _fork.parent:
            _fork.keep(self._call, self._accepting, self._reading)
            return
        call, self._call = self._call, None
        self._first = None
        self._met = self._ready = False
        self._accepting.drop()
        self._reading.drop()
        if call is not None:
            call.cancel()

    async def aclose(self) -> None:
        """End the stream, as `close` does; for `contextlib.aclosing`."""
        self.close()

    async def _start(self) -> None:
        """Wait until the stream is in force. Raises SidecarError."""
        while not self._ready:
            self._link.check_open()
            if self._call is None:
                await self._prepare()
            if self._call is None:
                self._call = self._open()
            call = self._call
            try:
                if not self._met:
                    self._link.note(await self._wait(self._accepting, partial(_accepted, call, self._name)))
                    self._met = True
                if self._greets and self._first is None:
                    self._first = await self._read()
            except _rpc.failures(SidecarError) as error:
                await self._lost(call, error)
                continue
            self._ready = self._served = True
            self._refused_since = None
            self._in_force_since = time.monotonic()

    async def _next(self) -> Response:
        """The next response, over as many calls as it takes. Raises the SidecarError that ends the stream."""
        while True:
            self._link.check_open()
            await self._start()
            if self._lost_one:
                self._lost_one = False
                gap = self._gap()
                if gap is not None:
                    return gap
            call = self._call
            try:
                first, self._first = self._first, None
                response: Response = await self._read() if first is None else first
            except _rpc.failures(SidecarError) as error:
                await self._lost(call, error)
                continue
            self._backoff.reset()
            return response

    async def _read(self) -> Any:
        response = await self._wait(self._reading, self._call.read)
        if not response:
            raise Closed(f"the sidecar ended {self._name}")
        return response

    async def _wait(self, pending: Pending, begin: Callable[[], Coroutine[Any, Any, Any]]) -> Any:
        try:
            return await pending.result(begin)
        except DroppedError:
            self._link.check_open()
            raise Closed(f"{self._name} was ended here") from None

    def _worth_another(self, failure: SidecarError) -> bool:
        """Whether a call that ended so is to be made again.

        For a while also where a stream that has been in force is refused: its old call, a token or a bound may not be
        as they will be in a moment. So may a call that was lost before it was known to be in force.
        """
        if self._link.lost(failure):
            self._perhaps_taken = True
            return True
        if not self._served and not (self._perhaps_taken and isinstance(failure, AlreadyExists)):
            return False
        if not isinstance(failure, _PASSING) or isinstance(failure, SlowReader):
            return False
        now = time.monotonic()
        if self._refused_since is None:
            self._refused_since = now
        return self._link.reconnect and not self._link.closed and now < self._refused_since + PATIENCE

    async def _lost(self, call: Any, error: BaseException) -> None:
        """The call is over: wait before the next one, or raise when there is none to be."""
        if self._call is not call and isinstance(error, SidecarError):
            raise error  # it was closed here meanwhile
        since, self._in_force_since = self._in_force_since, None
        if since is not None:
            self._lost_one = True
            if time.monotonic() - since > _STEADY:
                self._backoff.reset()
        self.close()
        failure = error if isinstance(error, SidecarError) else self._link.error(error)
        if not self._worth_another(failure):
            raise failure from None
        pause = self._backoff.next()
        _log.info("%s: %s; trying again in %.2f s", self._name, failure, pause)
        await self._link.pause(pause)


async def _accepted(call: Any, name: str) -> Any:
    """Wait until the sidecar has taken the call; its initial metadata. Raises what it is refused with."""
    metadata = await call.initial_metadata()
    if metadata is None or OPEN not in metadata:
        await call.read()  # raises it
        raise Closed(f"{name} ended at once")
    return metadata
