"""Replays: signed messages whose ids are forgotten, sent again.

The cache of seen ids holds what came in the last minutes. For what is older the sequence numbers speak. Where an author
counts upwards from its clock, as sidecars, go-libp2p and rust-libp2p do, a message that is not in the cache, with a
number that is no greater than one that has left the cache, is either a replay or later than the cache remembers. Such
messages are left out; nothing is asked of the order of messages within that time.

Numbers that cannot come from a clock say that their author counts otherwise (js-libp2p draws them at random): its
messages are not judged. Nobody else can bring that about, since the author has signed them. Nor are messages judged
that their author itself sends, so that one whose clock was set back gets through to those that it is connected to.

What goes beyond that, and what a node that has just started cannot know, is for rules: `SeqnoDistance`.
"""

from collections.abc import Iterable

from ..types import PeerId

_PAST, _FUTURE = 20 * 365 * 86_400, 7 * 86_400  # seconds that clocks may be behind and ahead of this one; a guess
_NUMBERS = 1 << 64


class ReplayGuard:
    """The greatest numbers of authors that have left the cache of seen ids.

    `start`: what this node's own numbers begin with, nanoseconds of its wall clock. `most`: authors that are kept; who
    was heard least recently is forgotten, and can be replayed once more.
    """

    __slots__ = ("_before", "_began", "_current", "_floor", "_high", "_low", "_most", "_start", "_unordered")

    def __init__(self, start: int, now: float, most: int) -> None:
        self._start = start
        self._began = now
        self._most = most
        # Greatest numbers by author: of ids in the newer and the older half of the cache, and of forgotten ones.
        self._current: dict[bytes, bytes] = {}
        self._before: dict[bytes, bytes] = {}
        self._floor: dict[bytes, bytes] = {}
        self._unordered: dict[bytes, None] = {}  # authors whose numbers are not their clocks'
        self._look_at_clock(now)

    def __len__(self) -> int:
        """How many authors are known, those heard in both halves of the cache twice."""
        return len(self._current) + len(self._before) + len(self._floor) + len(self._unordered)

    def stale(self, author: bytes, seqno: bytes, source: PeerId) -> bool:
        """Whether a message that is not in the cache is older than the cache; `source`: the peer that sent it here."""
        floor = self._floor.get(author)
        return floor is not None and seqno <= floor and author != source and author not in self._unordered

    def entered(self, authors: Iterable[PeerId], seqnos: Iterable[bytes], source: PeerId | None) -> None:
        """Messages with these numbers have been verified, and entered into the cache; no `source`: from history."""
        current = self._current
        for author, seqno in zip(authors, seqnos, strict=True):
            known = current.get(author, b"")
            if seqno > known:
                if not self._low <= seqno <= self._high:
                    self._remember_unordered(author)
                    continue
                if not known and len(current) >= self._most:
                    del current[next(iter(current))]
                current[author] = seqno
            elif seqno < self._low:
                self._remember_unordered(author)
            if author == source and seqno <= self._floor.get(author, b""):  # it has begun to count anew
                del self._floor[author]
                self._before.pop(author, None)
                current[author] = seqno

    def rotate(self, now: float) -> None:
        """The older half of the cache is forgotten, and the newer one is the older one now."""
        floor = self._floor
        for author, seqno in self._before.items():
            greatest = max(seqno, floor.pop(author, b""))
            floor[author] = greatest  # behind those that were not heard of late
        while len(floor) > self._most:
            del floor[next(iter(floor))]
        self._before, self._current = self._current, {}
        self._look_at_clock(now)

    def _remember_unordered(self, author: bytes) -> None:
        if author not in self._unordered and len(self._unordered) >= self._most:
            del self._unordered[next(iter(self._unordered))]
        self._unordered[bytes(author)] = None

    def _look_at_clock(self, now: float) -> None:
        here = self._start + int((now - self._began) * 1e9)
        low, high = here - _PAST * 10**9, here + _FUTURE * 10**9
        self._low, self._high = (min(max(0, each), _NUMBERS - 1).to_bytes(8, "big") for each in (low, high))
