"""Telling peers that there is something to get here, and heeding those who say so: each not too often."""

from math import inf

from ..parameters.history import MAX_NUDGED
from ..types import PeerId
from .asking import NudgingSession
from .shared import BackfillShared

_NEEDLESS = 4.0  # points of work for a nudge that comes too soon, some 20 us
_MAX_PEERS = 4096  # whose last nudge is remembered; a guess


class Nudges:
    """What peers are to be told, and when they last were, or said something."""

    def __init__(self, shared: BackfillShared) -> None:
        self._shared = shared
        self._waiting: dict[PeerId, dict[str, None]] = {}  # topics that a peer is told of in a moment
        self._told: dict[PeerId, float] = {}
        self._heard: dict[PeerId, float] = {}

    def tell(self, peer: PeerId, topic: str) -> None:
        """Tell a peer that this node has got something of a topic: now, or with what else it is told in a moment."""
        waiting = self._waiting.get(peer)
        if waiting is not None:
            if len(waiting) < MAX_NUDGED:
                waiting[topic] = None
            return
        now = self._shared.now
        self._waiting[peer] = {topic: None}
        due = self._told.get(peer, now - self._shared.config.nudge_interval) + self._shared.config.nudge_interval
        self._shared.deadlines.at(max(now, due), lambda now: self._send(peer))

    def _send(self, peer: PeerId) -> None:
        topics = self._waiting.pop(peer, None)
        if topics:
            _note(self._told, peer, self._shared.now)
            NudgingSession(self._shared, peer, list(topics))

    def heed(self, peer: PeerId) -> bool:
        """Whether to do what a peer's nudge asks for."""
        now, counts = self._shared.now, self._shared.counts
        counts.nudges_received += 1
        # Half of it is forgiven: nudges that were sent in time may come closer to each other.
        interval = self._shared.config.nudge_interval / 2 * 2.0 ** self._shared.vain.get(peer, 0)
        if now < self._heard.get(peer, -inf) + interval:
            counts.nudges_ignored += 1
            self._shared.charge(peer, _NEEDLESS)
            return False
        _note(self._heard, peer, now)
        return True

    def gone(self, peer: PeerId) -> None:
        """It need not be told any more."""
        self._waiting.pop(peer, None)


def _note(times: dict[PeerId, float], peer: PeerId, now: float) -> None:
    """Remember a time; of too many the oldest is forgotten."""
    times.pop(peer, None)
    times[peer] = now
    if len(times) > _MAX_PEERS:
        del times[next(iter(times))]
