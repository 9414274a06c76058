"""What was sent from here, until it is settled, and then what became of it."""

import secrets
import sqlite3
from collections import Counter
from collections.abc import Callable, Sequence

from ...core.classes import NamedTuple
from ...core.durable import Item, Outcome, Outgoing, SettledRange
from ...core.errors import InvalidArgument, QueueFull, SidecarError
from ...core.parameters import DurableConfig
from ...core.parameters.durable import ROW_OVERHEAD
from ...core.types import PeerId

_PATIENCE = (
    7 * 86_400.0
)  # seconds behind its time that a receiver, which holds it, has to say what became of it; a guess
_EXPIRED = "its time was over before the peer's sidecar confirmed to have it; it may have arrived"
_WITHDRAWN = "withdrawn before the peer's sidecar confirmed to have it; it may have arrived"


class Append(NamedTuple):
    """Messages of one app to one peer. `requests`: their request ids, empty where there is none, or no list at all."""

    peer: PeerId
    protocol: str
    app: str
    messages: Sequence[bytes]
    requests: Sequence[str]
    time_to_live: float


class Appended(NamedTuple):
    """What became of them: for each the sequence, and `incarnation`; or the error that stopped it and all behind it."""

    incarnation: int
    sequences: Sequence[int]
    error: SidecarError | None


class OutboxRow(NamedTuple):
    """A message that waits; times are seconds since 1970."""

    peer: PeerId
    protocol: str
    incarnation: int
    sequence: int
    request: str
    size: int
    created: float
    expires: float
    held: bool


class OutcomeRow(NamedTuple):
    """What became of a message; `time` is seconds since 1970."""

    cursor: int
    peer: PeerId
    protocol: str
    incarnation: int
    sequence: int
    app: str
    request: str
    outcome: Outcome
    reason: str
    time: float


class _Stream:
    """A row of `outgoing`, as it is."""

    __slots__ = ("floor", "held", "id", "incarnation", "next", "peer", "protocol")

    def __init__(self, row: tuple[int, bytes, str, int, int, int, int]) -> None:
        self.id, peer, self.protocol, self.incarnation, self.next, self.floor, self.held = row
        self.peer = PeerId(peer)

    def state(self) -> Outgoing:
        return Outgoing(self.peer, self.protocol, self.incarnation, self.floor, self.next - 1, self.held)


_COLUMNS = "id, peer, protocol, incarnation, next, floor, held"


