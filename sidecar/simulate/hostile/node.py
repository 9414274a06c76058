"""A whole node with somebody hostile between it and the wire."""

from collections.abc import Sequence
from typing import Any

from ...core import events, gossip
from ...core.buffer import Buffers
from ...core.deadlines import Deadlines
from ...core.multiaddr import Multiaddr
from ...core.node import Node, NodeEffect, NodeInput
from ...core.override import override
from ...core.types import PeerId
from ...core.varint import framed
from .conduct import Conduct, Exchange

_SEEK = 5.0  # seconds until connections are sought anew that are not there: honest nodes may trim or refuse them


class HostileNode(Node):
    """A node as its driver sees any. Connections are real ones, and so is what it says of itself in identify.

    `targets`: peers to which it holds a connection, whatever its own needs are.
    """

    def __init__(
        self, *arguments: Any, conduct: Conduct, targets: Sequence[tuple[PeerId, Multiaddr]] = (), **named: Any
    ) -> None:
        """The other arguments are those of `Node`."""
        super().__init__(*arguments, **named)
        self.deadlines = Deadlines()
        """What the conduct does later."""
        self._conduct = conduct
        self._targets = targets
        self._exchanges: dict[int, Exchange] = {}
        self._peers: dict[int, PeerId] = {}  # by connection
        self._extra: list[NodeEffect] = []
        self._now = 0.0  # of the last turn
        conduct.node = self

    def say(self, exchange: Exchange, frame: bytes) -> None:
        """Send a frame, without its length, behind what waits on the stream."""
        exchange.waiting.push(framed(frame))
        self._extra.append(events.Wake(exchange.number))

    # ------------------------------------------------------------ the machine

    @override
    def handle(self, arrived: NodeInput, now: float) -> Sequence[NodeEffect]:
        self._now = now
        match arrived:
            case events.StreamsReceived():
                arrived = self._heard(arrived)
                return self._done(self._watched(super().handle(arrived, now)) if arrived.chunks else ())
            case events.StreamOpened():
                return self._done(self._opened(arrived, now))
            case gossip.TopicJoined() | gossip.TopicLeft() | gossip.Published() | gossip.PublishCancelled():
                if self._conduct.asked(arrived, now):
                    return self._done(())
            case events.StreamEnded(stream):
                self._ended(stream, there=True)
            case events.StreamGone(stream):
                self._over(stream)
            case events.ConnectionOpened():
                self._peers[arrived.connection] = arrived.peer
            case events.ConnectionClosed(connection):
                for stream in [each for each in self._exchanges if each >> events.STREAM_BITS == connection]:
                    self._over(stream)
                self._peers.pop(connection, None)
            case events.AddressesChanged():
                self._conduct.started(now)
                if self._targets:
                    self.deadlines.at(now, self._seek)
            case _:
                pass
        return self._done(self._watched(super().handle(arrived, now)))

    @override
    def handle_deadline(self, now: float) -> Sequence[NodeEffect]:
        self._now = now
        effects = self._watched(super().handle_deadline(now))
        self.deadlines.run(now)
        return self._done(effects)

    @override
    def next_deadline(self) -> float | None:
        due = [at for at in (super().next_deadline(), self.deadlines.next()) if at is not None]
        return min(due, default=None)

    @override
    def take(self, stream: int, limit: int) -> Buffers:
        exchange = self._exchanges.get(stream)
        if exchange is None:
            return super().take(stream, limit)
        while len(exchange.waiting) < limit:
            taken = b"".join(super().take(stream, limit))
            if not taken:
                break
            for frame in exchange.said(taken):
                for told in self._conduct.says(exchange, frame, self._now):
                    exchange.waiting.push(framed(told))
        if exchange.ended_here and exchange.ended_there and not exchange.waiting:
            self._over(stream)
        return exchange.waiting.take(limit)

    @override
    def waits(self, stream: int) -> bool:
        return stream in self._exchanges or super().waits(stream)

    @override
    def drain(self, now: float) -> Sequence[NodeEffect]:
        return self._done(self._watched(super().drain(now)))

    # ------------------------------------------------------------

    def _done(self, effects: Sequence[NodeEffect]) -> Sequence[NodeEffect]:
        if not self._extra:
            return effects
        extra, self._extra = self._extra, []
        return [*effects, *extra]

    def _opened(self, opened: events.StreamOpened, now: float) -> Sequence[NodeEffect]:
        peer = self._peers.get(opened.stream >> events.STREAM_BITS)
        if peer is None or not self._conduct.taps(opened.protocol):  # None: its connection has just ended
            return self._watched(super().handle(opened, now))
        exchange = Exchange(opened.stream, peer, opened.protocol, opened.token is not None)
        self._exchanges[opened.stream] = exchange
        effects = self._watched(super().handle(opened, now))
        if opened.stream in self._exchanges:  # the node beneath may have reset it at once
            self._conduct.opened(exchange, now)
        return effects

    def _heard(self, received: events.StreamsReceived) -> events.StreamsReceived:
        """What of a read is left for the node beneath."""
        chunks: list[tuple[int, bytes]] = []
        for stream, data in received.chunks:
            exchange = self._exchanges.get(stream)
            if exchange is None:
                chunks.append((stream, data))
                continue
            for frame in exchange.heard(data):
                for left in self._conduct.hears(exchange, frame, self._now):
                    chunks.append((stream, framed(left)))
        return received._replace(chunks=chunks)

    def _watched(self, effects: Sequence[NodeEffect]) -> Sequence[NodeEffect]:
        """See which streams end by what the node beneath does."""
        for effect in effects:
            match effect:
                case events.ResetStream(stream):
                    self._over(stream)
                case events.CloseWrite(stream):
                    self._ended(stream, there=False)
                case _:
                    pass
        return effects

    def _ended(self, stream: int, *, there: bool) -> None:
        exchange = self._exchanges.get(stream)
        if exchange is not None:
            exchange.ended_there |= there
            exchange.ended_here |= not there
            if exchange.ended_here and exchange.ended_there:
                self._extra.append(events.Wake(stream))  # for `take` to see whether something is left

    def _over(self, stream: int) -> None:
        exchange = self._exchanges.pop(stream, None)
        if exchange is not None:
            self._conduct.closed(exchange, self._now)

    def _seek(self, now: float) -> None:
        """Connect to the targets that it is not connected to."""
        connected = set(self._peers.values())  # only asked, never iterated
        for peer, address in self._targets:
            if peer not in connected:
                self._extra += super().handle(events.ConnectRequested(self.new_op(), peer, (address,)), now)
        self.deadlines.at(now + _SEEK, self._seek)
