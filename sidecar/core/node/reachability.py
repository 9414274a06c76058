"""Where this node can be reached: asks peers to dial it (AutoNAT v2, client), and acts on what they find."""

from collections import Counter
from collections.abc import Hashable
from dataclasses import replace
from typing import assert_never

from .. import autonat, events
from ..autonat import AddressSource, Question, Reachability
from ..buffer import FrameDecoder
from ..classes import NamedTuple
from ..deadlines import Deadline
from ..errors import Closed, DeadlineExceeded, NotSupported, ProtocolError, SidecarError
from ..events import LogLevel
from ..multiaddr import Multiaddr
from ..networks import Grouping, Scope
from ..override import override
from ..types import Direction, PeerId
from .identify import IdentifyService
from .kademlia import KademliaService
from .service import Follower, Service
from .switch import Peer, PeerConnection, SimpleHandler, Stream, Switch

_AT_ONCE = 2  # requests under way; a guess: go-libp2p has five, but asks in bursts
_TIMEOUT = 30.0  # seconds for a whole request, as js-libp2p has it; servers of go-libp2p end after 15
_NONCE_WAIT = 5.0  # seconds that the nonce may come after the response, as in go-libp2p
_OBSERVERS = 2  # peers, in networks apart, that have to see this node at an IP address before it is looked at; a guess
_MAX_OBSERVATIONS = 256
_MAX_GUESSES = 4
NOT_MAPPED = events.PortsMapped(events.PortMappingState.OFF, "the gateway is not asked to map ports")
_LIE = 100.0  # points for a dial-back that is said to have worked, and did not; a guess


class _Observation(NamedTuple):
    """Where a peer sees this node. `exact`: it dialled there, so it is where this node listens."""

    address: Multiaddr
    exact: bool
    network: Hashable


class _Request:
    """A question under way."""

    __slots__ = ("asked_at", "deadline", "decoder", "nonce", "paid", "peer", "proof", "question", "response", "stream")

    def __init__(self, question: Question, peer: Peer, nonce: int, now: float) -> None:
        self.question = question
        self.peer = peer
        self.nonce = nonce
        self.asked_at = now
        self.decoder = FrameDecoder(autonat.MAX_MESSAGE)
        self.stream: Stream | None = None
        self.proof: PeerConnection | None = None  # over which the nonce came
        self.response: autonat.DialResponse | None = None
        self.paid = False
        self.deadline: Deadline | None = None


