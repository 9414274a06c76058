"""The end of a link that a peer opened: messages and requests come in, receipts and responses go back."""

from bisect import bisect_right
from collections import deque
from itertools import accumulate

from ..deadlines import Deadline
from ..errors import DeadlineExceeded, NotSupported, ProtocolError, QueueFull, SidecarError
from ..override import override
from ..parameters.direct import MAX_REASON, OVERHEAD
from ..traceparent import wellformed
from ..types import PeerId
from .events import Link, MessagesReceived, RequestArrived, RequestWithdrawn, SendOutcome
from .ledger import Ledger, LedgerEntry
from .link import FRAME_TARGET, LinkEnd
from .messages import RequestFields, decode_openers_frame, encode_acceptors_frame
from .shared import Budget, Shared, cost_of

_MAX_RECEIPTS = 1 << 16  # ranges that wait to be written; an opener that reads has far fewer messages out
# Points of work, some 5 us each. A third to a half of what `make bench-points` measures: who asks while the app here is
# being restarted means no harm.
_UNSERVED = 2.0  # a request that no app serves
_UNHEARD = 1.0  # messages that nobody receives, of one protocol and frame
_PASSED_OVER = 0.1  # each of these messages, a cancellation; a guess
_RECEIPT_SIZE = 24  # bytes of a range in a frame, at most
_RESPONSE_SIZE = 32  # bytes of a response in a frame beside its data, at most


class IncomingRequest:
    """A request that waits for an app's answer."""

    __slots__ = ("cost", "id", "link", "timer", "token")

    def __init__(self, link: "AcceptedLink", number: int, token: int, cost: int) -> None:
        self.link = link
        self.id = number  # on its link
        self.token = token
        self.cost = cost
        self.timer: Deadline | None = None


