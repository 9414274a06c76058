"""Single messages that are fast: those that are called for while another is under way go together.

Messages of one key (of one topic, or to one protocol of one peer) share a lane. The first goes by the unary method, in
its caller's own task, which is the shortest way for a single one. What is called for meanwhile waits for its end; this
and all that comes later goes in frames over one bulk call. That stays open, for the few keys that were last used; for
others, and where calls are not to be kept, it ends when there is nothing to write or to be answered, and a message that
is alone goes by the unary method. So there is one call for a key at a time, and the order of calls is the order on the
wire.
"""

import asyncio
import contextlib
import math
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, Generic, NamedTuple, TypeVar

from . import _checks, _convert, _raw, _rpc
from ._link import PATIENCE, Backoff, Link
from ._room import COST, MOST, Room
from .bulk import PUBLISH_ITEM, SEND_ITEM, varint
from .codes import Code
from .errors import Closed, DeadlineExceeded, NotSupported, SidecarError, SidecarUnavailable, TooLarge
from .types import Bundling, Durable, PublishOutcome, PublishReceipt, SendOutcome, SendReceipt, Signing
from .v1 import common_pb2, direct_pb2, pubsub_pb2

if TYPE_CHECKING:
    from .v1 import direct_pb2_grpc, pubsub_pb2_grpc

Key = TypeVar("Key", bound=tuple[object, ...])
Receipt = TypeVar("Receipt", bound=PublishReceipt | SendReceipt)

_MAX_ID = 64  # bytes
_new = tuple.__new__  # a named tuple's own constructor costs twice as much
_HEADS = 4096  # lengths of messages for which the encoded beginning is kept
_KEPT = 8  # keys whose calls stay open; a guess: each is one of the sidecar's calls (api.max_calls)
_GONE = 64  # whose callers have given up are kept in a lane, or as many as the others


class _Item(NamedTuple, Generic[Receipt]):
    """A message and who waits for its receipt."""

    future: "asyncio.Future[Receipt]"
    data: bytes
    request_id: str
    since: float  # when it was queued, if no sidecar answered then, else 0; infinite where a deadline ends it


class _AloneError(Exception):
    """The sidecar is older than the bulk call: the message goes by the unary method."""


class _Lane(Generic[Key, Receipt]):
    """The messages of a key that are under way."""

    def __init__(self, key: Key) -> None:
        self.key = key
        self.loop = asyncio.get_running_loop()
        self.queue: deque[_Item[Receipt]] = deque()  # not written
        self.sent: dict[int, _Item[Receipt]] = {}  # written to the present call and not answered, by their numbers
        self.number = 0  # of the next message on the present call
        self.waiting = 0  # callers, of both
        self.gone = 0  # of both, or a few more: callers that have given up since they were last swept out
        self.changed = asyncio.Event()  # something was queued, answered or given up, or the call has ended
        self.call: Any = None
        self.task: asyncio.Task[None] | None = None
        self.lost_at: float | None = None  # since when no sidecar has answered
        self.failure: SidecarError | None = None  # the last one, while it is lost


