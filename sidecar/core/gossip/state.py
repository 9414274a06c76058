"""What the parts of the router share: peers, topics, caches, counters, and the effects of the turn."""

import random
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from hashlib import sha256
from typing import TypeVar, cast

from ..errors import InvalidArgument, QueueFull, SidecarError, TooLarge
from ..events import Standing
from ..identity import Identity
from ..parameters.bundles import Bundling, bundling_of
from ..parameters.gossip import EXCHANGE_PROTOCOLS, IDONTWANT_PROTOCOLS, GossipConfig
from ..parameters.rules import TopicRule
from ..types import PeerId
from .cache import Mark, MessageCache, SeenCache
from .events import (
    CheckSignatures,
    GossipEffect,
    GossipMessage,
    GossipStatistics,
    MessagesDelivered,
    PeerBacklogged,
    PeerViolated,
    PeerWoken,
    StandingChanged,
    TopicCounts,
    TopicOptions,
)
from .fair import FairBacklog
from .judging import Rules
from .messages import BundleBytes, RpcChunk, SignedLayout, UnsignedLayout, build_chunks, max_payload, split_chunk
from .pacing import FloodRecord, Load, Pacing
from .propagation import Propagation
from .queue import PeerQueue
from .replay import ReplayGuard
from .rules import RuleBook
from .score import PeerScores, ScoredPeer
from .signing import SignatureCheck
from .smoothed import Smoothed

_Entry = TypeVar("_Entry")
_Columns = tuple[bytes, str, PeerId | None, int | None, bytes, PeerId, bool]
# A named tuple made without a Python frame for each: `map` over `zip` stays in C.
make_message = cast(Callable[[_Columns], GossipMessage], partial(tuple.__new__, GossipMessage))


# What is charged, in points of some 5 us: rounded from what `make bench-points` measures.
ENTRY = 1.0  # a control entry, a subscription, an RPC without messages
FRUITLESS = 2.5  # an RPC whose IHAVE, IWANT or IDONTWANT is beyond a bound or leads to nothing
PASSED_OVER = 0.1  # an entry beyond a bound, which was parsed for nothing; a message for a topic not joined
IDENTIFIER = 0.005  # a message id in such an entry
FORGED = (
    100.0  # a message that its author did not sign, or whose key is not the author's: ten times what the check costs
)
MALFORMED = 50.0  # an RPC or message that is none; ten times and more of what it costs: nobody sends these for long
# What a rejected message is charged; else `ENTRY`.
_REJECTED = {"malformed": MALFORMED, "signature": FORGED, "key": FORGED, "bundle": FORGED}


def unsigned_ids(datas: Iterable[bytes]) -> list[bytes]:
    """The ids of unsigned messages: SHA-256 of the data."""
    # Not for security, says the flag, only to skip a look-up of policies that costs as much as the hash.
    return [sha256(data, usedforsecurity=False).digest() for data in datas]


NO_FRAMES: deque[bytes] = deque(maxlen=0)  # of all peers without a backlog: a deque of its own takes 760 bytes


