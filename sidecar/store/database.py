"""Opening one of our SQLite files: made where it is missing, checked where it is there."""

import contextlib
import os
import sqlite3
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path


class Unusable(Exception):
    """The file is there and can be read, but it is not a database of ours."""


def connect(
    path: Path, *, version: int, tables: Sequence[str], probe: str, durable: bool = False, check: bool = True
) -> sqlite3.Connection:
    """Open a database.

    `tables` makes them where they are missing; `probe` is a query that only works on such tables. `durable`: what
    is committed outlives a power cut, at the price of an fsync for each commit, which stops the loop meanwhile.
    `check`: read all of it, to see whether it is whole. Raises Unusable, sqlite3.Error.
    """
    try:
        return _opened(path, version, tables, probe, durable=durable, check=check, alone=False)
    except sqlite3.OperationalError:
        # Alone, no memory is shared by way of a file, for which a full disk has no room: what is there can be read.
        return _opened(path, version, tables, probe, durable=durable, check=check, alone=True)


def move_aside(path: Path, aside: Path) -> None:
    """Give a file that is of no use another name. Raises OSError."""
    os.replace(path, aside)
    for suffix in ("-wal", "-shm"):  # they belong to the old file
        path.with_name(path.name + suffix).unlink(missing_ok=True)


def _opened(
    path: Path, version: int, tables: Sequence[str], probe: str, *, durable: bool, check: bool, alone: bool
) -> sqlite3.Connection:
    """`alone`: no other process can look at it meanwhile. Raises Unusable, sqlite3.Error."""
    connection = sqlite3.connect(path, timeout=0)  # the directory's lock keeps others out; waiting would stop the loop
    try:
        if alone:
            connection.execute("PRAGMA locking_mode = EXCLUSIVE")
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute(f"PRAGMA synchronous = {'FULL' if durable else 'NORMAL'}")
        connection.execute("PRAGMA wal_autocheckpoint = 200")  # pages of 4 KiB
        connection.execute("PRAGMA journal_size_limit = 1048576")
        found = connection.execute("PRAGMA user_version").fetchone()[0]
        if found not in (0, version):
            raise Unusable(f"it is of version {found}, not {version}")
        if found == 0:
            with connection:
                connection.execute("BEGIN")
                for statement in tables:
                    connection.execute(statement)
                connection.execute(f"PRAGMA user_version = {version}")
        verdict = connection.execute("PRAGMA quick_check(1)").fetchone()[0] if check else "ok"
        if verdict != "ok":
            raise Unusable(str(verdict))
        connection.execute(probe).fetchone()
    except BaseException as error:
        with closing(connection):
            if isinstance(error, sqlite3.DatabaseError) and says_damaged(error):
                raise Unusable(str(error)) from None
            raise
    return connection


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
