"""Gossip in the node: one stream each way for every peer of the network that speaks it."""

from collections import Counter
from collections.abc import Callable
from itertools import compress
from typing import assert_never

from .. import gossip
from ..buffer import Buffers, FrameDecoder
from ..errors import InvalidArgument, NotSupported, ProtocolError, ResourceExhausted, SidecarError, StreamReset
from ..events import LogLevel, PeerChange, PeerChanged, Standing
from ..identity import Identity
from ..networks import Scope
from ..override import override
from ..peers import Origin
from ..types import Direction, PeerId
from .dialling import Dialling
from .identify import IdentifyService
from .service import Service
from .statistics import GossipQueueStatistics
from .switch import Peer, Stream, StreamHandler, Switch
from .workload import Workload

_MAX_SKIPPED = 64 << 20  # bytes of an RPC that is passed over: the largest `gossip.max_message`
_SKIPPING = 1 / 2048  # points of work for each of its bytes; a guess: as decrypting them costs
_PREFIX = 5  # bytes of an RPC's length, at most
_ALWAYS_READ = 65_536  # bytes of a frame that all implementations read
_SUSPICION = 10.0  # seconds after a large RPC in which a reset of the stream is taken for its refusal; a guess
_REOPEN_FIRST, _REOPEN_LAST = 1.0, 60.0  # seconds until a lost stream is opened anew, doubling; a guess
_HEALTHY = 60.0  # seconds; a stream that lived so long was well, and its loss is the first


Marked = Callable[[gossip.GossipMessage, float], None]
KeptNews = gossip.HistoryJudged | gossip.TopicPeerChanged
"""What a service that brings history is told."""
PublishedHere = Callable[[gossip.PublishCompleted, float], None]


class _Inbound(FrameDecoder):
    """What comes on a stream of theirs."""

    __slots__ = ("begun",)

    def __init__(self, max_frame: int, max_skipped: int) -> None:
        super().__init__(max_frame, max_skipped)
        self.begun = False  # an RPC has come


class _Member:
    """A gossip peer: the stream that we write on, and what came before it was identified."""

    __slots__ = (
        "added",
        "early",
        "early_bytes",
        "large",
        "large_at",
        "opened_at",
        "opening",
        "out",
        "pending",
        "refused",
        "tries",
    )

    def __init__(self) -> None:
        self.out: Stream | None = None
        self.opened_at = 0.0
        self.opening = False
        self.added = False
        self.tries = 0
        self.early: list[bytes] = []
        self.early_bytes = 0
        self.pending: list[bytes] = []  # frames of this turn
        self.large = 0  # bytes of the largest RPC sent of late that other nodes may refuse
        self.large_at = 0.0
        self.refused = 0  # bytes of the smallest RPC upon which it reset our stream; 0: none


