"""The end of a link that this node opened: messages and requests go out, receipts and responses come back."""

import math

from ..errors import Closed, ProtocolError, SidecarError
from ..override import override
from ..parameters.direct import OVERHEAD
from ..types import PeerId
from .events import Link, SendOutcome
from .ledger import Ledger, LedgerEntry
from .link import FRAME_TARGET, LinkEnd
from .messages import RequestFields, decode_acceptors_frame, encode_openers_frame
from .operation import Request
from .outbox import FRAMING, Outbox
from .shared import Shared

_LOOK = 1.0  # seconds between two looks at whether a retired link is done, beside those when something comes


class OpenedLink(LinkEnd):
    """Writes what waits in an outbox, as far as the remote's receipts allow."""

    def __init__(self, shared: Shared, links: dict[Link, LinkEnd], peer: PeerId, link: Link, outbox: Outbox) -> None:
        super().__init__(shared, links, peer, link)
        self._outbox = outbox
        self._ledger = Ledger()  # messages written and without a receipt
        self._next_number = 1
        self._requests: dict[int, Request] = {}  # written and without a response
        self._next_request = 1
        self._cancels: list[int] = []
        self._retired = False  # nothing more is written but what is under way
        self._answered = False  # anything at all: else a new link would fare no better
        self._timer.by(shared.now + shared.config.idle_timeout)

    def cancel(self, request: Request) -> None:
        """Tell the remote that nobody waits for a written request any more."""
        if self._requests.pop(request.id, None) is not None:
            self._cancels.append(request.id)
            self.wake()

    def retire(self) -> None:
        """Write nothing more, and end once all that was written is answered: what waits gets another link."""
        if not self._retired:
            self._retired = True
            self._outbox.link_retired()
            self._timer.by(self._shared.now)

    @property
    @override
    def busy(self) -> bool:
        return bool(self._ledger or self._requests) or self._has_work()

    # ------------------------------------------------------------ out

    def _has_work(self) -> bool:
        if self._cancels or self._frame:
            return True
        if self._retired:
            return False
        if self._outbox.requests_wait and len(self._requests) < self._shared.config.request_window:
            return True
        return 0 < self._outbox.next_cost <= self._window()

    def _window(self) -> int:
        return self._shared.config.window - self._ledger.cost

    def _next_frame(self) -> bytes:
        cancels, self._cancels = self._cancels, []
        if self._retired:
            return encode_openers_frame((), (), cancels) if cancels else b""
        # Requests get half of each frame while messages wait, so that neither holds the other up.
        size = FRAME_TARGET // 2 if self._outbox.next_cost else FRAME_TARGET
        requests, used = self._take_requests(size)
        messages = self._take_messages(FRAME_TARGET - used, alone=not requests)
        if not (cancels or requests or messages):
            return b""
        return encode_openers_frame(messages, requests, cancels)

    def _take_requests(self, size: int) -> tuple[list[RequestFields], int]:
        taken: list[RequestFields] = []
        used = 0
        while len(self._requests) < self._shared.config.request_window:
            request = self._outbox.take_request(size - used, alone=not taken)
            if request is None:
                break
            request.id = self._next_request
            request.link = self
            self._next_request += 1
            self._requests[request.id] = request
            used += request.size
            timeout = 0
            if request.deadline is not None:  # at least 1: 0 would say that there is none
                timeout = max(1, math.ceil((request.deadline - self._shared.now) * 1000))
            taken.append(RequestFields(request.id, request.protocol, request.data, timeout, request.trace))
        self._shared.counts.requests_sent += len(taken)
        return taken, used

    def _take_messages(self, size: int, alone: bool) -> list[tuple[str, list[bytes]]]:
        """Messages of one protocol that follow each other go as one, whoever sent them."""
        taken: list[tuple[str, list[bytes]]] = []
        while size > 0:
            portion = self._outbox.take_messages(size, self._window(), alone and not taken)
            if portion is None:
                break
            run, count = portion.run, len(portion.messages)
            if taken and taken[-1][0] == run.protocol:
                taken[-1][1].extend(portion.messages)
            else:
                taken.append((run.protocol, list(portion.messages)))
                size -= len(run.protocol)
            size -= portion.cost - (OVERHEAD - FRAMING) * count
            end = self._next_number + count
            self._ledger.add(
                LedgerEntry(self._next_number, end, portion.cost, run.deadline, run.operation, portion.first)
            )
            self._next_number = end
            self._timer.by(run.deadline)
            self._shared.counts.messages_sent += count
        return taken

    # ------------------------------------------------------------ in

    def _on_frame(self, body: bytes) -> None:
        frame = decode_acceptors_frame(body)
        self._answered = True
        for first, count, outcome in frame.receipts:
            self._on_receipts(first, count, outcome)
        for number, answer in frame.responses:
            self._on_response(number, answer)

    def _on_receipts(self, first: int, count: int, outcome: SendOutcome) -> None:
        if first < 1 or count < 1 or first + count > self._next_number:
            raise ProtocolError(f"receipts for {count} messages from {first} on, {self._next_number - 1} were sent")
        settled = self._ledger.settle(first, first + count)
        if settled.closed != count:
            raise ProtocolError(f"second receipts for some of {count} messages from {first} on")
        for entry, low, high in settled.pieces:
            if entry.operation is not None:  # None: timed out already
                entry.operation.settle(entry.index + low - entry.first, high - low, outcome)

    def _on_response(self, number: int, answer: bytes | SidecarError) -> None:
        if not 0 < number < self._next_request:
            raise ProtocolError(f"response to request {number}, {self._next_request - 1} were sent")
        request = self._requests.pop(number, None)
        if request is not None:  # None: cancelled while the response was on its way
            self._outbox.finish(request, answer)

    def _on_read(self) -> None:
        if self._retired:
            self._timer.by(self._shared.now)  # it may be done

    # ------------------------------------------------------------ time and end

    def _on_timer(self, now: float) -> float | None:
        timeout = self._shared.config.receipt_timeout
        for entry in self._ledger:
            if entry.deadline > now:
                break
            if entry.operation is not None:
                self._settle_open(entry, SendOutcome.TIMED_OUT, None)
            elif max(entry.deadline, self._last_active) + timeout <= now:
                self.violated(ProtocolError(f"no receipt, and {timeout:g} s without a byte"))
                return None
        idle = self._shared.config.idle_timeout
        busy = self.busy
        if not busy and self._close_when_idle(now, 0.0 if self._retired else idle):
            return None
        due = (now if busy else self._last_active) + (_LOOK if self._retired else idle)
        for entry in self._ledger:
            if entry.operation is not None:
                return min(due, entry.deadline)
            due = min(due, max(entry.deadline, self._last_active) + timeout)
        return due

    def _settle_open(self, entry: LedgerEntry, outcome: SendOutcome, error: SidecarError | None) -> None:
        if entry.operation is not None:
            for low, high in entry.open:
                entry.operation.settle(entry.index + low - entry.first, high - low, outcome, error)
            entry.operation = None

    def _on_end(self, error: SidecarError | None, broken: bool) -> None:
        for entry in self._ledger:
            self._settle_open(entry, SendOutcome.UNKNOWN, error)
        if not self._retired:
            self._outbox.link = None
        for request in self._requests.values():
            ended = Closed(f"the link ended before the response, so that the request may have been served: {error}")
            self._outbox.finish(request, ended)
        self._requests.clear()
        if self._retired:
            self._outbox.retired_link_ended()
        else:
            self._outbox.link_ended(error, again=self._answered and not broken)
