"""What is kept, as it is read: in pages for apps, by keys for peers."""

import sqlite3
from collections.abc import Mapping, Sequence
from time import monotonic
from typing import Protocol

from ...core.classes import NamedTuple
from ...core.parameters.bundles import MAX_BUNDLED
from .lost import Lost
from .places import MessagePlaces

FLAG_LOCAL = 1  # an app of this node published it
FLAG_HISTORY = 2  # a peer brought it by backfill
_PAGE_ROWS = 4096
_FOUND_AT_ONCE = 512  # messages in one statement
_KEPT = 60.0  # seconds for which it is known where messages are, though nobody asks
_MARKS = ", ".join("?" * _FOUND_AT_ONCE)


class StoredRow(NamedTuple):
    """A gossip message as it is kept."""

    cursor: int
    count: int  # type: ignore[assignment]  # hides tuple.count, as in the core
    raw: bytes
    received: int
    flags: int
    mask: bytes | None
    topic: int


class Page(NamedTuple):
    """A part of what is kept: all that there is up to the counter `through`.

    `lost`: how many messages before these have had to go; None where nobody knows.
    """

    rows: list[StoredRow]
    through: int
    lost: int | None


class Body(NamedTuple):
    """A gossip message, for a peer that lacks it."""

    key: bytes
    raw: bytes
    received: int


class Keys(NamedTuple):
    """Keys, sorted. `oldest`: the time of receipt from which on they are all."""

    keys: list[bytes]
    oldest: int


class ReadTopic(Protocol):
    """What has to be known of a topic beside its messages."""

    @property
    def lost(self) -> Lost:
        """What is gone."""

    @property
    def evicted(self) -> int:
        """The latest time of receipt among that."""


