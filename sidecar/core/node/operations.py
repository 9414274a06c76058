"""What apps have asked for and not been answered yet."""

from ..errors import Closed, ResourceExhausted
from ..events import OperationCancelled, OperationCompleted
from ..override import override
from .service import Service
from .statistics import OperationsStatistics
from .turn import Turn


class Operations(Service[OperationCancelled]):
    """Each operation is answered exactly once, whatever else comes of it later."""

    def __init__(self, turn: Turn, limit: int) -> None:
        """`limit`: how many may be under way at once."""
        self._turn = turn
        self._limit = limit
        self._last = 0
        self._open: dict[int, None] = {}

    @override
    def handle(self, arrived: OperationCancelled, now: float) -> None:
        self.complete(arrived.op, Closed("the operation was cancelled"))

    def new(self) -> int:
        """A number for an operation, used once."""
        self._last += 1
        return self._last

    def begin(self, op: int) -> bool:
        """Take an operation on; beyond the bound it is answered at once, and False is returned."""
        if len(self._open) >= self._limit:
            error = ResourceExhausted(f"{len(self._open)} operations are under way, at most that many")
            self._turn.emit(OperationCompleted(op, error))
            return False
        self._open[op] = None
        return True

    def complete(self, op: int, result: object) -> None:
        """Answer an operation; nothing happens when it has been answered."""
        if op in self._open:
            del self._open[op]
            self._turn.emit(OperationCompleted(op, result))

    def statistics(self) -> OperationsStatistics:
        """How many are under way."""
        return OperationsStatistics(len(self))

    def __contains__(self, op: int) -> bool:
        """Whether it is still to be answered."""
        return op in self._open

    def __len__(self) -> int:
        return len(self._open)
