"""CircuitTransports as sockets: a stream through a relay, as the transport of a connection (specs relay/circuit-v2).

The node finds the relay and agrees with it (`core/node/circuits.py`); from `CircuitOpened` on its bytes are here. What
the connection writes waits in the carrying stream, below its bound; what it has not read keeps that stream's window.
"""

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Any

from ..core import events
from ..core.errors import SidecarError
from ..core.override import override
from .concurrent_dial import Attempt
from .connection import Connection

Feed = Callable[[events.CircuitInput], None]


class CircuitTransport(asyncio.Transport):
    """One end of a circuit. Its protocol is called from the loop, never from within the node's turn."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        feed: Feed,
        opened: events.CircuitOpened,
        protocol: asyncio.Protocol,
        gone: Callable[[int], None],
    ) -> None:
        """`gone`: told once, with the stream's number, when nothing more is to come."""
        super().__init__({"circuit": opened})
        self._loop = loop
        self._feed = feed
        self._stream = opened.stream
        self._protocol = protocol
        self._gone = gone
        self._incoming: deque[bytes | None] = deque()  # None: the far end's end
        self._turn: asyncio.Handle | None = None
        self._reading = True
        self._ended = False  # the far end has sent all
        self._finished = False  # we have
        self._closing = False
        self._lost = False
        self._untaken = 0
        self._high, self._low = 64 * 1024, 16 * 1024
        self._full = False

    # ------------------------------------------------------------ what the node tells

    def received(self, data: bytes) -> None:
        """The far end has sent bytes."""
        self._incoming.append(data)
        self._arrange()

    def ended(self) -> None:
        """It will send no more."""
        self._incoming.append(None)
        self._arrange()

    def taken(self, size: int) -> None:
        """So many bytes have left."""
        self._untaken -= size
        if self._full and self._untaken <= self._low:
            self._full = False
            self._loop.call_soon(self._resume_writing)
        if self._closing and not self._untaken:
            self._loop.call_soon(self._close_now)

    def lost(self, error: SidecarError) -> None:
        """The circuit is gone."""
        self._closing = True
        self._loop.call_soon(self._tell_lost, error)

    def _arrange(self) -> None:
        if self._turn is None and self._reading and self._incoming:
            self._turn = self._loop.call_soon(self._deliver)

    def _deliver(self) -> None:
        self._turn = None
        if self._lost or not self._reading or not self._incoming:
            return
        data = self._incoming.popleft()
        if data is None:
            self._ended = True
            if not self._protocol.eof_received():
                self.close()
            return
        self._feed(events.CircuitRead(self._stream, len(data)))
        self._protocol.data_received(data)
        self._arrange()

    def _resume_writing(self) -> None:
        if not self._lost and not self._full:
            self._protocol.resume_writing()

    def _close_now(self) -> None:
        if self._lost or self._untaken:
            return
        if self._ended and not self._finished:
            self._finished = True
            self._feed(events.CircuitFinished(self._stream))
        elif not self._ended:
            self._feed(events.CircuitCut(self._stream))
        self._tell_lost(None)

    def _tell_lost(self, error: SidecarError | None) -> None:
        if self._lost:
            return
        self._lost = True
        for data in self._incoming:  # nobody reads it any more, and the carrying connection counts it
            if data is not None:
                self._feed(events.CircuitRead(self._stream, len(data)))
        self._incoming.clear()
        self._gone(self._stream)
        self._protocol.connection_lost(error)

    # ------------------------------------------------------------ what the connection calls

    @override
    def is_closing(self) -> bool:
        return self._closing

    @override
    def close(self) -> None:
        if not self._closing:
            self._closing = True
            if not self._untaken:
                self._loop.call_soon(self._close_now)

    @override
    def abort(self) -> None:
        if self._lost:
            return
        self._closing = True
        self._feed(events.CircuitCut(self._stream))
        self._loop.call_soon(self._tell_lost, None)

    @override
    def writelines(self, list_of_data: Any) -> None:
        if self._closing and not self._untaken:
            return
        buffers = list(list_of_data)
        self._untaken += sum(map(len, buffers))
        self._feed(events.CircuitWritten(self._stream, buffers))
        if self._untaken > self._high and not self._full:
            self._full = True
            self._protocol.pause_writing()

    @override
    def write(self, data: Any) -> None:
        self.writelines([data])

    @override
    def can_write_eof(self) -> bool:
        return True

    @override
    def write_eof(self) -> None:
        if not self._finished:
            self._finished = True
            self._feed(events.CircuitFinished(self._stream))

    @override
    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        """Keep the bounds of a circuit, which are below those of a socket: all of it has to pass another connection."""

    @override
    def get_write_buffer_size(self) -> int:
        return self._untaken

    @override
    def pause_reading(self) -> None:
        self._reading = False

    @override
    def resume_reading(self) -> None:
        self._reading = True
        self._arrange()


