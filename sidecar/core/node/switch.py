"""Connections and streams of the node, and who answers on which: the part that knows no protocol.

A service (identify, ping, Kademlia, gossip, direct messages, the byte streams of apps) registers the protocol ids it
answers, opens streams, and is told what happens on them.
"""

import random
from collections import Counter
from dataclasses import replace
from typing import Protocol, assert_never

from .. import events
from ..buffer import Buffers, SendBuffer
from ..deadlines import Deadline
from ..errors import Closed, DeadlineExceeded, SidecarError, StreamReset
from ..events import LogLevel
from ..identify import IdentifyInfo
from ..identity import Identity, PublicKey
from ..multiaddr import Multiaddr
from ..override import override
from ..parameters import NodeConfig
from ..peers import AddressBook
from ..types import Direction, PeerId
from .config import ConfigurationChanged
from .service import Service
from .statistics import SwitchStatistics
from .turn import Turn

_NEW_STREAM = 2.0  # points of work that a peer's stream counts: some 20 us to negotiate it, of which half is of use
VIOLATION = 20.0  # points that a breach of a protocol counts: a stream's end, a line in the log; a guess


class PeerTable:
    """Who is connected, and over what; `Dialling` keeps it."""

    __slots__ = ("connections", "peers")

    def __init__(self) -> None:
        self.peers: dict[PeerId, Peer] = {}
        self.connections: dict[int, PeerConnection] = {}


class Budgets(Protocol):
    """Who counts the work that peers cause; see `Workload`."""

    def charge(self, peer: PeerId, kind: str, points: float, now: float, *, needless: bool = True) -> None:
        """Count `points` of work that the peer caused (`WorkConfig`); `needless`: it brought nobody anything."""


SwitchInput = (
    events.StreamsReceived
    | events.StreamOpened
    | events.StreamFailed
    | events.StreamEnded
    | events.StreamGone
    | ConfigurationChanged
)


class Traffic:
    """Bytes of payload that the streams of one service carried since the start."""

    __slots__ = ("received", "sent")

    def __init__(self) -> None:
        self.received = 0
        self.sent = 0


class Stream:
    """A negotiated stream; `state` belongs to its handler."""

    __slots__ = (
        "connection",
        "deadline",
        "handler",
        "number",
        "out",
        "peer",
        "protocol",
        "read_ended",
        "state",
        "traffic",
        "write_closed",
    )

    def __init__(
        self,
        number: int,
        connection: "PeerConnection",
        protocol: str,
        handler: "StreamHandler",
        state: object,
        traffic: "Traffic",
    ) -> None:
        self.number = number
        self.connection = connection
        self.peer = connection.peer
        self.protocol = protocol
        self.handler = handler
        self.state = state
        self.traffic = traffic
        self.out = SendBuffer()
        self.deadline: Deadline | None = None
        self.read_ended = False
        self.write_closed = False


class StreamHandler(Protocol):
    """What a service does on its streams. Raising SidecarError resets the stream."""

    name: str
    """What its bytes are counted under."""

    lasting: bool
    """Whether its streams cannot be opened anew on another connection: then a surplus one waits for their end."""

    def needed(self, stream: Stream) -> bool:
        """Whether a surplus connection is to wait for this stream."""
        return self.lasting

    def opened(self, stream: Stream, now: float) -> None:
        """Negotiated: ours (with the state given to `open_stream`) or the remote's (state None)."""

    def failed(self, state: object, error: SidecarError, now: float) -> None:
        """The stream asked for with this state did not come to be."""

    def received(self, stream: Stream, data: bytes, now: float) -> None:
        """Bytes came."""

    def ended(self, stream: Stream, now: float) -> None:
        """The remote will send no more."""

    def closed(self, stream: Stream, error: SidecarError, now: float) -> None:
        """The stream is gone; `error` says how. Not called after our own `reset`, nor after an end in order."""

    def take(self, stream: Stream, limit: int) -> Buffers:
        """What to send next, at most `limit` bytes."""

    def waits(self, stream: Stream) -> bool:
        """Whether `take` may have more; a driver that hears of none need not ask it in vain."""
        return True


