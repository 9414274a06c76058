"""What is kept of topics: written as it came, read in pages, evicted by age and size."""

import hashlib
import os
import sqlite3
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import chain, repeat
from math import inf
from pathlib import Path
from typing import TypeAlias

from ...core.classes import NamedTuple
from ...core.parameters import HistoryConfig
from ..database import TransactedFile
from .database import SCHEMA, connect
from .lost import Lost
from .reading import FLAG_HISTORY, Reads

Row: TypeAlias = tuple[int, int, int, bytes, bytes, int, int, bytes | None]

EPOCH_BYTES = 8
ROW_OVERHEAD = 160
"""Bytes that a message counts beside its own; measured: what its row and its places in the indexes take."""
_RESERVED = 1 << 32
"""Counters kept for one run, of which 1,000,000 may be given out a second: what a wall clock in microseconds shows."""
_BLOCKS = (256, 64, 16, 4, 1)  # rows written by one statement, of which each is prepared once
_EVICTED_AT_ONCE = 4096  # gossip messages
_EVICTIONS = 4  # in one transaction
_SLACK = 32  # a topic that is too large gives up this part of its bound, so that not every write has to evict
_NANOSECONDS = 1_000_000_000


class StoredTopic(NamedTuple):
    """A topic as it is known in the file."""

    id: int
    name: str
    sign: bool


class Kept(NamedTuple):
    """Messages to be stored, of one topic, with counters from `first` on.

    `raws` travelled, under the `ids`; each of them has one of the counters, but that of a bundle, which is alone here,
    has `count` of them. `mask`: see `database`. `received`: nanoseconds since 1970, of all or of each.
    """

    topic: StoredTopic
    first: int
    ids: Sequence[bytes]
    raws: Sequence[bytes]
    received: int | Sequence[int]
    flags: int | Sequence[int]
    count: int = 1  # type: ignore[assignment]  # hides tuple.count, as in the core
    mask: bytes | None = None

    @property
    def last(self) -> int:
        """The last of the counters."""
        return self.first + (self.count if self.count > 1 else len(self.raws)) - 1

    @property
    def size(self) -> int:
        """Bytes that it holds."""
        return sum(map(len, self.raws)) + ROW_OVERHEAD * len(self.raws)


class TopicSize(NamedTuple):
    """What there is of a topic: messages, bytes as they count, and when the oldest was received (0: nothing there)."""

    messages: int
    bytes: int
    oldest: int


class HistoryChanges(NamedTuple):
    """What a transaction has changed that others have to hear of."""

    sizes: dict[int, TopicSize]
    """By topic."""


class _Topic:
    """A topic as this thread knows it."""

    __slots__ = ("bytes", "evicted", "lost", "messages", "oldest", "stored", "used")

    def __init__(
        self,
        stored: StoredTopic,
        used: float,
        messages: int = 0,
        size: int = 0,
        lost: Lost | None = None,
        evicted: int = 0,
    ) -> None:
        self.stored = stored
        self.used = used
        self.messages = messages
        self.bytes = size
        self.lost = lost or Lost()
        self.evicted = evicted
        self.oldest: int | None = None  # None: not looked up

    def copy(self) -> "_Topic":
        made = _Topic(self.stored, self.used, self.messages, self.bytes, self.lost, self.evicted)
        made.oldest = self.oldest
        return made