class Reads:
    """Reads the file; used by the thread that writes it, in a transaction or not."""

    def __init__(self, connection: sqlite3.Connection, topics: Mapping[int, ReadTopic]) -> None:
        self._db = connection
        self._topics = topics
        self._places: dict[int, MessagePlaces] = {}
        self._asked: dict[int, float] = {}  # when these were last asked for; monotonic seconds

    # ------------------------------------------------------------ for apps

    def start(self, topics: Sequence[int], since: int) -> tuple[int | None, bool]:
        """The counter of the first message that was received since a time (nanoseconds), if there is one.

        And whether any that was received since then has had to make room.
        """
        firsts = [
            self._db.execute(
                "SELECT min(cursor) FROM messages WHERE topic = ? AND received >= ?", (number, since)
            ).fetchone()[0]
            for number in topics
        ]
        found = [first for first in firsts if first is not None]
        gone = any(self._topics[number].evicted >= since for number in topics if number in self._topics)
        return min(found, default=None), gone

    def page(
        self, topics: Sequence[int], after: int, until: int, *, since: int = 0, skip_local: bool = False, size: int
    ) -> Page:
        """What is kept of these topics behind the counter `after`, about `size` bytes.

        `until`: the last counter of interest. `since`: only what was received since then, in nanoseconds.
        """
        rows: list[StoredRow] = []
        through = until
        for number in topics:
            found, cut = self._rows(number, after, until, since, skip_local, max(1 << 14, size // len(topics)))
            if cut:
                through = min(through, found[-1].cursor + found[-1].count - 1)
            rows += found
        rows = sorted(row for row in rows if row.cursor <= through)
        lost = [
            self._topics[number].lost.count(after, through, skip_local=skip_local)
            for number in topics
            if number in self._topics
        ]
        known = [count for count in lost if count is not None]
        return Page(rows, through, sum(known) if len(known) == len(lost) else None)

    def _rows(
        self, topic: int, after: int, until: int, since: int, skip_local: bool, size: int
    ) -> tuple[list[StoredRow], bool]:
        """Those of one topic, and whether there may be more."""
        told, blob = self._db.execute(
            "SELECT group_concat(cursor || ',' || count || ',' || length(raw) || ',' || received || ',' || flags "
            "|| ',' || ifnull(hex(mask), ''), ';'), CAST(group_concat(raw, '') AS BLOB) FROM ("
            "SELECT * FROM (SELECT *, sum(length(raw)) OVER (ORDER BY cursor ROWS UNBOUNDED PRECEDING) - length(raw) "
            "AS ahead FROM (SELECT cursor, count, raw, received, flags, mask FROM messages WHERE topic = ? "
            "AND cursor > ? AND cursor <= ? AND received >= ? AND flags & ? = 0 AND cursor + count - 1 > ? "
            "ORDER BY cursor LIMIT ?)) WHERE ahead < ? ORDER BY cursor)",
            (topic, after - MAX_BUNDLED, until, since, FLAG_LOCAL if skip_local else 0, after, _PAGE_ROWS, size),
        ).fetchone()
        if told is None:
            return [], False
        rows: list[StoredRow] = []
        offset = 0
        for each in told.split(";"):
            cursor, count, length, received, flags, mask = each.split(",")
            end = offset + int(length)
            rows.append(
                StoredRow(
                    int(cursor),
                    int(count),
                    blob[offset:end],
                    int(received),
                    int(flags),
                    bytes.fromhex(mask) if mask else None,
                    topic,
                )
            )
            offset = end
        return rows, len(rows) == _PAGE_ROWS or offset >= size

    def recent(self, topic: int, since: int, most: int) -> list[StoredRow]:
        """The latest of what was received since a time, in nanoseconds."""
        after = self._db.execute(
            "SELECT min(cursor) FROM (SELECT cursor FROM messages WHERE topic = ? AND received >= ? "
            "ORDER BY received DESC LIMIT ?)",
            (topic, since, most),
        ).fetchone()[0]
        rows: list[StoredRow] = []
        while after is not None and len(rows) < most:
            found, cut = self._rows(topic, after - 1, (1 << 62), since, False, 1 << 20)
            rows += found
            after = found[-1].cursor + found[-1].count if cut else None
        return rows[:most]

    # ------------------------------------------------------------ for peers

    def keys(self, topic: int, oldest: int, newest: int, most: int) -> Keys:
        """The keys of what was received between two times, in nanoseconds; of more, the latest."""
        blob, count, least = self._db.execute(
            "SELECT CAST(group_concat(key, '') AS BLOB), sum(times), min(received) FROM ("
            "SELECT key, count(*) AS times, min(received) AS received FROM (SELECT key, received FROM messages "
            "WHERE topic = ? AND received BETWEEN ? AND ? ORDER BY received DESC, cursor DESC LIMIT ?) "
            "GROUP BY key ORDER BY key)",
            (topic, oldest, newest, most),
        ).fetchone()
        known = self._topics.get(topic)
        reach = max(oldest, known.evicted + 1 if known is not None else oldest)
        if count == most:
            reach = max(reach, least + 1)  # others may have been received at the same moment
        return Keys(_split(blob or b""), reach)

    def find(self, topic: int, keys: Sequence[bytes]) -> list[bytes]:
        """Those of the keys that are here."""
        return list(self._there(topic, keys))

    def places(self, topic: int) -> MessagePlaces:
        """Where the topic's messages are."""
        found = self._places.get(topic)
        if found is None:
            found = MessagePlaces(self._db, topic)
        self._places[topic] = found
        self._asked[topic] = monotonic()
        return found

    def added(self, topic: int, keys: Sequence[bytes], cursors: Sequence[int]) -> None:
        """These have come."""
        found = self._places.get(topic)
        if found is None:
            return
        if monotonic() - self._asked[topic] > _KEPT:
            self.forget(topic)
            return
        for key, cursor in zip(keys, cursors, strict=True):
            found.add(key, cursor)

    def forget(self, topic: int | None = None) -> None:
        """Forget where messages are: of one topic, or of all."""
        for number in [topic] if topic is not None else list(self._places):
            self._places.pop(number, None)
            self._asked.pop(number, None)

    def _there(self, topic: int, keys: Sequence[bytes]) -> dict[bytes, tuple[int, int, int]]:
        """Of those of the keys that are here: cursor, length, time of receipt."""
        wanted = dict.fromkeys(keys)
        there: dict[bytes, tuple[int, int, int]] = {}
        cursors = self.places(topic).of(keys)
        for start in range(0, len(cursors), _FOUND_AT_ONCE):
            told = self._db.execute(
                "SELECT group_concat(hex(key) || ',' || cursor || ',' || length(raw) || ',' || received, ';') "
                f"FROM messages WHERE cursor IN ({_MARKS})",
                _padded(cursors[start : start + _FOUND_AT_ONCE]),
            ).fetchone()[0]
            for each in (told or "").split(";"):
                if each:
                    key, cursor, length, received = each.split(",")
                    if (name := bytes.fromhex(key)) in wanted:
                        there[name] = int(cursor), int(length), int(received)
        return there

    def bodies(self, topic: int, keys: Sequence[bytes], size: int) -> tuple[list[Body], list[bytes]]:
        """The messages of the keys, in this order, up to `size` bytes, at least one; and the keys that had no room."""
        bodies: list[Body] = []
        for start in range(0, len(keys), _FOUND_AT_ONCE):
            asked = keys[start : start + _FOUND_AT_ONCE]
            there = self._there(topic, asked)
            chosen: list[tuple[int, int, int, bytes]] = []
            for place, key in enumerate(asked):
                found = there.get(key)
                if found is None:
                    continue
                if found[1] > size and (bodies or chosen):
                    return bodies + self._bodies(chosen), list(keys[start + place :])
                chosen.append((*found, key))
                size -= found[1]
            bodies += self._bodies(chosen)
        return bodies, []

    def _bodies(self, chosen: Sequence[tuple[int, int, int, bytes]]) -> list[Body]:
        if not chosen:
            return []
        ordered = sorted(chosen)
        blob = self._db.execute(
            f"SELECT CAST(group_concat(raw, '') AS BLOB) FROM (SELECT raw FROM messages WHERE cursor IN ({_MARKS}) "
            "ORDER BY cursor)",
            _padded([each[0] for each in ordered]),
        ).fetchone()[0]
        raws: dict[int, bytes] = {}
        offset = 0
        for cursor, length, _, _ in ordered:
            raws[cursor] = blob[offset : offset + length]
            offset += length
        return [Body(key, raws[cursor], received) for cursor, _, received, key in chosen]


def _padded(values: Sequence[bytes] | Sequence[int]) -> list[bytes | int]:
    """For a statement that is prepared once: the last one again, until there are enough."""
    return [*values, *[values[-1]] * (_FOUND_AT_ONCE - len(values))]


def _split(blob: bytes) -> list[bytes]:
    return [blob[place : place + 32] for place in range(0, len(blob), 32)]
