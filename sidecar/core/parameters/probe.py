"""Every number of the probes, with where it comes from."""

from dataclasses import dataclass

MAX_COUNT = 10_000  # messages of one probe; a guess
MIN_INTERVAL = 0.1  # seconds between two of them: as many as receivers answer to one prober
MAX_INTERVAL = 3600.0
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
