"""Lazy gossip: IHAVE tells peers outside the mesh what was seen, IWANT asks for what was missed."""

from collections import deque

from ..classes import NamedTuple
from .cache import Mark
from .messages import ControlMessage, build_chunks, encode_ihaves
from .spare import SpareLinks
from .state import FRUITLESS, IDENTIFIER, PASSED_OVER, GossipPeer, GossipState, Topic
from .trials import Trials

# A peer outside the mesh asks for what has come a moment before the heartbeat even when all is well. Who asks for a
# quarter of what it hears of, counted over some messages, has too few links. The numbers are guesses.
_NAMED = 8  # messages after which it is judged
_LACKING = 60  # heartbeats for which it gets what is published here without asking
_PROMISES = 4096  # that are kept in mind at once


class _Promise(NamedTuple):
    """A peer named a message in IHAVE, and was asked for it."""

    until: float
    peer: GossipPeer
    topic: Topic
    id: bytes


class LazyGossip:
    """Emits IHAVE, answers IHAVE with IWANT, and IWANT with messages, each within limits for each heartbeat."""

    def __init__(self, state: GossipState, spare: SpareLinks, trials: Trials) -> None:
        self._state = state
        self._promises: deque[_Promise] = deque()  # in the order of their ends
        self._spare = spare
        self._trials = trials

    def on_control(self, peer: GossipPeer, control: ControlMessage) -> None:
        """Serve IHAVE and IWANT of a message; the mesh has the other kinds."""
        if (control.ihave or control.iwant) and not self._state.gossips_with(peer):
            entries = len(control.ihave) + len(control.iwant)
            self._state.statistics.dropped["gossip"] += entries
            self._state.charge(peer, FRUITLESS + entries * PASSED_OVER)
            return
        if control.ihave:
            self._on_ihave(peer, control)
        if control.iwant:
            self._on_iwant(peer, control)

    def _on_ihave(self, peer: GossipPeer, control: ControlMessage) -> None:
        """v1.1 Spam Protection Measures: so many RPCs, so many ids for each heartbeat; what is beyond is ignored."""
        state, config = self._state, self._state.config
        peer.ihaves += 1
        left = config.max_ihave_length - peer.ids_asked
        if peer.ihaves > config.max_ihave_messages or left <= 0:
            state.statistics.dropped["control_bound"] += 1
            named = sum(len(ihave.messageIDs) for ihave in control.ihave)
            state.charge(peer, FRUITLESS + len(control.ihave) * PASSED_OVER + named * IDENTIFIER)
            return
        wanted: dict[bytes, Topic] = {}
        examined = 0
        for ihave in state.bounded(peer, control.ihave):
            topic = state.by_wire.get(ihave.topicID)
            if topic is None or not topic.joined:
                state.charge(peer, PASSED_OVER + len(ihave.messageIDs) * IDENTIFIER)
                continue
            if self._may_be_past(peer, topic):
                state.charge(peer, PASSED_OVER)
                state.statistics.dropped["past"] += len(ihave.messageIDs)
                continue
            ids = ihave.messageIDs[: config.max_ihave_length - examined]
            examined += len(ids)
            if len(ids) < len(ihave.messageIDs):
                state.charge(peer, (len(ihave.messageIDs) - len(ids)) * IDENTIFIER)
            state.propagation.shown(ids, peer.id, state.now, gossiped=True)
            for identifier in ids:
                if not state.seen.contains(topic.name, identifier) and len(identifier) <= config.max_message_id:
                    wanted[identifier] = topic
        state.statistics.ihave_ids_received += examined
        if wanted:
            asked = list(wanted)
            if len(asked) > left:
                # At random, so that several advertisers with long lists are asked for different parts; and in order.
                asked = [asked[index] for index in sorted(state.rng.sample(range(len(asked)), left))]
            peer.ids_asked += len(asked)
            state.wake(peer)
            taken = peer.queue.put_iwant(asked)
            state.statistics.iwant_ids_sent += taken
            state.statistics.dropped["gossip"] += len(asked) - taken
            if taken:
                identifier = asked[state.rng.randrange(taken)]
                self._promised(peer, wanted[identifier], identifier)

    def _promised(self, peer: GossipPeer, topic: Topic, identifier: bytes) -> None:
        """v1.1 Spam Protection Measures: of each IHAVE, one message that we asked for is to come, from whomever."""
        state = self._state
        if len(self._promises) < _PROMISES:
            self._promises.append(_Promise(state.now + state.config.score.promise_time, peer, topic, identifier))

    def _look_at_promises(self) -> None:
        """Count promises that were broken; none of a peer that has sent what is not looked at yet."""
        state, kept = self._state, deque[_Promise]()
        for promise in self._promises:
            _, peer, topic, identifier = promise
            if state.peers.get(peer.id) is not peer or not topic.joined or state.seen.contains(topic.name, identifier):
                continue
            if state.now < promise.until or peer.backlog or peer.step is not None or peer.pending_bytes:
                kept.append(promise)
            else:
                state.penalise(peer, "broken_promise")
        self._promises = kept

    def _may_be_past(self, peer: GossipPeer, topic: Topic) -> bool:
        """Whether the peer may gossip of messages from before we joined the topic.

        Sidecars do not (`age_ms`). What others name may be three heartbeats old, and nothing tells how old. But where
        the mesh is empty and this peer in a back-off, as after leaving and joining anew, all that it publishes comes by
        gossip alone: then it is better to hear of the past than to miss the present.
        """
        config = self._state.config
        young = self._state.now - topic.joined_at < max(1.0, config.heartbeat_interval) * (config.history_gossip + 1)
        return young and not peer.heeds_age and (bool(topic.mesh) or peer.id not in topic.backoff)

    def _on_iwant(self, peer: GossipPeer, control: ControlMessage) -> None:
        state, config = self._state, self._state.config
        raws: dict[bytes, bytes] = {}
        for iwant in state.bounded(peer, control.iwant):
            ids = iwant.messageIDs[: config.max_iwant_length - peer.ids_served]
            peer.ids_served += len(ids)
            state.statistics.iwant_ids_received += len(ids)
            state.statistics.dropped["control_bound"] += len(iwant.messageIDs) - len(ids)
            state.charge(peer, (1 + len(iwant.messageIDs) - len(ids)) * PASSED_OVER)
            for identifier in ids:
                if identifier not in raws:
                    raw = state.cache.answer(peer.id, identifier, config.gossip_retransmission)
                    if raw is not None:
                        raws[identifier] = raw
        if raws:
            state.statistics.iwant_messages_sent += len(raws)
            self._spare.asked(peer, list(raws))
            self._trials.asked(peer, list(raws))
            state.shows(peer)
            peer.answered += len(raws)
            chunks = build_chunks(list(raws.values()), config.max_chunk, config.max_chunk_messages)
            state.send_chunks((peer,), chunks)
        else:
            state.charge(peer, FRUITLESS)

    def heartbeat(self) -> None:
        """Gossip Emission of v1.0, to as many as v1.1's Adaptive Gossip Dissemination says; then the windows shift."""
        state = self._state
        if self._promises:
            self._look_at_promises()
        for peer in state.peers.values():
            peer.ihaves = peer.ids_asked = peer.ids_served = 0
            peer.queue.age()
            if not peer.named:  # it asks for what it is told on lazy links, of the mesh
                peer.answered = 0
            if peer.named >= _NAMED:
                if peer.answered * 4 >= peer.named:
                    peer.lacking_until = state.cache.tick + _LACKING
                peer.named = peer.answered = 0
        for name in state.cache.topics():
            topic = state.topics.get(name)
            if topic is not None and (topic.joined or topic.fanout):
                self._emit(topic)
        state.cache.shift(state.now)
        for topic in state.topics.values():
            topic.newcomers = {}
            if topic.begins:
                kept = state.cache.bounds_gossip
                topic.begins = {peer: mark for peer, mark in topic.begins.items() if kept(mark)}

    def _emit(self, topic: Topic) -> None:
        """Tell peers outside the mesh, and all that are new in the topic, what has come.

        Newcomers may be grafted already, and would miss for good what was published a moment before they came. Of the
        others a sample is told at each heartbeat, and whoever would miss a message for good otherwise: a message is
        gossiped about for `history_gossip` heartbeats, and everybody is told within these.
        """
        state, config = self._state, self._state.config
        tick = state.cache.tick
        chosen = list(topic.newcomers.values())
        others: list[GossipPeer] = []
        due: list[GossipPeer] = []
        for identifier, peer in topic.peers.items():
            if (
                identifier in topic.mesh
                or identifier in topic.fanout
                or identifier in topic.newcomers
                or not state.gossips_with(peer)
            ):
                continue
            told = topic.told.get(identifier)
            if told is None or tick - told > config.history_gossip:
                # In the mesh until now, or nothing to tell: due soon, not all at once.
                told = topic.told[identifier] = tick - 1 - state.rng.randrange(config.history_gossip)
            (due if tick - told >= config.history_gossip else others).append(peer)
        count = max(config.d_lazy, int(config.gossip_factor * (len(due) + len(others)))) - len(due)
        chosen += due
        chosen += state.rng.sample(others, max(0, min(count, len(others))))
        encoded: dict[tuple[Mark | None, int], list[bytes]] = {}
        came = state.cache.came(topic.name)
        for peer in chosen:
            if peer.id not in topic.newcomers:
                peer.named += sum(came[: max(0, tick - topic.told[peer.id])])
            topic.told[peer.id] = tick
            mark = topic.begins.get(peer.id)
            max_bytes = min(config.max_chunk, peer.max_rpc or config.max_chunk) // 2
            entries = encoded.get((mark, max_bytes))
            if entries is None:
                entries, whole = self._entries(topic, mark, max_bytes)
                if whole:
                    encoded[mark, max_bytes] = entries
            if not entries:
                continue
            state.wake(peer)
            if not peer.queue.put_ihave(topic.name, entries):
                state.statistics.dropped["gossip"] += 1

    def _entries(self, topic: Topic, mark: Mark | None, max_bytes: int) -> tuple[list[bytes], bool]:
        """IHAVE of the messages behind the mark, and whether it names all of them."""
        state, config = self._state, self._state.config
        ids, most = state.cache.gossip_ids(topic.name, mark), config.max_ihave_length
        whole = len(ids) <= most
        if not whole:
            # Each peer hears of another part, so that together they hear of more.
            start = state.rng.randrange(len(ids) - most + 1)
            ids = ids[start : start + most]
        return (encode_ihaves(topic.wire, ids, max_bytes) if ids else []), whole
