"""One connection, bytes in and bytes out: security, muxing and the negotiation of each, joined.

A channel is a machine without a clock, socket or task. Its driver hands it what the transport received, writes what it
has to send, and keeps one timer for it.
"""

from collections.abc import Callable, Sequence

from .. import errors
from ..identity import Identity, PublicKey
from ..parameters.channel import ChannelLimits
from ..types import PeerId
from . import frames, secure
from .events import (
    ChannelEvent,
    Failed,
    PingAnswered,
    Secured,
    StreamBroken,
    StreamNegotiated,
    StreamReceived,
    StreamResetByRemote,
    UpgradeObserver,
)
from .keepalive import KeepAlive
from .multistream import Proposer, Responder
from .noise import CipherState
from .outbox import Pull
from .upgrade import Upgrade
from .yamux import PingEchoed, StreamBegun, StreamEvent, Yamux

_SMALL_FRAME = 48  # bytes of an encrypted message, 16 of which are its seal
_SMALL = 0.1  # what decrypting one counts, in points of some 5 us (`WorkConfig` of `core.node`); a guess
_FRUITLESS = 10.0  # seconds in which streams that come to nothing are counted; a guess
_LEAST_PAYLOAD = 4096  # bytes: below that, what is left of a write's limit waits for the next write


class _Negotiating:
    """A stream whose protocol is not agreed on."""

    __slots__ = ("closing", "deadline", "inbound", "machine")

    def __init__(self, machine: Proposer | Responder, deadline: float, *, inbound: bool) -> None:
        self.machine, self.deadline, self.inbound = machine, deadline, inbound
        self.closing = False  # our direction is to end once a protocol is agreed on


