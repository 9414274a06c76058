"""Every number of the probes, with where it comes from."""

from ..classes import dataclass

MAX_COUNT = 10_000  # messages of one probe; a guess
MIN_INTERVAL = 0.1  # seconds between two of them: as many as receivers answer to one prober
MAX_INTERVAL = 3600.0
MAX_TOPICS = 16  # probed in the background; a guess
MAX_TOPIC = 1024  # bytes; as the gossip router's default
MAX_ANSWERS = 256  # that a prober may want for each message; a guess: some 100 ms of work where all come at once


@dataclass(frozen=True, slots=True)
class ProbeConfig:
    """Bounds of both sides. Seconds, bytes and counts; all of them guesses unless said otherwise."""

    max_runs: int = 4
    """Probes of this node at once."""
    patience: float = 5.0
    """How long the last message's answers are waited for."""
    echoes: int = 3
    """Round trips measured on the stream of an answer; the shortest counts."""
    surplus: int = 4
    """A message is answered by so many times more peers than were wanted before the rest is passed over."""

    network_answers: int = 1024
    """Answers that all receivers together give to one message, as far as each knows how many there are."""
    read_rate: float = 100.0
    """Probes a second whose signature is checked, of all probers; some 1 % of a processor."""
    prober_rate: float = 10.0
    """Probes a second of one prober that are answered: `MIN_INTERVAL`."""
    burst: float = 4.0
    """Seconds of either rate that may come at once."""
    max_probers: int = 256
    """Of whom the rate is kept; the longest unheard goes first, and no more are answered to while all are recent."""
    max_answering: int = 64
    """Answers under way at once."""
    max_remembered: int = 4096
    """Messages that were answered, so that none is twice."""

    topics: tuple[str, ...] = ()
    """Probed in the background, one message after the other; none by default, for who needs it knows on what topic."""
    interval: float = 30.0
    """From one of these messages to the next, on average: from half of it to one and a half, so that they keep no step
    with heartbeats."""
    answers: int = 32
    """Of each of them, about: as an app's probe wants by default."""
    size: int = 0
    objective: float = 0.0
    """Within which receivers should have the messages that are published in the background; 0: none."""
    share: float = 0.99
    """Of these receivers."""
    window: int = 20
    """Messages whose receivers are judged together: some 10 minutes by default, and enough for one late answer in a
    hundred to be told from many."""
