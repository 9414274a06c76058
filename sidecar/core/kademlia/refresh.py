"""What is looked up when, to keep the buckets filled (specs kad-dht, "Bootstrap process")."""

import random
from collections import deque

from ..classes import NamedTuple
from ..parameters.kademlia import KademliaConfig
from ..types import PeerId
from .events import PeerAddresses
from .keyspace import MAX_DRAWN_PREFIX, common_prefix, place, random_key
from .table import RoutingTable

_JITTER = 0.1  # so that nodes that started together do not refresh together; a guess


class Refresh(NamedTuple):
    """A lookup that keeps the table fresh."""

    key: bytes
    via: tuple[PeerAddresses, ...] = ()
    """Whom it begins with, and then asks strangers only; empty: those known, and all it hears of."""
    max_queries: int | None = None


class RefreshSchedule:
    """Names the refreshes one by one; the router carries each out before it asks for the next.

    On joining: a lookup of our own id, which makes us known to our neighbours, then a short one for every bucket that
    has few contacts, spaced, for others who join fill some of them meanwhile. Buckets nearer than the k-th neighbour
    need none: that lookup has found all who belong there. At growing intervals a glance at the neighbours, for those
    that joined at the same moment did not see each other; and then whole lookups of our own id again, which find those
    who died. With each of these, the buckets that still have few contacts: in a network that grows fast, those whom we
    asked had not heard of anybody there either. Once the interval is `refresh_interval`, every bucket.
    """

    __slots__ = (
        "_bucket_at",
        "_buckets_due",
        "_config",
        "_glance_due",
        "_interval_over",
        "_local",
        "_own_due",
        "_pausing",
        "_place",
        "_plan",
        "_rng",
        "_step",
        "_table",
    )

    def __init__(self, config: KademliaConfig, local: PeerId, table: RoutingTable, rng: random.Random) -> None:
        self._config = config
        self._local = local
        self._place = place(local)
        self._table = table
        self._rng = rng
        self._step = 0.0
        self._own_due = self._glance_due = self._buckets_due = False
        self._plan: deque[int] = deque()  # prefixes of the buckets still to be refreshed
        self._bucket_at = 0.0  # on joining, when the next of them may be
        self._pausing = False  # until then
        self._interval_over: float | None = None  # None: nobody is in the table

    @property
    def due(self) -> float | None:
        """When there may be something to do, in monotonic seconds."""
        if self._pausing and self._interval_over is not None:
            return min(self._bucket_at, self._interval_over)
        return self._interval_over

    def begin(self) -> None:
        """Refresh now."""
        self._own_due = True
        self._buckets_due = True

    def restored(self, now: float) -> None:
        """All has just been refreshed, by a node that joined long ago."""
        self._step = self._config.refresh_interval
        self._schedule(now)

    def update(self, now: float) -> None:
        """The table may have got its first peer, or lost its last."""
        if not len(self._table):
            self._interval_over = None
        elif self._interval_over is None:
            self.begin()
            self._step = min(self._config.join_interval, self._config.refresh_interval)
            self._schedule(now)

    def handle_deadline(self, now: float) -> bool:
        """Whether the interval is over."""
        if self._interval_over is None or self._interval_over > now:
            return False
        if self._step >= self._config.refresh_interval:
            self.begin()
        elif self._step <= self._config.glance_until:
            self._glance_due = True
        else:
            self._own_due = True
        self._step = min(2 * self._step, self._config.refresh_interval)
        if self._joining and not self._plan:
            self._buckets_due = True
        self._schedule(now)
        return True

    def next(self, now: float) -> Refresh | None:
        """The next refresh; None when nothing is due."""
        self._pausing = False
        if self._own_due:
            self._own_due = self._glance_due = False
            return Refresh(bytes(self._local))
        if self._glance_due:
            self._glance_due = False
            nearest = self._table.closest(self._place, self._config.glance)
            via = tuple((contact.peer, contact.addresses) for contact in nearest)
            return Refresh(bytes(self._local), via, max_queries=2 * self._config.glance)
        if self._buckets_due:  # planned only now: the lookup of our own id has found most buckets
            self._buckets_due = False
            self._plan = deque(range(min(self._deepest(), MAX_DRAWN_PREFIX) + 1))
        self._pausing = bool(self._plan) and self._joining and now < self._bucket_at
        if self._pausing:
            return None
        fresh = self._fresh(now)
        while self._plan:
            prefix = self._plan.popleft()
            key = None if prefix in fresh else random_key(self._place, prefix, self._rng)
            if key is None:
                continue
            if not self._joining:
                return Refresh(key)
            self._bucket_at = now + self._config.refresh_pause
            return self._short(key)
        return None

    def _deepest(self) -> int:
        """The prefix of the last bucket to be refreshed."""
        if self._joining:
            nearest = self._table.closest(self._place, self._config.k)
            if len(nearest) < self._config.k:  # there are no more than these, and our own lookup has found them
                return -1
            return common_prefix(nearest[-1].place, self._place)
        return max((bucket.prefix for bucket in self._table.buckets()), default=-1)

    def _short(self, key: bytes) -> Refresh:
        """One known peer is asked, and of those whom it names as many as the bucket lacks: who answers gets a place."""
        where = place(key)
        via = tuple((contact.peer, contact.addresses) for contact in self._table.closest(where, 1))
        bucket = self._table.bucket_of(where)
        lacking = self._config.refresh_contacts - (len(bucket.entries) if bucket is not None else 0)
        return Refresh(key, via, max_queries=1 + lacking)

    @property
    def _joining(self) -> bool:
        return self._step < self._config.refresh_interval

    def _fresh(self, now: float) -> set[int]:
        """The buckets that need no refresh: a lookup went there of late; or, on joining, contacts enough are there."""
        since = now - self._config.refresh_interval / 2
        return {
            bucket.prefix
            for bucket in self._table.buckets()
            if bucket.refreshed > since or (self._joining and len(bucket.entries) >= self._config.refresh_contacts)
        }

    def _schedule(self, now: float) -> None:
        self._interval_over = now + self._step * self._rng.uniform(1 - _JITTER, 1 + _JITTER)