class Joined(Generic[Key, Receipt]):
    """All lanes of one method."""

    _tag: bytes  # of a message in the bulk method's requests
    _many: str  # the bulk method
    _done: str  # what was perhaps done
    _too_large: PublishOutcome | SendOutcome  # for it the unary method raises an error

    def __init__(self, link: Link, bulk: Any) -> None:
        self._link = link
        self._bulk = bulk
        self._lanes: dict[Key, _Lane[Key, Receipt]] = {}
        self._room = Room()
        self._ending: set[asyncio.Task[None]] = set()  # calls all of whose messages are answered
        self._heads: dict[int, bytes] = {}  # length of a message -> what goes before it
        self._kept: dict[Key, None] = {}  # keys whose calls stay open, or will be opened; that used last is the last

    async def _one(self, key: Key, data: bytes, request_id: str, timeout: float | None) -> Receipt:
        """Make the unary call."""
        raise NotImplementedError

    def _head(self, key: Key) -> bytes:
        """The encoded beginning of the bulk call's first request."""
        raise NotImplementedError

    def _receipts(self, response: Any) -> Iterable[tuple[int, Sequence[Receipt]]]:
        """The number of a range's first message, and the receipts of all of the range."""
        raise NotImplementedError

    def _refusal(self, receipt: Receipt, size: int) -> str:
        """What was wrong with a message of so many bytes that was too large."""
        raise NotImplementedError

    def _to_wait(self, receipt: Receipt) -> bool:
        """Whether nobody has got the message, and the bulk method waits until somebody can."""
        return False

    # ------------------------------------------------------------ for callers

    async def send(self, key: Key, data: bytes, request_id: str, timeout: float | None) -> Receipt:
        """Send one message. Raises SidecarError."""
        self._link.check_open()
        if type(data) is not bytes:
            data = bytes(memoryview(data))  # of what else holds bytes, as it is now
        if timeout is not None and not timeout >= 0:
            _checks.seconds(timeout, "timeout")
        # In this coroutine and with few calls: each call of a method is 3 to 5 % of a message, each coroutine more.
        room, cost = self._room, len(data) + COST
        if room.waiting or room.used + cost > MOST:
            cost = min(cost, MOST)
            timeout = await self._enter(cost, timeout)
        else:
            room.used += cost
        future: asyncio.Future[Receipt] | None = None
        timer = None
        try:
            if request_id and len(_checks.text(request_id, "request_id")) > _MAX_ID:
                return await self._one(key, data, request_id, timeout)  # to be refused, without harm to others
            known = self._lanes.get(key)
            if known is not None:
                lane = known
            else:
                self._head(key)  # refuses what is wrong with it
                lane = self._lanes[key] = _Lane(key)
                if key not in self._kept:
                    receipt, timeout = await self._alone(lane, data, request_id, timeout)
                    if receipt is not None:
                        return receipt
            future = lane.loop.create_future()
            since = 0.0 if lane.lost_at is None else lane.loop.time()
            if timeout is not None:
                since = math.inf
                timer = lane.loop.call_later(timeout, self._expired, lane, future, timeout)
            item: _Item[Receipt] = _new(_Item, (future, data, request_id, since))
            lane.waiting += 1
            if known is None:
                lane.queue.appendleft(item)
                self._go_on(lane)
            else:
                if not lane.queue:
                    lane.changed.set()
                    if lane.waiting == 1:
                        self._keep(key)
                lane.queue.append(item)
            return await future
        except _AloneError:
            left = None if timer is None else max(0.0, timer.when() - lane.loop.time())
            return await self._one(key, data, request_id, left)
        except asyncio.CancelledError:
            if future is not None:
                if future.cancelled():
                    self._given_up(lane)
                else:
                    future.exception()  # both came at once; asyncio would log what nobody has looked at
            raise
        finally:
            room.used -= cost
            if room.waiting:
                room.admit()
            if timer is not None:
                timer.cancel()

    async def _enter(self, cost: int, timeout: float | None) -> float | None:
        """Wait for room; what is left of the time. Raises SidecarError."""
        try:
            left = await self._room.enter(cost, timeout)
        except TimeoutError:
            raise self._late(timeout) from None
        if self._link.closed:  # it was let in at the same time
            self._room.leave(cost)
            self._link.check_open()
        return left

    async def close(self) -> None:
        """End everything under way; whoever waits gets Closed."""
        self._room.close(Closed("this client has been closed"))
        tasks = [*self._ending, *(lane.task for lane in self._lanes.values() if lane.task is not None)]
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)
        for lane in list(self._lanes.values()):  # that of a unary call may have a queue
            self._end(lane)

    async def _alone(
        self, lane: _Lane[Key, Receipt], data: bytes, request_id: str, timeout: float | None
    ) -> tuple[Receipt | None, float | None]:
        """Make the unary call. Without a receipt the message has to wait, for as long as the second value says."""
        begun = lane.loop.time()
        waits = False
        try:
            receipt = await self._one(lane.key, data, request_id, timeout)
            waits = self._to_wait(receipt)
        except (SidecarUnavailable, Closed) as error:
            raise self._perhaps(error, request_id) from None
        finally:
            if not waits:
                self._go_on(lane)
        self._keep(lane.key)
        if not waits:
            return receipt, timeout
        return None, None if timeout is None else max(0.0, begun + timeout - lane.loop.time())

    def _keep(self, key: Key) -> None:
        """A key is used: its call stays open, in place of that which has not been used for longest."""
        if not self._link.keeps or self._link.lacks(self._many):
            return
        kept = self._kept
        kept.pop(key, None)
        kept[key] = None
        if len(kept) > _KEPT:
            oldest = next(iter(kept))
            del kept[oldest]
            lane = self._lanes.get(oldest)
            if lane is not None:
                lane.changed.set()

    def let_go(self) -> None:
        """The client is not used any more, and nobody has closed it: end the calls that are kept open."""
        for lane in self._lanes.values():
            if lane.task is not None:
                lane.loop.call_soon_threadsafe(lane.task.cancel)

    def _expired(self, lane: _Lane[Key, Receipt], future: "asyncio.Future[Receipt]", timeout: float) -> None:
        if not future.done():
            error = lane.failure
            future.set_exception(self._late(timeout) if error is None else error.again())
            self._given_up(lane)

    def _late(self, timeout: float | None) -> DeadlineExceeded:
        text = f"it was not {self._done} within {timeout:g} s"
        return DeadlineExceeded(text, code=Code.DEADLINE_EXCEEDED)

    def _given_up(self, lane: _Lane[Key, Receipt]) -> None:
        """A caller waits no longer. When it was the last one, the call ends."""
        lane.waiting -= 1
        lane.gone += 1
        if lane.gone > _GONE and lane.gone > lane.waiting:  # where the sidecar hangs, they must not pile up
            lane.gone = 0
            lane.queue = deque(item for item in lane.queue if not item.future.done())
            for number in [number for number, item in lane.sent.items() if item.future.done()]:
                del lane.sent[number]
        if not lane.waiting and lane.call is not None:
            lane.call.cancel()
        lane.changed.set()

    # ------------------------------------------------------------ a lane's life

    def _go_on(self, lane: _Lane[Key, Receipt]) -> None:
        """The unary call has ended: send what has been queued meanwhile."""
        if lane.waiting and not self._link.closed:
            lane.task = asyncio.create_task(self._run(lane), name="sidecar messages")
        else:
            self._end(lane)

    def _end(self, lane: _Lane[Key, Receipt]) -> None:
        if self._lanes.get(lane.key) is lane:
            del self._lanes[lane.key]
        for item in (*lane.sent.values(), *lane.queue):
            self._fail(lane, item, Closed("this client has been closed"))
        lane.queue.clear()
        lane.sent.clear()

    async def _run(self, lane: _Lane[Key, Receipt]) -> None:
        """Send what is queued, and what comes meanwhile."""
        backoff = Backoff()
        tries = 0
        try:
            while lane.waiting:
                failure = await self._converse(lane)
                if failure is None:
                    continue
                self._kept.pop(lane.key, None)  # the next one alone finds out what there is now
                if not lane.waiting:
                    break
                if lane.lost_at is None:
                    tries = 0
                    backoff.reset()
                    lane.lost_at = asyncio.get_running_loop().time()
                tries += 1
                self._ended(lane, failure, tries)
                if lane.failure is not None:
                    await self._link.pause(backoff.next())
        except Closed:
            pass  # the client has been closed while this waited for another try
        finally:
            self._end(lane)

    async def _converse(self, lane: _Lane[Key, Receipt]) -> SidecarError | None:
        """One bulk call, to its end. Returns what ended it before its time."""
        call = lane.call = self._bulk()
        reader = asyncio.create_task(self._read(lane, call), name="sidecar receipts")
        over = False
        try:
            if lane.lost_at is not None or self._link.frames is None:
                # What is not written cannot be lost once more, nor be refused for a bound that we do not know.
                await self._link.learn(call)
            over = await self._write(lane, call, reader)
        except _raw.ended():
            await asyncio.wait((reader,))  # it knows why
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if task is not None and task.cancelling():
                raise
            # else it is the call that was cancelled, since nobody waited for it
        finally:
            lane.call = None
            if over:
                self._finish(call, reader)
            elif not reader.done():
                call.cancel()
                await asyncio.wait((reader,))
        if over or reader.cancelled():
            lane.sent.clear()  # nobody waits for what is in there
            return None
        return reader.result()

    def _finish(self, call: Any, reader: "asyncio.Task[SidecarError]") -> None:
        """End a call that has nothing more to say, aside: the lane is free for the next message."""

        async def finish() -> None:
            try:
                with contextlib.suppress(*_raw.ended()):
                    await call.done_writing()
                await asyncio.wait((reader,))
            finally:
                call.cancel()
                reader.cancel()
                await asyncio.wait((reader,))

        task = asyncio.create_task(finish(), name="sidecar bulk call")
        self._ending.add(task)
        task.add_done_callback(self._ending.discard)

    async def _write(self, lane: _Lane[Key, Receipt], call: Any, reader: "asyncio.Task[SidecarError]") -> bool:
        """Write frames until all is answered; False when the call ended before."""
        head = self._head(lane.key)
        lane.number = 0
        while not reader.done():
            lane.changed.clear()
            begun = lane.number
            frame = self._next_frame(lane)
            if frame:
                try:
                    await _raw.write(call, head + b"".join(frame), first=bool(head))
                except _raw.UnwrittenError:
                    for number in range(lane.number - 1, begun - 1, -1):
                        item = lane.sent.pop(number, None)
                        if item is not None:
                            lane.queue.appendleft(item)
                    raise
                head = b""
            elif lane.sent:
                if not lane.waiting:
                    return False
                await lane.changed.wait()
            else:
                # Whoever has just got a receipt may have more to send.
                await asyncio.sleep(0)
                if not lane.queue:
                    if lane.key not in self._kept:
                        return True
                    await lane.changed.wait()
        return False

    def _next_frame(self, lane: _Lane[Key, Receipt]) -> list[bytes]:
        """Take out of the queue what goes next, encoded; nothing while there is none, or a large message has to wait.

        A message over the bound of a frame goes alone: gRPC may refuse it, and with it all that is unanswered.
        """
        queue, sent, heads = lane.queue, lane.sent, self._heads
        most, messages, largest = self._link.bounds
        parts: list[bytes] = []
        if len(sent) == 1 and len(next(iter(sent.values())).data) > most:
            return parts
        size, number, end = 0, lane.number, lane.number + messages
        while queue and number < end:
            item = queue.popleft()
            future, data, request_id, _ = item
            if future.done():
                continue
            length = len(data)
            if length > largest:
                text = f"message of {length} bytes, and a request to this sidecar holds one of at most {largest}"
                self._fail(lane, item, TooLarge(text, reason="TOO_LARGE"))
                continue
            size += length + len(request_id)
            if size > most and (parts or (sent and length > most)):
                queue.appendleft(item)
                break
            sent[number] = item
            number += 1
            # Encoded by hand: 0.1 us a message against 0.7 us with protobuf's objects.
            if request_id:
                message = common_pb2.OutgoingMessage(data=data, request_id=request_id).SerializeToString()
                parts += (self._tag + varint(len(message)), message)
            else:
                parts += (heads.get(length) or self._new_head(length), data)
        lane.number = number
        return parts

    def _new_head(self, length: int) -> bytes:
        """What goes before a message of that length."""
        inner = b"\x0a" + varint(length)
        head = self._tag + varint(len(inner) + length) + inner
        if len(self._heads) < _HEADS:
            self._heads[length] = head
        return head

    async def _read(self, lane: _Lane[Key, Receipt], call: Any) -> SidecarError:
        """Hand receipts out until the call ends; returns why it did."""
        sent = lane.sent
        try:
            while response := await call.read():
                lane.lost_at = lane.failure = None
                for first, receipts in self._receipts(response):
                    refused = bool(receipts) and receipts[0].outcome is self._too_large  # as all of a range
                    for number, receipt in enumerate(receipts, first):
                        item = sent.pop(number, None)
                        if item is None or item.future.done():
                            continue
                        if refused:
                            text = self._refusal(receipt, len(item.data))
                            code = Code.INVALID_ARGUMENT
                            self._fail(lane, item, TooLarge(text, reason="TOO_LARGE", code=code))
                        else:
                            item.future.set_result(receipt)
                            lane.waiting -= 1
                lane.changed.set()
            return Closed("the sidecar ended the call")
        except _rpc.failures() as error:
            return self._link.error(error)
        finally:
            lane.changed.set()

    def _ended(self, lane: _Lane[Key, Receipt], failure: SidecarError, tries: int) -> None:
        """A call ended before its time: say so to those whose messages it had, or have them sent again."""
        unanswered = list(lane.sent.values())
        lane.sent.clear()
        if isinstance(failure, NotSupported):  # of a message, a receipt says so
            lane.lost_at = None
            self._link.lacking(self._many)
            for item in (*unanswered, *lane.queue):
                self._fail(lane, item, _AloneError())
            lane.queue.clear()
            return
        if not self._link.lost(failure):
            lane.lost_at = lane.failure = None
            if not unanswered or isinstance(failure, SidecarUnavailable | Closed):  # the next one would end so as well
                for item in lane.queue:
                    self._fail(lane, item, failure.again())
                lane.queue.clear()
            for item in unanswered:
                self._fail(lane, item, self._perhaps(failure, item.request_id))
            return
        lane.failure = failure
        reached = not isinstance(failure, SidecarUnavailable) or failure.reached
        again: list[_Item[Receipt]] = []
        for item in unanswered:
            if item.request_id or not reached:
                again.append(item)
            else:
                self._fail(lane, item, self._perhaps(failure, ""))
        lane.queue.extendleft(reversed(again))
        loop, lost_at = lane.loop, lane.lost_at
        assert lost_at is not None, "set with the first failure"
        old = [item for item in lane.queue if loop.time() > max(item.since, lost_at) + PATIENCE]
        for item in old:
            self._fail(lane, item, self._link.gave_up(failure, tries, loop.time() - lost_at))

    def _perhaps(self, failure: SidecarError, request_id: str) -> SidecarError:
        """What to tell somebody whose message a lost connection had."""
        if request_id or self._link.closed or not getattr(failure, "reached", True):
            return failure.again()
        if isinstance(failure, SidecarUnavailable | Closed):
            return Closed(
                f"it may have been {self._done}: {failure}",
                reason=failure.reason,
                code=failure._code,
                status=failure.status,
            )
        return failure.again()

    def _fail(self, lane: _Lane[Key, Receipt], item: _Item[Receipt], error: Exception) -> None:
        if not item.future.done():
            item.future.set_exception(error)
            lane.waiting -= 1


