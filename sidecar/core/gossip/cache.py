"""What was seen, and what can be sent again: both bounded, both forgetting whole generations at a time."""

from collections import deque
from collections.abc import Callable, Iterable, Sequence

from ..classes import NamedTuple
from ..types import PeerId


class SeenCache:
    """Message ids of at least the last `ttl` seconds, per topic, for the same data may travel on two topics.

    Holds at most `max_ids`: two generations of half as many. Entering costs one set insertion and no timestamp; an id
    is forgotten between `ttl` and twice that after it came, earlier when too many come.
    """

    __slots__ = ("_count", "_half", "_new", "_now", "_old", "_rotated_at", "_ttl", "rotated")

    def __init__(self, ttl: float, max_ids: int, now: float) -> None:
        self._ttl = ttl
        self._half = max(1, max_ids // 2)
        self._new: dict[str, set[bytes]] = {}
        self._old: dict[str, set[bytes]] = {}
        self._count = 0
        self._now = self._rotated_at = now
        self.rotated: Callable[[float], None] = lambda now: None
        """Called when a generation is forgotten."""

    def unseen(self, topic: str, ids: Sequence[bytes]) -> list[bool] | None:
        """Which of the ids are new, counting the first of twins; None when all are (the usual case, at C speed)."""
        new, old = self._new.get(topic, _NOTHING), self._old.get(topic, _NOTHING)
        distinct = set(ids)
        if len(distinct) == len(ids) and new.isdisjoint(distinct) and old.isdisjoint(distinct):
            return None
        fresh: list[bool] = []
        for identifier in ids:
            fresh.append(identifier in distinct and identifier not in new and identifier not in old)
            distinct.discard(identifier)
        return fresh

    def contains(self, topic: str, identifier: bytes) -> bool:
        """Whether the id was entered and is not forgotten yet."""
        return identifier in self._new.get(topic, _NOTHING) or identifier in self._old.get(topic, _NOTHING)

    def add(self, topic: str, ids: Sequence[bytes]) -> None:
        """Enter ids that are not there yet."""
        entered = self._new.get(topic)
        if entered is None:
            entered = self._new[topic] = set()
        entered.update(ids)
        self._count += len(ids)
        if self._count >= self._half:
            self._rotate()

    def expire(self, now: float) -> None:
        """Forget what is older than twice the time to live."""
        self._now = now
        if now - self._rotated_at >= self._ttl:
            self._rotate()

    def _rotate(self) -> None:
        self._old, self._new, self._count = self._new, {}, 0
        self._rotated_at = self._now
        self.rotated(self._now)

    def __len__(self) -> int:
        return sum(map(len, (*self._new.values(), *self._old.values())))


_NOTHING: frozenset[bytes] = frozenset()


class Mark(NamedTuple):
    """A place among a topic's messages in the cache: window, and messages of the topic before it there."""

    window: int
    offset: int


class _Window:
    __slots__ = ("answers", "began", "bytes", "messages", "number", "tick", "topics")

    def __init__(self, number: int, tick: int, began: float) -> None:
        self.number = number
        self.tick = tick
        self.began = began  # when its heartbeat began
        self.messages: dict[bytes, bytes] = {}
        self.topics: dict[str, list[bytes]] = {}
        self.bytes = 0
        self.answers: dict[tuple[PeerId, bytes], int] = {}


class MessageCache:
    """The mcache of gossipsub v1.0: messages of the last heartbeats, to be named in IHAVE and sent on IWANT.

    A window ends with the heartbeat, or when it holds an eighth of a bound; the oldest windows go when the whole
    passes `max_messages` or `max_bytes`.
    """

    __slots__ = ("_bytes", "_gossip", "_length", "_max_bytes", "_max_messages", "_messages", "_windows", "tick")

    def __init__(self, length: int, gossip: int, max_messages: int, max_bytes: int, now: float) -> None:
        self._length, self._gossip = length, gossip
        self._max_messages, self._max_bytes = max_messages, max_bytes
        self._windows: deque[_Window] = deque([_Window(0, 0, now)])
        self._messages = self._bytes = 0
        self.tick = 0  # heartbeats that are over

    def put(self, topic: str, ids: Sequence[bytes], raws: Sequence[bytes]) -> None:
        """Keep encoded messages."""
        window = self._windows[-1]
        if len(window.messages) * 8 >= self._max_messages or window.bytes * 8 >= self._max_bytes:
            window = _Window(window.number + 1, window.tick, window.began)
            self._windows.append(window)
        before = len(window.messages)
        window.messages.update(zip(ids, raws, strict=True))
        window.topics.setdefault(topic, []).extend(ids)
        size = sum(map(len, raws))
        window.bytes += size
        self._bytes += size
        self._messages += len(window.messages) - before
        while len(self._windows) > 1 and (self._messages > self._max_messages or self._bytes > self._max_bytes):
            self._forget()

    def answer(self, peer: PeerId, identifier: bytes, most: int) -> bytes | None:
        """The message for an IWANT, unless it is gone or the peer got it `most` times."""
        for window in self._windows:
            raw = window.messages.get(identifier)
            if raw is not None:
                count = window.answers.get((peer, identifier), 0)
                if count >= most:
                    return None
                window.answers[peer, identifier] = count + 1
                return raw
        return None

    def mark(self, topic: str, since: float) -> Mark:
        """Behind it is nothing that came before `since`; of what came after, as little as possible is before it."""
        for window in self._windows:
            if window.began >= since:
                return Mark(window.number, 0)
        window = self._windows[-1]
        return Mark(window.number, len(window.topics.get(topic, ())))

    def bounds_gossip(self, mark: Mark) -> bool:
        """Whether messages before the mark are still gossiped about."""
        return any(
            window.number < mark.window or (window.number == mark.window and mark.offset > 0)
            for window in self._windows
            if window.tick > self.tick - self._gossip
        )

    def gossip_ids(self, topic: str, mark: Mark | None = None) -> list[bytes]:
        """Ids of the topic's messages in the windows that are gossiped about, behind the mark, oldest first."""
        found: list[bytes] = []
        for window in self._windows:
            if window.tick <= self.tick - self._gossip or (mark is not None and window.number < mark.window):
                continue
            ids = window.topics.get(topic, ())
            found += ids[mark.offset :] if mark is not None and window.number == mark.window else ids
        return found

    def came(self, topic: str) -> list[int]:
        """How many of the topic's messages came in each heartbeat that is gossiped about, the present one first."""
        counts = [0] * self._gossip
        for window in self._windows:
            if window.tick > self.tick - self._gossip:
                counts[self.tick - window.tick] += len(window.topics.get(topic, ()))
        return counts

    def topics(self) -> Iterable[str]:
        """Topics that have messages here, each once, in the order of their coming."""
        return dict.fromkeys(topic for window in self._windows for topic in window.topics)

    def shift(self, now: float) -> None:
        """A heartbeat is over."""
        self.tick += 1
        self._windows.append(_Window(self._windows[-1].number + 1, self.tick, now))
        while self._windows[0].tick <= self.tick - self._length:
            self._forget()

    def _forget(self) -> None:
        window = self._windows.popleft()
        self._messages -= len(window.messages)
        self._bytes -= window.bytes

    def __len__(self) -> int:
        return self._messages
