"""Durable messages: receiving and settling them, and what becomes of those that were sent."""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Iterable, Sequence
from typing import Any

from . import _checks, _convert, _rpc
from ._link import Link
from ._stream import Stream
from ._waiting import Items
from .errors import Closed, InvalidArgument
from .types import InboxMessage, MessageId, OutboxEvent, OutboxMessage
from .v1 import direct_pb2, durable_pb2

_MOST = 4096  # settlements in one call
_SETTLEMENT = 24  # bytes of one in a request, beside its reason; a little more than that
_REASON = 1024  # bytes at most, as DurableService has it
_DELAY = 86_400.0  # seconds at most, as DurableService has it
_PAGE = 1000


class DurableMessage:
    """A durable message, to be settled once: `acknowledge`, `reject` or `delay`. Else it comes again after a while.

    `attempt` is 1 at the first delivery; above that, one before may have been dealt with. `message_id` is the same each
    time. The connection of the two sidecars proves who sent it.
    """

    __slots__ = ("_settling", "attempt", "data", "id", "message_id", "peer_id", "protocol")

    def __init__(self, settling: "Settling", message: direct_pb2.DirectMessage) -> None:
        self._settling = settling
        self.peer_id = message.peer_id
        self.protocol = message.protocol
        self.data = message.data
        self.id = message.delivery.id
        self.attempt = message.delivery.attempt
        self.message_id: MessageId = _convert.message_id(message.delivery.message_id)

    def __repr__(self) -> str:
        return (
            f"DurableMessage(peer_id={self.peer_id!r}, protocol={self.protocol!r}, {len(self.data)} bytes, "
            f"{self.message_id}, attempt={self.attempt})"
        )

    async def acknowledge(self) -> bool:
        """It is dealt with: once this returns it never comes again. False where it has been delivered anew since."""
        return await self._settling.settle(durable_pb2.Settlement(id=self.id, attempt=self.attempt))

    async def reject(self, reason: str) -> bool:
        """It is refused for good; the sender is told so, and the reason, at most 1024 bytes. False as above."""
        size = len(_checks.text(reason, "reject"))
        if size > _REASON:  # the sidecar would refuse it with all that go together
            raise InvalidArgument(f"reason of {size} bytes, at most {_REASON}", field="reject")
        settlement = durable_pb2.Settlement(id=self.id, attempt=self.attempt, reject=reason)
        return await self._settling.settle(settlement)

    async def delay(self, seconds: float) -> bool:
        """Let it come again after that time, a day at most, and what is behind it not before. False as above."""
        settlement = durable_pb2.Settlement(id=self.id, attempt=self.attempt)
        settlement.delay.FromNanoseconds(_checks.nanoseconds(seconds, "seconds"))
        if seconds > _DELAY:
            raise InvalidArgument(f"seconds is {seconds}, at most {_DELAY:.0f}", field="seconds")
        return await self._settling.settle(settlement)


class Settling:
    """Settlements on their way: what is settled while a call is under way goes together with the next one."""

    def __init__(self, link: Link, settle: Any) -> None:
        self._link = link
        self._settle = settle
        self._waiting: deque[tuple[durable_pb2.Settlement, asyncio.Future[bool]]] = deque()
        self._task: asyncio.Task[None] | None = None

    async def settle(self, settlement: durable_pb2.Settlement) -> bool:
        """Settle a delivery; False where it is stale. Raises SidecarError."""
        self._link.check_open()
        done: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self._waiting.append((settlement, done))
        if self._task is None:
            self._task = asyncio.create_task(self._run(), name="sidecar settling")
        return await done

    async def _run(self) -> None:
        try:
            while self._waiting:
                some = self._next()
                request = durable_pb2.SettleRequest(settlements=[settlement for settlement, _ in some])
                try:
                    # A repeat after a lost connection finds what was settled stale: it may have been this that did it.
                    response = await self._link.unary(self._settle, request, None, repeatable=True)
                except BaseException as error:
                    closed = Closed("the client was closed") if isinstance(error, asyncio.CancelledError) else error
                    for _, done in some:
                        if not done.done():
                            done.set_exception(closed)
                    if not isinstance(error, Exception):
                        raise
                    continue
                stale = set(response.stale)
                for settlement, done in some:
                    if not done.done():
                        done.set_result(settlement.id not in stale)
        finally:
            self._task = None

    def _next(self) -> list[tuple[durable_pb2.Settlement, asyncio.Future[bool]]]:
        """What goes together next: at most one of each delivery, since answers are told by its number."""
        some: list[tuple[durable_pb2.Settlement, asyncio.Future[bool]]] = []
        known: set[int] = set()
        size, most = 0, self._link.bounds[0]
        while self._waiting and len(some) < _MOST:
            settlement, _ = self._waiting[0]
            size += _SETTLEMENT + len(settlement.reject)
            if settlement.id in known or (some and size > most):
                break
            known.add(settlement.id)
            some.append(self._waiting.popleft())
        return some

    def close(self) -> None:
        """The client is closed."""
        if self._task is not None:
            self._task.cancel()
        while self._waiting:
            _, done = self._waiting.popleft()
            if not done.done():
                done.set_exception(Closed("the client was closed"))


