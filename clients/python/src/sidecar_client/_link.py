"""The channel to the sidecar: how it is set up, and how often a lost one is tried again."""

import asyncio
import random
import re
import time
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

from . import _checks, _fork, _rpc
from ._engines import Channel
from ._frames import CAUTIOUS, USUAL, Frames
from ._security import Token
from ._target import Target
from .errors import Closed, DeadlineExceeded, ResourceExhausted, SidecarError, SidecarUnavailable, StreamReset, from_rpc

Response = TypeVar("Response")

# What gRPC's older loop of events says of a connection that was not taken; the newer one says the reason alone.
_REFUSED = re.compile(r"[A-Z_]+: .*: connect: (.*?)(?: \(\d+\))?", re.DOTALL)
_FIRST_PAUSE, _LAST_PAUSE = 0.05, 1.0  # seconds between tries, doubling
_GREETING = 1.0  # seconds for which a call waits for the server's headers; some send none before their first response
PATIENCE = 10.0  # seconds for which a call without a deadline is tried again


class Backoff:
    """The pauses between tries: doubling, and jittered so that apps do not come back in step."""

    def __init__(self) -> None:
        self._bound = _FIRST_PAUSE

    def next(self) -> float:
        """Seconds to wait before the next try."""
        bound, self._bound = self._bound, min(self._bound * 2, _LAST_PAUSE)
        return random.uniform(bound / 2, bound)

    def reset(self) -> None:
        """It has worked: begin anew."""
        self._bound = _FIRST_PAUSE


