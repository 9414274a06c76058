"""Topic history on disk: the messages of topics as they travelled, under the cursors that apps know."""

from .keeper import HistoryKeeper
from .lost import Lost
from .reading import FLAG_HISTORY, FLAG_LOCAL, Body, Keys, Page, StoredRow
from .store import HistoryChanges, HistoryStore, Kept, StoredTopic, TopicSize

__all__ = [
    "FLAG_HISTORY",
    "FLAG_LOCAL",
    "Body",
    "HistoryChanges",
    "HistoryKeeper",
    "HistoryStore",
    "Kept",
    "Keys",
    "Lost",
    "Page",
    "StoredRow",
    "StoredTopic",
    "TopicSize",
]
