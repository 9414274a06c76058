"""What apps called, and how it ended."""

from collections import Counter
from time import monotonic

from ...core.errors import ResourceExhausted
from ...core.histogram import Histogram
from .status import Code

# From a call that only reads to one that waits for a lookup in the DHT.
DURATIONS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0, 30.0)


class MethodCalls:
    """The calls of one method: those under way, those that ended by their status, and the times of unary ones."""

    __slots__ = ("_all", "durations", "ended", "open")

    def __init__(self, calls: "Calls", *, stream: bool) -> None:
        self._all = calls
        self.open = 0
        self.ended: Counter[Code] = Counter()
        self.durations = None if stream else Histogram(DURATIONS)

    def begin(self) -> float:
        """A call begins; its beginning, for `end`."""
        self.open += 1
        self._all.open += 1
        return monotonic()

    def check(self) -> None:
        """Raises ResourceExhausted where the call that has begun is one too many."""
        if self._all.open > self._all.most:
            raise ResourceExhausted(f"{self._all.most} calls are under way, at most that many (api.max_calls)")

    def end(self, begun: float, code: Code) -> None:
        """It ended so; `begun` is what `begin` gave."""
        self.open -= 1
        self._all.open -= 1
        self.ended[code] += 1
        if self.durations is not None:
            self.durations.observe(monotonic() - begun)


class Calls:
    """The calls of every method. What gRPC refuses by itself, as requests that are too large, is not among them."""

    def __init__(self, most: int) -> None:
        """`most`: how many may be under way."""
        self.most = most
        self.open = 0
        self.methods: dict[str, MethodCalls] = {}  # by `NodeService/GetNode`

    def of(self, service: str, method: str, *, stream: bool) -> MethodCalls:
        """Where the calls of a method are counted."""
        return self.methods.setdefault(f"{service.rpartition('.')[2]}/{method}", MethodCalls(self, stream=stream))
