"""One probe of this node: what was published, and which answers count."""

from collections.abc import Callable, Collection

from ..classes import NamedTuple
from ..types import PeerId
from .events import ProbeAnswer, ProbeRequested, ProbeSummary
from .messages import WHOLE, Answer, asks
from .objective import Judged


class _Message:
    """A message of the probe."""

    __slots__ = ("answered", "at", "came", "expected", "rate")

    def __init__(self, at: float, rate: int, expected: Collection[PeerId]) -> None:
        self.at = at
        self.rate = rate
        self.expected = frozenset(expected)
        self.answered: dict[PeerId, None] = {}
        self.came = 0  # of those that were asked, also more than are wanted


class Timing(NamedTuple):
    """An answer that may count, once the way back is known."""

    peer: PeerId
    number: int
    since: float  # from publishing until the answer was here, without the time for which it was held
    direct: bool


class ProbeRun:
    """Judges the answers of one probe. What does not count is named as in `IGNORED`."""

    def __init__(
        self, asked: ProbeRequested, identifier: bytes, begun: float, surplus: int, within: float = 0.0
    ) -> None:
        """`surplus`: so many times the answers that were wanted for a message are taken.

        `within`: seconds in which receivers should have a message, for `judged`.
        """
        self.asked = asked
        self.id = identifier
        self.begun = begun
        self.receivers = 0
        """As many as there are at least, by a message that more answered than are taken; 0 where there was none."""
        self.next = 0  # number of the next message
        self.unpublished = 0
        self.ignored = 0
        self.within = within
        self._in_time = 0
        self._most = asked.answers * surplus
        self._messages: dict[int, _Message] = {}
        self._answers = 0
        self._receivers = 0.0  # that they stand for, over all messages
        self._peers: dict[PeerId, None] = {}
        self._on_time = 0

    @property
    def complete(self) -> bool:
        """Whether all messages were published."""
        return self.next >= self.asked.messages

    def publishing(self, at: float, rate: int, expected: Collection[PeerId]) -> None:
        """The next message goes out. `expected`: those of the topic that are connected, are asked and can answer."""
        self._messages[self.next] = _Message(at, rate, expected)
        self.next += 1

    def failed(self, number: int) -> None:
        """A message did not go out after all."""
        self._messages.pop(number, None)
        self.unpublished += 1

    def judge(self, peer: PeerId, answer: Answer, now: float) -> Timing | str:
        """An answer came; the way back is to be measured, or it does not count for this reason."""
        message = self._messages.get(answer.number)
        if message is None:
            return "unknown"
        if not asks(self.id, answer.number, message.rate, peer):
            return "not_asked"
        if peer in message.answered:
            return "repeated"
        since = now - message.at - answer.held / 1e6
        if since < 0:
            return "below_zero"
        message.came += 1
        if len(message.answered) >= self._most:
            self.receivers = max(self.receivers, message.came * WHOLE // message.rate)
            return "too_many"
        message.answered[peer] = None
        return Timing(peer, answer.number, since, answer.direct)

    def measured(self, timing: Timing, round_trip: float) -> ProbeAnswer | str:
        """How long the message took: half of the round trip is taken for the way back."""
        delay = timing.since - round_trip / 2
        if delay < 0:
            return "below_zero"
        message = self._messages[timing.number]
        self._answers += 1
        self._receivers += WHOLE / message.rate
        self._peers[timing.peer] = None
        self._on_time += timing.peer in message.expected
        self._in_time += delay <= self.within
        return ProbeAnswer(timing.peer, timing.number, delay, round_trip, timing.direct)

    def judged(self, there: Callable[[PeerId], bool]) -> Judged:
        """The receivers by when they had the messages. `there`: whether a peer is connected, else it owes nothing."""
        silent = sum(
            peer not in message.answered and there(peer)
            for message in self._messages.values()
            for peer in message.expected
        )
        return Judged(self._in_time, self._answers - self._in_time, silent)

    def summary(self) -> ProbeSummary:
        """The whole, as it stands."""
        messages = list(self._messages.values())
        published = len(messages)
        return ProbeSummary(
            published=published,
            unpublished=self.unpublished,
            share=sum(message.rate for message in messages) / WHOLE / published if published else 0.0,
            answers=self._answers,
            peers=len(self._peers),
            expected=sum(len(message.expected) for message in messages),
            answered=self._on_time,
            receivers=self._receivers / published if published else 0.0,
            ignored=self.ignored,
        )
