"""When a topic's peers are asked, and which of them; what of it is known to be complete."""

from collections.abc import Callable, Iterable
from math import inf

from ..classes import NamedTuple
from ..deadlines import Deadline
from ..types import PeerId
from .asking import AskingSession, Bring, End, SessionOutcome
from .shared import BackfillShared

_HEDGE = 5.0  # seconds of a session until another peer is asked beside it: the first may be slow, or want to be
_AT_ONCE = 3  # sessions of one topic
_CALLS = 8  # peers that called and wait to be asked
_MOST_BACKOFF = 10  # doublings
_WITNESSES = 2  # peers that have to agree, unless there are fewer


class Aside(NamedTuple):
    """A peer that is not asked for a while."""

    until: float
    times: int


class Asides:
    """Peers that lied, broke the protocol or were idle: for a while nobody is asked twice."""

    def __init__(self, shared: BackfillShared) -> None:
        self._shared = shared
        self._peers: dict[PeerId, Aside] = {}

    def put(self, peer: PeerId) -> None:
        """Leave a peer alone; longer each time."""
        config, now = self._shared.config, self._shared.now
        last = self._peers.pop(peer, None)
        times = last.times + 1 if last is not None else 0
        pause = min(config.aside_most, config.aside_least * 2.0 ** min(times, 30))
        self._peers[peer] = Aside(now + pause, times)
        while len(self._peers) > _MOST_ASIDE:
            del self._peers[next(iter(self._peers))]

    def until(self, peer: PeerId) -> float:
        """Until when it is left alone; a time that has passed, if it is not."""
        aside = self._peers.get(peer)
        return aside.until if aside is not None else -inf

    def forgive(self, peer: PeerId) -> None:
        """It has brought something."""
        self._peers.pop(peer, None)


_MOST_ASIDE = 4096  # a guess


class _Agreement(NamedTuple):
    since: float  # how far back a peer has nothing that is missing here
    until: float  # and up to when


class _Walk(NamedTuple):
    """More than one session compares was to be compared with a peer: the next one is about what is older."""

    boundary: float  # monotonic seconds
    began: float
    clean: bool  # nothing was missing so far


