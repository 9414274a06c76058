"""Publishing and sending in bulk: batches out, receipts for ranges back."""

import asyncio
import dataclasses
from bisect import bisect_right
from collections.abc import AsyncGenerator, AsyncIterable, Callable, Iterable, Iterator
from contextlib import aclosing
from typing import Any, Generic, TypeVar

from . import _raw, _rpc
from ._frames import Frames
from ._link import Link
from .types import PublishReceipts, SendReceipts

Payloads = Iterable[bytes] | AsyncIterable[bytes]
Receipts = TypeVar("Receipts", PublishReceipts, SendReceipts)
Received = TypeVar("Received", bound=PublishReceipts | SendReceipts)

PUBLISH_ITEM = b"\x2a"  # tag of PublishManyRequest.messages, field 5
SEND_ITEM = b"\x1a"  # tag of SendManyRequest.messages, field 3
_AHEAD_BYTES = 262_144  # of payloads read ahead
_AHEAD_MESSAGES = 4096
_HEADS = 4096


async def transfer(
    link: Link,
    call: Any,
    *,
    first: bytes,
    item: bytes,
    payloads: Payloads,
    parse: Callable[[Any], Iterable[Receipts]],
    too_large: Callable[[int, str], Receipts],
    on_receipts: Callable[[Receipts], None] | None,
) -> list[Receipts]:
    """Write all payloads to a bulk call and return the receipts for all of them, as few ranges as say it.

    `first` is the encoded beginning of the first request, `item` the tag of its messages. `on_receipts` gets receipts
    as they come. `too_large` makes that of a message which no request can hold, of its number and words about it: it
    is not sent, and all others are. Raises SidecarError.
    """
    ledger = _Ledger(too_large, on_receipts)
    reader = asyncio.create_task(_read(call, parse, ledger), name="sidecar receipts")
    writer = asyncio.create_task(_write(link, call, first, item, payloads, ledger), name="sidecar payloads")
    try:
        await asyncio.wait((reader, writer), return_when=asyncio.FIRST_COMPLETED)
        if writer.done():
            writer.result()
        return await reader  # the call may end before all is written: the reader knows why
    except _rpc.failures() as error:
        raise link.error(error) from None
    except asyncio.CancelledError:
        link.check_ours()
        raise
    finally:
        call.cancel()
        for task in (reader, writer):
            task.cancel()
        await asyncio.wait((reader, writer))


async def _write(link: Link, call: Any, first: bytes, item: bytes, payloads: Payloads, ledger: "_Ledger[Any]") -> None:
    encoder = _Encoder(item)
    try:
        await link.learn(call)
    except _raw.ended():
        return  # the reader knows why
    async with aclosing(_batches(payloads)) as batches:
        async for batch in batches:
            for part in ledger.requests(batch, link.bounds):
                try:
                    await _raw.write(call, first + encoder.encode(part), first=bool(first))
                except _raw.ended():
                    return
                first = b""
    await call.done_writing()


async def _read(call: Any, parse: Callable[[Any], Iterable[Receipts]], ledger: "_Ledger[Receipts]") -> list[Receipts]:
    while response := await call.read():
        for receipts in parse(response):
            ledger.came(receipts)
    return ledger.all()


class _Ledger(Generic[Received]):
    """The receipts, by the numbers of the app's payloads. The sidecar numbers those that were sent to it."""

    def __init__(
        self, too_large: Callable[[int, str], Received], on_receipts: Callable[[Received], None] | None
    ) -> None:
        self.ranges: list[Received] = []
        self._too_large = too_large
        self._on_receipts = on_receipts
        self._sent = 0
        self._omitted: list[int] = []  # for each message that was not sent: how many had been sent before it

    def requests(self, batch: Iterable[bytes], bounds: Frames) -> Iterator[list[bytes]]:
        """Share a batch out among requests."""
        part: list[bytes] = []
        size = 0
        for data in batch:
            length = len(data)
            if length > bounds.largest:
                if part:
                    yield part
                    part, size = [], 0
                number = self._sent + len(self._omitted)
                self._omitted.append(self._sent)
                text = f"message of {length} bytes, and a request to this sidecar holds one of at most {bounds.largest}"
                self._add(self._too_large(number, text))
                continue
            if part and (size + length > bounds.size or len(part) >= bounds.messages):
                yield part
                part, size = [], 0
            part.append(data)
            size += length
            self._sent += 1
        if part:
            yield part

    def came(self, receipts: Received) -> None:
        """The sidecar's receipts, by its numbers."""
        if not self._omitted:
            self._add(receipts)
            return
        first, end = receipts.first, receipts.first + receipts.count
        while first < end:
            before = bisect_right(self._omitted, first)
            until = min(end, self._omitted[before]) if before < len(self._omitted) else end
            part = dataclasses.replace(receipts, first=first + before, count=until - first)
            if isinstance(part, PublishReceipts) and part.message_ids:
                ids = part.message_ids[first - receipts.first : until - receipts.first]
                part = dataclasses.replace(part, message_ids=ids)
            elif isinstance(part, SendReceipts) and part.message_id is not None:
                name = part.message_id
                name = name._replace(sequence=name.sequence + first - receipts.first)
                part = dataclasses.replace(part, message_id=name)
            self._add(part)
            first = until

    def _add(self, receipts: Received) -> None:
        if self._on_receipts is not None:
            self._on_receipts(receipts)
        _append(self.ranges, receipts)

    def all(self) -> list[Received]:
        """All of them by number, as few as say it."""
        ranges: list[Received] = []
        for receipts in sorted(self.ranges, key=lambda receipts: receipts.first):
            _append(ranges, receipts)
        return ranges


