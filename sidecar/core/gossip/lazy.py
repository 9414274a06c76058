"""Lazy gossip: IHAVE tells peers outside the mesh what was seen, IWANT asks for what was missed."""

from collections.abc import Sequence

from .messages import ControlMessage, build_chunks, encode_ihaves
from .state import ENTRY, PASSED_OVER, GossipState, Peer, Topic


class LazyGossip:
    """Emits IHAVE, answers IHAVE with IWANT, and IWANT with messages, each within limits for each heartbeat."""

    def __init__(self, state: GossipState) -> None:
        self._state = state

    def on_control(self, peer: Peer, control: ControlMessage) -> None:
        if control.ihave:
            self._on_ihave(peer, control)
        if control.iwant:
            self._on_iwant(peer, control)

    def _on_ihave(self, peer: Peer, control: ControlMessage) -> None:
        """v1.1 Spam Protection Measures: so many RPCs, so many ids for each heartbeat; what is beyond is ignored."""
        state, config = self._state, self._state.config
        peer.ihaves += 1
        left = config.max_ihave_length - peer.ids_asked
        if peer.ihaves > config.max_ihave_messages or left <= 0:
            state.statistics.dropped["control_bound"] += 1
            state.charge(peer, ENTRY + len(control.ihave) * PASSED_OVER)
            return
        wanted: dict[bytes, None] = {}
        examined = 0
        for ihave in state.bounded(peer, control.ihave):
            topic = state.by_wire.get(ihave.topicID)
            if topic is None or not topic.joined:
                state.charge(peer, PASSED_OVER)
                continue
            ids = ihave.messageIDs[: config.max_ihave_length - examined]
            examined += len(ids)
            state.propagation.shown(ids, peer.id, state.now, gossiped=True)
            for identifier in ids:
                if not state.seen.contains(topic.name, identifier) and len(identifier) <= config.max_message_id:
                    wanted[identifier] = None
        state.statistics.ihave_ids_received += examined
        if wanted:
            # At random, so that several advertisers with long lists are asked for different parts.
            asked = state.rng.sample(list(wanted), min(left, len(wanted)))
            peer.ids_asked += len(asked)
            state.wake(peer)
            taken = peer.queue.put_iwant(asked)
            state.statistics.iwant_ids_sent += taken
            state.statistics.dropped["gossip"] += len(asked) - taken

    def _on_iwant(self, peer: Peer, control: ControlMessage) -> None:
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
            chunks = build_chunks(list(raws.values()), config.max_chunk, config.max_chunk_messages)
            state.send_chunks((peer,), chunks)

    def heartbeat(self) -> None:
        """Gossip Emission of v1.0, to as many as v1.1's Adaptive Gossip Dissemination says; then the windows shift."""
        state = self._state
        for peer in state.peers.values():
            peer.ihaves = peer.ids_asked = peer.ids_served = 0
            peer.queue.age()
        for name in state.cache.topics():
            topic = state.topics.get(name)
            if topic is not None and (topic.joined or topic.fanout):
                self._emit(topic, state.cache.gossip_ids(name))
        for topic in state.topics.values():
            topic.newcomers = {}
        state.cache.shift()

    def _emit(self, topic: Topic, ids: Sequence[bytes]) -> None:
        """Tell a sample of the peers outside the mesh, and all that are new in the topic.

        Newcomers may be grafted already, and would miss for good what was published a moment before they came.
        """
        state, config = self._state, self._state.config
        chosen = list(topic.newcomers.values())
        others = [
            peer
            for identifier, peer in topic.peers.items()
            if not (identifier in topic.mesh or identifier in topic.fanout or identifier in topic.newcomers)
            and state.score(identifier) >= 0
        ]
        count = max(config.d_lazy, int(config.gossip_factor * len(others)))
        chosen += state.rng.sample(others, min(count, len(others)))
        if not ids or not chosen:
            return
        narrowest = min((peer.max_rpc for peer in chosen if peer.max_rpc is not None), default=config.max_chunk)
        most, max_bytes = config.max_ihave_length, min(config.max_chunk, narrowest) // 2
        everything = encode_ihaves(topic.wire, ids, max_bytes) if len(ids) <= most else None
        for peer in chosen:
            entries = everything
            if entries is None:
                # Each peer hears of another part, so that together they hear of more.
                start = state.rng.randrange(len(ids) - most + 1)
                entries = encode_ihaves(topic.wire, ids[start : start + most], max_bytes)
            state.wake(peer)
            if not peer.queue.put_ihave(topic.name, entries):
                state.statistics.dropped["gossip"] += 1
