"""What arrived, until an app here has settled it and its sender knows."""

import enum
import hashlib
import sqlite3
from collections import Counter
from collections.abc import Callable, Sequence

from ...core.classes import NamedTuple
from ...core.durable import Acknowledgement, DurableBatch, Outcome, SettledRange, Trouble, ranges
from ...core.parameters import DurableConfig
from ...core.parameters.durable import ROW_OVERHEAD
from ...core.types import PeerId

_DIGEST = 16  # bytes that tell two messages under one sequence apart; nobody gains by making them equal
_INCARNATIONS = 4  # of one peer and protocol, kept although nothing of them is open
_STREAMS = 10_000  # kept although nothing of them is open; what is forgotten, the sender's floor tells again
_SETTLED = 100_000  # outcomes that their senders have not confirmed, kept; the oldest go first
_FORGOTTEN = "settled long ago; it is not known any more how"
_EXPIRED = "no app settled it in time"


class Settles(enum.Enum):
    """What an app makes of a delivery."""

    DONE = "done"
    REJECT = "reject"
    DELAY = "delay"


class Settlement(NamedTuple):
    """Of one delivery. `reason` of a rejection; `delay` in seconds."""

    id: int
    attempt: int
    settles: Settles
    reason: str = ""
    delay: float = 0.0


class Waiting(NamedTuple):
    """A message that waits for an app: its number, and that of its sender's stream."""

    id: int
    stream: int
    size: int


class Delivered(NamedTuple):
    """A message on its way to an app."""

    id: int
    attempt: int
    peer: PeerId
    protocol: str
    incarnation: int
    sequence: int
    data: bytes


class InboxRow(NamedTuple):
    """A message that waits, or a dead letter; times are seconds since 1970."""

    id: int
    peer: PeerId
    protocol: str
    incarnation: int
    sequence: int
    size: int
    attempts: int
    received: float
    expires: float
    reason: str
    data: bytes | None


Key = tuple[PeerId, str, int]
"""Whose messages by which protocol, in which incarnation."""


