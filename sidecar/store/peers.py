"""The peers of earlier runs, in SQLite: who to try first after a restart."""

import sqlite3
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Self

from ..core.classes import NamedTuple
from ..core.errors import InvalidMultiaddr, InvalidPeerId, StorageError
from ..core.multiaddr import Multiaddr
from ..core.types import KnownEndpoint, PeerId
from .database import Schema, Unusable, because, connect, move_aside

MAX_ENDPOINTS = 1024  # a guess
# Seconds that a peer was last heard of before the newest of all, or before now: by the clock alone, one start under a
# clock that is ahead would forget everybody. A guess.
MAX_AGE = 30 * 24 * 3600.0
_MAX_ADDRESSES = 16
_MAX_PROTOCOLS = 64

_PEERS = """
CREATE TABLE peers (
    peer         BLOB PRIMARY KEY,
    addresses    TEXT NOT NULL,      -- multiaddrs, one a line
    last_seen    REAL NOT NULL,      -- wall-clock seconds
    last_success REAL,               -- of a connection
    failures     INTEGER NOT NULL,   -- since then
    protocols    TEXT NOT NULL,      -- one a line
    server       INTEGER             -- of the DHT; null: not known
) WITHOUT ROWID, STRICT
"""
# Beside the version: an older sidecar does not look at it. The number tells what is recent, for a clock may be wrong.
_ENDPOINTS = """
CREATE TABLE IF NOT EXISTS places (
    number   INTEGER PRIMARY KEY AUTOINCREMENT,
    host     TEXT NOT NULL,
    port     INTEGER NOT NULL,
    suffix   TEXT NOT NULL,      -- what is spoken there
    holder   BLOB,               -- the peer that answered there last
    failures INTEGER NOT NULL,   -- in a row, whoever was expected
    UNIQUE (host, port, suffix)
) STRICT
"""
# Beside the version as well.
_ANCHORS = "CREATE TABLE IF NOT EXISTS anchors (place INTEGER PRIMARY KEY, peer BLOB NOT NULL) STRICT"
_LOAD_ANCHORS = "SELECT peer FROM anchors ORDER BY place LIMIT ?"
MAX_ANCHORS = 8  # read; a guess
# Beside the version as well. What a peer's row has as its addresses is what others are told; these have also those of
# the configuration, and how dials went.
_ADDRESSES = """
CREATE TABLE IF NOT EXISTS addresses (
    peer         BLOB NOT NULL,
    address      TEXT NOT NULL,
    origin       TEXT NOT NULL,      -- who told it
    last_success REAL,               -- wall-clock seconds
    last_failure REAL,
    PRIMARY KEY (peer, address)
) WITHOUT ROWID, STRICT
"""
_SAVE_ADDRESS = "INSERT OR REPLACE INTO addresses SELECT ?1, ?2, ?3, ?4, ?5 FROM peers WHERE peer = ?1"
_LOAD_ADDRESSES = "SELECT peer, address, origin, last_success, last_failure FROM addresses"
_PRUNE_ADDRESSES = "DELETE FROM addresses WHERE peer NOT IN (SELECT peer FROM peers)"
_SAVE_ENDPOINT = "INSERT OR REPLACE INTO places (host, port, suffix, holder, failures) VALUES (?, ?, ?, ?, ?)"
_LOAD_ENDPOINTS = "SELECT host, port, suffix, holder, failures FROM places ORDER BY number"
_PRUNE_ENDPOINTS = f"""
DELETE FROM places WHERE number <= (SELECT number FROM places ORDER BY number DESC LIMIT 1 OFFSET {MAX_ENDPOINTS})
"""
# Hearsay never replaces the addresses of a peer that we have been connected to.
_SAVE = """
INSERT INTO peers VALUES (?, ?, ?, ?, ?, ?, ?)
ON CONFLICT (peer) DO UPDATE SET
    addresses = iif(excluded.addresses = '' OR (excluded.last_success IS NULL AND last_success IS NOT NULL
                                                AND addresses <> ''), addresses, excluded.addresses),
    last_seen = max(last_seen, excluded.last_seen),
    last_success = coalesce(excluded.last_success, last_success),
    failures = iif(excluded.last_success IS NULL, failures + excluded.failures, excluded.failures),
    protocols = iif(excluded.protocols = '', protocols, excluded.protocols),
    server = coalesce(excluded.server, server)
"""
_BEST_FIRST = "last_success IS NULL, min(failures, 3), coalesce(last_success, last_seen) DESC, peer"
_LOAD = f"""
SELECT * FROM peers WHERE last_seen >= min(?, (SELECT max(last_seen) FROM peers)) - ? AND addresses <> ''
ORDER BY {_BEST_FIRST} LIMIT ?
"""
SCHEMA = Schema(
    1, (_PEERS,), ("SELECT peer, addresses, last_seen, last_success, failures, protocols, server FROM peers LIMIT 1",)
)
_PRUNE = f"DELETE FROM peers WHERE peer IN (SELECT peer FROM peers ORDER BY {_BEST_FIRST} LIMIT -1 OFFSET ?)"