class OutboxTables:
    """The tables `outgoing`, `outbox` and `outcomes`. Every method belongs into a transaction of the caller's."""

    def __init__(self, connection: sqlite3.Connection, config: DurableConfig, wall: Callable[[], float]) -> None:
        """`wall`: seconds since 1970."""
        self._db = connection
        self._config = config
        self._wall = wall
        self.touched: dict[tuple[PeerId, str], None] = {}
        """Streams that have changed since this was last emptied."""
        self.settled = 0
        """Outcomes written since this was last set to 0."""
        self.by_peer: Counter[PeerId] = Counter()
        self.by_protocol: Counter[str] = Counter()
        self.by_app: Counter[str] = Counter()
        self.used = 0
        self.count = 0
        self.recount()

    def recount(self) -> None:
        """Count anew what is there: at the start, and where a transaction came to nothing."""
        self.by_peer.clear()
        self.by_protocol.clear()
        self.by_app.clear()
        self.used = self.count = 0
        rows = self._db.execute(
            "SELECT g.peer, g.protocol, o.app, count(*), sum(length(o.data)) "
            "FROM outbox o JOIN outgoing g ON g.id = o.stream "
            "WHERE o.data IS NOT NULL GROUP BY g.peer, g.protocol, o.app"
        )
        for peer, protocol, app, count, size in rows:
            self._count(PeerId(peer), protocol, app, count, size + ROW_OVERHEAD * count)

    def _count(self, peer: PeerId, protocol: str, app: str, count: int, size: int) -> None:
        self.count += count
        self.used += size
        for counter, key in ((self.by_peer, peer), (self.by_protocol, protocol), (self.by_app, app)):
            counter[key] += size  # type: ignore[index]
            if not counter[key]:  # type: ignore[index]
                del counter[key]

    # ------------------------------------------------------------ in

    def append(self, append: Append) -> Appended:
        """Store messages behind those that are there; one with a request id that is known is not stored again."""
        stream = self._stream(append.peer, append.protocol) or self._new_stream(append.peer, append.protocol)
        now = self._wall()
        sequences: list[int] = []
        rows: list[tuple[object, ...]] = []
        error: SidecarError | None = None
        size = 0
        fresh: dict[str, int] = {}
        for index, data in enumerate(append.messages):
            request = append.requests[index] if append.requests else ""
            if request:
                known = fresh.get(request) or self._known(stream, append.app, request)
                if known is not None:
                    sequences.append(known)
                    continue
            error = self._refusal(append, len(data), size + len(data) + ROW_OVERHEAD)
            if error is not None:
                break
            size += len(data) + ROW_OVERHEAD
            sequence = stream.next + len(rows)
            expires = now + append.time_to_live
            rows.append((stream.id, sequence, data, now, expires, expires, append.app, request))
            sequences.append(sequence)
            if request:
                fresh[request] = sequence
        if rows:
            self._db.executemany("INSERT INTO outbox VALUES (?, ?, ?, ?, ?, ?, ?, ?)", rows)
            stream.next += len(rows)
            self._db.execute("UPDATE outgoing SET next = ? WHERE id = ?", (stream.next, stream.id))
            self._count(append.peer, append.protocol, append.app, len(rows), size)
            self.touched[append.peer, append.protocol] = None
        return Appended(stream.incarnation, sequences, error)

    def _refusal(self, append: Append, length: int, more: int) -> SidecarError | None:
        config = self._config
        if length > config.max_message:
            return InvalidArgument(f"message of {length} bytes, at most {config.max_message}")
        for name, used, bound in (
            ("in all", self.used, config.outbox),
            ("for this peer", self.by_peer[append.peer], config.outbox_per_peer),
            ("for this protocol", self.by_protocol[append.protocol], config.outbox_per_protocol),
            ("of this token", self.by_app[append.app] if append.app else 0, config.outbox_per_token),
        ):
            if used + more > bound:
                return QueueFull(f"the outbox has {used} bytes {name}, at most {bound}: wait until some are settled")
        return None

    def _known(self, stream: _Stream, app: str, request: str) -> int | None:
        found = (
            self._db.execute(
                "SELECT sequence FROM outbox WHERE request = ? AND stream = ? AND app = ?", (request, stream.id, app)
            ).fetchone()
            or self._db.execute(
                "SELECT sequence FROM outcomes WHERE request = ? AND peer = ? AND protocol = ? AND app = ?",
                (request, stream.peer, stream.protocol, app),
            ).fetchone()
        )
        return None if found is None else int(found[0])

    def _stream(self, peer: PeerId, protocol: str) -> _Stream | None:
        row = self._db.execute(
            f"SELECT {_COLUMNS} FROM outgoing WHERE peer = ? AND protocol = ?", (peer, protocol)
        ).fetchone()
        return None if row is None else _Stream(row)

    def _new_stream(self, peer: PeerId, protocol: str) -> _Stream:
        incarnation = secrets.randbelow((1 << 63) - 1) + 1
        row = self._db.execute(
            f"INSERT INTO outgoing (peer, protocol, incarnation, next, floor, held) VALUES (?, ?, ?, 1, 1, 0) "
            f"RETURNING {_COLUMNS}",
            (peer, protocol, incarnation),
        ).fetchone()
        return _Stream(row)

    # ------------------------------------------------------------ out

    def states(self, keys: Sequence[tuple[PeerId, str]]) -> list[Outgoing]:
        """How far these are."""
        found = [self._stream(peer, protocol) for peer, protocol in keys]
        return [stream.state() for stream in found if stream is not None]

    def open_states(self) -> list[Outgoing]:
        """How far those are that have open messages."""
        rows = self._db.execute(f"SELECT {_COLUMNS} FROM outgoing WHERE floor < next ORDER BY id")
        return [_Stream(row).state() for row in rows]

    def load(
        self, peer: PeerId, protocol: str, incarnation: int, after: int, size: int, most: int
    ) -> tuple[int, list[Item]]:
        """The messages behind a sequence, at least one where there is one: the first one's sequence, and they."""
        stream = self._stream(peer, protocol)
        if stream is None or stream.incarnation != incarnation:
            return 0, []
        now = self._wall()
        first = max(after + 1, stream.floor)
        items: list[Item] = []
        used = 0
        rows = self._db.execute(
            "SELECT sequence, data, expires FROM outbox WHERE stream = ? AND sequence >= ? ORDER BY sequence LIMIT ?",
            (stream.id, first, most),
        )
        for sequence, data, expires in rows:
            used += len(data or b"")
            # A gap is one whose outcome is known already.
            gap = sequence - first - len(items)
            if (items and used > size) or len(items) + gap >= most:
                break
            items += [Item(None, 0.0)] * gap
            items.append(Item(data, expires - now))
        return first, items

    def settle(self, peer: PeerId, protocol: str, incarnation: int, held: int, settled: Sequence[SettledRange]) -> None:
        """The receiver has all up to `held`, and these are settled. What is not open is ignored."""
        stream = self._stream(peer, protocol)
        if stream is None or stream.incarnation != incarnation:
            return
        held = min(held, stream.next - 1)
        if held > stream.held:  # from now on they expire there
            self._db.execute(
                "UPDATE outbox SET ends = expires + ? WHERE stream = ? AND sequence BETWEEN ? AND ?",
                (_PATIENCE, stream.id, stream.held + 1, held),
            )
        for first, count, outcome, reason in settled:
            self._close(stream, max(first, stream.floor), min(first + count, stream.next) - 1, outcome, reason)
        self._advance(stream, max(held, stream.held))

    def _close(self, stream: _Stream, first: int, last: int, outcome: Outcome, reason: str) -> int:
        """Take open messages out; returns how many there were."""
        if last < first:
            return 0
        rows = self._db.execute(
            "DELETE FROM outbox WHERE stream = ? AND sequence BETWEEN ? AND ? AND data IS NOT NULL "
            "RETURNING sequence, app, request, length(data)",
            (stream.id, first, last),
        ).fetchall()
        self._note(stream, sorted(rows), outcome, reason)
        return len(rows)

    def _note(self, stream: _Stream, rows: Sequence[tuple[int, str, str, int]], outcome: Outcome, reason: str) -> None:
        now = self._wall()
        self._db.executemany(
            "INSERT INTO outcomes (peer, protocol, incarnation, sequence, app, request, outcome, reason, time) "
            "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
            [
                (stream.peer, stream.protocol, stream.incarnation, sequence, app, request, int(outcome), reason, now)
                for sequence, app, request, _ in rows
            ],
        )
        self.settled += len(rows)
        for _, app, _, size in rows:
            self._count(stream.peer, stream.protocol, app, -1, -size - ROW_OVERHEAD)

    def _advance(self, stream: _Stream, held: int) -> None:
        """The floor is the first that is open; what has expired below it is left out."""
        row = self._db.execute(
            "SELECT min(sequence) FROM outbox WHERE stream = ? AND data IS NOT NULL", (stream.id,)
        ).fetchone()
        floor = stream.next if row[0] is None else row[0]
        held = max(held, floor - 1)
        if (floor, held) == (stream.floor, stream.held):
            return
        self._db.execute("DELETE FROM outbox WHERE stream = ? AND sequence < ?", (stream.id, floor))
        self._db.execute("UPDATE outgoing SET floor = ?, held = ? WHERE id = ?", (floor, held, stream.id))
        self.touched[stream.peer, stream.protocol] = None

    def renew(self, peer: PeerId, protocol: str, incarnation: int) -> None:
        """Begin a new incarnation: what is open gets new sequences, in the same order."""
        stream = self._stream(peer, protocol)
        if stream is None or stream.incarnation != incarnation:
            return
        open_rows = self._db.execute(
            "DELETE FROM outbox WHERE stream = ? RETURNING sequence, data, created, expires, expires, app, request",
            (stream.id,),
        ).fetchall()
        kept = [row[1:] for row in sorted(open_rows, key=lambda row: int(row[0])) if row[1] is not None]
        self._db.executemany(
            "INSERT INTO outbox VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
            [(stream.id, number, *row) for number, row in enumerate(kept, 1)],
        )
        self._db.execute(
            "UPDATE outgoing SET incarnation = ?, next = ?, floor = 1, held = 0 WHERE id = ?",
            (secrets.randbelow((1 << 63) - 1) + 1, len(kept) + 1, stream.id),
        )
        self.touched[peer, protocol] = None

    # ------------------------------------------------------------ time

    def next_expiry(self) -> float | None:
        """When the next message expires here, seconds since 1970."""
        row = self._db.execute("SELECT min(ends) FROM outbox WHERE data IS NOT NULL").fetchone()
        return None if row[0] is None else float(row[0])

    def expire(self, most: int) -> int:
        """End what is out of time, `most` at once; returns how many there were."""
        now = self._wall()
        rows = self._db.execute(
            "SELECT stream, sequence FROM outbox WHERE data IS NOT NULL AND ends <= ? ORDER BY ends LIMIT ?",
            (now, most),
        ).fetchall()
        by_stream: dict[int, list[int]] = {}
        for stream, sequence in rows:
            by_stream.setdefault(stream, []).append(sequence)
        for number, sequences in by_stream.items():
            stream = _Stream(self._db.execute(f"SELECT {_COLUMNS} FROM outgoing WHERE id = ?", (number,)).fetchone())
            self._drop(stream, sequences, _EXPIRED)
        return len(rows)

    def withdraw(self, peer: PeerId, protocol: str | None) -> int:
        """End what no receiver is known to hold; returns how many there were."""
        streams = self._db.execute(
            f"SELECT {_COLUMNS} FROM outgoing WHERE peer = ? AND (? IS NULL OR protocol = ?) AND floor < next",
            (peer, protocol, protocol),
        ).fetchall()
        withdrawn = 0
        for stream in map(_Stream, streams):
            rows = self._db.execute(
                "SELECT sequence FROM outbox WHERE stream = ? AND sequence > ? AND data IS NOT NULL",
                (stream.id, stream.held),
            ).fetchall()
            withdrawn += len(rows)
            self._drop(stream, [row[0] for row in rows], _WITHDRAWN)
        return withdrawn

    def _drop(self, stream: _Stream, sequences: Sequence[int], reason: str) -> None:
        rows = []
        for sequence in sorted(sequences):
            row = self._db.execute(
                "SELECT sequence, app, request, length(data) FROM outbox WHERE stream = ? AND sequence = ?",
                (stream.id, sequence),
            ).fetchone()
            self._db.execute("UPDATE outbox SET data = NULL WHERE stream = ? AND sequence = ?", (stream.id, sequence))
            rows.append(row)
        self._note(stream, rows, Outcome.EXPIRED, reason)
        self._advance(stream, stream.held)

    def prune(self) -> None:
        """Forget outcomes that are too old or too many."""
        self._db.execute("DELETE FROM outcomes WHERE time < ?", (self._wall() - self._config.outcomes_age,))
        self._db.execute(
            "DELETE FROM outcomes WHERE cursor <= (SELECT max(cursor) FROM outcomes) - ?", (self._config.outcomes,)
        )

    # ------------------------------------------------------------ views

    def outcomes(self, after: int, peer: PeerId | None, protocol: str | None, most: int) -> list[OutcomeRow]:
        """Outcomes behind a cursor."""
        rows = self._db.execute(
            "SELECT cursor, peer, protocol, incarnation, sequence, app, request, outcome, reason, time FROM outcomes "
            "WHERE cursor > ? AND (? IS NULL OR peer = ?) AND (? IS NULL OR protocol = ?) ORDER BY cursor LIMIT ?",
            (after, peer, peer, protocol, protocol, most),
        )
        return [OutcomeRow._make((row[0], PeerId(row[1]), *row[2:7], Outcome(row[7]), *row[8:])) for row in rows]

    def cursors(self) -> tuple[int, int]:
        """The cursors before the oldest outcome that is kept, and of the newest that there ever was."""
        oldest = self._db.execute("SELECT min(cursor) FROM outcomes").fetchone()[0]
        newest = self._db.execute("SELECT seq FROM sqlite_sequence WHERE name = 'outcomes'").fetchone()
        last = newest[0] if newest else 0
        return (last if oldest is None else oldest - 1), last

    def rows(
        self, peer: PeerId | None, protocol: str | None, after: tuple[int, int], most: int
    ) -> tuple[list[OutboxRow], tuple[int, int] | None]:
        """A page of what waits, and where the next one begins."""
        found = self._db.execute(
            "SELECT g.id, g.peer, g.protocol, g.incarnation, o.sequence, o.request, length(o.data), o.created, "
            "o.expires, o.sequence <= g.held FROM outbox o JOIN outgoing g ON g.id = o.stream WHERE o.data IS NOT NULL "
            "AND (? IS NULL OR g.peer = ?) AND (? IS NULL OR g.protocol = ?) AND (o.stream, o.sequence) > (?, ?) "
            "ORDER BY o.stream, o.sequence LIMIT ?",
            (peer, peer, protocol, protocol, *after, most + 1),
        ).fetchall()
        rows = [OutboxRow._make((PeerId(row[1]), *row[2:9], bool(row[9]))) for row in found[:most]]
        return rows, (found[most - 1][0], found[most - 1][4]) if len(found) > most else None