class GossipService(Service[gossip.AppInput | gossip.SignaturesChecked], StreamHandler):
    """Runs the gossip router on the switch. Frames of one turn reach the router together."""

    name = "gossip"
    lasting = False
    keeps_time = True

    def __init__(
        self,
        switch: Switch,
        dialling: Dialling,
        identify: IdentifyService,
        workload: Workload,
        identity: Identity,
        now: float,
        sequence: int,
        verify: gossip.Verify,
    ) -> None:
        self._switch = switch
        self._dialling = dialling
        self._identify = identify
        self._workload = workload
        self.router = gossip.GossipRouter(
            switch.config.gossip,
            identity,
            now=now,
            sequence=sequence,
            rng=switch.rng,
            signed_record=identify.signed_record,
            exempt=dialling.protects,
            verify=verify,
            rules=switch.config.rules,
        )
        self.due = self.router.next_deadline()
        self._now = now  # of the last turn; heartbeats keep it to the second
        self._too_large = 0  # RPCs passed over
        self._mark: bytes | None = None
        self._marked: Marked = lambda message, now: None
        self._own: dict[int, PublishedHere] = {}  # publications of other services, by operation
        self._on_kept: Callable[[KeptNews, float], None] = lambda news, now: None
        self._members: dict[PeerId, _Member] = {}
        self._fresh: dict[PeerId, _Member] = {}  # members with pending frames
        for protocol in gossip.PROTOCOLS:
            switch.register(protocol, self)

    # ------------------------------------------------------------ the router

    @override
    def handle(self, arrived: gossip.GossipInput, now: float) -> None:
        """Beside what the inputs say, a payload that begins with the mark of `intercept` is an InvalidArgument."""
        self._now = now
        if type(arrived) is gossip.Published and self._mark is not None and arrived.op not in self._own:
            for payload in arrived.messages:
                if payload.startswith(self._mark):
                    raise InvalidArgument(f"a payload begins with {self._mark!r}, which marks the messages of probes")
        self._carry_out(self.router.handle(arrived, now), now)

    def intercept(self, mark: bytes, marked: Marked) -> None:
        """Hand over delivered messages whose payload begins with `mark`; apps neither get nor publish such."""
        self._mark, self._marked = mark, marked
        self.router.exempt_payloads(mark)

    def publish(self, published: gossip.Published, then: PublishedHere) -> None:
        """Publish for another service, later in this turn."""
        self._own[published.op] = then
        self._put(published)

    def follow_kept(self, told: Callable[[KeptNews, float], None]) -> None:
        """Hear of peers that come into topics that are kept, or leave these, and of what became of `bring`."""
        self._on_kept = told

    def bring(self, brought: gossip.HistoryBrought) -> None:
        """Have messages judged and delivered that a peer had stored, later in this turn."""
        self._put(brought)

    def _put(self, arrived: gossip.GossipInput) -> None:
        """Hand the router an input, later in this turn."""
        self._switch.turn.put(lambda now: self.handle(arrived, now))

    @override
    def handle_deadline(self, now: float) -> None:
        self._now = now
        self._carry_out(self.router.handle_deadline(now), now)

    def _gather(self, peer: PeerId, member: _Member, frames: list[bytes]) -> None:
        """Frames of this turn reach the router together, at its end."""
        if not self._fresh:
            self._switch.turn.put(self._flush)
        member.pending += frames
        self._fresh[peer] = member

    def _flush(self, now: float) -> None:
        while self._fresh:
            peer, member = self._fresh.popitem()
            frames, member.pending = member.pending, []
            self.handle(gossip.RpcsReceived(peer, frames), now)

    def _carry_out(self, effects: list[gossip.GossipEffect], now: float) -> None:
        self.due = self.router.next_deadline()
        for peer, points in self.router.take_charges().items():
            self._workload.charge(peer, "gossip", points, now)
        for effect in effects:
            match effect:
                case gossip.PeerWoken(peer):
                    member = self._members.get(peer)
                    if member is not None and member.out is not None:
                        self._switch.wake(member.out)
                case gossip.PeersOffered():
                    self._on_offered(effect, now)
                case gossip.PeerBacklogged(peer, backlogged):
                    self._workload.hold(peer, backlogged, now)
                case gossip.StandingChanged():
                    self._on_standing(effect, now)
                case gossip.TopicScored(topic, parameters):
                    text = "gossip: peers of topic %r are scored by its expected rate: %s"
                    self._switch.note(LogLevel.INFO, None, text, topic, parameters.described())
                case gossip.PeerViolated(peer, error):
                    self._switch.note(LogLevel.WARNING, peer, "gossip: %s", error)
                    self._drop(peer, now)
                case gossip.MessagesDelivered():
                    self._deliver(effect, now)
                case gossip.CheckSignatures() | gossip.MessagesToJudge() | gossip.HistoryRepeated():
                    self._switch.emit(effect)
                case gossip.HistoryJudged() | gossip.TopicPeerChanged():
                    self._on_kept(effect, now)
                case gossip.PublishCompleted(op):
                    then = self._own.pop(op, None)
                    if then is None:
                        self._switch.emit(effect)
                    else:
                        then(effect, now)
                case _:
                    assert_never(effect)

    def _on_standing(self, changed: gossip.StandingChanged, now: float) -> None:
        """A peer's score has passed a threshold; one that has fallen too low is sent away."""
        peer = changed.peer
        worse = changed.standing in (Standing.NO_PUBLISH, Standing.GRAYLISTED)
        self._switch.note(
            LogLevel.WARNING if worse else LogLevel.INFO,
            peer,
            "gossip: score %.4g: %s%s",
            changed.score,
            changed.standing.value,
            f": {changed.reason}" if changed.reason else "",
        )
        if peer in self._switch.peers:
            self._switch.emit(PeerChanged(PeerChange.SCORED, self._dialling.view(peer)))
        if changed.outcast:
            self._workload.send_away(peer, f"score {changed.score:.4g}: {changed.reason}", now)

    def _deliver(self, delivered: gossip.MessagesDelivered, now: float) -> None:
        mark = self._mark
        if mark is not None and _any_begins(delivered.messages, mark):  # none is in a bundle, or of history
            others = [not message.data.startswith(mark) for message in delivered.messages]
            for message, other in zip(delivered.messages, others, strict=True):
                if not other:
                    self._marked(message, now)
            if not any(others):
                return
            rest, raws = list(compress(delivered.messages, others)), list(compress(delivered.raws, others))
            delivered = delivered._replace(messages=rest, raws=raws)
        self._switch.emit(delivered)

    def _on_offered(self, offered: gossip.PeersOffered, now: float) -> None:
        """Peer exchange: only addresses that the peer has signed are dialled (gossipsub 1.1, PX).

        Without a record there is only an id, for the DHT to find. No more are sought than the node wants peers.
        """
        pruned_by = self._switch.peers.get(offered.peer)
        teller = Scope.of_teller(pruned_by.best.remote) if pruned_by is not None else Scope.PUBLIC
        for peer, record in offered.peers:
            if self._dialling.missing() <= 0:
                return
            if peer in self._switch.peers or peer == self._switch.local:
                continue
            try:
                signed = self._identify.open_record(record, peer).addresses if record else ()
            except ProtocolError as error:
                self._switch.note(LogLevel.DEBUG, peer, "gossip: %s", error)
                continue
            addresses = tuple(address for address in signed if Scope.of(address) >= teller)
            self._switch.book.learn(peer, addresses, origin=Origin.EXCHANGE, teller=offered.peer, reach=teller)
            self._dialling.reach(peer, (), lambda result, now: None, now, search=not addresses)

    # ------------------------------------------------------------ streams

    @override
    def opened(self, stream: Stream, now: float) -> None:
        peer = stream.peer
        member = self._members.setdefault(peer.id, _Member())
        if stream.state is None:  # theirs: they write, we read
            stream.state = _Inbound(self._switch.config.gossip.max_rpc, _MAX_SKIPPED)
            return
        member.opening = False
        if not peer.ready:
            self._switch.reset(stream)
            return
        old, member.out = member.out, stream
        if old is None:
            member.opened_at = now
        if old is not None:  # it ends after the frame that it is in the middle of
            self._switch.close_write(old)
            self._put(gossip.PeerMoved(peer.id))
        if not member.added:
            member.added = True
            outbound = stream.connection.direction is Direction.OUTBOUND
            limit, dial_only, hosts = _limit(peer, member), _dial_only(peer), _hosts(peer)
            self._put(gossip.PeerAdded(peer.id, stream.protocol, outbound, limit, dial_only, hosts))
            if member.early:
                early, member.early, member.early_bytes = member.early, [], 0
                self._gather(peer.id, member, early)
        self._switch.wake(stream)

    @override
    def failed(self, state: object, error: SidecarError, now: float) -> None:
        if isinstance(state, Peer):
            member = self._members.get(state.id)
            if member is not None:
                member.opening = False
                if not isinstance(error, NotSupported):
                    self._reopen_later(state, member, now)

    @override
    def received(self, stream: Stream, data: bytes, now: float) -> None:
        if not isinstance(stream.state, _Inbound):
            return  # go- and rust-libp2p write nothing here; what others write has no meaning
        decoder = stream.state
        frames = decoder.receive(data)
        if frames and not decoder.begun:
            decoder.begun = True
            frames[0] = gossip.FirstRpc(frames[0])
        if decoder.skipped:
            self._skipped(stream, decoder, now)
        if not frames:
            return
        member = self._members.get(stream.peer.id)
        if member is None:
            return
        if member.added:
            self._gather(stream.peer.id, member, frames)
            return
        member.early += frames
        member.early_bytes += sum(map(len, frames)) + 64 * len(frames)
        if member.early_bytes > self._switch.config.max_early_bytes:
            raise ResourceExhausted(f"gossip: {member.early_bytes} bytes before identify")

    def _skipped(self, stream: Stream, decoder: FrameDecoder, now: float) -> None:
        """Count RPCs that are too large. They end nothing: what the peer says beside them is as good as before."""
        count, size = decoder.skipped, decoder.skipped_bytes
        decoder.skipped = decoder.skipped_bytes = 0
        self._too_large += count
        self._switch.charge(stream.peer.id, "gossip", count + size * _SKIPPING, now)
        self._switch.note(
            LogLevel.WARNING,
            stream.peer.id,
            "gossip: passed over an RPC of %d bytes, at most %d are read (gossip.max_message)",
            size // count,
            decoder.max_frame,
        )

    @override
    def ended(self, stream: Stream, now: float) -> None:
        if isinstance(stream.state, _Inbound):
            self._switch.close_write(stream)

    @override
    def closed(self, stream: Stream, error: SidecarError, now: float) -> None:
        member = self._members.get(stream.peer.id)
        if member is not None and member.out is stream:
            member.out = None
            self._suspect(stream, member, error, now)
            if now - member.opened_at >= _HEALTHY:
                member.tries = 0
            self._removed(stream.peer.id, member)
            self._reset_theirs(stream.peer)
            self._reopen_later(stream.peer, member, now)

    def _suspect(self, stream: Stream, member: _Member, error: SidecarError, now: float) -> None:
        """Remember the size of a large RPC upon which a peer reset the stream, as long as it is connected.

        go- and rust-libp2p reset a stream that brings more than they read, and say no more. All topics to the peer are
        silent then until the stream is opened anew, so that it must not happen again with each large message.
        """
        if not isinstance(error, StreamReset) or not member.large or now - member.large_at > _SUSPICION:
            return
        if not member.refused or member.large < member.refused:
            member.refused = member.large
            self._switch.note(
                LogLevel.WARNING,
                stream.peer.id,
                "gossip: the peer reset the stream upon an RPC of %d bytes: no more of that size are sent to it",
                member.large,
            )
        member.large = 0

    @override
    def take(self, stream: Stream, limit: int) -> Buffers:
        out = stream.out
        if not out:
            member = self._members.get(stream.peer.id)
            if member is None or member.out is not stream:
                return ()
            relieved = self.router.relieved
            for frame in self.router.take(stream.peer.id, limit):
                out.push(frame)
                if len(frame) > _ALWAYS_READ:
                    recent = self._now - member.large_at <= _SUSPICION
                    member.large = max(member.large if recent else 0, len(frame) - _PREFIX)
                    member.large_at = self._now
            if self.router.relieved and not relieved:
                self._switch.turn.put(self._resume)
        return out.take(limit)

    @override
    def waits(self, stream: Stream) -> bool:
        if stream.out:
            return True
        member = self._members.get(stream.peer.id)
        return member is not None and member.out is stream and self.router.waits(stream.peer.id)

    def _resume(self, now: float) -> None:
        """Publishers that wait for room can go on."""
        self._now = now
        self._carry_out(self.router.resume(now), now)

    # ------------------------------------------------------------ peers

    @override
    def peer_ready(self, peer: Peer, now: float) -> None:
        if peer.speaks(*gossip.PROTOCOLS) and not peer.limited:
            self._open(peer, self._members.setdefault(peer.id, _Member()))

    def peer_updated(self, peer: Peer, now: float) -> None:
        """Another connection may be the best one now: the stream moves there."""
        if peer.limited:  # the direct one is lost
            self.peer_gone(peer, now)
            return
        member = self._members.get(peer.id)
        if member is not None and member.added:
            self._put(gossip.PeerDescribed(peer.id, _dial_only(peer), _hosts(peer)))
        if member is None or member.out is None or member.out.connection is not peer.best:
            self.peer_ready(peer, now)

    @override
    def peer_gone(self, peer: Peer, now: float) -> None:
        member = self._members.pop(peer.id, None)
        if member is not None:
            self._fresh.pop(peer.id, None)
            self._removed(peer.id, member)

    @override
    def peer_lost(self, peer: Peer, now: float) -> None:
        self._members.pop(peer.id, None)
        self._fresh.pop(peer.id, None)

    @property
    def peers(self) -> int:
        """How many gossip with this node."""
        return sum(member.added for member in self._members.values())

    def memberships(self) -> tuple[dict[PeerId, int], dict[PeerId, int]]:
        """In how many meshes of joined topics each peer is, and how many joined topics it shares."""
        in_mesh: Counter[PeerId] = Counter()
        shared: Counter[PeerId] = Counter()
        for topic in self.router.topics():
            if topic.joined:
                in_mesh.update(topic.mesh)
                shared.update(topic.peers)
        return in_mesh, shared

    def statistics(self) -> tuple[gossip.GossipStatistics, GossipQueueStatistics]:
        """The router's counters, with what did not even reach it; and what waits for peers."""
        counts, queued = self.router.statistics(), self.router.queued()
        pending, judged = self.router.pending(), self.router.judged()
        counts.rejected["too_large"] += self._too_large
        return counts, GossipQueueStatistics(
            peers=self.peers,
            standings={standing.name.lower(): count for standing, count in self.router.standings().items()},
            queued_messages=sum(size.messages for size in queued),
            queued_bytes=sum(size.bytes for size in queued),
            fullest_queue_bytes=max((size.bytes for size in queued), default=0),
            pending_messages=pending.messages,
            pending_bytes=pending.bytes,
            judged_messages=judged.messages,
            judged_bytes=judged.bytes,
        )

    def _open(self, peer: Peer, member: _Member) -> None:
        if not member.opening:
            member.opening = True
            # Those that it speaks: each that it does not would cost a round trip.
            spoken = tuple(protocol for protocol in gossip.PROTOCOLS if peer.speaks(protocol))
            self._switch.open_stream(peer.best, spoken or gossip.PROTOCOLS, self, peer)

    def _reopen_later(self, peer: Peer, member: _Member, now: float) -> None:
        if not peer.connections or not peer.ready:
            return
        pause = min(_REOPEN_LAST, _REOPEN_FIRST * 2**member.tries)
        member.tries = min(member.tries + 1, 8)

        def again(now: float) -> None:
            if self._members.get(peer.id) is member and member.out is None and peer.connections and not peer.limited:
                self._open(peer, member)

        self._switch.deadlines.at(now + pause, again)

    def _reset_theirs(self, peer: Peer) -> None:
        """With our stream the router forgot the peer's topics; a new stream of theirs tells them again."""
        for connection in peer.connections:
            for stream in list(connection.streams.values()):
                if stream.handler is self and isinstance(stream.state, _Inbound):
                    self._switch.reset(stream)

    def _removed(self, peer: PeerId, member: _Member) -> None:
        member.pending.clear()
        if member.added:
            member.added = False
            self._put(gossip.PeerRemoved(peer))

    def _drop(self, peer_id: PeerId, now: float) -> None:
        """End gossip with a peer that broke its rules; its connection with it."""
        peer = self._switch.peers.get(peer_id)
        if peer is not None:
            self._switch.disconnect(peer, ProtocolError("gossip: the peer broke the protocol"))


