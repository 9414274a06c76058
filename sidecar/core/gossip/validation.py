"""Verdicts of apps: messages of guarded topics wait until every app that judges the topic has accepted them.

A topic is guarded by the configuration, or since an app asked for it. Messages come here verified, seen, and accepted
by the topic's rules; so does what this node's apps publish, before it is signed. They leave in the order in which their
verdicts are complete, and those of one answer in the order of their coming.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import Protocol

from ..errors import ResourceExhausted
from ..override import override
from ..parameters.validation import Fallback, ValidationSettings
from .events import GossipMessage, MessagesToJudge, ValidatorAdded
from .judging import Verdict
from .signing import Author
from .state import GossipPeer, GossipState, Topic
from .unwanted import Unwanted

_ENTRY = 500  # bytes that a message that waits counts beside its own

Row = tuple[bytes, bytes, bytes, Author | None, bytes | None]
"""Id, encoding, data, author and sequence number of a verified message."""


class JudgedPublication(Protocol):
    """What an app publishes, while it is judged."""

    def judged(self, index: int, verdict: Verdict, reason: str = "") -> None:
        """The verdict on one of its messages; `reason`: why it is ignored though no app has said so."""


class JudgedBundle(JudgedPublication):
    """A bundle of a peer, while apps judge its messages one by one: they share what becomes of it.

    `verdicts` has what is known of each, in order. `settled` is called once, when every one is.
    """

    __slots__ = ("copies", "id", "settled", "source", "topic", "unjudged", "verdicts")

    def __init__(
        self,
        source: GossipPeer,
        topic: Topic,
        identifier: bytes,
        verdicts: list[Verdict],
        settled: "Callable[[JudgedBundle], None]",
    ) -> None:
        self.source = source
        self.topic = topic
        self.id = identifier
        self.verdicts = verdicts
        self.settled = settled
        self.unjudged = 0
        self.copies: dict[GossipPeer, None] | None = None  # peers that brought it too, where any did

    @override
    def judged(self, index: int, verdict: Verdict, reason: str = "") -> None:
        self.verdicts[index] = verdict
        self.unjudged -= 1
        if not self.unjudged:
            self.settled(self)


class _Waiting:
    """A message that waits for verdicts: one of a peer, or the message `index` of a publication."""

    __slots__ = (
        "copies",
        "due",
        "index",
        "message",
        "missing",
        "number",
        "publication",
        "row",
        "size",
        "source",
        "topic",
    )

    def __init__(self, topic: Topic, message: GossipMessage, due: float, size: int) -> None:
        self.topic = topic
        self.message = message
        self.due = due
        self.size = size
        self.number = 0
        self.missing: tuple[int, ...] = ()  # apps that have not given their verdict; those asked together share one
        self.source: GossipPeer | None = None
        self.row: Row | None = None
        self.publication: JudgedPublication | None = None
        self.index = 0
        self.copies: dict[GossipPeer, None] | None = None  # peers that brought it too, where any did


class Guard:
    """A guarded topic: who judges it, and what waits, oldest first."""

    __slots__ = ("by_id", "configured", "settings", "validators", "waiting")

    def __init__(self, settings: ValidationSettings, configured: bool) -> None:
        self.settings = settings
        self.configured = configured  # it stays guarded whoever comes and goes
        self.validators: dict[int, None] = {}
        self.waiting: dict[int, _Waiting] = {}
        self.by_id: dict[bytes, _Waiting | JudgedBundle] = {}


Passed = Callable[[GossipPeer, Topic, list[Row]], None]


class Validation:
    """Keeps what waits for verdicts; `passed` is handed accepted messages of a peer."""

    def __init__(self, state: GossipState, unwanted: Unwanted) -> None:
        self._state = state
        self._unwanted = unwanted
        self.passed: Passed = lambda peer, topic, rows: None
        self.exempt: bytes | None = None
        """Payloads that begin so are no app's, and pass."""
        self.guards: dict[str, Guard] = {}
        self._of: dict[int, tuple[str, ...]] = {}  # the topics of each app
        self._waiting: dict[int, _Waiting] = {}
        self._number = 0
        self._due = float("inf")  # when to look, at the latest: nothing that waits is due before
        self.bytes = 0
        """Of all messages that wait."""
        for name, settings in state.config.validated_topics.items():
            self.guards[name] = Guard(settings, configured=True)

    def __len__(self) -> int:
        """How many messages wait for verdicts."""
        return len(self._waiting)

    @property
    def due(self) -> float:
        """When to call `expire`; infinity when nothing that waits has a deadline.

        It may be too early, where the message has its verdict and others have come: asked in each turn, this is not to
        look at every topic.
        """
        return self._due if self._waiting else float("inf")

    def load(self, topic: str) -> tuple[int, int]:
        """How many apps judge a topic, and how many messages wait for their verdicts."""
        guard = self.guards.get(topic)
        return (len(guard.validators), len(guard.waiting)) if guard is not None else (0, 0)

    # ------------------------------------------------------------ apps come and go

    def add(self, added: ValidatorAdded) -> None:
        """Raises as ValidatorAdded says."""
        config = self._state.config
        new = [name for name in added.topics if name not in self.guards]
        if len(self.guards) + len(new) > config.max_guarded:
            raise ResourceExhausted(f"{len(self.guards)} topics are judged by apps, at most {config.max_guarded}")
        for name in added.topics:
            self._state.forget_if_idle(self._state.topic(name))  # raises for the name
        self._of[added.validator] = tuple(added.topics)
        for name, settings in added.topics.items():
            guard = self.guards.get(name)
            if guard is None:
                guard = self.guards[name] = Guard(config.validation, configured=False)
            if settings is not None:
                guard.settings = settings
            guard.validators[added.validator] = None
            held = [waiting for waiting in guard.waiting.values() if not waiting.missing]
            if held:
                for waiting in held:  # nobody knows their old numbers any more
                    self._take_off(guard, waiting)
                    self.bytes += waiting.size
                self._enter(guard, held)

    def remove(self, validator: int, lost: bool) -> None:
        """An app judges no more; what waits for it alone is treated as the topic's settings say."""
        for name in self._of.pop(validator, ()):
            guard = self.guards[name]
            guard.validators.pop(validator, None)
            settled = []
            for waiting in guard.waiting.values():
                waiting.missing = _without(waiting.missing, validator)
                if not waiting.missing:
                    settled.append(waiting)
            fallback = guard.settings.fallback
            if guard.validators:
                self._accept(settled)
            elif guard.configured or (lost and fallback is not Fallback.ACCEPT):
                if fallback is not Fallback.HOLD:
                    self._fall_back(guard, settled, "unattended")
                if guard.configured:
                    guard.settings = self._state.config.validated_topics[name]
            else:
                if fallback is Fallback.IGNORE:
                    self._ignore(settled, "unattended")
                else:
                    self._accept(settled)
                del self.guards[name]

    # ------------------------------------------------------------ messages come

    def ask(self, peer: GossipPeer, topic: Topic, messages: Sequence[GossipMessage], rows: Sequence[Row]) -> list[Row]:
        """Have messages of a guarded topic judged; those that need not wait."""
        guard = self.guards[topic.name]
        at_once: list[Row] = []
        asked: list[_Waiting] = []
        for waiting, row in zip(self._made(guard, topic, messages), rows, strict=True):
            if waiting is True:
                at_once.append(row)
            elif waiting is not False:
                waiting.source, waiting.row = peer, row
                asked.append(waiting)
        self._enter(guard, asked)
        return at_once

    def publish(
        self, publication: JudgedPublication, topic: Topic, messages: Sequence[GossipMessage], indexes: Sequence[int]
    ) -> None:
        """Have messages of an app judged: `publication` is told of each, at once or later."""
        guard = self.guards[topic.name]
        asked: list[_Waiting] = []
        for waiting, index in zip(self._made(guard, topic, messages), indexes, strict=True):
            if waiting is True:
                publication.judged(index, Verdict.ACCEPT)
            elif waiting is False:
                publication.judged(index, Verdict.IGNORE, "full")
            else:
                waiting.publication, waiting.index = publication, index
                asked.append(waiting)
        self._enter(guard, asked)

    def ask_bundle(self, bundle: JudgedBundle, messages: Sequence[GossipMessage], indexes: Sequence[int]) -> None:
        """Have messages of a bundle judged, those at the indexes: it is told of each, at once or later."""
        guard = self.guards[bundle.topic.name]
        bundle.unjudged = len(indexes)
        guard.by_id[bundle.id] = bundle
        self.publish(bundle, bundle.topic, messages, indexes)

    def bundle_left(self, bundle: JudgedBundle) -> None:
        """A bundle has all its verdicts: copies of it are nobody's concern any more."""
        guard = self.guards.get(bundle.topic.name)
        if guard is not None:
            guard.by_id.pop(bundle.id, None)

    def withdraw(self, publication: JudgedPublication, topic: str) -> None:
        """Nobody waits for the verdicts on a publication any more."""
        guard = self.guards.get(topic)
        if guard is not None:
            for waiting in [waiting for waiting in guard.waiting.values() if waiting.publication is publication]:
                self._take_off(guard, waiting)

    def waits(self, topic: str, identifier: bytes) -> bool:
        """Whether a peer's message, or bundle, waits for verdicts."""
        guard = self.guards.get(topic)
        return guard is not None and identifier in guard.by_id

    def copied(self, peer: GossipPeer, topic: str, ids: Iterable[bytes]) -> None:
        """A peer brought messages that had come before: those that wait count for it, or against it, as well."""
        guard = self.guards.get(topic)
        if guard is not None and guard.by_id:
            for identifier in ids:
                waiting = guard.by_id.get(identifier)
                if waiting is not None and waiting.source is not peer:
                    waiting.copies = waiting.copies or {}
                    waiting.copies[peer] = None

    def _made(self, guard: Guard, topic: Topic, messages: Sequence[GossipMessage]) -> "list[_Waiting | bool]":
        """Each message as it will wait; or whether it passes, where it need not or cannot wait."""
        settings, state, exempt = guard.settings, self._state, self.exempt
        accepts = settings.fallback is Fallback.ACCEPT
        holds = settings.fallback is Fallback.HOLD
        attended = holds or bool(guard.validators)
        due = float("inf") if holds else state.now + settings.timeout
        room = settings.max_waiting - len(guard.waiting)
        used, most = self.bytes, state.config.max_judged_bytes
        made: list[_Waiting | bool] = []
        for message in messages:
            data = message.data
            if exempt is not None and data.startswith(exempt):
                made.append(True)
                continue
            size = len(data) * 2 + _ENTRY
            if attended and room > 0 and used + size <= most:
                room -= 1
                used += size
                made.append(_Waiting(topic, message, due, size))
                continue
            if not accepts:
                state.ignore(topic, "full" if attended else "unattended")
            made.append(accepts)
        self.bytes = used
        return made

    def _enter(self, guard: Guard, asked: Sequence[_Waiting]) -> None:
        """Let messages wait, and ask the apps for their verdicts."""
        if not asked:
            return
        due = self.due
        first = self._number + 1
        missing, here, everywhere = tuple(guard.validators), guard.waiting, self._waiting
        for number, waiting in enumerate(asked, first):
            waiting.number = number
            waiting.missing = missing
            here[number] = everywhere[number] = waiting
            if waiting.due < due:
                due = waiting.due
            if waiting.row is not None:
                guard.by_id[waiting.row[0]] = waiting
        self._due = due
        self._number += len(asked)
        messages = [waiting.message for waiting in asked]
        for validator in guard.validators:
            self._state.emit(MessagesToJudge(validator, asked[0].topic.name, first, messages))

    # ------------------------------------------------------------ verdicts come

    def give(self, validator: int, verdicts: Iterable[tuple[int, int, Verdict]]) -> None:
        """Take an app's verdicts."""
        alone = (validator,)
        find = self._waiting.get
        for first, count, verdict in verdicts:
            settled = []
            accepts = verdict is Verdict.ACCEPT
            for number in range(max(first, 1), min(first + count, self._number + 1)):
                waiting = find(number)
                if waiting is None or (waiting.missing != alone and validator not in waiting.missing):
                    continue  # too late, or not asked
                if accepts and len(waiting.missing) > 1:
                    waiting.missing = _without(waiting.missing, validator)
                else:
                    settled.append(waiting)
            if verdict is Verdict.ACCEPT:
                self._accept(settled)
            elif verdict is Verdict.REJECT:
                self._reject(settled)
            else:
                self._ignore(settled, "verdict")

    def expire(self) -> None:
        """Treat what has waited long enough as the topics' settings say."""
        now = self._state.now
        for guard in self.guards.values():
            late = []
            for waiting in guard.waiting.values():
                if waiting.due > now:
                    break
                late.append(waiting)
            if late:
                self._fall_back(guard, late, "deadline")
        self._due = min(
            (next(iter(guard.waiting.values())).due for guard in self.guards.values() if guard.waiting),
            default=float("inf"),
        )

    def _fall_back(self, guard: Guard, settled: Sequence[_Waiting], reason: str) -> None:
        if guard.settings.fallback is Fallback.ACCEPT:
            self._accept(settled)
        else:
            self._ignore(settled, reason)

    def _accept(self, settled: Iterable[_Waiting]) -> None:
        rows: list[Row] = []
        source: GossipPeer | None = None
        topic: Topic | None = None
        for waiting in settled:
            self._take_off(self.guards[waiting.topic.name], waiting)
            if waiting.publication is not None:
                if rows and source is not None and topic is not None:  # before it, as they came
                    self.passed(source, topic, rows)
                    rows = []
                waiting.publication.judged(waiting.index, Verdict.ACCEPT)
                continue
            if waiting.source is not source or waiting.topic is not topic:
                if rows and source is not None and topic is not None:
                    self.passed(source, topic, rows)
                rows, source, topic = [], waiting.source, waiting.topic
            assert waiting.row is not None
            for peer in waiting.copies or ():
                self._unwanted.shown(peer, (waiting.row[0],))  # it need not get what it has
            rows.append(waiting.row)
        if rows and source is not None and topic is not None:
            self.passed(source, topic, rows)

    def _reject(self, settled: Iterable[_Waiting]) -> None:
        for waiting in settled:
            self._take_off(self.guards[waiting.topic.name], waiting)
            if waiting.publication is not None:
                waiting.publication.judged(waiting.index, Verdict.REJECT)
            elif waiting.source is not None:
                for peer in (waiting.source, *(waiting.copies or ())):
                    self._state.reject(peer, waiting.topic, "verdict")

    def _ignore(self, settled: Iterable[_Waiting], reason: str) -> None:
        for waiting in settled:
            self._take_off(self.guards[waiting.topic.name], waiting)
            if waiting.publication is not None:
                waiting.publication.judged(waiting.index, Verdict.IGNORE, "" if reason == "verdict" else reason)
            if not waiting.message.local:
                self._state.ignore(waiting.topic, reason)

    def _take_off(self, guard: Guard, waiting: _Waiting) -> None:
        del guard.waiting[waiting.number], self._waiting[waiting.number]
        self.bytes -= waiting.size
        if waiting.row is not None:
            del guard.by_id[waiting.row[0]]


def _without(missing: tuple[int, ...], validator: int) -> tuple[int, ...]:
    return tuple(number for number in missing if number != validator)
