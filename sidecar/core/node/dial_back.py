"""Tells other nodes where they can be reached: dials them when they ask (AutoNAT v2, server).

What strangers could do with this is bounded: one address a request, never a private one; who wants another IP address
than its own dialled pays with more bytes than a handshake costs; and the rate is limited, in all and for each.
"""

from collections.abc import Hashable
from dataclasses import replace
from typing import Never

from .. import autonat
from ..buffer import FrameDecoder
from ..deadlines import Deadline
from ..errors import (
    Closed,
    DeadlineExceeded,
    InvalidArgument,
    NotSupported,
    PeerBanned,
    ProtocolError,
    ResourceExhausted,
    SelfDial,
    SidecarError,
    Unreachable,
)
from ..multiaddr import Multiaddr
from ..networks import Grouping, Scope
from ..override import override
from .dialling import Dialling
from .service import Service
from .switch import Peer, PeerConnection, SimpleHandler, Stream, Switch

_LEAST = 100  # bytes of data in one message at least, but for the last, as in go-libp2p
_SPREAD = 3.0  # seconds within which a paid dial begins, so that many do not hit a victim at once, as in go-libp2p
_DIAL = 10.0  # seconds for a dial, as in go-libp2p
_DELIVER = 5.0  # seconds for the nonce to be taken, as in go-libp2p
_WORK = 400.0  # points that a request counts: a dial and its handshake take some 2 ms
_UNWILLING = (InvalidArgument, NotSupported, PeerBanned, SelfDial)  # errors that say nothing of the peer


class _Asked:
    """A request of a peer."""

    __slots__ = ("address", "askers", "connection", "deadline", "decoder", "due", "index", "nonce", "stream")

    def __init__(self, stream: Stream, askers: tuple[Hashable, ...]) -> None:
        self.stream = stream
        self.askers = askers
        self.decoder = FrameDecoder(autonat.MAX_MESSAGE)
        self.address: Multiaddr | None = None  # the one that is dialled
        self.index = 0
        self.nonce = 0
        self.due = 0  # bytes that the peer has still to pay
        self.connection: PeerConnection | None = None  # to that address
        self.deadline: Deadline | None = None


