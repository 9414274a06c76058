"""The answering half of a bulk stream: receipts as ranges, written as fast as the caller reads them."""

from collections import deque
from collections.abc import Callable, Hashable, Sequence
from typing import Generic, TypeVar

from ...core.classes import NamedTuple
from ...core.override import override
from .bounds import Bounds
from .outlet import Outlet
from .wakeup import Wakeup

Outcome = TypeVar("Outcome", bound=Hashable)
_RANGES = 1024  # in one response
_IDS = 16_384  # message ids in one response, about 1 MiB


class Range(NamedTuple, Generic[Outcome]):
    """The same outcome for `count` consecutive messages; `ids` where the caller wants them."""

    first: int
    count: int  # type: ignore[assignment]  # hides tuple.count, as in the core
    outcome: Outcome
    ids: Sequence[bytes]


class Receipts(Outlet, Generic[Outcome]):
    """Numbers messages, waits for what became of them, and bounds how many are on their way.

    `asked` numbers a batch, `answered` says what became of part of one, `settled` that it is answered for as a whole,
    `finish` that no more will be asked.
    """

    def __init__(self, window: Bounds, encode: Callable[[list[Range[Outcome]]], bytes]) -> None:
        """`window`: messages and bytes not answered for, and ranges not written, beyond which `room` waits."""
        super().__init__()
        self._drained = Wakeup()  # there may be room again
        self._window = window
        self._bytes = 0
        self._encode = encode
        self._ranges: deque[Range[Outcome]] = deque()
        self._next = 0
        self._unanswered = 0
        self._unwritten = 0  # ids and ranges

    def asked(self, count: int, size: int) -> int:
        """Number the next `count` messages of `size` bytes; the first one's number."""
        self._bytes += size
        first = self._next
        self._next += count
        self._unanswered += count
        return first

    def answered(self, first: int, count: int, outcome: Outcome, ids: Sequence[bytes] = ()) -> None:
        """Say what became of `count` messages from that number on; `ids` where the caller wants them."""
        self._unanswered -= count
        last = self._ranges[-1] if self._ranges else None
        if not ids and last and not last.ids and last.outcome == outcome and last.first + last.count == first:
            self._ranges[-1] = last._replace(count=last.count + count)
        else:
            self._ranges.append(Range(first, count, outcome, ids))
            self._unwritten += 1 + len(ids)
        self.ready.set()

    def settled(self, size: int) -> None:
        """A batch of `size` bytes has been answered for."""
        self._bytes -= size
        self._drained.set()

    async def room(self) -> None:
        """Wait until the caller may be read again."""
        messages, size = self._window
        while self._unanswered >= messages or self._unwritten >= messages or self._bytes >= size:
            await self._drained.wait()

    @override
    def take(self) -> bytes | None:
        ranges: list[Range[Outcome]] = []
        ids = 0
        while self._ranges and len(ranges) < _RANGES and ids < _IDS:
            part = self._ranges.popleft()
            ranges.append(part)
            ids += len(part.ids)
        if ranges:
            self._unwritten -= len(ranges) + ids
            self._drained.set()
            return self._encode(ranges)
        return self.nothing(expected=self._unanswered > 0)
