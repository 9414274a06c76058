"""Direct messages that are kept until they are settled."""

from ...core.classes import dataclass
from ...core.parameters import DurableConfig
from ..kinds import number, seconds, size
from .key import DAY, MIB, key

_DURABLE = DurableConfig()  # the core's own defaults are the table's
_MOST = 1 << 20  # MiB


@dataclass(frozen=True, slots=True)
class DurableSection:
    """Durable messages, on disk until the peer's app has settled them. Sizes count 256 bytes more for each."""

    time_to_live: float = key(
        _DURABLE.time_to_live,
        seconds(1, 365 * DAY),
        "How long a message is worth delivering where the app does not say.",
        "a guess: a long weekend, and some",
    )
    outbox: int = key(_DURABLE.outbox, size(MIB, _MOST * MIB), "How much may wait for all peers together.", "a guess")
    outbox_per_peer: int = key(
        _DURABLE.outbox_per_peer, size(MIB, _MOST * MIB), "How much may wait for one peer.", "a guess"
    )
    outbox_per_protocol: int = key(
        _DURABLE.outbox_per_protocol, size(MIB, _MOST * MIB), "How much may wait of one protocol.", "a guess"
    )
    outbox_per_token: int = key(
        _DURABLE.outbox_per_token, size(MIB, _MOST * MIB), "How much may wait of the apps with one token.", "a guess"
    )
    inbox: int = key(
        _DURABLE.inbox,
        size(MIB, _MOST * MIB),
        "How much of all peers may wait here for apps. Senders keep what finds no room.",
        "a guess",
    )
    inbox_per_peer: int = key(
        _DURABLE.inbox_per_peer, size(MIB, _MOST * MIB), "How much of one peer may wait here for apps.", "a guess"
    )
    max_deliveries: int = key(
        _DURABLE.max_deliveries,
        number(1, 100_000, "deliveries"),
        "How often a message is delivered without being settled until it is a dead letter, where the app does not say.",
        "a guess",
    )
    dead_letters: int = key(
        _DURABLE.dead_letters,
        number(0, 10_000_000, "messages"),
        "How many dead letters are kept; of more, the latest.",
        "a guess",
    )
    dead_letters_bytes: int = key(
        _DURABLE.dead_letters_bytes, size(0, _MOST * MIB), "How many bytes of dead letters are kept.", "a guess"
    )
    outcomes: int = key(
        _DURABLE.outcomes,
        number(1, 100_000_000, "outcomes"),
        "How many outcomes of what was sent are kept, for apps that watch them and for repeats of a request id.",
        "a guess",
    )
    outcomes_age: float = key(
        _DURABLE.outcomes_age, seconds(60, 365 * DAY), "For how long they are kept at most.", "a guess"
    )
