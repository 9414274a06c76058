"""What is thought of each peer: the scores of gossipsub v1.1, "The Score Function".

A score is kept by peer id, so that it is the same under another address, and for a while after the peer has gone.
While it is gone nothing of it wears off: coming back does not make anybody better.
"""

import math
from collections.abc import Iterable, Mapping, Sequence

from ..classes import NamedTuple
from ..events import ScoreView, Standing, TopicScoreView
from ..networks import AddressGroup, Grouping
from ..parameters.score import ScoreConfig, TopicScoreConfig
from ..types import PeerId

_FRUGAL = 0.25  # of a topic's messages that came at all, what a mesh peer is expected to bring at most; a guess
_MAX_RECENT = 16_384  # messages of a topic that copies are still counted of; a guess
_SWEEP = 10.0  # seconds between two looks at those who are gone; a guess

_Group = tuple[int, int]  # what counts as one address: `AddressGroup.address`

_TOLD = {
    "graft_in_backoff": "GRAFTs in a back-off",
    "broken_promise": "IHAVE of messages that never came",
    "malformed": "RPCs that are none",
    "extensions": "extensions out of place",
}


class _Arrival(NamedTuple):
    """A message that came for the first time, and the mesh peers that have brought it."""

    at: float
    peers: dict[PeerId, None]
    messages: int  # in it


class _Judged:
    """What scores know of a topic."""

    __slots__ = ("came", "parameters", "recent")

    def __init__(self, parameters: TopicScoreConfig) -> None:
        self.parameters = parameters
        self.came = 0.0  # messages that came, whoever brought them; decays as P3's counters
        self.recent: dict[bytes, _Arrival] = {}  # in the order of their coming