PublishKey = tuple[str, Signing, int, Bundling]


class Publishing(Joined[PublishKey, PublishReceipt]):
    """`Publish` and `PublishMany`, by topic, signing, minimum of peers and bundling."""

    _tag = PUBLISH_ITEM
    _many = "PublishMany"
    _done = "published"
    _too_large = PublishOutcome.TOO_LARGE

    def __init__(self, link: Link, stub: "pubsub_pb2_grpc.PubSubServiceAsyncStub", bulk: Any) -> None:
        super().__init__(link, bulk)
        self._publish: Any = stub.Publish

    async def _one(self, key: PublishKey, data: bytes, request_id: str, timeout: float | None) -> PublishReceipt:
        topic, signing, minimum_peers, bundling = key
        _checks.member(Bundling, bundling, "bundling")  # of one message there is nothing to say
        request = _checks.request(
            pubsub_pb2.PublishRequest,
            topic=topic,
            data=data,
            signing=_checks.member(Signing, signing, "signing"),
            minimum_peers=minimum_peers,
            request_id=request_id,
        )
        response: pubsub_pb2.PublishResponse = await self._link.unary(
            self._publish, request, timeout, repeatable=bool(request_id)
        )
        return _convert.publish_receipt(response.receipt)

    def _head(self, key: PublishKey) -> bytes:
        topic, signing, minimum_peers, bundling = key
        return _checks.request(
            pubsub_pb2.PublishManyRequest,
            topic=topic,
            signing=_checks.member(Signing, signing, "signing"),
            minimum_peers=minimum_peers,
            return_message_ids=True,
            bundling=_checks.member(Bundling, bundling, "bundling"),
        ).SerializeToString()

    def _receipts(self, response: pubsub_pb2.PublishManyResponse) -> Iterator[tuple[int, Sequence[PublishReceipt]]]:
        for part in response.receipts:
            outcome, peers, dropped = PublishOutcome(part.outcome), part.peers, part.dropped
            ids = part.message_ids or [b""] * part.count
            yield part.first, [_new(PublishReceipt, (outcome, name, peers, dropped)) for name in ids]

    def _refusal(self, receipt: PublishReceipt, size: int) -> str:
        return f"payload of {size} bytes is over the bound on gossip messages"

    def _to_wait(self, receipt: PublishReceipt) -> bool:
        return receipt.outcome is PublishOutcome.QUEUE_FULL