class PeerRow(NamedTuple):
    """A peer as it is kept.

    To `save`, it is news that is merged with what is there: empty and None mean "nothing new", `failures` adds up
    until a `last_success` clears it. Times are wall-clock seconds.
    """

    peer: PeerId
    addresses: tuple[Multiaddr, ...]
    last_seen: float
    last_success: float | None = None
    failures: int = 0
    protocols: tuple[str, ...] = ()
    server: bool | None = None


class AddressRow(NamedTuple):
    """An address of a peer as it is kept: who told it, and when it worked and failed last, in wall-clock seconds."""

    address: Multiaddr
    origin: str
    last_success: float | None
    last_failure: float | None


class PeerStore:
    """Keeps `max_peers` peers, and up to a tenth more until it throws the least promising out.

    Calls are synchronous and short: one statement for a batch, an fsync only at checkpoints. An error of the disk is a
    StorageError; the store can be used again afterwards.
    """

    def __init__(self, path: Path, connection: sqlite3.Connection, max_peers: int, notice: str | None) -> None:
        """Use `open`. `notice`: what had to be done to open it, a line for the log."""
        self.path = path
        self.notice = notice
        self._connection = connection
        self._max_peers = max_peers

    @classmethod
    def open(cls, path: Path, *, max_peers: int = 1000) -> Self:
        """Open the database, made where it is missing; forget the least promising peers beyond `max_peers`.

        What is there is a convenience: a damaged file, or one of a later version, is moved aside and begun anew, and
        `notice` says so. Raises StorageError where the disk refuses.
        """
        notice = None
        try:
            try:
                connection = _connect(path)
            except Unusable as reason:
                aside = move_aside(path, reason)
                connection = _connect(path)
                notice = f"{path} was begun anew, for {reason}; the old file is {aside}"
        except (sqlite3.Error, OSError, Unusable) as error:
            remedy = "`sidecar doctor --offline` looks at its disk and rights"
            raise StorageError(f"{path} cannot be opened: {because(path, error)}; {remedy}") from None
        store = cls(path, connection, max_peers, notice)
        try:
            store._prune()
        except StorageError:
            connection.close()
            raise
        return store

    def load(self, limit: int, now_wall: float) -> list[PeerRow]:
        """At most `limit` peers that have an address, the most promising first. Raises StorageError."""
        try:
            rows = self._connection.execute(_LOAD, (now_wall, MAX_AGE, limit)).fetchall()
        except sqlite3.Error as error:
            raise self._error("read", error) from None
        return [row for row in map(_decode, rows) if row is not None]

    def save(self, batch: Sequence[PeerRow]) -> None:
        """Merge what is new; all of it or, with StorageError, nothing."""
        if not batch:
            return
        try:
            with self._connection as transaction:
                transaction.executemany(_SAVE, map(_encode, batch))
                if len(self) > self._max_peers + self._max_peers // 10:  # pruning sorts, so not every time
                    self._prune_in(transaction)
        except sqlite3.Error as error:
            raise self._error("written", error) from None

    def load_addresses(self) -> dict[PeerId, list[AddressRow]]:
        """What is kept of single addresses, by peer. Raises StorageError."""
        try:
            rows = self._connection.execute(_LOAD_ADDRESSES).fetchall()
        except sqlite3.Error as error:
            raise self._error("read", error) from None
        found: dict[PeerId, list[AddressRow]] = {}
        for peer, address, *rest in rows:
            try:
                row = AddressRow(Multiaddr.from_text(address), *rest)
                found.setdefault(PeerId.from_bytes(peer), []).append(row)
            except (InvalidPeerId, InvalidMultiaddr):
                continue  # this version cannot read it
        return found

    def save_addresses(self, known: Mapping[PeerId, Sequence[AddressRow]]) -> None:
        """Keep these of each peer that is kept, 16 at most, in place of what was. Raises StorageError."""
        if not known:
            return
        rows = [
            (bytes(peer), str(row.address), *row[1:]) for peer, kept in known.items() for row in kept[:_MAX_ADDRESSES]
        ]
        try:
            with self._connection as transaction:
                transaction.executemany("DELETE FROM addresses WHERE peer = ?", [(bytes(peer),) for peer in known])
                transaction.executemany(_SAVE_ADDRESS, rows)
        except sqlite3.Error as error:
            raise self._error("written", error) from None

    def failed(self, peers: Sequence[PeerId]) -> None:
        """Count a failure of each that is kept; the next success clears them. Raises StorageError."""
        self._write("UPDATE peers SET failures = failures + 1 WHERE peer = ?", [(bytes(peer),) for peer in peers])

    def load_endpoints(self) -> list[KnownEndpoint]:
        """What was learned of endpoints, the most recent last. Raises StorageError."""
        try:
            rows = self._connection.execute(_LOAD_ENDPOINTS).fetchall()
        except sqlite3.Error as error:
            raise self._error("read", error) from None
        return [endpoint for endpoint in map(_decode_endpoint, rows) if endpoint is not None]

    def save_endpoints(self, endpoints: Sequence[KnownEndpoint]) -> None:
        """Keep what was learned of endpoints, in the stead of what was known; 1,024 of them. Raises StorageError."""
        self._write(_SAVE_ENDPOINT, [tuple(endpoint) for endpoint in endpoints], _PRUNE_ENDPOINTS)

    def load_anchors(self) -> list[PeerId]:
        """The peers to come back to first, as saved last. Raises StorageError."""
        try:
            rows = self._connection.execute(_LOAD_ANCHORS, (MAX_ANCHORS,)).fetchall()
        except sqlite3.Error as error:
            raise self._error("read", error) from None
        return [peer for peer in (_decode_peer(row[0]) for row in rows) if peer is not None]

    def save_anchors(self, peers: Sequence[PeerId]) -> None:
        """Keep these in place of those before. Raises StorageError."""
        try:
            with self._connection as transaction:
                transaction.execute("DELETE FROM anchors")
                transaction.executemany("INSERT INTO anchors VALUES (?, ?)", list(enumerate(map(bytes, peers))))
        except sqlite3.Error as error:
            raise self._error("written", error) from None

    def __len__(self) -> int:
        """Peers kept. Raises StorageError."""
        try:
            return int(self._connection.execute("SELECT count(*) FROM peers").fetchone()[0])
        except sqlite3.Error as error:
            raise self._error("read", error) from None

    def close(self) -> None:
        """Move the log into the database and let go of it. Raises StorageError."""
        try:
            self._connection.close()
        except sqlite3.Error as error:
            raise self._error("closed", error) from None

    def _prune(self) -> None:
        try:
            with self._connection as transaction:
                self._prune_in(transaction)
        except sqlite3.Error as error:
            raise self._error("written", error) from None

    def _prune_in(self, transaction: sqlite3.Connection) -> None:
        transaction.execute(_PRUNE, (self._max_peers,))
        transaction.execute(_PRUNE_ADDRESSES)

    def _write(self, statement: str, rows: Sequence[tuple[object, ...]], after: str | None = None) -> None:
        if not rows:
            return
        try:
            with self._connection as transaction:
                transaction.executemany(statement, rows)
                if after is not None:
                    transaction.execute(after)
        except sqlite3.Error as error:
            raise self._error("written", error) from None

    def _error(self, what: str, error: sqlite3.Error) -> StorageError:
        return StorageError(f"{self.path} cannot be {what}: {because(self.path, error)}")