class AcceptedLink(LinkEnd):
    """Gives what arrives to the apps, as far as its bounds allow, and writes back what became of it.

    `tokens` is the router's table of requests that wait for an answer.
    """

    def __init__(
        self,
        shared: Shared,
        links: dict[Link, LinkEnd],
        peer: PeerId,
        link: Link,
        tokens: dict[int, IncomingRequest],
    ) -> None:
        super().__init__(shared, links, peer, link)
        self._tokens = tokens
        self._unhandled = Ledger()
        self._arrived = Budget(shared.config.max_unhandled, shared.arrived)
        self._answers = Budget(shared.config.max_answers, shared.arrived)
        self._next_number = 1
        self._news: MessagesReceived | None = None  # of this read: consecutive messages are told as one
        self._news_cost = 0
        self._receipts: deque[tuple[int, int, SendOutcome]] = deque()
        self._last_request = 0
        self._requests: dict[int, IncomingRequest] = {}
        self._responses: deque[tuple[int, bytes | SidecarError]] = deque()
        self._timer.by(shared.now + 2 * shared.config.idle_timeout)

    # ------------------------------------------------------------ in

    def _on_frame(self, body: bytes) -> None:
        frame = decode_openers_frame(body)
        for number in frame.cancels:
            self._on_cancel(number)
        for protocol, messages in frame.messages:
            self._on_messages(protocol, messages)
        for request in frame.requests:
            self._on_request(request)
        if len(self._receipts) > _MAX_RECEIPTS:
            raise ProtocolError(f"{len(self._receipts)} ranges of receipts unread, at most {_MAX_RECEIPTS}")
        if len(self._responses) > self._shared.config.max_requests_unhandled:
            raise ProtocolError(f"{len(self._responses)} responses unread")

    def _on_messages(self, protocol: str, messages: list[bytes]) -> None:
        count = len(messages)
        if not count:
            raise ProtocolError("a batch without messages")
        first = self._next_number
        self._next_number += count
        self._shared.counts.messages_received += count
        if protocol not in self._shared.receiving:
            self._shared.charge(self.peer, _UNHEARD + count * _PASSED_OVER)
            self._receipt(first, count, SendOutcome.NO_SUBSCRIBER)
            return
        cost, room = cost_of(messages), self._arrived.room
        if cost > room:
            fitting = bisect_right(list(accumulate(len(message) + OVERHEAD for message in messages)), room)
            self._shared.counts.messages_dropped += count - fitting
            self._receipt(first + fitting, count - fitting, SendOutcome.REMOTE_QUEUE_FULL)
            if not fitting:
                return
            del messages[fitting:]
            cost = cost_of(messages)
        self._arrived.add(cost)
        news = self._news
        if news is not None and news.protocol == protocol and news.first + len(news.messages) == first:
            news.messages.extend(messages)
            self._news_cost += cost
        else:
            self._on_read()
            self._news = MessagesReceived(self.link, self.peer, protocol, first, messages)
            self._news_cost = cost

    def _on_read(self) -> None:
        news = self._news
        if news is not None:
            self._news = None
            deadline = self._shared.now + self._shared.config.handling_timeout
            self._unhandled.add(LedgerEntry(news.first, news.first + len(news.messages), self._news_cost, deadline))
            self._timer.by(deadline)
            self._shared.effects.append(news)

    def _on_request(self, request: RequestFields) -> None:
        if request.id != self._last_request + 1:
            raise ProtocolError(f"request {request.id} after request {self._last_request}")
        self._last_request = request.id
        self._shared.counts.requests_received += 1
        cost = len(request.data) + OVERHEAD
        if request.protocol not in self._shared.serving:
            self._shared.charge(self.peer, _UNSERVED)
            self._responses.append((request.id, NotSupported(f"no app there serves {request.protocol[:256]!r}")))
        elif len(self._requests) >= self._shared.config.max_requests_unhandled:
            self._responses.append((request.id, QueueFull(f"{len(self._requests)} requests wait there for answers")))
        elif cost > self._arrived.room:
            self._responses.append((request.id, QueueFull(f"no room there for a request of {len(request.data)} bytes")))
        else:
            self._admit(request, cost)

    def _admit(self, request: RequestFields, cost: int) -> None:
        shared = self._shared
        incoming = IncomingRequest(self, request.id, shared.new_token(), cost)
        deadline = None
        if request.timeout_ms:
            deadline = shared.now + request.timeout_ms / 1000
            incoming.timer = shared.deadlines.at(deadline, lambda now: self._on_deadline(incoming))
        self._arrived.add(cost)
        self._requests[request.id] = self._tokens[incoming.token] = incoming
        trace = request.trace if wellformed(request.trace) else ""
        arrived = RequestArrived(incoming.token, self.peer, request.protocol, request.data, deadline, trace)
        shared.effects.append(arrived)

    def _on_cancel(self, number: int) -> None:
        if not 0 < number <= self._last_request:
            raise ProtocolError(f"cancel of request {number}, {self._last_request} were received")
        incoming = self._requests.get(number)
        self._shared.charge(self.peer, _PASSED_OVER)
        if incoming is not None:  # None: answered already
            self._withdraw(incoming)

    def _on_deadline(self, incoming: IncomingRequest) -> None:
        self._withdraw(incoming)
        self._responses.append((incoming.id, DeadlineExceeded("the app there did not answer in time")))
        self.wake()

    def _withdraw(self, incoming: IncomingRequest) -> None:
        self._forget(incoming)
        self._shared.effects.append(RequestWithdrawn(incoming.token))

    def _forget(self, incoming: IncomingRequest) -> None:
        del self._requests[incoming.id]
        del self._tokens[incoming.token]
        self._arrived.release(incoming.cost)
        if incoming.timer is not None:
            incoming.timer.cancel()

    # ------------------------------------------------------------ out

    def handled(self, first: int, count: int, outcome: SendOutcome) -> None:
        """The apps say what became of messages."""
        settled = self._unhandled.settle(first, first + count)
        for _, low, high in settled.pieces:
            self._receipt(low, high - low, outcome)
        self._arrived.release(settled.cost)
        self.wake()

    def answer(self, incoming: IncomingRequest, answer: bytes | SidecarError) -> None:
        """An app answers a request."""
        self._forget(incoming)
        if isinstance(answer, bytes):
            cost = len(answer) + OVERHEAD
            if cost > self._answers.room:
                answer = QueueFull(f"the response of {len(answer)} bytes found no room on its way back")
            else:
                self._answers.add(cost)
        self._responses.append((incoming.id, answer))
        self.wake()

    def _receipt(self, first: int, count: int, outcome: SendOutcome) -> None:
        if self._receipts:
            last_first, last_count, last_outcome = self._receipts[-1]
            if last_outcome is outcome and last_first + last_count == first:
                self._receipts[-1] = (last_first, last_count + count, outcome)
                return
        self._receipts.append((first, count, outcome))

    @property
    @override
    def busy(self) -> bool:
        return bool(self._unhandled or self._requests) or self._has_work()

    def _has_work(self) -> bool:
        return bool(self._receipts or self._responses or self._frame)

    def _next_frame(self) -> bytes:
        size = FRAME_TARGET
        receipts: list[tuple[int, int, SendOutcome]] = []
        while self._receipts and size > 0:
            receipts.append(self._receipts.popleft())
            size -= _RECEIPT_SIZE
        responses: list[tuple[int, bytes | SidecarError]] = []
        while self._responses:
            answer = self._responses[0][1]
            size -= _RESPONSE_SIZE + (len(answer) if isinstance(answer, bytes) else MAX_REASON)
            if size < 0 and (receipts or responses):
                break
            responses.append(self._responses.popleft())
            if isinstance(answer, bytes):
                self._answers.release(len(answer) + OVERHEAD)
        return encode_acceptors_frame(receipts, responses) if receipts or responses else b""

    # ------------------------------------------------------------ time and end

    def _on_timer(self, now: float) -> float | None:
        config = self._shared.config
        for entry in list(self._unhandled):
            if entry.deadline > now:
                break
            self.handled(entry.first, entry.end - entry.first, SendOutcome.TIMED_OUT)
        busy = self.busy
        if not busy and self._close_when_idle(now, 2 * config.idle_timeout):
            return None
        due = (now if busy else self._last_active) + 2 * config.idle_timeout
        return min(due, next(iter(self._unhandled)).deadline) if self._unhandled else due

    def _on_end(self, error: SidecarError | None, broken: bool) -> None:
        for incoming in list(self._requests.values()):
            self._withdraw(incoming)
        self._arrived.clear()
        self._answers.clear()
