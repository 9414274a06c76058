"""Topics toward apps: one bounded history a topic, one bounded queue a subscriber, every message encoded once."""

import enum
from collections import deque
from collections.abc import Callable, Iterator
from typing import Protocol

from ...core.errors import SidecarError
from ...core.override import override
from ...store.history import Lost, StoredTopic
from ..common.bounds import BATCH_BYTES, Bounds
from ..common.encode import LagReason, longest_run, shortest_run
from ..common.faults import SlowReader
from ..common.outlet import Outlet
from . import encode
from .chunk import Gap, TopicChunk


class Policy(enum.IntEnum):
    """What a full queue does; numbers of OverflowPolicy."""

    DROP_OLDEST = 1
    DROP_NEWEST = 2
    END_STREAM = 3


class TopicHub:
    """A joined topic: who reads it, and what was delivered lately."""

    def __init__(self, name: str, sign: bool, born: int, stored: StoredTopic | None = None) -> None:
        """`born`: the counter at which it was joined; cursors from before may have missed anything.

        `stored`: what its messages on disk are known by, so that there is more than memory has; None: it has none.
        """
        self.name = name
        self.sign = sign
        self.stored = stored
        self.subscribers: dict[Subscription, None] = {}
        self.history_messages = 0
        self.history_bytes = 0
        self.reach = born
        """The counter behind which memory has all that came."""
        self.forgot = 0
        """When the latest of what memory has let go of was received: nanoseconds since 1970."""
        self._history: deque[TopicChunk] = deque()
        self._lost = Lost(born)

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
            self.reach = chunk.last
            self.forgot = chunk.received
            self._lost.add(chunk.first, chunk.last, chunk.local)

    def missed(self, after: int, until: int | None = None, *, skip_local: bool) -> int | None:
        """How many messages behind the counter `after` memory has lost; None when that is not known."""
        return self._lost.count(after, until, skip_local=skip_local)

    def since(self, after: int, until: int | None = None) -> Iterator[TopicChunk]:
        """What memory holds behind the counter `after`."""
        for chunk in self._history:
            yield from chunk.between(after, until)


class Behind(Protocol):
    """What came before a subscription takes what comes."""

    def rest(self) -> list[TopicChunk | Gap] | None:
        """All of it that is left, where memory has it; None where it does not, and `read` is needed."""

    def read(self, answer: Callable[[list[TopicChunk | Gap], SidecarError | None], None]) -> None:
        """The next part of it."""

    def back(self, position: int) -> bool:
        """Begin again behind this counter, where all topics are on disk; whether they are."""


class Subscription(Outlet):
    """One reader's queue over its topics. `push` never waits; `take` gives the next batch.

    While it is `behind`, it takes nothing that comes: it reads what came before, a part when the one before is taken,
    until memory has all that is left. That and what comes then follow each other.
    """

    def __init__(
        self, epoch: bytes, position: int, *, policy: Policy, bounds: Bounds, skip_local: bool, since: int = 0
    ) -> None:
        """`epoch`, `position`: the cursor that it begins behind. `bounds`: of what the app has not read.

        `since`: what peers bring comes if it was received since then: nanoseconds since 1970.
        """
        super().__init__()
        self._epoch = epoch
        self._policy = policy
        self._bounds = bounds
        self._skip_local = skip_local
        self._since = since
        self._behind: Behind | None = None
        self._returns: Behind | None = None  # to what a reader goes back that is too slow
        self._reading = False
        self._replay: deque[TopicChunk | Gap] = deque()  # a page, or what shares its bytes with the topics' memory
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

    def begin(self, behind: Behind, gap: Gap | None) -> None:
        """Start with what came before, behind a gap where some is lost."""
        self._start = gap
        self._behind = behind
        if self._policy is Policy.DROP_OLDEST:
            self._returns = behind
        self._go_on()

    def _go_on(self) -> None:
        """Take what is left in memory, or ask for more of what is not."""
        behind = self._behind
        if behind is None or self._reading or self._end is not None:
            return
        rest = behind.rest()
        if rest is not None:
            self._behind = None
            self._replay.extend(rest)
        else:
            self._reading = True
            behind.read(self._read)

    def _read(self, entries: list[TopicChunk | Gap], error: SidecarError | None) -> None:
        self._reading = False
        self._replay.extend(entries)
        if error is not None:
            self.end(error)
        self.ready.set()

    def push(self, chunk: TopicChunk) -> None:
        """Queue a chunk, or as much of it as the policy and the bounds allow."""
        if self._behind is not None or self._end is not None or (self._skip_local and chunk.local):
            return
        if chunk.history and chunk.received < self._since:
            return
        if (
            self._messages + chunk.count <= self._bounds.messages
            and self._bytes + len(chunk.data) <= self._bounds.bytes
        ):
            self._append(chunk)
        elif self._returns is not None and self._went_back(chunk):
            return
        elif self._policy is Policy.DROP_OLDEST:
            self._append(chunk)
            self._drop_oldest()
        else:
            self._refuse_newest(chunk)
        self.ready.set()

    def _went_back(self, chunk: TopicChunk) -> bool:
        """A reader that began with what is on disk is too slow: what it has not taken, it reads from there."""
        front = self._queue[0] if self._queue else chunk
        assert self._returns is not None, "asked only where there is one"
        if isinstance(front, Gap) or not self._returns.back(front.first - 1):
            return False
        self._queue.clear()
        self._messages = self._bytes = 0
        self._behind = self._returns
        self.ready.set()
        return True

    @override
    def take(self) -> bytes | None:
        if self._behind is None:
            return self._take()
        if not self._replay:
            self._go_on()
        taken = self._take()
        if not self._replay:
            self._go_on()  # while this is being written
        return taken

    def _take(self) -> bytes | None:
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