def _append(ranges: list[Received], receipts: Received) -> None:
    joined = _joined(ranges[-1], receipts) if ranges else None
    if joined is None:
        ranges.append(receipts)
    else:
        ranges[-1] = joined


def _joined(last: Received, following: Received) -> Received | None:
    """Both as one range, where they say the same of consecutive messages and name no ids."""
    if last.first + last.count != following.first or (isinstance(following, PublishReceipts) and following.message_ids):
        return None
    expected = dataclasses.replace(last, first=following.first, count=following.count)
    if isinstance(expected, SendReceipts) and (name := expected.message_id) is not None:
        expected = dataclasses.replace(expected, message_id=name._replace(sequence=name.sequence + last.count))
    if expected != following:
        return None
    return dataclasses.replace(last, count=last.count + following.count)


class _Encoder:
    """Encodes payloads as `OutgoingMessage`s by hand: 0.08 us a message against 0.69 us with protobuf's objects."""

    def __init__(self, tag: bytes) -> None:
        self._tag = tag
        self._heads: dict[int, bytes] = {}  # length of a payload -> what goes before it

    def encode(self, payloads: Iterable[bytes]) -> bytes:
        heads = self._heads
        parts: list[bytes] = []
        for data in payloads:
            length = len(data)
            head = heads.get(length)
            if head is None:
                inner = b"\x0a" + varint(length)
                head = self._tag + varint(len(inner) + length) + inner
                if len(heads) < _HEADS:
                    heads[length] = head
            parts += (head, data)
        return b"".join(parts)


def varint(value: int) -> bytes:
    """A number from 0 as protobuf writes it: seven bits a byte, the low ones first."""
    encoded = bytearray()
    while value > 0x7F:
        encoded.append(value & 0x7F | 0x80)
        value >>= 7
    encoded.append(value)
    return bytes(encoded)


async def _batches(payloads: Payloads) -> AsyncGenerator[list[bytes], None]:
    """Full batches of what is there already; of an async iterable, what has come while the last one was written."""
    if isinstance(payloads, AsyncIterable):
        async with aclosing(_gathered(payloads)) as gathered:
            async for batch in gathered:
                yield batch
        return
    batch = []
    size = 0
    for data in payloads:
        if batch and (size + len(data) > _AHEAD_BYTES or len(batch) >= _AHEAD_MESSAGES):
            yield batch
            batch, size = [], 0
        batch.append(data)
        size += len(data)
    if batch:
        yield batch


async def _gathered(payloads: AsyncIterable[bytes]) -> AsyncGenerator[list[bytes], None]:
    """Read an async iterable ahead of the writer, by about one batch."""
    pending: list[bytes] = []
    some, room = asyncio.Event(), asyncio.Event()

    async def gather() -> None:
        size = 0
        try:
            async for data in payloads:
                if not pending:
                    size = 0
                pending.append(data)
                size += len(data)
                some.set()
                if size >= _AHEAD_BYTES or len(pending) >= _AHEAD_MESSAGES:
                    room.clear()
                    await room.wait()
        finally:
            some.set()

    gathering = asyncio.create_task(gather(), name="sidecar payloads")
    try:
        while pending or not gathering.done():
            if not pending:
                await some.wait()
            some.clear()
            batch = pending[:]
            pending.clear()
            room.set()
            if batch:
                yield batch
        await gathering
    finally:
        gathering.cancel()
        await asyncio.wait((gathering,))
