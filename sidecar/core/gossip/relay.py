"""From checked messages to delivered and forwarded ones: remembered, judged, and let in.

A message comes here once its signature is verified, or where none is asked for. Only now is its id seen: before, a
forged copy with a guessed id would suppress the real one.

A bundle is opened here, whatever this node's own choice for the topic: its messages are judged and delivered one by
one, while it is remembered, named and forwarded as the one message that it is. Nothing can be taken out of what is
signed. So one message of it that is to be rejected has all of it rejected; and with what is ignored of it, it goes on
only where that is the lesser part, lest a sender have others relay what they would not relay by itself.
"""

from collections.abc import Iterable, Sequence
from itertools import compress, repeat

from ..classes import NamedTuple
from ..errors import ProtocolError
from ..types import PeerId
from .bundles import MARK, claimed, inner_ids, unpack
from .events import GossipMessage
from .judging import Candidates, Verdict
from .late import LateMessages
from .messages import BundleBytes, build_chunks, count_messages
from .pacing import UNIT
from .signing import Author
from .spare import SpareLinks
from .state import GossipPeer, GossipState, Topic, make_message, unsigned_ids
from .trials import Trials
from .unwanted import Unwanted
from .validation import JudgedBundle, Row, Validation


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

    def part(self, first: int, behind: int) -> "Batch":
        """The messages from `first` on that are before `behind`."""
        columns = (column[first:behind] if column is not None else None for column in self[1:])
        return Batch(self.topic, *columns)  # type: ignore[arg-type]  # columns keep their types


class _Bundle(NamedTuple):
    """A bundle that was opened: as it came, a batch of one, and its messages."""

    outer: Batch
    messages: list[GossipMessage]


