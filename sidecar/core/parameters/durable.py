"""The bounds and time-outs of durable messages."""

from ..classes import dataclass
from ..errors import ConfigError
from .direct import MAX_FRAME, MAX_MESSAGE

_MIB = 1 << 20
_DAY = 86_400.0

ROW_OVERHEAD = 256  # bytes that a message counts beside its own: its row, its places in indexes; a guess
MAX_ITEMS = 4096  # messages in one batch; part of the protocol


@dataclass(frozen=True, slots=True)
class DurableConfig:
    """Sizes are bytes, in which each message counts 256 more than it has; times are seconds."""

    max_message: int = 1_000_000  # as for other direct messages
    window: int = 4 * _MIB  # written to one peer and not yet on its disk
    window_messages: int = 8192
    max_incoming: int = (
        16 * _MIB
    )  # arrived from one peer and not yet on the disk; four windows: a peer has two links at most
    retry_least: float = 1.0  # until a peer is tried again that could not be reached, or was busy
    retry_most: float = 300.0  # a guess: an hour's absence costs a dozen dials
    link_patience: float = 60.0  # without an acknowledgement of what was written, until the link is given up; a guess
    idle_timeout: float = 300.0  # a link without work is closed, as those of other direct messages
    time_to_live: float = 7 * _DAY  # where the app says none; a guess: a long weekend
    max_time_to_live: float = 365 * _DAY
    outbox: int = 256 * _MIB  # in all; a guess
    outbox_per_peer: int = 64 * _MIB
    outbox_per_protocol: int = 128 * _MIB
    outbox_per_token: int = 128 * _MIB
    inbox: int = 256 * _MIB
    inbox_per_peer: int = 32 * _MIB
    max_deliveries: int = 16  # of one message, until it is a dead letter; a guess
    dead_letters: int = 10_000  # kept; the oldest go first
    dead_letters_bytes: int = 64 * _MIB
    outcomes: int = 100_000  # kept for WatchOutbox and for repeats
    outcomes_age: float = 7 * _DAY

    def __post_init__(self) -> None:
        if not 0 < self.max_message <= MAX_MESSAGE:
            raise ConfigError(f"durable: max_message {self.max_message} is not from 1 to {MAX_MESSAGE}")
        for name in (
            "window",
            "max_incoming",
            "outbox",
            "outbox_per_peer",
            "outbox_per_protocol",
            "outbox_per_token",
            "inbox",
            "inbox_per_peer",
        ):
            if getattr(self, name) < MAX_FRAME:
                raise ConfigError(f"durable: {name} {getattr(self, name)} is less than {MAX_FRAME}, one message")
        for name in ("window_messages", "max_deliveries", "outcomes"):
            if getattr(self, name) < 1:
                raise ConfigError(f"durable: {name} {getattr(self, name)} is less than 1")
        if not 0 < self.retry_least <= self.retry_most:
            raise ConfigError(f"durable: retry_least {self.retry_least} is not above 0 and at most {self.retry_most}")