class GossipPeer:
    """A gossip peer: what it announced, what waits for it, what it used up since the last heartbeat."""

    __slots__ = (
        "answer",
        "answered",
        "awaited",
        "backlog",
        "backlog_bytes",
        "backlogged",
        "barred",
        "begun",
        "bundles",
        "dial_only",
        "firsts",
        "flood",
        "forged",
        "gives",
        "heeds_age",
        "held",
        "id",
        "idontwants",
        "ids_asked",
        "ids_served",
        "ihaves",
        "knows_idontwant",
        "lacking_until",
        "lag",
        "lazy",
        "lead",
        "left",
        "load",
        "lost",
        "max_rpc",
        "named",
        "names",
        "outbound",
        "patience",
        "pending_bytes",
        "promised",
        "protocol",
        "proven",
        "queue",
        "record",
        "refusals",
        "step",
        "takes_part",
        "topics",
        "unwanted",
        "violated",
    )

    def __init__(
        self,
        record: ScoredPeer,
        protocol: str,
        outbound: bool,
        config: GossipConfig,
        max_rpc: int | None = None,
        *,
        dial_only: bool = False,
    ) -> None:
        self.id = record.peer
        self.record = record  # what is thought of it
        self.max_rpc = max_rpc  # bytes of the largest RPC that it reads, where that is less than ours
        self.protocol = protocol
        self.outbound = outbound
        self.dial_only = dial_only
        self.firsts = 0  # messages that it brought before anybody else
        self.gives = False  # it brought or named messages, since it was last turned away from a mesh
        self.takes_part = False  # it did, or asked for some
        self.patience = 1  # for how long it may show nothing: see `trials.py`
        self.heeds_age = False  # it gossips to us of nothing from before we joined the topic
        self.queue = PeerQueue(config, max_rpc)
        self.topics: dict[str, Topic] = {}
        self.left: dict[str, None] = {}  # topics whose link ended with its subscription; PRUNE may follow
        # By topic, from when until when a GRAFT in the back-off is its own fault: see `Mesh._is_to_blame`.
        self.barred: dict[str, tuple[float, float]] = {}
        self.lost = 0  # messages that its full queue had lost at the last heartbeat
        self.ihaves = 0  # RPCs with IHAVE
        self.ids_asked = 0  # by us, of its IHAVE
        self.ids_served = 0  # looked up for its IWANT
        self.named = 0  # ids told it by IHAVE for the first time, of late
        self.answered = 0  # messages sent on its IWANT, of late
        self.lacking_until = 0  # heartbeat until which it is taken for one that gets too little by its own mesh
        self.held = 0  # batches that wait for it on a link that mostly brings it what it has
        self.lag = Smoothed()  # from the coming of a message here until it shows that it has it from elsewhere
        self.lazy = False  # it knows lazy links: see `spare.py`
        self.bundles = False  # it knows bundles: see `bundles.py`
        self.names = 0  # ids that it named on one since the last heartbeat
        self.awaited = 0  # messages that it named before others did, and that have not come
        self.lead = Smoothed()  # from its naming a message until that comes from elsewhere
        self.answer = Smoothed()  # from asking it for a message that it named until that comes
        self.promised: dict[bytes, float] = {}  # messages that it named and was asked for, and until when
        self.idontwants = 0  # RPCs with IDONTWANT
        self.unwanted: dict[bytes, int] = {}  # ids that it told us not to send, with the heartbeat that ends each
        self.knows_idontwant = protocol in IDONTWANT_PROTOCOLS
        self.refusals = 0  # of its GRAFTs
        self.backlog: deque[bytes] | FairBacklog = NO_FRAMES  # RPCs that wait for its turn
        self.backlog_bytes = 0
        self.backlogged = False  # more of them than may
        self.step: Iterator[float] | None = None  # the rest of an RPC that takes more than one turn; yields its work
        self.pending_bytes = 0  # of messages whose signatures are not checked yet
        self.load = Load()  # what of it was served of late
        self.flood: FloodRecord | None = None  # since it was heavy first
        self.forged = 0  # messages with invalid signatures that it sent, of late
        self.proven = False  # it has brought a message that was new and valid
        self.violated = False
        self.begun = False  # an RPC of it has come

    @property
    def knows_backoff(self) -> bool:
        """Whether it reads peer exchange and back-off in PRUNE (gossipsub 1.1)."""
        return self.protocol in EXCHANGE_PROTOCOLS


Needs = dict[PeerId, tuple[float, float]]
"""By author or source: how many messages were news to a mesh peer, and of how many; both wear off."""


class Awaited:
    """A message that was named and has not come."""

    __slots__ = ("asked", "asked_at", "at", "exhausted", "peers")

    def __init__(self, at: float, peer: GossipPeer) -> None:
        self.at = at
        self.peers = [peer]  # that have named it, in this order
        self.asked = 0  # of them
        self.asked_at = 0.0
        self.exhausted = False  # all were asked, and had their time to answer


class Silence:
    """A mesh peer shows nothing in a topic: neither messages, nor ids, nor that it wants any."""

    __slots__ = ("beats", "failed", "since", "tried")

    def __init__(self, since: int) -> None:
        self.since = since  # messages that had come in the topic
        self.beats = 0  # heartbeats in which messages came since
        self.tried = False  # one is named to it
        self.failed = 0  # of these, not asked for


