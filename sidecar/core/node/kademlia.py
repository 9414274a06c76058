"""Kademlia in the node: its queries get streams, its probes get pings, its answers go where they were asked for."""

from collections import deque
from collections.abc import Callable
from math import inf
from typing import Never, assert_never

from .. import events, kademlia
from ..buffer import FrameDecoder
from ..errors import Closed, InvalidArgument, ProtocolError, SidecarError, Unreachable
from ..multiaddr import Multiaddr
from ..networks import AddressKey, Grouping, Scope
from ..override import override
from ..peers import Origin
from ..types import PeerId
from ..varint import framed
from .dialling import Dialling, Found
from .ping import PingService
from .service import Follower, Service
from .switch import Peer, PeerConnection, SimpleHandler, Stream, Switch

Ended = (
    kademlia.LookupCompleted
    | kademlia.LookupFailed
    | kademlia.StoreCompleted
    | kademlia.ValueCompleted
    | kademlia.ProvidersCompleted
)
Told = Callable[[Ended | kademlia.ProvidersFound, float], None]
Walked = Callable[[kademlia.LookupCompleted | kademlia.LookupFailed, float], None]


_TURN = 16  # questions answered before others have their turn: some 2 ms
_PAUSE = 0.001  # seconds until the next of them
_MAX_WAITING = 2048  # questions on one stream: all that one read brings, and more; a guess
_WORK = 20.0  # points that a question of a peer counts: some 100 us
_REFUSED = 20.0  # points for each address in its answer that is not believed; a guess


class _Query:
    """A question of ours, on a stream of its own."""

    __slots__ = ("asked", "connection", "decoder", "repeated", "stream")

    def __init__(self, asked: kademlia.SendQuery, max_frame: int) -> None:
        self.asked = asked
        self.decoder = FrameDecoder(max_frame)
        self.connection: PeerConnection | None = None
        self.stream: Stream | None = None
        self.repeated = False

    @property
    def number(self) -> int:
        return self.asked.query

    @property
    def crossed(self) -> bool:
        """Whether the peer let go of the connection while the question, or its answer, was on the way."""
        return self.connection is not None and self.connection.ended_in_order


