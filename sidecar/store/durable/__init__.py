"""Durable messages on disk: what was sent from here, what arrived, and what became of it."""

from .inbox import Delivered, InboxRow, Settlement, Settles
from .keeper import Keeper
from .outbox import Append, Appended, OutboxRow, OutcomeRow
from .store import DurableStore

__all__ = [
    "Append",
    "Appended",
    "Delivered",
    "DurableStore",
    "InboxRow",
    "Keeper",
    "OutboxRow",
    "OutcomeRow",
    "Settlement",
    "Settles",
]
