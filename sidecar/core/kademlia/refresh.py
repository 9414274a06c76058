"""When which keys are looked up to keep the buckets filled (specs kad-dht, "Bootstrap process")."""

import random
from collections import deque

from ..parameters.kademlia import KademliaConfig
from ..types import PeerId
from .keyspace import MAX_DRAWN_PREFIX, place, random_key
from .table import RoutingTable

_JITTER = 0.1  # so that nodes that started together do not refresh together; a guess


class RefreshSchedule:
    """Names the keys one by one; the router looks each up before it asks for the next.

    On joining: our own id, then a random key for every bucket. After that our own id at growing intervals, until these
    reach `refresh_interval`; from then on both.
    """

    __slots__ = ("_buckets_due", "_config", "_local", "_own_due", "_place", "_plan", "_rng", "_step", "_table", "due")

    def __init__(self, config: KademliaConfig, local: PeerId, table: RoutingTable, rng: random.Random) -> None:
        self._config = config
        self._local = local
        self._place = place(local)
        self._table = table
        self._rng = rng
        self._step = 0.0
        self._own_due = self._buckets_due = False
        self._plan: deque[int] = deque()  # prefixes of the buckets still to be refreshed
        self.due: float | None = None

    def begin(self) -> None:
        """Refresh now."""
        self._own_due = True
        self._buckets_due = True

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
        self._own_due = True
        self._buckets_due = self._buckets_due or self._step >= self._config.refresh_interval
        self._step = min(2 * self._step, self._config.refresh_interval)
        self._schedule(now)
        return True

    def next_key(self, now: float) -> bytes | None:
        """The key to look up next; None when nothing is due."""
        if self._own_due:
            self._own_due = False
            return bytes(self._local)
        if self._buckets_due:  # planned only now: the lookup of our own id has found most buckets
            self._buckets_due = False
            deepest = max((bucket.prefix for bucket in self._table.buckets()), default=-1)
            self._plan = deque(range(min(deepest, MAX_DRAWN_PREFIX) + 1))
        if not self._plan:
            return None
        since = now - self._config.refresh_interval / 2
        recent = {bucket.prefix for bucket in self._table.buckets() if bucket.refreshed > since}
        while self._plan:
            prefix = self._plan.popleft()
            key = None if prefix in recent else random_key(self._place, prefix, self._rng)
            if key is not None:
                return key
        return None

    def _schedule(self, now: float) -> None:
        self.due = now + self._step * self._rng.uniform(1 - _JITTER, 1 + _JITTER)
