"""Fairness between peers: who sends by far more than others is served in what time these leave, up to a share of it.

Anybody may publish as fast as a node takes messages in, and nobody can tell an eager app from a flood. So nothing is
refused, and a peer that sends alone is never held up. Only while others send a little, who sends much is `heavy`: its
RPCs are served a few messages at a time, none of them ahead of the others' signatures, and after each few it rests for
as long as that took, or longer. What it has sent meanwhile waits, is read no further, and TCP slows it. So what it
makes this node relay is bounded as well.

How long serving took is the time until the driver calls again: it is asked to do so at once. On virtual time that is
no time, and nobody rests.
"""

from ..parameters.gossip import GossipConfig

_EASY = 1000.0  # units a second that make nobody heavy; a guess: some 5 % of what a core takes
_BURST = 128.0  # units at once, likewise
_RECENT = 2.0  # seconds for which somebody who sent a little counts; a guess
_LONGEST = 0.05  # seconds that one turn can have taken; what is more was something else: the machine slept
UNIT = 65_536
"""Bytes of messages that count as much as another message; a guess."""
QUANTUM = 16
"""Units of a heavy peer that are served at once, at least one message: some 1 ms."""


class Load:
    """How much of a peer was served of late, in units: messages, and 64 KiB of them."""

    __slots__ = ("_at", "_level")

    def __init__(self) -> None:
        self._level = 0.0
        self._at = 0.0

    def add(self, units: float, now: float) -> None:
        """So much was served."""
        self._level = min(2 * _BURST, self.level(now) + units)
        self._at = now

    def level(self, now: float) -> float:
        """What is left of it."""
        return max(0.0, self._level - (now - self._at) * _EASY)

    def much(self, now: float) -> bool:
        """Whether it is more than makes nobody heavy."""
        return self._level > _BURST and self.level(now) > _BURST


class Pacing:
    """Who is heavy, and until when the heavy ones rest."""

    def __init__(self, config: GossipConfig, now: float) -> None:
        self._rest = 1.0 / config.flood_share - 1.0 if config.flood_share < 1.0 else 0.0
        # Who sent something new while it was not sending much: the last one, and the last one before it.
        self._light: object = None
        self._light_at = -_RECENT
        self._lighter_at = -_RECENT
        self._resting_until = now
        self._since: float | None = None  # when the turn began whose time is to be measured
        self._worked = False
        self.rests = 0
        """How many times heavy peers had to wait."""

    def brought(self, source: object, load: Load, now: float) -> None:
        """Somebody, a peer or this node's apps, sent messages that are new."""
        if load.much(now):
            return
        if source is not self._light:
            self._light, self._lighter_at = source, self._light_at
        self._light_at = now

    def heavy(self, source: object, load: Load, now: float) -> bool:
        """Whether a peer sends by far more than others who send."""
        return load.much(now) and self.beside(source, now)

    def beside(self, source: object, now: float) -> bool:
        """Whether others than this peer have sent a little of late."""
        if not self._rest:
            return False
        at = self._lighter_at if source is self._light else self._light_at
        return now - at < _RECENT

    def worked(self) -> None:
        """In this turn a heavy peer's messages were served."""
        self._worked = True

    def resting(self, now: float) -> bool:
        """Whether heavy peers are not to be served yet."""
        return self._worked or self._since is not None or now < self._resting_until

    @property
    def resting_until(self) -> float:
        """When heavy peers may be served again, as far as that is known."""
        return self._resting_until

    @property
    def measuring(self) -> bool:
        """Whether the driver should call at once, so that what a turn took is known."""
        return self._since is not None

    def begin_turn(self, now: float) -> None:
        """A turn begins: what the last one took is known."""
        if self._since is not None:
            took = min(_LONGEST, max(0.0, now - self._since))
            self._since = None
            self._resting_until = max(now, self._resting_until) + took * self._rest
            self.rests += took > 0

    def end_turn(self, now: float) -> None:
        """A turn ends, which began at `now`."""
        if self._worked:
            self._worked = False
            self._since = now
