"""What one app receives as durable: which message is next, which deliveries are open, which come again."""

from collections import deque
from collections.abc import Callable, Iterable, Sequence

from ...core.classes import NamedTuple
from ...store.durable import Delivered
from ...store.durable.inbox import Waiting
from ..common.outlet import Outlet

_BATCH_BYTES = 1 << 20
_BATCH = 256  # messages delivered in one transaction


class _Open(NamedTuple):
    """A delivery that the app has not settled."""

    waiting: Waiting
    attempt: int
    until: float  # monotonic seconds


class Reader(Outlet):
    """One Receive call. Messages of one sender and protocol come in their order; senders take turns.

    It knows numbers and sizes, not payloads: those are loaded when they are delivered.
    """

    def __init__(
        self,
        protocols: Sequence[str],
        *,
        settle_timeout: float,
        max_deliveries: int,
        max_open: int,
        now: Callable[[], float],
    ) -> None:
        """Times are seconds. `max_open`: deliveries that the app may leave open. `now`: monotonic seconds."""
        super().__init__()
        self.protocols = tuple(protocols)
        self.max_deliveries = max_deliveries
        self._timeout = settle_timeout
        self._max_open = max_open
        self._now = now
        self._queues: dict[int, deque[Waiting]] = {}  # by the sender's stream
        self._turns: deque[int] = deque()  # streams that have something
        self._held_back: dict[int, float] = {}  # streams whose first message is delayed, until when
        self._open: dict[int, _Open] = {}  # by number, in the order of delivery
        self._early: list[Waiting] | None = []  # what arrived before `begin`

    def begin(self, waiting: Sequence[Waiting]) -> None:
        """What waits already. What has arrived since that was read is added."""
        early, self._early = self._early or [], None
        last = waiting[-1].id if waiting else 0
        self._add(waiting)
        self._add(each for each in early if each.id > last)

    def arrived(self, waiting: Iterable[Waiting]) -> None:
        """More waits."""
        if self._early is not None:
            self._early += waiting
        else:
            self._add(waiting)
        self.ready.set()

    def _add(self, waiting: Iterable[Waiting]) -> None:
        for each in waiting:
            queue = self._queues.get(each.stream)
            if queue is None:
                queue = self._queues[each.stream] = deque()
                self._turns.append(each.stream)
            queue.append(each)

    # ------------------------------------------------------------ delivering

    def choose(self) -> list[Waiting]:
        """The messages to deliver next; they count as taken. Empty where none may be delivered now."""
        now = self._now()
        self._look_at_time(now)
        room = min(_BATCH, self._max_open - len(self._open))
        chosen: list[Waiting] = []
        size = 0
        for _ in range(len(self._turns)):
            if len(chosen) >= room or size >= _BATCH_BYTES:
                break
            stream = self._turns.popleft()
            queue = self._queues[stream]
            if stream not in self._held_back:
                share = max(1, room // max(1, len(self._turns) + 1))
                while queue and share and len(chosen) < room and size < _BATCH_BYTES:
                    chosen.append(queue.popleft())
                    size += chosen[-1].size
                    share -= 1
            if queue:
                self._turns.append(stream)
            else:
                del self._queues[stream]
        return chosen

    def delivered(self, chosen: Sequence[Waiting], delivered: Sequence[Delivered]) -> None:
        """These were made attempts; the others of `chosen` are settled, or dead letters."""
        attempts = {each.id: each.attempt for each in delivered}
        until = self._now() + self._timeout
        for waiting in chosen:
            attempt = attempts.get(waiting.id)
            if attempt is not None:
                self._open[waiting.id] = _Open(waiting, attempt, until)

    def put_back(self, chosen: Sequence[Waiting]) -> None:
        """They were not delivered after all: the disk refused."""
        for waiting in reversed(chosen):
            self._again(waiting)

    def _again(self, waiting: Waiting) -> None:
        queue = self._queues.get(waiting.stream)
        if queue is None:
            queue = self._queues[waiting.stream] = deque()
            self._turns.append(waiting.stream)
        queue.appendleft(waiting)

    def _look_at_time(self, now: float) -> None:
        """Take back deliveries whose time is over, and let go on what was held back."""
        late = []
        for number, delivery in self._open.items():  # all have the same time: the first are due first
            if delivery.until > now:
                break
            late.append(number)
        for number in reversed(late):
            self._again(self._open.pop(number).waiting)
        for stream in [stream for stream, until in self._held_back.items() if until <= now]:
            del self._held_back[stream]

    def due(self) -> float | None:
        """In how many seconds to choose again although nothing arrives."""
        times = list(self._held_back.values())
        first = next(iter(self._open.values()), None)
        if first is not None:
            times.append(first.until)
        return max(0.0, min(times) - self._now()) if times else None

    # ------------------------------------------------------------ settling

    def has(self, number: int, attempt: int) -> bool:
        """Whether this delivery is open."""
        delivery = self._open.get(number)
        return delivery is not None and delivery.attempt == attempt

    def settled(self, number: int) -> None:
        """It will not be delivered again."""
        if self._open.pop(number, None) is not None:
            self.ready.set()

    def delay(self, number: int, seconds: float) -> None:
        """Deliver it again after that time, and what is behind it not before."""
        waiting = self._open.pop(number).waiting
        self._again(waiting)
        self._held_back[waiting.stream] = self._now() + seconds
        self.ready.set()
