"""What apps publish: made into messages, queued for peers a chunk at a time, or made to wait for room.

Where a topic has its messages travel in bundles, a chunk is one. Nothing waits to fill it: what is published together
was gathered before, by apps that publish many, and by client libraries while they write.
"""

from bisect import bisect_right
from collections.abc import Callable, Iterable, Sequence
from itertools import accumulate, compress, repeat

from ..errors import InvalidArgument
from ..parameters.bundles import MAX_BUNDLED, Bundling
from .bundles import MARK, MARKS, OVERHEAD, inner_ids, pack, weight
from .events import GossipMessage, PublishCompleted, Published, PublishOutcome, Receipt, TopicOptions
from .judging import Candidates, Verdict
from .mesh import Mesh
from .messages import BundleBytes, build_chunks, max_payload
from .signing import SIGN_PREFIX
from .state import GossipPeer, GossipState, Topic, make_message, unsigned_ids
from .trials import Trials
from .validation import Validation

_PER_MESSAGE = 8  # bytes of the headers that an RPC adds to a message, at most
_PER_BUNDLED = 3  # the same of a bundle; what is larger than 2 MiB goes into none


class _Job:
    """A batch on its way out."""

    __slots__ = (
        "bundled",
        "bundling",
        "ends",
        "ids",
        "messages",
        "minimum",
        "op",
        "position",
        "receipts",
        "refused",
        "settled",
        "sign",
        "topic",
        "unjudged",
        "wait",
        "without",
    )

    def __init__(self, published: Published, topic: Topic, sign: bool) -> None:
        self.op = published.op
        self.topic = topic.name
        self.messages = published.messages
        self.wait = published.wait
        self.minimum = published.minimum_peers
        self.without = published.without
        self.sign = sign
        self.position = 0  # messages before it have their receipt
        bundling = topic.bundling if published.bundling is None else published.bundling
        self.bundling = bundling if sign and len(self.messages) > 1 else Bundling.OFF
        self.bundled = False  # they travel in bundles now
        self.ends: list[int] = []
        self.measure(topic)
        self.receipts: list[Receipt] = []
        self.ids: list[bytes] = []
        self.refused: dict[int, None] = {}  # messages that were judged, and not accepted
        self.unjudged = 0  # messages that apps still judge
        self.settled: Callable[[], None] = lambda: None  # told when there is none any more

    def measure(self, topic: Topic) -> None:
        """See how the messages travel now, and how much of a frame they take."""
        bundled = self.bundling is Bundling.ALWAYS or (
            self.bundling is Bundling.KNOWN and all(peer.bundles for peer in topic.peers.values())
        )
        if self.ends and bundled is self.bundled:
            return
        self.bundled = bundled
        each = _PER_BUNDLED
        if not bundled:
            each = _PER_MESSAGE + (topic.signed.envelope if self.sign else topic.unsigned.envelope)
        self.ends = list(accumulate((len(data) + each for data in self.messages), initial=0))

    def judged(self, index: int, verdict: Verdict, reason: str = "") -> None:
        """The verdict on one of the messages."""
        self.unjudged -= 1
        if verdict is not Verdict.ACCEPT:
            self.refused[index] = None
        if not self.unjudged:
            self.settled()

    @property
    def bytes_left(self) -> int:
        return self.ends[-1] - self.ends[self.position]

    def answer(self, ids: Sequence[bytes], outcome: PublishOutcome, peers: int = 0, dropped: int = 0) -> None:
        """Give the next messages their receipt; it extends the one before where all else is equal."""
        count = len(ids)
        self.ids += ids
        if self.receipts and self.receipts[-1][2:] == (outcome, peers, dropped):
            first, before = self.receipts[-1][:2]
            self.receipts[-1] = Receipt(first, before + count, outcome, peers, dropped)
        else:
            self.receipts.append(Receipt(self.position, count, outcome, peers, dropped))
        self.position += count

    def answer_rest(self, outcome: PublishOutcome) -> None:
        if left := len(self.messages) - self.position:
            self.answer([b""] * left, outcome)


