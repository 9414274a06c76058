"""One socket and the channel that lives on it."""

import asyncio
import logging
from collections.abc import Callable, Sequence
from time import monotonic
from typing import Any, cast

from ..core import channel as wire
from ..core import events
from ..core.channel import Channel, ChannelEvent
from ..core.errors import Closed, SidecarError, StreamReset, WriteStalled
from ..core.events import STREAM_BITS, TransportInput
from ..core.identity import PublicKey
from ..core.multiaddr import Multiaddr
from ..core.override import override
from ..core.types import Direction, PeerId
from .alarm import Alarm
from .concurrent_dial import Attempt
from .host import ConnectionHost
from .lifecycle import OVER, TRANSITIONS, State, Step, after
from .reading import READ_TURN, ReadTurns
from .statistics import ConnectionView

log = logging.getLogger(__name__)

_MASK = (1 << STREAM_BITS) - 1
_DEFECT = "internal error while serving the connection; see the log"
LINGER = 2.0  # seconds for the remote to close as well, once it was sent everything; a guess
WRITE_CHUNK = 64 * 1024  # asked of the channel at a time: about one full Noise frame
CHORES = 16.0  # points of work by the channel's count before the node hears of them; a guess
TURN_BYTES = 1024 * 1024  # written by one connection before the others have their turn
_OPEN = State.OPEN  # looked up for every write


