"""From checked messages to delivered and forwarded ones: remembered, judged, and let in.

A message comes here once its signature is verified, or where none is asked for. Only now is its id seen: before, a
forged copy with a guessed id would suppress the real one.
"""

from collections.abc import Iterable, Sequence
from itertools import compress, repeat
from typing import NamedTuple

from ..types import PeerId
from .judging import Candidates, Verdict
from .late import LateMessages
from .messages import build_chunks
from .signing import Author
from .spare import SpareLinks
from .state import GossipPeer, GossipState, Topic, make_message, unsigned_ids
from .unwanted import Unwanted


class Batch(NamedTuple):
    """Messages of one topic from one peer whose signatures are verified; columns of equal length."""

    topic: Topic
    ids: list[bytes]
    raws: list[bytes]
    datas: list[bytes]
    authors: list[Author] | None  # None: unsigned
    seqnos: list[bytes] | None

    @classmethod
    def unsigned(cls, topic: Topic, raws: list[bytes], datas: list[bytes]) -> "Batch":
        """Unsigned messages, whose ids are the hashes of their data."""
        return cls(topic, unsigned_ids(datas), raws, datas, None, None)

    def only(self, wanted: Sequence[bool]) -> "Batch":
        """The wanted ones."""
        columns = (list(compress(column, wanted)) if column is not None else None for column in self[1:])
        return Batch(self.topic, *columns)  # type: ignore[arg-type]  # columns keep their types


class Relay:
    """Takes messages in whose signatures are verified: `enter` remembers and judges them, `admit` passes them on."""

    def __init__(self, state: GossipState, unwanted: Unwanted, spare: SpareLinks, late: LateMessages) -> None:
        self._state = state
        self._unwanted = unwanted
        self._spare = spare
        self._late = late

    def enter(self, peer: GossipPeer, batch: Batch) -> None:
        """Take the new ones of these messages from a peer as seen, and pass on what the topic's rules accept."""
        state = self._state
        topic = batch.topic
        fresh = state.seen.unseen(topic.name, batch.ids)
        if fresh is not None:
            again = len(fresh) - sum(fresh)
            state.statistics.duplicates += again
            topic.counts.duplicates += again
            if topic.judged:
                state.scores.again(peer.record, topic.name, batch.ids, state.now)
            state.propagation.shown(batch.ids, peer.id, state.now)
            if peer.held or peer.promised:
                self._unwanted.brought(peer, batch.ids)
            if not any(fresh):
                return
            batch = batch.only(fresh)
        ids = batch.ids
        named = self._late.came(peer, topic, ids) if topic.awaited else {}
        state.propagation.began(ids, peer.id, state.now)
        state.seen.add(topic.name, ids)
        if self._unwanted.any_large(batch.raws):
            self._unwanted.announce(peer, topic, ids, batch.raws)
        if topic.rules is not None:
            accepted = self._judge(peer, batch)
            if accepted is None:
                return
            batch = accepted
        self.admit(peer, batch)
        if topic.judged:
            for identifier, peers in named.items():
                for other in peers:
                    state.scores.again(other.record, topic.name, (identifier,), state.now)

    def _judge(self, peer: GossipPeer, batch: Batch) -> Batch | None:
        """Those of the messages that the topic's rules accept; None where they accept none."""
        topic, authors, seqnos = batch.topic, batch.authors, batch.seqnos
        assert topic.rules is not None
        senders = [author.peer for author in authors] if authors is not None else None
        numbers = [int.from_bytes(seqno, "big") for seqno in seqnos] if seqnos is not None else None
        verdicts = topic.rules.judge(Candidates(topic.name, batch.datas, senders, numbers, peer.id), self._state.now)
        if verdicts is None:
            return batch
        for verdict in verdicts:
            if verdict is Verdict.REJECT:
                self._state.reject(peer, topic, "verdict")
            elif verdict is Verdict.IGNORE:
                self._state.ignore(topic, "verdict")
        accepted = [verdict is Verdict.ACCEPT for verdict in verdicts]
        return batch.only(accepted) if any(accepted) else None

    def admit(self, peer: GossipPeer, batch: Batch) -> None:
        """Enter accepted messages into the cache, deliver and forward them."""
        state = self._state
        topic, ids, raws, datas, authors, seqnos = batch
        topic.counts.delivered_bytes += sum(map(len, datas))
        peer.firsts += len(ids)
        state.scores.delivered(peer.record, topic.name, ids, state.now)
        state.cache.put(topic.name, ids, raws)
        senders: Iterable[PeerId | None] = repeat(None)
        numbers: Iterable[int | None] = repeat(None)
        if authors is not None and seqnos is not None:
            senders = [author.peer for author in authors]
            numbers = [int.from_bytes(seqno, "big") for seqno in seqnos]
        columns = zip(ids, repeat(topic.name), senders, numbers, datas, repeat(peer.id), repeat(False))
        state.deliver(topic, list(map(make_message, columns)))
        if authors is None:
            self._forward(peer, topic, None, ids, raws)
            return
        # Messages of different authors may go over different links. And none goes back to its author (v1.0 Message
        # Processing).
        groups: dict[PeerId, tuple[list[bytes], list[bytes]]] = {}
        for author, identifier, raw in zip(authors, ids, raws, strict=True):
            group = groups.setdefault(author.peer, ([], []))
            group[0].append(identifier)
            group[1].append(raw)
        for author_id, group in groups.items():
            self._forward(peer, topic, author_id, *group)

    def _forward(
        self, source: GossipPeer, topic: Topic, author: PeerId | None, ids: Sequence[bytes], raws: Sequence[bytes]
    ) -> None:
        targets = [peer for peer in topic.mesh.values() if peer is not source and peer.id != author]
        if targets and self._state.config.eager_share:
            targets = self._spare.divert(source, topic, author, targets, ids, raws)
        if any(peer.unwanted for peer in targets):
            targets = self._unwanted.send_wanted(topic, targets, ids, raws)
        if targets:
            config = self._state.config
            self._state.statistics.forwarded += len(raws)
            chunks = build_chunks(raws, config.max_chunk, config.max_chunk_messages)
            topic.counts.dropped += self._state.send_chunks(targets, chunks)
