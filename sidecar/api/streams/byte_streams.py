"""Byte streams between the node and the calls of apps."""

import asyncio
import secrets
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any, Protocol

from ...core import streams
from ...core.errors import AlreadyExists, NotFound, ResourceExhausted, SidecarError, StreamReset
from ...core.events import OperationCancelled, OperationCompleted
from ...core.override import override
from ...core.types import PeerId
from ..common.operations import AppOperations
from ..common.outlet import Outlet
from ..common.wakeup import Wakeup
from ..config import ApiConfig
from ..statistics import ByteStreamsStatistics
from ..surface import Feed

MAX_WIDE = 64
"""Streams at once whose apps may have more under way than others: they hold at most 48 MiB more. A guess."""


class StreamWatcher(Protocol):
    """What is told that there is something to be read."""

    def set(self) -> None:
        """There is."""


class ByteStream:
    """One stream: what came for its app, and whether the app may send."""

    def __init__(self, number: int, peer: PeerId, protocol: str) -> None:
        self.number = number
        self.peer = peer
        self.protocol = protocol
        self.arrived: deque[bytes] = deque()  # bounded by the stream's window
        self.unread = 0  # bytes that came and that the node was not told to be consumed
        self.ended = False  # nothing comes behind that
        self.over = False  # the node knows it no more
        self.error: SidecarError | None = None  # what it ended with, if not in order
        self.ready: StreamWatcher = Wakeup()  # for the one that reads
        self.writable = True  # whether the app may send more
        self._room = asyncio.Event()
        self._room.set()

    def end(self, error: SidecarError) -> None:
        """It ends with an error, behind what has arrived."""
        self.error = self.error or error
        self._room.set()
        self.ready.set()

    def set_writable(self, writable: bool) -> None:
        """The app may send more, or not."""
        self.writable = writable
        if writable:
            self._room.set()
            self.ready.set()
        else:
            self._room.clear()

    async def room(self) -> None:
        """Wait until the app may send more. A stream that is lost takes anything: its error is told where it reads."""
        await self._room.wait()


class Announcer(Protocol):
    """A call on which streams of peers are announced."""

    def announce(self, token: str, stream: ByteStream, acceptor: int) -> None:
        """A stream waits to be taken up there. `acceptor`: what the app has numbered its acceptor with."""


class Acceptor(Outlet):
    """One app's AcceptStreams call: streams that it has not been told of."""

    def __init__(self, protocols: tuple[str, ...], carrier: str = "", number: int = 0) -> None:
        """`protocols`: those that it accepts; `carrier`: the key of the call on which they are announced, if any."""
        super().__init__()
        self.protocols = protocols
        self.carrier = carrier
        self.number = number
        self.waiting: dict[str, ByteStream] = {}  # token -> a stream that nobody has taken up
        self._fresh: list[tuple[str, PeerId, str]] = []

    def push(self, token: str, stream: ByteStream) -> None:
        """Tell the app of a stream that waits."""
        self._fresh.append((token, stream.peer, stream.protocol))
        self.ready.set()

    @override
    def take(self) -> Any:
        fresh, self._fresh = [item for item in self._fresh if item[0] in self.waiting], []
        return fresh or self.nothing()