class Relay:
    """Takes messages in whose signatures are verified: `enter` remembers and judges them, `admit` passes them on."""

    def __init__(
        self,
        state: GossipState,
        unwanted: Unwanted,
        spare: SpareLinks,
        late: LateMessages,
        validation: Validation,
        trials: Trials,
    ) -> None:
        self._state = state
        self._unwanted = unwanted
        self._spare = spare
        self._late = late
        self._validation = validation
        self._trials = trials
        validation.passed = self._pass

    def enter(self, peer: GossipPeer, batch: Batch) -> None:
        """Take the new ones of these messages from a peer as seen, and pass on what the topic's rules accept."""
        state = self._state
        topic = batch.topic
        state.gives(peer, topic)
        fresh = state.seen.unseen(topic.name, batch.ids)
        if fresh is not None:
            known = [identifier for identifier, new in zip(batch.ids, fresh, strict=True) if not new]
            state.propagation.shown(known, peer.id, state.now)
            inside = len(known)
            if batch.authors is not None:
                inside = sum(claimed(data) for data, new in zip(batch.datas, fresh, strict=True) if not new)
                state.statistics.received += inside - len(known)
            self.again(peer, topic, known, inside)
            if not any(fresh):
                return
            batch = batch.only(fresh)
        ids = batch.ids
        peer.proven = True
        if batch.authors is None:  # others were counted when their signatures were to be checked
            peer.load.add(len(ids) + sum(map(len, batch.raws)) / UNIT, state.now, state.ease(peer))
        named = self._late.came(peer, topic, ids) if topic.awaited else {}
        state.propagation.began(ids, peer.id, state.now)
        if state.replays is not None and batch.authors is not None and batch.seqnos is not None:
            state.replays.entered([author.peer for author in batch.authors], batch.seqnos, peer.id)
        state.seen.add(topic.name, ids)
        if self._unwanted.any_large(batch.raws):
            told = self._spare.told(topic, peer, batch.authors[0].peer if batch.authors else None)
            self._unwanted.announce(peer, topic, ids, batch.raws, told)
        first = 0
        if batch.authors is not None:
            for place in [place for place, data in enumerate(batch.datas) if data.startswith(MARK)]:
                if first < place:
                    self._take_in(peer, batch.part(first, place))
                self._open(peer, batch.part(place, place + 1))
                first = place + 1
        if first < len(ids):
            self._take_in(peer, batch.part(first, len(ids)) if first else batch)
        if topic.judged:
            for identifier, peers in named.items():
                for other in peers:
                    state.scores.again(other.record, topic.name, (identifier,), state.now)

    def _take_in(self, peer: GossipPeer, batch: Batch) -> None:
        """Pass on what the topic's rules accept of new messages, once apps have as well where they judge the topic."""
        topic = batch.topic
        if topic.rules is not None:
            accepted = self._judge(peer, batch)
            if accepted is None:
                return
            batch = accepted
        if self._validation.guards and topic.name in self._validation.guards:
            self._ask(peer, batch)
        else:
            self.admit(peer, batch)

    def again(self, peer: GossipPeer, topic: Topic, ids: Sequence[bytes], messages: int) -> None:
        """A peer has sent messages that came before; `messages`: how many with those in bundles."""
        state = self._state
        state.gives(peer, topic)
        state.statistics.duplicates += messages
        topic.counts.duplicates += messages
        if topic.judged:
            state.scores.again(peer.record, topic.name, ids, state.now)
        if peer.held or peer.promised:
            self._unwanted.brought(peer, ids)
        if len(self._validation):
            self._validation.copied(peer, topic.name, ids)

    def _ask(self, peer: GossipPeer, batch: Batch) -> None:
        """Have apps judge the messages, and admit those that need not wait for that."""
        topic, ids, raws, datas, authors, seqnos = batch
        no_authors: Sequence[Author | None] = [None] * len(ids)
        no_numbers: Sequence[bytes | None] = [None] * len(ids)
        rows = list(zip(ids, raws, datas, authors or no_authors, seqnos or no_numbers, strict=True))
        self._pass(peer, topic, self._validation.ask(peer, topic, _messages(peer, batch), rows))

    def _pass(self, peer: GossipPeer, topic: Topic, rows: Sequence[Row]) -> None:
        """Admit messages that were judged."""
        if not rows:
            return
        if not topic.joined:  # it was left while they waited
            self._state.statistics.dropped["not_joined"] += len(rows)
            return
        ids, raws, datas, authors, seqnos = map(list, zip(*rows, strict=True))
        signed = authors[0] is not None
        batch = Batch(topic, ids, raws, datas, authors if signed else None, seqnos if signed else None)
        self.admit(peer, batch)

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
                self._state.reject(peer, topic, "rule")
            elif verdict is Verdict.IGNORE:
                self._state.ignore(topic, "rule")
        accepted = [verdict is Verdict.ACCEPT for verdict in verdicts]
        return batch.only(accepted) if any(accepted) else None

    # ------------------------------------------------------------ bundles

    def _open(self, peer: GossipPeer, outer: Batch) -> None:
        """Judge the messages of a new bundle, whose signature is verified; what follows waits for all verdicts."""
        state, topic = self._state, outer.topic
        assert outer.authors is not None
        assert outer.seqnos is not None
        author, seqno = outer.authors[0].peer, int.from_bytes(outer.seqnos[0], "big")
        try:
            datas = unpack(outer.datas[0], seqno)
        except ProtocolError:
            # Who does not know bundles passes on any, and is not to blame; who has signed it is.
            if peer.bundles or peer.id == author:
                state.reject(peer, topic, "bundle")
            else:
                state.ignore(topic, "bundle")
            return
        count = len(datas)
        state.statistics.received += count - 1
        state.statistics.bundles_received += 1
        columns = zip(
            inner_ids(outer.ids[0], count),
            repeat(topic.name),
            repeat(author),
            range(seqno, seqno + count),
            datas,
            repeat(peer.id),
            repeat(False),
        )
        bundle = _Bundle(outer._replace(raws=[BundleBytes.of(outer.raws[0], count)]), list(map(make_message, columns)))
        verdicts: Sequence[Verdict] | None = None
        if topic.rules is not None:
            senders, numbers = [author] * count, range(seqno, seqno + count)
            verdicts = topic.rules.judge(Candidates(topic.name, datas, senders, numbers, peer.id), state.now)
        if verdicts is not None:
            if Verdict.REJECT in verdicts:
                state.reject(peer, topic, "rule", count)
                return
            state.ignore(topic, "rule", verdicts.count(Verdict.IGNORE))
            if Verdict.ACCEPT not in verdicts:
                return
        if self._validation.guards and topic.name in self._validation.guards:
            self._ask_bundle(peer, bundle, verdicts)
        else:
            self._admit_bundle(peer, bundle, verdicts)

    def _ask_bundle(self, peer: GossipPeer, bundle: _Bundle, verdicts: Sequence[Verdict] | None) -> None:
        """Have apps judge those messages of a bundle that no rule keeps back."""
        topic, messages, count = bundle.outer.topic, bundle.messages, len(bundle.messages)
        known = list(verdicts) if verdicts is not None else [Verdict.ACCEPT] * count
        indexes = [index for index in range(count) if known[index] is Verdict.ACCEPT]

        def settled(judged: JudgedBundle) -> None:
            self._validation.bundle_left(judged)
            brought = (peer, *(judged.copies or ()))
            if Verdict.REJECT in judged.verdicts:
                for each in brought:
                    self._state.reject(each, topic, "verdict", count)
            elif not topic.joined:  # it was left while they waited
                self._state.statistics.dropped["not_joined"] += count
            elif Verdict.ACCEPT in judged.verdicts:
                for each in brought[1:]:
                    self._unwanted.shown(each, bundle.outer.ids)  # it need not get what it has
                self._admit_bundle(peer, bundle, judged.verdicts)

        judged = JudgedBundle(peer, topic, bundle.outer.ids[0], known, settled)
        self._validation.ask_bundle(judged, [messages[index] for index in indexes], indexes)

    def _admit_bundle(self, peer: GossipPeer, bundle: _Bundle, verdicts: Sequence[Verdict] | None) -> None:
        """Deliver the accepted messages of a bundle, and pass it on where they are the greater part of it."""
        outer, messages = bundle
        size = sum([len(message.data) for message in messages])
        accepted, accepted_size = messages, size
        if verdicts is not None:
            accepted = list(compress(messages, (verdict is Verdict.ACCEPT for verdict in verdicts)))
            accepted_size = sum([len(message.data) for message in accepted])
        goes_on = 2 * len(accepted) >= len(messages) and 2 * accepted_size >= size
        self._enter_accepted(peer, outer, accepted, accepted_size, goes_on=goes_on)

    # ------------------------------------------------------------ accepted

    def admit(self, peer: GossipPeer, batch: Batch) -> None:
        """Enter accepted messages into the cache, deliver and forward them."""
        self._enter_accepted(peer, batch, _messages(peer, batch), sum(map(len, batch.datas)), goes_on=True)

    def _enter_accepted(
        self, peer: GossipPeer, batch: Batch, messages: list[GossipMessage], size: int, *, goes_on: bool
    ) -> None:
        """The same of a batch as it travels, and its messages as apps get them. `size`: of their payloads."""
        state = self._state
        topic, ids, raws, _, authors, _ = batch
        topic.counts.delivered_bytes += size
        peer.firsts += len(messages)
        state.pacing.brought(peer, peer.load, state.now, state.ease(peer))
        # A batch has bundles only where it is one.
        state.scores.delivered(peer.record, topic.name, ids, state.now, len(messages) // len(ids))
        state.deliver(topic, messages, ids, raws)
        if not goes_on:
            return
        state.cache.put(topic.name, ids, raws)
        self._forward_all(peer, topic, authors, ids, raws)
        state.relaying = None, False

    def _forward_all(
        self, peer: GossipPeer, topic: Topic, authors: Sequence[Author] | None, ids: list[bytes], raws: list[bytes]
    ) -> None:
        heavy = self._state.heavy(peer)
        if authors is None:
            self._state.relaying = peer.id, heavy
            self._forward(peer, topic, None, ids, raws)
            return
        # Messages of different authors may go over different links. And none goes back to its author (v1.0 Message
        # Processing).
        now, pacing = self._state.now, self._state.pacing
        flood = self._state.flood(peer) if heavy else None
        groups: dict[PeerId, tuple[list[bytes], list[bytes]]] = {}
        for author, identifier, raw in zip(authors, ids, raws, strict=True):
            group = groups.setdefault(author.peer, ([], []))
            group[0].append(identifier)
            group[1].append(raw)
        for author_id, group in groups.items():
            self._state.relaying = author_id, flood is not None and pacing.behind(flood, author_id, group[1], now)
            self._forward(peer, topic, author_id, *group)

    def _forward(
        self, source: GossipPeer, topic: Topic, author: PeerId | None, ids: Sequence[bytes], raws: Sequence[bytes]
    ) -> None:
        targets = [peer for peer in topic.mesh.values() if peer is not source and peer.id != author]
        if topic.tried:
            named = self._trials.name(topic, targets, ids, raws)
            if named:
                targets = [peer for peer in targets if peer not in named]
                if len(ids) > 1:
                    self._send(source, topic, author, named, ids[1:], raws[1:])
        self._send(source, topic, author, targets, ids, raws)

    def _send(
        self,
        source: GossipPeer,
        topic: Topic,
        author: PeerId | None,
        targets: list[GossipPeer],
        ids: Sequence[bytes],
        raws: Sequence[bytes],
    ) -> None:
        if targets and self._state.config.eager_share:
            targets = self._spare.divert(source, topic, author, targets, ids, raws)
        if any(peer.unwanted for peer in targets):
            targets = self._unwanted.send_wanted(topic, targets, ids, raws)
        if targets:
            config = self._state.config
            self._state.statistics.forwarded += count_messages(raws)
            chunks = build_chunks(raws, config.max_chunk, config.max_chunk_messages)
            topic.counts.dropped += self._state.send_chunks(targets, chunks)


def _messages(peer: GossipPeer, batch: Batch) -> list[GossipMessage]:
    """The messages as apps get them."""
    topic, ids, _, datas, authors, seqnos = batch
    senders: Iterable[PeerId | None] = repeat(None)
    numbers: Iterable[int | None] = repeat(None)
    if authors is not None and seqnos is not None:
        senders = [author.peer for author in authors]
        numbers = [int.from_bytes(seqno, "big") for seqno in seqnos]
    return list(
        map(make_message, zip(ids, repeat(topic.name), senders, numbers, datas, repeat(peer.id), repeat(False)))
    )
