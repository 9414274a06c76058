"""What a node that uses relays thinks of them: points for what each did, which fade."""

import enum
import math

from ..errors import (
    Closed,
    DeadlineExceeded,
    DialTimeout,
    HandshakeTimeout,
    ProtocolError,
    SidecarError,
    WrongPeer,
    WrongPrivateNetwork,
)
from ..types import PeerId

# All guesses: a relay that gave a place and carries connections is worth some refusals, and one that lied nothing.
GRANTED = 1.0  # a place, or its renewal
KEPT = 1.0  # an hour that a place was held
CARRIED = 0.5  # a connection that came in through it and was what it said
REFUSED = -1.0  # full, or not willing
SILENT = -2.0  # not reached, or no answer
LOST = -2.0  # a place that ended before its time
_MOST = 10.0
_TRUSTED = -5.0  # below it a relay is not asked for a place, unless it is configured
_HALF_LIFE = 6 * 3600.0  # seconds
_LATENCY = 2.0  # points that a second of round trip costs
_SLOWEST = 2.0  # seconds; beyond it is all the same
_BLAMED = 3600.0  # seconds in which one peer behind a relay counts against it once: that peer may be the one at fault
_DROP_AGAIN = 60.0  # seconds in which circuits that were dropped count once: all of them go with one connection
_MAX_BLAMED = 16  # peers behind one relay that are remembered; a guess


class CircuitFault(enum.StrEnum):
    """What may be wrong with a circuit that this node asked a relay for."""

    OTHER_PEER = "other_peer"
    """Somebody else than who was asked for is at its far end."""
    SILENT = "silent"
    """Nothing comes through, or the relay does not even answer."""
    GARBLED = "garbled"
    """What comes breaks the protocol."""
    DROPPED = "dropped"
    """It is cut within seconds."""

    @classmethod
    def of(cls, error: SidecarError | None, ended: bool) -> "CircuitFault | None":
        """What an error on the way to a connection over it shows; None where that says nothing of the relay.

        `ended`: the stream had come to its end from the other side.
        """
        if isinstance(error, WrongPeer):
            return cls.OTHER_PEER
        if isinstance(error, DialTimeout | HandshakeTimeout | DeadlineExceeded):
            return cls.SILENT
        if isinstance(error, ProtocolError):
            return None if isinstance(error, WrongPrivateNetwork) else cls.GARBLED
        return cls.DROPPED if ended and (error is None or isinstance(error, Closed)) else None


# Guesses: whoever is behind the relay can do all of this as well, so it takes several peers behind it for a verdict.
_COSTS = {
    CircuitFault.OTHER_PEER: -3.0,
    CircuitFault.SILENT: -2.0,
    CircuitFault.GARBLED: -2.0,
    CircuitFault.DROPPED: -1.0,
}


class RelayStanding:
    """Points from -10 to 10, halved every six hours; a stranger has 0. Times are monotonic seconds.

    Bounded, so that neither a long good life pays for a lie, nor one bad hour is held against a relay for ever.
    """

    __slots__ = ("_at", "_blamed", "_dropped_at", "_points")

    def __init__(self) -> None:
        self._points = 0.0
        self._at = 0.0
        self._blamed: dict[PeerId, float] = {}  # peers behind it whose circuits failed, and when, in this order
        self._dropped_at = -_DROP_AGAIN

    def points(self, now: float) -> float:
        """What is left of them now."""
        return self._points * math.exp2(-max(0.0, now - self._at) / _HALF_LIFE)

    def add(self, points: float, now: float) -> None:
        """Something happened that is worth so much."""
        self._points = max(-_MOST, min(_MOST, self.points(now) + points))
        self._at = now

    def lied(self, now: float) -> None:
        """It broke the protocol, or showed what is not true: whatever it has done before is worth nothing."""
        self._points, self._at = -_MOST, now

    def blame(self, fault: CircuitFault, behind: PeerId, now: float) -> None:
        """A circuit to that peer was at fault: counts once an hour for each peer."""
        counts = not self.blamed(behind, now)
        self._blamed.pop(behind, None)
        self._blamed[behind] = now
        if len(self._blamed) > _MAX_BLAMED:
            del self._blamed[next(iter(self._blamed))]
        if fault is CircuitFault.DROPPED:
            counts = counts and now - self._dropped_at >= _DROP_AGAIN
            self._dropped_at = now
        if counts:
            self.add(_COSTS[fault], now)

    def blamed(self, behind: PeerId, now: float) -> bool:
        """Whether a circuit to that peer was at fault within the last hour."""
        at = self._blamed.get(behind)
        return at is not None and now - at < _BLAMED

    def trusted(self, now: float) -> bool:
        """Whether to ask it for a place, or for a circuit where another one may have it."""
        return self.points(now) > _TRUSTED

    def worth(self, now: float, latency: float | None) -> float:
        """By what to choose among relays, the greatest first; `latency`: seconds of a round trip, where it is known."""
        return self.points(now) - _LATENCY * min(_SLOWEST, 0.0 if latency is None else latency)


class RelayStandings:
    """The standings of at most `most` relays; those that say least make room."""

    __slots__ = ("_most", "_standings")

    def __init__(self, most: int = 256) -> None:
        self._most = most
        self._standings: dict[PeerId, RelayStanding] = {}

    def __len__(self) -> int:
        return len(self._standings)

    def of(self, relay: PeerId, now: float) -> RelayStanding:
        """That of a relay, which is kept from now on."""
        found = self._standings.get(relay)
        if found is None:
            if len(self._standings) >= self._most:
                del self._standings[min(self._standings, key=lambda one: abs(self._standings[one].points(now)))]
            found = self._standings[relay] = RelayStanding()
        return found

    def known(self, relay: PeerId) -> RelayStanding | None:
        """That of a relay, where anything is kept of it."""
        return self._standings.get(relay)
