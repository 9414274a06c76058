"""Publishing and sending in bulk: batches out, receipts for ranges back."""

import asyncio
import dataclasses
from collections.abc import AsyncGenerator, AsyncIterable, Callable, Iterable
from contextlib import aclosing
from typing import Any, TypeVar

import grpc

from . import _raw
from ._link import Link
from .types import PublishReceipts, SendReceipts

Payloads = Iterable[bytes] | AsyncIterable[bytes]
Receipts = TypeVar("Receipts", PublishReceipts, SendReceipts)

PUBLISH_ITEM = b"\x2a"  # tag of PublishManyRequest.messages, field 5
SEND_ITEM = b"\x1a"  # tag of SendManyRequest.messages, field 3
BATCH_BYTES = 262_144  # of payload in a request; the sidecar takes 4 MiB
BATCH_MESSAGES = 4096
_HEADS = 4096


async def transfer(
    link: Link,
    call: Any,
    *,
    first: bytes,
    item: bytes,
    payloads: Payloads,
    parse: Callable[[Any], Iterable[Receipts]],
    on_receipts: Callable[[Receipts], None] | None,
) -> list[Receipts]:
    """Write all payloads to a bulk call and return the receipts for all of them, as few ranges as say it.

    `first` is the encoded beginning of the first request, `item` the tag of its messages. `on_receipts` gets receipts
    as they come. Raises SidecarError.
    """
    reader = asyncio.create_task(_read(call, parse, on_receipts), name="sidecar receipts")
    writer = asyncio.create_task(_write(call, first, item, payloads), name="sidecar payloads")
    try:
        await asyncio.wait((reader, writer), return_when=asyncio.FIRST_COMPLETED)
        if writer.done():
            writer.result()
        return await reader  # the call may end before all is written: the reader knows why
    except grpc.aio.AioRpcError as error:
        raise link.error(error) from None
    except asyncio.CancelledError:
        link.check_ours()
        raise
    finally:
        call.cancel()
        for task in (reader, writer):
            task.cancel()
        await asyncio.wait((reader, writer))


async def _write(call: Any, first: bytes, item: bytes, payloads: Payloads) -> None:
    encoder = _Encoder(item)
    async with aclosing(_batches(payloads)) as batches:
        async for batch in batches:
            try:
                await _raw.write(call, first + encoder.encode(batch), first=bool(first))
            except _raw.ENDED:
                return  # the reader knows why
            first = b""
    await call.done_writing()


async def _read(
    call: Any, parse: Callable[[Any], Iterable[Receipts]], on_receipts: Callable[[Receipts], None] | None
) -> list[Receipts]:
    ranges: list[Receipts] = []
    while (response := await call.read()) is not grpc.aio.EOF:
        for receipts in parse(response):
            if on_receipts is not None:
                on_receipts(receipts)
            joined = _joined(ranges[-1], receipts) if ranges else None
            if joined is None:
                ranges.append(receipts)
            else:
                ranges[-1] = joined
    return sorted(ranges, key=lambda receipts: receipts.first)


def _joined(last: Receipts, following: Receipts) -> Receipts | None:
    """Both as one range, where they say the same of consecutive messages and name no ids."""
    if last.first + last.count != following.first or (isinstance(following, PublishReceipts) and following.message_ids):
        return None
    if dataclasses.replace(last, first=following.first, count=following.count) != following:
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
        if batch and (size + len(data) > BATCH_BYTES or len(batch) >= BATCH_MESSAGES):
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
                if size >= BATCH_BYTES or len(pending) >= BATCH_MESSAGES:
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