class InboxTables:
    """The tables `protocols`, `incoming`, `inbox` and `dead_letters`. Every method belongs into a transaction."""

    def __init__(self, connection: sqlite3.Connection, config: DurableConfig, wall: Callable[[], float]) -> None:
        """`wall`: seconds since 1970."""
        self._db = connection
        self._config = config
        self._wall = wall
        self.arrived: dict[str, list[Waiting]] = {}
        """By protocol, what has come to wait since this was last emptied."""
        self.settled: dict[Key, list[tuple[int, Outcome, str]]] = {}
        """What was settled since this was last emptied."""
        self.conflicts: list[tuple[PeerId, str]] = []
        self.dead = 0
        self.by_peer: Counter[PeerId] = Counter()
        self.used = 0
        self.count = 0
        self.recount()

    def recount(self) -> None:
        """Count anew what is there: at the start, and where a transaction came to nothing."""
        self.by_peer.clear()
        self.used = self.count = 0
        rows = self._db.execute(
            "SELECT n.peer, count(*), sum(length(i.data)) FROM inbox i JOIN incoming n ON n.id = i.stream "
            "WHERE i.outcome = 0 GROUP BY n.peer"
        )
        for peer, count, size in rows:
            self._count(PeerId(peer), count, size + ROW_OVERHEAD * count)
        self.dead = self._db.execute("SELECT count(*) FROM dead_letters").fetchone()[0]

    def _count(self, peer: PeerId, count: int, size: int) -> None:
        self.count += count
        self.used += size
        self.by_peer[peer] += size
        if not self.by_peer[peer]:
            del self.by_peer[peer]

    # ------------------------------------------------------------ from peers

    def receive(self, protocol: str) -> None:
        """Take messages by this protocol from now on, whether or not an app is there."""
        self._db.execute("INSERT OR IGNORE INTO protocols VALUES (?)", (protocol,))

    def store(self, peer: PeerId, batch: DurableBatch) -> Acknowledgement:
        """Store what a peer sent; what to tell it."""
        protocol, incarnation = batch.protocol, batch.incarnation
        if self._db.execute("SELECT 1 FROM protocols WHERE protocol = ?", (protocol,)).fetchone() is None:
            reason = "no app here has received this protocol as durable"
            return Acknowledgement(protocol, incarnation, 0, trouble=Trouble.NOBODY, reason=reason)
        stream, held = self._stream(peer, protocol, incarnation)
        if batch.end < held or self._differs(stream, batch, held):
            self.conflicts.append((peer, protocol))
            reason = "other messages are here under these sequences: the sender was restored, or there are two of it"
            return Acknowledgement(protocol, incarnation, held, trouble=Trouble.CONFLICT, reason=reason)
        self._db.execute("DELETE FROM inbox WHERE stream = ? AND sequence < ? AND outcome != 0", (stream, batch.floor))
        held = max(held, batch.floor - 1)
        held, trouble, reason = self._take(peer, stream, held, batch)
        self._db.execute("UPDATE incoming SET held = ?, used = ? WHERE id = ?", (held, self._wall(), stream))
        first = batch.first if batch.items else 1  # a batch that asks nothing of single messages asks for all
        settled = self._settled(stream, first) if not batch.items or batch.first <= held - len(batch.items) else []
        return Acknowledgement(protocol, incarnation, held, settled, trouble, reason)

    def _stream(self, peer: PeerId, protocol: str, incarnation: int) -> tuple[int, int]:
        row = self._db.execute(
            "SELECT id, held FROM incoming WHERE peer = ? AND protocol = ? AND incarnation = ?",
            (peer, protocol, incarnation),
        ).fetchone()
        if row is None:
            self._make_room(peer, protocol)
            row = self._db.execute(
                "INSERT INTO incoming (peer, protocol, incarnation, held, used) VALUES (?, ?, ?, 0, ?) "
                "RETURNING id, held",
                (peer, protocol, incarnation, self._wall()),
            ).fetchone()
        return int(row[0]), int(row[1])

    def _make_room(self, peer: PeerId, protocol: str) -> None:
        """Forget streams of which nothing is open, those first that were used least recently."""
        unused = "NOT EXISTS (SELECT 1 FROM inbox WHERE stream = incoming.id)"
        self._db.execute(
            f"DELETE FROM incoming WHERE id IN (SELECT id FROM incoming WHERE peer = ? AND protocol = ? AND {unused} "
            "ORDER BY used DESC LIMIT -1 OFFSET ?)",
            (peer, protocol, _INCARNATIONS - 1),
        )
        if self._db.execute("SELECT count(*) FROM incoming").fetchone()[0] >= _STREAMS:
            self._db.execute(
                f"DELETE FROM incoming WHERE id IN (SELECT id FROM incoming WHERE {unused} ORDER BY used LIMIT ?)",
                (_STREAMS // 10,),
            )

    def _differs(self, stream: int, batch: DurableBatch, held: int) -> bool:
        """Whether a repeat is another message than the one that is here."""
        repeats = batch.items[: max(0, held - batch.first + 1)]
        if not repeats:
            return False
        digests = dict(
            self._db.execute(
                "SELECT sequence, digest FROM inbox WHERE stream = ? AND sequence BETWEEN ? AND ?",
                (stream, batch.first, batch.first + len(repeats) - 1),
            ).fetchall()
        )
        for sequence, item in enumerate(repeats, batch.first):
            if item.data is not None and digests.get(sequence, b"") not in (b"", _digest(item.data)):
                return True
        return False

    def _take(self, peer: PeerId, stream: int, held: int, batch: DurableBatch) -> tuple[int, Trouble, str]:
        now, config = self._wall(), self._config
        rows: list[tuple[object, ...]] = []
        size = 0
        trouble, reason = Trouble.NONE, ""
        if batch.items and batch.first > held + 1:
            return held, Trouble.BUSY, f"messages from {held + 1} to {batch.first - 1} are missing before these"
        for sequence, item in enumerate(batch.items, batch.first):
            if sequence <= held:
                continue
            if item.data is not None:
                more = size + len(item.data) + ROW_OVERHEAD
                if self.used + more > config.inbox or self.by_peer[peer] + more > config.inbox_per_peer:
                    trouble, reason = Trouble.BUSY, "the inbox is full"
                    break
                rows.append((stream, sequence, item.data, _digest(item.data), now, now + item.time_left, 0, 0, ""))
                size = more
            held = sequence
        for row in rows:
            number = self._db.execute(
                "INSERT INTO inbox (stream, sequence, data, digest, received, expires, attempts, outcome, reason) "
                "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
                row,
            ).lastrowid
            assert number is not None, "an insert has a row"
            self.arrived.setdefault(batch.protocol, []).append(Waiting(number, stream, len(row[2])))  # type: ignore[arg-type]
        self._count(peer, len(rows), size)
        return held, trouble, reason

    def _settled(self, stream: int, first: int) -> list[SettledRange]:
        rows = self._db.execute(
            "SELECT sequence, outcome, reason FROM inbox "
            "WHERE stream = ? AND sequence >= ? AND outcome != 0 ORDER BY sequence",
            (stream, first),
        )
        return ranges([(sequence, Outcome(outcome), reason) for sequence, outcome, reason in rows])

    def confirmed(self, peer: PeerId) -> bool:
        """Whether the peer knows of all that is settled."""
        return (
            self._db.execute(
                "SELECT 1 FROM inbox i JOIN incoming n ON n.id = i.stream WHERE n.peer = ? AND i.outcome != 0 LIMIT 1",
                (peer,),
            ).fetchone()
            is None
        )

    def unconfirmed(self, peer: PeerId) -> list[Acknowledgement]:
        """All that the peer has not confirmed to know."""
        rows = self._db.execute(
            "SELECT id, protocol, incarnation, held FROM incoming WHERE peer = ?", (peer,)
        ).fetchall()
        found = [
            Acknowledgement(protocol, incarnation, held, self._settled(number, 1))
            for number, protocol, incarnation, held in rows
        ]
        return [each for each in found if each.settled]

    def unconfirmed_peers(self) -> list[PeerId]:
        """Who may not know of all that is settled."""
        rows = self._db.execute(
            "SELECT DISTINCT n.peer FROM inbox i JOIN incoming n ON n.id = i.stream WHERE i.outcome != 0"
        )
        return [PeerId(row[0]) for row in rows]

    # ------------------------------------------------------------ to apps

    def waiting(self, protocol: str) -> list[Waiting]:
        """What waits for an app, in order."""
        rows = self._db.execute(
            "SELECT i.id, i.stream, length(i.data) FROM inbox i JOIN incoming n ON n.id = i.stream "
            "WHERE n.protocol = ? AND i.outcome = 0 ORDER BY i.id",
            (protocol,),
        )
        return [Waiting(*row) for row in rows]

    def deliver(self, ids: Sequence[int], max_deliveries: int) -> list[Delivered]:
        """Count an attempt of each, and give those that may be delivered; the others become dead letters."""
        delivered = []
        for number in ids:
            row = self._db.execute(
                "UPDATE inbox SET attempts = attempts + 1 WHERE id = ? AND outcome = 0 "
                "RETURNING attempts, stream, sequence, data",
                (number,),
            ).fetchone()
            if row is None:
                continue  # settled or expired meanwhile
            attempts, stream, sequence, data = row
            peer, protocol, incarnation = self._whose(stream)
            if attempts > max_deliveries:
                self._bury(number, (peer, protocol, incarnation), attempts - 1)
            else:
                delivered.append(Delivered(number, attempts, peer, protocol, incarnation, abs(sequence), data))
        return delivered

    def _whose(self, stream: int) -> Key:
        row = self._db.execute("SELECT peer, protocol, incarnation FROM incoming WHERE id = ?", (stream,)).fetchone()
        return PeerId(row[0]), row[1], row[2]

    def _bury(self, number: int, key: Key, attempts: int) -> None:
        now = self._wall()
        reason = f"delivered {attempts} times and never settled"
        self._db.execute(
            "INSERT INTO dead_letters "
            "SELECT id, ?, ?, ?, abs(sequence), data, received, expires, ?, ?, ? FROM inbox WHERE id = ?",
            (*key, attempts, reason, now, number),
        )
        self._close(number, Outcome.DEAD_LETTER, reason)
        self.dead += 1

    def protocols_of(self, ids: Sequence[int]) -> list[str]:
        """The protocols that these came by, each once."""
        streams: dict[int, None] = {}
        for number in ids:
            row = self._db.execute("SELECT stream FROM inbox WHERE id = ?", (number,)).fetchone()
            if row is not None:
                streams[row[0]] = None
        return list(dict.fromkeys(self._whose(stream)[1] for stream in streams))

    def settle(self, settlements: Sequence[Settlement]) -> list[int]:
        """Settle deliveries; the numbers of those that are stale. Delays are the caller's."""
        stale = []
        for each in settlements:
            row = self._db.execute("SELECT attempts, outcome FROM inbox WHERE id = ?", (each.id,)).fetchone()
            if row is None or row[0] != each.attempt or row[1] != 0:
                stale.append(each.id)
            elif each.settles is Settles.DONE:
                self._close(each.id, Outcome.DONE, "")
            elif each.settles is Settles.REJECT:
                self._close(each.id, Outcome.REJECTED, each.reason)
        return stale

    def _close(self, number: int, outcome: Outcome, reason: str) -> None:
        size, stream, sequence = self._db.execute(
            "SELECT length(data), stream, sequence FROM inbox WHERE id = ?", (number,)
        ).fetchone()
        key = self._whose(stream)
        self._count(key[0], -1, -size - ROW_OVERHEAD)
        if sequence < 0:  # it was a dead letter, and its sender has been told
            self._db.execute("DELETE FROM inbox WHERE id = ?", (number,))
            return
        self._db.execute(
            "UPDATE inbox SET data = NULL, outcome = ?, reason = ? WHERE id = ?", (int(outcome), reason, number)
        )
        self.settled.setdefault(key, []).append((sequence, outcome, reason))

    def held(self, key: Key) -> int:
        """All up to this one are here, or settled."""
        row = self._db.execute(
            "SELECT held FROM incoming WHERE peer = ? AND protocol = ? AND incarnation = ?", key
        ).fetchone()
        return 0 if row is None else int(row[0])

    # ------------------------------------------------------------ time

    def next_expiry(self) -> float | None:
        """When the next message that waits expires, seconds since 1970."""
        row = self._db.execute("SELECT min(expires) FROM inbox WHERE outcome = 0").fetchone()
        return None if row[0] is None else float(row[0])

    def expire(self, most: int) -> int:
        """End what is out of time, `most` at once; returns how many there were."""
        rows = self._db.execute(
            "SELECT id FROM inbox WHERE outcome = 0 AND expires <= ? ORDER BY expires LIMIT ?", (self._wall(), most)
        ).fetchall()
        for (number,) in rows:
            self._close(number, Outcome.EXPIRED, _EXPIRED)
        return len(rows)

    def prune(self) -> None:
        """Keep within bounds what nobody has asked for: outcomes that senders do not confirm, and dead letters."""
        self._db.execute(
            "DELETE FROM inbox WHERE id IN "
            "(SELECT id FROM inbox WHERE outcome != 0 ORDER BY id DESC LIMIT -1 OFFSET ?)",
            (_SETTLED,),
        )
        config = self._config
        self._db.execute(
            "DELETE FROM dead_letters WHERE id IN "
            "(SELECT id FROM dead_letters ORDER BY time DESC, id DESC LIMIT -1 OFFSET ?)",
            (config.dead_letters,),
        )
        self._db.execute(
            "DELETE FROM dead_letters WHERE id IN (SELECT id FROM (SELECT id, sum(length(data)) OVER "
            "(ORDER BY time DESC, id DESC) AS used FROM dead_letters) WHERE used > ?)",
            (config.dead_letters_bytes,),
        )
        self.dead = self._db.execute("SELECT count(*) FROM dead_letters").fetchone()[0]

    # ------------------------------------------------------------ dead letters, views

    def rows(
        self, dead: bool, peer: PeerId | None, protocol: str | None, after: int, most: int, with_data: int
    ) -> tuple[list[InboxRow], int | None]:
        """A page of what waits, or of dead letters, and behind which number the next one begins.

        `with_data`: payloads too, until they are so many bytes.
        """
        if dead:
            source = (
                "id, peer, protocol, incarnation, sequence, length(data), attempts, received, expires, reason, data "
                "FROM dead_letters WHERE 1"
            )
        else:
            source = (
                "i.id, n.peer, n.protocol, n.incarnation, abs(i.sequence), length(i.data), i.attempts, i.received, "
                "i.expires, i.reason, i.data FROM inbox i JOIN incoming n ON n.id = i.stream WHERE i.outcome = 0"
            )
        found = self._db.execute(
            f"SELECT * FROM (SELECT {source}) WHERE (? IS NULL OR peer = ?) AND (? IS NULL OR protocol = ?) AND id > ? "
            "ORDER BY id LIMIT ?",
            (peer, peer, protocol, protocol, after, most + 1),
        )
        rows: list[InboxRow] = []
        for number, sender, *rest, data in found:
            if len(rows) == most or (with_data and rows and with_data < len(data)):
                return rows, rows[-1].id
            if with_data:
                with_data = max(1, with_data - len(data))
            rows.append(InboxRow._make((number, PeerId(sender), *rest, data if with_data else None)))
        return rows, None

    def retry(self, ids: Sequence[int], protocol: str | None) -> int:
        """Let dead letters wait for an app again, behind what waits; returns how many."""
        rows = self._chosen(ids, protocol)
        now = self._wall()
        for number, peer, name, incarnation, sequence, data, received, expires in rows:
            stream, _ = self._stream(PeerId(peer), name, incarnation)
            # Its sequence is settled, and may be needed to tell its sender so: it waits below 0, where none is sent.
            waits = self._db.execute(
                "INSERT INTO inbox (stream, sequence, data, digest, received, expires, attempts, outcome, reason) "
                "VALUES (?, ?, ?, x'', ?, ?, 0, 0, '')",
                (stream, -sequence, data, received, max(expires, now + self._config.time_to_live)),
            ).lastrowid
            assert waits is not None, "an insert has a row"
            self._count(PeerId(peer), 1, len(data) + ROW_OVERHEAD)
            self.arrived.setdefault(name, []).append(Waiting(waits, stream, len(data)))
            self._db.execute("DELETE FROM dead_letters WHERE id = ?", (number,))
        self.dead -= len(rows)
        return len(rows)

    def purge(self, ids: Sequence[int], protocol: str | None) -> int:
        """Delete dead letters; returns how many."""
        rows = self._chosen(ids, protocol)
        self._db.executemany("DELETE FROM dead_letters WHERE id = ?", [(row[0],) for row in rows])
        self.dead -= len(rows)
        return len(rows)

    def _chosen(
        self, ids: Sequence[int], protocol: str | None
    ) -> list[tuple[int, bytes, str, int, int, bytes, float, float]]:
        wanted = set(ids)
        rows = self._db.execute(
            "SELECT id, peer, protocol, incarnation, sequence, data, received, expires FROM dead_letters "
            "WHERE (? IS NULL OR protocol = ?) ORDER BY id",
            (protocol, protocol),
        ).fetchall()
        return [row for row in rows if not wanted or row[0] in wanted]


def _digest(data: bytes) -> bytes:
    return hashlib.blake2b(data, digest_size=_DIGEST).digest()
