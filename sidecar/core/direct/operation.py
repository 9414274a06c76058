"""What apps asked for, until they are answered: batches of messages, and requests."""

from typing import Protocol

from ..deadlines import Deadline
from ..errors import SidecarError
from ..types import PeerId
from .events import DirectEffect, OutcomeRange, SendCompleted, SendOutcome


class Operation:
    """Collects the outcomes of a batch and gives `SendCompleted` once they are complete."""

    __slots__ = ("_effects", "_error", "_op", "_outcomes", "_waiting")

    def __init__(self, op: int, count: int, effects: list[DirectEffect]) -> None:
        self._op = op
        self._waiting = count
        self._effects = effects
        self._outcomes: list[tuple[int, int, SendOutcome]] = []
        self._error: SidecarError | None = None

    def settle(self, index: int, count: int, outcome: SendOutcome, error: SidecarError | None = None) -> None:
        """Say what became of `count` messages from `index` on; each is settled once."""
        self._outcomes.append((index, count, outcome))
        self._error = self._error or error
        self._waiting -= count
        if not self._waiting:
            self._effects.append(SendCompleted(self._op, self._ranges(), self._error))

    def _ranges(self) -> tuple[OutcomeRange, ...]:
        if len(self._outcomes) == 1:
            return (OutcomeRange(*self._outcomes[0]),)
        self._outcomes.sort(key=lambda settled: settled[0])
        ranges: list[OutcomeRange] = []
        for index, count, outcome in self._outcomes:
            if ranges and ranges[-1].outcome is outcome:
                index, count = ranges[-1].first, ranges[-1].count + count
                ranges.pop()
            ranges.append(OutcomeRange(index, count, outcome))
        return tuple(ranges)


class Carrier(Protocol):
    """A link that messages and requests are written to."""

    def wake(self) -> None:
        """There is something to write; the link comes for it when it may write."""

    def cancel(self, request: "Request") -> None:
        """Tell the remote that nobody waits for the answer to a request any more."""


class Request:
    """A request of an app here. `id` is its number on the `link` that it was written to, 0 and None before."""

    __slots__ = ("data", "deadline", "id", "link", "op", "peer", "protocol", "timer", "trace")

    def __init__(
        self, op: int, peer: PeerId, protocol: str, data: bytes, deadline: float | None, trace: str = ""
    ) -> None:
        self.op = op
        self.peer = peer
        self.protocol = protocol
        self.data = data
        self.deadline = deadline
        self.trace = trace
        self.id = 0
        self.link: Carrier | None = None
        self.timer: Deadline | None = None

    @property
    def size(self) -> int:
        """Bytes that it takes in a frame, at most."""
        return len(self.data) + 4 * len(self.protocol) + len(self.trace) + 40
