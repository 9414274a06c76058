"""Direct messages and requests of one node, to and from all peers (docs/protocols.md)."""

import math
from collections.abc import Callable
from typing import Any

from ..errors import Closed, InvalidArgument, ResourceExhausted, TooLarge
from ..parameters.direct import MAX_PROTOCOL, DirectConfig
from ..types import PeerId
from .accepted import AcceptedLink, IncomingRequest
from .events import (
    CloseLink,
    DataReceived,
    DirectEffect,
    DirectInput,
    Link,
    LinkAccepted,
    LinkClosed,
    LinkFailed,
    LinkOpened,
    LinkRetired,
    LinkViolated,
    MessagesHandled,
    ProtocolsChanged,
    RequestAnswered,
    RequestCancelled,
    RequestCompleted,
    RequestMade,
    RequestsAnswered,
    RequestsMade,
    SendCompleted,
    SendRequested,
)
from .link import LinkEnd
from .messages import RECEIVERS_OUTCOMES
from .opened import OpenedLink
from .operation import Request
from .outbox import Outbox
from .shared import Counts, Shared


class DirectRouter:
    """The machine: `handle` inputs, carry out the effects, `take` bytes of woken links, and keep its one deadline.

    The side that has something to send opens a link to the peer; receipts and responses come back on it. So there is
    at most one link to a peer that this node writes to, and a few that the peer opened. One on a connection that is no
    longer the best is retired: it is read until all that was written is answered.
    """

    def __init__(self, config: DirectConfig, *, now: float) -> None:
        """`now`: monotonic seconds, as in all calls."""
        self._shared = Shared(config, now)
        self._links: dict[Link, LinkEnd] = {}
        self._outboxes: dict[PeerId, Outbox] = {}
        self._requests: dict[int, Request] = {}  # ours, by op
        self._tokens: dict[int, IncomingRequest] = {}  # the peers'
        self._handlers: dict[type[Any], Callable[[Any], None]] = {
            DataReceived: self._on_data_received,
            SendRequested: self._on_send_requested,
            MessagesHandled: self._on_messages_handled,
            RequestMade: self._on_request_made,
            RequestsMade: self._on_requests_made,
            RequestAnswered: self._on_request_answered,
            RequestsAnswered: self._on_requests_answered,
            RequestCancelled: self._on_request_cancelled,
            ProtocolsChanged: self._on_protocols_changed,
            LinkOpened: self._on_link_opened,
            LinkRetired: self._on_link_retired,
            LinkFailed: self._on_link_failed,
            LinkAccepted: self._on_link_accepted,
            LinkClosed: self._on_link_closed,
        }

    def handle(self, input: DirectInput, now: float) -> list[DirectEffect]:
        """Take an input. Raises InvalidArgument or TooLarge for a caller's misuse, and has changed nothing then."""
        self._shared.now = now
        self._handlers[type(input)](input)
        return self._effects()

    def take(self, link: Link, limit: int) -> list[bytes | memoryview]:
        """At most `limit` bytes to write on a link; nothing when there are none or the link is not known."""
        end = self._links.get(link)
        return end.take(limit) if end is not None else []

    def busy(self, link: Link) -> bool:
        """Whether something on a link waits to be written, or for an answer."""
        end = self._links.get(link)
        return end is not None and end.busy

    def next_deadline(self) -> float | None:
        """When to call `handle_deadline`, monotonic seconds."""
        return self._shared.deadlines.next()

    def handle_deadline(self, now: float) -> list[DirectEffect]:
        """Do what is due."""
        self._shared.now = now
        self._shared.deadlines.run(now)
        return self._effects()

    def take_charges(self) -> dict[PeerId, float]:
        """The needless work that peers caused since the last call, in points of some 5 us."""
        charged, self._shared.charged = self._shared.charged, {}
        return charged

    @property
    def counts(self) -> Counts:
        """Totals since the start."""
        return self._shared.counts

    @property
    def queued(self) -> int:
        """What waits for all peers, as it counts against the bounds, in bytes."""
        return self._shared.queued.used

    def _effects(self) -> list[DirectEffect]:
        effects = self._shared.effects.copy()
        self._shared.effects.clear()
        return effects

    # ------------------------------------------------------------ apps

    def _on_protocols_changed(self, input: ProtocolsChanged) -> None:
        self._shared.receiving = frozenset(input.receiving)
        self._shared.serving = frozenset(input.serving)

    def _on_send_requested(self, input: SendRequested) -> None:
        _check_protocol(input.protocol)
        if input.messages:
            self._outbox(input.peer).send(input.op, input.protocol, input.messages)
        else:
            self._shared.effects.append(SendCompleted(input.op, ()))

    def _on_request_made(self, input: RequestMade) -> None:
        self._check_request(input)
        self._ask(input)

    def _on_requests_made(self, input: RequestsMade) -> None:
        ops: dict[int, None] = {}
        for request in input.requests:
            self._check_request(request)
            if request.op in ops:
                raise InvalidArgument(f"operation {request.op} is begun twice")
            ops[request.op] = None
        for request in input.requests:
            self._ask(request)

    def _check_request(self, input: RequestMade) -> None:
        _check_protocol(input.protocol)
        if input.op in self._requests:
            raise InvalidArgument(f"operation {input.op} is under way")
        if input.deadline is not None and not math.isfinite(input.deadline):
            raise InvalidArgument(f"deadline {input.deadline} is no time")

    def _ask(self, input: RequestMade) -> None:
        size, limit = len(input.data), self._shared.config.max_message
        if size > limit:
            error = TooLarge(f"request of {size} bytes, at most {limit}")
            self._shared.effects.append(RequestCompleted(input.op, error))
            return
        request = Request(input.op, input.peer, input.protocol, input.data, input.deadline, input.trace)
        self._requests[input.op] = request
        self._outbox(input.peer).ask(request)

    def _on_request_cancelled(self, input: RequestCancelled) -> None:
        request = self._requests.get(input.op)
        if request is not None:
            self._outboxes[request.peer].withdraw(request, Closed("the request was cancelled"))

    def _on_messages_handled(self, input: MessagesHandled) -> None:
        if input.outcome not in RECEIVERS_OUTCOMES:
            raise InvalidArgument(f"{input.outcome} is not for the receiving side to say")
        end = self._links.get(input.link)
        if isinstance(end, AcceptedLink):
            end.handled(input.first, input.count, input.outcome)

    def _on_request_answered(self, input: RequestAnswered) -> None:
        self._check_answer(input)
        self._answer(input)

    def _on_requests_answered(self, input: RequestsAnswered) -> None:
        for answer in input.answers:
            self._check_answer(answer)
        for answer in input.answers:
            self._answer(answer)

    def _check_answer(self, input: RequestAnswered) -> None:
        limit = self._shared.config.max_message
        if isinstance(input.answer, bytes) and len(input.answer) > limit:
            raise TooLarge(f"response of {len(input.answer)} bytes, at most {limit}")

    def _answer(self, input: RequestAnswered) -> None:
        incoming = self._tokens.get(input.token)
        if incoming is not None:
            incoming.link.answer(incoming, input.answer)

    def _outbox(self, peer: PeerId) -> Outbox:
        outbox = self._outboxes.get(peer)
        return outbox if outbox is not None else Outbox(self._shared, self._outboxes, self._requests, peer)

    # ------------------------------------------------------------ links

    def _on_link_opened(self, input: LinkOpened) -> None:
        outbox = self._outboxes.get(input.peer)
        if outbox is None or outbox.link is not None:  # asked for by nobody: of no use
            self._shared.effects.append(CloseLink(input.link))
            return
        outbox.link_opened(OpenedLink(self._shared, self._links, input.peer, input.link, outbox))

    def _on_link_retired(self, input: LinkRetired) -> None:
        end = self._links.get(input.link)
        if isinstance(end, OpenedLink):
            end.retire()

    def _on_link_failed(self, input: LinkFailed) -> None:
        outbox = self._outboxes.get(input.peer)
        if outbox is not None:
            outbox.link_failed(input.error)

    def _on_link_accepted(self, input: LinkAccepted) -> None:
        limit = self._shared.config.max_links_per_peer
        count = sum(end.peer == input.peer for end in self._links.values() if isinstance(end, AcceptedLink))
        if count >= limit:
            error = ResourceExhausted(f"the peer has {count} links open, at most {limit}")
            self._shared.effects.append(LinkViolated(input.link, error))
            return
        AcceptedLink(self._shared, self._links, input.peer, input.link, self._tokens)

    def _on_link_closed(self, input: LinkClosed) -> None:
        end = self._links.get(input.link)
        if end is not None:
            end.end(input.error)

    def _on_data_received(self, input: DataReceived) -> None:
        end = self._links.get(input.link)
        if end is not None:
            end.receive(input.data)


def _check_protocol(protocol: str) -> None:
    size = len(protocol.encode(errors="replace"))
    if not 0 < size <= MAX_PROTOCOL:
        raise InvalidArgument(f"a protocol's name has 1 to {MAX_PROTOCOL} bytes, not {size}")
