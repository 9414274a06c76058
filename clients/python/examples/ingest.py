"""Keeps what is gossiped on some topics in an SQLite database, each message exactly once.

python ingest.py DATABASE TOPIC...

The subscription's cursor is written in the same transaction as the messages before it: whatever is killed whenever, the
next start continues behind the last message that the database has. What the sidecar could not keep meanwhile is
written down too, in the table `gaps`. SIDECAR_API says where the sidecar is.
"""

import asyncio
import signal
import sqlite3
import sys

import sidecar_client
from sidecar_client import MessageBatch

SCHEMA = """
CREATE TABLE IF NOT EXISTS messages (
    number INTEGER PRIMARY KEY,  -- in order of arrival
    topic TEXT NOT NULL,
    message_id BLOB NOT NULL,
    sender TEXT NOT NULL,
    data BLOB NOT NULL,
    receive_time REAL NOT NULL,
    UNIQUE (topic, message_id)  -- a sidecar that has restarted may bring what its predecessor brought
);
CREATE TABLE IF NOT EXISTS gaps (behind INTEGER NOT NULL, missed INTEGER, reason TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS place (topics TEXT PRIMARY KEY, cursor BLOB NOT NULL);
"""


class Store:
    """The database."""

    def __init__(self, path: str, topics: list[str]) -> None:
        self._topics = "\n".join(topics)  # a cursor belongs to what was subscribed to
        self._database = sqlite3.connect(path, isolation_level=None)
        self._database.execute("PRAGMA journal_mode = WAL")
        self._database.executescript(SCHEMA)

    def cursor(self) -> bytes:
        """Behind the last message kept; empty in a new database."""
        row = self._database.execute("SELECT cursor FROM place WHERE topics = ?", (self._topics,)).fetchone()
        return row[0] if row else b""

    def keep(self, batch: MessageBatch, cursor: bytes) -> None:
        """Write a batch and the place behind it: both or neither."""
        execute = self._database.execute
        execute("BEGIN IMMEDIATE")
        try:
            if batch.lagged is not None:
                gap = (batch.lagged.missed, batch.lagged.reason.name)
                execute("INSERT INTO gaps SELECT coalesce(max(number), 0), ?, ? FROM messages", gap)
            self._database.executemany(
                "INSERT OR IGNORE INTO messages (topic, message_id, sender, data, receive_time) VALUES (?, ?, ?, ?, ?)",
                ((m.topic, m.message_id, m.sender, m.data, m.receive_time) for m in batch.messages),
            )
            execute("INSERT OR REPLACE INTO place VALUES (?, ?)", (self._topics, cursor))
            execute("COMMIT")
        except BaseException:
            execute("ROLLBACK")
            raise

    def close(self) -> None:
        self._database.close()


async def main(path: str, topics: list[str]) -> None:
    task = asyncio.current_task()
    assert task is not None
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    store = Store(path, topics)
    try:
        async with sidecar_client.connect() as node, node.subscribe(topics, cursor=store.cursor()) as news:
            print(f"keeping {', '.join(topics)} in {path}", flush=True)
            # While a batch is being written, the next ones wait in the sidecar.
            async for batch in news.batches():
                store.keep(batch, news.cursor)
    finally:
        store.close()


if __name__ == "__main__":
    if len(sys.argv) < 3:
        sys.exit(__doc__)
    try:
        asyncio.run(main(sys.argv[1], sys.argv[2:]))
    except sidecar_client.SidecarError as error:
        sys.exit(f"ingest: {error}")
    except (KeyboardInterrupt, asyncio.CancelledError):
        pass