class DialBackService(SimpleHandler, Service[Never]):
    """Answers dial-requests."""

    name = "autonat"

    def __init__(self, switch: Switch, dialling: Dialling) -> None:
        self._switch = switch
        self._dialling = dialling
        self._config = switch.config.autonat
        self._grouping = Grouping(switch.config.exempt_networks)
        self._limits = autonat.RequestLimits(self._config)
        self._open: dict[_Asked, None] = {}
        self._carrier = _Carrier(self, switch)
        self._counts = autonat.DialBackStatistics()
        if self._config.answer:
            switch.register(autonat.DIAL_REQUEST, self)

    def statistics(self) -> autonat.DialBackStatistics:
        """A copy of the counters."""
        return replace(self._counts)

    # ------------------------------------------------------------ requests

    @override
    def opened(self, stream: Stream, now: float) -> None:
        self._switch.expire(stream, now)
        self._counts.requests += 1
        self._switch.charge(stream.peer.id, "autonat", _WORK, now, needless=False)
        asked = stream.state = _Asked(stream, self._askers(stream.peer))
        if not self._limits.begin(asked.askers, now):
            self._counts.rejected += 1
            self._respond(asked, autonat.DialResponse(autonat.REQUEST_REJECTED))
        else:
            self._open[asked] = None

    def _askers(self, peer: Peer) -> tuple[Hashable, ...]:
        group = self._grouping.of(peer.best.remote)
        return (peer.id,) if group is None else (peer.id, group.network)

    @override
    def received(self, stream: Stream, data: bytes, now: float) -> None:
        asked = stream.state
        assert isinstance(asked, _Asked)
        if asked not in self._open:  # rejected before it was read
            return
        for frame in asked.decoder.receive(data):
            message = autonat.decode(frame)
            if isinstance(message, autonat.DialRequest) and asked.address is None:
                self._on_request(asked, message, now)
            elif isinstance(message, autonat.DialData) and asked.due > 0:
                self._on_data(asked, message.size, now)
            else:
                raise ProtocolError(f"autonat: {type(message).__name__} out of turn")
            if asked not in self._open:
                return

    def _on_request(self, asked: _Asked, request: autonat.DialRequest, now: float) -> None:
        chosen = next(((i, each) for i, each in enumerate(request.addresses) if self._may_dial(asked, each)), None)
        if chosen is None or chosen[1] is None:
            self._counts.refused += 1
            self._finish(asked, autonat.DialResponse(autonat.DIAL_REFUSED), now)
            return
        asked.index, asked.address, asked.nonce = chosen[0], chosen[1], request.nonce
        if asked.address.ip is not None and asked.address.ip == asked.stream.connection.remote.ip:
            self._dial(asked, now)
        elif not self._limits.with_data(now):
            self._counts.rejected += 1
            self._finish(asked, autonat.DialResponse(autonat.REQUEST_REJECTED), now)
        else:
            asked.due = self._switch.rng.randint(*autonat.DIAL_DATA)
            self._switch.write(asked.stream, autonat.encode_data_request(asked.index, asked.due))

    def _may_dial(self, asked: _Asked, address: Multiaddr | None) -> bool:
        if address is None or address.is_relayed or address.peer_id not in (None, asked.stream.peer.id):
            return False
        endpoint = address.endpoint()
        return endpoint is not None and endpoint.port > 0 and Scope.of(address) >= self._nearest()

    def _nearest(self) -> Scope:
        """How near an address may be that is dialled for others."""
        return Scope.LOOPBACK if self._config.private_addresses else Scope.PUBLIC

    def _on_data(self, asked: _Asked, size: int, now: float) -> None:
        if size > autonat.CHUNK or (size < _LEAST and size < asked.due):
            raise ProtocolError(f"autonat: {size} bytes of dial data in a message, from {_LEAST} to {autonat.CHUNK}")
        self._counts.dial_data_bytes += size
        asked.due -= size
        if asked.due <= 0:
            pause = self._switch.rng.random() * _SPREAD
            asked.deadline = self._switch.deadlines.at(now + pause, lambda now: self._dial(asked, now))

    # ------------------------------------------------------------ the dial

    def _dial(self, asked: _Asked, now: float) -> None:
        assert asked.address is not None
        self._switch.expire(asked.stream, now)

        def visited(result: PeerConnection | SidecarError, now: float) -> None:
            if isinstance(result, SidecarError):
                self._not_reached(asked, result, now)
            elif asked not in self._open:
                self._switch.close_connection(result, None)
            else:
                self._deliver(asked, result, now)

        late = DeadlineExceeded(f"not connected within {_DIAL:g} s")
        asked.deadline = self._switch.deadlines.at(now + _DIAL, lambda now: self._not_reached(asked, late, now))
        self._dialling.visit(asked.stream.peer.id, asked.address, self._nearest(), visited)

    def _not_reached(self, asked: _Asked, error: SidecarError, now: float) -> None:
        if asked not in self._open:
            return
        if isinstance(error, ResourceExhausted):
            self._counts.rejected += 1
            self._finish(asked, autonat.DialResponse(autonat.REQUEST_REJECTED), now)
        elif isinstance(error, _UNWILLING) or (isinstance(error, Unreachable) and error.no_route):
            self._counts.refused += 1
            self._finish(asked, autonat.DialResponse(autonat.DIAL_REFUSED), now)
        else:
            self._counts.not_reached += 1
            self._finish(asked, autonat.DialResponse(autonat.OK, asked.index, autonat.DIAL_ERROR), now)

    def _deliver(self, asked: _Asked, connection: PeerConnection, now: float) -> None:
        asked.connection = connection
        if asked.deadline is not None:
            asked.deadline.cancel()
        asked.deadline = self._switch.deadlines.at(now + _DELIVER, lambda now: self.delivered(asked, False, now))
        self._switch.open_stream(connection, (autonat.DIAL_BACK,), self._carrier, asked)

    def delivered(self, asked: _Asked, taken: bool, now: float) -> None:
        """The peer has the nonce, or could not be given it."""
        if asked not in self._open:
            return
        if taken:
            self._counts.reached += 1
        else:
            self._counts.not_delivered += 1
        status = autonat.OK if taken else autonat.DIAL_BACK_ERROR
        self._finish(asked, autonat.DialResponse(autonat.OK, asked.index, status), now)

    # ------------------------------------------------------------ the end

    def _finish(self, asked: _Asked, response: autonat.DialResponse, now: float) -> None:
        self._over(asked)
        self._switch.expire(asked.stream, now)
        self._respond(asked, response)

    def _respond(self, asked: _Asked, response: autonat.DialResponse) -> None:
        self._switch.write(asked.stream, autonat.encode_response(response))
        self._switch.close_write(asked.stream)

    def _over(self, asked: _Asked) -> None:
        del self._open[asked]
        self._limits.end(asked.askers)
        if asked.deadline is not None:
            asked.deadline.cancel()
        if asked.connection is not None:
            self._switch.close_connection(asked.connection, None)

    @override
    def ended(self, stream: Stream, now: float) -> None:
        asked = stream.state
        if isinstance(asked, _Asked) and asked in self._open and (asked.address is None or asked.due > 0):
            self._switch.reset(stream)
            self.closed(stream, Closed("autonat: a request that is cut short"), now)

    @override
    def closed(self, stream: Stream, error: SidecarError, now: float) -> None:
        asked = stream.state
        if isinstance(asked, _Asked) and asked in self._open:
            self._counts.broken += 1
            self._over(asked)


class _Carrier(SimpleHandler):
    """Our dial-back streams, each on a connection of its own."""

    name = "autonat"

    def __init__(self, service: DialBackService, switch: Switch) -> None:
        self._service = service
        self._switch = switch

    @override
    def opened(self, stream: Stream, now: float) -> None:
        asked = stream.state
        assert isinstance(asked, _Asked)
        self._switch.write(stream, autonat.encode_dial_back(asked.nonce))
        self._switch.close_write(stream)

    @override
    def received(self, stream: Stream, data: bytes, now: float) -> None:
        self._tell(stream.state, True, now)

    @override
    def ended(self, stream: Stream, now: float) -> None:
        self._tell(stream.state, True, now)  # it may end the stream instead of saying that all is well

    @override
    def closed(self, stream: Stream, error: SidecarError, now: float) -> None:
        self._tell(stream.state, False, now)

    @override
    def failed(self, state: object, error: SidecarError, now: float) -> None:
        self._tell(state, False, now)

    def _tell(self, state: object, taken: bool, now: float) -> None:
        if isinstance(state, _Asked):
            self._service.delivered(state, taken, now)
