"""yamux: many streams with flow control over one ordered pipe (specs yamux).

The session knows nothing of encryption, protocols or time. Bytes go in through `receive`, what they mean comes out of
`take_events`, and `next_payload` gives what to send: control frames first, then the woken streams in turn.
"""

from collections import deque
from collections.abc import Callable, Sequence
from typing import NamedTuple

from ..errors import Closed, InvalidArgument, ProtocolError, ResourceExhausted
from . import frames
from .events import StreamEnded, StreamFailed, StreamReceived, StreamReset
from .limits import INITIAL_WINDOW, MAX_WINDOW, ChannelLimits

PROTOCOL = "/yamux/1.0.0"
Pull = Callable[[int, int], Sequence[bytes | memoryview]]

_JOIN = 32 * 1024  # bytes of one stream joined into one event; above that the copy costs more than the event
_LEAST_PULL = 1024  # bytes: a smaller rest of a payload is not worth a frame of its own


class StreamArrived(NamedTuple):
    """The remote has opened a stream, whose protocol is not negotiated yet."""

    stream: int


StreamEvent = StreamArrived | StreamReceived | StreamEnded | StreamReset | StreamFailed


class _Stream:
    """One stream: who may still send what."""

    __slots__ = (
        "acknowledged",
        "closing",
        "consumed",
        "corked",
        "ended_here",
        "ended_there",
        "gone",
        "number",
        "queued",
        "receive_window",
        "send_window",
        "unconsumed",
        "window",
        "woken",
    )

    def __init__(self, number: int, window: int, *, acknowledged: bool) -> None:
        self.number = number
        self.window = window  # bytes granted to the remote in all
        self.receive_window = window  # of these, what it may still send
        self.send_window = INITIAL_WINDOW
        self.unconsumed = 0  # bytes handed to the driver and not acknowledged by it
        self.consumed = 0  # bytes acknowledged by the driver and not granted again
        self.acknowledged = acknowledged  # the remote knows of the stream
        self.corked = False  # its protocol must be agreed on before anything is pulled
        self.woken = False  # there may be something to pull
        self.queued = False  # it is in the queue of streams to be pulled
        self.closing = False  # FIN follows what is still to be pulled
        self.ended_here = False  # FIN sent
        self.ended_there = False  # FIN received
        self.gone = False