class HistoryStore(TransactedFile):
    """Used by one thread."""

    def __init__(
        self,
        path: Path,
        config: HistoryConfig,
        wall: Callable[[], float] = time.time,
        *,
        epoch: bytes = b"",
        counter: int = 0,
        suspect: bool = False,
    ) -> None:
        """Open the file, or make it. Raises StorageError.

        `epoch`, `counter`: of the cursors that were given out in this run already, before there was a file. `suspect`:
        something was wrong with the file. `wall`: seconds since 1970.
        """
        connection, self.notice = connect(path, suspect=suspect)
        super().__init__(connection, SCHEMA)
        self._config = config
        self._wall = wall
        self._topics: dict[int, _Topic] = {}
        self._undo: dict[int, _Topic | None] = {}  # what this transaction has touched, as it was before
        self._looked = 0.0  # for topics that have lapsed
        self._more = False  # whether there is more to evict
        self.reads = Reads(self._connection, self._topics)
        try:
            self._load()
            row = self._connection.execute("SELECT epoch, reserved FROM cursors").fetchone()
            self.epoch = epoch or (os.urandom(EPOCH_BYTES) if row is None else bytes(row[0]))
            """The first half of every cursor."""
            self._kept_epoch = b"" if row is None else bytes(row[0])
            self._reserved = 0 if row is None else row[1]
            newest = self._connection.execute(
                "SELECT cursor + count FROM messages ORDER BY cursor DESC LIMIT 1"
            ).fetchone()
            # The clock counts as well: a disk that refuses leads back to no counter of before, unless it was set back.
            self.counter = counter or max(self._reserved, newest[0] if newest else 0, int(wall() * 1e6))
            """Above this, no counter has ever been given out."""
            self._reserve_now()
        except BaseException:
            self.close()
            raise

    def _reserve_now(self) -> None:
        """Before any counter is used, and whatever becomes of the power. A disk that refuses is asked again."""
        before = self._reserved, self._kept_epoch
        try:
            self._connection.execute("PRAGMA synchronous = FULL")
            self.begin()
            self._reserve(self.counter)
            self._connection.execute("COMMIT")
        except sqlite3.Error:
            self._reserved, self._kept_epoch = before
            self._undo_all()
        finally:
            self._connection.execute("PRAGMA synchronous = NORMAL")

    def _load(self) -> None:
        self._topics |= {
            number: _Topic(StoredTopic(number, name, bool(sign)), used, messages, size, Lost.load(lost), evicted)
            for number, name, sign, used, messages, size, lost, evicted in self._connection.execute(
                "SELECT id, name, sign, used, messages, bytes, lost, evicted FROM topics"
            )
        }

    def topics(self) -> list[StoredTopic]:
        """Those that are kept."""
        return [topic.stored for topic in self._topics.values()]

    def sizes(self) -> dict[int, TopicSize]:
        """What there is of each topic."""
        return {number: self._size(topic) for number, topic in self._topics.items()}

    # ------------------------------------------------------------ transactions

    def savepoint(self) -> None:
        """Begin a part of it."""

    def undo(self) -> None:
        """No part is undone: no job of ours fails but by the disk."""

    def release(self) -> None:
        """Keep the part."""

    def commit(self) -> HistoryChanges:
        """Bring all to the disk. Raises sqlite3.Error, and then all is undone."""
        try:
            touched = [self._topics[number] for number in self._undo if number in self._topics]
            for topic in touched:
                self._connection.execute(
                    "UPDATE topics SET used = ?, messages = ?, bytes = ? WHERE id = ?",
                    (topic.used, topic.messages, topic.bytes, topic.stored.id),
                )
            sizes = {topic.stored.id: self._size(topic) for topic in touched}
            self._connection.execute("COMMIT")
        except BaseException:
            self.roll_back()
            raise
        self._undo.clear()
        return HistoryChanges(sizes)

    def roll_back(self) -> None:
        """Undo the transaction."""
        self._undo_all()
        for number, before in self._undo.items():
            if before is None:
                self._topics.pop(number, None)
            else:
                self._topics[number] = before
        self._undo.clear()
        self.reads.forget()
        row = self._connection.execute("SELECT epoch, reserved FROM cursors").fetchone()
        self._kept_epoch, self._reserved = (b"", 0) if row is None else (bytes(row[0]), row[1])

    def _touch(self, number: int) -> _Topic:
        """A topic that this transaction changes."""
        topic = self._topics[number]
        if number not in self._undo:
            self._undo[number] = topic
            topic = self._topics[number] = topic.copy()
        return topic

    def _size(self, topic: _Topic) -> TopicSize:
        if topic.oldest is None:
            found = self._connection.execute(
                "SELECT min(received) FROM messages WHERE topic = ?", (topic.stored.id,)
            ).fetchone()[0]
            topic.oldest = found or 0
        return TopicSize(topic.messages, topic.bytes, topic.oldest)

    # ------------------------------------------------------------ writing

    def _reserve(self, counter: int) -> None:
        """Keep counters above this one for this run, so that none of it is given out again after a kill."""
        if counter + _RESERVED // 2 <= self._reserved and self._kept_epoch == self.epoch:
            return
        reserved = max(counter, self._reserved) + _RESERVED
        self._connection.execute(
            "INSERT INTO cursors VALUES (1, ?, ?) ON CONFLICT (id) DO UPDATE SET epoch = excluded.epoch, "
            "reserved = excluded.reserved",
            (self.epoch, reserved),
        )
        self._reserved, self._kept_epoch = reserved, self.epoch

    def add(self, topic: StoredTopic, born: int) -> None:
        """Keep a topic from now on: nothing is known of what was before the counter `born`."""
        if topic.id in self._topics:
            return
        lost = Lost(born)
        self._connection.execute(
            "INSERT INTO topics VALUES (?, ?, ?, ?, 0, 0, ?, 0)",
            (topic.id, topic.name, topic.sign, self._wall(), lost.dump()),
        )
        self._undo.setdefault(topic.id, None)
        self._topics[topic.id] = _Topic(topic, self._wall(), lost=lost)

    def sign(self, topic: StoredTopic) -> None:
        """A topic of which nothing is there is signed, or is not, from now on."""
        self.add(topic, 0)
        self._touch(topic.id).stored = topic
        self._connection.execute("UPDATE topics SET sign = ? WHERE id = ?", (topic.sign, topic.id))

    def used(self, topics: Iterable[int]) -> None:
        """Apps use these topics now."""
        for number in topics:
            if number in self._topics:
                self._touch(number).used = self._wall()

    def write(self, batches: Sequence[Kept], missed: Mapping[StoredTopic, Lost] | None = None) -> None:
        """Store messages; of what peers bring, only what is not there yet. `missed`: what could not be kept."""
        touched: dict[int, None] = {}
        for topic, lost in (missed or {}).items():
            self.add(topic, 0)
            self._lose(self._touch(topic.id), lost)
        for kept in batches:
            number = kept.topic.id
            self.add(kept.topic, kept.first - 1)
            touched[number] = None
            self._insert(self._touch(number), kept)
        if batches:
            self._reserve(batches[-1].last)
        bound = self._config.max_bytes
        for number in touched:
            full = self._touch(number)
            if full.bytes > bound:
                self._evict(full, inf, full.bytes - bound + bound // _SLACK)

    def _insert(self, topic: _Topic, kept: Kept) -> None:
        number, received, flags = kept.topic.id, kept.received, kept.flags
        keys = [hashlib.sha256(identifier).digest() for identifier in kept.ids]
        times = repeat(received) if isinstance(received, int) else received
        marks = repeat(flags) if isinstance(flags, int) else flags
        cursors = range(kept.first, kept.first + len(keys))
        rows: list[Row] = list(
            zip(cursors, repeat(number), repeat(kept.count), keys, kept.raws, times, marks, repeat(kept.mask))
        )
        if not isinstance(flags, int) or flags & FLAG_HISTORY:  # what peers bring, gossip may have brought meanwhile
            there = dict.fromkeys(self.reads.find(number, keys))
            rows = [row for row in rows if row[3] not in there]
        start = 0
        for block in _BLOCKS:
            while len(rows) - start >= block:
                self._connection.execute(_INSERTIONS[block], list(chain.from_iterable(rows[start : start + block])))
                start += block
        self.reads.added(number, [row[3] for row in rows], [row[0] for row in rows])
        topic.messages += len(rows) * kept.count
        topic.bytes += sum([len(row[4]) for row in rows]) + ROW_OVERHEAD * len(rows)
        if topic.oldest is not None and rows:
            least = min([row[5] for row in rows])
            topic.oldest = min(topic.oldest, least) if topic.oldest else least

    # ------------------------------------------------------------ retention

    def next_expiry(self) -> float | None:
        """In how many seconds `expire` is wanted."""
        if self._more:
            return 0.0
        due = [
            size.oldest / _NANOSECONDS + self._config.max_age - self._wall()
            for size in map(self._size, self._topics.values())
            if size.messages and size.oldest
        ]
        # Not one by one: what is a moment too old may stay until others are.
        return max(1.0, min(due)) if due else None

    def expire(self) -> None:
        """Evict what is too old, and forget topics that nobody has used for as long."""
        horizon = (self._wall() - self._config.max_age) * _NANOSECONDS
        self._more = False
        for number, topic in list(self._topics.items()):
            oldest = self._size(topic).oldest
            if topic.messages and oldest and oldest < horizon:
                self._evict(self._touch(number), horizon, inf)

    def forget(self, names: Sequence[str]) -> None:
        """Forget topics, with all that there is of them."""
        for number, topic in list(self._topics.items()):
            if topic.stored.name in names:
                self._connection.execute("DELETE FROM messages WHERE topic = ?", (number,))
                self._connection.execute("DELETE FROM topics WHERE id = ?", (number,))
                self._undo.setdefault(number, topic)
                del self._topics[number]

    def lapsed(self, in_use: Sequence[int]) -> list[str]:
        """Topics that no app has used for so long that they are not worth keeping; those in use are noted as such."""
        self.used(in_use)
        horizon = self._wall() - self._config.max_age
        return [topic.stored.name for topic in self._topics.values() if topic.used < horizon]

    def _evict(self, topic: _Topic, before: float, size: float) -> None:
        """Let go of the oldest of a topic: of what was received before a time, about so many bytes."""
        number = topic.stored.id
        for _ in range(_EVICTIONS):
            bound = (number, min(before, float(1 << 62)), _EVICTED_AT_ONCE, min(size, float(1 << 62)))
            told, messages, freed, latest = self._connection.execute(
                "SELECT group_concat(cursor || ',' || count || ',' || (flags & 1), ';'), ifnull(sum(count), 0), "
                f"ifnull(sum(length(raw) + {ROW_OVERHEAD}), 0), ifnull(max(received), 0) FROM ({_OLDEST})",
                bound,
            ).fetchone()
            if not messages:
                return
            self._connection.execute(f"DELETE FROM messages WHERE cursor IN (SELECT cursor FROM ({_OLDEST}))", bound)
            topic.messages -= messages
            topic.bytes -= freed
            topic.evicted = max(topic.evicted, latest)
            topic.oldest = None
            self._lose(topic, _lost(told))
            size -= freed
            if size <= 0:
                return
        else:
            self._more = True

    def _lose(self, topic: _Topic, lost: Lost) -> None:
        topic.lost = Lost.load(topic.lost.dump())  # the other one is for the case that all this is undone
        topic.lost.merge(lost)
        self._connection.execute(
            "UPDATE topics SET lost = ?, evicted = ? WHERE id = ?", (topic.lost.dump(), topic.evicted, topic.stored.id)
        )


_OLDEST = (
    f"SELECT * FROM (SELECT *, sum(length(raw) + {ROW_OVERHEAD}) OVER "
    f"(ORDER BY received, cursor ROWS UNBOUNDED PRECEDING) - (length(raw) + {ROW_OVERHEAD}) AS ahead "
    "FROM (SELECT cursor, count, raw, received, flags FROM messages "
    "WHERE topic = ? AND received < ? ORDER BY received, cursor LIMIT ?)) WHERE ahead < ? ORDER BY cursor"
)
_INSERTIONS = {
    block: "INSERT INTO messages VALUES " + ", ".join(["(?, ?, ?, ?, ?, ?, ?, ?)"] * block) for block in _BLOCKS
}


def _lost(told: str) -> Lost:
    """Out of rows: counter, count, local."""
    lost = Lost()
    for each in told.split(";"):
        cursor, count, local = each.split(",")
        lost.add(int(cursor), int(cursor) + int(count) - 1, local == "1")
    return lost
