"""IDONTWANT: large messages that a peer has already are not sent to it (specs gossipsub v1.2)."""

from collections.abc import Container, Sequence
from itertools import compress

from .messages import ControlMessage, build_chunks
from .state import FRUITLESS, PASSED_OVER, GossipPeer, GossipState, Topic


class Unwanted:
    """Tells the mesh which large messages have come, and keeps what peers told us.

    What waits in a peer's queue already is not looked through: it is sent.
    """

    def __init__(self, state: GossipState) -> None:
        self._state = state
        self._beat = 0
        self._large = 0  # large messages that came since the heartbeat before the last
        self._large_now = 0  # of these, since the last

    def any_large(self, raws: Sequence[bytes]) -> bool:
        """Whether messages are worth an IDONTWANT. One look at all, so that small ones cost next to nothing."""
        return max(map(len, raws), default=0) >= self._state.config.idontwant_threshold

    def announce(
        self,
        source: GossipPeer,
        topic: Topic,
        ids: Sequence[bytes],
        raws: Sequence[bytes],
        without: Container[GossipPeer] = (),
    ) -> None:
        """Tell the mesh, but for the source, about the large ones of messages just come for the first time.

        `without`: peers that hear of them otherwise.

        v1.2 lets this precede validation. So it precedes the topic's verdicts, but not the check of the signature:
        until then nobody may trust an id, and a forged copy would keep the real message away.
        """
        state = self._state
        threshold = state.config.idontwant_threshold
        large = [identifier for identifier, raw in zip(ids, raws, strict=True) if len(raw) >= threshold]
        if not large:
            return
        self._large += len(large)
        self._large_now += len(large)
        for peer in topic.mesh.values():
            if peer is not source and peer.knows_idontwant and not peer.violated and peer not in without:
                state.wake(peer)
                taken = peer.queue.put_idontwant(large)
                state.statistics.idontwant_ids_sent += taken
                state.statistics.dropped["gossip"] += len(large) - taken

    def on_control(self, peer: GossipPeer, control: ControlMessage) -> None:
        """Remember what a peer does not want; what is beyond the bounds is ignored, and counted."""
        if control.idontwant:
            self.on_idontwant(peer, *(entry.messageIDs for entry in control.idontwant))

    def on_idontwant(self, peer: GossipPeer, *entries: Sequence[bytes]) -> None:
        """The same of the entries of an RPC, each with its ids."""
        state, config = self._state, self._state.config
        peer.idontwants += 1
        if peer.idontwants > config.max_idontwant_messages:
            state.statistics.dropped["control_bound"] += 1
            if peer.idontwants > config.max_idontwant_messages + self._large:  # rust-libp2p sends one for each
                state.charge(peer, FRUITLESS + len(entries) * PASSED_OVER)
            return
        for told in state.bounded(peer, entries):
            ids = told[: config.max_unwanted - len(peer.unwanted)]
            state.statistics.idontwant_ids_received += len(ids)
            state.propagation.shown(ids, peer.id, state.now)
            if state.scores.judges_deliveries:
                state.scores.shown(peer.record, ids, state.now)
            excess = len(told) - len(ids)
            state.statistics.dropped["control_bound"] += excess
            state.charge(peer, (1 + excess) * PASSED_OVER)
            expires = self._beat + config.idontwant_ttl
            for identifier in ids:
                if len(identifier) <= config.max_message_id:
                    peer.unwanted.setdefault(identifier, expires)

    def shown(self, peer: GossipPeer, ids: Sequence[bytes]) -> None:
        """The peer has these messages, as it shows by sending them."""
        expires = self._beat + self._state.config.idontwant_ttl
        for identifier in ids[: self._state.config.max_unwanted - len(peer.unwanted)]:
            peer.unwanted.setdefault(identifier, expires)

    def brought(self, peer: GossipPeer, ids: Sequence[bytes]) -> None:
        """The peer has sent these messages, as it may have promised."""
        for identifier in ids if peer.promised else ():
            peer.promised.pop(identifier, None)
        if peer.held:
            self.shown(peer, ids)

    def send_wanted(
        self, topic: Topic, peers: Sequence[GossipPeer], ids: Sequence[bytes], raws: Sequence[bytes]
    ) -> list[GossipPeer]:
        """Send to those of the peers that do not want all of the messages what they do want; the other peers."""
        state, config = self._state, self._state.config
        willing: list[GossipPeer] = []
        for peer in peers:
            unwanted = peer.unwanted
            if not unwanted or unwanted.keys().isdisjoint(ids):
                willing.append(peer)
                continue
            wanted = list(compress(raws, (identifier not in unwanted for identifier in ids)))
            state.statistics.idontwant_suppressed += len(raws) - len(wanted)
            if wanted:
                chunks = build_chunks(wanted, config.max_chunk, config.max_chunk_messages)
                topic.counts.dropped += state.send_chunks((peer,), chunks)
        return willing

    def heartbeat(self) -> None:
        """Forget what is too old: ids lie in the order in which they came."""
        self._beat += 1
        self._large, self._large_now = self._large_now, 0
        for peer in self._state.peers.values():
            peer.idontwants = 0
            unwanted = peer.unwanted
            while unwanted:
                identifier, expires = next(iter(unwanted.items()))
                if expires > self._beat:
                    break
                del unwanted[identifier]
