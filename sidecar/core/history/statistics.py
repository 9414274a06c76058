"""What backfill counts, and how it stands by topic."""

from dataclasses import field

from ..classes import NamedTuple, dataclass
from ..statistics import Statistics

REFUSALS = ("busy", "topic", "disk")
SESSION_ENDS = ("agreed", "brought", "partial", "refused", "failed", "violated")


@dataclass(slots=True)
class BackfillStatistics(Statistics):
    """Topic history, as far as peers are asked for what is missing and ask for it."""

    prefix = "backfill_"

    topics: int = 0
    """That are kept and joined."""
    topics_complete: int = 0
    """Of these, those in which peers have nothing that this node lacks."""
    asking: int = 0
    """Sessions that this node has with others now."""
    serving: int = 0
    """Sessions that others have with this node now."""
    asked: dict[str, int] = field(default_factory=lambda: dict.fromkeys(SESSION_ENDS, 0))
    """Sessions of this node since the start, by what came of them."""
    served: int = 0
    """Sessions that others were given."""
    refused: dict[str, int] = field(default_factory=lambda: dict.fromkeys(REFUSALS, 0))
    """Sessions that others were not given, by why."""
    brought: int = 0
    """Messages that peers sent and that were accepted; of a bundle one."""
    rejected: int = 0
    """Messages that peers sent and that were not valid."""
    gone: int = 0
    """Messages that peers claimed to have, and did not send."""
    sent: int = 0
    """Messages that were sent to peers; of a bundle one."""
    sent_bytes: int = 0
    nudges_sent: int = 0
    nudges_received: int = 0
    nudges_ignored: int = 0
    """Of these, those that came too soon after the last one."""


class HistoryView(NamedTuple):
    """How backfill of one topic stands. Times: seconds since 1970, by this node's clock."""

    topic: str
    peers: int
    """That speak the protocol, and are in the topic."""
    asking: int
    """Sessions under way."""
    complete_since: float | None
    """From then on until `complete_until` this node has all that the peers that it asked have; None: nobody knows."""
    complete_until: float | None