class Topic:
    """A topic that is joined, announced by a peer, or published on."""

    __slots__ = (
        "_max_payloads",
        "authors",
        "awaited",
        "backoff",
        "begins",
        "bundling",
        "came",
        "counts",
        "dependents",
        "fanout",
        "flooded",
        "flooded_last",
        "joined",
        "joined_at",
        "judged",
        "last_published",
        "looked_at",
        "mesh",
        "name",
        "needs",
        "newcomers",
        "options",
        "peers",
        "resting",
        "routes",
        "rules",
        "signed",
        "silent",
        "takers",
        "taking",
        "told",
        "tried",
        "turned_away",
        "unsigned",
        "wire",
    )

    def __init__(self, name: str, wire: bytes, sender: PeerId, max_rpc: int) -> None:
        self.name = name
        self.wire = wire
        self.joined = False
        self.joined_at = 0.0
        self.judged = False  # mesh peers are expected to bring messages: copies of them count
        self.options = TopicOptions()
        self.peers: dict[PeerId, GossipPeer] = {}  # that announced it
        self.mesh: dict[PeerId, GossipPeer] = {}  # a subset of `peers`; empty unless joined
        self.dependents: dict[PeerId, GossipPeer] = {}  # a subset of `mesh`, beside the degrees
        # A part of `peers`: pruned since the mesh was too large, with how many messages had come by then.
        self.turned_away: dict[PeerId, int] = {}
        self.silent: dict[PeerId, Silence] = {}  # a part of `mesh`: those that have shown nothing since a heartbeat
        self.tried: dict[PeerId, Silence] = {}  # a part of `silent`: for long, so that messages are named to them
        self.taking: dict[PeerId, Silence] = {}  # a part of `mesh`: nothing given since: see `takers.py`
        self.takers: dict[PeerId, GossipPeer] = {}  # a part of `taking`: for long
        self.looked_at = 0  # messages that had come when silent peers were last looked for
        self.newcomers: dict[PeerId, GossipPeer] = {}  # the part of `peers` that came since the last heartbeat
        self.begins: dict[PeerId, Mark] = {}  # of those that came lately: the first message that they want to hear of
        self.told: dict[PeerId, int] = {}  # the heartbeat at which a peer outside the mesh was gossiped to
        self.fanout: dict[PeerId, GossipPeer] = {}  # a subset of `peers`; empty when joined
        # By mesh peer, and by the peer that messages came from, or by their author. See `spare.py`.
        self.needs: dict[PeerId, Needs] = {}
        self.authors: dict[PeerId, Needs] = {}
        self.routes: dict[tuple[PeerId, PeerId | None], tuple[GossipPeer, ...]] = {}  # what follows from both
        self.awaited: dict[bytes, Awaited] = {}  # named by mesh peers, and not come
        self.flooded: list[GossipPeer] | None = None  # who gets what is published; None: to be chosen anew
        self.flooded_last: dict[PeerId, None] = {}  # who got it when they were last chosen
        self.last_published = 0.0
        self.backoff: dict[PeerId, float] = {}  # until when neither side grafts
        self.resting: dict[PeerId, float] = {}  # until when we do not graft, though the peer may
        self.counts = TopicCounts()
        self.came = 0  # messages, each bundle for one: what links and peers are judged by, which know no others
        self.bundling = Bundling.OFF  # whether messages published together travel as one, where nobody says more
        self.rules: Rules | None = None  # what judges its messages within the turn: those of `RuleBook` for its name
        self.signed = SignedLayout(sender, wire)
        self.unsigned = UnsignedLayout(wire)
        self._max_payloads = (
            max_payload(self.unsigned.envelope, max_rpc),
            max_payload(self.signed.envelope, max_rpc),
        )

    def max_payload(self, sign: bool) -> int:
        """The largest data that fits an RPC of `max_rpc` bytes."""
        return self._max_payloads[sign]

    @property
    def regular(self) -> int:
        """Mesh links that the degrees speak of."""
        return len(self.mesh) - len(self.dependents)

    def regulars(self) -> Iterator[tuple[PeerId, GossipPeer]]:
        """The mesh without the dependents."""
        return ((identifier, peer) for identifier, peer in self.mesh.items() if identifier not in self.dependents)

    def unlink(self, peer: PeerId, scores: PeerScores) -> None:
        """Take a peer out of the mesh, without a word to it."""
        linked = self.mesh.pop(peer, None)
        if linked is not None:
            scores.pruned(linked.record, self.name)
        self.dependents.pop(peer, None)
        self.speaks(peer)
        self.gives(peer)
        self.flooded = None
        self.forget_needs(peer)

    def speaks(self, peer: PeerId) -> None:
        """A peer is not silent, or in the mesh no more."""
        if self.silent and self.silent.pop(peer, None) is not None:
            self.tried.pop(peer, None)

    def gives(self, peer: PeerId) -> None:
        """A peer does not only take, or is in the mesh no more."""
        if self.taking and self.taking.pop(peer, None) is not None:
            self.takers.pop(peer, None)

    def forget_needs(self, peer: PeerId) -> None:
        """Forget what is known to be of no use to a peer."""
        self.routes = {}
        self.needs.pop(peer, None)
        self.authors.pop(peer, None)

    @property
    def idle(self) -> bool:
        """Whether nothing is known of it that would be lost with it."""
        return not (self.joined or self.peers or self.fanout or self.backoff or self.resting)


