"""Bans and protected peers over a restart, in SQLite."""

import os
import sqlite3
from collections.abc import Sequence
from pathlib import Path
from typing import Self

from ..core.errors import InvalidArgument, InvalidPeerId, StorageError
from ..core.gate import Ban, Subject
from ..core.networks import Network
from ..core.types import PeerId
from .database import Newer, Schema, Unusable, because, connect

MAX_ENDED = 10_000  # bans that have ended and are kept nevertheless; a guess
_TABLES = (
    """
CREATE TABLE bans (
    subject TEXT PRIMARY KEY,  -- a peer id in base58, an IP address or a network in CIDR form
    reason  TEXT NOT NULL,
    created REAL NOT NULL,     -- wall-clock seconds
    expires REAL               -- null: until it is lifted
) WITHOUT ROWID, STRICT
""",
    """
CREATE TABLE protected (
    peer TEXT PRIMARY KEY      -- base58
) WITHOUT ROWID, STRICT
""",
)
_LOAD = "SELECT subject, reason, created, expires FROM bans"
_FORGET = """
DELETE FROM bans WHERE subject IN (
    SELECT subject FROM bans WHERE expires <= ? ORDER BY expires DESC, subject LIMIT -1 OFFSET ?
)
"""
SCHEMA = Schema(1, _TABLES, (_LOAD, "SELECT peer FROM protected"))


class BanStore:
    """Keeps bans, also those that have ended by this clock, and protected peers until they are none.

    Calls are synchronous. What a call has written outlives a power cut, for people rely on a ban: an fsync for each
    (2.8 ms measured), for something that is done by hand. An error of the disk is a StorageError; the store can be used
    again afterwards.
    """

    def __init__(self, path: Path, connection: sqlite3.Connection) -> None:
        """Use `open`."""
        self.path = path
        self._connection = connection
        self._file = _found(path)

    @classmethod
    def open(cls, path: Path, now_wall: float) -> Self:
        """Open the database, made where it is missing; of the bans that have ended, the last 10,000 stay.

        Unlike the memory of peers, a damaged file is not begun anew: whoever was banned would be let in again, unsaid.
        Raises StorageError, which says what to do.
        """
        try:
            connection = connect(path, SCHEMA, durable=True)
        except Newer as reason:
            remedy = "start the sidecar that wrote it, or move the file away to start without bans"
            raise StorageError(f"the bans in {path} cannot be read: {reason}; {remedy}") from None
        except Unusable as reason:
            raise _damaged(path, str(reason)) from None
        except (sqlite3.Error, OSError) as error:
            remedy = "`sidecar doctor --offline` looks at its disk and rights"
            raise StorageError(f"{path} cannot be opened: {because(path, error)}; {remedy}") from None
        store = cls(path, connection)
        try:
            store.forget(now_wall)
        except StorageError:
            connection.close()
            raise
        return store

    def load(self) -> tuple[list[Ban], list[PeerId]]:
        """All bans, those that have ended among them, and all protected peers.

        Raises StorageError, also for rows that cannot be read.
        """
        try:
            bans = self._connection.execute(_LOAD).fetchall()
            protected = self._connection.execute("SELECT peer FROM protected").fetchall()
        except sqlite3.Error as error:
            raise self._error("read", error) from None
        try:
            return [_decode(row) for row in bans], [PeerId.from_text(peer) for (peer,) in protected]
        except (InvalidPeerId, InvalidArgument) as error:
            raise _damaged(self.path, str(error)) from None

    def add(self, bans: Sequence[Ban]) -> None:
        """Keep bans, in the place of those of the same peers and networks. Raises StorageError."""
        self._write("INSERT OR REPLACE INTO bans VALUES (?, ?, ?, ?)", [(str(ban[0]), *ban[1:]) for ban in bans])

    def remove(self, subjects: Sequence[Subject]) -> None:
        """Keep some bans no longer. Raises StorageError."""
        self._write("DELETE FROM bans WHERE subject = ?", [(str(subject),) for subject in subjects])

    def protect(self, peer: PeerId, protected: bool) -> None:
        """Raises StorageError."""
        if protected:
            self._write("INSERT OR IGNORE INTO protected VALUES (?)", [(str(peer),)])
        else:
            self._write("DELETE FROM protected WHERE peer = ?", [(str(peer),)])

    def forget(self, now_wall: float) -> None:
        """Throw out bans that have ended, but for the last 10,000 of them. Raises StorageError.

        A clock that is wrong ends bans for as long as it is wrong, so its word is not enough to delete one.
        """
        self._write(_FORGET, [(now_wall, MAX_ENDED)])

    def close(self) -> None:
        """Raises StorageError."""
        try:
            self._connection.close()
        except sqlite3.Error as error:
            raise self._error("closed", error) from None

    def _write(self, statement: str, rows: Sequence[tuple[object, ...]]) -> None:
        try:
            with self._connection as transaction:
                transaction.executemany(statement, rows)
        except sqlite3.Error as error:
            raise self._error("written", error) from None
        if _found(self.path) != self._file:  # it goes on to be written, but no start will read it
            raise StorageError(f"{self.path} was deleted or replaced")

    def _error(self, what: str, error: sqlite3.Error) -> StorageError:
        return StorageError(f"{self.path} cannot be {what}: {because(self.path, error)}")


def _found(path: Path) -> tuple[int, int] | None:
    """Which file it is; None where there is none."""
    try:
        status = os.stat(path)
    except OSError:
        return None
    return status.st_dev, status.st_ino


def _decode(row: tuple[str, str, float, float | None]) -> Ban:
    """Raises InvalidPeerId, InvalidArgument."""
    text, reason, created, expires = row
    subject = Network.from_text(text) if "." in text or ":" in text else PeerId.from_text(text)
    return Ban(subject, reason, created, expires)


def _damaged(path: Path, reason: str) -> StorageError:
    remedy = "put back a copy of the file, or move it away to start without bans"
    return StorageError(f"the bans in {path} cannot be read: {reason}; {remedy}")