class TopicBackfill:
    """One topic with history: its peers, its sessions, and what they have shown."""

    def __init__(
        self, shared: BackfillShared, asides: Asides, name: str, places: "SessionPlaces", brought: "Brought"
    ) -> None:
        """`places`: in which all topics' sessions are. `brought`: a session with a peer has brought something."""
        self.name = name
        self.peers: dict[PeerId, None] = {}
        self.sessions: dict[PeerId, AskingSession] = {}
        self.complete_since: float | None = None  # monotonic seconds
        self.complete_until: float | None = None
        self._shared = shared
        self._asides = asides
        self._places = places
        self._brought = brought
        self._calls: dict[PeerId, None] = {}  # peers that say that they have something
        self._called: dict[PeerId, None] = {}  # who called, and is asked now
        self._newcomers: dict[PeerId, None] = {}
        # Until when a session with a newcomer lets be what was said just before it came, which gossip does not bring.
        self._settling: dict[PeerId, float] = {}
        self._walks: dict[PeerId, _Walk] = {}
        self._strangers: dict[PeerId, float] = {}  # where the topic has no history, and until when that is believed
        self._later: dict[PeerId, float] = {}  # peers that refused: when they may be asked again
        self._agreed: dict[PeerId, _Agreement] = {}  # since the last time that anything was missing
        self._unsettled = 0  # sessions in a row without anything missing, which were not enough to know that it is all
        self._troubles = 0  # sessions in a row after which another one is due soon
        self._due = inf
        self._timer: Deadline | None = None
        self._left = False

    # ------------------------------------------------------------ peers

    def came(self, peer: PeerId) -> None:
        """A peer is in the topic."""
        if peer in self.peers:
            return
        self.peers[peer] = None
        if len(self._newcomers) < self._shared.config.newcomers:
            self._newcomers[peer] = None
            self._settling[peer] = self._shared.now + self._shared.config.settle
            self._call_at(self._shared.now + self._shared.rng.uniform(0, self._shared.config.jitter))

    def gone(self, peer: PeerId) -> None:
        """It is not in it any more."""
        if peer not in self.peers:
            return
        del self.peers[peer]
        for table in (
            self._calls, self._newcomers, self._settling, self._walks, self._later, self._strangers, self._agreed,
        ):  # fmt: skip
            table.pop(peer, None)
        session = self.sessions.get(peer)
        if session is not None:
            session.end()

    def called(self, peer: PeerId) -> None:
        """A peer says that it has what this node may lack."""
        if peer not in self.peers or self._asides.until(peer) > self._shared.now:
            return
        if len(self._calls) < _CALLS or peer in self._calls:
            self._calls[peer] = None
            self._call_at(self._shared.now + self._shared.rng.uniform(0, self._shared.config.jitter / 3))

    def leave(self) -> None:
        """The topic is left."""
        self._left = True
        if self._timer is not None:
            self._timer.cancel()
        self._places.leave(self)
        for session in list(self.sessions.values()):
            session.end()

    def eligible(self) -> list[PeerId]:
        """Peers that may be asked at all."""
        now, strangers = self._shared.now, self._strangers
        return [peer for peer in self.peers if strangers.get(peer, now) <= now and self._shared.eligible(peer)]

    @property
    def _needed(self) -> int:
        """How many peers have to agree: who is left alone for its lies has no say."""
        now = self._shared.now
        return max(1, min(_WITNESSES, sum(self._asides.until(peer) <= now for peer in self.eligible())))

    # ------------------------------------------------------------ when

    def _call_at(self, when: float) -> None:
        """Begin a session at this time at the latest."""
        if when >= self._due or self._left:
            return
        self._due = when
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._shared.deadlines.at(when, self._look)

    def _look(self, now: float) -> None:
        self._timer, self._due = None, inf
        self.begin()

    def begin(self) -> None:
        """Begin a session, if there is a peer for it and a place."""
        now = self._shared.now
        if self._left or len(self.sessions) >= _AT_ONCE:
            return
        if self.sessions and now < (soonest := max(each.began for each in self.sessions.values()) + _HEDGE):
            self._call_at(soonest)
            return
        peer, again = self._choose()
        if peer is None:
            self._call_at(min(again, now + self._shared.config.recheck))
            return
        if not self._places.take(self):
            return  # it is called when there is one
        if peer in self._calls:
            del self._calls[peer]
            self._called[peer] = None
        self._newcomers.pop(peer, None)
        self._later.pop(peer, None)
        newest = self._shared.config.settle
        walk = self._walks.get(peer)
        if walk is not None:
            newest = max(newest, now - walk.boundary)
        session = AskingSession(self._shared, peer, self.name, newest, self._brought.bring, self._over)
        self.sessions[peer] = session
        self._call_at(now + _HEDGE)

    def _choose(self) -> tuple[PeerId | None, float]:
        """Whom to ask now; where it is nobody, when there will be somebody."""
        now = self._shared.now
        wanted = [peer for peer in self._wanted() if self._from(peer) <= now and self._shared.eligible(peer)]
        if wanted:  # not the first: who calls again and again would be asked alone
            return self._shared.rng.choice(wanted), now
        others = {peer: self._from(peer) for peer in self.eligible() if peer not in self.sessions}
        able = [peer for peer, when in others.items() if when <= now]
        if not able:
            return None, min(others.values(), default=inf)
        strangers = [peer for peer in able if peer not in self._agreed]
        return self._shared.rng.choice(strangers or able), now

    def _wanted(self) -> list[PeerId]:
        """Peers that there is a reason to ask."""
        wanted = self._calls | self._newcomers | dict.fromkeys(self._walks)
        return [peer for peer in wanted if peer not in self.sessions]

    def _from(self, peer: PeerId) -> float:
        """From when on a peer may be asked."""
        return max(self._asides.until(peer), self._later.get(peer, -inf))

    # ------------------------------------------------------------ what came of a session

    def _over(self, outcome: SessionOutcome) -> None:
        peer = outcome.peer
        self.sessions.pop(peer, None)
        self._places.free(self)
        if self._left:
            return
        now, config = self._shared.now, self._shared.config
        walk = self._walks.pop(peer, None)
        if outcome.end is End.VIOLATED or outcome.idle:
            self._asides.put(peer)
        elif outcome.brought:
            self._asides.forgive(peer)
        if peer in self._called:
            del self._called[peer]
            self._shared.call_over(peer, vain=not outcome.brought)
        if outcome.brought:
            self._agreed.clear()
            self._unsettled = 0
            self._brought.tell(self.name, peer)
        if outcome.end is End.REFUSED and peer in self.peers:
            self._later[peer] = now + min(config.recheck, max(outcome.retry_after, 0.1))
            if outcome.stranger:
                self._strangers[peer] = self._later[peer]
            self._calls[peer] = None  # it is asked then
            if walk is not None:
                self._walks[peer] = walk
        elif outcome.end in (End.AGREED, End.BROUGHT):
            began = walk.began if walk is not None else outcome.began
            clean = outcome.end is End.AGREED and outcome.witness and (walk is None or walk.clean)
            boundary = outcome.began - outcome.oldest
            if outcome.more and not self._covers(boundary, clean=clean):
                if peer in self.peers:
                    self._walks[peer] = _Walk(boundary, began, clean)
            elif clean and peer in self.peers:
                self._agree(peer, _Agreement(boundary, began - config.settle))
            if outcome.began < self._settling.get(peer, -inf):
                self._newcomers[peer] = None  # once more, for what was said just before it came
                self._later[peer] = self._settling[peer] + self._shared.rng.uniform(0, config.jitter / 3)
            else:
                self._settling.pop(peer, None)
        if peer not in self._walks and outcome.end not in (End.AGREED, End.REFUSED):
            self._troubles += 1  # a walk counts once
        self._plan(outcome)

    def _covers(self, boundary: float, *, clean: bool) -> bool:
        """Whether what is older was found complete before, and nothing was missing of what is newer."""
        since = self.complete_since
        return clean and since is not None and since < boundary and not self._troubles

    def _plan(self, outcome: SessionOutcome) -> None:
        """When the next session is due."""
        now, config, rng = self._shared.now, self._shared.config, self._shared.rng
        if self._timer is not None:
            self._timer.cancel()
        self._timer, self._due = None, inf
        if self.sessions:
            hedge = max(session.began for session in self.sessions.values()) + _HEDGE
            if hedge > now:  # else the one that is over was beside it already
                self._call_at(hedge)
        for peer in self._wanted():
            self._call_at(max(self._from(peer), now + rng.uniform(0, config.jitter / 3)))
        if outcome.end is End.REFUSED:
            self._call_at(now + rng.uniform(0, config.jitter))
        elif outcome.brought or outcome.end is not End.AGREED:
            doubled = config.retry_least * 2.0 ** min(self._troubles - 1, _MOST_BACKOFF)
            self._call_at(now + min(config.recheck, doubled) * rng.uniform(0.8, 1.2))
        elif len(self._agreed) < self._needed:
            # Soon: but who has agreed may be all that can be asked now, or may have no say.
            self._unsettled += 1
            doubled = config.jitter * 2.0 ** min(self._unsettled, 2 * _MOST_BACKOFF)
            self._call_at(now + min(config.recheck, doubled) * rng.uniform(0.8, 1.2))
        else:
            self._call_at(now + config.recheck * rng.uniform(0.9, 1.1))

    def _agree(self, peer: PeerId, agreement: _Agreement) -> None:
        """A peer has nothing that this node lacks."""
        self._agreed.pop(peer, None)
        self._agreed[peer] = agreement
        needed = self._needed
        if len(self._agreed) < needed:
            return
        self._troubles = self._unsettled = 0
        while len(self._agreed) > _WITNESSES:
            del self._agreed[next(iter(self._agreed))]
        last = list(self._agreed.values())[-needed:]
        since, until = max(each.since for each in last), min(each.until for each in last)
        known, before = self.complete_until, self.complete_since
        if known is not None and before is not None and known >= since:
            since, until = min(since, before), max(until, known)
        self.complete_since, self.complete_until = since, until

    def found(self, ages: Iterable[float]) -> None:
        """Messages of these ages were missing: what was thought complete is so only up to the oldest of them."""
        since, until = self.complete_since, self.complete_until
        if since is not None and until is not None:
            times = (self._shared.now - age for age in ages)
            self.complete_until = min((at for at in times if since < at < until), default=until)


class SessionPlaces:
    """The sessions that this node has with others, of all topics: so many at most, and topics wait their turn."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._free = most
        self._waiting: dict[TopicBackfill, None] = {}

    @property
    def taken(self) -> int:
        """How many there are."""
        return self._most - self._free

    def take(self, topic: TopicBackfill) -> bool:
        """A place; where there is none the topic is called when there is."""
        if not self._free:
            self._waiting[topic] = None
            return False
        self._free -= 1
        self._waiting.pop(topic, None)
        return True

    def free(self, topic: TopicBackfill) -> None:
        """A session is over."""
        self._free += 1
        for waiting in list(self._waiting):
            if self._free:
                self._waiting.pop(waiting, None)
                waiting.begin()

    def leave(self, topic: TopicBackfill) -> None:
        """It is not called any more."""
        self._waiting.pop(topic, None)


class Brought(NamedTuple):
    """Who is told what sessions bring."""

    bring: Bring
    tell: Callable[[str, PeerId], None]
