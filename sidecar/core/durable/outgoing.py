"""The messages to one peer by one protocol, as their sender's machine follows them."""

from collections import deque
from collections.abc import Sequence

from .types import Acknowledgement, DurableBatch, Item, Outgoing


class OutgoingStream:
    """How far it is written on the present link, and what may be written next."""

    __slots__ = ("announced", "busy_until", "failures", "loading", "sent", "state", "told_floor", "unheld")

    def __init__(self, state: Outgoing) -> None:
        self.state = state
        self.sent = state.held
        """The last sequence that was written on this link, or need not be."""
        self.unheld: deque[tuple[int, int]] = deque()
        """Of what was written and is not on the receiver's disk: (last sequence, bytes) of each batch."""
        self.loading = False
        self.announced = False  # on this link
        self.told_floor = 0  # the receiver has been told
        self.busy_until = 0.0  # monotonic seconds; the receiver does not take any
        self.failures = 0  # in a row that the receiver did not

    @property
    def unsent(self) -> bool:
        """Whether the receiver's sidecar lacks some."""
        return self.state.held < self.state.end

    @property
    def open(self) -> bool:
        """Whether an outcome is not known yet."""
        return self.state.floor <= self.state.end

    @property
    def written(self) -> int:
        """Messages that were written and are not known to be on the receiver's disk."""
        return self.sent - self.state.held

    @property
    def size(self) -> int:
        """Their bytes."""
        return sum(size for _, size in self.unheld)

    def begin(self) -> None:
        """There is another link, or the receiver did not take what was written: from what it has, anew."""
        self.sent = self.state.held
        self.unheld.clear()
        self.announced = False
        self.told_floor = 0
        self.loading = False  # what comes of it does not fit `sent` or is just what is next

    def change(self, state: Outgoing) -> None:
        """The store says how far it is."""
        if state.incarnation != self.state.incarnation:
            self.state = state
            self.begin()
            self.busy_until, self.failures = 0.0, 0
            return
        self.state = state
        self.sent = max(self.sent, state.held)
        while self.unheld and self.unheld[0][0] <= state.held:
            self.unheld.popleft()

    def batch(self, first: int, items: Sequence[Item], size: int) -> DurableBatch:
        """The next batch, which counts as written."""
        state = self.state
        if items:
            self.sent = first + len(items) - 1
            self.unheld.append((self.sent, size))
        self.announced = True
        self.told_floor = state.floor
        return DurableBatch(state.protocol, state.incarnation, state.floor, state.end, first if items else 0, items)

    def refused(self, now: float, least: float, most: float) -> None:
        """The receiver did not take what was written, and is to be left alone for a while."""
        self.sent = self.state.held
        self.unheld.clear()
        self.loading = False
        self.busy_until = now + min(most, least * 2.0 ** min(self.failures, 30))
        self.failures += 1

    def behind(self, acknowledgement: Acknowledgement) -> bool:
        """Whether the receiver has less than it had: it was restored from a copy, or its disk was lost."""
        return acknowledgement.held < self.state.held
