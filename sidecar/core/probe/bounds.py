"""How often this node answers probes."""

from ..parameters.probe import ProbeConfig
from ..token_bucket import TokenBucket
from ..types import PeerId


class AnswerBounds:
    """What strangers can make this node do. Says why not, as in `REFUSED`, or None."""

    def __init__(self, config: ProbeConfig, now: float) -> None:
        self._config = config
        self._all = TokenBucket(config.read_rate, config.read_rate * config.burst, now)
        self._probers: dict[PeerId, TokenBucket] = {}  # the longest unheard first
        self._remembered: dict[tuple[PeerId, bytes, int], None] = {}

    def read(self, now: float) -> str | None:
        """Whether one more signature may be checked."""
        return None if self._all.take(now) else "read_rate"

    def answer(self, prober: PeerId, identifier: bytes, number: int, now: float) -> str | None:
        """Whether this prober's message may be answered."""
        config = self._config
        key = (prober, identifier, number)
        if key in self._remembered:
            return "repeated"
        bucket = self._probers.pop(prober, None)
        if bucket is None:
            if len(self._probers) >= config.max_probers:
                oldest = next(iter(self._probers))
                if now - self._probers[oldest].at < config.burst:
                    return "prober_rate"
                del self._probers[oldest]
            bucket = TokenBucket(config.prober_rate, config.prober_rate * config.burst, now)
        self._probers[prober] = bucket
        if not bucket.take(now):
            return "prober_rate"
        self._remembered[key] = None
        if len(self._remembered) > config.max_remembered:
            del self._remembered[next(iter(self._remembered))]
        return None