class Connection(asyncio.Protocol):
    """Feeds what the socket brings to the channel and the node, and pumps the channel's output into the socket.

    It runs on callbacks alone, without a task; asyncio.BufferedProtocol was measured and is no faster. Its life is the
    table of `lifecycle`. An exception in it ends it and nothing else.
    """

    __slots__ = (  # of more than 30 attributes, a class without them looks each up in a dictionary of its own
        "_alarm",
        "_base",
        "_channel",
        "_close_timer",
        "_dirty",
        "_host",
        "_input_ended",
        "_linger_timer",
        "_output_ended",
        "_progress_at",
        "_state",
        "_suffix",
        "_taken",
        "_tokens",
        "_transport",
        "_turns",
        "_write_paused",
        "attempt",
        "buffered",
        "bytes_in",
        "bytes_out",
        "circuit",
        "direction",
        "local",
        "number",
        "opened_at",
        "over",
        "peer",
        "public_key",
        "remote",
        "remote_host",
    )

    def __init__(
        self,
        host: ConnectionHost,
        number: int,
        direction: Direction,
        attempt: Attempt | None = None,
        *,
        suffix: str = "",
    ) -> None:
        """Begin without a socket: asyncio hands it over in `connection_made`.

        `number`: never used again in this process.
        `attempt`: the part of a dial that opened this connection, None for inbound ones.
        `suffix`: what the addresses of both ends have behind the TCP port.
        """
        self.number = number
        self.direction = direction
        self.attempt = attempt
        self.remote_host = ""
        self.circuit: events.CircuitOpened | None = None
        """The stream through a relay that it has for a socket."""
        self.remote: Multiaddr | None = None
        self.local: Multiaddr | None = None
        self.peer: PeerId | None = None
        self.public_key: PublicKey | None = None
        self.opened_at: float | None = None
        """When the node was told of it, in monotonic seconds."""
        self.over = False
        """Whether its state is one of `OVER`."""
        self.bytes_in = 0
        self.bytes_out = 0
        self.buffered = 0
        """Bytes that wait for the socket, as last accounted."""
        self._state = State.NEW
        self._host = host
        self._suffix = suffix
        self._base = number << STREAM_BITS
        self._channel: Channel | None = None
        self._transport: asyncio.Transport | None = None
        self._alarm: Alarm | None = None
        self._close_timer: asyncio.TimerHandle | None = None
        self._linger_timer: asyncio.TimerHandle | None = None
        self._tokens: dict[int, int] = {}  # streams that we opened and that are not negotiated yet
        self._turns: ReadTurns | None = None
        self._dirty = False  # to be pumped at the end of this turn of the loop
        self._write_paused = False  # the transport takes no more now
        self._input_ended = False  # the remote will send no more: its half of the socket, or of a layer
        self._output_ended = False  # nor will we
        self._taken = 0  # bytes that the kernel had accepted when the stall check last looked
        self._progress_at = 0.0

    def __repr__(self) -> str:
        who = self.peer.short() if self.peer else "?"
        return f"{who}@{self.remote} ({self.direction.value} {self.number})"

    @property
    def state(self) -> State:
        """Where it is in its life."""
        return self._state

    @property
    def open(self) -> bool:
        """Whether the node knows this connection, and believes it alive."""
        return self.opened_at is not None and not self.over

    def view(self) -> ConnectionView | None:
        """What is shown of it; None unless it is open."""
        if self.opened_at is None or self.over or not (self.peer and self.remote and self.local):
            return None
        return ConnectionView(
            connection=self.number,
            peer=self.peer,
            direction=self.direction,
            remote=self.remote,
            local=self.local,
            opened_at=self.opened_at,
            bytes_in=self.bytes_in,
            bytes_out=self.bytes_out,
            buffered=self.buffered,
            streams=self.streams,
        )

    @property
    def streams(self) -> int:
        """Streams that are not gone, those in negotiation included."""
        return self._channel.stream_count if self._channel is not None else 0

    # ------------------------------------------------------------ asyncio's calls

    @override
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # asyncio and uvloop set TCP_NODELAY by themselves
        if not self._name_ends(transport):  # gone before we looked
            self._advance(Step.REFUSED)
            if self.attempt is not None:
                self.attempt.fail(Closed("the remote closed the connection at once"))
            self._transport.abort()
            return
        channel = self._host.admit(self)
        if channel is None:
            self._advance(Step.REFUSED)
            self._transport.abort()
            return
        self._advance(Step.ADMITTED)
        high = self._host.config.write_high_water
        self._transport.set_write_buffer_limits(high=high, low=high // 4)
        self._channel = channel
        self._turns = ReadTurns(self._host.loop, self._transport, self._read, self.eof_received)
        self._alarm = Alarm(self._host.loop, channel.next_deadline, self._on_deadline)
        self._settle()

    def _name_ends(self, transport: asyncio.BaseTransport) -> bool:
        """Note where it leads from and to; False where nobody can say any more."""
        self.circuit = transport.get_extra_info("circuit")
        if self.circuit is not None:
            self.remote, self.local = self.circuit.remote, self.circuit.local
            return True
        peer, here = transport.get_extra_info("peername"), transport.get_extra_info("sockname")
        if not peer or not here:
            return False
        self.remote_host = str(peer[0])
        self.remote = Multiaddr.tcp(self.remote_host, peer[1], self._suffix)
        self.local = Multiaddr.tcp(str(here[0]), here[1], self._suffix)
        return True

    @override
    def data_received(self, data: bytes) -> None:
        turns = self._turns
        if turns is None:
            return
        self.bytes_in += len(data)
        if turns.busy or len(data) > READ_TURN:
            turns.hold(data)
        else:
            self._read(data)

    def _read(self, data: bytes | memoryview) -> None:
        channel = self._channel
        if channel is None:
            return
        now = monotonic()
        try:
            self._dispatch(channel.receive_data(data, now), now)
            if channel.chores >= CHORES and self.open:
                self._tell(events.WorkCaused(self.number, channel.take_chores()), now)
        except Exception:
            log.exception("%r: internal error", self)
            self._broken()
        self._settle()

    def pause(self, paused: bool) -> None:
        """Read no more, or read again."""
        if self._turns is not None:
            self._turns.pause(paused)

    @override
    def eof_received(self) -> bool:
        if self._turns is not None and self._turns.hold_end():
            return False  # a layer's end: the socket itself is not read meanwhile
        if self._channel is not None:
            now = monotonic()
            self._input_ended = True
            try:
                self._dispatch(self._channel.receive_eof(now), now)
            except Exception:
                log.exception("%r: internal error", self)
                self._broken()
            self._settle()
        return False  # the transport closes: libp2p knows no half-closed connections

    @override
    def pause_writing(self) -> None:
        self._write_paused = True

    @override
    def resume_writing(self) -> None:
        self._write_paused = False
        self._mark_dirty()

    @override
    def connection_lost(self, exc: Exception | None) -> None:
        turns, self._turns = self._turns, None
        if turns is None:
            return
        unread = turns.take_rest()
        if unread is not None and not self.over:
            self._read(unread)
        self._channel = None
        self._end(Closed(f"connection lost: {exc or 'closed without a goodbye'}"), Step.LOST)
        if self._alarm is not None:
            self._alarm.cancel()
        for timer in (self._close_timer, self._linger_timer):
            if timer is not None:
                timer.cancel()
        self._account(0)
        self._tokens.clear()
        self._host.lost(self)

    # ------------------------------------------------------------ the runtime's commands

    def open_stream(self, token: int, protocols: Sequence[str], now: float) -> SidecarError | None:
        """Begin to negotiate a stream; the error says why it cannot be."""
        if self._channel is None or self.over:
            return Closed("the connection has ended")
        try:
            stream = self._channel.open_stream(protocols, now)
        except SidecarError as error:
            return error
        self._tokens[stream] = token
        self._settle()
        return None

    def wake(self, stream: int) -> None:
        """The node has bytes for the stream; they are pulled at the end of this turn."""
        if self._channel is not None and not self.over:
            self._channel.wake(stream & _MASK)
            if not self._write_paused:
                self._mark_dirty()

    def close_write(self, stream: int) -> None:
        """End our direction of the stream, behind what the node still has for it."""
        if self._channel is not None and not self.over:
            self._channel.close_write(stream & _MASK)
            self._mark_dirty()

    def reset(self, stream: int) -> None:
        """End the stream at once, in both directions; nothing where it is gone."""
        if self._channel is not None and not self.over:
            self._channel.reset(stream & _MASK)
            self._mark_dirty()

    def defer(self, stream: int) -> None:
        """Let what is handed on of the stream be consumed by `acknowledge` only."""
        if self._channel is not None:
            self._channel.defer(stream & _MASK)

    def acknowledge(self, stream: int, size: int) -> None:
        """So many bytes of a deferred stream are consumed; the remote may send as many again."""
        channel = self._channel
        if channel is not None and not self.over:
            channel.acknowledge(stream & _MASK, size)
            if channel.has_output:
                self._mark_dirty()

    def measure(self, value: int) -> None:
        """Ping the remote's muxer with a value; the node is told how long the answer takes."""
        if self._channel is not None and not self.over:
            self._channel.measure(value, monotonic())
            self._mark_dirty()

    def close(self, error: SidecarError | None) -> None:
        """End an open one: the node hears so at once, the remote by a go-away, for which `close_timeout` remains."""
        self._end(error)
        self._mark_dirty()
        self._limit_closing(self._host.config.close_timeout)

    def drain(self) -> None:
        """Let what is queued leave, say go-away, and close: the node hears of the end with the remote.

        The caller sees to it that this ends in time.
        """
        if self.opened_at is None:  # nothing to say goodbye to
            self.abort()
        elif self._state is State.OPEN:
            self._advance(Step.DRAIN_ASKED)
            self._mark_dirty()

    def abort(self, error: SidecarError | None = None) -> None:
        """End it at once; what was not written is thrown away. connection_lost follows."""
        self._end(error or Closed("connection aborted"), Step.ABORTED)
        if self._transport is not None:
            self._transport.abort()
        self._account(0)

    # ------------------------------------------------------------ bytes out

    def pump(self) -> None:
        """Move what the channel has to the socket, as far as the socket takes it."""
        self._dirty = False
        channel, transport = self._channel, self._transport
        if channel is None or transport is None or transport.is_closing():
            return
        try:
            self._write(channel, transport)
            if self._state is not _OPEN and not channel.has_output and not self._write_paused:
                self._say_goodbye(channel)
            if channel.finished:
                self._shut(transport)
        except Exception:  # else the others that are to be pumped in this turn would never be again
            log.exception("%r: internal error", self)
            self._broken()
            return
        self._account(transport.get_write_buffer_size())
        if self._alarm is not None:
            self._alarm.arm()

    def _say_goodbye(self, channel: Channel) -> None:
        """Nothing is queued: say go-away, if that is what is waited for."""
        if self._state in (State.DRAINING, State.CLOSING) and not channel.finished:
            channel.close(monotonic())
            self._mark_dirty()
            self._end(None)  # said of no closing one again

    def _shut(self, transport: asyncio.Transport) -> None:
        """Nothing more is to be written.

        Closing a socket that has unread bytes throws away what it has not sent yet, goodbyes included. So a remote
        that was one of us gets the end of our stream and closes itself; the timer of `_limit_closing` is its limit,
        `LINGER` where all has left already.
        """
        if self.opened_at is None or self._input_ended:
            transport.close()
        elif not self._output_ended:
            self._output_ended = True
            try:
                transport.write_eof()
            except OSError:  # the remote has just reset it
                transport.abort()
                return
            self._linger_timer = self._host.loop.call_later(LINGER, self._linger_over)

    def _linger_over(self) -> None:
        if self._transport is not None and not self._transport.get_write_buffer_size():
            self._transport.abort()

    def _write(self, channel: Channel, transport: asyncio.Transport) -> None:
        left = TURN_BYTES
        while not self._write_paused:
            buffers = channel.data_to_send(WRITE_CHUNK)
            if not buffers:
                return
            size = sum(map(len, buffers))
            self.bytes_out += size
            transport.writelines(buffers)
            left -= size
            if left <= 0:
                self._mark_dirty()
                return

    def pull(self, stream: int, limit: int) -> Sequence[bytes | memoryview]:
        """What the node has for a stream; nothing any more once the node was told of the end."""
        return () if self.over else self._host.take(self._base | stream, limit)

    def check(self, now: float) -> None:
        """Look whether the remote still takes what waits for it; called regularly while something does."""
        channel, transport = self._channel, self._transport
        if channel is None or transport is None or transport.is_closing():
            return
        waiting = transport.get_write_buffer_size()
        taken = self.bytes_out - waiting
        self._account(waiting)
        if taken != self._taken or not waiting:
            self._taken, self._progress_at = taken, now
        elif now - self._progress_at >= self._host.config.write_stall_timeout:
            self.abort(
                WriteStalled(f"{waiting} bytes waited {now - self._progress_at:.1f} s and the remote took none of them")
            )

    def _account(self, buffered: int) -> None:
        if buffered != self.buffered:
            if not self.buffered:
                self._progress_at = monotonic()
            change, self.buffered = buffered - self.buffered, buffered
            self._host.account(self, change)

    # ------------------------------------------------------------ events

    def _dispatch(self, happened: Sequence[ChannelEvent], now: float) -> None:
        chunks: list[tuple[int, bytes]] = []
        base = self._base
        for event in happened:
            if type(event) is wire.StreamReceived:
                chunks.append((base | event.stream, event.data))
                continue
            if chunks:
                self._deliver(chunks, now)
                chunks = []
            if self.over:
                return
            _ACTIONS[type(event)](self, event, now)
        if chunks:
            self._deliver(chunks, now)

    def _deliver(self, chunks: list[tuple[int, bytes]], now: float) -> None:
        if self.over:
            return
        if not self._host.receive(events.StreamsReceived(self.number, chunks), now):
            self.abort(Closed(_DEFECT))
            return
        channel = self._channel
        if channel is not None:
            for stream, data in chunks:  # the node has consumed them, but for deferred ones: windows open again
                channel.delivered(stream & _MASK, len(data))

    def _on_deadline(self, now: float) -> None:
        if self._channel is None:
            return
        try:
            self._dispatch(self._channel.handle_deadline(now), now)
        except Exception:
            log.exception("%r: internal error", self)
            self._broken()
        self._settle()

    def _on_secured(self, event: wire.Secured, now: float) -> None:
        self.peer, self.public_key = event
        refusal = self._host.refuse_peer(self)
        if refusal is not None:  # before anything more is negotiated
            self.abort(refusal)

    def _on_ready(self, event: wire.Ready, now: float) -> None:
        refusal = self._host.refuse_upgraded(self)
        if refusal is not None:
            self.abort(refusal)
            return
        self._advance(Step.UPGRADED)
        self.opened_at = now
        if not self._host.opened(self, now):
            self.abort(Closed(_DEFECT))

    def _on_stream_opened(self, event: wire.StreamNegotiated, now: float) -> None:
        token = None if event.inbound else self._tokens.pop(event.stream, None)
        self._tell(events.StreamOpened(self._base | event.stream, event.protocol, token), now)

    def _on_stream_failed(self, event: wire.StreamBroken, now: float) -> None:
        self._stream_gone(event.stream, event.error, now)

    def _on_stream_ended(self, event: wire.StreamHalfClosed, now: float) -> None:
        self._tell(events.StreamEnded(self._base | event.stream), now)

    def _on_stream_reset(self, event: wire.StreamResetByRemote, now: float) -> None:
        self._stream_gone(event.stream, StreamReset("the remote reset the stream"), now)

    def _stream_gone(self, stream: int, error: SidecarError, now: float) -> None:
        token = self._tokens.pop(stream, None)
        if token is None:
            log.debug("%r: stream %d is gone: %s", self, stream, error)
            by_remote = type(error) is StreamReset
            self._tell(events.StreamGone(self._base | stream, None if by_remote else error), now)
        else:
            self._tell(events.StreamFailed(token, error), now)

    def _on_ping_answered(self, event: wire.PingAnswered, now: float) -> None:
        self._tell(events.LatencyMeasured(self.number, event.round_trip), now)

    def _on_failed(self, event: wire.Failed, now: float) -> None:
        in_order = self._input_ended and type(event.error) is Closed
        self._end(None if in_order else event.error)
        self._limit_closing(self._host.config.close_timeout)

    def _tell(self, input: TransportInput, now: float) -> None:
        if not self._host.receive(input, now):
            self.abort(Closed(_DEFECT))

    # ------------------------------------------------------------ ends

    def _settle(self) -> None:
        """After the channel was used: see to its output and its deadline."""
        channel = self._channel
        if channel is None:
            return
        if channel.has_output or channel.finished:
            self._mark_dirty()
        if self._alarm is not None:
            self._alarm.arm()

    def _mark_dirty(self) -> None:
        if not self._dirty:
            self._dirty = True
            self._host.pump_soon(self)

    def _advance(self, step: Step) -> None:
        self._state = after(self._state, step)
        self.over = self._state in OVER  # asked for all the time

    def _end(self, error: SidecarError | None, step: Step = Step.ENDED) -> None:
        """Take a step that ends the connection, unless it has ended as far already; the first one is told."""
        before = self._state
        if step not in TRANSITIONS[before]:
            return
        self._advance(step)
        if before in OVER:
            return
        if self.opened_at is None:
            self._host.upgrade_failed(self, error)
        else:
            self._host.ended(self, error)

    def _limit_closing(self, timeout: float) -> None:
        """A remote that does not read must not hold the socket: transport.close() alone waits for it for ever."""
        if self._close_timer is None and self._transport is not None:
            self._close_timer = self._host.loop.call_later(timeout, self._transport.abort)

    def _broken(self) -> None:
        """The boundary of this connection: a defect of ours, already logged, ends it; the node goes on."""
        self._host.broken()
        self.abort(Closed(_DEFECT))


_ACTIONS: dict[type[Any], Callable[[Connection, Any, float], None]] = {
    wire.Secured: Connection._on_secured,
    wire.Ready: Connection._on_ready,
    wire.StreamNegotiated: Connection._on_stream_opened,
    wire.StreamBroken: Connection._on_stream_failed,
    wire.StreamHalfClosed: Connection._on_stream_ended,
    wire.StreamResetByRemote: Connection._on_stream_reset,
    wire.PingAnswered: Connection._on_ping_answered,
    wire.Failed: Connection._on_failed,
}
