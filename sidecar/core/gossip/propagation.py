"""How messages spread, as far as one node can tell by its own clock."""

from collections.abc import Iterable, Sequence

from ..histogram import Histogram
from ..types import PeerId

# From two nodes of one machine to a queue that is stuck for seconds.
BOUNDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
_SPACING = 1 / 32  # seconds between samples: so many that a minute shows something, so few that they cost nothing
_MOST = 640  # at a time, of these and of those that are followed beside them
_KEEP = 10.0  # seconds until a sample is forgotten: the last bound


class _Sample:
    __slots__ = ("at", "local", "shown")

    def __init__(self, at: float, source: PeerId | None) -> None:
        self.at = at
        self.local = source is None
        # Peers that have shown that they have it, and how long after its coming here.
        self.shown: dict[PeerId, float] = {} if source is None else {source: 0.0}


class Propagation:
    """Follows a sample of the messages: no more than `_KEEP / _SPACING` at a time, or `_MOST` with those of `follow`.

    `delays` has the messages of others: from the first copy here until each further peer shows that it has the message,
    by a copy or an IDONTWANT. IHAVE does not count there: it comes at heartbeats, and would measure these.
    `echoes` has this node's own: from publishing until the first peer shows that it has it, by whatever means.
    """

    def __init__(self, now: float) -> None:
        self.delays = Histogram(BOUNDS)
        self.echoes = Histogram(BOUNDS)
        self.samples: dict[bytes, _Sample] = {}
        self._next = now

    def began(self, ids: Sequence[bytes], source: PeerId | None, now: float) -> None:
        """New messages, from a peer or (None) published here; the first may become a sample."""
        if now >= self._next:
            self._next = now + _SPACING
            self.samples[ids[0]] = _Sample(now, source)

    def follow(self, identifier: bytes, source: PeerId, now: float) -> bool:
        """Take a new message of a peer as a sample though its time has not come; False where there are too many."""
        if len(self.samples) >= _MOST:
            return False
        self.samples[identifier] = _Sample(now, source)
        return True

    def shown(self, ids: Iterable[bytes], peer: PeerId, now: float, *, gossiped: bool = False) -> None:
        """A peer shows that it has messages; `gossiped`: by IHAVE."""
        if not self.samples or self.samples.keys().isdisjoint(ids):
            return
        for identifier in ids:
            sample = self.samples.get(identifier)
            if sample is None or peer in sample.shown:
                continue
            if sample.local:
                self.echoes.observe(now - sample.at)
                del self.samples[identifier]
            elif not gossiped:
                self.delays.observe(now - sample.at)
                sample.shown[peer] = now - sample.at

    def expire(self, now: float) -> None:
        """Forget what is old: samples lie in the order in which they began."""
        while self.samples:
            identifier, sample = next(iter(self.samples.items()))
            if now - sample.at < _KEEP:
                break
            del self.samples[identifier]
