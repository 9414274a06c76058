"""Hole punching (DCUtR): a connection through a relay becomes a direct one (specs relay/DCUtR).

The two sides tell each other over the relayed connection where others see them, and then dial at the same moment, from
the ports that they listen at: each one's packets open its own NAT for the other's. Who asked for it is the server.
"""

from typing import Never

from ..deadlines import Deadline
from ..errors import Closed, DeadlineExceeded, NotSupported, ProtocolError, SidecarError
from ..events import LogLevel
from ..multiaddr import Multiaddr
from ..networks import Scope, in_one_lan
from ..override import override
from ..parameters.relay import (
    MAX_PUNCH_ADDRESSES,
    MAX_PUNCHES,
    PUNCH_DIAL,
    PUNCH_EXCHANGE,
    PUNCH_PLAIN,
    PUNCH_TRIES,
)
from ..relay import DCUTR, FirstFrame, Punch, PunchType, decode_punch, encode_punch
from ..types import Direction
from .dialling import Dialling
from .identify import IdentifyService
from .service import Service
from .statistics import PunchStatistics
from .switch import Peer, PeerConnection, SimpleHandler, Stream, Switch

_WORK = 50.0  # points that a peer's exchange counts: it makes this node dial; a guess
_MOST_ASKED = 2 * PUNCH_TRIES  # exchanges that a peer may begin on one connection; a guess


class _Punch:
    """A relayed connection that this node wants to replace."""

    __slots__ = ("again", "connection", "deadline", "peer", "tries")

    def __init__(self, peer: Peer, connection: PeerConnection, again: bool) -> None:
        self.peer = peer
        self.connection = connection
        self.again = again  # since the peer had not known the exchange when it was asked first
        self.tries = 0
        self.deadline: Deadline | None = None  # until the other side is dialled, of the try under way


class _Ours:
    """A try's exchange that this node began."""

    __slots__ = ("begun", "frame", "over", "punch")

    def __init__(self, punch: _Punch) -> None:
        self.punch = punch
        self.frame = FirstFrame()
        self.begun = 0.0
        self.over = False


class _Theirs:
    """One that the peer began: first CONNECT, then SYNC."""

    __slots__ = ("addresses", "frame")

    def __init__(self) -> None:
        self.frame = FirstFrame()
        self.addresses: tuple[Multiaddr, ...] | None = None


