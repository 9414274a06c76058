"""Topics toward apps: one bounded history a topic, one bounded queue a subscriber, every message encoded once."""

import enum
from collections import deque
from collections.abc import Iterator
from typing import NamedTuple

from ...core.override import override
from ..common.bounds import BATCH_BYTES, Bounds
from ..common.encode import LagReason, longest_run, shortest_run
from ..common.faults import SlowReader
from ..common.outlet import Outlet
from . import encode

_EVICTED_RANGES = 1024  # remembered a topic, to say how many messages a late cursor missed


class Policy(enum.IntEnum):
    """What a full queue does; numbers of OverflowPolicy."""

    DROP_OLDEST = 1
    DROP_NEWEST = 2
    END_STREAM = 3


class TopicChunk(NamedTuple):
    """Consecutive messages of one topic, as joined items. Counters run on over all topics, so chunks never overlap."""

    first: int
    count: int  # type: ignore[assignment]  # hides tuple.count, as in the core
    data: bytes
    local: bool

    @property
    def last(self) -> int:
        """The counter of its last message."""
        return self.first + self.count - 1

    def split(self, count: int, end: int) -> tuple["TopicChunk", "TopicChunk"]:
        """The first `count` messages, which are `end` bytes, and the rest."""
        head = TopicChunk(self.first, count, self.data[:end], self.local)
        return head, TopicChunk(self.first + count, self.count - count, self.data[end:], self.local)


class Gap(NamedTuple):
    """Messages missed; the stream stands at `position` behind it. `missed` None: nobody knows how many."""

    missed: int | None
    reason: LagReason
    position: int

    def plus(self, missed: int, position: int) -> "Gap":
        """A gap that reaches as far as `position` and has so many more messages."""
        total = None if self.missed is None else self.missed + missed
        return Gap(total, self.reason, max(self.position, position))


class TopicHub:
    """A joined topic: who reads it, and what was delivered lately."""

    def __init__(self, name: str, sign: bool, born: int) -> None:
        """`born`: the counter at which it was joined; cursors from before may have missed anything."""
        self.name = name
        self.sign = sign
        self.subscribers: dict[Subscription, None] = {}
        self.history_messages = 0
        self.history_bytes = 0
        self._history: deque[TopicChunk] = deque()
        self._evicted: deque[tuple[int, int, bool]] = deque()  # first and last counter, local
        self._unknown_before = born

    def deliver(self, chunk: TopicChunk, bounds: Bounds) -> None:
        """Keep a chunk within the history's bounds, and queue it for every subscriber."""
        self._history.append(chunk)
        self.history_messages += chunk.count
        self.history_bytes += len(chunk.data)
        self.evict(bounds)
        for subscription in self.subscribers:
            subscription.push(chunk)

    def evict(self, bounds: Bounds) -> None:
        """Let the oldest chunks go until the history is within its bounds."""
        history = self._history
        while self.history_messages > bounds.messages or self.history_bytes > bounds.bytes:
            chunk = history.popleft()
            self.history_messages -= chunk.count
            self.history_bytes -= len(chunk.data)
            evicted = self._evicted
            if evicted and evicted[-1][1] + 1 == chunk.first and evicted[-1][2] == chunk.local:
                evicted[-1] = (evicted[-1][0], chunk.last, chunk.local)
            else:
                evicted.append((chunk.first, chunk.last, chunk.local))
                if len(evicted) > _EVICTED_RANGES:
                    self._unknown_before = evicted.popleft()[1]

    def missed_since(self, position: int, skip_local: bool) -> int | None:
        """How many messages behind `position` history has lost; None when that is not known."""
        if position < self._unknown_before:
            return None
        return sum(
            last - max(first, position + 1) + 1
            for first, last, local in self._evicted
            if last > position and not (skip_local and local)
        )

    def since(self, position: int) -> Iterator[TopicChunk]:
        """What history holds behind `position`."""
        for chunk in self._history:
            if chunk.first > position:
                yield chunk
            elif chunk.last > position:
                yield chunk.split(*shortest_run(chunk.data, position - chunk.first + 1, 0))[1]


