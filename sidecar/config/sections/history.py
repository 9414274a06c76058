"""Topic history: what is kept of topics on disk, and got from peers where it is missing."""

from ...core.classes import dataclass
from ...core.parameters import GossipConfig, HistoryConfig
from ...core.parameters.bundles import MAX_PATTERNS
from ..kinds import flag, names, number, seconds, size
from .key import DAY, MIB, key

_HISTORY = HistoryConfig()  # the core's own defaults are the table's
_MOST = 1 << 20  # MiB


@dataclass(frozen=True, slots=True)
class HistorySection:
    """Messages of topics, kept on disk for apps that come later and for peers that lack them."""

    topics: tuple[str, ...] = key(
        _HISTORY.topics,
        names(MAX_PATTERNS, GossipConfig().max_topic_name),
        "The topics whose messages are kept, * for any text. A name without * is joined at the start and stays "
        "joined; a topic that fits a pattern, once an app subscribes to it or publishes on it here, until max_age "
        "after the last time. See docs/history.md.",
        "off: only you know which topics are worth the disk",
    )
    max_age: float = key(
        _HISTORY.max_age,
        seconds(60, 365 * DAY),
        "For how long a message is kept, since the first node that tells of it got it.",
        "a guess: a long weekend, and some",
    )
    max_bytes: int = key(
        _HISTORY.max_bytes,
        size(MIB, _MOST * MIB),
        "How much of one topic is kept; of more, the latest.",
        "a guess",
    )
    max_topics: int = key(
        _HISTORY.max_topics, number(1, 10_000, "topics"), "How many topics are kept at most.", "a guess"
    )
    backfill: bool = key(
        _HISTORY.backfill,
        flag(),
        "Whether this node gets from peers what it lacks of these topics, and gives them what they lack.",
        "after a restart or a partition, history would have holes",
    )
