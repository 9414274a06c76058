"""Both boxes in one file, and what a transaction has changed."""

import time
from collections.abc import Callable
from pathlib import Path

from ...core.classes import NamedTuple
from ...core.durable import Acknowledgement, Outgoing, ranges
from ...core.parameters import DurableConfig
from ...core.types import PeerId
from ..database import TransactedFile
from .database import SCHEMA, connect
from .inbox import InboxTables, Waiting
from .outbox import OutboxTables

_EXPIRED_AT_ONCE = 1000  # messages, in one transaction


class Sizes(NamedTuple):
    """What is kept: messages and their bytes, each with what it counts beside its own."""

    outbox_messages: int = 0
    outbox_bytes: int = 0
    inbox_messages: int = 0
    inbox_bytes: int = 0
    dead_letters: int = 0


class Changes(NamedTuple):
    """What a transaction has changed that others have to hear of."""

    outgoing: list[Outgoing]
    """Streams as they are now."""
    arrived: dict[str, list[Waiting]]
    """By protocol: what has come to wait for apps."""
    settled: list[tuple[PeerId, Acknowledgement]]
    """What peers have to be told."""
    outcomes: bool
    """Whether there are new outcomes of what was sent."""
    conflicts: list[tuple[PeerId, str]]
    """Senders that were cloned or restored from a copy, with their protocols."""
    sizes: Sizes


class DurableStore(TransactedFile):
    """Used by one thread. Everything but `begin`, `commit` and `roll_back` belongs between them."""

    def __init__(self, path: Path, config: DurableConfig, wall: Callable[[], float] = time.time) -> None:
        """Open the file, or make it. Raises StorageError. `wall`: seconds since 1970."""
        super().__init__(connect(path), SCHEMA)
        self._wall = wall
        try:
            self.outbox = OutboxTables(self._connection, config, wall)
            self.inbox = InboxTables(self._connection, config, wall)
        except BaseException:
            self.close()
            raise

    def savepoint(self) -> None:
        """Begin a part of it."""
        self._connection.execute("SAVEPOINT part")

    def undo(self) -> None:
        """Undo the part, and end it."""
        self._connection.execute("ROLLBACK TO part")
        self._connection.execute("RELEASE part")
        self._recount()

    def release(self) -> None:
        """Keep the part."""
        self._connection.execute("RELEASE part")

    def commit(self) -> Changes:
        """Bring all to the disk. Raises sqlite3.Error, and then all is undone."""
        outbox, inbox = self.outbox, self.inbox
        try:
            changes = Changes(
                outbox.states(list(outbox.touched)),
                inbox.arrived,
                [
                    (key[0], Acknowledgement(key[1], key[2], inbox.held(key), ranges(sorted(settled))))
                    for key, settled in inbox.settled.items()
                ],
                outbox.settled > 0,
                inbox.conflicts,
                self.sizes(),
            )
            self._connection.execute("COMMIT")
        except BaseException:
            self.roll_back()
            raise
        self._forget_changes()
        return changes

    def roll_back(self) -> None:
        """Undo the transaction."""
        self._undo_all()
        self._forget_changes()
        self._recount()

    def _forget_changes(self) -> None:
        self.outbox.touched, self.outbox.settled = {}, 0
        self.inbox.arrived, self.inbox.settled, self.inbox.conflicts = {}, {}, []

    def _recount(self) -> None:
        self.outbox.recount()
        self.inbox.recount()

    def sizes(self) -> Sizes:
        """What is kept."""
        outbox, inbox = self.outbox, self.inbox
        return Sizes(outbox.count, outbox.used, inbox.count, inbox.used, inbox.dead)

    def next_expiry(self) -> float | None:
        """In how many seconds something expires."""
        due = [when for when in (self.outbox.next_expiry(), self.inbox.next_expiry()) if when is not None]
        return max(0.0, min(due) - self._wall()) if due else None

    def expire(self) -> None:
        """End what is out of time, and forget what nobody asks for any more."""
        self.outbox.expire(_EXPIRED_AT_ONCE)
        self.inbox.expire(_EXPIRED_AT_ONCE)
        self.outbox.prune()
        self.inbox.prune()