class Publisher:
    """Carries out publications in order, holding back those that must wait."""

    def __init__(self, state: GossipState, mesh: Mesh, validation: Validation, trials: Trials, sequence: int) -> None:
        self._state = state
        self._mesh = mesh
        self._validation = validation
        self._trials = trials
        self._sequence = sequence
        self._parked: dict[int, _Job] = {}
        self._parked_bytes = 0
        self._signatures_left = 0
        self.due = False  # parked publications should be tried again, in a turn of their own

    def start_turn(self) -> None:
        """Allow `sign_burst` signatures in the turn that begins; what wants more waits."""
        self._signatures_left = self._state.config.sign_burst

    def publish(self, published: Published) -> None:
        """Raises as Published says."""
        state = self._state
        topic = state.topic(published.topic)
        options = topic.options if topic.joined else published.options or TopicOptions()
        if options.sign and any(data.startswith(MARK) for data in published.messages):
            raise InvalidArgument(f"a payload begins with {MARK!r}, which marks bundles of messages")
        job = _Job(published, topic, options.sign)
        guarded = topic.name in self._validation.guards
        # Those that wait keep their order in the topic; nobody overtakes within it but who would not wait.
        waits = (job.wait or guarded) and any(other.topic == job.topic for other in self._parked.values())
        self._judge(job, topic, guarded)
        if waits or job.unjudged:
            if not self._park(job):
                self._withdraw(job)
                self._complete(job, PublishOutcome.QUEUE_FULL)
        else:
            self._advance(job)

    def cancel(self, op: int) -> None:
        """End a publication that waits; what of it has gone out stays published."""
        job = self._parked.pop(op, None)
        if job is not None:
            self._parked_bytes -= job.bytes_left
            self._withdraw(job)
            self._complete(job, PublishOutcome.CANCELLED)

    def resume(self) -> None:
        """Try parked publications again, in their order; one that cannot go holds back its topic's others."""
        self.due = False
        held: dict[str, None] = {}
        parked, self._parked, self._parked_bytes = self._parked, {}, 0
        for job in parked.values():
            if job.topic in held or job.unjudged:
                held[job.topic] = None
                self._parked[job.op] = job
                self._parked_bytes += job.bytes_left
            else:
                self._advance(job)
                if job.op in self._parked:
                    held[job.topic] = None

    def has_room(self, peer: GossipPeer) -> bool:
        """Whether publishers that wait should try again since the peer's queue was emptied somewhat."""
        return bool(self._parked) and peer.queue.relieved

    def on_candidates_changed(self) -> None:
        """Peers or subscriptions came or went."""
        self.due = self.due or bool(self._parked)

    # ------------------------------------------------------------ verdicts

    def _judge(self, job: _Job, topic: Topic, guarded: bool) -> None:
        """Have the messages judged by the topic's rules, now, and by apps, which may answer later."""
        state = self._state
        me = state.identity.peer_id
        count = len(job.messages)
        if topic.rules is not None:
            candidates = Candidates(topic.name, job.messages, [me] * count if job.sign else None, None, me)
            verdicts = topic.rules.judge(candidates, state.now)
            if verdicts is not None:
                job.refused = {index: None for index, verdict in enumerate(verdicts) if verdict is not Verdict.ACCEPT}
        if guarded:
            indexes = [index for index in range(count) if index not in job.refused]
            sender = me if job.sign else None
            messages = [GossipMessage(b"", topic.name, sender, None, job.messages[at], me, True) for at in indexes]
            job.unjudged = len(indexes)
            self._validation.publish(job, topic, messages, indexes)
            job.settled = self._on_candidates_judged

    def _on_candidates_judged(self) -> None:
        self.due = True

    def _withdraw(self, job: _Job) -> None:
        if job.unjudged:
            self._validation.withdraw(job, job.topic)

    # ------------------------------------------------------------ one job

    def _advance(self, job: _Job) -> None:
        """Send as much as can be sent; then complete or park the job."""
        topic = self._state.topic(job.topic)
        targets = self._targets(topic, job.minimum + len(job.without) if job.minimum else 0)
        if job.without:
            targets = [peer for peer in targets if peer.id not in job.without]
        if job.bundling is Bundling.KNOWN:
            job.measure(topic)
        while job.position < len(job.messages):
            if job.position in job.refused:
                job.answer([b""], PublishOutcome.REJECTED)
                continue
            if len(targets) < job.minimum:
                if job.wait and self._park(job):
                    return
                self._complete(job, PublishOutcome.NO_PEERS)
                return
            if len(job.messages[job.position]) > topic.max_payload(job.sign):
                job.answer([b""], PublishOutcome.TOO_LARGE)
                continue
            bundled = job.bundled and self._bundle_end(job, topic, targets)
            end = bundled or (job.position + 1 if job.bundled else self._chunk_end(job, topic))
            if job.sign:
                if self._signatures_left <= 0 and self._park(job):
                    self.due = True
                    return
                if not bundled:
                    end = min(end, job.position + max(1, self._signatures_left))
            able = targets if bundled else [peer for peer in targets if peer.max_rpc is None]
            if len(able) < len(targets):
                end, able = self._narrowed(job, topic, end, targets)
                if len(able) < max(1, job.minimum):
                    self._state.statistics.dropped["peer_limit"] += len(targets)
                    job.answer([b""], PublishOutcome.TOO_LARGE)
                    continue
            first = job.position
            size = job.ends[end] - job.ends[first]
            ready = [peer for peer in able if peer.queue.has_room(size, end - job.position)]
            if able and not ready:
                if job.wait and self._park(job):
                    return
                self._complete(job, PublishOutcome.QUEUE_FULL)
                return
            self._send(job, topic, end, able, ready, bundle=bool(bundled))
            self._state.statistics.dropped["peer_limit"] += (len(targets) - len(able)) * (end - first)
        self._complete(job, PublishOutcome.SENT)

    def _targets(self, topic: Topic, least: int) -> list[GossipPeer]:
        if self._state.config.flood_publish:
            return self._mesh.flooded(topic, least)
        return self._mesh.linked(topic) if topic.joined else self._mesh.fanout(topic)

    def _chunk_end(self, job: _Job, topic: Topic) -> int:
        """Behind the last message that goes into the next chunk; at least one does, and none that is too large."""
        config, position = self._state.config, job.position
        end = bisect_right(job.ends, job.ends[position] + config.max_chunk) - 1
        end = min(max(end, position + 1), position + config.max_chunk_messages)
        if job.refused:
            end = next((index for index in range(position + 1, end) if index in job.refused), end)
        most = topic.max_payload(job.sign)
        if most < config.max_chunk:  # only then can one among several be too large
            for index in range(position + 1, end):
                if len(job.messages[index]) > most:
                    return index
        return end

    def _bundle_end(self, job: _Job, topic: Topic, targets: Sequence[GossipPeer]) -> int:
        """Behind the last message that goes into a bundle with the next one, for all of the peers; 0 where none does.

        Of a chunk's size, so that it leaves the others of a link their turns, and is lost with a full queue alone.
        """
        config, first, messages = self._state.config, job.position, job.messages
        frame = min([config.max_chunk, config.max_rpc, *(peer.max_rpc for peer in targets if peer.max_rpc is not None)])
        most = max_payload(topic.signed.envelope, frame) - OVERHEAD
        end = bisect_right(job.ends, job.ends[first] + most) - 1
        end = min(end, first + MAX_BUNDLED)
        for index in range(first, end):
            if messages[index].startswith(MARKS) or (job.refused and index in job.refused):
                end = index
                break
        return end if end - first > 1 else 0

    def _narrowed(
        self, job: _Job, topic: Topic, end: int, targets: Sequence[GossipPeer]
    ) -> tuple[int, list[GossipPeer]]:
        """Where some peers read less than we may send: who reads the next message, and up to where they do."""
        envelope, limits = self._state.config.max_rpc - topic.max_payload(job.sign), [p.max_rpc for p in targets]

        def readers(index: int) -> list[bool]:
            size = len(job.messages[index]) + envelope
            return [limit is None or size <= limit for limit in limits]

        same = readers(job.position)
        behind = next((index for index in range(job.position + 1, end) if readers(index) != same), end)
        return behind, list(compress(targets, same))

    def _send(
        self,
        job: _Job,
        topic: Topic,
        end: int,
        targets: Sequence[GossipPeer],
        ready: Sequence[GossipPeer],
        *,
        bundle: bool,
    ) -> None:
        """Make messages of the job's next datas, or a bundle of them, queue them, and deliver them here."""
        datas = job.messages[job.position : end]
        outcome = PublishOutcome.SENT if ready else PublishOutcome.NO_PEERS
        full = [peer for peer in targets if peer not in ready] if len(ready) < len(targets) else []
        names: list[bytes] = []  # of messages within what travels
        raws: list[bytes]
        if bundle:
            (identifier,), (raw,) = self._sign(topic, [pack(datas)])
            names = inner_ids(identifier, len(datas))
            self._sequence += len(datas) - 1
            self._signatures_left += 1 - weight(len(datas))
            ids, raws = [identifier], [BundleBytes.of(raw, len(datas))]
            self._state.statistics.bundles_published += 1
            job.answer(names, outcome, len(ready), len(full))
        elif job.sign:
            ids, raws = self._sign(topic, datas)
            job.answer(ids, outcome, len(ready), len(full))
        else:
            ids = unsigned_ids(datas)
            fresh = self._state.seen.unseen(topic.name, ids)
            if fresh is None:
                job.answer(ids, outcome, len(ready), len(full))
            else:
                for identifier, new in zip(ids, fresh, strict=True):
                    if new:
                        job.answer([identifier], outcome, len(ready), len(full))
                    else:
                        job.answer([identifier], PublishOutcome.DUPLICATE)
                ids, datas = list(compress(ids, fresh)), list(compress(datas, fresh))
            raws = topic.unsigned.encode(datas)
        if ids:
            self._enter(topic, ids, raws, datas, job.sign, ready, names or ids)
            for peer in full:
                peer.queue.dropped += len(datas)
                self._state.statistics.dropped["queue_full"] += len(datas)
                topic.counts.dropped += len(datas)

    def _sign(self, topic: Topic, datas: Sequence[bytes]) -> tuple[list[bytes], list[bytes]]:
        """The ids and encodings of signed messages."""
        sign, sender, layout = self._state.identity.sign, bytes(self._state.identity.peer_id), topic.signed
        ids: list[bytes] = []
        raws: list[bytes] = []
        for data in datas:
            self._sequence += 1
            seqno = self._sequence.to_bytes(8, "big")
            content = layout.encode(data, seqno)
            ids.append(sender + seqno)
            raws.append(layout.sealed(content, sign(SIGN_PREFIX + content)))
        self._signatures_left -= len(ids)
        return ids, raws

    def _enter(
        self,
        topic: Topic,
        ids: list[bytes],
        raws: list[bytes],
        datas: Sequence[bytes],
        signed: bool,
        ready: Sequence[GossipPeer],
        names: list[bytes],
    ) -> None:
        """Send messages, remember and deliver them; `names` has the id of each of the datas."""
        state, config = self._state, self._state.config
        counts = topic.counts
        state.statistics.published += len(datas)
        counts.published += len(datas)
        counts.published_bytes += sum(map(len, datas))
        state.own_load.add(len(datas) if len(ids) == len(names) else weight(len(names)), state.now)
        state.pacing.brought(state, state.own_load, state.now)
        sent = bool(ready)
        if sent:
            state.propagation.began(ids, None, state.now)
            named = self._trials.name(topic, ready, ids, raws) if topic.tried else ()
            if named:
                ready = [peer for peer in ready if peer not in named]
                chunks = build_chunks(raws[1:], config.max_chunk, config.max_chunk_messages)
                counts.dropped += state.send_chunks(named, chunks)
            counts.dropped += state.send_chunks(ready, build_chunks(raws, config.max_chunk, config.max_chunk_messages))
        # Unsigned data that nobody got is not remembered, so that the app can try again; a signed message is, since it
        # can still reach somebody by gossip.
        if sent or signed:
            state.seen.add(topic.name, ids)
            # v1.1 Flood Publishing: a pure publisher's messages need no gossip where every peer of the topic has them.
            if topic.joined or topic.fanout or not config.flood_publish:
                state.cache.put(topic.name, ids, raws)
        if topic.joined:
            counts.delivered_bytes += sum(map(len, datas))
            me = state.identity.peer_id
            sender = me if signed else None
            numbers: Iterable[int | None] = repeat(None)
            if signed:
                numbers = range(self._sequence - len(names) + 1, self._sequence + 1)
            columns = zip(names, repeat(topic.name), repeat(sender), numbers, datas, repeat(me), repeat(True))
            state.deliver(topic, list(map(make_message, columns)), ids, raws)

    # ------------------------------------------------------------ waiting and ending

    def _park(self, job: _Job) -> bool:
        """Let the job wait, if there is room for one more."""
        config = self._state.config
        size = job.bytes_left
        if len(self._parked) >= config.parked_max_jobs or (
            self._parked and self._parked_bytes + size > config.parked_max_bytes
        ):
            return False
        self._parked[job.op] = job
        self._parked_bytes += size
        return True

    def _complete(self, job: _Job, rest: PublishOutcome) -> None:
        job.answer_rest(rest)
        self._state.emit(PublishCompleted(job.op, job.receipts, job.ids))
