"""yamux: many streams with flow control over one ordered pipe (specs yamux).

The session knows nothing of encryption, protocols or time. Bytes go in through `receive`, what they mean comes out of
`take_events`, and `next_payload` gives what to send: control frames first, then the woken streams in turn.
"""

from ..classes import NamedTuple
from ..errors import Closed, InvalidArgument, ProtocolError, Refused, ResourceExhausted
from ..parameters.channel import INITIAL_WINDOW, MAX_WINDOW, ChannelLimits
from . import frames
from .events import StreamBroken, StreamHalfClosed, StreamReceived, StreamResetByRemote
from .outbox import Pull, YamuxOutbox, YamuxStream

PROTOCOL = "/yamux/1.0.0"

# What frames count that carry next to nothing, in points of some 5 us (`WorkConfig` of `core.node`); guesses.
_SMALL_FRAME = 32  # bytes
_SMALL = 0.1  # a data frame of fewer, a window update, a frame for a stream that is gone
_IDLE = 1.0  # a frame that says nothing at all, and a ping

_JOIN = 32 * 1024  # bytes of one stream joined into one event; above that the copy costs more than the event


class PingEchoed(NamedTuple):
    """The remote has sent back the value of the last ping whose answer was to be told."""


class StreamBegun(NamedTuple):
    """The remote has opened a stream, whose protocol is not negotiated yet."""

    stream: int


StreamEvent = StreamBegun | StreamReceived | StreamHalfClosed | StreamResetByRemote | StreamBroken
SessionEvent = StreamEvent | PingEchoed


