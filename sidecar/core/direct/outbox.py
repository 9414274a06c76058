"""What waits to be written to one peer: batches of messages and requests, in order, bounded."""

from collections import deque
from collections.abc import Sequence
from itertools import islice

from ..classes import NamedTuple
from ..errors import (
    Closed,
    DeadlineExceeded,
    NotSupported,
    PeerBanned,
    QueueFull,
    Refused,
    SidecarError,
    Unreachable,
    WrongNetwork,
    WrongPeer,
)
from ..parameters.direct import OVERHEAD
from ..types import PeerId
from .events import OpenLink, RequestCompleted, SendOutcome
from .operation import Carrier, Operation, Request
from .shared import Budget, Shared, Timer, cost_of

FRAMING = 6  # bytes that a message has at most before it in a frame
_REFUSALS = (NotSupported, PeerBanned, Refused, WrongNetwork, WrongPeer)


class Run:
    """Consecutive messages of a batch; those before `at` are taken."""

    __slots__ = ("at", "cost", "deadline", "index", "messages", "operation", "protocol")

    def __init__(
        self, operation: Operation, index: int, protocol: str, messages: Sequence[bytes], cost: int, deadline: float
    ) -> None:
        self.operation = operation
        self.index = index  # of messages[0] in its batch
        self.protocol = protocol
        self.messages = messages
        self.cost = cost  # of what is not taken
        self.deadline = deadline
        self.at = 0

    def fitting(self, size: int, cost: int) -> tuple[int, int]:
        """How many of the next messages fit into `size` bytes of a frame and `cost` of the window; and their cost."""
        left = len(self.messages) - self.at
        if self.cost <= cost and self.cost - (OVERHEAD - FRAMING) * left <= size:
            return left, self.cost
        count = used = 0
        for message in islice(self.messages, self.at, None):
            used += len(message) + OVERHEAD
            if used > cost or used - (OVERHEAD - FRAMING) * (count + 1) > size:
                return count, used - len(message) - OVERHEAD
            count += 1
        return count, used


class Portion(NamedTuple):
    """What a frame takes of a run."""

    run: Run
    first: int  # index of messages[0] in its batch
    messages: Sequence[bytes]
    cost: int