class Subscription(Outlet):
    """One reader's queue over its topics. `push` never waits; `take` gives the next batch."""

    def __init__(self, epoch: bytes, position: int, *, policy: Policy, bounds: Bounds, skip_local: bool) -> None:
        """`epoch`, `position`: the cursor that it begins behind. `bounds`: of what the app has not read."""
        super().__init__()
        self._epoch = epoch
        self._policy = policy
        self._bounds = bounds
        self._skip_local = skip_local
        self._replay: deque[TopicChunk] = deque()  # shares its bytes with the history, whose bounds hold
        self._queue: deque[TopicChunk | Gap] = deque()
        self._messages = 0
        self._bytes = 0
        self._start: Gap | None = None
        self._position: int | None = position
        self.missed = 0

    @property
    def queued(self) -> Bounds:
        """What waits for the reader."""
        return Bounds(self._messages, self._bytes)

    def begin(self, chunks: list[TopicChunk], gap: Gap | None) -> None:
        """Start with what history holds, behind a gap where some is lost."""
        self._start = gap
        self._replay.extend(chunk for chunk in chunks if not (self._skip_local and chunk.local))

    def push(self, chunk: TopicChunk) -> None:
        """Queue a chunk, or as much of it as the policy and the bounds allow."""
        if self._end is not None or (self._skip_local and chunk.local):
            return
        if (
            self._messages + chunk.count <= self._bounds.messages
            and self._bytes + len(chunk.data) <= self._bounds.bytes
        ):
            self._append(chunk)
        elif self._policy is Policy.DROP_OLDEST:
            self._append(chunk)
            self._drop_oldest()
        else:
            self._refuse_newest(chunk)
        self.ready.set()

    @override
    def take(self) -> bytes | None:
        parts = []
        if self._position is not None:
            if self._start is not None:
                parts.append(encode.lagged(self._start.missed, self._start.reason))
            parts.append(self._cursor(self._position))
            self._position = self._start = None
        size = 0
        for source in (self._replay, self._queue):
            while source:
                entry = source[0]
                if isinstance(entry, Gap):
                    if parts:
                        return b"".join(parts)
                    parts.append(encode.lagged(entry.missed, entry.reason) + self._cursor(entry.position))
                    source.popleft()
                    continue
                if size and size + len(entry.data) > BATCH_BYTES:
                    return b"".join(parts)
                source.popleft()
                parts.append(entry.data)
                size += len(entry.data)
                if source is self._queue:
                    self._messages -= entry.count
                    self._bytes -= len(entry.data)
        return b"".join(parts) if parts else self.nothing()

    def _cursor(self, position: int) -> bytes:
        return encode.position(encode.cursor(self._epoch, position))

    def _append(self, chunk: TopicChunk) -> None:
        self._queue.append(chunk)
        self._messages += chunk.count
        self._bytes += len(chunk.data)

    def _drop_oldest(self) -> None:
        """Make room from the front, exactly as much as is needed, but leave the newest message."""
        queue = self._queue
        front = queue.popleft() if isinstance(queue[0], Gap) else None
        gap = front if isinstance(front, Gap) else Gap(0, LagReason.SLOW_READER, 0)
        while self._messages > 1:
            items = self._messages - self._bounds.messages
            size = self._bytes - self._bounds.bytes
            if items <= 0 and size <= 0:
                break
            chunk = queue.popleft()
            assert isinstance(chunk, TopicChunk), "this policy has one gap, at the front"
            run = shortest_run(chunk.data, items, size)
            if run[0] == self._messages:
                run = shortest_run(chunk.data, self._messages - 1, 0)
            dropped, rest = chunk.split(*run)
            if rest.count:
                queue.appendleft(rest)
            self._messages -= dropped.count
            self._bytes -= len(dropped.data)
            self.missed += dropped.count
            gap = gap.plus(dropped.count, dropped.last)
        if gap.missed:
            queue.appendleft(gap)

    def _refuse_newest(self, chunk: TopicChunk) -> None:
        """Take as many messages as there is room for (into an empty queue at least one); the rest are missed."""
        room = Bounds(self._bounds.messages - self._messages, self._bounds.bytes - self._bytes)
        count, end = longest_run(chunk.data, room.messages, room.bytes)
        if not count and not self._messages:
            count, end = shortest_run(chunk.data, 1, 0)
        rest = chunk
        if count:
            head, rest = chunk.split(count, end)
            self._append(head)
        if not rest.count:
            return
        self.missed += rest.count
        if self._policy is Policy.END_STREAM:
            self.end(SlowReader(f"{self._messages} messages of {self._bytes} bytes were waiting, and no room for more"))
            return
        queue = self._queue
        last = queue.pop() if queue and isinstance(queue[-1], Gap) else None
        gap = last if isinstance(last, Gap) else Gap(0, LagReason.SLOW_READER, 0)
        queue.append(gap.plus(rest.count, rest.last))