class ReachabilityService(
    SimpleHandler, Service[events.PortsMapped], Follower[events.AddressesChanged | events.ConnectionOpened]
):
    """Has addresses of this node dialled by peers, a few at a time; announces what can be reached, and no more."""

    name = "autonat"

    def __init__(self, switch: Switch, identify: IdentifyService, kademlia: KademliaService) -> None:
        self._switch = switch
        self._identify = identify
        self._kademlia = kademlia
        self._config = switch.config.autonat
        self._grouping = Grouping(switch.config.exempt_networks)
        self._tracker = autonat.ReachabilityTracker(self._config)
        self._observations: dict[PeerId, _Observation] = {}  # the oldest first
        self._requests: dict[int, _Request] = {}  # by their nonces
        self._counts = autonat.ReachabilityStatistics()
        self.mapping = NOT_MAPPED
        """How the gateway maps ports to this node, as the driver has told it last."""
        if self._config.ask:
            switch.register(autonat.DIAL_BACK, _DialBacks(self, switch), housekeeping=True)

    # ------------------------------------------------------------ what is known

    @property
    def verdict(self) -> Reachability:
        """Whether others reach this node."""
        return self._tracker.verdict

    def verdicts(self) -> tuple[autonat.AddressVerdict, ...]:
        """What is known of each address that was looked at."""
        return self._tracker.views()

    @property
    def answers_lookups(self) -> bool:
        """Whether this node is a server of the DHT now."""
        return self._kademlia.serves

    def statistics(self) -> autonat.ReachabilityStatistics:
        """A copy of the counters, and what is known now."""
        count = {verdict: len(self._tracker.addresses(verdict)) for verdict in Reachability}
        return replace(
            self._counts,
            confirmed=count[Reachability.CONFIRMED],
            not_reachable=count[Reachability.UNREACHABLE],
            unknown=count[Reachability.UNKNOWN],
            node_not_reachable=int(self.verdict is Reachability.UNREACHABLE),
        )

    # ------------------------------------------------------------ which addresses

    @override
    def handle(self, arrived: events.PortsMapped, now: float) -> None:
        self.mapping = arrived
        self._look_again(now)
        self._apply(now)

    @override
    def followed(self, arrived: events.AddressesChanged | events.ConnectionOpened, now: float) -> None:
        if isinstance(arrived, events.AddressesChanged):
            self._look_again(now)

    @override
    def peer_ready(self, peer: Peer, now: float) -> None:
        observed = peer.info.observed_address if peer.info is not None else None
        if observed is None or observed.ip is None or observed.is_relayed or not self._fits(observed):
            return
        self._observations.pop(peer.id, None)
        exact = peer.best.direction is Direction.INBOUND
        self._observations[peer.id] = _Observation(observed.without_peer(), exact, self._network(peer))
        if len(self._observations) > _MAX_OBSERVATIONS:
            del self._observations[next(iter(self._observations))]
        self._look_again(now)

    def _fits(self, address: Multiaddr) -> bool:
        """Whether an address is worth asking about: one of TCP or WebSocket, that strangers could reach."""
        endpoint = address.endpoint()
        if endpoint is None or endpoint.port == 0:
            return False
        return Scope.of(address) is Scope.PUBLIC or self._config.private_addresses

    def _network(self, peer: Peer) -> Hashable:
        """Whose word a peer's is: its network's, where these are counted."""
        group = self._grouping.of(peer.best.remote)
        return peer.id if group is None else group.network

    def _look_again(self, now: float) -> None:
        switch = self._switch
        if not self._config.ask:
            return
        source = AddressSource.ANNOUNCED if switch.announced else AddressSource.LISTENING
        candidates = {
            address.without_peer(): source
            for address in switch.announced or switch.listening
            if not address.is_relayed and self._fits(address)
        }
        if not switch.announced:
            candidates |= {address: AddressSource.MAPPED for address in self._mapped() if address not in candidates}
            candidates |= {address: AddressSource.OBSERVED for address in self._guesses() if address not in candidates}
        self._tracker.update(candidates, now)
        self._apply(now)

    def _mapped(self) -> tuple[Multiaddr, ...]:
        """Where the gateway leads others to this node; not where it is behind a NAT itself."""
        return tuple(each.address for each in self.mapping.mappings if self._fits(each.address))

    def _guesses(self) -> list[Multiaddr]:
        """Where this node may be reached besides, as several peers see it, most of them first.

        Where they dialled it, they know the port; where it dialled them, only the IP address says something, for the
        port is another one at each connection: then those that it listens at are tried.
        """
        listening = self._switch.listening
        own = {address.ip: None for address in listening}
        ports = dict.fromkeys(
            (address.parts[0][0], endpoint.port, endpoint.suffix)
            for address in listening
            if (endpoint := address.endpoint()) is not None
        )
        networks: dict[Multiaddr, dict[Hashable, None]] = {}
        for seen in self._observations.values():
            host = seen.address.ip
            if host is None or host in own:
                continue
            if seen.exact:
                guesses = [seen.address]
            else:
                family = seen.address.parts[0][0]
                guesses = [Multiaddr.tcp(host, port, suffix) for kind, port, suffix in ports if kind == family]
            for guess in guesses:
                networks.setdefault(guess, {})[seen.network] = None
        seen_by = Counter({guess: len(by) for guess, by in networks.items() if len(by) >= _OBSERVERS})
        return [guess for guess, _ in seen_by.most_common(_MAX_GUESSES)]

    def _apply(self, now: float) -> None:
        """Announce and answer by what is known now."""
        switch, tracker, before = self._switch, self._tracker, self._kademlia.serves
        # The gateway should know: what it has mapped is announced until peers say that it is not so.
        found = dict.fromkeys((*tracker.addresses(Reachability.CONFIRMED), *self._mapped()))
        changed = switch.revise(tuple(found), tracker.addresses(Reachability.UNREACHABLE))
        if switch.config.dht_adapts and switch.config.dht_server:
            self._kademlia.serve(self.verdict is not Reachability.UNREACHABLE)
        serves = self._kademlia.serves
        if before and not serves:
            text = "nobody can reach this node at any of %d addresses, as %d servers say: it only asks in the DHT now"
            switch.note(
                LogLevel.WARNING, None, text, len(tracker.addresses(Reachability.UNREACHABLE)), self._config.servers
            )
        elif serves and not before:
            switch.note(LogLevel.INFO, None, "this node answers in the DHT again")
        if changed or serves is not before:
            self._identify.advertise(now)

    # ------------------------------------------------------------ asking

    @override
    def upkeep(self, now: float) -> None:
        if not self._tracker:
            return
        self._look_again(now)
        while len(self._requests) < _AT_ONCE and self._tracker.wants(now):
            peers = [peer for peer in self._switch.peers.values() if _may_be_asked(peer)]
            self._switch.rng.shuffle(peers)
            question = self._tracker.ask([autonat.Server(peer.id, self._network(peer)) for peer in peers], now)
            if question is None:
                return
            self._ask(question, now)

    def _ask(self, question: Question, now: float) -> None:
        switch = self._switch
        nonce = switch.rng.getrandbits(64)
        peer = switch.peers[question.server.peer]
        request = self._requests[nonce] = _Request(question, peer, nonce, now)
        switch.asked_back[peer.id] = None
        self._counts.requests += 1
        late = DeadlineExceeded(f"autonat: no answer within {_TIMEOUT:g} s")
        request.deadline = switch.deadlines.at(now + _TIMEOUT, lambda now: self._broken(request, late, now))
        switch.open_stream(peer.direct or peer.best, (autonat.DIAL_REQUEST,), self, request)

    @override
    def opened(self, stream: Stream, now: float) -> None:
        request = stream.state
        assert isinstance(request, _Request), "the streams of others are the server's"
        if request.nonce not in self._requests:
            self._switch.reset(stream)
            return
        request.stream = stream
        request.asked_at = now
        self._switch.write(stream, autonat.encode_request(request.question.addresses, request.nonce))

    @override
    def received(self, stream: Stream, data: bytes, now: float) -> None:
        request = stream.state
        assert isinstance(request, _Request)
        for frame in request.decoder.receive(data):
            if request.nonce not in self._requests:
                return
            message = autonat.decode(frame)
            match message:
                case autonat.DialDataRequest():
                    self._pay(request, stream, message)
                case autonat.DialResponse() if request.response is None:
                    self._on_response(request, message, now)
                case autonat.DialRequest() | autonat.DialData() | autonat.DialResponse():
                    raise ProtocolError(f"autonat: {type(message).__name__} from a server")
                case _:
                    assert_never(message)

    def _pay(self, request: _Request, stream: Stream, asked: autonat.DialDataRequest) -> None:
        count, most = len(request.question.addresses), autonat.DIAL_DATA[1]
        if request.paid or asked.position >= count or not 0 < asked.size <= most:
            raise ProtocolError(
                f"autonat: {asked.size} bytes wanted for address {asked.position} of {count}, at most {most} and once"
            )
        request.paid = True
        self._counts.dial_data_bytes += asked.size
        self._switch.write(stream, autonat.encode_data(asked.size))

    def _on_response(self, request: _Request, response: autonat.DialResponse, now: float) -> None:
        if response.status == autonat.OK and response.position >= len(request.question.addresses):
            count = len(request.question.addresses)
            raise ProtocolError(f"autonat: a verdict on address {response.position}, of {count} that were asked about")
        request.response = response
        claimed = response.status == autonat.OK and response.dial_status in (autonat.OK, autonat.DIAL_BACK_ERROR)
        if not claimed or request.proof is not None:
            self._conclude(request, now)
        else:
            self._switch.deadlines.at(now + _NONCE_WAIT, lambda now: self._conclude(request, now))

    def _conclude(self, request: _Request, now: float) -> None:
        """The server has answered; where a nonce was to come, it has, or will not."""
        response = request.response
        if response is None or not self._over(request):
            return
        counts, tracker, question, peer = self._counts, self._tracker, request.question, request.peer
        if request.stream is not None:
            self._switch.close_write(request.stream)
            self._switch.expire(request.stream, now)
        if response.status == autonat.DIAL_REFUSED:
            counts.refusals += 1
            tracker.refused(question, now)
        elif response.status != autonat.OK:
            counts.refusals += 1
            tracker.no_answer(question, now, unfit=True)
        elif request.proof is not None and _came_by(request.proof, question.addresses[response.position]):
            counts.proofs += 1
            tracker.reached(question, response.position, now)
        elif response.dial_status == autonat.DIAL_ERROR:
            counts.failures += 1
            tracker.failed(question, response.position, now)
        elif response.dial_status == autonat.OK:
            counts.unproven += 1
            self._switch.charge(peer.id, "autonat", _LIE, now)
            text = "autonat: it says that it has reached %s, and has not shown it"
            self._switch.note(LogLevel.INFO, peer.id, text, question.addresses[response.position])
            tracker.no_answer(question, now, unfit=True)
        else:
            counts.broken += 1
            tracker.no_answer(question, now, unfit=False)
        self._apply(now)

    def _broken(self, request: _Request, error: SidecarError, now: float) -> None:
        if self._over(request):
            self._counts.broken += 1
            unfit = isinstance(error, ProtocolError | NotSupported | DeadlineExceeded)
            self._tracker.no_answer(request.question, now, unfit=unfit)
            self._switch.note(LogLevel.DEBUG, request.peer.id, "%s", error)
            if request.stream is not None:
                self._switch.reset(request.stream)

    def _over(self, request: _Request) -> bool:
        """Whether it was under way until now."""
        if self._requests.pop(request.nonce, None) is None:
            return False
        if request.deadline is not None:
            request.deadline.cancel()
        if not any(other.peer.id == request.peer.id for other in self._requests.values()):
            self._switch.asked_back.pop(request.peer.id, None)
        return True

    @override
    def ended(self, stream: Stream, now: float) -> None:
        self._switch.close_write(stream)
        request = stream.state
        if isinstance(request, _Request) and request.response is None:
            self._broken(request, Closed("autonat: the server ended the stream without an answer"), now)

    @override
    def closed(self, stream: Stream, error: SidecarError, now: float) -> None:
        self.failed(stream.state, error, now)

    @override
    def failed(self, state: object, error: SidecarError, now: float) -> None:
        if isinstance(state, _Request) and state.response is None:
            self._broken(state, error, now)

    # ------------------------------------------------------------ being dialled back

    def prove(self, stream: Stream, nonce: int, now: float) -> None:
        """Somebody brings a nonce. Only who was given it can, and only over a connection that it had to open for it."""
        connection, request = stream.connection, self._requests.get(nonce)
        fresh = connection.direction is Direction.INBOUND
        if request is None or request.proof is not None or not fresh or connection.opened_at < request.asked_at:
            self._counts.stray_dial_backs += 1
            raise ProtocolError("autonat: a dial-back that was not asked for")
        request.proof = connection
        self._switch.write(stream, autonat.DIAL_BACK_OK)
        self._switch.close_write(stream)
        if request.response is not None:
            self._conclude(request, now)