class Channel:
    """One connection from its first byte to its last.

    The driver calls `receive_data` and `receive_eof` with what arrives, `data_to_send` while the transport accepts
    bytes, and `handle_deadline` when `next_deadline` is due. After each of these, and after each command, it looks at
    `has_output` and `next_deadline` again. `Failed` is the last event; the transport is closed when `finished`.

    Every byte handed out in `StreamReceived` is to be acknowledged, also behind `StreamHalfClosed`: a stream keeps its
    place until then. A stream ends with `StreamResetByRemote`, `StreamBroken`, our `reset`, or once both directions
    have ended.
    """

    def __init__(
        self,
        identity: Identity,
        *,
        dialer: bool,
        expected_peer: PeerId | None,
        limits: ChannelLimits,
        pull: Pull,
        accepts: Callable[[str], bool],
        ephemeral: bytes,
        now: float,
        on_upgraded: UpgradeObserver | None = None,
    ) -> None:
        """Begin the upgrade; as the dialer, with something to send.

        `expected_peer`: the only peer to talk to, None for whoever proves to be somebody.
        `pull`: `(stream, limit)` gives plaintext for a woken stream, at most `limit` bytes in all, nothing when there
        is no more now. Called from `data_to_send`; it must not call the channel back.
        `accepts`: whether an inbound stream of this protocol is served here.
        `ephemeral`: 32 random bytes, used for this connection alone.
        `now`: monotonic seconds.
        `on_upgraded`: told once, when the upgrade is over or has failed; not when the transport is just dropped.
        """
        self._limits = limits
        self._accepts = accepts
        self._on_upgraded = on_upgraded
        self._raw: list[bytes] = []  # what the upgrade has for the transport
        self._upgrade: Upgrade | None = Upgrade(
            identity, dialer=dialer, expected=expected_peer, entropy=ephemeral, output=self._raw
        )
        self._handshake_deadline = now + limits.handshake_timeout
        self._frames = self._upgrade.frames
        self._ciphers: tuple[CipherState, CipherState] | None = None  # sending, receiving; None during the upgrade
        self._yamux = Yamux(client=dialer, limits=limits, pull=pull)
        self._keep_alive = KeepAlive(limits.keep_alive_interval, limits.keep_alive_timeout, now)
        self._pings = 0
        self._measured_at = now  # when the last measurement began
        self._negotiating: dict[int, _Negotiating] = {}  # the oldest, which is the first to be due, at the front
        self._inbound_negotiating = 0
        self._fruitless = 0  # streams of the remote that came to nothing since `_fruitless_since`
        self._fruitless_since = now
        self._ended = False
        self.peer_id: PeerId | None = None
        self.public_key: PublicKey | None = None

    # ---------------------------------------------------------------- receiving

    def receive_data(self, data: secure.Buffer, now: float) -> list[ChannelEvent]:
        """What the transport received, in pieces of any size. Nothing keeps a hold of `data` afterwards."""
        events: list[ChannelEvent] = []
        if self._ended:
            return events
        self._keep_alive.heard(now)
        try:
            if self._upgrade is not None:
                self._advance_upgrade(self._upgrade, data, events)
            else:
                self._frames.feed(data)
            if self._ciphers is not None:
                self._receive_frames(self._ciphers[1], events, now)
        except errors.SidecarError as error:
            self._digest(events, now)
            self._fail(error, events)
        else:
            self._digest(events, now)
        return events

    def receive_eof(self, now: float) -> list[ChannelEvent]:
        """The transport will bring no more."""
        events: list[ChannelEvent] = []
        if not self._ended:
            if self._upgrade is not None:
                self._fail(errors.HandshakeError("the remote closed the connection during the handshake"), events)
            elif self._frames.unfinished or self._yamux.unfinished:
                self._fail(errors.ProtocolError("the connection ended inside a frame"), events)
            else:
                self._fail(errors.Closed("the remote closed the connection"), events)
        self._raw.clear()
        self._yamux.drop_output()
        return events

    def _advance_upgrade(self, upgrade: Upgrade, data: secure.Buffer, events: list[ChannelEvent]) -> None:
        try:
            upgrade.receive(data, events)
        finally:
            for event in events:
                if isinstance(event, Secured):
                    self.peer_id, self.public_key = event
        if upgrade.ready is not None:
            self._upgrade = None
            self._ciphers = upgrade.ciphers
            if self._on_upgraded is not None:
                self._on_upgraded(self.peer_id, upgrade.ready)
            self._yamux.receive(upgrade.rest)

    def _receive_frames(self, receiver: CipherState, events: list[ChannelEvent], now: float) -> None:
        while (frame := self._frames.next_frame()) is not None:
            if len(frame) < _SMALL_FRAME:
                self._yamux.chores += _SMALL
            self._yamux.receive(receiver.decrypt(frame))
            if self._negotiating or self._yamux.arrivals:
                # At once, so that what negotiation answers and frees does not depend on how the bytes were cut.
                # Otherwise at the end of the turn: small messages of one stream are joined.
                self._digest(events, now)
                self._check_fruitless()

    def _check_fruitless(self) -> None:
        if self._fruitless > self._limits.max_failed_negotiations:
            raise errors.ProtocolError(
                f"{self._fruitless} streams without a protocol within {_FRUITLESS:g} s, "
                f"at most {self._limits.max_failed_negotiations}"
            )

    # ---------------------------------------------------------------- streams without a protocol yet

    def _digest(self, events: list[ChannelEvent], now: float) -> None:
        """Append what the muxer saw, once negotiation has taken its part of it."""
        refused: set[int] = set()  # streams that ended here in this turn: what came behind it is nobody's
        for event in self._yamux.take_events():
            if isinstance(event, PingEchoed):
                events.append(PingAnswered(now - self._measured_at))
                continue
            if event.stream in refused:
                continue
            if isinstance(event, StreamBegun):
                alive = self._on_arrival(event.stream, now)
            elif (waiting := self._negotiating.get(event.stream)) is not None:
                alive = self._negotiate(waiting, event, events, now)
            else:
                events.append(event)
                continue
            if not alive:
                refused.add(event.stream)

    def _on_arrival(self, stream: int, now: float) -> bool:
        """Whether the remote's stream may negotiate."""
        if self._inbound_negotiating >= self._limits.max_inbound_negotiating:
            self._count_fruitless(now)
            self._yamux.reset(stream)
            return False
        self._inbound_negotiating += 1
        deadline = now + self._limits.negotiation_timeout
        self._negotiating[stream] = _Negotiating(Responder(self._accepts), deadline, inbound=True)
        return True

    def _negotiate(self, waiting: _Negotiating, event: StreamEvent, events: list[ChannelEvent], now: float) -> bool:
        """Whether the stream lives on."""
        stream, machine = event.stream, waiting.machine
        error: errors.SidecarError
        if isinstance(event, StreamReceived):
            try:
                answer = machine.receive(event.data)
            except errors.SidecarError as failure:
                error = failure
            else:
                self._yamux.push(stream, answer)
                self._yamux.acknowledge(stream, len(event.data) - len(machine.rest))
                if machine.protocol is not None:
                    self._settle(stream)
                    events.append(StreamNegotiated(stream, machine.protocol, waiting.inbound))
                    if machine.rest:
                        events.append(StreamReceived(stream, machine.rest))
                    self._yamux.uncork(stream)
                    if waiting.closing:
                        self._yamux.close_write(stream)
                return True
        elif isinstance(event, StreamBroken):
            error = event.error
        elif isinstance(event, StreamResetByRemote):
            error = errors.StreamReset("the remote reset the stream instead of agreeing on a protocol")
        else:
            error = errors.HandshakeError("the remote ended the stream before a protocol was agreed on")
        self._give_up(stream, error, events, now)
        return False

    def _give_up(self, stream: int, error: errors.SidecarError, events: list[ChannelEvent], now: float) -> None:
        """End a stream in negotiation; of the remote's streams nobody has heard yet, so that nobody is told."""
        if self._settle(stream).inbound:
            self._count_fruitless(now)
        else:
            events.append(StreamBroken(stream, _plain(error)))
        self._yamux.reset(stream)

    def _count_fruitless(self, now: float) -> None:
        if now - self._fruitless_since > _FRUITLESS:
            self._fruitless, self._fruitless_since = 0, now
        self._fruitless += 1

    def _settle(self, stream: int) -> _Negotiating:
        waiting = self._negotiating.pop(stream)
        self._inbound_negotiating -= waiting.inbound
        return waiting

    # ---------------------------------------------------------------- sending

    def data_to_send(self, limit: int) -> list[bytes]:
        """Take bytes for the transport, some `limit` of them; empty when there is nothing to write now.

        Encrypts no sooner than here: call it only while the transport accepts bytes.
        """
        out = self._raw[:]
        self._raw.clear()
        if self._ciphers is None:
            return out
        sender = self._ciphers[0]
        size = sum(map(len, out))
        while self._yamux.has_output and (not size or limit - size >= _LEAST_PAYLOAD):
            payload = self._yamux.next_payload(min(secure.MAX_PLAINTEXT, max(limit - size, _LEAST_PAYLOAD)))
            if not payload:
                break
            size += _seal(sender, payload, out)
        return out

    @property
    def has_output(self) -> bool:
        """Whether `data_to_send` may have something."""
        return bool(self._raw) or self._yamux.has_output

    @property
    def finished(self) -> bool:
        """The connection has ended and its last bytes are taken: close the transport."""
        return self._ended and not self.has_output

    # ---------------------------------------------------------------- deadlines

    def next_deadline(self) -> float | None:
        """When `handle_deadline` is due, in monotonic seconds."""
        if self._ended:
            return None
        if self._upgrade is not None:
            return self._handshake_deadline
        due = self._keep_alive.next_deadline()
        for waiting in self._negotiating.values():
            return min(due, waiting.deadline)
        return due

    def handle_deadline(self, now: float) -> list[ChannelEvent]:
        """Do what is due at `now`: nothing, when it is called early."""
        events: list[ChannelEvent] = []
        if self._ended:
            return events
        if self._upgrade is not None:
            if now >= self._handshake_deadline:
                limit = self._limits.handshake_timeout
                self._fail(errors.HandshakeTimeout(f"the handshake did not end within {limit:g} s"), events)
            return events
        try:
            if self._keep_alive.handle_deadline(now):
                self._pings += 1
                self._yamux.ping(self._pings % 2**32)
        except errors.KeepAliveTimeout as error:
            self._fail(error, events)
            return events
        for stream, waiting in list(self._negotiating.items()):
            if now < waiting.deadline:
                break
            limit = self._limits.negotiation_timeout
            self._give_up(stream, errors.DeadlineExceeded(f"no protocol was agreed on within {limit:g} s"), events, now)
        return events

    # ---------------------------------------------------------------- commands

    def open_stream(self, protocols: Sequence[str], now: float) -> int:
        """Open a stream for the first of `protocols` that the remote speaks, and give its number.

        `StreamNegotiated` or `StreamBroken` follows. When there is one protocol only, what is pulled goes out without
        waiting for the remote's consent, as go-libp2p does too: one round trip less, and a remote that refuses ends the
        stream, whose bytes are lost with it.

        Raises Closed before `Ready` and when the connection is ending, ResourceExhausted at a bound, InvalidArgument
        for protocol ids that cannot be sent.
        """
        if self._ended or self._upgrade is not None:
            raise errors.Closed("the connection has ended" if self._ended else "the connection is not ready yet")
        machine = Proposer(protocols)
        stream = self._yamux.open()
        self._yamux.push(stream, machine.greeting)
        if len(protocols) > 1:
            self._yamux.cork(stream)
        self._negotiating[stream] = _Negotiating(machine, now + self._limits.negotiation_timeout, inbound=False)
        return stream

    def wake(self, stream: int) -> None:
        """There is something to pull for the stream."""
        self._yamux.wake(stream)

    def close_write(self, stream: int) -> None:
        """End our direction of the stream once `pull` gives nothing more, and not before its protocol is agreed on.

        js-libp2p 3.3 never sees an end that comes with the opening bytes: its handler starts to listen after them.
        """
        if (waiting := self._negotiating.get(stream)) is not None:
            waiting.closing = True
        else:
            self._yamux.close_write(stream)

    def reset(self, stream: int) -> None:
        """End the stream at once in both directions; no event follows."""
        if stream in self._negotiating:
            self._settle(stream)
        self._yamux.reset(stream)

    def measure(self, value: int, now: float) -> None:
        """Ask the remote's muxer to send back `value`, 32 bits that it cannot guess; `PingAnswered` tells the time.

        None follows where another measurement begins before. Nothing is asked before `Ready` and after the end.
        """
        if self._upgrade is None and not self._ended:
            self._measured_at = now
            self._yamux.ping(value, told=True)

    def defer(self, stream: int) -> None:
        """Bytes of this stream are consumed by `acknowledge` only; until now `delivered` may have done it."""
        self._yamux.defer(stream)

    def delivered(self, stream: int, size: int) -> None:
        """`size` bytes were handed to whoever reads the stream, which consumes them unless it is deferred."""
        self._yamux.delivered(stream, size)

    def acknowledge(self, stream: int, size: int) -> None:
        """`size` bytes of the stream are consumed: the remote may send as many again.

        Raises InvalidArgument when that is more than was handed out.
        """
        self._yamux.acknowledge(stream, size)

    def close(self, now: float) -> None:
        """End the connection in order. Nothing more is pulled; no event follows."""
        if not self._ended:
            self._end(frames.NORMAL)

    # ---------------------------------------------------------------- state

    @property
    def stream_count(self) -> int:
        """Streams that are not gone, those in negotiation included."""
        return self._yamux.stream_count

    @property
    def buffered_bytes(self) -> int:
        """Bytes handed out and not acknowledged."""
        return self._yamux.buffered

    @property
    def chores(self) -> float:
        """The work that frames without use have been since `take_chores`, in points of some 5 us."""
        return self._yamux.chores

    def take_chores(self) -> float:
        """The same, to be counted against the budget of the remote; it begins anew."""
        chores, self._yamux.chores = self._yamux.chores, 0.0
        return chores

    # ---------------------------------------------------------------- the end

    def _fail(self, error: errors.SidecarError, events: list[ChannelEvent]) -> None:
        self._end(frames.PROTOCOL_ERROR if isinstance(error, errors.ProtocolError) else frames.NORMAL)
        failed = Failed(_plain(error))
        events.append(failed)
        if self._upgrade is not None and self._on_upgraded is not None:
            self._on_upgraded(self.peer_id, failed)

    def _end(self, code: int) -> None:
        self._ended = True
        self._negotiating.clear()
        self._frames.clear()
        if self._upgrade is None:
            self._yamux.go_away(code)


def _plain(error: errors.SidecarError) -> errors.SidecarError:
    """An error as a value: its tracebacks would keep this channel and the bytes it was reading alive with it."""
    error.__context__ = None
    return error.with_traceback(None)


def _seal(sender: CipherState, plaintext: bytes, out: list[bytes]) -> int:
    """Append one encrypted message, and give its size. The length of a large one stays a piece of its own: no copy."""
    ciphertext = sender.encrypt(plaintext)
    size = len(ciphertext)
    if size < _LEAST_PAYLOAD:
        out.append(size.to_bytes(2, "big") + ciphertext)
    else:
        out += (size.to_bytes(2, "big"), ciphertext)
    return size + 2