class GossipState:
    """Shared by the parts; only the router makes one."""

    def __init__(
        self,
        config: GossipConfig,
        identity: Identity,
        now: float,
        rng: random.Random,
        signed_record: Callable[[PeerId], bytes | None],
        exempt: Callable[[PeerId], bool],
        rules: RuleBook,
        sequence: int,
    ) -> None:
        self.config = config
        self.identity = identity
        self.now = now
        self.rng = rng
        self.signed_record = signed_record
        self.exempt = exempt
        self.scores = PeerScores(config.score, config.d, now)
        self.peers: dict[PeerId, GossipPeer] = {}
        self.topics: dict[str, Topic] = {}
        self.by_wire: dict[bytes, Topic] = {}
        self.seen = SeenCache(config.seen_ttl, config.seen_max, now)
        self.kept = SeenCache(config.seen_ttl, config.seen_max, now)  # the part of them that kept topics accepted
        self.replays = ReplayGuard(sequence, now, config.max_guarded_authors) if config.ignore_replays else None
        if self.replays is not None:
            self.seen.rotated = self.replays.rotate
        self.cache = MessageCache(
            config.history_length, config.history_gossip, config.history_max_messages, config.history_max_bytes, now
        )
        self.statistics = GossipStatistics()
        self.pacing = Pacing(config, now)
        self.relaying: tuple[PeerId | None, bool] = (None, False)  # whose messages are queued now; whether as a flood
        self.own_load = Load()  # what apps of this node publish
        self.rules = rules
        self.propagation = Propagation(now)
        self.candidates_changed = False  # peers or subscriptions went or came: waiting publishers look again
        self._asked = 0  # batches of signatures, of other processes
        self._effects: list[GossipEffect] = []
        self._delivered: dict[str, list[GossipMessage]] = {}
        self._kept: list[MessagesDelivered] = []  # the same of topics that are kept, which takes more
        self._woken: dict[PeerId, None] = {}
        self._violated: dict[PeerId, SidecarError] = {}
        self.charged: dict[PeerId, float] = {}  # points, by the peers that caused them; the router hands them on
        self.waiting: dict[PeerId, GossipPeer] = {}  # peers with a backlog, whose turn comes in this order

    # ------------------------------------------------------------ topics

    def topic(self, name: str) -> Topic:
        """The topic, made if it is new. Raises InvalidArgument or TooLarge for its name."""
        topic = self.topics.get(name)
        if topic is not None:
            return topic
        if not name:
            raise InvalidArgument("the topic's name is empty")
        try:
            wire = name.encode()
        except UnicodeEncodeError:
            raise InvalidArgument(f"the topic's name {name[:40]!r} cannot be written in UTF-8") from None
        if len(wire) > self.config.max_topic_name:
            raise TooLarge(f"topic name of {len(wire)} bytes, at most {self.config.max_topic_name}")
        topic = Topic(name, wire, self.identity.peer_id, self.config.max_rpc)
        topic.rules = self.rules.of(name)
        topic.bundling = bundling_of(name, self.config.bundled_topics)
        self.topics[name] = self.by_wire[wire] = topic
        return topic

    def announced_topic(self, wire: bytes) -> Topic | None:
        """The topic, new, of a peer's announcement; None when its name cannot be used."""
        try:
            return self.topic(wire.decode())
        except (UnicodeDecodeError, InvalidArgument, TooLarge):
            return None

    def forget_if_idle(self, topic: Topic) -> None:
        """Drop a topic that is idle."""
        if topic.idle and self.topics.pop(topic.name, None) is not None:
            del self.by_wire[topic.wire]
            self.scores.forget_topic(topic.name)

    def forget_idle_topics(self) -> None:
        """Drop all topics that are idle."""
        for topic in list(self.topics.values()):
            self.forget_if_idle(topic)

    def set_rules(self, rules: Sequence[TopicRule], configured: bool) -> None:
        """Have messages judged by other rules from now on; see `RuleBook.put`."""
        self.rules.put(rules, configured=configured)
        for topic in self.topics.values():
            topic.rules = self.rules.of(topic.name)

    def bounded(self, peer: GossipPeer, entries: Sequence[_Entry]) -> Sequence[_Entry]:
        """The entries of one kind in an RPC that are served; the rest is counted."""
        most = self.config.max_rpc_control
        if len(entries) <= most:
            return entries
        self.statistics.dropped["rpc_bound"] += len(entries) - most
        self.charge(peer, (len(entries) - most) * PASSED_OVER)
        return entries[:most]

    # ------------------------------------------------------------ sending

    def wake(self, peer: GossipPeer) -> None:
        """Say that frames wait. Call before something is queued."""
        if not peer.queue:
            self._woken[peer.id] = None

    def send_control(self, peer: GossipPeer, topic: Topic, entry: bytes) -> None:
        """Queue a GRAFT or PRUNE."""
        if peer.violated:
            return
        self.wake(peer)
        peer.queue.put_control(topic.wire, entry)
        self._check_overrun(peer)

    def announce(self, peers: Iterable[GossipPeer], topic: Topic) -> None:
        """Tell the peers whether the topic is joined."""
        age = int((self.now - topic.joined_at) * 1000) if topic.joined else None
        for peer in peers:
            if not peer.violated:
                self.wake(peer)
                peer.queue.subscribe(topic.wire, age)
                self._check_overrun(peer)

    def name_ids(self, peer: GossipPeer, topic: Topic, piece: bytes, count: int) -> bool:
        """Queue an entry of Named with so many ids for a peer that knows lazy links; False when there is no room."""
        self.wake(peer)
        if not peer.queue.put_named(topic.wire, piece, count):
            return False
        self.statistics.named_ids_sent += count
        return True

    def _check_overrun(self, peer: GossipPeer) -> None:
        if peer.queue.overrun:
            limit = self.config.queue_max_control
            self.violate(peer, QueueFull(f"more than {limit} changes of topics and mesh wait for the peer"))

    def send_chunks(self, peers: Sequence[GossipPeer], chunks: Sequence[RpcChunk]) -> int:
        """Queue the same bytes for each of the peers; what does not fit is counted, and returned."""
        statistics = self.statistics
        source, heavy = self.relaying
        dropped = 0
        for peer in peers:
            for chunk in chunks if peer.max_rpc is None else self._fitting(peer, chunks, peer.max_rpc):
                self.wake(peer)
                if peer.queue.put(chunk, source, heavy=heavy):
                    statistics.sent += chunk.messages
                else:
                    dropped += chunk.messages
        statistics.dropped["queue_full"] += dropped
        return dropped

    def _fitting(self, peer: GossipPeer, chunks: Sequence[RpcChunk], max_rpc: int) -> list[RpcChunk]:
        """The same messages as a peer reads them: what it would refuse is left out, and counted."""
        fitting: list[RpcChunk] = []
        for chunk in chunks:
            if chunk.body_size <= max_rpc:
                fitting.append(chunk)
                continue
            most = min(max_rpc, self.config.max_chunk)
            parts = build_chunks(split_chunk(chunk), most, self.config.max_chunk_messages)
            kept = [part for part in parts if part.body_size <= max_rpc]
            fitting += kept
            self.statistics.dropped["peer_limit"] += chunk.messages - sum(part.messages for part in kept)
        return fitting

    # ------------------------------------------------------------ effects

    def deliver(self, topic: Topic, messages: list[GossipMessage], ids: Sequence[bytes], raws: Sequence[bytes]) -> None:
        """Hand new messages of a joined topic to the apps; `ids` and `raws` are those that travelled."""
        self.statistics.delivered += len(messages)
        topic.counts.delivered += len(messages)
        topic.came += len(ids)
        if topic.options.keep:
            self._keep(topic.name, messages, ids, raws)
            return
        waiting = self._delivered.get(topic.name)
        if waiting is None:
            self._delivered[topic.name] = messages
        else:
            waiting += messages

    def deliver_history(
        self, topic: Topic, messages: list[GossipMessage], raw: bytes, age: float, identifier: bytes
    ) -> None:
        """Hand the apps of a kept topic what travelled as one, and what a peer had stored since `age` seconds."""
        self.statistics.delivered += len(messages)
        topic.counts.delivered += len(messages)
        topic.counts.delivered_bytes += sum([len(message.data) for message in messages])
        self.kept.add(topic.name, (identifier,))
        if type(raw) is BundleBytes:
            self._kept.append(MessagesDelivered(topic.name, messages, [raw], [age], history=True, bundle=identifier))
            return
        last = self._kept[-1] if self._kept else None
        if last is not None and last.topic == topic.name and last.history and not last.bundle:
            last.messages.extend(messages)
            cast(list[bytes], last.raws).append(raw)
            cast(list[float], last.received).append(age)
        else:
            self._kept.append(MessagesDelivered(topic.name, messages, [raw], [age], history=True))

    def _keep(self, topic: str, messages: list[GossipMessage], ids: Sequence[bytes], raws: Sequence[bytes]) -> None:
        """Deliver messages with what travelled: with those before them, but for bundles."""
        self.kept.add(topic, ids)
        if type(raws[0]) is BundleBytes:
            self._kept.append(MessagesDelivered(topic, messages, raws, bundle=ids[0]))
            return
        last = self._kept[-1] if self._kept else None
        if last is not None and last.topic == topic and not last.history and not last.bundle:
            last.messages.extend(messages)
            cast(list[bytes], last.raws).extend(raws)
        else:
            self._kept.append(MessagesDelivered(topic, messages, list(raws)))

    def ask_checks(self, checks: list[SignatureCheck]) -> int:
        """Have other processes check signatures: the number under which their verdicts come."""
        self._asked += 1
        self.emit(CheckSignatures(self._asked, checks))
        return self._asked

    def emit(self, effect: GossipEffect) -> None:
        """Append to the effects of the turn."""
        self._effects.append(effect)

    def charge(self, peer: GossipPeer, points: float) -> None:
        """Count work that brings nobody anything against the peer's budget."""
        self.charged[peer.id] = self.charged.get(peer.id, 0.0) + points

    def reject(self, peer: GossipPeer, topic: Topic | None, reason: str, messages: int = 1) -> None:
        """Count an RPC or message that is not valid, and hold it against who sent it. `messages`: those in a bundle."""
        self.statistics.rejected[reason] += messages
        if topic is not None:
            topic.counts.rejected += messages
        self.charge(peer, _REJECTED.get(reason, ENTRY))
        if topic is None:
            self.penalise(peer, "malformed")
        else:
            self.scores.rejected(peer.record, topic.name)

    def penalise(self, peer: GossipPeer, kind: str, points: float = 1.0) -> None:
        """Hold misbehaviour of a kind against a peer (P7)."""
        self.statistics.misbehaviour[kind] += 1
        self.scores.penalise(peer.record, kind, points)

    def shows(self, peer: GossipPeer, topic: Topic | None = None) -> None:
        """A peer brings or names messages of a topic, or asks for some: it takes part."""
        peer.takes_part = True
        peer.record.idle = False
        if topic is not None:
            topic.speaks(peer.id)

    def gives(self, peer: GossipPeer, topic: Topic) -> None:
        """A peer brings or names messages of a topic."""
        self.shows(peer, topic)
        peer.gives = True
        topic.gives(peer.id)

    def ignore(self, topic: Topic, reason: str, messages: int = 1) -> None:
        """Count messages that are not passed on though nobody is to blame."""
        self.statistics.ignored[reason] += messages
        topic.counts.ignored += messages

    def heavy(self, peer: GossipPeer) -> bool:
        """Whether the peer sends by far more than others who send: see `Pacing`."""
        return self.pacing.heavy(peer, peer.load, self.now, self.ease(peer))

    def floods(self, peer: GossipPeer) -> bool:
        """Whether the peer was heavy, and brings nothing but a flood."""
        return peer.flood is not None and peer.flood.alone(self.now)

    def ease(self, peer: GossipPeer) -> float:
        """How much less than usual the peer may bring: see `Pacing`."""
        return self.pacing.ease if self.floods(peer) else 1.0

    def flood(self, peer: GossipPeer) -> FloodRecord:
        """What is known of what a heavy peer brings."""
        if peer.flood is None:
            peer.flood = FloodRecord()
        return peer.flood

    def watch_backlog(self, peer: GossipPeer) -> None:
        """Say when more of the peer's RPCs and messages waits than may, and when half of that is served."""
        waiting = peer.backlog_bytes + peer.pending_bytes
        if not peer.backlogged and waiting > self.config.max_backlog:
            peer.backlogged = True
        elif peer.backlogged and waiting * 2 <= self.config.max_backlog:
            peer.backlogged = False
        else:
            return
        self.emit(PeerBacklogged(peer.id, peer.backlogged))

    def shuns(self, peer: GossipPeer) -> bool:
        """Whether nothing that the peer says is listened to (v1.1 GraylistThreshold)."""
        return peer.record.standing is Standing.GRAYLISTED and not self.exempt(peer.id)

    def gossips_with(self, peer: GossipPeer) -> bool:
        """Whether IHAVE and IWANT go to and fro (v1.1 GossipThreshold)."""
        return peer.record.value >= self.config.score.gossip_threshold or self.exempt(peer.id)

    def publishes_to(self, peer: GossipPeer) -> bool:
        """Whether what is published here goes to the peer (v1.1 PublishThreshold)."""
        return peer.record.value >= self.config.score.publish_threshold or self.exempt(peer.id)

    def violate(self, peer: GossipPeer, error: SidecarError) -> None:
        """Ask for the end of the peer's streams; said once."""
        if not peer.violated:
            peer.violated = True
            self._violated[peer.id] = error

    def finish_turn(self) -> list[GossipEffect]:
        """All effects of the turn: deliveries, then the rest, then who has frames, and violations last."""
        effects: list[GossipEffect] = []  # most turns have none, so that each kind is looked for first
        if self._delivered:
            effects += [MessagesDelivered(*delivered) for delivered in self._delivered.items()]
            self._delivered = {}
        if self._kept:
            effects += self._kept
            self._kept = []
        if self._effects:
            effects += self._effects
            self._effects = []
        if self.scores.crossings:
            effects += self._crossings()
        if self._woken:
            effects += [PeerWoken(peer) for peer in self._woken if peer in self.peers]
            self._woken = {}
        if self._violated:
            effects += [PeerViolated(peer, error) for peer, error in self._violated.items()]
            self._violated = {}
        return effects

    def _crossings(self) -> Iterator[GossipEffect]:
        """Whose scores have passed a threshold, each peer once."""
        scores = self.scores
        before = {crossing.record: crossing.before for crossing in reversed(scores.crossings)}
        scores.crossings.clear()
        for record, standing in before.items():
            if record.present and record.standing is not standing:
                outcast = scores.unbearable(record) and not self.exempt(record.peer)
                yield StandingChanged(record.peer, record.value, record.standing, scores.reason(record), outcast)
