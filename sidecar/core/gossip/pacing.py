"""Fairness between peers: who sends by far more than others is served in what time these leave, up to a share of it.

Anybody may publish as fast as a node takes messages in, and nobody can tell an eager app from a flood. So nothing is
refused, and a peer that sends alone is never held up. Only while others send a little, who sends much is `heavy`: its
RPCs are served a few messages at a time, none of them ahead of the others' signatures, and after each few it rests for
as long as that took, or longer. What it has sent meanwhile waits, is read no further, and TCP slows it. So what it
makes this node relay is bounded as well.

How long serving took is the time until the driver calls again: it is asked to do so at once. On virtual time that is
no time, and nobody rests.

A share of this process is no bound where others want the same processors: apps, or more nodes on one machine. So the
core sees how late it is called when a rest is over. While that is late, the share is halved, and what makes a peer
heavy with it; while it is not, both come back little by little. That is only for peers that bring nothing but a flood:
what another one brings of others would have to wait on its stream, behind the part of the flood that it relays.
"""

from collections.abc import Sequence

from ..parameters.gossip import GossipConfig
from ..types import PeerId

_EASY = 1000.0  # units a second that make nobody heavy; a guess: some 5 % of what a core takes
_BURST = 128.0  # units at once, likewise
_RECENT = 2.0  # seconds for which somebody who sent a little counts; a guess
_LONGEST = 0.05  # seconds that one turn can have taken; what is more was something else: the machine slept
_BESIDE = 5.0  # seconds for which a message of another author shows that a peer brings more than a flood; a guess
_MAX_AUTHORS = 1024  # that are told apart in what heavy peers bring; a guess
_LATE = 0.003  # seconds behind a rest's end that show that others want the processor; timers are up to 1 ms late
_LEAST = 0.1  # of the share, and of what makes nobody heavy, that is left however late; a guess
_REGAINED = 1.03  # times what is left that there is after a rest that was not late; a guess
UNIT = 16_384
"""Bytes of messages that count as much as another message: as decrypting, hashing and passing them on cost."""
QUANTUM = 16
"""Units of a heavy peer that are served at once, at least one message: some 1 ms."""


class Load:
    """How much of a peer was served of late, in units: messages, and 64 KiB of them."""

    __slots__ = ("_at", "_level")

    def __init__(self) -> None:
        self._level = 0.0
        self._at = 0.0

    def add(self, units: float, now: float, ease: float = 1.0) -> None:
        """So much was served; `ease`: of `Pacing`."""
        self._level = min(2 * _BURST, self.level(now, ease) + units)
        self._at = now

    def level(self, now: float, ease: float = 1.0) -> float:
        """What is left of it."""
        return max(0.0, self._level - (now - self._at) * _EASY * ease)

    def much(self, now: float, ease: float = 1.0) -> bool:
        """Whether it is more than makes nobody heavy."""
        return self._level > _BURST and self.level(now, ease) > _BURST


class FloodRecord:
    """Of what a heavy peer brings: whose flood it is, and what comes beside it, of authors that say little."""

    __slots__ = ("aside", "author", "other", "other_at")

    def __init__(self) -> None:
        self.aside = Load()
        self.author: PeerId | None = None
        self.other: PeerId | None = None  # one of these authors, the last
        self.other_at = 0.0

    def alone(self, now: float) -> bool:
        """Whether the peer brings nothing but a flood."""
        return self.author is not None and (self.other is None or now - self.other_at > _BESIDE)


