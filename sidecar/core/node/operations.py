"""What apps have asked for and not been answered yet."""

from ..errors import Closed, ResourceExhausted
from ..events import OperationCompleted
from .switch import Switch


class Operations:
    """Each operation is answered exactly once, whatever else comes of it later."""

    def __init__(self, switch: Switch) -> None:
        self._switch = switch
        self._last = 0
        self._open: dict[int, None] = {}

    def new(self) -> int:
        """A number for an operation, used once."""
        self._last += 1
        return self._last

    def begin(self, op: int) -> bool:
        """Take an operation on; beyond the bound it is answered at once, and False is returned."""
        if len(self._open) >= self._switch.config.max_operations:
            error = ResourceExhausted(f"{len(self._open)} operations are under way, at most that many")
            self._switch.emit(OperationCompleted(op, error))
            return False
        self._open[op] = None
        return True

    def complete(self, op: int, result: object) -> None:
        """Answer an operation; nothing happens when it has been answered."""
        if op in self._open:
            del self._open[op]
            self._switch.emit(OperationCompleted(op, result))

    def cancel(self, op: int) -> None:
        self.complete(op, Closed("the operation was cancelled"))

    def __contains__(self, op: int) -> bool:
        """Whether it is still to be answered."""
        return op in self._open

    def __len__(self) -> int:
        return len(self._open)
