"""From RPCs to delivered and forwarded messages, in whole batches: accept, verify, admit.

The steps are separate so that one can answer later: `accept` sorts out what needs no signature check, `verify` is a
pure function of a list, `admit` enters what passed, delivers and forwards it.
"""

from collections.abc import Iterable, Sequence
from itertools import compress, repeat
from typing import NamedTuple

from ..errors import ProtocolError
from ..types import PeerId
from .lazy import LazyGossip
from .mesh import Mesh
from .messages import ControlMessage, Fields, build_chunks, decode_rpc, parse_message
from .signing import Author, Authors, SignatureCheck, verify_batch
from .state import GossipState, Peer, Topic, make_message, unsigned_ids
from .unwanted import Unwanted


class Candidate(NamedTuple):
    """A signed message that waits for the verdict on its signature."""

    topic: Topic
    author: Author
    id: bytes
    seqno: bytes
    data: bytes
    raw: bytes


class Batch(NamedTuple):
    """Messages of one topic from one peer that passed every check but that for duplicates; columns of equal length."""

    topic: Topic
    ids: list[bytes]
    raws: list[bytes]
    datas: list[bytes]
    authors: list[Author] | None  # None: unsigned
    seqnos: list[bytes] | None


class Receiver:
    """Serves what one read of a peer brought."""

    def __init__(self, state: GossipState, mesh: Mesh, lazy: LazyGossip, unwanted: Unwanted) -> None:
        self._state = state
        self._mesh = mesh
        self._lazy = lazy
        self._unwanted = unwanted
        self._authors = Authors()
        self._last: Topic | None = None  # of the message before: the next is most often of the same

    def receive(self, peer: Peer, frames: Sequence[bytes]) -> None:
        """Subscriptions first, then all messages, then control, since IHAVE and IWANT refer to messages.

        What precedes a malformed RPC or message is served; then the peer is reported.
        """
        state = self._state
        raws: list[bytes] = []
        controls: list[ControlMessage] = []
        error: ProtocolError | None = None
        bound = state.config.max_rpc_messages
        for body in frames:
            try:
                rpc = decode_rpc(body)
            except ProtocolError as broken:
                error = broken
                break
            state.statistics.rpcs_received += 1
            if rpc.subscriptions:
                self._mesh.on_subscriptions(peer, rpc.subscriptions)
            found = rpc.publish[:bound]
            raws += found
            if len(found) == bound:
                state.statistics.dropped["rpc_bound"] += len(rpc.publish) - bound
            if rpc.HasField("control"):
                controls.append(rpc.control)
        if raws:
            state.statistics.received += len(raws)
            error = self._receive_messages(peer, raws) or error
        for control in controls:
            self._mesh.on_control(peer, control)
            self._lazy.on_control(peer, control)
            self._unwanted.on_control(peer, control)
        if error is not None:
            state.statistics.rejected["malformed"] += 1
            state.violate(peer, error)

    def _receive_messages(self, peer: Peer, raws: list[bytes]) -> ProtocolError | None:
        candidates: list[Candidate] = []
        checks: list[SignatureCheck] = []
        error: ProtocolError | None = None
        position, end = 0, len(raws)
        while position < end:
            topic = self._last
            if topic is not None and topic.joined and not topic.options.sign:
                datas = topic.unsigned.match(raws, position)
                if datas:
                    self._admit(peer, _unsigned(topic, raws[position : position + len(datas)], datas))
                    position += len(datas)
                    continue
            try:
                self._accept(peer, raws[position], candidates, checks)
            except ProtocolError as broken:
                error = broken
                break
            position += 1
        if candidates:
            self._announce(peer, candidates)
            self._verify(peer, candidates, checks)
        return error

    # ------------------------------------------------------------ accept

    def _accept(self, peer: Peer, raw: bytes, candidates: list[Candidate], checks: list[SignatureCheck]) -> None:
        """Take one message apart and judge all but its signature. Raises ProtocolError when it is malformed."""
        state = self._state
        topic = self._last
        known = topic is not None and topic.joined and topic.options.sign
        fields = topic.signed.match(raw) if topic is not None and known else None
        if fields is None:
            fields = parse_message(raw)
            if fields.topic is None:
                raise ProtocolError("gossip message without a topic")
            topic = self._last = state.by_wire.get(fields.topic)
        if topic is None or not topic.joined:
            state.statistics.dropped["not_joined"] += 1
        elif topic.options.sign:
            self._accept_signed(peer, topic, raw, fields, candidates, checks)
        elif fields.sender is None and fields.seqno is None and fields.signature is None and fields.key is None:
            self._admit(peer, _unsigned(topic, [raw], [fields.data or b""]))
        else:
            self._reject(topic, "foreign_field")

    def _accept_signed(
        self,
        peer: Peer,
        topic: Topic,
        raw: bytes,
        fields: Fields,
        candidates: list[Candidate],
        checks: list[SignatureCheck],
    ) -> None:
        state = self._state
        sender, seqno, signature = fields.sender, fields.seqno, fields.signature
        if not sender or signature is None or seqno is None or len(seqno) != 8:
            self._reject(topic, "missing_field")
            return
        identifier = sender + seqno
        if identifier in state.propagation.samples:
            state.propagation.shown((identifier,), peer.id, state.now)
        if sender == state.identity.peer_id:
            state.statistics.dropped["own_echo"] += 1
            return
        if state.seen.contains(topic.name, identifier):  # before the check, which costs a hundred times as much
            state.statistics.duplicates += 1
            topic.counts.duplicates += 1
            return
        try:
            author = self._authors.find(sender, fields.key)
        except ProtocolError:
            self._reject(topic, "key")
            return
        candidates.append(Candidate(topic, author, identifier, seqno, fields.data or b"", raw))
        checks.append(SignatureCheck(author.key, fields.content, signature))

    def _reject(self, topic: Topic, reason: str) -> None:
        self._state.statistics.rejected[reason] += 1
        topic.counts.rejected += 1

    def _announce(self, peer: Peer, candidates: Sequence[Candidate]) -> None:
        if self._unwanted.any_large([candidate.raw for candidate in candidates]):
            for candidate in candidates:
                self._unwanted.announce(peer, candidate.topic, (candidate.id,), (candidate.raw,))

    # ------------------------------------------------------------ verify

    def _verify(self, peer: Peer, candidates: Sequence[Candidate], checks: Sequence[SignatureCheck]) -> None:
        batches: dict[str, Batch] = {}
        for candidate, reason in zip(candidates, verify_batch(checks), strict=True):
            if reason is not None:
                self._state.statistics.rejected[reason] += 1
                candidate.topic.counts.rejected += 1
                continue
            topic, author, identifier, seqno, data, raw = candidate
            batch = batches.get(topic.name)
            if batch is None:
                batch = batches[topic.name] = Batch(topic, [], [], [], [], [])
            assert batch.authors is not None
            assert batch.seqnos is not None
            batch.ids.append(identifier)
            batch.raws.append(raw)
            batch.datas.append(data)
            batch.authors.append(author)
            batch.seqnos.append(seqno)
        for batch in batches.values():
            self._admit(peer, batch)

    # ------------------------------------------------------------ admit

    def _admit(self, peer: Peer, batch: Batch) -> None:
        """Enter new messages into the caches, deliver and forward them."""
        state = self._state
        fresh = state.seen.unseen(batch.topic.name, batch.ids)
        if fresh is not None:
            again = len(fresh) - sum(fresh)
            state.statistics.duplicates += again
            batch.topic.counts.duplicates += again
            state.propagation.shown(batch.ids, peer.id, state.now)
            if not any(fresh):
                return
            batch = _only(batch, fresh)
        topic, ids, raws, datas, authors, seqnos = batch
        topic.counts.delivered_bytes += sum(map(len, datas))
        state.propagation.began(ids, peer.id, state.now)
        state.seen.add(topic.name, ids)
        state.cache.put(topic.name, ids, raws)
        senders: Iterable[PeerId | None] = repeat(None)
        numbers: Iterable[int | None] = repeat(None)
        if authors is not None and seqnos is not None:
            senders = [author.peer for author in authors]
            numbers = [int.from_bytes(seqno, "big") for seqno in seqnos]
        columns = zip(ids, repeat(topic.name), senders, numbers, datas, repeat(peer.id), repeat(False))
        state.deliver(topic, list(map(make_message, columns)))
        if authors is None:
            if self._unwanted.any_large(raws):
                self._unwanted.announce(peer, topic, ids, raws)
            self._forward(peer, topic, None, ids, raws)
            return
        # A message does not go back to its author (v1.0 Message Processing): one group for each author in the mesh.
        groups: dict[PeerId | None, tuple[list[bytes], list[bytes]]] = {}
        for author, identifier, raw in zip(authors, ids, raws, strict=True):
            group = groups.setdefault(author.peer if author.peer in topic.mesh else None, ([], []))
            group[0].append(identifier)
            group[1].append(raw)
        for excluded, group in groups.items():
            self._forward(peer, topic, excluded, *group)

    def _forward(
        self, source: Peer, topic: Topic, author: PeerId | None, ids: Sequence[bytes], raws: Sequence[bytes]
    ) -> None:
        targets = [peer for peer in topic.mesh.values() if peer is not source and peer.id != author]
        if any(peer.unwanted for peer in targets):
            targets = self._unwanted.send_wanted(topic, targets, ids, raws)
        if targets:
            config = self._state.config
            self._state.statistics.forwarded += len(raws)
            chunks = build_chunks(raws, config.max_chunk, config.max_chunk_messages)
            topic.counts.dropped += self._state.send_chunks(targets, chunks)


def _unsigned(topic: Topic, raws: list[bytes], datas: list[bytes]) -> Batch:
    return Batch(topic, unsigned_ids(datas), raws, datas, None, None)


def _only(batch: Batch, wanted: Sequence[bool]) -> Batch:
    columns = (list(compress(column, wanted)) if column is not None else None for column in batch[1:])
    return Batch(batch.topic, *columns)  # type: ignore[arg-type]  # columns keep their types