class ScoredTopic:
    """The counters of one peer in one topic, as the specification names them."""

    __slots__ = ("active", "failures", "first", "grafted_at", "invalid", "mesh", "time_in_mesh", "topic")

    def __init__(self, topic: _Judged) -> None:
        self.topic = topic
        self.grafted_at: float | None = None  # None: not in the mesh
        self.time_in_mesh = 0.0
        self.active = False  # long enough in the mesh for P3
        self.first = 0.0
        self.mesh = 0.0
        self.failures = 0.0
        self.invalid = 0.0

    @property
    def deficit(self) -> float:
        """What it brought too little: not of what never came to this node from anybody."""
        if not self.active:
            return 0.0
        return max(0.0, min(self.topic.parameters.mesh_threshold, self.topic.came * _FRUGAL) - self.mesh)

    def parts(self) -> tuple[float, float, float, float, float]:
        """P1, P2, P3, P3b and P4, each with its weight and the topic's."""
        parameters = self.topic.parameters
        in_mesh = float(self.time_in_mesh // parameters.time_in_mesh_quantum)
        return (
            parameters.weight * parameters.time_in_mesh_weight * min(in_mesh, parameters.time_in_mesh_cap),
            parameters.weight * parameters.first_weight * self.first,
            parameters.weight * parameters.mesh_weight * self.deficit**2,
            parameters.weight * parameters.failure_weight * self.failures,
            parameters.weight * parameters.invalid_weight * self.invalid**2,
        )

    def leave_mesh(self) -> None:
        """A deficit is kept in mind (P3b); what was counted for this stay in the mesh is not."""
        self.failures += self.deficit**2
        self.grafted_at, self.active, self.time_in_mesh, self.mesh = None, False, 0.0, 0.0

    @property
    def empty(self) -> bool:
        """Whether nothing would be lost with it."""
        return self.grafted_at is None and not (self.first or self.failures or self.invalid)


class ScoredPeer:
    """What is known of one peer. `value` is its score as of the last beat or penalty."""

    __slots__ = (
        "application",
        "application_until",
        "behaviour",
        "expires",
        "groups",
        "idle",
        "peer",
        "present",
        "reasons",
        "slow",
        "standing",
        "topics",
        "value",
    )

    def __init__(self, peer: PeerId) -> None:
        self.peer = peer
        self.topics: dict[str, ScoredTopic] = {}
        self.behaviour = 0.0
        self.slow = 0.0
        self.application = 0.0
        self.application_until: float | None = None
        self.groups: dict[_Group, None] = {}  # of its connections, but for exempt ones
        self.reasons: dict[str, float] = {}  # misbehaviour by kind; wears off as the whole of it
        self.present = False
        self.idle = False  # in meshes it neither brought nor wanted anything: see `trials.py`
        self.expires = math.inf  # when it is forgotten, once it is gone
        self.value = 0.0
        self.standing = Standing.GOOD

    @property
    def unremarkable(self) -> bool:
        """Whether its score is 0, and nothing is known of it that could change that by itself."""
        return not (
            self.topics
            or self.value
            or self.behaviour
            or self.slow
            or self.groups
            or self.application
            or self.reasons
            or self.standing is not Standing.GOOD
        )

    @property
    def empty(self) -> bool:
        """Whether nothing would be lost with it."""
        return not (
            self.behaviour or self.application or self.idle or any(not topic.empty for topic in self.topics.values())
        )


class Crossing(NamedTuple):
    """A peer's score has passed a threshold."""

    record: ScoredPeer
    before: Standing


class PeerScores:
    """Keeps the scores. Times are monotonic seconds."""

    def __init__(self, config: ScoreConfig, degree: int, now: float) -> None:
        """`degree`: of the mesh, which the share of each peer in a topic's messages follows from."""
        self.config = config
        self._degree = degree
        self._rates = dict(config.expected_rates)
        self._judged: dict[str, _Judged] = {}
        self._by_deliveries: dict[str, _Judged] = {}  # those of them with P3
        self._records: dict[PeerId, ScoredPeer] = {}
        self._absent: dict[PeerId, ScoredPeer] = {}  # the part of them that is gone, in the order of their going
        self._grouping = Grouping(config.colocation_exempt)
        self._groups: dict[_Group, int] = {}
        self._decayed_at = self._swept_at = now
        self.crossings: list[Crossing] = []
        """Whose scores have passed a threshold since the list was emptied."""

    # ------------------------------------------------------------ topics

    def expect(self, topic: str, rate: float = 0.0) -> TopicScoreConfig:
        """Score a topic; `rate`: expected messages a second, 0 for that of the configuration. Returns how."""
        parameters = self.config.for_rate(rate or self._rates.get(topic, 0.0), self._degree)
        known = self._judged.get(topic)
        if known is None:
            known = self._judged[topic] = _Judged(parameters)
            for record in self._records.values():
                if topic in record.topics:  # of an earlier stay in the topic
                    record.topics[topic].topic = known
        else:
            known.parameters = parameters
        self._by_deliveries.pop(topic, None)
        if self.config.enabled and parameters.judges_deliveries:
            self._by_deliveries[topic] = known
        else:
            known.recent = {}
        return parameters

    def forget_topic(self, topic: str) -> None:
        """The topic is of no interest any more; what its peers did in it goes on wearing off."""
        self._judged.pop(topic, None)
        self._by_deliveries.pop(topic, None)

    @property
    def judges_deliveries(self) -> bool:
        """Whether there is a topic in which mesh peers are expected to bring messages."""
        return bool(self._by_deliveries)

    # ------------------------------------------------------------ peers come and go

    def arrived(self, peer: PeerId, hosts: Iterable[str]) -> ScoredPeer:
        """A peer gossips with this node, from these IP addresses. What was known of it holds."""
        record = self._absent.pop(peer, None) or self._records.get(peer) or ScoredPeer(peer)
        self._records[peer] = record
        record.present, record.expires = True, math.inf
        self.moved(record, hosts)
        if record.standing is not Standing.GOOD:  # while it was not here, nobody was told
            self.crossings.append(Crossing(record, Standing.GOOD))
        return record

    def moved(self, record: ScoredPeer, hosts: Iterable[str]) -> None:
        """A peer is connected with these IP addresses now."""
        counted = (host for host in hosts if self.config.enabled and not self._grouping.exempts(host))
        groups = dict.fromkeys(AddressGroup.of(host).address for host in counted)
        if groups == record.groups:
            return
        for group in record.groups:
            self._groups[group] -= 1
            if not self._groups[group]:
                del self._groups[group]
        for group in groups:
            self._groups[group] = self._groups.get(group, 0) + 1
        record.groups = groups
        self._value(record)

    def gone(self, record: ScoredPeer, now: float) -> None:
        """A peer gossips with this node no more. Its score is kept for a while."""
        self.moved(record, ())
        for topic in record.topics.values():
            if topic.grafted_at is not None:
                topic.leave_mesh()
        record.present, record.slow = False, 0.0
        record.topics = {name: topic for name, topic in record.topics.items() if not topic.empty}
        if record.empty:
            del self._records[record.peer]
            return
        most = self.config.max_retained_topics
        if len(record.topics) > most:
            worst = sorted(record.topics.items(), key=lambda item: -abs(sum(item[1].parts())))
            record.topics = dict(worst[:most])
        self._value(record)
        self._keep(record, now + self.config.retain)

    def _keep(self, record: ScoredPeer, expires: float) -> None:
        """Keep the record of a peer that is not here; the oldest goes that is not known for anything bad."""
        record.expires = max(expires, record.application_until or expires)
        self._records[record.peer] = self._absent[record.peer] = record
        if len(self._absent) > self.config.max_retained:
            oldest = next((peer for peer, other in self._absent.items() if other.value >= 0), None)
            self._drop(next(iter(self._absent)) if oldest is None else oldest)

    def _drop(self, peer: PeerId) -> None:
        del self._absent[peer], self._records[peer]

    # ------------------------------------------------------------ what peers do

    def _in_topic(self, record: ScoredPeer, topic: str) -> ScoredTopic | None:
        found = record.topics.get(topic)
        if found is None:
            judged = self._judged.get(topic)
            if judged is None or not self.config.enabled:
                return None
            found = record.topics[topic] = ScoredTopic(judged)
        return found

    def _current(self, record: ScoredPeer) -> ScoredPeer:
        """Where something is counted that may become known only when the peer is gone, or back again."""
        known = self._records.get(record.peer)
        if known is None:
            self._keep(record, self._decayed_at + self.config.retain)
            return record
        return known

    def grafted(self, record: ScoredPeer, topic: str, now: float) -> None:
        """A peer has come into the mesh."""
        found = self._in_topic(record, topic)
        if found is not None:
            found.grafted_at, found.active, found.time_in_mesh, found.mesh = now, False, 0.0, 0.0

    def pruned(self, record: ScoredPeer, topic: str) -> None:
        """A peer is in the mesh no more."""
        found = record.topics.get(topic)
        if found is not None and found.grafted_at is not None:
            found.leave_mesh()
            self._value(record)

    def delivered(self, record: ScoredPeer, topic: str, ids: Sequence[bytes], now: float, each: int = 1) -> None:
        """A peer has brought new, valid messages (P2; P3 in a mesh). `each`: how many are in each."""
        found = record.topics.get(topic) or self._in_topic(record, topic)
        if found is None:
            return
        judged = found.topic
        parameters = judged.parameters
        count = len(ids) * each
        found.first = min(found.first + count, parameters.first_cap)
        if topic in self._by_deliveries:
            judged.came += count
            for identifier in ids:
                judged.recent[identifier] = _Arrival(now, {record.peer: None}, each)
            while len(judged.recent) > _MAX_RECENT:
                del judged.recent[next(iter(judged.recent))]
            if found.grafted_at is not None:
                found.mesh = min(found.mesh + count, parameters.mesh_cap)

    def again(self, record: ScoredPeer, topic: str, ids: Iterable[bytes], now: float) -> None:
        """A peer has brought or shown messages that had come before: near-first ones count for P3, each once."""
        judged, found = self._by_deliveries.get(topic), record.topics.get(topic)
        if judged is None or found is None or found.grafted_at is None:
            return
        parameters = judged.parameters
        for identifier in ids:
            arrival = judged.recent.get(identifier)
            if arrival is None or record.peer in arrival.peers or now - arrival.at > parameters.mesh_window:
                continue
            arrival.peers[record.peer] = None
            found.mesh = min(found.mesh + arrival.messages, parameters.mesh_cap)

    def shown(self, record: ScoredPeer, ids: Sequence[bytes], now: float) -> None:
        """A peer has told by IDONTWANT that it has messages, so that it need not bring them."""
        for topic in self._by_deliveries:
            self.again(record, topic, ids, now)

    def rejected(self, record: ScoredPeer, topic: str, count: int = 1) -> None:
        """A peer has brought messages that are invalid in a topic (P4)."""
        record = self._current(record)
        found = self._in_topic(record, topic)
        if found is not None:
            found.invalid += count
            self._value(record)

    def penalise(self, record: ScoredPeer, kind: str, points: float = 1.0) -> None:
        """A peer misbehaves (P7), in one of the ways of `events.MISBEHAVIOUR`."""
        if self.config.enabled:
            record = self._current(record)
            record.behaviour += points
            record.reasons[kind] = record.reasons.get(kind, 0.0) + points
            self._value(record)

    def lagged(self, record: ScoredPeer) -> None:
        """A peer took so little in the heartbeat that is over that messages for it were lost, as rust-libp2p counts."""
        if self.config.enabled:
            record.slow += 1
            self._value(record)

    def appoint(self, peer: PeerId, score: float, until: float | None, now: float) -> None:
        """An app's opinion of a peer (P5), which need not be here; 0 takes it back. `until`: None: for good."""
        record = self._records.get(peer)
        if record is None:
            if not score:
                return
            record = ScoredPeer(peer)
        record.application, record.application_until = score, until if score else None
        self._value(record)
        if not record.present:
            self._absent.pop(peer, None)
            if record.empty:
                self._records.pop(peer, None)
            else:
                self._keep(record, now + self.config.retain)

    # ------------------------------------------------------------ time

    def refresh(self, now: float) -> None:
        """Let counters wear off, look at the time in meshes, and reckon all scores anew: at each heartbeat."""
        config = self.config
        beats = int((now - self._decayed_at) / config.decay_interval + 1e-9)
        self._decayed_at += beats * config.decay_interval
        sweep = now - self._swept_at >= _SWEEP
        if sweep:
            self._swept_at = now
        for judged in self._by_deliveries.values():
            judged.came = self._worn(judged.came, judged.parameters.mesh_decay, beats)
            window = judged.parameters.mesh_window
            while judged.recent:
                identifier, arrival = next(iter(judged.recent.items()))
                if now - arrival.at <= window:
                    break
                del judged.recent[identifier]
        for record in list(self._records.values()) if sweep else self._present():
            if record.application_until is not None and now >= record.application_until:
                record.application, record.application_until = 0.0, None
            if not record.present:
                if now >= record.expires or record.empty:
                    self._drop(record.peer)
                else:
                    self._value(record)
                continue
            if record.unremarkable:
                continue  # most are: they only share a topic
            if beats:
                self._wear(record, beats)
            self._look_at_mesh(record, now)
            self._value(record)

    def _present(self) -> list[ScoredPeer]:
        return [record for record in self._records.values() if record.present]

    def _wear(self, record: ScoredPeer, beats: int) -> None:
        """v1.1, "Parameter Decay"."""
        config, worn = self.config, self._worn
        if record.behaviour:
            record.behaviour = worn(record.behaviour, config.behaviour_decay, beats)
            reasons = {kind: worn(count, config.behaviour_decay, beats) for kind, count in record.reasons.items()}
            record.reasons = {kind: count for kind, count in reasons.items() if count}
        if record.slow:
            record.slow = worn(record.slow, config.slow_decay, beats)
        empty = False
        for found in record.topics.values():
            parameters = found.topic.parameters
            if found.first:
                found.first = worn(found.first, parameters.first_decay, beats)
            if found.mesh:
                found.mesh = worn(found.mesh, parameters.mesh_decay, beats)
            if found.failures:
                found.failures = worn(found.failures, parameters.failure_decay, beats)
            if found.invalid:
                found.invalid = worn(found.invalid, parameters.invalid_decay, beats)
            empty = empty or found.empty
        if empty:
            record.topics = {name: found for name, found in record.topics.items() if not found.empty}

    def _worn(self, counter: float, decay: float, beats: int) -> float:
        counter *= decay**beats
        return 0.0 if counter < self.config.decay_to_zero else counter

    @staticmethod
    def _look_at_mesh(record: ScoredPeer, now: float) -> None:
        for found in record.topics.values():
            if found.grafted_at is not None:
                found.time_in_mesh = now - found.grafted_at
                if found.time_in_mesh > found.topic.parameters.mesh_activation:
                    found.active = True

    # ------------------------------------------------------------ the score

    def _value(self, record: ScoredPeer) -> None:
        """Reckon a score anew, and note when it passes a threshold."""
        config = self.config
        if not config.enabled:
            return
        topics = sum(sum(found.parts()) for found in record.topics.values())
        record.value = self._capped(topics) + sum(self._beside_topics(record))
        if record.value >= 0:
            standing = Standing.GOOD
        elif record.value >= config.gossip_threshold:
            standing = Standing.NO_MESH
        elif record.value >= config.publish_threshold:
            standing = Standing.NO_GOSSIP
        elif record.value >= config.graylist_threshold:
            standing = Standing.NO_PUBLISH
        else:
            standing = Standing.GRAYLISTED
        if standing is not record.standing:
            self.crossings.append(Crossing(record, record.standing))
            record.standing = standing

    def _capped(self, topics: float) -> float:
        return min(topics, self.config.topic_cap) if self.config.topic_cap else topics

    def _beside_topics(self, record: ScoredPeer) -> tuple[float, float, float, float]:
        """P5, P6, P7 and rust-libp2p's penalty for slow peers, each with its weight."""
        config = self.config
        surplus = 0.0
        for group in record.groups:
            surplus += max(0, self._groups[group] - config.colocation_threshold) ** 2
        excess = max(0.0, record.behaviour - config.behaviour_threshold)
        late = max(0.0, record.slow - config.slow_threshold)
        return (
            config.application_weight * record.application,
            config.colocation_weight * surplus,
            config.behaviour_weight * excess * excess,
            config.slow_weight * late,
        )

    def of(self, peer: PeerId) -> float:
        """The score of a peer; 0 for one that nothing is known of."""
        record = self._records.get(peer)
        return 0.0 if record is None else record.value

    def unbearable(self, record: ScoredPeer) -> bool:
        """Whether a peer is to be sent away for what it did itself: its neighbours at one address do not count."""
        colocation = self._beside_topics(record)[1]
        return record.value - colocation < self.config.disconnect_threshold

    # ------------------------------------------------------------ views

    def view(self, peer: PeerId) -> ScoreView | None:
        """A peer's score and its parts; None where nothing is known of it, or nothing is scored."""
        record = self._records.get(peer)
        if record is None or not self.config.enabled:
            return None
        topics = tuple(TopicScoreView(name, *found.parts()) for name, found in record.topics.items())
        application, colocation, behaviour, slow = self._beside_topics(record)
        return ScoreView(
            record.value,
            record.standing,
            topics,
            application,
            colocation,
            behaviour,
            slow,
            self.reason(record),
        )

    def reason(self, record: ScoredPeer) -> str:
        """What costs a peer most, in words; empty where nothing does."""
        application, colocation, behaviour, slow = self._beside_topics(record)
        costs: list[tuple[float, str]] = []
        for name, found in record.topics.items():
            _, _, deficit, failures, invalid = found.parts()
            costs.append((invalid, f"invalid messages on {name!r}"))
            costs.append((deficit, f"brings too few messages of {name!r}"))
            costs.append((failures, f"brought too few messages of {name!r} before it was pruned"))
        most = max(record.reasons, key=lambda kind: record.reasons[kind], default="")
        costs.append((behaviour, f"misbehaviour, mostly {_TOLD.get(most, most)}"))
        shared = max((self._groups[group] for group in record.groups), default=0)
        costs.append((colocation, f"{shared} peers at its address"))
        costs.append((application, "an app says so"))
        costs.append((slow, "too slow for what is sent to it"))
        found_costs = sorted(cost for cost in costs if cost[0] < 0)
        return "; ".join(f"{text} ({points:.4g})" for points, text in found_costs[:3])

    def parameters(self, topic: str) -> TopicScoreConfig | None:
        """How a topic is scored by its rate; None where it is scored as any."""
        known = self._judged.get(topic)
        if known is None or known.parameters is self.config.topic or not self.config.enabled:
            return None
        return known.parameters

    def standings(self) -> Mapping[Standing, int]:
        """How many of the present peers stand how."""
        counts = dict.fromkeys(Standing, 0)
        for record in self._records.values():
            if record.present:
                counts[record.standing] += 1
        return counts