class DurableReceiver(Stream[direct_pb2.ReceiveResponse]):
    """Durable messages of some protocols. It outlives the sidecar's restarts.

    Iterating gives `DurableMessage`s, those of one sender in the order in which they were sent. What is not settled
    comes again, also after a lost connection and to the next receiver. One receiver at a time has a protocol: another
    one raises AlreadyExists. Without `async with` the stream ends when the object is closed or goes out of scope.
    """

    def __init__(self, link: Link, settling: Settling, request: direct_pb2.ReceiveRequest, call: Any) -> None:
        super().__init__(link, f"receiving durable {', '.join(request.protocols)}")
        self._settling = settling
        self._request = request
        self._receive = call
        self._hand: deque[direct_pb2.DirectMessage] = deque()

    def _open(self) -> Any:
        self._hand.clear()  # they come again
        return self._receive(self._request)

    def __aiter__(self) -> AsyncIterator[DurableMessage]:
        return Items(self._message)

    async def _message(self) -> DurableMessage:
        while not self._hand:
            self._hand += (await self._next()).messages
        return DurableMessage(self._settling, self._hand.popleft())


class OutboxWatch(Stream[durable_pb2.WatchOutboxResponse]):
    """What becomes of durable messages. It outlives the sidecar's restarts, and goes on where it was.

    Iterating gives `OutboxEvent`s. An app that keeps the `cursor` of the last one it has dealt with misses none.
    """

    _greets = True

    def __init__(self, link: Link, request: durable_pb2.WatchOutboxRequest, call: Any) -> None:
        super().__init__(link, "watching the outbox")
        self._request = request
        self._watch = call
        self._hand: deque[durable_pb2.OutboxEvent] = deque()

    def _open(self) -> Any:
        return self._watch(self._request)

    async def _read(self) -> Any:
        response = await super()._read()
        if response.HasField("cursor"):  # where it begins: noted before there is an event, should the call be lost
            self._request.cursor = response.cursor
        return response

    def __aiter__(self) -> AsyncIterator[OutboxEvent]:
        return Items(self._event)

    async def _event(self) -> OutboxEvent:
        while not self._hand:
            response = await self._next()
            self._hand += response.events
            if response.events:
                self._request.cursor = response.events[-1].cursor
        return _convert.outbox_event(self._hand.popleft())


class Durability:
    """What the client does by DurableService."""

    def __init__(self, link: Link, channel: Any) -> None:
        self._link = link
        self._receive: Any = _rpc.stub(channel, direct_pb2, "DirectService").Receive
        self._stub: Any = _rpc.stub(channel, durable_pb2, "DurableService")
        self.settling = Settling(link, self._stub.Settle)

    def receive(
        self, protocols: Sequence[str], settle_timeout: float | None, max_deliveries: int, max_open: int
    ) -> DurableReceiver:
        """As `Client.receive_durable`."""
        how = _checks.request(direct_pb2.DurableReceive, max_deliveries=max_deliveries, max_open=max_open)
        if settle_timeout is not None:
            how.settle_timeout.FromNanoseconds(_checks.nanoseconds(settle_timeout, "settle_timeout"))
        request = _checks.request(direct_pb2.ReceiveRequest, protocols=protocols, durable=how)
        return DurableReceiver(self._link, self.settling, request, self._receive)

    def watch(self, cursor: int | None, peer_id: str, protocol: str) -> OutboxWatch:
        """As `Client.watch_outbox`."""
        request = _checks.request(durable_pb2.WatchOutboxRequest, cursor=cursor, peer_id=peer_id, protocol=protocol)
        return OutboxWatch(self._link, request, self._stub.WatchOutbox)

    async def outbox(self, peer_id: str, protocol: str, limit: int, timeout: float | None) -> list[OutboxMessage]:
        """As `Client.outbox`."""
        request = _checks.request(durable_pb2.ListOutboxRequest, peer_id=peer_id, protocol=protocol)
        return [
            _convert.outbox_message(each) for each in await self._pages(self._stub.ListOutbox, request, limit, timeout)
        ]

    async def inbox(
        self, dead_letters: bool, peer_id: str, protocol: str, with_data: bool, limit: int, timeout: float | None
    ) -> list[InboxMessage]:
        """As `Client.inbox`."""
        request = _checks.request(
            durable_pb2.ListInboxRequest,
            dead_letters=dead_letters,
            peer_id=peer_id,
            protocol=protocol,
            with_data=with_data,
        )
        return [
            _convert.inbox_message(each) for each in await self._pages(self._stub.ListInbox, request, limit, timeout)
        ]

    async def _pages(self, call: Any, request: Any, limit: int, timeout: float | None) -> list[Any]:
        found: list[Any] = []
        while len(found) < limit:
            request.page_size = min(_PAGE, limit - len(found))
            response = await self._link.unary(call, request, timeout, repeatable=True)
            found += response.messages
            request.page_token = response.next_page_token
            if not response.next_page_token:
                break
        return found

    async def withdraw(self, peer_id: str, protocol: str, timeout: float | None) -> int:
        """As `Client.withdraw`."""
        request = _checks.request(durable_pb2.WithdrawOutboxRequest, peer_id=peer_id, protocol=protocol)
        return int((await self._link.unary(self._stub.WithdrawOutbox, request, timeout, repeatable=True)).withdrawn)

    async def retry(self, ids: Iterable[int], protocol: str, timeout: float | None) -> int:
        """As `Client.retry_dead_letters`."""
        request = _checks.request(durable_pb2.RetryDeadLettersRequest, ids=ids, protocol=protocol)
        return int((await self._link.unary(self._stub.RetryDeadLetters, request, timeout, repeatable=True)).retried)

    async def purge(self, ids: Iterable[int], protocol: str, timeout: float | None) -> int:
        """As `Client.purge_dead_letters`."""
        request = _checks.request(durable_pb2.PurgeDeadLettersRequest, ids=ids, protocol=protocol)
        return int((await self._link.unary(self._stub.PurgeDeadLetters, request, timeout, repeatable=True)).purged)
