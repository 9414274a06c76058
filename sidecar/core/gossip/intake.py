"""Received messages up to the verdict on their signatures: accepted by form, then pending, then handed to `relay`.

While signatures are few they are checked in the turn in which they come. What is more than a turn may check is pending:
under the whole of its bytes, since nobody may trust its id yet. The pending messages of one peer are a lane, which
they leave in the order in which they came, each once its signature is decided. Lanes are served in turn, here or, with
`verify_workers`, by other processes: `CheckSignatures` asks for that, and `SignaturesChecked` answers later.

Byte-identical copies are checked once: each lies in the lane of who sent it, and the first to leave one is passed on.
Other messages that claim the same id are checked as any message, at the cost of who sends them.
"""

from collections import deque
from collections.abc import Iterable, Sequence

from ..classes import NamedTuple
from ..errors import ProtocolError
from .bundles import claimed, weight
from .messages import Fields, parse_message
from .pacing import QUANTUM, UNIT
from .relay import Batch, Relay
from .signing import Author, Authors, SignatureCheck, Verify
from .state import PASSED_OVER, GossipPeer, GossipState, Topic

_QUANTUM = 16  # signatures of one lane in its turn, at least
_SUSPECT_QUANTUM = 1  # of a peer that sent an invalid one of late: who sends many waits, and not the others
_SUSPECT_ASKED = 8  # the same, of other processes
_SUSPECT = 4  # invalid signatures, half as many with each heartbeat, that make a peer one; a guess
_ASKED_AHEAD = 2  # batches that other processes may have for each of them: one at work, one behind it
_ENTRY = 200  # bytes that a pending message counts beside its own
_BUNDLED = 64  # the same for each message in a bundle
_FLOOR = 16  # messages that may be pending of a peer however much of others is
_SEEN = "seen"  # instead of a reason to reject: the id came with other bytes, and was verified with these


class UnverifiedMessage(NamedTuple):
    """A signed message that waits for the verdict on its signature."""

    topic: Topic
    author: Author
    id: bytes
    seqno: bytes
    data: bytes
    raw: bytes


class _Pending:
    """A message in one or more lanes. `decided`: its signature is checked, and `reason` says why it is rejected."""

    __slots__ = ("asked", "check", "decided", "lanes", "left", "message", "reason", "size", "weight")

    def __init__(self, message: UnverifiedMessage, check: SignatureCheck) -> None:
        self.message = message
        self.check = check
        count = claimed(message.data)
        self.size = len(message.raw) + _ENTRY + (count - 1) * _BUNDLED
        self.weight = weight(count)  # in checks of a signature
        self.lanes: list[_Lane] = []
        self.asked = False  # it is being checked
        self.decided = False
        self.reason: str | None = None
        self.left = False  # a lane, and `_by_raw`


class _Lane:
    """The pending messages of one peer, in order, and those of them that nobody was asked to check."""

    __slots__ = ("order", "peer", "unchecked")

    def __init__(self, peer: GossipPeer) -> None:
        self.peer = peer
        self.order: deque[_Pending] = deque()
        self.unchecked: deque[_Pending] = deque()


