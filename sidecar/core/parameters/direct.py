"""The bounds and time-outs of direct messages."""

from ..classes import dataclass
from ..errors import ConfigError

MAX_FRAME = 1 << 20  # bytes; part of the protocol: a longer frame is a violation
MAX_MESSAGE = MAX_FRAME - 2048  # leaves room for the longest protocol name, the longest reason and the framing
MAX_PROTOCOL = 256  # bytes of a protocol's name
MAX_REASON = 1024  # bytes of a refusal's reason
OVERHEAD = 64  # bytes that each message counts beside its own: a bytes object in CPython has 33, its places in lists 16

_MIB = 1 << 20


@dataclass(frozen=True, slots=True)
class DirectConfig:
    """Sizes are bytes, in which each message and request counts 64 more than it has; times are seconds."""

    max_message: int = 1_000_000  # of a message, request or response that we send; the API's documented default
    max_queued: int = 16 * _MIB  # not yet written to one peer; a guess: 100,000 messages of 100 B
    max_queued_total: int = 64 * _MIB  # to all peers together; a guess
    window: int = 4 * _MIB  # written on one link and without a receipt; half of what the other side takes
    request_window: int = 1024  # requests written on one link and without a response; a quarter of what it takes
    max_unhandled: int = 8 * _MIB  # arrived on one link and not yet dealt with by the apps
    max_unhandled_total: int = 128 * _MIB  # arrived on all links, and answers not yet written; a guess
    max_requests_unhandled: int = 4096  # requests arrived on one link and not yet answered
    max_answers: int = 8 * _MIB  # responses of one link not yet written
    max_links_per_peer: int = 2  # opened by one peer: the one in use, and one that it is about to notice has ended
    receipt_timeout: float = 30.0  # from a message's sending to its outcome; a guess, above handling_timeout
    handling_timeout: float = 20.0  # from a message's arrival to an app having it; a guess
    idle_timeout: float = 300.0  # a link without work is closed; a guess: opening one costs a round trip

    def __post_init__(self) -> None:
        if not 0 < self.max_message <= MAX_MESSAGE:
            raise ConfigError(f"direct: max_message {self.max_message} is not from 1 to {MAX_MESSAGE}")
        least = MAX_MESSAGE + OVERHEAD
        for name in ("max_queued", "window", "max_unhandled", "max_answers"):
            if getattr(self, name) < least:
                raise ConfigError(f"direct: {name} {getattr(self, name)} is less than {least}, one message")
        for name in ("request_window", "max_requests_unhandled", "max_links_per_peer"):
            if getattr(self, name) < 1:
                raise ConfigError(f"direct: {name} {getattr(self, name)} is less than 1")
        for name in ("receipt_timeout", "handling_timeout", "idle_timeout"):
            if not getattr(self, name) > 0:
                raise ConfigError(f"direct: {name} {getattr(self, name)} is not above 0")
