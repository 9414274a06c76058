"""Opening one of our SQLite files: made where it is missing, checked and brought to our version where it is there."""

import contextlib
import logging
import os
import sqlite3
from collections.abc import Mapping, Sequence
from contextlib import closing
from pathlib import Path
from types import MappingProxyType

from ..core.classes import NamedTuple

_log = logging.getLogger(__name__)


class Unusable(Exception):
    """The file is there and can be read, but it is not a database of ours."""


class Newer(Unusable):
    """A later version of the sidecar has written it."""


class Schema(NamedTuple):
    """What is in one of our files.

    A version that changes tables is one more than the last, and gets a step from that: nobody's file is thrown away.
    What older versions may leave as it is, such as a table of its own, needs no new version.
    """

    version: int
    tables: Sequence[str]
    """Statements that make all of it in an empty file."""
    probes: Sequence[str]
    """Queries that only work on such tables."""
    steps: Mapping[int, Sequence[str]] = MappingProxyType({})
    """By version: the statements that make the next one of it."""


def connect(path: Path, schema: Schema, *, durable: bool = False, check: bool = True) -> sqlite3.Connection:
    """Open a database, made where it is missing; one of an older version becomes one of ours, wholly or not at all.

    `durable`: what is committed outlives a power cut, at the price of an fsync for each commit. `check`: read all of
    it, to see whether it is whole. Raises Newer, Unusable, sqlite3.Error.
    """
    try:
        return _opened(path, schema, durable=durable, check=check, alone=False)
    except sqlite3.OperationalError:
        # Alone, no memory is shared by way of a file, for which a full disk has no room: what is there can be read.
        return _opened(path, schema, durable=durable, check=check, alone=True)


def move_aside(path: Path, reason: Unusable) -> Path:
    """Give a file that is of no use another name, which is returned. Raises OSError."""
    aside = path.with_name(path.name + (".newer" if isinstance(reason, Newer) else ".damaged"))
    os.replace(path, aside)
    for suffix in ("-wal", "-shm"):  # they belong to the old file
        path.with_name(path.name + suffix).unlink(missing_ok=True)
    return aside


def _opened(path: Path, schema: Schema, *, durable: bool, check: bool, alone: bool) -> sqlite3.Connection:
    """`alone`: no other process can look at it meanwhile. Raises Unusable, sqlite3.Error."""
    # The directory's lock keeps others out, so that there is nothing to wait for. One thread at a time uses it.
    connection = sqlite3.connect(path, timeout=0, check_same_thread=False)
    try:
        if alone:
            connection.execute("PRAGMA locking_mode = EXCLUSIVE")
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute(f"PRAGMA synchronous = {'FULL' if durable else 'NORMAL'}")
        connection.execute("PRAGMA wal_autocheckpoint = 200")  # pages of 4 KiB
        connection.execute("PRAGMA journal_size_limit = 1048576")
        found = connection.execute("PRAGMA user_version").fetchone()[0]
        if found > schema.version:
            raise Newer(f"it is of version {found}, and this sidecar knows none above {schema.version}")
        verdict = connection.execute("PRAGMA quick_check(1)").fetchone()[0] if check else "ok"
        if verdict != "ok":
            raise Unusable(str(verdict))
        if found != schema.version:
            _bring(connection, path, found, schema)
        _probe(connection, schema)
    except BaseException as error:
        with closing(connection):
            if isinstance(error, sqlite3.DatabaseError) and says_damaged(error):
                raise Unusable(str(error)) from None
            raise
    return connection


def _bring(connection: sqlite3.Connection, path: Path, found: int, schema: Schema) -> None:
    """Make the tables, or bring them to our version; all of it or nothing. Raises Unusable, sqlite3.Error."""
    if found and any(version not in schema.steps for version in range(found, schema.version)):
        raise Unusable(f"it is of version {found}, from which no step leads to {schema.version}")
    with connection:
        connection.execute("BEGIN IMMEDIATE")
        if found:
            for version in range(found, schema.version):
                for statement in schema.steps[version]:
                    connection.execute(statement)
        else:
            for statement in schema.tables:
                connection.execute(statement)
        _probe(connection, schema)
        connection.execute(f"PRAGMA user_version = {schema.version}")
    if found:
        _log.info("%s: brought from version %d to %d", path, found, schema.version)


def _probe(connection: sqlite3.Connection, schema: Schema) -> None:
    """Raises sqlite3.Error."""
    for probe in schema.probes:
        connection.execute(probe).fetchone()


class TransactedFile:
    """What the stores that a `DatabaseKeeper` runs do alike with their files. Raises sqlite3.Error."""

    def __init__(self, connection: sqlite3.Connection, schema: Schema) -> None:
        """`connection`: whose transactions are begun and ended here."""
        self._connection = connection
        self._schema = schema
        self._touched = 0

    def begin(self) -> None:
        """Begin a transaction."""
        self._connection.execute("BEGIN IMMEDIATE")

    def _undo_all(self) -> None:
        """Undo the transaction, if there is one: SQLite has done it itself after some errors."""
        if self._connection.in_transaction:
            self._connection.execute("ROLLBACK")

    def writes(self) -> int:
        """Grows by what is written."""
        return self._connection.total_changes + self._touched

    def touch(self) -> None:
        """Write something that changes nothing."""
        self._connection.execute(f"PRAGMA user_version = {self._schema.version}")
        self._touched += 1

    def checkpoint(self) -> None:
        """Outside of a transaction: bring the log into the database, and give back what it takes."""
        self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()

    def close(self) -> None:
        """Let go of the file."""
        self._connection.close()


def because(path: Path, error: Exception) -> str:
    """What went wrong with the database, and what is known of its disk, of which SQLite tells little."""
    with contextlib.suppress(OSError):
        disk = os.statvfs(path.parent)
        if disk.f_flag & os.ST_RDONLY:
            return f"{error} (its disk is read-only)"
        if not disk.f_bavail:
            return f"{error} (its disk is full)"
    return str(error)


def says_damaged(error: sqlite3.DatabaseError) -> bool:
    """Whether it is the file's fault and not the disk's."""
    name = getattr(error, "sqlite_errorname", "")
    return name.startswith("SQLITE_CORRUPT") or name in ("SQLITE_NOTADB", "SQLITE_ERROR")  # the last: other columns