class Link:
    """A channel, with typed errors."""

    def __init__(self, target: Target, channel: Channel, reconnect: bool, token: Token | None) -> None:
        self.target = target
        self.reconnect = reconnect
        self.closed = False
        self._closing = asyncio.Event()
        self._channel = channel
        methods = channel.methods
        self.channel: Any = methods if token is None else _Authorized(methods, token)
        """What stubs are made of."""
        self.keeps = token is None
        """Whether calls stay open for what is called for later. Quotas slow streams and refuse single calls: where
        there may be some, a message that is alone stays a single call."""
        self.frames: Frames | None = None
        """What a request with a batch may hold; None until a sidecar has said so."""
        self._silent = False  # it has not, within the time for it
        self._lacking: set[str] = set()
        self._watching: asyncio.Task[None] | None = None

    async def connect(self, wait: float, probe: Callable[..., Awaitable[Response]], request: object) -> Response:
        """Call `probe` until the sidecar answers, for `wait` seconds; 0: once.

        Raises SidecarUnavailable, ResourceExhausted where a bound is always reached, and what else it says at once.
        """
        begun = time.monotonic()
        backoff = Backoff()
        tries = 0
        while True:
            tries += 1
            left = begun + wait - time.monotonic()
            try:
                return await self._once(probe, request, max(1.0, left))
            except (SidecarUnavailable, Closed, DeadlineExceeded, ResourceExhausted) as error:
                self.check_open()
                left = begun + wait - time.monotonic()
                if left <= 0:
                    if isinstance(error, ResourceExhausted):
                        raise  # it answers, and says what there is too much of
                    raise self.gave_up(error, tries, time.monotonic() - begun) from None
            await self.pause(min(backoff.next(), left))

    @property
    def bounds(self) -> Frames:
        """`frames`, or those of a sidecar that says nothing."""
        return self.frames or (CAUTIOUS if self._silent else USUAL)

    async def learn(self, call: Any) -> None:
        """Wait until a call that takes batches is in force, so that `bounds` are those of the sidecar there.

        Raises what the call's own methods raise where it has ended.
        """
        if self._silent:
            return
        headers = asyncio.create_task(call.initial_metadata(), name="sidecar headers")
        headers.add_done_callback(self._heard)
        try:
            await asyncio.wait((headers,), timeout=_GREETING)
        except asyncio.CancelledError:
            headers.cancel()
            raise
        if not headers.done():
            self._silent = True
            return
        self.note(headers.result())
        if self.frames is None:
            self.frames = USUAL

    def _heard(self, headers: "asyncio.Task[Any]") -> None:
        """The headers have come, or the call is over."""
        if not headers.cancelled() and headers.exception() is None:
            self.note(headers.result())

    def note(self, metadata: Any) -> None:
        """Keep what a stream's initial metadata says about the bound on its requests."""
        said = metadata.get("sidecar-max-request") if metadata is not None else None
        if said is not None:
            self.frames = Frames.within(int(said))
            self._silent = False

    def lacks(self, method: str) -> bool:
        """Whether the sidecar that is connected now is known to be older than a method."""
        return method in self._lacking

    def lacking(self, method: str) -> None:
        """It is, until it is connected to again: another one may be there then."""
        self._lacking.add(method)
        if self._watching is None or self._watching.done():
            self._watching = asyncio.create_task(_forget(self._lacking, self._channel), name="sidecar connection")

    def let_go(self) -> None:
        """The client is not used any more, and nobody has closed it."""
        if self._watching is not None:
            self._watching.get_loop().call_soon_threadsafe(self._watching.cancel)

    async def unary(
        self,
        call: Callable[..., Awaitable[Response]],
        request: object,
        timeout: float | None,
        *,
        repeatable: bool = False,
    ) -> Response:
        """Make a unary call. Raises SidecarError.

        A call that cannot have reached the sidecar is made again, until the deadline or for 10 s; so is one that may
        have, where it is `repeatable`.
        """
        _checks.seconds(timeout, "timeout")
        begun = time.monotonic()
        try:
            return await self._once(call, request, timeout)
        except (SidecarUnavailable, Closed) as error:
            if not self._worth_another(error, repeatable):
                raise
            failure: SidecarError = error
        until = begun + (PATIENCE if timeout is None else timeout)
        backoff = Backoff()
        tries = 1
        while True:
            pause = backoff.next()
            if time.monotonic() + pause >= until:
                raise self.gave_up(failure, tries, time.monotonic() - begun) from None
            await self.pause(pause)
            tries += 1
            try:
                return await self._once(call, request, None if timeout is None else until - time.monotonic())
            except (SidecarUnavailable, Closed) as error:
                if not self._worth_another(error, repeatable):
                    raise
                failure = error

    async def _once(self, call: Callable[..., Awaitable[Response]], request: object, timeout: float | None) -> Response:
        self.check_open()
        try:
            return await call(request, timeout=timeout)
        except _rpc.failures() as error:
            raise self.error(error) from None
        except asyncio.CancelledError:
            self.check_ours()
            raise

    def _worth_another(self, error: SidecarError, repeatable: bool) -> bool:
        if not self.lost(error):
            return False
        return repeatable or (isinstance(error, SidecarUnavailable) and not error.reached)

    def gave_up(self, last: SidecarError, tries: int, seconds: float) -> SidecarUnavailable:
        """The one error that says all of it."""
        count = "once" if tries == 1 else f"{tries} times"
        error = SidecarUnavailable(
            f"no sidecar answers at {self.target} ({self.target.source}): tried {count} in {seconds:.1f} s; "
            f"last: {_bare(last)}",
            reason=last.reason,
            code=last._code,
            status=last.status,
        )
        error.reached = not isinstance(last, SidecarUnavailable) or last.reached
        return error

    def error(self, error: BaseException) -> SidecarError:
        """The typed error of a failed call."""
        failure = from_rpc(error)
        if isinstance(failure, SidecarUnavailable):
            what = "the connection was lost to the sidecar" if failure.reached else "no sidecar answers"
            return failure.again(f"{what} at {self.target}: {failure}")
        return failure

    def lost(self, error: SidecarError) -> bool:
        """Whether what ended so is worth doing again: the sidecar is gone, or going."""
        gone = isinstance(error, SidecarUnavailable | Closed) and not isinstance(error, StreamReset)
        return self.reconnect and not self.closed and gone

    def check_open(self) -> None:
        """Raises Closed after `close`, and FailedPrecondition in a process that was forked meanwhile."""
        if _fork.parent:
            _fork.check()
        if self.closed:
            raise Closed("this client has been closed")

    def check_ours(self) -> None:
        """In the place of a CancelledError: raises Closed where it comes from closing the client, not from the app."""
        task = asyncio.current_task()
        if self.closed and task is not None and not task.cancelling():
            raise Closed("this client has been closed") from None

    async def pause(self, seconds: float) -> None:
        """Wait before another try. Raises Closed when the client is closed meanwhile."""
        try:
            async with asyncio.timeout(seconds):
                await self._closing.wait()
        except TimeoutError:
            pass
        self.check_open()

    def raw(self, method: str, parse: Callable[[bytes], Any]) -> Any:
        """A bidirectional method whose requests are given as bytes."""
        return self.channel.stream_stream(method, request_serializer=None, response_deserializer=parse)

    async def close(self) -> None:
        self.closed = True
        if _fork.parent:
            return  # what there is belongs to the process that was forked
        self._closing.set()
        if self._watching is not None:
            self._watching.cancel()
            await asyncio.wait((self._watching,))
        await self._channel.close()

    def __del__(self) -> None:
        if _fork.parent and hasattr(self, "_channel"):  # else it was refused
            _fork.keep(self._channel)


async def _forget(lacking: set[str], channel: Channel) -> None:
    """At the end of the present connection: forget what its sidecar lacked. Not a method, to hold no link."""
    await channel.until_lost()
    lacking.clear()


class _Authorized:
    """A channel whose calls carry a token; an interceptor would put a slower call object around each."""

    def __init__(self, channel: Any, token: Token) -> None:
        self._channel = channel
        self._token = token

    def unary_unary(self, *arguments: Any, **named: Any) -> Any:
        return self._carrying(self._channel.unary_unary(*arguments, **named))

    def unary_stream(self, *arguments: Any, **named: Any) -> Any:
        return self._carrying(self._channel.unary_stream(*arguments, **named))

    def stream_stream(self, *arguments: Any, **named: Any) -> Any:
        return self._carrying(self._channel.stream_stream(*arguments, **named))

    def _carrying(self, method: Any) -> Any:
        def call(*requests: Any, timeout: float | None = None) -> Any:
            return method(*requests, timeout=timeout, metadata=self._token.metadata())

        return call


def _bare(error: SidecarError) -> str:
    """What was wrong, without the target, which is said already."""
    text = str(error).rpartition("last error: ")[2]
    refused = _REFUSED.fullmatch(text)
    return text if refused is None else refused[1]