def _connect(path: Path) -> sqlite3.Connection:
    """Raises Unusable, sqlite3.Error. Not durable: a power cut may lose the last batches."""
    connection = connect(path, SCHEMA)
    try:
        connection.execute(_ENDPOINTS)
        connection.execute(_LOAD_ENDPOINTS).fetchone()
        connection.execute(_ANCHORS)
        connection.execute(_LOAD_ANCHORS, (1,)).fetchone()
        connection.execute(_ADDRESSES)
        connection.execute(_LOAD_ADDRESSES).fetchone()
    except sqlite3.Error as error:
        connection.close()
        raise Unusable(str(error)) from None
    return connection


def _encode(row: PeerRow) -> tuple[bytes, str, float, float | None, int, str, int | None]:
    return (
        bytes(row.peer),
        _lines(map(str, row.addresses[:_MAX_ADDRESSES])),
        row.last_seen,
        row.last_success,
        row.failures,
        _lines(row.protocols[:_MAX_PROTOCOLS]),
        None if row.server is None else int(row.server),
    )


def _lines(items: Iterable[str]) -> str:
    return "\n".join(item for item in items if "\n" not in item)


def _decode(row: tuple[bytes, str, float, float | None, int, str, int | None]) -> PeerRow | None:
    """None for a row that this version cannot read."""
    peer, addresses, last_seen, last_success, failures, protocols, server = row
    try:
        return PeerRow(
            PeerId.from_bytes(peer),
            tuple(Multiaddr.from_text(address) for address in addresses.split("\n")),
            last_seen,
            last_success,
            failures,
            tuple(protocols.split("\n")) if protocols else (),
            None if server is None else bool(server),
        )
    except (InvalidPeerId, InvalidMultiaddr):
        return None


def _decode_peer(data: bytes) -> PeerId | None:
    """None for what this version cannot read."""
    try:
        return PeerId.from_bytes(data)
    except InvalidPeerId:
        return None


def _decode_endpoint(row: tuple[str, int, str, bytes | None, int]) -> KnownEndpoint | None:
    """None for a row that this version cannot read."""
    host, port, suffix, holder, failures = row
    if holder is None:
        return KnownEndpoint(host, port, suffix, None, failures)
    peer = _decode_peer(holder)
    return KnownEndpoint(host, port, suffix, peer, failures) if peer is not None else None
