"""Messages of an app that sends many at once: batches go out as they come, receipts come as they become known."""

import asyncio
import functools
from collections.abc import Awaitable, Callable, Coroutine, Iterator, Sequence
from typing import Any

from ...core.direct import SendCompleted, SendOutcome, SendRequested
from ...core.errors import SidecarError
from ...core.types import PeerId
from ..common import values
from ..common.bounds import Bounds
from ..common.outlet import MAX_BATCH
from ..common.receipts import Range, Receipts
from ..service import ServiceContext
from . import convert
from .convert import Sent

_OVERHEAD = 64  # bytes that a message counts beside its own, as in the direct router

Send = Callable[[PeerId, str, Sequence[bytes], Sequence[str]], Awaitable[list[Sent]]]
"""Sends messages of which some have ids: (peer, protocol, messages, ids); every message's outcome."""

Keep = Callable[[PeerId, str, Sequence[bytes], Sequence[str], convert.Durable], Awaitable[list[Sent]]]
"""Keeps durable messages: as `Send`. An outcome's place has the sequence itself as its offset."""


class Sender:
    """One SendMany stream."""

    def __init__(self, context: ServiceContext, send: Send, keep: Keep) -> None:
        """`send`: for batches with ids; `keep`: for durable ones."""
        self._context = context
        self._send = send
        self._keep = keep
        self._peer: PeerId | None = None
        self._protocol = ""
        self._durable: convert.Durable | None = None  # how the messages are, as the last batch said that named where to
        self._tasks: set[asyncio.Task[None]] = set()  # a batch with ids each, bounded by the window
        window = Bounds(context.config.send_window, context.config.send_window_bytes)
        self.receipts: Receipts[Sent] = Receipts(window, _encode)

    async def consume(self, request: convert.SendManyRequest) -> None:
        """Send a batch; returns when the next one may be read."""
        if request.peer_id or request.protocol:
            self._durable = None
        if request.HasField("durable"):
            self._durable = request.durable
        if request.peer_id:
            self._peer = self._context.other_peer(request.peer_id)
        if request.protocol:
            self._protocol = values.name(request.protocol, values.MAX_PROTOCOL, "protocol")
        if not request.messages:
            return
        values.bounded(len(request.messages), MAX_BATCH, "messages")
        peer = self._peer if self._peer is not None else self._context.other_peer("")
        protocol = values.name(self._protocol, values.MAX_PROTOCOL, "protocol")
        messages = [message.data for message in request.messages]
        ids = [message.request_id for message in request.messages]
        checked = [values.request_id(text) for text in ids] if any(ids) else []
        size = sum(map(len, messages)) + _OVERHEAD * len(messages)
        first = self.receipts.asked(len(messages), size)
        if self._durable is not None:
            kept = self._keep(peer, protocol, messages, checked, self._durable)
            self._start(self._send_kept(first, size, kept), "api keeping durable messages")
        elif checked:
            named = self._send_named(first, size, peer, protocol, messages, checked)
            self._start(named, "api sending with ids")
        else:
            self._context.operations.start(
                lambda op: SendRequested(op, peer, protocol, messages), functools.partial(self._completed, first, size)
            )
        await self.receipts.room()

    def _start(self, sending: Coroutine[Any, Any, None], name: str) -> None:
        task = asyncio.create_task(sending, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def close(self) -> None:
        """The app is gone."""
        for task in self._tasks:
            task.cancel()

    def _completed(self, first: int, size: int, completed: SendCompleted) -> None:
        for start, count, sent in ranges(completed):
            self.receipts.answered(first + start, count, sent)
        self.receipts.settled(size)

    async def _send_named(
        self, first: int, size: int, peer: PeerId, protocol: str, messages: list[bytes], ids: list[str]
    ) -> None:
        try:
            for index, sent in enumerate(await self._send(peer, protocol, messages, ids)):
                self.receipts.answered(first + index, 1, sent)
            self.receipts.settled(size)
        except SidecarError as error:
            self.receipts.end(error)

    async def _send_kept(self, first: int, size: int, kept: Awaitable[list[Sent]]) -> None:
        """Durable messages: what the disk says of each."""
        try:
            for number, sent in enumerate(await kept, first):
                if sent.place is not None:
                    sent = sent._replace(place=sent.place._replace(offset=sent.place.offset - number))
                self.receipts.answered(number, 1, sent)
            self.receipts.settled(size)
        except SidecarError as error:
            self.receipts.end(error)


def ranges(completed: SendCompleted) -> Iterator[tuple[int, int, Sent]]:
    """What became of a batch; the error's words go with what was not delivered."""
    detail = str(completed.error) if completed.error else ""
    for first, count, outcome in completed.outcomes:
        yield first, count, Sent(outcome, "" if outcome is SendOutcome.DELIVERED else detail)


def _encode(parts: list[Range[Sent]]) -> bytes:
    return convert.receipts((part.first, part.count, part.outcome) for part in parts)