class _DialBacks(SimpleHandler):
    """Their dial-back streams."""

    name = "autonat"

    def __init__(self, service: ReachabilityService, switch: Switch) -> None:
        self._service = service
        self._switch = switch

    @override
    def opened(self, stream: Stream, now: float) -> None:
        stream.state = FrameDecoder(autonat.MAX_DIAL_BACK)
        self._switch.expire(stream, now)

    @override
    def received(self, stream: Stream, data: bytes, now: float) -> None:
        decoder = stream.state
        assert isinstance(decoder, FrameDecoder)
        for frame in decoder.receive(data):
            self._service.prove(stream, autonat.decode_dial_back(frame), now)

    @override
    def ended(self, stream: Stream, now: float) -> None:
        self._switch.close_write(stream)


def _may_be_asked(peer: Peer) -> bool:
    """Whether a peer may be asked to dial this node back.

    Not over a relay: it may come in where a hole is being punched to it, and strangers do not. And the connection that
    comes of the hole would look like what was asked for.
    """
    return peer.ready and peer.direct is not None and peer.speaks(autonat.DIAL_REQUEST)


def _came_by(connection: PeerConnection, address: Multiaddr) -> bool:
    """Whether a connection can be one to an address of this node, by the end that is here.

    A NAT changes IP address and port on the way, never what is spoken; a proxy may take TLS off. A name says nothing of
    the version of IP.
    """
    here, there = connection.local.endpoint(), address.endpoint()
    if here is None or there is None:
        return False
    same_ip = there.kind in ("dns", here.kind, here.kind.replace("ip", "dns"))
    return same_ip and here.websocket == there.websocket and (there.tls or not here.tls)