class KademliaService(SimpleHandler, Service[Never], Follower[events.MeshRestored]):
    """Runs the Kademlia router on the switch."""

    name = "dht"
    keeps_time = True

    def __init__(self, switch: Switch, dialling: Dialling, ping: PingService, now: float, wall_ns: int) -> None:
        config = switch.config
        epoch = wall_ns / 1e9 - now
        self.router = kademlia.KademliaRouter(config.kademlia, switch.local, rng=switch.rng, epoch=epoch)
        self._switch = switch
        self._dialling = dialling
        self._ping = ping
        self._grouping = Grouping(config.exempt_networks)
        self._protocol = config.kademlia_protocol
        self._queries: dict[int, _Query] = {}
        self._walks: dict[int, Told] = {}
        self._walk = 0
        self._requests: dict[int, Stream] = {}
        self._waiting: dict[int, deque[bytes]] = {}  # questions that came together, by their streams
        self._request = 0
        self.serve(config.dht_server)

    @property
    def serves(self) -> bool:
        """Whether this node answers the lookups of others."""
        return self._protocol in self._switch.handlers

    def serve(self, serves: bool) -> None:
        """Answer the lookups of others from now on, or only ask (specs kad-dht, "Client and server mode")."""
        if serves and not self.serves:
            self._switch.register(self._protocol, self)
        elif not serves:
            self._switch.unregister(self._protocol)

    # ------------------------------------------------------------ what others ask of us

    def find(self, peer: PeerId, then: Found, now: float) -> int:
        """Look a peer's addresses up in the DHT; `then` gets them, none where nobody knows it.

        Returns a number for `stop`.
        """

        def walked(result: kademlia.LookupCompleted | kademlia.LookupFailed, now: float) -> None:
            found = result.found if isinstance(result, kademlia.LookupCompleted) else None
            then(found or (), now)

        return self.walk(bytes(peer), peer, walked, now)

    def walk(self, key: bytes, target: PeerId | None, then: Walked, now: float) -> int:
        """Look a key up; returns a number for `stop`."""
        if not key or len(key) > self._switch.config.kademlia.max_key:
            most = self._switch.config.kademlia.max_key
            raise InvalidArgument(f"key of {len(key)} bytes, from 1 to {most}")

        def ended(result: Ended | kademlia.ProvidersFound, now: float) -> None:
            assert isinstance(result, kademlia.LookupCompleted | kademlia.LookupFailed)
            then(result, now)

        return self.ask(lambda walk: kademlia.LookupRequested(walk, key, target), ended, now)

    def ask(self, make: Callable[[int], kademlia.KademliaInput], then: Told, now: float) -> int:
        """Hand the router what `make` builds around a number; `then` is told what comes of it, the end last.

        Returns the number for `stop`; `then` is not called before that.
        """
        self._walk += 1
        self._walks[self._walk] = then
        self.put(make(self._walk))
        return self._walk

    def stop(self, walk: int, now: float) -> None:
        """It is not wanted any more."""
        if self._walks.pop(walk, None) is not None:
            self.put(kademlia.LookupCancelled(walk))

    # ------------------------------------------------------------ the router

    def put(self, arrived: kademlia.KademliaInput) -> None:
        """Hand the router an input, later in this turn."""
        self._switch.turn.put(lambda now: self._carry_out(self.router.handle(arrived, now), now))

    @override
    def followed(self, arrived: events.MeshRestored, now: float) -> None:
        self.put(kademlia.TableRestored(arrived.contacts))

    @override
    def handle_deadline(self, now: float) -> None:
        self._carry_out(self.router.handle_deadline(now), now)

    def _carry_out(self, effects: list[kademlia.KademliaEffect], now: float) -> None:
        due = self.router.next_deadline()
        self.due = inf if due is None else due
        for effect in effects:
            match effect:
                case kademlia.SendQuery():
                    self._send_query(effect, now)
                case kademlia.CancelQuery(number):
                    query = self._queries.pop(number, None)
                    if query is not None and query.stream is not None:
                        self._switch.reset(query.stream)
                case kademlia.Respond(token, frame):
                    stream = self._requests.pop(token, None)
                    if stream is not None and frame is not None:
                        self._switch.write(stream, framed(frame))
                case kademlia.RefuseRequest(token, error):
                    stream = self._requests.pop(token, None)
                    if stream is not None:
                        self._switch.note(events.LogLevel.DEBUG, stream.peer.id, "kad: %s", error)
                        self._switch.charge(stream.peer.id, "dht", _WORK, now)
                        self._waiting.pop(stream.number, None)
                        self._switch.reset(stream)
                case kademlia.Probe():
                    self._probe(effect, now)
                case kademlia.ProvidersFound(op):
                    if op in self._walks:
                        self._walks[op](effect, now)
                case (
                    kademlia.LookupCompleted()
                    | kademlia.LookupFailed()
                    | kademlia.StoreCompleted()
                    | kademlia.ValueCompleted()
                    | kademlia.ProvidersCompleted()
                ):
                    then = self._walks.pop(effect.op, None)
                    if then is not None:
                        then(effect, now)
                case kademlia.PeersNamed():
                    self._on_named(effect, now)
                case _:
                    assert_never(effect)

    def _on_named(self, named: kademlia.PeersNamed, now: float) -> None:
        switch = self._switch
        if named.refused:
            switch.charge(named.teller, "dht", _REFUSED * named.refused, now)
            switch.note(
                events.LogLevel.DEBUG,
                named.teller,
                "kad: %d of the addresses in its answer are not taken: out of its reach, or one for many peers",
                named.refused,
            )
        for peer, addresses in named.peers:
            if peer != switch.local:
                switch.book.learn(peer, addresses, origin=Origin.DHT, teller=named.teller, reach=named.reach)
        if named.peers:
            switch.emit(events.PeersLearned(named.peers, good=False))

    def _send_query(self, asked: kademlia.SendQuery, now: float) -> None:
        query = self._queries[asked.query] = _Query(asked, self._switch.config.kademlia.max_frame)
        self._reach(query, now)

    def _reach(self, query: _Query, now: float) -> None:
        def reached(peer: Peer | SidecarError, now: float) -> None:
            if self._queries.get(query.number) is not query:
                return
            if isinstance(peer, SidecarError):
                self._failed(query, peer, now)
            elif peer.limited:
                self._failed(query, Unreachable("kad: the peer is reached only through a relay with limits"), now)
            else:
                query.connection = peer.best
                self._switch.open_stream(peer.best, (self._protocol,), self, query)

        peer, addresses = query.asked.peer, query.asked.addresses
        self._dialling.reach(peer, addresses, reached, now, passing=True, origin=Origin.DHT)

    def _probe(self, asked: kademlia.Probe, now: float) -> None:
        def pinged(result: float | SidecarError, now: float) -> None:
            alive = not isinstance(result, SidecarError)
            self.put(kademlia.ProbeSucceeded(asked.peer) if alive else kademlia.ProbeFailed(asked.peer))

        def reached(peer: Peer | SidecarError, now: float) -> None:
            if isinstance(peer, SidecarError):
                pinged(peer, now)
            elif peer.limited:
                pinged(Unreachable("kad: the peer is reached only through a relay with limits"), now)
            else:
                self._ping.ping(peer.best, now, pinged)

        self._dialling.reach(asked.peer, asked.addresses, reached, now, passing=True, origin=Origin.DHT)

    def _failed(self, query: _Query, error: SidecarError, now: float) -> None:
        if query.crossed and not query.repeated and query.number in self._queries:
            # It lets go of connections that seem to be needed no more, and could not know. Asked later in this turn,
            # when the connection is gone from the table.
            query.repeated, query.connection, query.stream = True, None, None
            query.decoder = FrameDecoder(self._switch.config.kademlia.max_frame)
            self._switch.turn.put(lambda now: self._reach(query, now))
        elif self._queries.pop(query.number, None) is not None:
            self.put(kademlia.QueryFailed(query.number, error))

    # ------------------------------------------------------------ streams

    @override
    def opened(self, stream: Stream, now: float) -> None:
        query = stream.state
        if isinstance(query, _Query):
            if query.number not in self._queries:
                self._switch.reset(stream)
                return
            query.stream = stream
            self._switch.write(stream, framed(query.asked.frame))
            if not query.asked.answered:  # the peer ends its side in order when it has taken the message
                self._switch.close_write(stream)
                self._switch.expire(stream, now)
        else:
            stream.state = FrameDecoder(self._switch.config.kademlia.max_frame)
            self._switch.expire(stream, now)

    @override
    def received(self, stream: Stream, data: bytes, now: float) -> None:
        state = stream.state
        if isinstance(state, _Query):
            frames = state.decoder.receive(data)
            if frames and self._queries.pop(state.number, None) is not None:
                self._switch.close_write(stream)
                self._switch.expire(stream, now)
                remote = stream.connection.remote
                self.put(
                    kademlia.QueryAnswered(state.number, frames[0], Scope.of_teller(remote), self._network(remote))
                )
        elif isinstance(state, FrameDecoder):
            frames = state.receive(data)
            waiting = self._waiting.get(stream.number)
            if waiting is not None:
                waiting += frames
            elif frames:
                self._waiting[stream.number] = deque(frames)
                self._switch.turn.put(lambda now: self._go_on(stream, now))
            if len(self._waiting.get(stream.number, ())) > _MAX_WAITING:
                raise ProtocolError(f"kad: more than {_MAX_WAITING} questions at once on one stream")

    def _answer_some(self, stream: Stream, now: float) -> None:
        """Answer as many questions of a stream as one turn may; the others' turn comes before the rest."""
        waiting = self._waiting[stream.number]
        for _ in range(min(_TURN, len(waiting))):
            if stream.number not in self._waiting:  # reset for what it asked
                return
            if len(stream.out) > self._switch.config.kademlia.max_frame:
                raise ProtocolError("kad: questions without reading the answers")
            self._switch.charge(stream.peer.id, "dht", _WORK, now, needless=False)
            self._request += 1
            self._requests[self._request] = stream
            remote = stream.connection.remote
            asked = kademlia.RequestReceived(
                self._request, stream.peer.id, waiting.popleft(), Scope.of_teller(remote), self._network(remote)
            )
            self._carry_out(self.router.handle(asked, now), now)
        if stream.number not in self._waiting:
            return
        self._switch.expire(stream, now)
        if not waiting:
            del self._waiting[stream.number]
            if stream.read_ended:
                self._switch.close_write(stream)
        else:
            self._switch.deadlines.at(now + _PAUSE, lambda now: self._go_on(stream, now))

    def _go_on(self, stream: Stream, now: float) -> None:
        if stream.number in self._waiting:
            self._switch.guarded(stream, lambda: self._answer_some(stream, now), now)

    @override
    def ended(self, stream: Stream, now: float) -> None:
        if stream.number in self._waiting:
            return  # it ends once they are answered
        state = stream.state
        if isinstance(state, _Query) and not state.asked.answered:
            if self._queries.pop(state.number, None) is not None:
                self.put(kademlia.QueryAnswered(state.number, b""))
        elif isinstance(state, _Query):
            self._failed(state, Closed("kad: the peer ended the stream without an answer"), now)
        self._switch.close_write(stream)

    @override
    def closed(self, stream: Stream, error: SidecarError, now: float) -> None:
        self._waiting.pop(stream.number, None)
        if isinstance(stream.state, _Query):
            self._failed(stream.state, error, now)

    @override
    def failed(self, state: object, error: SidecarError, now: float) -> None:
        if isinstance(state, _Query):
            self._failed(state, error, now)

    # ------------------------------------------------------------ peers

    @override
    def peer_ready(self, peer: Peer, now: float) -> None:
        addresses, network = self._switch.book.addresses(peer.id), self._network(peer.best.remote)
        serves = peer.speaks(self._protocol) and not peer.limited
        self.put(kademlia.PeerIdentified(peer.id, addresses, serves, network))

    def _network(self, remote: Multiaddr) -> AddressKey | None:
        group = self._grouping.of(remote)
        return None if group is None else group.network

    peer_updated = peer_ready

    @override
    def peer_gone(self, peer: Peer, now: float) -> None:
        self.put(kademlia.PeerDisconnected(peer.id))
