"""How much this node does for others that want to be dialled."""

from collections import deque
from collections.abc import Hashable, Iterable

from ..parameters import AutonatConfig

_MINUTE = 60.0
_AT_ONCE = 2  # requests of one peer or network under way, as in go-libp2p
_MAX_AT_ONCE = 16  # of all of them: each may be a dial; a guess
_MAX_ASKERS = 1024  # that are remembered; with 60 requests a minute in all there are never as many


class _Window:
    """Times within the last minute."""

    __slots__ = ("_most", "times")

    def __init__(self, most: int) -> None:
        self._most = most
        self.times: deque[float] = deque()

    def full(self, now: float) -> bool:
        while self.times and now - self.times[0] >= _MINUTE:
            self.times.popleft()
        return len(self.times) >= self._most


class RequestLimits:
    """Counts requests in sliding minutes: of all peers, and of each asker, which is a peer as well as its network."""

    def __init__(self, config: AutonatConfig) -> None:
        self._config = config
        self._all = _Window(config.requests_per_minute)
        self._with_data = _Window(config.dial_data_per_minute)
        self._askers: dict[Hashable, _Window] = {}  # the one that asked longest ago first
        self._under_way: dict[Hashable, int] = {}
        self._total = 0

    def begin(self, askers: Iterable[Hashable], now: float) -> bool:
        """Count a request of these; False where it is one too many. `end` ends it."""
        keys = list(askers)
        if self._total >= _MAX_AT_ONCE or any(self._under_way.get(key, 0) >= _AT_ONCE for key in keys):
            return False
        windows = [self._askers.get(key) or _Window(self._config.requests_per_peer) for key in keys]
        if any(window.full(now) for window in (self._all, *windows)):
            return False
        self._all.times.append(now)
        self._total += 1
        for key, window in zip(keys, windows, strict=True):
            window.times.append(now)
            self._askers.pop(key, None)
            self._askers[key] = window
            self._under_way[key] = self._under_way.get(key, 0) + 1
        while len(self._askers) > _MAX_ASKERS:
            del self._askers[next(iter(self._askers))]
        return True

    def with_data(self, now: float) -> bool:
        """Count a request that has to pay for a dial; False where it is one too many."""
        if self._with_data.full(now):
            return False
        self._with_data.times.append(now)
        return True

    def end(self, askers: Iterable[Hashable]) -> None:
        """A request is over."""
        self._total -= 1
        for key in askers:
            self._under_way[key] -= 1
            if not self._under_way[key]:
                del self._under_way[key]
