"""What messages must be to be passed on, by rules of topics that this node judges itself: the values, the bounds."""

import enum

from ..classes import NamedTuple, dataclass
from ..errors import InvalidArgument
from ..types import PeerId

MAX_RULES = 256  # in force at once; a guess
MAX_TOPIC_PATTERNS = 64  # of one rule; a guess
MAX_LISTED = 100_000  # senders that one rule allows or denies; a guess: some 10 MB
MAX_BACK = 4096  # sequence numbers that a message may lie back; each takes a bit for each sender
USUAL_BACK = 1024  # the same where a rule does not say; a guess: 5 ms at 200,000 messages a second of one sender
MAX_SENDERS = 65_536  # whose rate is measured, and again as many whose sequence numbers are remembered; some 25 MB each
MAX_COUNTED_TOPICS = 1024  # that one rule counts by name; as many topics may be joined


class OnBreak(enum.Enum):
    """What becomes of a message that breaks a rule."""

    IGNORE = "ignore"  # it is not passed on, and that is nobody's fault: who relays it need not know the rule
    REJECT = "reject"  # it is not, and counts against the peer that sent it here


class Limit(enum.Enum):
    """What of a rule a message can break, in the order in which it is looked at."""

    SIZE = "max_payload"
    SIGNATURE = "require_signature"
    SENDER = "senders"  # denied, or not among those allowed
    SEQNO = "seqno"  # too far from what the sender was seen with, or seen
    MEMORY = "seqno_memory"  # the sender is new, and there is no room to remember it
    RATE = "rate"


class SeqnoDistance(NamedTuple):
    """How far a message's sequence number may be from the greatest that its sender was seen with on the topic.

    `least` may be below 0: so many numbers back, each once. `most` None: as far as it will. A sender is remembered
    until its place is needed for another one, and for `remember` seconds after its last message at least.
    """

    least: int = -USUAL_BACK
    most: int | None = None
    remember: float = 3600.0


class SenderRate(NamedTuple):
    """A token bucket for each sender and topic: messages a second, and how many may come at once."""

    rate: float
    burst: float


@dataclass(frozen=True, slots=True)
class TopicRule:
    """What the messages of some topics must be. Raises InvalidArgument where the values contradict each other.

    `topics` are names with `*` for any text. None is no limit. `allow`: only these senders; `deny`: not these, also
    where they are allowed.
    """

    name: str
    topics: tuple[str, ...]
    max_payload: int | None = None  # bytes
    require_signature: bool = False
    allow: frozenset[PeerId] | None = None
    deny: frozenset[PeerId] = frozenset()
    seqno: SeqnoDistance | None = None
    rate: SenderRate | None = None
    on_break: OnBreak = OnBreak.IGNORE

    def describe(self) -> str:
        """What the rule asks for, a sentence."""
        asked = []
        if self.max_payload is not None:
            asked.append(f"payloads of at most {self.max_payload} bytes")
        if self.require_signature:
            asked.append("signatures")
        if self.allow is not None:
            asked.append(f"one of {len(self.allow)} senders")
        if self.deny:
            asked.append(f"none of {len(self.deny)} senders")
        if self.seqno is not None:
            least, most, _ = self.seqno
            upwards = "any" if most is None else f"{most:+}"
            asked.append(f"sequence numbers from {least:+} to {upwards} beyond the last, each once")
        if self.rate is not None:
            asked.append(f"{self.rate.rate:g} messages a second of each sender, {self.rate.burst:g} at once")
        return f"{'; '.join(asked)}; else {self.on_break.value}"

    def __post_init__(self) -> None:
        if not self.topics:
            raise InvalidArgument(f"rule {self.name!r} has no topics")
        nothing = self.max_payload is None and not self.require_signature and self.allow is None and not self.deny
        if nothing and self.seqno is None and self.rate is None:
            raise InvalidArgument(f"rule {self.name!r} limits nothing")
        if self.rate is not None and (self.rate.rate <= 0 or self.rate.burst < 1):
            raise InvalidArgument(
                f"rule {self.name!r} has a rate of {self.rate.rate:g} and a burst of {self.rate.burst:g}: the rate "
                "must be above 0, and the burst at least 1"
            )
        if self.seqno is not None:
            least, most, _ = self.seqno
            if least < -MAX_BACK or (most is not None and most < max(1, least)):
                raise InvalidArgument(
                    f"rule {self.name!r} wants sequence numbers from {least} to {most} beyond the last: at least "
                    f"{-MAX_BACK}, and then at least 1 and no less than the first"
                )
