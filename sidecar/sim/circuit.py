"""A simulated connection through a relay: a real channel over the bytes of a circuit, on virtual time."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from ..core import channel as wire
from ..core import events
from ..core.channel import Channel, ChannelEvent, ChannelLimits
from ..core.errors import Closed, SidecarError, StreamReset
from ..core.events import STREAM_BITS
from ..core.types import Direction

if TYPE_CHECKING:
    from .peer import SimPeer

_MASK = (1 << STREAM_BITS) - 1
_WRITE = 64 * 1024  # bytes asked of the channel at a time
_UNTAKEN = 64 * 1024  # bytes that wait in the carrying stream before no more are encrypted


class Circuit:
    """One end of a circuit as its peer has it: secured and muxed by `Channel`, as the socket driver does it.

    To its peer it is what a `Link` is.
    """

    def __init__(self, peer: "SimPeer", opened: events.CircuitOpened, dial: int | None) -> None:
        """`dial`: the number of the peer's `Dial` that led here, None at the other end."""
        self.peer = peer
        self.number = peer.carry(self)
        self.outbound = opened.attempt is not None
        self._opened = opened
        self._dial = dial
        self._base = self.number << STREAM_BITS
        self._tokens: dict[int, int] = {}
        self._untaken = 0
        self._ready = False
        self._over = False
        self._timer = float("inf")
        self._paused: list[bytes] | None = None
        now = peer.now()
        self._channel = Channel(
            peer.identity,
            dialer=self.outbound,
            expected_peer=opened.peer,
            limits=ChannelLimits(),
            pull=lambda stream, limit: peer.node.take(self._base | stream, limit),
            accepts=peer.node.accepts,
            ephemeral=peer.entropy(),
            now=now,
        )
        self.pump()

    # ------------------------------------------------------------ the circuit's bytes

    def received(self, data: bytes) -> None:
        """The far end has sent bytes."""
        if self._paused is not None:
            self._paused.append(data)
            return
        self.peer.feed(events.CircuitRead(self._opened.stream, len(data)))
        if not self._over:
            self._dispatch(self._channel.receive_data(data, self.peer.now()))
            self.pump()

    def taken(self, size: int) -> None:
        """So many bytes have left."""
        self._untaken -= size
        self.pump()

    def ended(self, error: SidecarError | None) -> None:
        """The circuit is no more, or brings no more."""
        if not self._over:
            self._end(error)

    def pump(self) -> None:
        """Move what the channel has into the circuit."""
        while self._untaken < _UNTAKEN and (buffers := self._channel.data_to_send(_WRITE)):
            self._untaken += sum(map(len, buffers))
            self.peer.feed(events.CircuitWritten(self._opened.stream, buffers))
        if self._channel.finished:
            self.peer.feed(events.CircuitFinished(self._opened.stream))
        self.peer.taken()
        self._arm()

    def _arm(self) -> None:
        due = self._channel.next_deadline()
        if due is not None and due < self._timer and not self._over:
            self._timer = due
            self.peer.simulation.clock.at(due / self.peer.pace, self._on_timer, (due,))

    def _on_timer(self, due: float) -> None:
        if due == self._timer and not self._over and self.peer.alive:
            self._timer = float("inf")
            self._dispatch(self._channel.handle_deadline(max(due, self.peer.now())))
            self.pump()

    def _dispatch(self, happened: Sequence[ChannelEvent]) -> None:
        peer, base = self.peer, self._base
        for event in happened:
            if self._over:
                return
            match event:
                case wire.StreamReceived(stream, data):
                    peer.feed(events.StreamsReceived(self.number, ((base | stream, data),)))
                    self._channel.delivered(stream, len(data))
                case wire.Ready():
                    self._on_ready()
                case wire.StreamNegotiated(stream, protocol, inbound):
                    token = None if inbound else self._tokens.pop(stream, None)
                    peer.feed(events.StreamOpened(base | stream, protocol, token))
                case wire.StreamHalfClosed(stream):
                    peer.feed(events.StreamEnded(base | stream))
                case wire.StreamResetByRemote(stream):
                    self._stream_gone(stream, StreamReset("the remote reset the stream"))
                case wire.StreamBroken(stream, error):
                    self._stream_gone(stream, error)
                case wire.PingAnswered(round_trip):
                    peer.feed(events.LatencyMeasured(self.number, round_trip))
                case wire.Failed(error):
                    self._end(None if type(error) is Closed else error)

    def _on_ready(self) -> None:
        self._ready = True
        who, key = self._channel.peer_id, self._channel.public_key
        assert who is not None, "the handshake has shown it"
        assert key is not None, "with the key"
        opened = self._opened
        direction = Direction.OUTBOUND if self.outbound else Direction.INBOUND
        self.peer.feed(events.CircuitSecured(opened.stream))
        self.peer.feed(
            events.ConnectionOpened(
                self.number,
                who,
                key,
                direction,
                opened.remote,
                opened.local,
                self._dial,
                opened.limited,
                (),
                opened.near,
            )
        )

    def _stream_gone(self, stream: int, error: SidecarError) -> None:
        token = self._tokens.pop(stream, None)
        if token is not None:
            self.peer.feed(events.StreamFailed(token, error))
        else:
            by_remote = type(error) is StreamReset
            self.peer.feed(events.StreamGone(self._base | stream, None if by_remote else error))

    def _end(self, error: SidecarError | None) -> None:
        if self._over:
            return
        self._over = True
        self.peer.carried.pop(self.number, None)
        self.peer.circuits.pop(self._opened.stream, None)
        self.peer.feed(events.CircuitOver(self._opened.stream, error))
        if self._ready:
            self.peer.feed(events.ConnectionClosed(self.number, error))
        elif self._dial is not None:
            self.peer.feed(events.DialFailed(self._dial, error or Closed("closed during the handshake")))
        else:
            self.peer.refused_circuits.append(error)
        for buffers in iter(lambda: self._channel.data_to_send(_WRITE), []):  # a goodbye
            self.peer.feed(events.CircuitWritten(self._opened.stream, buffers))
        self.peer.feed(events.CircuitFinished(self._opened.stream))

    # ------------------------------------------------------------ what the peer asks, as of a link

    def open_stream(self, asked: events.OpenStream) -> None:
        """Negotiate a stream."""
        try:
            stream = self._channel.open_stream(asked.protocols, self.peer.now())
        except SidecarError as error:
            self.peer.feed(events.StreamFailed(asked.token, error))
            return
        self._tokens[stream] = asked.token
        self.pump()

    def wake(self, stream: int) -> None:
        """The node has something for the stream."""
        self._channel.wake(stream & _MASK)
        self._later()

    def close_write(self, stream: int) -> None:
        """End this direction, behind what the node still has for it."""
        self._channel.close_write(stream & _MASK)
        self._later()

    def reset(self, stream: int) -> None:
        """End the stream at once."""
        self._channel.reset(stream & _MASK)
        self._later()

    def pause(self, paused: bool) -> None:
        """Read no more, or read again."""
        if paused:
            self._paused = [] if self._paused is None else self._paused
        elif self._paused is not None:
            waiting, self._paused = self._paused, None
            for data in waiting:
                self.received(data)

    def defer(self, stream: int) -> None:
        """The stream's bytes are consumed by `acknowledge` only."""
        self._channel.defer(stream & _MASK)

    def acknowledge(self, stream: int, size: int) -> None:
        """So many bytes are consumed."""
        self._channel.acknowledge(stream & _MASK, size)
        self._later()

    def measure(self) -> None:
        """Ping the far end."""
        self._channel.measure(self.number, self.peer.now())
        self._later()

    def close(self, error: SidecarError | None) -> None:
        """End the connection in order."""
        if not self._over:
            self._channel.close(self.peer.now())
            self._end(error)

    def _later(self) -> None:
        """At the end of the turn, as the socket driver writes."""
        clock = self.peer.simulation.clock
        clock.at(clock.now, self._pump_if_alive)

    def _pump_if_alive(self, *unused: Any) -> None:
        if self.peer.alive and not self._over:
            self.pump()