class CircuitTransports:
    """The transports of all circuits, and the attempts that wait for one."""

    def __init__(
        self, loop: asyncio.AbstractEventLoop, feed: Feed, make: Callable[[Attempt | None], Connection]
    ) -> None:
        """`make`: a connection without a transport, for an attempt of this node or for what the far end opened."""
        self._loop = loop
        self._feed = feed
        self._make = make
        self._transports: dict[int, CircuitTransport] = {}
        self._wanted: dict[int, tuple[Attempt, asyncio.Future[Connection]]] = {}
        self._attempt = 0

    async def connect(self, attempt: Attempt) -> Connection:
        """Have the node open a circuit for an attempt, whose target is behind a relay. Raises SidecarError."""
        target = attempt.target
        relay = target.relay
        assert relay is not None, "the target is behind a relay"
        assert relay.peer_id is not None, "the resolver refuses relays without an id"
        assert target.expected is not None, "and circuits to nobody"
        self._attempt += 1
        number = self._attempt
        answer: asyncio.Future[Connection] = self._loop.create_future()
        self._wanted[number] = (attempt, answer)
        force = attempt.dial.request.force
        self._feed(events.CircuitWanted(number, target.expected, relay.peer_id, relay.without_peer(), force))
        try:
            return await answer
        finally:
            if self._wanted.pop(number, None) is not None:
                self._feed(events.CircuitUnwanted(number))

    def carry_out(self, effect: events.CircuitEffect) -> None:
        """Do what the node wants, or hear what has become of a circuit."""
        match effect:
            case events.CircuitReceived(stream, data):
                transport = self._transports.get(stream)
                if transport is not None:
                    transport.received(data)
                else:
                    self._feed(events.CircuitRead(stream, len(data)))
            case events.CircuitTaken(stream, size):
                if stream in self._transports:
                    self._transports[stream].taken(size)
            case events.CircuitOpened():
                self._opened(effect)
            case events.CircuitFailed(number, error):
                _, answer = self._wanted.pop(number, (None, None))
                if answer is not None and not answer.done():
                    answer.set_exception(error)
            case events.CircuitEnded(stream):
                if stream in self._transports:
                    self._transports[stream].ended()
            case events.CircuitLost(stream, error):
                if stream in self._transports:
                    self._transports[stream].lost(error)

    def _opened(self, opened: events.CircuitOpened) -> None:
        attempt, answer = None, None
        if opened.attempt is not None:
            attempt, answer = self._wanted.pop(opened.attempt, (None, None))
            if answer is None or answer.done():  # given up meanwhile
                self._feed(events.CircuitCut(opened.stream))
                return
        connection = self._make(attempt)
        transport = CircuitTransport(self._loop, self._feed, opened, connection, self._forget)
        self._transports[opened.stream] = transport
        self._loop.call_soon(connection.connection_made, transport)
        if answer is not None:
            answer.set_result(connection)

    def _forget(self, stream: int) -> None:
        self._transports.pop(stream, None)
