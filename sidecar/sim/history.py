"""What a simulated node keeps of topics: in memory, and over its restarts."""

from collections.abc import Iterable

from ..core import gossip, history
from ..core.classes import NamedTuple
from ..core.history import HistoryBody, key_of
from ..core.parameters import HistoryConfig


class _Stored(NamedTuple):
    id: bytes
    raw: bytes
    received: float


class MemoryHistory:
    """Keeps the messages of topics with history by age and bytes, and answers what backfill asks of a store."""

    def __init__(self, config: HistoryConfig) -> None:
        self.config = config
        self.failing = False
        """Whether it refuses, as a broken disk does."""
        self.topics: dict[str, dict[bytes, _Stored]] = {}
        self._bytes: dict[str, int] = {}
        self._floor: dict[str, float] = {}  # what was received before has made room

    def store(self, news: gossip.MessagesDelivered | gossip.HistoryRepeated, now: float) -> None:
        """Keep what was delivered, if it came with what travelled."""
        if self.failing or not news.raws:
            return
        ids = [news.bundle] if news.bundle else [message.id for message in news.messages]
        ages = news.received or [0.0] * len(ids)
        topic = self.topics.setdefault(news.topic, {})
        for identifier, raw, age in zip(ids, news.raws, ages, strict=True):
            if topic.setdefault(key_of(identifier), _Stored(identifier, raw, now - age)).raw is raw:
                self._bytes[news.topic] = self._bytes.get(news.topic, 0) + len(raw)
        self._evict(news.topic, now)

    def _evict(self, name: str, now: float) -> None:
        topic = self.topics[name]
        if self._bytes[name] <= self.config.max_bytes:
            return
        for key, stored in sorted(topic.items(), key=lambda item: item[1].received):
            if self._bytes[name] <= self.config.max_bytes:
                break
            del topic[key]
            self._bytes[name] -= len(stored.raw)
            self._floor[name] = stored.received

    def seen(self, topic: str) -> list[bytes]:
        """The ids of what is kept: they are not delivered again after a restart."""
        return [stored.id for stored in self.topics.get(topic, {}).values()]

    def answer(self, asked: history.StoreEffect, now: float) -> history.AppInput:
        """What a store says."""
        match asked:
            case history.LoadHistoryKeys():
                return self._keys(asked, now)
            case history.FindHistoryKeys(session, topic, keys):
                found = [key for key in keys if key in self.topics.get(topic, {})]
                return history.HistoryKeysFound(session, found, self.failing)
            case history.LoadHistoryBodies(session, topic, keys, size):
                return self._bodies(session, topic, keys, size, now)

    def _keys(self, asked: history.LoadHistoryKeys, now: float) -> history.HistoryKeysLoaded:
        session, name, newest, oldest, limit = asked
        if self.failing:
            return history.HistoryKeysLoaded(session, (), 0.0, failed=True)
        floor = self._floor.get(name)
        if floor is not None:
            oldest = min(oldest, now - floor)
        found = [
            (stored.received, key)
            for key, stored in self.topics.get(name, {}).items()
            if now - oldest <= stored.received <= now - newest
        ]
        if len(found) > limit:
            found = sorted(found)[-limit:]
            oldest = now - found[0][0]
        return history.HistoryKeysLoaded(session, sorted(key for _, key in found), oldest)

    def _bodies(
        self, session: int, name: str, keys: Iterable[bytes], size: int, now: float
    ) -> history.HistoryBodiesLoaded:
        if self.failing:
            return history.HistoryBodiesLoaded(session, (), (), failed=True)
        topic = self.topics.get(name, {})
        bodies: list[HistoryBody] = []
        taken = 0
        wanted = list(keys)
        for place, key in enumerate(wanted):
            stored = topic.get(key)
            if stored is None:
                continue
            taken += len(stored.raw)
            if bodies and taken > size:
                return history.HistoryBodiesLoaded(session, bodies, wanted[place:])
            bodies.append(HistoryBody(key, stored.raw, now - stored.received))
        return history.HistoryBodiesLoaded(session, bodies)