class Yamux:
    """One session. Raises ProtocolError out of `receive` for what the remote must not do; the session is then over."""

    def __init__(self, *, client: bool, limits: ChannelLimits, pull: Pull) -> None:
        """`client`: this side dialled, and opens odd streams. `pull`: see `Channel`."""
        self._limits = limits
        self._pull = pull
        self._streams: dict[int, _Stream] = {}
        self._next = 1 if client else 2
        self._seen = frames.SeenStreams(0 if client else 1)
        self._unacknowledged = 0  # streams of ours that the remote has not answered
        self._control = bytearray()
        self._ready: deque[_Stream] = deque()  # each live stream at most once
        self._spare_window = limits.max_buffered  # what may still be granted above the initial windows
        self._strays = 0  # bytes that may be in flight for streams that are gone
        self._away = False  # we said go-away
        self._remote_away = False
        self._header = b""  # an unfinished one
        self._body = 0  # bytes that the data frame being received still lacks
        self._body_flags = 0
        self._body_stream: _Stream | None = None
        self._events: list[StreamEvent] = []
        self._joined: list[bytes] = []  # bytes of `_joined_stream` for the next event
        self._joined_stream = 0
        self._joined_size = 0
        self.arrivals = 0  # streams that arrived since the last `take_events`
        self.buffered = 0  # bytes handed out and not acknowledged by the driver

    # ---------------------------------------------------------------- receiving

    def receive(self, data: bytes) -> None:
        """Take the plaintext of one encrypted message.

        Raises ProtocolError, or Closed for a go-away with an error; `take_events` then has what came before.
        """
        if self._header:
            data, self._header = self._header + data, b""
        offset, end = 0, len(data)
        while offset < end:
            if self._body:
                start, offset = offset, min(offset + self._body, end)
                self._body -= offset - start
                self._on_body(data[start:offset])
                continue
            if end - offset < frames.HEADER:
                self._header = data[offset:]
                break
            version, kind, flags, number, length = frames.parse(data, offset)
            offset += frames.HEADER
            if version != frames.VERSION:
                raise ProtocolError(f"yamux frame of version {version}")
            if kind == frames.DATA:
                self._on_data(flags, number, length)
            elif kind == frames.WINDOW_UPDATE:
                self._on_window_update(flags, number, length)
            elif kind == frames.PING:
                self._on_ping(flags, number, length)
            elif kind == frames.GO_AWAY:
                self._on_go_away(number, length)
            else:
                raise ProtocolError(f"yamux frame of unknown type {kind}")
        if len(self._control) > self._limits.max_control:
            raise ProtocolError(
                f"the remote asks without reading: {len(self._control)} bytes of answers wait, "
                f"at most {self._limits.max_control}"
            )

    def take_events(self) -> list[StreamEvent]:
        """What happened since the last call."""
        self._flush_joined()
        events, self._events = self._events, []
        self.arrivals = 0
        return events

    def _on_data(self, flags: int, number: int, length: int) -> None:
        stream = self._streams.get(number) if not flags & frames.SYN else self._on_syn(number)
        if stream is None:
            self._on_stray(number, length)
        else:
            if not stream.acknowledged:
                self._on_acknowledged(stream)
            if length > stream.receive_window:
                raise ProtocolError(f"{length} bytes on stream {number}, its window has {stream.receive_window}")
            stream.receive_window -= length
            if stream.ended_there and length:
                self._fail(stream, ProtocolError(f"{length} bytes on stream {number} behind its end"))
            elif self.buffered + length > self._limits.max_buffered:
                self._fail(stream, self._over_buffered(length))
        self._body, self._body_stream, self._body_flags = length, stream, flags
        if not length:
            self._on_body(b"")

    def _on_body(self, data: bytes) -> None:
        """A piece of a data frame's body, up to its end or that of the encrypted message."""
        stream = self._body_stream
        if stream is None or stream.gone:
            return
        if data:
            size = len(data)
            stream.unconsumed += size
            self.buffered += size
            if self._joined_stream != stream.number or self._joined_size + size > _JOIN:
                self._flush_joined()
                self._joined_stream = stream.number
            self._joined.append(data)
            self._joined_size += size
        if not self._body and self._body_flags:
            self._on_end(stream, self._body_flags)

    def _flush_joined(self) -> None:
        pieces = self._joined
        if pieces:
            data = pieces[0] if len(pieces) == 1 else b"".join(pieces)
            self._events.append(StreamReceived(self._joined_stream, data))
            self._joined = []
            self._joined_size = 0

    def _emit(self, event: StreamEvent) -> None:
        self._flush_joined()
        self._events.append(event)

    def _on_window_update(self, flags: int, number: int, length: int) -> None:
        stream = self._streams.get(number) if not flags & frames.SYN else self._on_syn(number)
        if stream is None:
            self._on_stray(number, 0)
            return
        if not stream.acknowledged:
            self._on_acknowledged(stream)
        stream.send_window += length
        if stream.send_window > MAX_WINDOW:
            raise ProtocolError(f"window of {stream.send_window} bytes on stream {number}, at most {MAX_WINDOW}")
        if stream.woken:
            self._enqueue(stream)
        self._on_end(stream, flags)

    def _on_syn(self, number: int) -> _Stream | None:
        """A new stream of the remote, or None when it is refused."""
        self._seen.add(number)
        if self._away or len(self._streams) >= self._limits.max_streams:
            self._strays += INITIAL_WINDOW
            self._send_control(frames.WINDOW_UPDATE, frames.RST, number, 0)
            return None
        stream = self._add(number, frames.ACK, acknowledged=True)
        self._emit(StreamArrived(number))
        self.arrivals += 1
        return stream

    def _on_acknowledged(self, stream: _Stream) -> None:
        stream.acknowledged = True
        self._unacknowledged -= 1

    def _on_stray(self, number: int, length: int) -> None:
        """A frame for a stream that is gone: within what can have been in flight it is passed over."""
        ours = number % 2 == self._next % 2
        if number == 0 or (number >= self._next if ours else number not in self._seen):
            raise ProtocolError(f"a frame for stream {number}, which nobody opened")
        self._strays -= length
        if self._strays < 0:
            raise ProtocolError(f"{length} bytes on stream {number}, which is gone")

    def _on_end(self, stream: _Stream, flags: int) -> None:
        if flags & frames.RST:
            self._drop(stream)
            self._emit(StreamReset(stream.number))
        elif flags & frames.FIN and not stream.ended_there:
            stream.ended_there = True
            self._emit(StreamEnded(stream.number))
            self._drop_if_over(stream)

    def _on_ping(self, flags: int, number: int, length: int) -> None:
        if number:
            raise ProtocolError(f"a ping on stream {number}")
        if flags & frames.SYN:
            self._send_control(frames.PING, frames.ACK, 0, length)

    def _on_go_away(self, number: int, code: int) -> None:
        if number:
            raise ProtocolError(f"a go-away on stream {number}")
        if code != frames.NORMAL:
            reason = {frames.PROTOCOL_ERROR: "protocol error", frames.INTERNAL_ERROR: "internal error"}.get(code)
            raise Closed(f"the remote ended the connection: {reason or f'code {code}'}")
        self._remote_away = True

    # ---------------------------------------------------------------- commands

    def open(self) -> int:
        """Open a stream. Raises ResourceExhausted, and Closed when either side is going away."""
        limits = self._limits
        if self._away or self._remote_away:
            raise Closed("the connection is closing: no new streams")
        if len(self._streams) >= limits.max_streams:
            raise ResourceExhausted(f"{len(self._streams)} streams on the connection, at most {limits.max_streams}")
        if self._unacknowledged >= limits.max_unacknowledged:
            raise ResourceExhausted(f"{self._unacknowledged} streams that the remote has not answered yet")
        if len(self._control) > limits.max_control // 2:
            raise ResourceExhausted(f"{len(self._control)} bytes of control frames wait for the remote to read")
        if self._next > frames.MAX_STREAM:
            raise ResourceExhausted("the connection has used up its stream numbers")
        number = self._next
        self._next += 2
        self._unacknowledged += 1
        self._add(number, frames.SYN, acknowledged=False)
        return number

    def cork(self, number: int) -> None:
        """Pull nothing for the stream until `uncork`."""
        self._streams[number].corked = True

    def uncork(self, number: int) -> None:
        stream = self._streams.get(number)
        if stream is not None:
            stream.corked = False
            if stream.woken:
                self._enqueue(stream)

    def push(self, number: int, data: bytes) -> None:
        """Send a few bytes of negotiation ahead of all that is pulled."""
        stream = self._streams.get(number)
        if stream is not None and data:
            stream.send_window -= len(data)
            self._send_control(frames.DATA, 0, number, len(data))
            self._control += data

    def wake(self, number: int) -> None:
        """There is something to pull for the stream."""
        stream = self._streams.get(number)
        if stream is not None and not stream.ended_here:
            stream.woken = True
            if not stream.queued:
                self._enqueue(stream)

    def close_write(self, number: int) -> None:
        """End our direction behind what can still be pulled."""
        stream = self._streams.get(number)
        if stream is not None:
            stream.closing = True
            self.wake(number)

    def reset(self, number: int) -> None:
        """End the stream in both directions at once."""
        stream = self._streams.get(number)
        if stream is not None:
            if not (stream.ended_here and stream.ended_there):
                self._send_control(frames.WINDOW_UPDATE, frames.RST, number, 0)
            self._drop(stream)

    def acknowledge(self, number: int, size: int) -> None:
        """The driver has consumed bytes of the stream. Raises InvalidArgument when it never had so many."""
        stream = self._streams.get(number)
        if stream is None:
            return
        if not 0 <= size <= stream.unconsumed:
            raise InvalidArgument(f"{size} bytes acknowledged on stream {number}, {stream.unconsumed} were handed out")
        stream.unconsumed -= size
        self.buffered -= size
        stream.consumed += size
        if stream.ended_there:
            self._drop_if_over(stream)
        elif stream.consumed * 2 >= stream.window:  # specs yamux: regularly; half a window keeps the sender going
            self._send_control(frames.WINDOW_UPDATE, 0, number, stream.consumed)
            stream.receive_window += stream.consumed
            stream.consumed = 0

    def ping(self, value: int) -> None:
        self._send_control(frames.PING, frames.SYN, 0, value)

    def go_away(self, code: int) -> None:
        """Announce the end; from now on only control frames go out."""
        if not self._away:
            self._away = True
            self._ready.clear()
            self._send_control(frames.GO_AWAY, 0, 0, code)

    # ---------------------------------------------------------------- sending

    def drop_output(self) -> None:
        """Nobody can be told anything any more."""
        self._control.clear()
        self._ready.clear()

    @property
    def unfinished(self) -> bool:
        """Whether the remote is in the middle of a frame."""
        return bool(self._header or self._body)

    @property
    def has_output(self) -> bool:
        """Whether `next_payload` may have something."""
        return bool(self._control or self._ready)

    def __len__(self) -> int:
        """Streams that are not gone."""
        return len(self._streams)

    def next_payload(self, room: int) -> bytes:
        """At most `room` bytes of whole frames (control frames may be cut), empty when there is nothing to send.

        Many small frames become one payload: one encryption and one system call for all of them. A stream that wants
        more than is left of a payload waits for the next one, and the others' turn comes first.
        """
        parts: list[bytes | memoryview] = []
        control = self._control
        if control:
            parts.append(bytes(control[:room]))
            room -= len(parts[0])
            del control[: len(parts[0])]
        ready = self._ready
        while ready and room >= frames.HEADER + _LEAST_PULL:
            stream = ready.popleft()
            stream.queued = False
            if stream.gone or not stream.send_window:
                continue  # a window update puts it back
            limit = min(room - frames.HEADER, stream.send_window)
            pulled = self._pull(stream.number, limit)
            if pulled:
                size = sum(map(len, pulled))
                if size > limit:
                    raise InvalidArgument(f"{size} bytes pulled for stream {stream.number}, at most {limit}")
                parts.append(frames.pack(frames.DATA, 0, stream.number, size))
                parts += pulled
                stream.send_window -= size
                room -= size + frames.HEADER
                self._enqueue(stream)
            else:
                stream.woken = False
                if stream.closing:
                    parts.append(frames.pack(frames.DATA, frames.FIN, stream.number, 0))
                    room -= frames.HEADER
                    stream.ended_here = True
                    self._drop_if_over(stream)
        return b"".join(parts)

    def _enqueue(self, stream: _Stream) -> None:
        """Give a woken stream its turn, unless it has one, must wait, or cannot send."""
        if not stream.queued and not stream.corked and stream.send_window and not self._away:
            stream.queued = True
            self._ready.append(stream)

    def _send_control(self, kind: int, flags: int, number: int, length: int) -> None:
        self._control += frames.pack(kind, flags, number, length)

    # ---------------------------------------------------------------- streams come and go

    def _add(self, number: int, flag: int, *, acknowledged: bool) -> _Stream:
        """A new stream, announced with as much window as the connection has to spare."""
        growth = min(self._limits.receive_window - INITIAL_WINDOW, self._spare_window)
        self._spare_window -= growth
        stream = self._streams[number] = _Stream(number, INITIAL_WINDOW + growth, acknowledged=acknowledged)
        self._send_control(frames.WINDOW_UPDATE, flag, number, growth)
        return stream

    def _drop_if_over(self, stream: _Stream) -> None:
        """A stream keeps its place until the driver has consumed its bytes: so `max_streams` bounds these too."""
        if stream.ended_here and stream.ended_there and not stream.unconsumed:
            self._drop(stream)

    def _drop(self, stream: _Stream) -> None:
        del self._streams[stream.number]
        stream.gone = True
        self.buffered -= stream.unconsumed
        self._spare_window += stream.window - INITIAL_WINDOW
        if not stream.acknowledged:
            self._unacknowledged -= 1
        self._strays += stream.receive_window

    def _fail(self, stream: _Stream, error: ProtocolError | ResourceExhausted) -> None:
        self.reset(stream.number)
        self._emit(StreamFailed(stream.number, error))

    def _over_buffered(self, length: int) -> ResourceExhausted:
        return ResourceExhausted(
            f"{length} bytes more on a connection where {self.buffered} wait to be consumed, "
            f"at most {self._limits.max_buffered}"
        )
