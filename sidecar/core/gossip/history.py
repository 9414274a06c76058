"""History: messages that a peer had stored and brings now, judged as new ones are, and then delivered here alone.

Who brings them was asked for them, so that nothing of a peer's mesh is judged by it: no score, no promise, no sample of
how messages spread. They are seen from now on, but neither sent on nor named to anybody, and no peer can ask for them
by IWANT: who lacks them finds that out itself. What depends on the time at which a message comes does not count: the
rules' rates and distances of sequence numbers, and replays.

A batch is served in steps, behind what the same turn does for messages that have just come, and the batches in turn.
Signatures are checked like those of new messages, here or by other processes. A message that was seen but that this
node has not accepted is judged again: it may have come too fast, or while no app was there to judge it.
"""

from collections import deque
from collections.abc import Iterable, Sequence
from hashlib import sha256
from itertools import compress

from ..classes import NamedTuple
from ..errors import ProtocolError
from ..override import override
from ..types import PeerId
from .bundles import MARK, claimed, inner_ids, unpack, weight
from .events import GossipMessage, HistoryBrought, HistoryJudged, HistoryRepeated, HistorySeen
from .judging import Candidates, Verdict
from .messages import BundleBytes, Fields, parse_message
from .signing import Author, Authors, SignatureCheck, Verify
from .state import GossipState, Topic, unsigned_ids
from .validation import JudgedPublication, Validation

_STEP = 64  # signatures checked in one turn, some 3 ms
_STEP_BESIDE = 16  # the same while those of new messages wait
_UNSIGNED = 8  # messages without one that cost as much
_ENTRY = 200  # bytes that a message counts beside its own


class _Candidate(NamedTuple):
    """A message whose form is right; `author` is None where it is not signed."""

    place: int  # in its batch
    id: bytes
    raw: bytes
    data: bytes
    author: Author | None
    seqno: bytes


class _Entry:
    """A message whose signature is right, or a bundle, with its messages: it waits for the verdicts on all of them."""

    __slots__ = ("age", "bundle", "id", "messages", "raw", "unjudged", "verdicts")

    def __init__(self, identifier: bytes, raw: bytes, age: float, messages: list[GossipMessage], bundle: bool) -> None:
        self.id = identifier
        self.raw = raw
        self.age = age
        self.messages = messages
        self.bundle = bundle
        self.verdicts = [Verdict.ACCEPT] * len(messages)
        self.unjudged = 0


class _Outcome:
    """What became of messages, until it is told: the fields of `HistoryJudged`."""

    __slots__ = ("accepted", "dropped", "ignored", "invalid", "known", "rejected", "unjudged")

    def __init__(self) -> None:
        self.accepted: list[bytes] = []
        self.known: list[bytes] = []
        self.ignored: list[bytes] = []
        self.rejected: list[bytes] = []
        self.unjudged: list[bytes] = []
        self.invalid: list[tuple[int, str]] = []
        self.dropped = 0

    def count(self, counts: dict[str, int]) -> None:
        """Add what is told to the counters."""
        counts["accepted"] += len(self.accepted)
        counts["known"] += len(self.known)
        counts["ignored"] += len(self.ignored)
        counts["rejected"] += len(self.rejected)
        counts["unjudged"] += len(self.unjudged)
        counts["invalid"] += len(self.invalid)
        counts["dropped"] += self.dropped


class _Batch:
    """The messages of one `HistoryBrought`, and what has become of them."""

    __slots__ = ("brought", "bytes", "came", "outcome", "served", "told", "waiting")

    def __init__(self, brought: HistoryBrought, now: float) -> None:
        self.brought = brought
        self.came = now
        self.bytes = sum(map(len, brought.raws)) + _ENTRY * len(brought.raws)
        self.served = 0  # messages before it were looked at
        self.outcome = _Outcome()
        self.waiting: dict[bytes, None] = {}  # apps judge them
        self.told = False  # what follows comes by a further `HistoryJudged`


class _Asked(JudgedPublication):
    """Messages that apps judge: `entries` and `places` say of each by its index which one it is."""

    def __init__(self, history: "History", batch: _Batch) -> None:
        self._history = history
        self._batch = batch
        self.entries: list[_Entry] = []
        self.places: list[int] = []

    @override
    def judged(self, index: int, verdict: Verdict, reason: str = "") -> None:
        entry = self.entries[index]
        entry.verdicts[self.places[index]] = verdict
        entry.unjudged -= 1
        self._history.verdict(self._batch, entry, reason)


