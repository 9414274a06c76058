"""The file: its tables, and how it is opened."""

import sqlite3
from pathlib import Path

from ...core.errors import StorageError
from .. import database

_TABLES = (
    # A stream is what goes to one peer by one protocol. `next` is given out next; all below `floor` are settled; all up
    # to `held` are on the receiver's disk.
    """CREATE TABLE outgoing (
        id INTEGER PRIMARY KEY, peer BLOB NOT NULL, protocol TEXT NOT NULL, incarnation INTEGER NOT NULL,
        next INTEGER NOT NULL, floor INTEGER NOT NULL, held INTEGER NOT NULL, UNIQUE (peer, protocol))""",
    # `data` is NULL of one that has expired and that others, before it, keep from being left out. Times are the wall
    # clock's, in seconds. `ends`: when this side gives it up, later than `expires` where the receiver holds it.
    """CREATE TABLE outbox (
        stream INTEGER NOT NULL, sequence INTEGER NOT NULL, data BLOB, created REAL NOT NULL, expires REAL NOT NULL,
        ends REAL NOT NULL, app TEXT NOT NULL, request TEXT NOT NULL, PRIMARY KEY (stream, sequence)) WITHOUT ROWID""",
    "CREATE INDEX outbox_request ON outbox (request) WHERE request != ''",
    "CREATE INDEX outbox_ends ON outbox (ends) WHERE data IS NOT NULL",
    """CREATE TABLE outcomes (
        cursor INTEGER PRIMARY KEY AUTOINCREMENT, peer BLOB NOT NULL, protocol TEXT NOT NULL,
        incarnation INTEGER NOT NULL, sequence INTEGER NOT NULL, app TEXT NOT NULL, request TEXT NOT NULL,
        outcome INTEGER NOT NULL, reason TEXT NOT NULL, time REAL NOT NULL)""",
    "CREATE INDEX outcomes_request ON outcomes (request) WHERE request != ''",
    # What apps here have ever received as durable: nothing else is taken from anybody.
    "CREATE TABLE protocols (protocol TEXT PRIMARY KEY) WITHOUT ROWID",
    # What one peer sends by one protocol, in one incarnation; all up to `held` were stored.
    """CREATE TABLE incoming (
        id INTEGER PRIMARY KEY, peer BLOB NOT NULL, protocol TEXT NOT NULL, incarnation INTEGER NOT NULL,
        held INTEGER NOT NULL, used REAL NOT NULL, UNIQUE (peer, protocol, incarnation))""",
    # `outcome` 0: it waits for an app. Others have no `data`, and are kept until the sender confirms to know. `digest`
    # tells a repeat from another message under the same sequence.
    """CREATE TABLE inbox (
        id INTEGER PRIMARY KEY AUTOINCREMENT, stream INTEGER NOT NULL, sequence INTEGER NOT NULL, data BLOB,
        digest BLOB NOT NULL, received REAL NOT NULL, expires REAL NOT NULL, attempts INTEGER NOT NULL,
        outcome INTEGER NOT NULL, reason TEXT NOT NULL, UNIQUE (stream, sequence))""",
    "CREATE INDEX inbox_expires ON inbox (expires) WHERE outcome = 0",
    """CREATE TABLE dead_letters (
        id INTEGER PRIMARY KEY, peer BLOB NOT NULL, protocol TEXT NOT NULL, incarnation INTEGER NOT NULL,
        sequence INTEGER NOT NULL, data BLOB NOT NULL, received REAL NOT NULL, expires REAL NOT NULL,
        attempts INTEGER NOT NULL, reason TEXT NOT NULL, time REAL NOT NULL)""",
)
_PROBES = (
    "SELECT id, peer, protocol, incarnation, next, floor, held FROM outgoing LIMIT 1",
    "SELECT stream, sequence, data, created, expires, ends, app, request FROM outbox LIMIT 1",
    "SELECT cursor, peer, protocol, incarnation, sequence, app, request, outcome, reason, time FROM outcomes LIMIT 1",
    "SELECT protocol FROM protocols LIMIT 1",
    "SELECT id, peer, protocol, incarnation, held, used FROM incoming LIMIT 1",
    "SELECT id, stream, sequence, data, digest, received, expires, attempts, outcome, reason FROM inbox LIMIT 1",
    "SELECT id, peer, protocol, incarnation, sequence, data, received, expires, attempts, reason, time "
    "FROM dead_letters LIMIT 1",
)
SCHEMA = database.Schema(1, _TABLES, _PROBES)


def connect(path: Path) -> sqlite3.Connection:
    """Open the file, or make it. What is committed outlives a power cut. Raises StorageError, with a remedy."""
    try:
        connection = database.connect(path, SCHEMA, durable=True)
    except database.Newer as error:
        raise StorageError(
            f"{path}: {error}. Start the sidecar that wrote it: it holds messages that nobody else has. Or move it "
            f"away and lose them: mv {path} {path}.newer"
        ) from None
    except database.Unusable as error:
        raise StorageError(
            f"{path} is damaged ({error}). It holds messages that nobody else has, so that it is not replaced. Bring "
            f"back a copy of it, or move it away and lose them: mv {path} {path}.damaged"
        ) from None
    except (sqlite3.Error, OSError) as error:
        raise StorageError(f"{path} cannot be opened: {database.because(path, error)}") from None
    connection.isolation_level = None  # transactions are ours
    connection.execute("PRAGMA wal_autocheckpoint = 2000")  # pages of 4 KiB: a checkpoint costs two more fsyncs
    connection.execute("PRAGMA journal_size_limit = 16777216")
    connection.execute("PRAGMA cache_size = -4096")  # KiB
    return connection