class SimpleHandler(StreamHandler):
    """The usual answers, for services that write into the stream's own buffer."""

    lasting = False

    @override
    def opened(self, stream: Stream, now: float) -> None:
        pass

    @override
    def failed(self, state: object, error: SidecarError, now: float) -> None:
        pass

    @override
    def ended(self, stream: Stream, now: float) -> None:
        pass

    @override
    def closed(self, stream: Stream, error: SidecarError, now: float) -> None:
        pass

    @override
    def take(self, stream: Stream, limit: int) -> Buffers:
        return stream.out.take(limit)

    @override
    def waits(self, stream: Stream) -> bool:
        return bool(stream.out)


class PeerConnection:
    """A live connection to a peer."""

    __slots__ = (
        "dialled",
        "direction",
        "draining",
        "ended_in_order",
        "limited",
        "local",
        "near",
        "number",
        "opened_at",
        "peer",
        "remote",
        "streams",
        "tokens",
        "unanswered",
        "visit",
    )

    def __init__(self, opened: events.ConnectionOpened, peer: "Peer", now: float) -> None:
        self.number = opened.connection
        self.peer = peer
        self.direction = opened.direction
        self.remote = opened.remote
        self.local = opened.local
        self.limited = opened.limited
        self.near = opened.near
        self.opened_at = now
        self.streams: dict[int, Stream] = {}
        self.tokens: dict[int, None] = {}
        self.draining = False  # surplus: a better connection to the same peer exists
        self.ended_in_order = False
        self.unanswered = False  # the muxer was pinged, and no answer has come since
        self.visit = False  # maybe a dial-back that we asked for: it has time, though it is surplus or nobody's

    @property
    def relayed(self) -> bool:
        """Whether it goes through a relay."""
        return self.remote.is_relayed


class Peer:
    """A connected peer."""

    __slots__ = (
        "connections",
        "id",
        "info",
        "latency",
        "public_key",
        "ready",
        "sent_away",
        "since",
        "used_at",
        "wanted",
    )

    def __init__(self, peer: PeerId, public_key: PublicKey, now: float) -> None:
        self.id = peer
        self.public_key = public_key
        self.connections: list[PeerConnection] = []
        self.info: IdentifyInfo | None = None
        self.ready = False  # identified, and of our network
        self.latency: float | None = None
        self.since = now
        self.sent_away = False  # its last connection was ended in order by the other side
        self.used_at = now  # when the last stream was opened, but for housekeeping
        self.wanted = False  # by us, for more than one exchange: else a connection that we dialled goes when it is idle

    @property
    def best(self) -> PeerConnection:
        """The connection that new streams go on."""
        for connection in self.connections:
            if not connection.draining:
                return connection
        return self.connections[0]

    @property
    def direct(self) -> PeerConnection | None:
        """A connection that goes through no relay, if there is one; the best of them."""
        direct = [connection for connection in self.connections if not connection.relayed]
        return next((connection for connection in direct if not connection.draining), direct[0] if direct else None)

    @property
    def limited(self) -> bool:
        """Whether it is reached only through a relay that ends connections soon: not for what goes on and on.

        Gossip and the DHT leave such peers alone, as go-libp2p's do; what apps send goes there.
        """
        return self.best.limited

    def speaks(self, *protocols: str) -> bool:
        """Whether it says that it answers one of the protocols; False until it is identified."""
        return self.info is not None and any(protocol in self.info.protocols for protocol in protocols)


