"""From RPCs to delivered and forwarded messages, in whole batches: accept, verify, admit.

The steps are separate so that one can answer later: `accept` sorts out what needs no signature check, `verify` is a
pure function of a list, `admit` enters what passed, delivers and forwards it.
"""

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from itertools import compress, repeat
from typing import NamedTuple

from ..errors import ProtocolError
from ..types import PeerId
from .lazy import LazyGossip
from .mesh import Mesh
from .messages import RPC, ControlMessage, Fields, build_chunks, decode_rpc, parse_message
from .signing import Author, Authors, SignatureCheck, Verify
from .spare import SpareLinks
from .state import ENTRY, MALFORMED, PASSED_OVER, GossipPeer, GossipState, Topic, make_message, unsigned_ids
from .unwanted import Unwanted

_FEW = 32  # control entries that are served beside others' messages; more of them in one RPC are served in steps
_FRAME = 64  # bytes that an RPC counts beside its own: empty ones cost memory too


class UnverifiedMessage(NamedTuple):
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


class RpcReceiver:
    """Serves what one read of a peer brought."""

    def __init__(
        self,
        state: GossipState,
        mesh: Mesh,
        lazy: LazyGossip,
        unwanted: Unwanted,
        spare: SpareLinks,
        verify: Verify,
    ) -> None:
        self._state = state
        self._mesh = mesh
        self._lazy = lazy
        self._unwanted = unwanted
        self._spare = spare
        self._verify_batch = verify
        self._authors = Authors()
        self._last: Topic | None = None  # of the message before: the next is most often of the same

    def receive(self, peer: GossipPeer, frames: Sequence[bytes]) -> None:
        """Take RPCs in, and serve as many as one turn may; the rest waits behind the other peers' turns."""
        waits = bool(peer.backlog) or peer.step is not None
        peer.backlog.extend(frames)
        peer.backlog_bytes += sum(map(len, frames)) + _FRAME * len(frames)
        if waits:
            self._state.watch_backlog(peer)
        else:
            self._serve(peer)

    def serve_waiting(self) -> None:
        """Serve peers whose RPCs wait, in turn, until together they have had what one may have of a turn."""
        left = 1.0
        while left > 0 and self._state.waiting:
            left -= self._serve(next(iter(self._state.waiting.values())))

    def serve_all(self, peer: GossipPeer) -> None:
        """Serve what the peer has sent before its stream ended."""
        while peer.backlog or peer.step is not None:
            self._serve(peer)

    def drop(self, peer: GossipPeer) -> None:
        """Forget what waits of a peer that broke the rules."""
        self._state.statistics.dropped["no_peer"] += len(peer.backlog)
        peer.backlog.clear()
        peer.backlog_bytes, peer.step = 0, None
        self._state.waiting.pop(peer.id, None)

    def _serve(self, peer: GossipPeer) -> float:
        """Serve one turn's worth of what waits; returns how much of a turn that took.

        Messages are collected over RPCs, and small control messages behind them: one by one, both cost many times as
        much. An RPC that has more than a little of anything else is taken in steps.
        """
        state, config = self._state, self._state.config
        raws: list[bytes] = []
        controls: list[ControlMessage] = []
        messages, work = config.turn_messages, 0.0
        while messages > 0 and work < config.turn_work and not peer.violated:
            if peer.step is not None:
                self._flush(peer, raws, controls)
                points = next(peer.step, None)
                if points is None:
                    peer.step = None
                else:
                    work += points
                continue
            if not peer.backlog:
                break
            body = peer.backlog.popleft()
            peer.backlog_bytes -= len(body) + _FRAME
            try:
                rpc = decode_rpc(body)
            except ProtocolError:
                work += MALFORMED
                self._malformed(peer)
                continue
            state.statistics.rpcs_received += 1
            count = len(rpc.publish)
            entries = 0
            if rpc.HasField("control"):
                entries = _entries(rpc.control)
                if rpc.control.HasField("extensions") and peer.begun:  # v1.3: in the first RPC of a stream only
                    state.statistics.dropped["control_bound"] += 1
                    state.charge(peer, MALFORMED)
                    work += MALFORMED
            peer.begun = True
            if count > min(messages, config.max_rpc_messages) or entries > _FEW or rpc.subscriptions:
                peer.step = self._steps(peer, rpc)
                continue
            if count:
                raws += rpc.publish
                messages -= count
            if entries:
                controls.append(rpc.control)
                work += entries
            elif not count:
                state.charge(peer, ENTRY)
                work += ENTRY
        self._flush(peer, raws, controls)
        state.waiting.pop(peer.id, None)
        if peer.violated:
            self.drop(peer)
        elif peer.backlog or peer.step is not None:
            state.waiting[peer.id] = peer  # behind the others
        state.watch_backlog(peer)
        return max(work / config.turn_work, 1 - messages / config.turn_messages)

    def _steps(self, peer: GossipPeer, rpc: RPC) -> Iterator[float]:
        """Serve an RPC that may take more than one turn: subscriptions, then messages, then control.

        Yields the work of each step, in points.
        """
        state, config = self._state, self._state.config
        yield from self._mesh.on_subscriptions(peer, rpc.subscriptions)
        raws = rpc.publish[: config.max_rpc_messages]
        if len(rpc.publish) > len(raws):
            excess = len(rpc.publish) - len(raws)
            state.statistics.dropped["rpc_bound"] += excess
            state.charge(peer, excess * PASSED_OVER)
        for first in range(0, len(raws), config.turn_messages):
            part = raws[first : first + config.turn_messages]
            self._receive_messages(peer, part)
            yield config.turn_work * len(part) / config.turn_messages
        if rpc.HasField("control"):
            yield from self._control(peer, rpc.control)

    def _control(self, peer: GossipPeer, control: ControlMessage) -> Iterator[float]:
        yield from self._mesh.on_control(peer, control)
        self._lazy.on_control(peer, control)
        yield float(len(control.ihave) + len(control.iwant))
        self._unwanted.on_control(peer, control)
        yield float(len(control.idontwant))

    def _flush(self, peer: GossipPeer, raws: list[bytes], controls: list[ControlMessage]) -> None:
        """Serve what was collected: messages first, since IHAVE and IWANT refer to them."""
        if raws:
            self._receive_messages(peer, raws)
            raws.clear()
        for control in controls:
            deque(self._control(peer, control), maxlen=0)
        controls.clear()

    def _malformed(self, peer: GossipPeer) -> None:
        """Count an RPC or message that is none. Its length was right, so that what follows it can still be read."""
        self._state.statistics.rejected["malformed"] += 1
        self._state.charge(peer, MALFORMED)

    def _receive_messages(self, peer: GossipPeer, raws: list[bytes]) -> None:
        self._state.statistics.received += len(raws)
        candidates: list[UnverifiedMessage] = []
        checks: list[SignatureCheck] = []
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
            except ProtocolError:
                self._malformed(peer)
            position += 1
        if candidates:
            self._announce(peer, candidates)
            self._verify(peer, candidates, checks)

    # ------------------------------------------------------------ accept

    def _accept(
        self, peer: GossipPeer, raw: bytes, candidates: list[UnverifiedMessage], checks: list[SignatureCheck]
    ) -> None:
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
            state.charge(peer, PASSED_OVER)
        elif topic.options.sign:
            self._accept_signed(peer, topic, raw, fields, candidates, checks)
        elif fields.sender is None and fields.seqno is None and fields.signature is None and fields.key is None:
            self._admit(peer, _unsigned(topic, [raw], [fields.data or b""]))
        else:
            self._reject(topic, "foreign_field")

    def _accept_signed(
        self,
        peer: GossipPeer,
        topic: Topic,
        raw: bytes,
        fields: Fields,
        candidates: list[UnverifiedMessage],
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
            if peer.held:
                self._unwanted.shown(peer, (identifier,))
            return
        try:
            author = self._authors.find(sender, fields.key)
        except ProtocolError:
            self._reject(topic, "key")
            return
        candidates.append(UnverifiedMessage(topic, author, identifier, seqno, fields.data or b"", raw))
        checks.append(SignatureCheck(author.key, fields.content, signature))

    def _reject(self, topic: Topic, reason: str) -> None:
        self._state.statistics.rejected[reason] += 1
        topic.counts.rejected += 1

    def _announce(self, peer: GossipPeer, candidates: Sequence[UnverifiedMessage]) -> None:
        if self._unwanted.any_large([candidate.raw for candidate in candidates]):
            for candidate in candidates:
                self._unwanted.announce(peer, candidate.topic, (candidate.id,), (candidate.raw,))

    # ------------------------------------------------------------ verify

    def _verify(
        self, peer: GossipPeer, candidates: Sequence[UnverifiedMessage], checks: Sequence[SignatureCheck]
    ) -> None:
        batches: dict[str, Batch] = {}
        for candidate, reason in zip(candidates, self._verify_batch(checks), strict=True):
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

    def _admit(self, peer: GossipPeer, batch: Batch) -> None:
        """Enter new messages into the caches, deliver and forward them."""
        state = self._state
        fresh = state.seen.unseen(batch.topic.name, batch.ids)
        if fresh is not None:
            again = len(fresh) - sum(fresh)
            state.statistics.duplicates += again
            batch.topic.counts.duplicates += again
            state.propagation.shown(batch.ids, peer.id, state.now)
            if peer.held:
                self._unwanted.shown(peer, batch.ids)
            if not any(fresh):
                return
            batch = _only(batch, fresh)
        topic, ids, raws, datas, authors, seqnos = batch
        topic.counts.delivered_bytes += sum(map(len, datas))
        peer.firsts += len(ids)
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
        self, source: GossipPeer, topic: Topic, author: PeerId | None, ids: Sequence[bytes], raws: Sequence[bytes]
    ) -> None:
        targets = [peer for peer in topic.mesh.values() if peer is not source and peer.id != author]
        if len(raws[0]) >= self._state.config.idontwant_threshold:  # a look at one, since small messages are many
            targets = self._spare.hold(source, topic, targets, ids, raws)
        if any(peer.unwanted for peer in targets):
            targets = self._unwanted.send_wanted(topic, targets, ids, raws)
        if targets:
            config = self._state.config
            self._state.statistics.forwarded += len(raws)
            chunks = build_chunks(raws, config.max_chunk, config.max_chunk_messages)
            topic.counts.dropped += self._state.send_chunks(targets, chunks)


def _entries(control: ControlMessage) -> int:
    return len(control.graft) + len(control.prune) + len(control.ihave) + len(control.iwant) + len(control.idontwant)


def _unsigned(topic: Topic, raws: list[bytes], datas: list[bytes]) -> Batch:
    return Batch(topic, unsigned_ids(datas), raws, datas, None, None)


def _only(batch: Batch, wanted: Sequence[bool]) -> Batch:
    columns = (list(compress(column, wanted)) if column is not None else None for column in batch[1:])
    return Batch(batch.topic, *columns)  # type: ignore[arg-type]  # columns keep their types