class Outbox:
    """The queue to one peer, and the wish for a link while there is something in it.

    `outboxes` and `requests` are the router's tables: the outbox leaves the one when it has neither work nor link,
    its requests leave the other when they are answered.
    """

    def __init__(
        self, shared: Shared, outboxes: "dict[PeerId, Outbox]", requests: dict[int, Request], peer: PeerId
    ) -> None:
        self.peer = peer
        self.link: Carrier | None = None
        self._retired = 0  # links that nothing more is written to, and that are owed answers
        self._shared = shared
        self._outboxes = outboxes
        self._requests = requests
        self._runs: deque[Run] = deque()
        self._waiting: dict[int, Request] = {}  # by op, in order
        self._budget = Budget(shared.config.max_queued, shared.queued)
        self._opening = False
        self._timer = Timer(shared.deadlines, self._on_timer)
        outboxes[peer] = self

    # ------------------------------------------------------------ in

    def send(self, op: int, protocol: str, messages: Sequence[bytes]) -> None:
        """Queue what fits of a batch, and settle the rest of it."""
        operation = Operation(op, len(messages), self._shared.effects)
        cost, longest = cost_of(messages), self._shared.config.max_message
        if cost <= self._budget.room and max(map(len, messages)) <= longest:
            self._queue(operation, 0, protocol, messages, cost)
        else:
            self._queue_fitting(operation, protocol, messages)
        self._want_link()

    def _queue_fitting(self, operation: Operation, protocol: str, messages: Sequence[bytes]) -> None:
        longest, room = self._shared.config.max_message, self._budget.room
        start = cost = 0  # of the run that is being collected
        for index, message in enumerate(messages):
            outcome = None
            if len(message) > longest:
                outcome = SendOutcome.TOO_LARGE
            elif cost + len(message) + OVERHEAD > room:
                outcome = SendOutcome.LOCAL_QUEUE_FULL
            if outcome is None:
                cost += len(message) + OVERHEAD
                continue
            self._queue(operation, start, protocol, messages[start:index], cost)
            room -= cost
            start, cost = index + 1, 0
            operation.settle(index, 1, outcome)
        self._queue(operation, start, protocol, messages[start:], cost)

    def _queue(self, operation: Operation, index: int, protocol: str, messages: Sequence[bytes], cost: int) -> None:
        if not messages:
            return
        deadline = self._shared.now + self._shared.config.receipt_timeout
        self._runs.append(Run(operation, index, protocol, messages, cost, deadline))
        self._budget.add(cost)
        self._timer.by(deadline)

    def ask(self, request: Request) -> None:
        """Queue a request, or answer it with QueueFull."""
        cost = len(request.data) + OVERHEAD
        room = self._budget.room
        if cost > room:
            self.finish(request, QueueFull(f"request of {len(request.data)} bytes, room for {room} to this peer"))
            self._leave_when_done()
            return
        if request.deadline is not None:
            request.timer = self._shared.deadlines.at(request.deadline, lambda now: self._on_deadline(request))
        self._waiting[request.op] = request
        self._budget.add(cost)
        self._want_link()

    def finish(self, request: Request, answer: bytes | SidecarError) -> None:
        """Answer a request that is neither queued nor written any more."""
        del self._requests[request.op]
        if request.timer is not None:
            request.timer.cancel()
        self._shared.effects.append(RequestCompleted(request.op, answer))

    def withdraw(self, request: Request, error: SidecarError) -> None:
        """Answer a request before the peer does."""
        if self._waiting.pop(request.op, None) is not None:
            self._budget.release(len(request.data) + OVERHEAD)
        elif request.link is not None:
            request.link.cancel(request)
        self.finish(request, error)
        self._leave_when_done()

    def _on_deadline(self, request: Request) -> None:
        self.withdraw(request, DeadlineExceeded("no response in time"))

    # ------------------------------------------------------------ out

    def take_messages(self, size: int, window: int, alone: bool) -> Portion | None:
        """The next messages of one batch: at most `size` bytes of a frame and `window` of what the remote takes.

        `alone`: the frame is empty, so that one message may be larger than `size`.
        """
        if not self._runs:
            return None
        run = self._runs[0]
        count, cost = run.fitting(size, window)
        if not count:
            if not alone or self.next_cost > window:
                return None
            count, cost = 1, self.next_cost
        begin, run.at = run.at, run.at + count
        run.cost -= cost
        self._budget.release(cost)
        if run.at == len(run.messages):
            self._runs.popleft()
        return Portion(run, run.index + begin, run.messages[begin : run.at], cost)

    def take_request(self, size: int, alone: bool) -> Request | None:
        """The next request, if it fits into `size` bytes of a frame or has one for itself."""
        request = next(iter(self._waiting.values()), None)
        if request is None or (request.size > size and not alone):
            return None
        del self._waiting[request.op]
        self._budget.release(len(request.data) + OVERHEAD)
        return request

    @property
    def next_cost(self) -> int:
        """What the next message counts against a window; 0 when none waits."""
        if not self._runs:
            return 0
        return len(self._runs[0].messages[self._runs[0].at]) + OVERHEAD

    @property
    def requests_wait(self) -> bool:
        """Whether a request waits to be written; those that wait for their response do not count."""
        return bool(self._waiting)

    # ------------------------------------------------------------ the link

    def link_opened(self, link: Carrier) -> None:
        """The link that was wished for is there, and is told to write."""
        self._opening = False
        self.link = link
        link.wake()

    def link_failed(self, error: SidecarError) -> None:
        """The link that was wished for cannot be had: all that waits for it fails with `error`."""
        if self._opening:
            self._opening = False
            self._fail(error)

    def link_ended(self, error: SidecarError | None, again: bool) -> None:
        """The link is no more; with `again`, what waits gets another."""
        self.link = None
        if again and (self._runs or self._waiting):
            self._want_link()
        else:
            self._fail(error or Closed("the link has ended"))

    def link_retired(self) -> None:
        """Nothing more is to be written to the link; what waits, and what comes, gets another."""
        self.link = None
        self._retired += 1
        self._want_link()

    def retired_link_ended(self) -> None:
        """A link that was retired is no more."""
        self._retired -= 1
        self._leave_when_done()

    def _want_link(self) -> None:
        if self.link is not None:
            self.link.wake()
        elif not self._opening and (self._runs or self._waiting):
            self._opening = True
            self._shared.effects.append(OpenLink(self.peer))
        self._leave_when_done()

    def _fail(self, error: SidecarError) -> None:
        outcome = SendOutcome.REFUSED if isinstance(error, _REFUSALS) else SendOutcome.UNREACHABLE
        while self._runs:
            self._drop(self._runs.popleft(), outcome, error)
        for request in list(self._waiting.values()):
            self.withdraw(request, error)
        self._leave_when_done()

    def _drop(self, run: Run, outcome: SendOutcome, error: SidecarError | None) -> None:
        self._budget.release(run.cost)
        run.operation.settle(run.index + run.at, len(run.messages) - run.at, outcome, error)

    def _on_timer(self, now: float) -> float | None:
        while self._runs and self._runs[0].deadline <= now:
            seconds = self._shared.config.receipt_timeout
            error = Unreachable(f"not written within {seconds:g} s: no link, or one that does not move")
            self._drop(self._runs.popleft(), SendOutcome.UNREACHABLE, error)
        self._leave_when_done()
        return self._runs[0].deadline if self._runs else None

    def _leave_when_done(self) -> None:
        if self.link is None and not (self._retired or self._opening or self._runs or self._waiting):
            self._timer.cancel()
            self._outboxes.pop(self.peer, None)