class Switch(Service[SwitchInput]):
    """Connections, streams, deadlines and effects: what services are built on."""

    def __init__(
        self,
        config: NodeConfig,
        identity: Identity,
        rng: random.Random,
        turn: Turn,
        table: PeerTable,
        budgets: Budgets,
    ) -> None:
        self.config = config
        self.identity = identity
        self.local = identity.peer_id
        self.rng = rng
        self.turn = turn
        self.deadlines = turn.deadlines
        self.emit = turn.emit
        self.note = turn.note
        self.charge = budgets.charge
        self.book = AddressBook(config.max_book_peers, config.max_book_addresses)
        self.peers = table.peers
        self.connections = table.connections
        self.asked_back: dict[PeerId, None] = {}  # who is to dial this node back; see `ReachabilityService`
        self.handlers: dict[str, StreamHandler] = {}
        self._housekeeping: dict[str, None] = {}  # protocols whose streams do not mean that a peer is of use
        self.listening: tuple[Multiaddr, ...] = ()
        self.announced: tuple[Multiaddr, ...] = ()
        self.relayed: tuple[Multiaddr, ...] = ()
        """Where relays take connections for this node."""
        self.kept: Counter[PeerId] = Counter()
        """Peers whose connections are not to be trimmed, since others depend on them: how many reasons there are."""
        self._found: tuple[Multiaddr, ...] = ()
        self._unreachable: dict[Multiaddr, None] = {}
        self._counts = SwitchStatistics()
        self.traffic: dict[str, Traffic] = {}  # by the names of the handlers
        self._streams: dict[int, Stream] = {}
        self._tokens: dict[int, tuple[PeerConnection, StreamHandler, object]] = {}
        self._token = 0

    @override
    def handle(self, arrived: SwitchInput, now: float) -> None:
        match arrived:
            case events.StreamsReceived():
                self._on_streams_received(arrived, now)
            case events.StreamOpened():
                self._on_stream_opened(arrived, now)
            case events.StreamFailed():
                self._on_stream_failed(arrived, now)
            case events.StreamEnded(stream):
                self._on_stream_ended(stream, now)
            case events.StreamGone():
                self._on_stream_reset(arrived, now)
            case ConfigurationChanged(config):
                self.config = config
            case _:
                assert_never(arrived)

    # ------------------------------------------------------------ what services call

    def register(self, protocol: str, handler: StreamHandler, *, housekeeping: bool = False) -> None:
        """Answer inbound streams of a protocol. `housekeeping`: every connection has some, used or not."""
        self.handlers[protocol] = handler
        if housekeeping:
            self._housekeeping[protocol] = None

    def unregister(self, protocol: str) -> None:
        """Answer a protocol's inbound streams no more; those that are open stay."""
        self.handlers.pop(protocol, None)

    def open_stream(
        self, connection: PeerConnection, protocols: tuple[str, ...], handler: StreamHandler, state: object
    ) -> None:
        """Open a stream; the handler is told of it with `state`."""
        self._token += 1
        self._tokens[self._token] = (connection, handler, state)
        connection.tokens[self._token] = None
        self.emit(events.OpenStream(connection.number, self._token, protocols))

    def write(self, stream: Stream, data: bytes) -> None:
        """Put bytes into the stream's own buffer, and have them taken."""
        stream.out.push(data)
        self.turn.effects.append(events.Wake(stream.number))

    def wake(self, stream: Stream) -> None:
        """The handler's `take` has bytes for the stream."""
        self.turn.effects.append(events.Wake(stream.number))

    def close_write(self, stream: Stream) -> None:
        """End our direction after what `take` still gives."""
        if not stream.write_closed and stream.number in self._streams:
            stream.write_closed = True
            self.emit(events.CloseWrite(stream.number))
            self._forget_if_done(stream)

    def reset(self, stream: Stream) -> bool:
        """End the stream at once; its handler is not told. False when it is gone already."""
        if not self._remove(stream):
            return False
        self.emit(events.ResetStream(stream.number))
        return True

    def expire(self, stream: Stream, now: float) -> None:
        """Give a short exchange its time; what is left of it after that is reset, and its handler told."""
        timeout = self.config.stream_timeout
        if stream.deadline is not None:  # the stream carried an exchange before
            stream.deadline.cancel()

        def overdue(now: float) -> None:
            self.reset(stream)
            stream.handler.closed(stream, DeadlineExceeded(f"{stream.protocol}: not done within {timeout:g} s"), now)

        if stream.number in self._streams:  # it may be done already
            stream.deadline = self.deadlines.at(now + timeout, overdue)

    def close_connection(self, connection: PeerConnection, error: SidecarError | None) -> None:
        """End a connection: in order, or for the error."""
        self.emit(events.CloseConnection(connection.number, error))

    def disconnect(self, peer: Peer, error: SidecarError | None) -> None:
        """End all connections of a peer, likewise."""
        for connection in peer.connections:
            self.close_connection(connection, error)

    def advertised(self) -> tuple[Multiaddr, ...]:
        """The addresses that others are told."""
        return (*self._own(), *self.relayed)

    def _own(self) -> tuple[Multiaddr, ...]:
        """The same without those at relays."""
        addresses = self.announced or (*self.listening, *self._found)
        if self._unreachable:
            addresses = tuple(each for each in addresses if each.without_peer() not in self._unreachable)
        return addresses

    @property
    def told(self) -> tuple[Multiaddr, ...]:
        """The same; none where they are just those that the node listens at."""
        addresses = self._own()
        return () if addresses == self.listening else addresses

    def keep(self, peer: PeerId, kept: bool) -> None:
        """Have a peer's connections not trimmed, or again as others; each of the first needs one of the second."""
        self.kept[peer] += 1 if kept else -1
        if not self.kept[peer]:
            del self.kept[peer]

    def readdress(self, listening: tuple[Multiaddr, ...], announced: tuple[Multiaddr, ...]) -> None:
        """Where the node listens, and what it announces instead."""
        self.listening, self.announced = listening, announced

    def revise(self, found: tuple[Multiaddr, ...], unreachable: tuple[Multiaddr, ...]) -> bool:
        """Others reach this node at some more addresses, or not at some; whether that changes anything.

        Those of the configuration stay as they are but for the latter.
        """
        before = self.advertised()
        self._found = tuple(address for address in found if address not in self.listening)
        self._unreachable = dict.fromkeys(unreachable)
        return self.advertised() != before

    # ------------------------------------------------------------ what the driver reports

    def waits(self, number: int) -> bool:
        """Whether `take` may have more for a stream."""
        stream = self._streams.get(number)
        return stream is not None and stream.handler.waits(stream)

    def take(self, number: int, limit: int) -> Buffers:
        """Bytes for a stream, of the handler that it belongs to; none for one that is gone."""
        stream = self._streams.get(number)
        if stream is None:
            return ()
        taken = stream.handler.take(stream, limit)
        stream.traffic.sent += sum(map(len, taken))
        if stream.write_closed:
            self._forget_if_done(stream)
        return taken

    def _on_stream_opened(self, opened: events.StreamOpened, now: float) -> None:
        if opened.token is not None:
            asked = self._tokens.pop(opened.token, None)
            if asked is None:  # its connection has just ended
                return
            connection, handler, state = asked
            connection.tokens.pop(opened.token, None)
        else:
            found = self.connections.get(opened.stream >> events.STREAM_BITS)
            answering = self.handlers.get(opened.protocol)
            if found is None or answering is None:
                self.emit(events.ResetStream(opened.stream))
                return
            connection, handler, state = found, answering, None
        self._counts.streams_opened += 1
        if opened.protocol not in self._housekeeping:
            connection.peer.used_at = now
        if opened.token is None:
            self.charge(connection.peer.id, "streams", _NEW_STREAM, now, needless=False)
        traffic = self.traffic.setdefault(handler.name, Traffic())
        stream = Stream(opened.stream, connection, opened.protocol, handler, state, traffic)
        self._streams[stream.number] = connection.streams[stream.number] = stream
        self.guarded(stream, lambda: handler.opened(stream, now), now)

    def _on_stream_failed(self, failed: events.StreamFailed, now: float) -> None:
        asked = self._tokens.pop(failed.token, None)
        if asked is not None:
            connection, handler, state = asked
            connection.tokens.pop(failed.token, None)
            self._counts.streams_failed += 1
            handler.failed(state, failed.error, now)

    def _on_streams_received(self, received: events.StreamsReceived, now: float) -> None:
        streams = self._streams
        for number, data in received.chunks:
            stream = streams.get(number)
            if stream is None:
                continue
            stream.traffic.received += len(data)
            try:
                stream.handler.received(stream, data, now)
            except SidecarError as error:
                self._violated(stream, error, now)

    def _on_stream_ended(self, number: int, now: float) -> None:
        stream = self._streams.get(number)
        if stream is not None and not stream.read_ended:
            stream.read_ended = True
            self.guarded(stream, lambda: stream.handler.ended(stream, now), now)
            self._forget_if_done(stream)

    def _on_stream_reset(self, reset: events.StreamGone, now: float) -> None:
        stream = self._streams.get(reset.stream)
        if stream is not None and self._remove(stream):
            error = reset.error or StreamReset(f"{stream.protocol}: the peer reset the stream")
            stream.handler.closed(stream, error, now)

    def drop_streams(self, connection: PeerConnection, error: SidecarError, now: float) -> None:
        """The connection is gone and its streams with it."""
        for token in list(connection.tokens):
            _, handler, state = self._tokens.pop(token)
            handler.failed(state, error, now)
        connection.tokens.clear()
        for stream in list(connection.streams.values()):
            if self._remove(stream):
                stream.handler.closed(stream, error, now)

    def statistics(self) -> SwitchStatistics:
        """A copy of the counters, and the sizes."""
        return replace(
            self._counts,
            peers_connected=len(self.peers),
            peers_ready=sum(peer.ready for peer in self.peers.values()),
            peers_known=len(self.book),
            connections=len(self.connections),
            stream_bytes_received={name: traffic.received for name, traffic in self.traffic.items()},
            stream_bytes_sent={name: traffic.sent for name, traffic in self.traffic.items()},
        )

    # ------------------------------------------------------------

    def guarded(self, stream: Stream, action: "_Action", now: float) -> None:
        """Do something on a stream's behalf; an error resets it."""
        try:
            action()
        except SidecarError as error:
            self._violated(stream, error, now)

    def _violated(self, stream: Stream, error: SidecarError, now: float) -> None:
        self._counts.stream_violations += 1
        self.charge(stream.peer.id, stream.handler.name, VIOLATION, now)  # it may open the next one at once
        self.note(LogLevel.WARNING, stream.peer.id, "%s: %s; stream reset", stream.protocol, error)
        self.reset(stream)
        stream.handler.closed(stream, error, now)

    def _forget_if_done(self, stream: Stream) -> None:
        # What is still to be sent is taken later; the stream stays known until then.
        if stream.read_ended and stream.write_closed and not stream.out:
            self._remove(stream)

    def _remove(self, stream: Stream) -> bool:
        if self._streams.pop(stream.number, None) is None:
            return False
        if stream.deadline is not None:
            stream.deadline.cancel()
        connection = stream.connection
        connection.streams.pop(stream.number, None)
        if connection.draining and not connection.visit and not connection.streams and not connection.tokens:
            self.close_connection(connection, None)
        return True


class _Action(Protocol):
    def __call__(self) -> None: ...


def gone(reason: SidecarError | None) -> SidecarError:
    """The error for what a closed connection takes with it."""
    return Closed(f"the connection ended: {reason}" if reason else "the connection was closed")


def direction_kept(local: PeerId, remote: PeerId) -> Direction:
    """Of two simultaneous connections, the one kept: that dialled by the smaller peer id, so both sides agree."""
    return Direction.OUTBOUND if local < remote else Direction.INBOUND