class Yamux:
    """One session. Raises ProtocolError out of `receive` for what the remote must not do; the session is then over."""

    def __init__(self, *, client: bool, limits: ChannelLimits, pull: Pull) -> None:
        """`client`: this side dialled, and opens odd streams. `pull`: see `Channel`."""
        self._limits = limits
        self._streams: dict[int, YamuxStream] = {}
        self._next = 1 if client else 2
        self._seen = frames.SeenStreams(0 if client else 1)
        self._unacknowledged = 0  # streams of ours that the remote has not answered
        self._outbox = YamuxOutbox(pull)
        self._spare_window = limits.max_buffered  # what may still be granted above the initial windows
        self._strays = 0  # bytes that may be in flight for streams that are gone
        self._away = False  # we said go-away
        self._remote_away = False
        self._header = b""  # an unfinished one
        self._body = 0  # bytes that the data frame being received still lacks
        self._body_flags = 0
        self._body_stream: YamuxStream | None = None
        self._events: list[SessionEvent] = []
        self._awaited: int | None = None  # the value of such a ping, until the remote sends it back
        self._joined: list[bytes] = []  # bytes of `_joined_stream` for the next event
        self._joined_stream = 0
        self._joined_size = 0
        self.chores = 0.0  # work that frames without use were; the channel takes it
        self.arrivals = 0  # streams that arrived since the last `take_events`
        self.buffered = 0  # bytes handed out and not acknowledged by the driver
        self.deferred = (
            0  # of these, on deferred streams: they have the bound for themselves, so that no reader that is
        )
        # slow on purpose costs the others theirs

    # ---------------------------------------------------------------- receiving

    def receive(self, data: bytes) -> None:
        """Take the plaintext of one encrypted message.

        Raises ProtocolError, or Refused for a go-away with an error; `take_events` then has what came before.
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
            if length < _SMALL_FRAME or kind != frames.DATA:
                self.chores += _IDLE if kind == frames.PING or not (flags or length) else _SMALL
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
        if len(self._outbox.control) > self._limits.max_control:
            raise ProtocolError(
                f"the remote asks without reading: {len(self._outbox.control)} bytes of answers wait, "
                f"at most {self._limits.max_control}"
            )

    def take_events(self) -> list[SessionEvent]:
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
            elif (held := self.deferred if stream.deferred else self.buffered - self.deferred) + length > (
                self._limits.max_buffered
            ):
                self._fail(stream, self._over_buffered(length, held))
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
            if stream.deferred:
                self.deferred += size
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

    def _emit(self, event: SessionEvent) -> None:
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
        self._outbox.enqueue(stream)
        self._on_end(stream, flags)

    def _on_syn(self, number: int) -> YamuxStream | None:
        """A new stream of the remote, or None when it is refused."""
        self._seen.add(number)
        if self._away or len(self._streams) >= self._limits.max_streams:
            self._strays += INITIAL_WINDOW
            self._outbox.add_control(frames.WINDOW_UPDATE, frames.RST, number, 0)
            return None
        stream = self._add(number, frames.ACK, acknowledged=True)
        self._emit(StreamBegun(number))
        self.arrivals += 1
        return stream

    def _on_acknowledged(self, stream: YamuxStream) -> None:
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

    def _on_end(self, stream: YamuxStream, flags: int) -> None:
        if flags & frames.RST:
            self._drop(stream)
            self._emit(StreamResetByRemote(stream.number))
        elif flags & frames.FIN and not stream.ended_there:
            stream.ended_there = True
            self._emit(StreamHalfClosed(stream.number))
            self._drop_if_over(stream)

    def _on_ping(self, flags: int, number: int, length: int) -> None:
        if number:
            raise ProtocolError(f"a ping on stream {number}")
        if flags & frames.SYN:
            self._outbox.add_control(frames.PING, frames.ACK, 0, length)
        elif flags & frames.ACK and length == self._awaited:
            self._awaited = None
            self._emit(PingEchoed())

    def _on_go_away(self, number: int, code: int) -> None:
        if number:
            raise ProtocolError(f"a go-away on stream {number}")
        if code != frames.NORMAL:
            reason = {frames.PROTOCOL_ERROR: "protocol error", frames.INTERNAL_ERROR: "internal error"}.get(code)
            raise Refused(f"the remote ended the connection: {reason or f'code {code}'}")
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
        if len(self._outbox.control) > limits.max_control // 2:
            raise ResourceExhausted(f"{len(self._outbox.control)} bytes of control frames wait for the remote to read")
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
        """Pull for the stream again; one that ended meanwhile is left alone."""
        stream = self._streams.get(number)
        if stream is not None:
            stream.corked = False
            self._outbox.enqueue(stream)

    def push(self, number: int, data: bytes) -> None:
        """Send a few bytes of negotiation ahead of all that is pulled."""
        stream = self._streams.get(number)
        if stream is not None and data:
            stream.send_window -= len(data)
            self._outbox.add_control(frames.DATA, 0, number, len(data))
            self._outbox.control += data

    def wake(self, number: int) -> None:
        """There is something to pull for the stream."""
        stream = self._streams.get(number)
        if stream is not None and not stream.ended_here and not self._away:
            stream.woken = True
            self._outbox.enqueue(stream)

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
                self._outbox.add_control(frames.WINDOW_UPDATE, frames.RST, number, 0)
            self._drop(stream)

    def defer(self, number: int) -> None:
        """Let `delivered` consume nothing of the stream: its reader will say what it has consumed."""
        stream = self._streams.get(number)
        if stream is not None and not stream.deferred:
            stream.deferred = True
            self.deferred += stream.unconsumed

    def delivered(self, number: int, size: int) -> None:
        """Bytes were handed on, which consumes them unless the stream is deferred."""
        stream = self._streams.get(number)
        if stream is not None and not stream.deferred:
            self.acknowledge(number, size)

    def acknowledge(self, number: int, size: int) -> None:
        """The driver has consumed bytes of the stream. Raises InvalidArgument when it never had so many."""
        stream = self._streams.get(number)
        if stream is None:
            return
        if not 0 <= size <= stream.unconsumed:
            raise InvalidArgument(f"{size} bytes acknowledged on stream {number}, {stream.unconsumed} were handed out")
        stream.unconsumed -= size
        self.buffered -= size
        if stream.deferred:
            self.deferred -= size
        stream.consumed += size
        if stream.ended_there:
            self._drop_if_over(stream)
        elif stream.consumed * 2 >= stream.window:  # specs yamux: regularly; half a window keeps the sender going
            self._outbox.add_control(frames.WINDOW_UPDATE, 0, number, stream.consumed)
            stream.receive_window += stream.consumed
            stream.consumed = 0

    def ping(self, value: int, *, told: bool = False) -> None:
        """Ask the remote to send back `value`, 32 bits (specs yamux, "Ping"); `told`: by `PingEchoed`, when it does."""
        if told:
            self._awaited = value
        self._outbox.add_control(frames.PING, frames.SYN, 0, value)

    def go_away(self, code: int) -> None:
        """Announce the end; from now on only control frames go out."""
        if not self._away:
            self._away = True
            self._outbox.clear_streams()
            self._outbox.add_control(frames.GO_AWAY, 0, 0, code)

    # ---------------------------------------------------------------- sending

    def drop_output(self) -> None:
        """Nobody can be told anything any more."""
        self._outbox.control.clear()
        self._outbox.clear_streams()

    @property
    def unfinished(self) -> bool:
        """Whether the remote is in the middle of a frame."""
        return bool(self._header or self._body)

    @property
    def has_output(self) -> bool:
        """Whether `next_payload` may have something."""
        return bool(self._outbox)

    @property
    def stream_count(self) -> int:
        """Streams that are not gone."""
        return len(self._streams)

    def next_payload(self, room: int) -> bytes:
        """At most `room` bytes to be encrypted together, empty when there is nothing to send; see `YamuxOutbox`."""
        payload = self._outbox.next_payload(room)
        if self._outbox.ended:
            for stream in self._outbox.ended:
                self._drop_if_over(stream)
            self._outbox.ended.clear()
        return payload

    # ---------------------------------------------------------------- streams come and go

    def _add(self, number: int, flag: int, *, acknowledged: bool) -> YamuxStream:
        """A new stream, announced with as much window as the connection has to spare."""
        growth = min(self._limits.receive_window - INITIAL_WINDOW, self._spare_window)
        self._spare_window -= growth
        stream = self._streams[number] = YamuxStream(number, INITIAL_WINDOW + growth, acknowledged=acknowledged)
        self._outbox.add_control(frames.WINDOW_UPDATE, flag, number, growth)
        return stream

    def _drop_if_over(self, stream: YamuxStream) -> None:
        """A stream keeps its place until the driver has consumed its bytes: so `max_streams` bounds these too."""
        if stream.ended_here and stream.ended_there and not stream.unconsumed:
            self._drop(stream)

    def _drop(self, stream: YamuxStream) -> None:
        del self._streams[stream.number]
        stream.gone = True
        self.buffered -= stream.unconsumed
        if stream.deferred:
            self.deferred -= stream.unconsumed
        self._spare_window += stream.window - INITIAL_WINDOW
        if not stream.acknowledged:
            self._unacknowledged -= 1
        self._strays += stream.receive_window

    def _fail(self, stream: YamuxStream, error: ProtocolError | ResourceExhausted) -> None:
        self.reset(stream.number)
        self._emit(StreamBroken(stream.number, error))

    def _over_buffered(self, length: int, held: int) -> ResourceExhausted:
        return ResourceExhausted(
            f"{length} bytes more on a connection where {held} wait to be consumed, at most {self._limits.max_buffered}"
        )