SendKey = tuple[str, str, Durable | None]


class Sending(Joined[SendKey, SendReceipt]):
    """`Send` and `SendMany`, by peer and protocol."""

    _tag = SEND_ITEM
    _many = "SendMany"
    _done = "sent"
    _too_large = SendOutcome.TOO_LARGE

    def __init__(self, link: Link, stub: "direct_pb2_grpc.DirectServiceAsyncStub", bulk: Any) -> None:
        super().__init__(link, bulk)
        self._send: Any = stub.Send

    async def _one(self, key: SendKey, data: bytes, request_id: str, timeout: float | None) -> SendReceipt:
        peer_id, protocol, durable = key
        request = _checks.request(
            direct_pb2.SendRequest, peer_id=peer_id, protocol=protocol, data=data, request_id=request_id
        )
        if durable is not None:
            request.durable.CopyFrom(_convert.durable(durable))
        response: direct_pb2.SendResponse = await self._link.unary(
            self._send, request, timeout, repeatable=bool(request_id)
        )
        return _convert.send_receipt(response.receipt)

    def _head(self, key: SendKey) -> bytes:
        peer_id, protocol, durable = key
        head = _checks.request(direct_pb2.SendManyRequest, peer_id=peer_id, protocol=protocol)
        if durable is not None:
            head.durable.CopyFrom(_convert.durable(durable))
        return head.SerializeToString()

    def _receipts(self, response: direct_pb2.SendManyResponse) -> Iterator[tuple[int, Sequence[SendReceipt]]]:
        for part in response.receipts:
            yield part.first, _convert.send_receipt_of_each(part)

    def _refusal(self, receipt: SendReceipt, size: int) -> str:
        return f"message of {size} bytes: {receipt.detail}"
