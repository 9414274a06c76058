"""What apps ask of probes, and what they are told."""

from dataclasses import field

from ..classes import NamedTuple, dataclass
from ..statistics import Statistics
from ..types import PeerId


class ProbeRequested(NamedTuple):
    """Publish marked messages on a topic and learn when others get them. Result: a `ProbeSummary`.

    `messages`: how many. `answers`: of about how many receivers of each. `size`: bytes of the payload, at least.
    `exposed`: probe although there are peers without the protocol, whose apps get to see the messages.
    `sign`: the topic's signing, which only matters where no app here is in it; None is the usual one.
    """

    op: int
    topic: str
    messages: int
    interval: float
    answers: int
    size: int = 0
    exposed: bool = False
    sign: bool | None = None


class ProbeAnswer(NamedTuple):
    """One receiver got one message. Seconds; `number` counts the messages from 0; `direct`: it came from this node."""

    peer: PeerId
    number: int
    delay: float
    round_trip: float
    direct: bool


class ProbeAnswered(NamedTuple):
    """A probe has got an answer."""

    op: int
    answer: ProbeAnswer


class ProbeSummary(NamedTuple):
    """A probe as a whole.

    `expected` are the answers that connected peers of the topic owed, `answered` those of them that came; of other
    receivers nobody knows who they are. `receivers`: how many the answers stand for, by the share that was asked.
    """

    published: int
    unpublished: int
    share: float
    answers: int
    peers: int
    expected: int
    answered: int
    receivers: float
    ignored: int


News = ProbeAnswered
AppInput = ProbeRequested

IGNORED = ("unknown", "not_asked", "repeated", "below_zero", "too_many", "unfinished", "malformed")
JUDGED = ("in_time", "late", "silent")
UNJUDGED = ("no_topic", "no_peers", "not_supported", "unpublished")
REFUSED = ("malformed", "forged", "read_rate", "prober_rate", "repeated", "too_many", "unreachable")


@dataclass(slots=True)
class ProbeStatistics(Statistics):
    """Counters since the start."""

    prefix = "probe_"

    messages_published: int = 0
    messages_received: int = 0
    answers_received: int = 0
    answers_sent: int = 0
    ignored: dict[str, int] = field(default_factory=lambda: dict.fromkeys(IGNORED, 0))
    """Answers to this node that do not count, by why."""
    refused: dict[str, int] = field(default_factory=lambda: dict.fromkeys(REFUSED, 0))
    """Probes of others that this node was to answer and did not, by why."""
    objective: float = 0.0
    """Seconds, as it is configured; 0: none."""
    objective_share: float = 0.0
    in_time_share: float = 1.0
    """Of the last messages' receivers, those that had them in time; of the topic where they are fewest. 1 until so
    many messages are out."""
    judged: dict[str, int] = field(default_factory=lambda: dict.fromkeys(JUDGED, 0))
    """Receivers of messages published in the background: had it in time, late, or owed an answer that did not come."""
    unjudged: dict[str, int] = field(default_factory=lambda: dict.fromkeys(UNJUDGED, 0))
    """Messages that were to be published in the background and were not, by why."""