class Intake:
    """Takes messages apart and has their signatures checked: `receive`, then `serve` while `due`."""

    def __init__(self, state: GossipState, relay: Relay, verify: Verify) -> None:
        self._state = state
        self._relay = relay
        self._verify = verify
        self._authors = Authors()
        self._last: Topic | None = None  # of the message before: the next is most often of the same
        self._lanes: dict[GossipPeer, _Lane] = {}  # those with pending messages
        self._turns: dict[GossipPeer, _Lane] = {}  # those with unchecked ones, in the order of their turns
        self._by_raw: dict[bytes, _Pending] = {}
        self._asked: dict[int, list[_Pending]] = {}  # batches that other processes have
        self._at_once = 0  # signatures that may still be checked in the turn in which they come
        self._renewed = state.now - 1.0
        self.bytes = 0
        """Of all pending messages."""

    def __len__(self) -> int:
        """How many messages are pending."""
        return len(self._by_raw)

    @property
    def due(self) -> bool:
        """Whether `serve` has something to do now."""
        if not self._turns:
            return False
        return not self._state.config.verify_workers or self.may_ask or self._honest_wait()

    @property
    def may_ask(self) -> bool:
        """Whether other processes can be given more."""
        return bool(self._turns) and len(self._asked) < self._state.config.verify_workers * _ASKED_AHEAD

    def _honest_wait(self) -> bool:
        """Whether messages wait of who is not suspect, and may be checked here; mostly a look at one."""
        return self._state.config.verify_few > 0 and any(peer.forged < _SUSPECT for peer in self._turns)

    def room(self, peer: GossipPeer) -> int:
        """How many more messages of the peer should be taken in; where too many are pending of all, a few of each."""
        lane, config = self._lanes.get(peer), self._state.config
        heavy = self._state.heavy(peer)
        of_it = len(lane.order) if lane is not None else 0
        if heavy:
            of_it += peer.pending_bytes // UNIT
        of_all = config.max_pending_total - len(self._by_raw) if self.bytes < config.max_pending_bytes else 0
        most = 2 * QUANTUM if heavy else config.max_pending
        return max(_FLOOR - of_it, min(most - of_it, of_all))

    @property
    def _overfull(self) -> bool:
        config = self._state.config
        return len(self._by_raw) >= config.max_pending_total or self.bytes >= config.max_pending_bytes

    # ------------------------------------------------------------ accept

    def receive(self, peer: GossipPeer, raws: Sequence[bytes], *, ahead: bool = False) -> None:
        """Take in messages that a peer has sent; `ahead`: before what is pending of it, but for the same authors'."""
        self._state.statistics.received += len(raws)
        candidates: list[UnverifiedMessage] = []
        checks: list[SignatureCheck] = []
        position, end = 0, len(raws)
        while position < end:
            topic = self._last
            if topic is not None and topic.joined and not topic.options.sign:
                datas = topic.unsigned.match(raws, position)
                if datas:
                    self._relay.enter(peer, Batch.unsigned(topic, list(raws[position : position + len(datas)]), datas))
                    position += len(datas)
                    continue
            try:
                self._accept(peer, raws[position], candidates, checks)
            except ProtocolError:
                self._state.reject(peer, None, "malformed")
            position += 1
        if candidates:
            self._submit(peer, candidates, checks, ahead=ahead)

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
            self._relay.enter(peer, Batch.unsigned(topic, [raw], [fields.data or b""]))
        else:
            state.reject(peer, topic, "foreign_field")

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
            state.reject(peer, topic, "missing_field")
            return
        identifier = sender + seqno
        if identifier in state.propagation.samples:
            state.propagation.shown((identifier,), peer.id, state.now)
        if sender == state.identity.peer_id:
            state.statistics.dropped["own_echo"] += 1
            return
        if state.seen.contains(topic.name, identifier):  # before the check, which costs a hundred times as much
            self._duplicate(peer, topic, identifier, fields.data)
            return
        if state.replays is not None and state.replays.stale(sender, seqno, peer.id):
            state.ignore(topic, "replay")
            state.charge(peer, PASSED_OVER)
            return
        try:
            author = self._authors.find(sender, fields.key)
        except ProtocolError:
            state.reject(peer, topic, "key")
            return
        candidates.append(UnverifiedMessage(topic, author, identifier, seqno, fields.data or b"", raw))
        checks.append(SignatureCheck(author.key, fields.content, signature))

    def _duplicate(self, peer: GossipPeer, topic: Topic, identifier: bytes, data: bytes | None) -> None:
        count = claimed(data or b"")
        self._state.statistics.received += count - 1
        self._relay.again(peer, topic, (identifier,), count)

    # ------------------------------------------------------------ pending

    def _submit(
        self,
        peer: GossipPeer,
        candidates: Sequence[UnverifiedMessage],
        checks: Sequence[SignatureCheck],
        *,
        ahead: bool,
    ) -> None:
        """Check at once what may be; the rest, and all behind what is pending already, goes into the peer's lane."""
        size = sum([len(message.raw) for message in candidates])
        weights = [weight(claimed(message.data)) for message in candidates]
        peer.load.add(sum(weights) + size / UNIT, self._state.now, self._state.ease(peer))
        at_once = 0
        if not (self._waits(peer, candidates, ahead) or self._known(candidates)):
            at_once = self._allowance(peer, weights, ahead=ahead)
        checked, passed = 0, list[UnverifiedMessage]()
        while checked < at_once and peer.forged < _SUSPECT:  # some at a time: who sends invalid ones has few checked
            some = slice(checked, min(checked + _QUANTUM, at_once))
            for message, reason in zip(candidates[some], self._check(checks[some]), strict=True):
                if reason is None:
                    passed.append(message)
                else:
                    self._reject(peer, message.topic, reason)
            checked = some.stop
        self._at_once -= sum(weights[:checked])
        if passed:
            self._pass(peer, passed)
        if checked < len(candidates):
            self._pend(peer, candidates[checked:], checks[checked:])

    def _waits(self, peer: GossipPeer, candidates: Sequence[UnverifiedMessage], ahead: bool) -> bool:
        """Whether messages have to go behind what is pending of the peer."""
        lane = self._lanes.get(peer)
        if lane is None or not ahead:
            return lane is not None
        authors = {pending.message.author for pending in lane.order}
        return any(message.author in authors for message in candidates)

    def _allowance(self, peer: GossipPeer, weights: Sequence[int], *, ahead: bool) -> int:
        """How many of the signatures may be checked in this turn; the last one may weigh more than is left of it."""
        state = self._state
        if peer.forged >= _SUSPECT or (state.heavy(peer) and not ahead):
            return 0
        if state.now - self._renewed >= state.config.verify_interval:
            self._renew()
        left = self._at_once
        for count, weighs in enumerate(weights):
            if left <= 0:
                return count
            left -= weighs
        return len(weights)

    def _renew(self) -> None:
        config = self._state.config
        self._renewed = self._state.now
        self._at_once = config.verify_few if config.verify_workers else config.verify_burst

    def _check(self, checks: Sequence[SignatureCheck]) -> list[str | None]:
        self._state.statistics.signatures["inline"] += len(checks)
        return self._verify(checks)

    def _known(self, candidates: Sequence[UnverifiedMessage]) -> bool:
        """Whether one of them is pending already."""
        pending = self._by_raw
        return bool(pending) and any(message.raw in pending for message in candidates)

    def _pend(
        self, peer: GossipPeer, candidates: Sequence[UnverifiedMessage], checks: Sequence[SignatureCheck]
    ) -> None:
        state = self._state
        lane = self._lanes.get(peer)
        if lane is None:
            lane = self._lanes[peer] = _Lane(peer)
        if peer.id not in state.peers and self._overfull:  # of those that are here, no more is taken in then
            state.statistics.dropped["pending_bound"] += len(candidates)
            candidates, checks = (), ()
        by_raw, order, unchecked = self._by_raw, lane.order, lane.unchecked
        size = 0
        for message, check in zip(candidates, checks, strict=True):
            pending = by_raw.get(message.raw)
            if pending is None:
                pending = by_raw[message.raw] = _Pending(message, check)
                self.bytes += pending.size
            pending.lanes.append(lane)
            order.append(pending)
            size += pending.size
            if not pending.asked:
                unchecked.append(pending)
        peer.pending_bytes += size
        if unchecked:
            self._turns[peer] = lane
        if not order or order[0].decided:
            self._leave((lane,))
        else:
            state.watch_backlog(peer)

    # ------------------------------------------------------------ check

    def serve(self) -> None:
        """Check, or have checked, one turn's worth of what is pending.

        When other processes have enough to do, a little is checked here as well.
        """
        config = self._state.config
        if config.verify_workers:
            self.ask()
            if not self._turns or not self._honest_wait():
                return
            taken = self._take(config.verify_few, 0)
        else:
            self._renew()
            taken = self._take(self._at_once, _SUSPECT_QUANTUM)
            self._at_once -= sum(pending.weight for pending in taken)
        self._decide(taken, self._check([pending.check for pending in taken]))

    def ask(self) -> None:
        """Hand other processes what is pending, as far as they have not enough to do."""
        state, config = self._state, self._state.config
        while self.may_ask:
            taken = self._take(config.verify_batch, _SUSPECT_ASKED)
            if not taken:
                continue  # all of it has become decided, or was seen
            self._asked[state.ask_checks([pending.check for pending in taken])] = taken
            for pending in taken:
                pending.asked = True

    def answer(self, number: int, reasons: Sequence[str | None]) -> None:
        """Take the verdicts on a batch that was asked for. Unknown numbers are ignored."""
        taken = self._asked.pop(number, None)
        if taken is None:
            return
        self._state.statistics.signatures["workers"] += len(taken)
        self._decide(taken, reasons)

    def _take(self, most: int, few: int) -> list[_Pending]:
        """Signatures to be checked, of all lanes in turn: some of each, `few` of those who send invalid ones.

        A bundle counts as what serving it costs; the last may be one that is more than is left.
        """
        seen = self._state.seen
        taken: list[_Pending] = []
        settled: dict[_Lane, None] = {}
        quantum = max(_QUANTUM, most // len(self._turns))
        for peer in list(self._turns):
            lane = self._turns.pop(peer)
            each = few if peer.forged >= _SUSPECT else min(QUANTUM, quantum) if self._state.heavy(peer) else quantum
            left = before = min(most, each)
            unchecked = lane.unchecked
            while unchecked and left > 0:
                pending = unchecked.popleft()
                if pending.asked:  # by way of another lane
                    continue
                message = pending.message
                if seen.contains(message.topic.name, message.id):  # as it came with other bytes: no check is needed
                    pending.asked = pending.decided = True
                    pending.reason = _SEEN
                    settled.update(dict.fromkeys(pending.lanes))
                    continue
                pending.asked = True
                taken.append(pending)
                left -= pending.weight
            most -= before - left
            if unchecked:
                self._turns[peer] = lane  # behind the others
            if most <= 0:
                break
        self._leave(settled)
        return taken

    def _decide(self, taken: Sequence[_Pending], reasons: Sequence[str | None]) -> None:
        lanes: dict[_Lane, None] = {}
        for pending, reason in zip(taken, reasons, strict=True):
            pending.decided, pending.reason = True, reason
            for lane in pending.lanes:
                lanes[lane] = None
        self._leave(lanes)

    # ------------------------------------------------------------ leave

    def _leave(self, lanes: Iterable[_Lane]) -> None:
        """Pass on, or reject, what has its verdict and nothing undecided before it."""
        state, by_raw = self._state, self._by_raw
        for lane in lanes:
            peer, order = lane.peer, lane.order
            passed: list[UnverifiedMessage] = []
            while order and order[0].decided:
                pending = order.popleft()
                message, size = pending.message, pending.size
                peer.pending_bytes -= size
                if not pending.left:
                    pending.left = True
                    del by_raw[message.raw]
                    self.bytes -= size
                if pending.reason is None:
                    passed.append(message)
                elif pending.reason is _SEEN:
                    self._duplicate(peer, message.topic, message.id, message.data)
                else:
                    self._reject(peer, message.topic, pending.reason)
            if passed:
                if state.heavy(peer):
                    state.pacing.worked(alone=state.floods(peer))
                self._pass(peer, passed)
            if not order and self._lanes.get(peer) is lane:
                del self._lanes[peer]
            if state.peers.get(peer.id) is peer:
                if (peer.backlog or peer.step is not None) and self.room(peer) > 0:
                    state.waiting.setdefault(peer.id, peer)
                state.watch_backlog(peer)

    def heartbeat(self) -> None:
        """Forget invalid signatures, half of them each time."""
        for peer in self._state.peers.values():
            peer.forged //= 2

    def removed(self, peer: GossipPeer) -> None:
        """The peer is gone: what is pending of it still counts, unless it is suspect."""
        if peer.forged >= _SUSPECT:
            self.drop(peer)

    def drop(self, peer: GossipPeer) -> None:
        """Forget what is pending of a peer alone."""
        lane = self._lanes.pop(peer, None)
        if lane is None:
            return
        self._turns.pop(peer, None)
        self._state.statistics.dropped["no_peer"] += len(lane.order)
        for pending in dict.fromkeys(lane.order):
            pending.lanes = [other for other in pending.lanes if other is not lane]
            if not pending.lanes and not pending.left:
                pending.left = True
                del self._by_raw[pending.message.raw]
                self.bytes -= pending.size
        lane.order.clear()
        peer.pending_bytes = 0

    def _reject(self, peer: GossipPeer, topic: Topic, reason: str) -> None:
        peer.forged += 1
        self._state.reject(peer, topic, reason)

    def _pass(self, peer: GossipPeer, messages: Iterable[UnverifiedMessage]) -> None:
        """Hand verified messages of a peer on, by topic."""
        batches: dict[str, Batch] = {}
        for topic, author, identifier, seqno, data, raw in messages:
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
            topic = batch.topic
            if topic.joined and topic.options.sign:
                self._relay.enter(peer, batch)
            else:  # left while its messages were pending
                self._state.statistics.dropped["not_joined"] += len(batch.ids)