class ByteStreams:
    """All byte streams of all apps."""

    def __init__(self, feed: Feed, operations: AppOperations, config: ApiConfig) -> None:
        """None are open at first."""
        self._feed = feed
        self._operations = operations
        self._config = config
        self._open: dict[int, ByteStream] = {}  # what the node knows
        self._attached = 0  # streams that have or await a call
        self._wide = 0  # of these, those whose apps may have more under way
        self._acceptors: dict[str, Acceptor] = {}  # by protocol
        self._by_token: dict[str, tuple[Acceptor, asyncio.TimerHandle]] = {}
        self._announcers: dict[str, Announcer] = {}  # by key
        self._refused = 0

    def effects(self) -> dict[type, Callable[[Any], None]]:
        """The node's news of streams, and what takes them."""
        return {
            streams.StreamArrived: self._arrived,
            streams.BytesArrived: self._bytes,
            streams.ReadEnded: self._read_ended,
            streams.WritableChanged: self._writable_changed,
            streams.StreamLost: self._lost,
            streams.StreamDone: self._done,
        }

    def statistics(self) -> ByteStreamsStatistics:
        """Sizes as they are, and what was refused since the start."""
        return ByteStreamsStatistics(self._attached, len(self.acceptors()), len(self._by_token), self._refused)

    # ------------------------------------------------------------ for the calls

    def consumed(self, stream: ByteStream, size: int) -> None:
        """The app has taken so many bytes."""
        stream.unread -= size
        self._feed(streams.BytesConsumed(stream.number, size))

    def write(self, stream: ByteStream, data: bytes, *, end: bool) -> None:
        """Send bytes, and end our direction behind them if it is the end."""
        if data:
            self._feed(streams.BytesWritten(stream.number, data))
        if end:
            self._feed(streams.WriteEnded(stream.number))

    def reset(self, stream: ByteStream) -> None:
        """The app resets it; its call ends with that."""
        self.abandon(stream)
        stream.end(StreamReset("this app reset the stream"))

    @asynccontextmanager
    async def opening(self, peer: PeerId, protocols: tuple[str, ...]) -> AsyncIterator[ByteStream]:
        """Open a stream and give it up at the end. Raises what it failed with, and ResourceExhausted."""
        with self._place():
            future: asyncio.Future[ByteStream] = asyncio.get_running_loop().create_future()

            def made(result: ByteStream | SidecarError) -> None:
                if future.done():
                    if isinstance(result, ByteStream):
                        self.abandon(result)
                elif isinstance(result, ByteStream):
                    future.set_result(result)
                else:
                    future.set_exception(result)

            op = self.open(peer, protocols, made)
            try:
                stream = await asyncio.shield(future)
            except asyncio.CancelledError:
                if not future.done():
                    future.cancel()
                    self.cancel(op)
                elif future.exception() is None:
                    self.abandon(future.result())
                raise
            try:
                yield stream
            finally:
                self.abandon(stream)

    def open(self, peer: PeerId, protocols: tuple[str, ...], made: Callable[[ByteStream | SidecarError], None]) -> int:
        """Open a stream; `made` is told of it in the turn of the node in which its first bytes may come.

        The number of the operation, for `cancel`, after which a stream may still be made. Raises SidecarError.
        """

        def done(completed: OperationCompleted) -> None:
            result = completed.result
            if isinstance(result, streams.StreamMade):
                made(self._add(ByteStream(result.stream, result.peer, result.protocol)))
            elif isinstance(result, SidecarError):
                made(result)

        return self._operations.start(lambda op: streams.StreamRequested(op, peer, protocols), done)

    def cancel(self, op: int) -> None:
        """Nobody waits any more for a stream to be opened."""
        self._feed(OperationCancelled(op))

    @contextmanager
    def attaching(self, token: str) -> Iterator[ByteStream]:
        """Take up a stream that waits and give it up at the end. Raises NotFound, ResourceExhausted."""
        with self._place():
            stream = self.take_up(token)
            try:
                yield stream
            finally:
                self.abandon(stream)

    def take_up(self, token: str) -> ByteStream:
        """The stream that waits under a token. Raises NotFound."""
        stream = self._take_up(token)
        if stream is None:
            raise NotFound("no stream waits under this token")
        return stream

    def protocol(self, token: str) -> str | None:
        """Of a stream that waits; None when none does."""
        held = self._by_token.get(token)
        return held[0].waiting[token].protocol if held is not None else None

    def acceptors(self) -> list[Acceptor]:
        """Every open call, once."""
        return list(dict.fromkeys(self._acceptors.values()))

    def protocols(self) -> tuple[str, ...]:
        """Those for which an app accepts."""
        return tuple(self._acceptors)

    @contextmanager
    def accepting(self, acceptor: Acceptor) -> Iterator[None]:
        """While an app accepts. Raises AlreadyExists, and what the node says against the protocols."""
        for protocol in acceptor.protocols:
            if protocol in self._acceptors:
                raise AlreadyExists(f"streams of {protocol!r} are accepted by another call already")
        self._feed(streams.ProtocolsAccepted((*self._acceptors, *acceptor.protocols)))
        self._acceptors.update(dict.fromkeys(acceptor.protocols, acceptor))
        try:
            yield
        finally:
            for protocol in acceptor.protocols:
                del self._acceptors[protocol]
            self._feed(streams.ProtocolsAccepted(tuple(self._acceptors)))
            for token in list(acceptor.waiting):
                self._drop(token)

    @contextmanager
    def announcing(self, announcer: Announcer) -> Iterator[str]:
        """While streams may be announced on a call: the key that names it."""
        key = secrets.token_urlsafe(12)
        self._announcers[key] = announcer
        try:
            yield key
        finally:
            del self._announcers[key]

    def dismiss(self, token: str) -> None:
        """A stream that waits under a token is gone."""
        self._take_up(token)

    def enter(self) -> None:
        """Take a place for another stream of an app. Raises ResourceExhausted."""
        if self._attached >= self._config.max_streams:
            raise ResourceExhausted(f"{self._attached} byte streams are open, at most {self._config.max_streams}")
        self._attached += 1

    def leave(self) -> None:
        """Give a place back."""
        self._attached -= 1

    def widen(self) -> bool:
        """Whether the app of one more stream may have more under way than others; `narrow` is told of its end."""
        if self._wide >= MAX_WIDE:
            return False
        self._wide += 1
        return True

    def narrow(self) -> None:
        """A stream that was widened has ended."""
        self._wide -= 1

    @contextmanager
    def _place(self) -> Iterator[None]:
        self.enter()
        try:
            yield
        finally:
            self.leave()

    def _add(self, stream: ByteStream) -> ByteStream:
        self._open[stream.number] = stream
        return stream

    def abandon(self, stream: ByteStream) -> None:
        """Its app has done with it: whatever is left of it is reset. What was not read counts no more."""
        known = self._open.pop(stream.number, None) is not None
        stream.arrived.clear()
        if known or (stream.unread and stream.error is None):
            self._feed(streams.StreamAbandoned(stream.number))

    def _take_up(self, token: str) -> ByteStream | None:
        held = self._by_token.pop(token, None)
        if held is None:
            return None
        acceptor, timer = held
        timer.cancel()
        return acceptor.waiting.pop(token)

    def _drop(self, token: str) -> None:
        stream = self._take_up(token)
        if stream is not None:
            self._refused += 1
            self.abandon(stream)
            stream.end(NotFound("the stream was not taken up in time"))

    # ------------------------------------------------------------ the node's news

    def _arrived(self, arrived: streams.StreamArrived) -> None:
        acceptor = self._acceptors.get(arrived.protocol)
        if acceptor is None or len(self._by_token) >= self._config.max_unattached_streams:
            self._refused += 1
            self._feed(streams.StreamAbandoned(arrived.stream))
            return
        stream = self._add(ByteStream(arrived.stream, arrived.peer, arrived.protocol))
        token = secrets.token_urlsafe(12)
        timer = asyncio.get_running_loop().call_later(self._config.attach_timeout, self._drop, token)
        self._by_token[token] = (acceptor, timer)
        acceptor.waiting[token] = stream
        announcer = self._announcers.get(acceptor.carrier)
        if announcer is None:
            acceptor.push(token, stream)
        else:
            announcer.announce(token, stream, acceptor.number)

    def _bytes(self, arrived: streams.BytesArrived) -> None:
        stream = self._open.get(arrived.stream)
        if stream is not None:
            stream.arrived.append(arrived.data)
            stream.unread += len(arrived.data)
            stream.ready.set()

    def _read_ended(self, ended: streams.ReadEnded) -> None:
        stream = self._open.get(ended.stream)
        if stream is not None:
            stream.ended = True
            stream.ready.set()

    def _writable_changed(self, changed: streams.WritableChanged) -> None:
        stream = self._open.get(changed.stream)
        if stream is not None:
            stream.set_writable(changed.writable)

    def _lost(self, lost: streams.StreamLost) -> None:
        stream = self._open.pop(lost.stream, None)
        if stream is not None:
            stream.over = True
            stream.end(lost.error)

    def _done(self, done: streams.StreamDone) -> None:
        stream = self._open.pop(done.stream, None)
        if stream is not None:
            stream.over = True
            stream.ready.set()
