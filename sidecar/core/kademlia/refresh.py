"""What is looked up when, to keep the buckets filled (specs kad-dht, "Bootstrap process")."""

import random
from collections import deque
from typing import NamedTuple

from ..parameters.kademlia import KademliaConfig
from ..types import PeerId
from .events import PeerAddresses
from .keyspace import MAX_DRAWN_PREFIX, place, random_key
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
    has few contacts. After that, at growing intervals, a glance at the neighbours, for those that joined at the same
    moment did not see each other; and then whole lookups of our own id again, which find those who died. Once the
    interval is `refresh_interval`, every bucket too.
    """

    __slots__ = (
        "_buckets_due",
        "_config",
        "_glance_due",
        "_local",
        "_own_due",
        "_place",
        "_plan",
        "_rng",
        "_step",
        "_table",
        "due",
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
        self.due: float | None = None

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
            self.due = None
        elif self.due is None:
            self.begin()
            self._step = min(self._config.join_interval, self._config.refresh_interval)
            self._schedule(now)

    def handle_deadline(self, now: float) -> bool:
        """Whether the interval is over."""
        if self.due is None or self.due > now:
            return False
        if self._step >= self._config.refresh_interval:
            self.begin()
        elif self._step <= self._config.glance_until:
            self._glance_due = True
        else:
            self._own_due = True
        self._step = min(2 * self._step, self._config.refresh_interval)
        self._schedule(now)
        return True

    def next(self, now: float) -> Refresh | None:
        """The next refresh; None when nothing is due."""
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
            deepest = max((bucket.prefix for bucket in self._table.buckets()), default=-1)
            self._plan = deque(range(min(deepest, MAX_DRAWN_PREFIX) + 1))
        if not self._plan:
            return None
        fresh = self._fresh(now)
        while self._plan:
            prefix = self._plan.popleft()
            key = None if prefix in fresh else random_key(self._place, prefix, self._rng)
            if key is not None:
                return Refresh(key, max_queries=self._config.refresh_queries if self._joining else None)
        return None

    @property
    def _joining(self) -> bool:
        return self._step < self._config.refresh_interval

    def _fresh(self, now: float) -> set[int]:
        """The buckets that need no refresh: a lookup went there of late; or, on joining, contacts enough are there."""
        since = now - self._config.refresh_interval / 2
        return {
            bucket.prefix
            for bucket in self._table.buckets()
            if bucket.refreshed > since or (self._joining and len(bucket.entries) >= self._config.refresh_queries)
        }

    def _schedule(self, now: float) -> None:
        self.due = now + self._step * self._rng.uniform(1 - _JITTER, 1 + _JITTER)
