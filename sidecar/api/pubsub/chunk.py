"""Messages of a topic, encoded once for all that read them."""

from collections.abc import Iterator

from ...core.classes import NamedTuple
from ..common.encode import LagReason, shortest_run


class TopicChunk(NamedTuple):
    """Consecutive messages of one topic, as joined items. Counters run on over all topics, so chunks never overlap.

    `received`: nanoseconds since 1970. `history`: a peer brought them, and they were received by another node then.
    """

    first: int
    count: int  # type: ignore[assignment]  # hides tuple.count, as in the core
    data: bytes
    local: bool
    received: int = 0
    history: bool = False

    @property
    def last(self) -> int:
        """The counter of its last message."""
        return self.first + self.count - 1

    def split(self, count: int, end: int) -> tuple["TopicChunk", "TopicChunk"]:
        """The first `count` messages, which are `end` bytes, and the rest."""
        head = self._replace(count=count, data=self.data[:end])
        return head, self._replace(first=self.first + count, count=self.count - count, data=self.data[end:])

    def between(self, after: int, until: int | None = None) -> Iterator["TopicChunk"]:
        """What of it lies behind the counter `after`, up to `until`: one chunk or none."""
        chunk = self
        if chunk.last <= after or (until is not None and chunk.first > until):
            return
        if chunk.first <= after:
            chunk = chunk.split(*shortest_run(chunk.data, after - chunk.first + 1, 0))[1]
        if until is not None and chunk.last > until:
            chunk = chunk.split(*shortest_run(chunk.data, until - chunk.first + 1, 0))[0]
        yield chunk


class Gap(NamedTuple):
    """Messages missed; the stream stands at `position` behind it. `missed` None: nobody knows how many."""

    missed: int | None
    reason: LagReason
    position: int

    def plus(self, missed: int | None, position: int) -> "Gap":
        """A gap that reaches as far as `position` and has so many more messages."""
        total = None if self.missed is None or missed is None else self.missed + missed
        return Gap(total, self.reason, max(self.position, position))