class History:
    """Judges what peers had stored: `receive`, then `serve` while `due`, and `tell` at the end of a turn."""

    def __init__(self, state: GossipState, validation: Validation, verify: Verify) -> None:
        self._state = state
        self._validation = validation
        self._verify = verify
        self._authors = Authors()
        self._batches: deque[_Batch] = deque()  # in the order of their turns
        self._asked: tuple[int, _Batch, list[_Candidate]] | None = None  # whose signatures other processes check
        self._judging: dict[tuple[str, bytes], None] = {}  # messages between their signature and their verdict
        self._unjudged: dict[bytes, None] = {}  # the part of them on which no app gave its verdict, or not in time
        self._late: dict[_Batch, _Outcome] = {}  # verdicts on messages of batches that are over
        self.bytes = 0
        """Of all batches that are not over."""

    @property
    def due(self) -> bool:
        """Whether `serve` has something to do now."""
        return bool(self._batches) and self._asked is None

    def seen(self, seen: HistorySeen) -> None:
        """Remember messages that were delivered before the start."""
        self._state.seen.add(seen.topic, seen.ids)
        self._state.kept.add(seen.topic, seen.ids)

    def receive(self, brought: HistoryBrought) -> None:
        """Take in a batch. Where too much waits none of it is looked at, unless it is the only one."""
        batch = _Batch(brought, self._state.now)
        if self._batches and self.bytes + batch.bytes > self._state.config.max_pending_bytes:
            batch.outcome.dropped = len(brought.raws)
            self._tell(batch)
            return
        idle = not self._batches
        self._batches.append(batch)
        self.bytes += batch.bytes
        if idle:
            self.serve()

    # ------------------------------------------------------------ signatures

    def serve(self, *, busy: bool = False) -> None:
        """Look at the next messages of the batch whose turn it is; `busy`: signatures of new messages wait."""
        config = self._state.config
        batch = self._batches[0]
        topic = self._topic(batch)
        if topic is None:
            batch.outcome.dropped += len(batch.brought.raws) - batch.served
            self._over(batch)
            return
        checks: list[SignatureCheck] = []
        most = config.verify_batch if config.verify_workers else _STEP_BESIDE if busy else _STEP
        candidates = self._take(batch, topic, most, checks)
        if config.verify_workers and len(checks) > config.verify_few:
            self._asked = self._state.ask_checks(checks), batch, candidates
            return
        reasons: Sequence[str | None] = [None] * len(candidates)
        if checks:
            self._state.statistics.signatures["inline"] += len(checks)
            reasons = self._verify(checks)
        self._judge(batch, topic, candidates, reasons)

    def answer(self, number: int, reasons: Sequence[str | None]) -> bool:
        """Take the verdicts on signatures; False where these are not of history."""
        if self._asked is None or self._asked[0] != number:
            return False
        _, batch, candidates = self._asked
        self._asked = None
        self._state.statistics.signatures["workers"] += len(candidates)
        topic = self._topic(batch)
        if topic is None or not topic.options.sign:
            batch.outcome.dropped += len(candidates)
        else:
            self._judge(batch, topic, candidates, reasons)
        return True

    def _topic(self, batch: _Batch) -> Topic | None:
        """The topic of a batch, as long as it is kept."""
        topic = self._state.topics.get(batch.brought.topic)
        return topic if topic is not None and topic.joined and topic.options.keep else None

    def _take(self, batch: _Batch, topic: Topic, most: int, checks: list[SignatureCheck]) -> list[_Candidate]:
        """The next messages that are of the right form, and, where they are signed, what is to be checked of each."""
        raws = batch.brought.raws
        left = most if topic.options.sign else most * _UNSIGNED
        candidates: list[_Candidate] = []
        while left > 0 and batch.served < len(raws):
            place = batch.served
            batch.served += 1
            left -= 1
            try:
                candidate = self._parse(topic, place, raws[place], checks)
            except ProtocolError:
                batch.outcome.invalid.append((place, "malformed"))
                continue
            if isinstance(candidate, str):
                batch.outcome.invalid.append((place, candidate))
            elif batch.brought.keys and sha256(candidate.id).digest() != batch.brought.keys[place]:
                batch.outcome.invalid.append((place, "unasked"))
                if candidate.author is not None:
                    checks.pop()
            else:
                candidates.append(candidate)
                left += 1 - weight(claimed(candidate.data))
        return candidates

    def _parse(self, topic: Topic, place: int, raw: bytes, checks: list[SignatureCheck]) -> _Candidate | str:
        """A message taken apart, and the check of its signature; or why no honest peer sends it. Raises ProtocolError.

        What this raises, or says, no peer may have delivered, whatever its version and its rules.
        """
        fields: Fields | None = topic.signed.match(raw) if topic.options.sign else None
        if fields is None:
            fields = parse_message(raw)
            if fields.topic != topic.wire:
                return "topic"
        sender, seqno, signature, data = fields.sender, fields.seqno, fields.signature, fields.data or b""
        if not topic.options.sign:
            if sender is not None or seqno is not None or signature is not None or fields.key is not None:
                return "foreign_field"
            (identifier,) = unsigned_ids([data])
            return _Candidate(place, identifier, raw, data, None, b"")
        if not sender or signature is None or seqno is None or len(seqno) != 8:
            return "missing_field"
        try:
            author = self._authors.find(sender, fields.key)
        except ProtocolError:
            return "key"
        checks.append(SignatureCheck(author.key, fields.content, signature))
        return _Candidate(place, sender + seqno, raw, data, author, seqno)

    # ------------------------------------------------------------ verdicts

    def _judge(
        self, batch: _Batch, topic: Topic, candidates: Sequence[_Candidate], reasons: Sequence[str | None]
    ) -> None:
        """Judge messages whose signatures are checked, and go on to the next batch."""
        verified: list[_Candidate] = []
        for candidate, reason in zip(candidates, reasons, strict=True):
            if reason is None:
                verified.append(candidate)
            else:
                batch.outcome.invalid.append((candidate.place, reason))
        entries = self._entries(batch, topic, verified)
        if entries:
            self._decide(batch, topic, entries)
        if batch.served == len(batch.brought.raws):
            self._over(batch)
        else:
            self._batches.rotate(-1)

    def _entries(self, batch: _Batch, topic: Topic, verified: Sequence[_Candidate]) -> list[_Entry]:
        """Those of the messages that are to be judged: they are seen from now on."""
        state, outcome = self._state, batch.outcome
        entries: list[_Entry] = []
        repeated: list[_Entry] = []
        judged: list[_Candidate] = []
        for candidate in verified:
            key = (topic.name, candidate.id)
            known = state.kept.contains(*key)
            if key in self._judging or self._validation.waits(*key):
                outcome.known.append(candidate.id)
                continue
            entry = self._open(batch, topic, candidate)
            if entry is None:
                outcome.invalid.append((candidate.place, "bundle"))
            elif known:
                outcome.known.append(candidate.id)
                repeated.append(entry)
            else:
                self._judging[key] = None
                entries.append(entry)
                judged.append(candidate)
        if repeated:
            self._repeat(topic, repeated)
        state.seen.add(topic.name, [candidate.id for candidate in judged])
        if state.replays is not None and topic.options.sign:
            authors = [candidate.author.peer for candidate in judged if candidate.author is not None]
            state.replays.entered(authors, [candidate.seqno for candidate in judged], None)
        return entries

    def _open(self, batch: _Batch, topic: Topic, candidate: _Candidate) -> _Entry | None:
        """A message as apps get it, or those of a bundle; None where it is none."""
        place, identifier, raw, data, author, seqno = candidate
        me = self._state.identity.peer_id
        sender = author.peer if author is not None else None
        source, local = (me, True) if sender == me else (batch.brought.peer, False)
        number = int.from_bytes(seqno, "big") if author is not None else None
        age = max(0.0, batch.brought.ages[place])
        if number is None or not data.startswith(MARK):
            message = GossipMessage(identifier, topic.name, sender, number, data, source, local)
            return _Entry(identifier, raw, age, [message], bundle=False)
        try:
            datas = unpack(data, number)
        except ProtocolError:
            return None
        ids = inner_ids(identifier, len(datas))
        messages = [
            GossipMessage(each, topic.name, sender, number + index, inner, source, local)
            for index, (each, inner) in enumerate(zip(ids, datas, strict=True))
        ]
        return _Entry(identifier, BundleBytes.of(raw, len(datas)), age, messages, bundle=True)

    def _repeat(self, topic: Topic, repeated: Sequence[_Entry]) -> None:
        """Hand on messages that were accepted before: the store may lack them.

        Which messages of a bundle an app has accepted is not known any more; so there it stays with what is stored.
        """
        self._apply_rules(topic, repeated)
        plain = [entry for entry in repeated if not entry.bundle]
        if plain:
            messages = [entry.messages[0] for entry in plain]
            raws, ages = [entry.raw for entry in plain], [entry.age for entry in plain]
            self._state.emit(HistoryRepeated(topic.name, messages, raws, ages))
        for entry in repeated:
            accepted = _accepted(entry)
            if entry.bundle and accepted and topic.name not in self._validation.guards:
                self._state.emit(HistoryRepeated(topic.name, accepted, [entry.raw], [entry.age], entry.id))

    def _decide(self, batch: _Batch, topic: Topic, entries: Sequence[_Entry]) -> None:
        """Have messages judged by the topic's rules, and those that these accept by apps."""
        self._apply_rules(topic, entries)
        guarded = topic.name in self._validation.guards
        asked = _Asked(self, batch)
        messages: list[GossipMessage] = []
        for entry in entries:
            accepted = [place for place, verdict in enumerate(entry.verdicts) if verdict is Verdict.ACCEPT]
            if not guarded or not accepted or Verdict.REJECT in entry.verdicts:
                self._settle(batch, entry)
                continue
            entry.unjudged = len(accepted)
            batch.waiting[entry.id] = None
            asked.entries += [entry] * len(accepted)
            asked.places += accepted
            messages += [entry.messages[place] for place in accepted]
        if messages:
            self._validation.publish(asked, topic, messages, range(len(messages)))

    def _apply_rules(self, topic: Topic, entries: Sequence[_Entry]) -> None:
        """Set the verdicts of the topic's rules. What is not for apps has no place in history either."""
        exempt = self._validation.exempt
        messages = [message for entry in entries for message in entry.messages]
        verdicts: Sequence[Verdict] | None = None
        if topic.rules is not None:
            datas = [message.data for message in messages]
            senders = [message.sender for message in messages if message.sender is not None]
            numbers = [message.seqno for message in messages if message.seqno is not None]
            source = messages[0].received_from
            signed = topic.options.sign
            verdicts = topic.rules.judge(
                Candidates(topic.name, datas, senders if signed else None, numbers if signed else None, source, True),
                self._state.now,
            )
        first = 0
        for entry in entries:
            behind = first + len(entry.messages)
            if verdicts is not None:
                entry.verdicts = list(verdicts[first:behind])
            if exempt is not None and not entry.bundle and entry.messages[0].data.startswith(exempt):
                entry.verdicts = [Verdict.IGNORE]
            first = behind

    def verdict(self, batch: _Batch, entry: _Entry, reason: str) -> None:
        """One of the messages of an entry is judged; `reason`: why, where no app has said so."""
        if reason:
            self._unjudged[entry.id] = None
        if not entry.unjudged:
            self._settle(batch, entry)

    def _settle(self, batch: _Batch, entry: _Entry) -> None:
        """All verdicts on a message, or on those of a bundle, are there."""
        name = batch.brought.topic
        topic = self._topic(batch)
        self._judging.pop((name, entry.id), None)
        batch.waiting.pop(entry.id, None)
        unjudged = self._unjudged.pop(entry.id, False) is None
        outcome = batch.outcome
        if batch.told:
            outcome = self._late.setdefault(batch, _Outcome())
        accepted = _accepted(entry)
        if topic is None:  # it was left while they waited
            outcome.dropped += 1
        elif Verdict.REJECT in entry.verdicts:
            outcome.rejected.append(entry.id)
        elif unjudged:
            outcome.unjudged.append(entry.id)
        elif accepted:
            outcome.accepted.append(entry.id)
            age = entry.age + self._state.now - batch.came
            self._state.deliver_history(topic, accepted, entry.raw, age, entry.id)
        else:
            outcome.ignored.append(entry.id)

    # ------------------------------------------------------------ answers

    def _over(self, batch: _Batch) -> None:
        self._batches.remove(batch)
        self.bytes -= batch.bytes
        self._tell(batch)

    def _tell(self, batch: _Batch) -> None:
        """Say what has become of a batch; apps may still judge a part of it."""
        batch.told = True
        number, peer, topic, *_ = batch.brought
        self._emit(number, peer, topic, batch.outcome, batch.waiting, waited=False)

    def tell(self) -> None:
        """Say what apps have judged of batches that are over."""
        if self._late:
            for batch, outcome in self._late.items():
                number, peer, topic, *_ = batch.brought
                self._emit(number, peer, topic, outcome, batch.waiting, waited=True)
            self._late = {}

    def _emit(
        self, number: int, peer: PeerId, topic: str, outcome: _Outcome, waiting: Iterable[bytes], *, waited: bool
    ) -> None:
        outcome.count(self._state.statistics.history)
        self._state.emit(
            HistoryJudged(
                number,
                peer,
                topic,
                accepted=tuple(outcome.accepted),
                known=tuple(outcome.known),
                waiting=tuple(waiting),
                ignored=tuple(outcome.ignored),
                rejected=tuple(outcome.rejected),
                unjudged=tuple(outcome.unjudged),
                invalid=tuple(outcome.invalid),
                dropped=outcome.dropped,
                waited=waited,
            )
        )


def _accepted(entry: _Entry) -> list[GossipMessage]:
    """Those of its messages on which no verdict is but to accept them."""
    return list(compress(entry.messages, (verdict is Verdict.ACCEPT for verdict in entry.verdicts)))