class HolePunching(SimpleHandler, Service[Never]):
    """Begins the exchange on connections that came through a relay, and answers it on those that it opened so."""

    name = "dcutr"

    def __init__(self, switch: Switch, dialling: Dialling, identify: IdentifyService) -> None:
        self._switch = switch
        self._dialling = dialling
        self._identify = identify
        self._punches: dict[int, _Punch] = {}  # by the relayed connection
        self._seen: dict[
            int, bool
        ] = {}  # connections of which all was tried; True: as long as the peer knows no exchange
        self._asked: dict[int, int] = {}  # exchanges that peers began, by connection
        self._counts = PunchStatistics()
        if switch.config.relay.punch:
            switch.register(DCUTR, self)

    def statistics(self) -> PunchStatistics:
        """Counted since the start, and what there is now."""
        counts = self._counts
        return PunchStatistics(
            begun=counts.begun,
            succeeded=counts.succeeded,
            tries=counts.tries,
            failed=dict(counts.failed),
            under_way=len(self._punches),
        )

    # ------------------------------------------------------------ which connections

    @override
    def peer_ready(self, peer: Peer, now: float) -> None:
        if not self._switch.config.relay.punch or peer.direct is not None:
            return
        connection = peer.best
        if connection.direction is not Direction.INBOUND:
            return
        tried = self._seen.get(connection.number)
        if tried is False or (tried and not peer.speaks(DCUTR)):  # go-libp2p offers it once it knows where it is seen
            return
        if connection.number in self._punches or len(self._punches) >= MAX_PUNCHES:
            return
        punch = self._punches[connection.number] = _Punch(peer, connection, again=tried is not None)
        self._counts.begun += 1
        told = peer.info.listen_addresses if peer.info is not None else ()
        direct = self._usable(told, connection)
        if direct:  # specs: first as any peer is dialled, where that may do
            self._dialling.dial_directly(
                peer.id, direct, lambda result, now: self._dialled(punch, result, now), now, within=PUNCH_PLAIN
            )
        else:
            self._try(punch, now)

    peer_updated = peer_ready

    @override
    def peer_lost(self, peer: Peer, now: float) -> None:
        connections = self._switch.connections
        self._seen = {number: tried for number, tried in self._seen.items() if number in connections}
        self._asked = {number: count for number, count in self._asked.items() if number in connections}

    def _over(self, punch: _Punch, reason: str | None) -> None:
        """It has come to an end: `reason` says why in vain, None that the direct connection is there."""
        if self._punches.pop(punch.connection.number, None) is not punch:
            return
        self._seen[punch.connection.number] = reason == "not_supported" and not punch.again
        if punch.deadline is not None:
            punch.deadline.cancel()
        if reason is None:
            self._counts.succeeded += 1
            self._switch.note(LogLevel.INFO, punch.peer.id, "connected directly now, no longer through a relay")
        else:
            self._counts.failed[reason] = self._counts.failed.get(reason, 0) + 1
            self._switch.note(LogLevel.DEBUG, punch.peer.id, "no direct connection (%s): it stays relayed", reason)

    # ------------------------------------------------------------ addresses

    def _usable(self, addresses: tuple[Multiaddr, ...], connection: PeerConnection) -> tuple[Multiaddr, ...]:
        """Those that can be dialled for this: plain TCP at IP addresses, none nearer than the relay is.

        So nobody has this node knock at doors of its own network, unless the relay is in there too, or sees both sides
        at one public address: then those in the very networks where this node listens.
        """
        found = []
        for address in addresses:
            endpoint = address.endpoint()
            if address.ip is None or endpoint is None or endpoint.websocket or not endpoint.port:
                continue
            if self._may_lead_there(address, connection) and address.without_peer() not in self._switch.listening:
                found.append(address.without_peer())
        return tuple(dict.fromkeys(found))[:MAX_PUNCH_ADDRESSES]

    def _may_lead_there(self, address: Multiaddr, connection: PeerConnection) -> bool:
        if Scope.of(address) >= Scope.of(connection.remote):
            return True
        return connection.near and any(in_one_lan(address, own) for own in self._switch.listening)

    def _own(self, connection: PeerConnection) -> tuple[Multiaddr, ...]:
        """Where others see the port that this node listens at, and where it listens.

        Addresses of private networks go only where they may mean the same there.
        """
        nearest, listening = Scope.of(connection.remote), self._switch.listening
        seen = tuple(address for address, _ in self._identify.mapped.most_common(MAX_PUNCH_ADDRESSES // 2))
        inside: tuple[Multiaddr, ...] = ()
        if connection.near:
            inside = tuple(address for address in listening if Scope.of(address) is Scope.PRIVATE)
        own = (*seen, *self._switch.told, *listening)
        outside = tuple(address for address in own if address.ip is not None and Scope.of(address) >= nearest)
        inside = inside[: MAX_PUNCH_ADDRESSES - min(len(outside), MAX_PUNCH_ADDRESSES // 2)]
        return tuple(dict.fromkeys((*inside, *outside)))[:MAX_PUNCH_ADDRESSES]

    # ------------------------------------------------------------ this side begins

    def _try(self, punch: _Punch, now: float) -> None:
        if punch.connection.number not in self._switch.connections:
            self._over(punch, "lost")
        elif not self._own(punch.connection):
            self._over(punch, "no_address")
        elif punch.tries >= PUNCH_TRIES:
            self._over(punch, "no_answer")
        else:
            punch.tries += 1
            self._counts.tries += 1
            ours = _Ours(punch)
            self._switch.open_stream(punch.connection, (DCUTR,), self, ours)
            late = DeadlineExceeded(f"not agreed within {PUNCH_EXCHANGE:g} s")
            punch.deadline = self._switch.deadlines.at(
                now + PUNCH_EXCHANGE, lambda now: self._exchange_failed(ours, late, now)
            )

    def _on_connect(self, stream: Stream, ours: _Ours, answer: Punch, now: float) -> None:
        """The other side has told its addresses: say when, and dial half a round trip later, when it hears that."""
        if answer.type is not PunchType.CONNECT:
            raise ProtocolError("dcutr: another message than CONNECT")
        punch = ours.punch
        ours.over = True
        if punch.deadline is not None:
            punch.deadline.cancel()
        self._switch.write(stream, encode_punch(Punch(PunchType.SYNC)))
        self._switch.close_write(stream)
        addresses = self._usable(answer.addresses, punch.connection)
        if not addresses:
            self._over(punch, "no_address")
            return

        def dial(now: float) -> None:
            punch.deadline = None
            self._dialling.dial_directly(
                punch.peer.id,
                addresses,
                lambda result, now: self._dialled(punch, result, now),
                now,
                within=PUNCH_DIAL,
                punch=Direction.INBOUND,
            )

        punch.deadline = self._switch.deadlines.at(now + (now - ours.begun) / 2, dial)

    def _dialled(self, punch: _Punch, result: Peer | SidecarError, now: float) -> None:
        present = self._switch.peers.get(punch.peer.id)
        if present is not None and present.direct is not None:
            self._over(punch, None)
        elif isinstance(result, SidecarError) or present is None:
            self._try(punch, now)
        else:
            self._over(punch, None)

    def _exchange_failed(self, ours: _Ours, error: SidecarError, now: float) -> None:
        if ours.over:
            return
        ours.over = True
        punch = ours.punch
        if punch.deadline is not None:
            punch.deadline.cancel()
        if isinstance(error, NotSupported):
            self._over(punch, "not_supported")
        else:
            self._try(punch, now)

    # ------------------------------------------------------------ the peer begins

    def _on_theirs(self, stream: Stream, theirs: _Theirs, asked: Punch, now: float) -> None:
        if theirs.addresses is None:
            if asked.type is not PunchType.CONNECT:
                raise ProtocolError("dcutr: another message than CONNECT")
            theirs.addresses = self._usable(asked.addresses, stream.connection)
            self._switch.write(stream, encode_punch(Punch(PunchType.CONNECT, self._own(stream.connection))))
            return
        if asked.type is not PunchType.SYNC:
            raise ProtocolError("dcutr: another message than SYNC")
        self._switch.close_write(stream)
        if theirs.addresses and stream.peer.direct is None:
            self._dialling.dial_directly(
                stream.peer.id,
                theirs.addresses,
                lambda result, now: None,
                now,
                within=PUNCH_DIAL,
                punch=Direction.OUTBOUND,
            )

    # ------------------------------------------------------------ streams

    @override
    def opened(self, stream: Stream, now: float) -> None:
        ours = stream.state
        self._switch.expire(stream, now)
        if isinstance(ours, _Ours):
            if ours.over:
                self._switch.reset(stream)
                return
            ours.begun = now
            self._switch.write(stream, encode_punch(Punch(PunchType.CONNECT, self._own(stream.connection))))
            return
        number = stream.connection.number
        self._asked[number] = self._asked.get(number, 0) + 1
        self._switch.charge(stream.peer.id, "dcutr", _WORK, now)
        if not stream.connection.relayed or self._asked[number] > _MOST_ASKED:
            raise ProtocolError("dcutr: on a connection that is direct, or too often")
        stream.state = _Theirs()

    @override
    def received(self, stream: Stream, data: bytes, now: float) -> None:
        state = stream.state
        if not isinstance(state, _Ours | _Theirs):
            return
        while data or not state.frame.done:
            read = state.frame.receive(data)
            if read is None:
                return
            message, data = decode_punch(read[0]), read[1]
            if isinstance(state, _Ours):
                if not state.over:
                    self._on_connect(stream, state, message, now)
                return
            state.frame = FirstFrame()
            self._on_theirs(stream, state, message, now)

    @override
    def ended(self, stream: Stream, now: float) -> None:
        if isinstance(stream.state, _Ours):
            self._exchange_failed(stream.state, Closed("dcutr: the peer ended the stream"), now)
        self._switch.close_write(stream)

    @override
    def closed(self, stream: Stream, error: SidecarError, now: float) -> None:
        if isinstance(stream.state, _Ours):
            self._exchange_failed(stream.state, error, now)

    @override
    def failed(self, state: object, error: SidecarError, now: float) -> None:
        if isinstance(state, _Ours):
            self._exchange_failed(state, error, now)
