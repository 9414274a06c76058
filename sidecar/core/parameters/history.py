"""The bounds and times of topic history and its backfill from peers."""

from ..classes import dataclass
from ..errors import ConfigError
from ..patterns import matches

_MIB = 1 << 20
_DAY = 86_400.0

KEY = 32  # bytes of a key: the SHA-256 of a message's id; part of the protocol
MAX_KEYS_TOLD = 4096  # keys in one `Want` or `Done`; part of the protocol
MAX_NUDGED = 64  # topics in one `Nudge`; part of the protocol
MAX_RECONCILE = 1 << 16  # bytes of one message of the reconciliation; part of the protocol


@dataclass(frozen=True, slots=True)
class HistoryConfig:
    """Which topics are kept on disk, how much of them, and what is spent on getting from peers what is missing.

    Sizes are bytes, times seconds.
    """

    topics: tuple[str, ...] = ()  # patterns; none: nothing is kept, and nothing costs anything
    max_age: float = 7 * _DAY  # a guess: a long weekend
    max_bytes: int = 256 * _MIB  # of one topic; a guess, as for the outbox of durable messages
    max_topics: int = 64  # a guess
    backfill: bool = True

    # What is compared with one peer at a time. A guess: 131,072 keys and their sums take 20 MB, and half a second; what
    # is older is compared after that.
    max_keys: int = 1 << 17
    # What is younger is let be: gossip is still bringing it. A guess: IHAVE tells for three heartbeats, but a message
    # that needs the third is rare.
    settle: float = 2.0
    jitter: float = 0.3  # until a peer that has just come is asked: they come together
    recheck: float = 300.0  # as Waku's store synchronises: every five minutes with one at random
    retry_least: float = 1.0  # until the next session where the last one brought something, or failed; doubles
    nudged: int = 6  # peers that are told when this node got something; as D of gossipsub
    nudge_interval: float = 1.0  # in which nudges of one peer count once
    newcomers: int = 8  # peers that wait to be asked since they came, in one topic; a guess
    window: int = 1 << 20  # bytes of bodies asked for at once
    max_rounds: int = 256  # of reconciliation in a session: twice what two disjoint sets of `max_keys` take
    patience: float = 15.0  # for each answer of the other side, and for the disk; a guess
    session: float = 60.0  # after which nothing more is asked for in it; the other side bears twice that; a guess
    asking: int = 4  # sessions that this node has with others, in all; a guess
    serving: int = 4  # sessions that others have with this node, in all; and one a peer a topic; a guess
    serving_rate: float = 32.0 * _MIB  # bytes a second to all, and as many at once; a guess: a quarter of a core
    serving_rate_per_peer: float = 8.0 * _MIB
    aside_least: float = 30.0  # for which a peer is not asked that lied, or broke the protocol; doubles; a guess
    aside_most: float = 3600.0

    def __post_init__(self) -> None:
        for name in self.__dataclass_fields__:
            value = getattr(self, name)
            if name not in ("topics", "backfill", "settle", "jitter") and not value > 0:
                raise ConfigError(f"history: {name} is {value} and must be more than 0")

    def keeps(self, topic: str) -> bool:
        """Whether a pattern fits the topic's name."""
        return any(matches(pattern, topic) for pattern in self.topics)
