"""The file: its tables, and how it is opened.

Every statement that may find much gives one row, its blobs joined: each row would be a hand-over of the interpreter's
lock, for which a busy loop lets a thread wait.
"""

import sqlite3
from contextlib import closing
from pathlib import Path

from ...core.errors import StorageError
from .. import database

_CHECKED = 64 << 20  # bytes of a file that is looked at as a whole before it is used: 0.1 s; a guess
_TABLES = (
    # `epoch` is the first half of every cursor. Counters below `reserved` may have been given out.
    "CREATE TABLE cursors (id INTEGER PRIMARY KEY CHECK (id = 1), epoch BLOB NOT NULL, reserved INTEGER NOT NULL)",
    # Times are the wall clock's. `used`: when an app last used it. `messages`, `bytes`: what there is of it. `lost`:
    # see `Lost`. `evicted`: the latest time of receipt among what had to make room.
    """CREATE TABLE topics (
        id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE, sign INTEGER NOT NULL, used REAL NOT NULL,
        messages INTEGER NOT NULL, bytes INTEGER NOT NULL, lost BLOB NOT NULL, evicted INTEGER NOT NULL)""",
    # A gossip message as it travelled. `cursor` is the counter of the first of the `count` messages in it, `key` the
    # SHA-256 of its id, `received` in nanoseconds, `mask` which messages of a bundle are meant, where not all are.
    """CREATE TABLE messages (
        cursor INTEGER PRIMARY KEY, topic INTEGER NOT NULL, count INTEGER NOT NULL, key BLOB NOT NULL,
        raw BLOB NOT NULL, received INTEGER NOT NULL, flags INTEGER NOT NULL, mask BLOB)""",
    # Both grow at their ends, but for what peers bring; by keys, `MessagePlaces` finds messages.
    "CREATE INDEX messages_cursor ON messages (topic, cursor)",
    "CREATE INDEX messages_received ON messages (topic, received, cursor, key)",
)
SCHEMA = database.Schema(
    1,
    _TABLES,
    (
        "SELECT id, epoch, reserved FROM cursors",
        "SELECT id, name, sign, used, messages, bytes, lost, evicted FROM topics LIMIT 1",
        "SELECT cursor, topic, count, key, raw, received, flags, mask FROM messages LIMIT 1",
    ),
)


def connect(path: Path, *, suspect: bool = False) -> tuple[sqlite3.Connection, str]:
    """Open the file, or make it; with what had to be done for that, a line for the log. Raises StorageError.

    What is committed outlives the process, and a power cut but for the last moments: peers have that too. A damaged
    file, or one of a later version, is moved aside and begun anew. `suspect`: something was wrong with it, so that all
    of it is looked at.
    """
    notice = ""
    try:
        try:
            connection = _connect(path, check=suspect or _size(path) <= _CHECKED)
        except database.Unusable as reason:
            aside = database.move_aside(path, reason)
            connection = _connect(path, check=False)
            notice = f"{path} was begun anew, for {reason}; the old file is {aside}"
    except (sqlite3.Error, OSError, database.Unusable) as error:
        raise StorageError(f"{path} cannot be opened: {database.because(path, error)}") from None
    try:
        connection.isolation_level = None  # transactions are ours
        connection.execute("PRAGMA wal_autocheckpoint = 2000")  # pages of 4 KiB
        connection.execute("PRAGMA journal_size_limit = 16777216")
        connection.execute("PRAGMA cache_size = -8192")  # KiB
        connection.execute("PRAGMA secure_delete = OFF")  # what is evicted need not be written over as well
    except sqlite3.Error as error:
        with closing(connection):
            raise StorageError(f"{path} cannot be opened: {database.because(path, error)}") from None
    return connection, notice


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


def _connect(path: Path, *, check: bool) -> sqlite3.Connection:
    return database.connect(path, SCHEMA, check=check)