def _limit(peer: Peer, member: _Member) -> int:
    """Bytes of the largest RPC that a peer reads: as it says itself, and as it has shown; 0 where nobody knows."""
    told = peer.info.gossip_max_rpc if peer.info is not None else None
    shown = max(_ALWAYS_READ, member.refused - 1) if member.refused else None
    return min((limit for limit in (told, shown) if limit), default=0)


def _hosts(peer: Peer) -> tuple[str, ...]:
    """The IP addresses that a peer is connected with; who comes through a relay has none here."""
    remotes = (connection.remote for connection in peer.connections)
    hosts = (remote.ip for remote in remotes if not remote.is_relayed)
    return tuple(dict.fromkeys(host for host in hosts if host is not None))


def _dial_only(peer: Peer) -> bool:
    """Whether a peer says of itself that nobody can dial it. Addresses through relays do not count: we dial none."""
    info = peer.info
    return info is not None and all(address.value("p2p-circuit") is not None for address in info.listen_addresses)


def _any_begins(messages: list[gossip.GossipMessage], mark: bytes) -> bool:
    """Whether a payload begins with the mark. All that is delivered passes here: a loop takes half of `any`'s time."""
    for message in messages:  # noqa: SIM110
        if message.data.startswith(mark):
            return True
    return False