class Pacing:
    """Who is heavy, and until when the heavy ones rest."""

    def __init__(self, config: GossipConfig, now: float) -> None:
        self._share = config.flood_share
        self.ease = 1.0
        """How much of the share, and of what makes nobody heavy, there is for floods, since rests ended late."""
        # Who sent something new while it was not sending much: the last one, and the last one before it.
        self._light: object = None
        self._light_at = -_RECENT
        self._lighter_at = -_RECENT
        self._resting_until = now
        self._alone_until = now  # the same of those that bring nothing but a flood: not earlier
        self._since: float | None = None  # when the turn began whose time is to be measured
        self._worked = self._worked_alone = False
        self._authors: dict[PeerId, Load] = {}  # of messages that heavy peers brought
        self.rests = 0
        """How many times heavy peers had to wait."""

    def brought(self, source: object, load: Load, now: float, ease: float = 1.0) -> None:
        """Somebody, a peer or this node's apps, sent messages that are new."""
        if load.much(now, ease):
            return
        if source is not self._light:
            self._light, self._lighter_at = source, self._light_at
        self._light_at = now

    def heavy(self, source: object, load: Load, now: float, ease: float = 1.0) -> bool:
        """Whether a peer sends by far more than others who send."""
        return load.much(now, ease) and self.beside(source, now)

    def beside(self, source: object, now: float) -> bool:
        """Whether others than this peer have sent a little of late."""
        if self._share >= 1.0:
            return False
        at = self._lighter_at if source is self._light else self._light_at
        return now - at < _RECENT

    def behind(self, flood: FloodRecord, author: PeerId, raws: Sequence[bytes], now: float) -> bool:
        """Whether an author's messages that a heavy peer brought go on behind all others.

        Not those of an author that says little: the peer may do its duty. But so do few of them, whoever they are by,
        for anybody can make authors up: that is what `FloodRecord.aside` is for.
        """
        load = self._authors.get(author)
        if load is None:
            if len(self._authors) >= _MAX_AUTHORS:
                del self._authors[next(iter(self._authors))]
            load = self._authors[author] = Load()
        units = len(raws) + sum(map(len, raws)) / UNIT
        ease = self.ease if flood.alone(now) else 1.0
        load.add(units, now, ease)
        if load.much(now, ease):
            flood.author = author
            if flood.other == author:  # it said little until now
                flood.other = None
            return True
        if author != flood.author:
            flood.other, flood.other_at = author, now
        flood.aside.add(units, now, 1.0)
        return self.exhausted(flood, now)

    def exhausted(self, flood: FloodRecord, now: float) -> bool:
        """Whether a heavy peer has brought so much of authors that say little that it is no little any more."""
        return flood.aside.much(now, 1.0)

    def worked(self, *, alone: bool = False) -> None:
        """In this turn a heavy peer's messages were served; `alone`: one that brings nothing but a flood."""
        self._worked = True
        self._worked_alone = self._worked_alone or alone

    def resting(self, now: float, *, alone: bool = False) -> bool:
        """Whether heavy peers, or those that bring nothing but a flood, are not to be served yet."""
        return self._worked or self._since is not None or now < self.resting_until(alone=alone)

    def resting_until(self, *, alone: bool = False) -> float:
        """When they may be served again, as far as that is known."""
        return max(self._resting_until, self._alone_until) if alone else self._resting_until

    @property
    def measuring(self) -> bool:
        """Whether the driver should call at once, so that what a turn took is known."""
        return self._since is not None

    def begin_turn(self, now: float) -> None:
        """A turn begins: what the last one took is known."""
        if self._since is not None:
            took = min(_LONGEST, max(0.0, now - self._since))
            self._since = None
            begin = max(now, self._resting_until)
            self._resting_until = begin + took * (1.0 / self._share - 1.0)
            if self._worked_alone:
                self._worked_alone = False
                self._alone_until = max(begin, self._alone_until) + took * (1.0 / (self._share * self.ease) - 1.0)
            self.rests += took > 0

    def rested(self, now: float) -> None:
        """Peers that bring nothing but a flood are to be served again, and this is known at `now`: perhaps late."""
        if now - self.resting_until(alone=True) > _LATE:
            self.ease = max(_LEAST, self.ease / 2)
        else:
            self.ease = min(1.0, self.ease * _REGAINED)

    def end_turn(self, now: float) -> None:
        """A turn ends, which began at `now`."""
        if self._worked:
            self._worked = False
            self._since = now
