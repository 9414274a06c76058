"""An app of a sidecar, driven by JSON lines as the peer programs are: `python -m bench.app SOCKET`.

Each line on standard input is an order with an `id` and an `op`; each is answered by a line with the same id. It ends
when its input ends.
"""

import asyncio
import contextlib
import json
import os
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterable
from typing import Any

import sidecar_client
from sidecar_client import PublishOutcome, PublishReceipts, SendOutcome, SendReceipts, Signing

from bench.figures import percentiles

TOPIC = "bench"
_ACK = "/bench/ack/1"
_DIRECT = "/bench/direct/1"
_ECHO = "/bench/echo/1"
_ECHO_STREAM = "/bench/stream/echo/1"
_SINK = "/bench/sink/1"
_SOURCE = "/bench/source/1"
_WRITE_BYTES = 256 * 1024
HOSTILE = b"hostile:"  # how payloads of attackers begin; see `bench.hostile`
_STAMP = 8  # bytes at a payload's beginning: its number, or when it was sent


def _require_sent(receipts: PublishReceipts) -> None:
    if receipts.outcome is not PublishOutcome.SENT:
        raise RuntimeError(f"{receipts.count} messages: {receipts.outcome.name}")


def _require_delivered(outcome: SendOutcome) -> None:
    if outcome is not SendOutcome.DELIVERED:
        raise RuntimeError(f"a direct message: {outcome.name}")


class _Credit:
    """How many messages are on the way, at most `window`."""

    def __init__(self, window: int) -> None:
        self._window = window
        self._changed = asyncio.Event()
        self.sent = self.done = 0

    @property
    def full(self) -> bool:
        return self.sent - self.done >= self._window

    def reach(self, done: int) -> None:
        self.done = done
        self._changed.set()

    async def room(self) -> None:
        while self.full:
            self._changed.clear()
            await self._changed.wait()

    async def empty(self) -> None:
        while self.done < self.sent:
            self._changed.clear()
            await self._changed.wait()


class Attended:
    """What a subscriber got of an honest publisher's messages, among others."""

    def __init__(self) -> None:
        self.seen: dict[int, None] = {}  # by the time at which each was sent, which no two share
        self.latencies: list[float] = []  # milliseconds
        self.repeated = 0
        self.disordered = 0
        self.hostile = 0  # messages of attackers
        self.lagged = 0  # times that the sidecar dropped some since this app was too slow
        self._last = 0

    def note(self, payloads: Iterable[bytes], now: int) -> None:
        """Messages came, at `now` in monotonic nanoseconds."""
        for data in payloads:
            if data.startswith(HOSTILE):
                self.hostile += 1
                continue
            sent = int.from_bytes(data[:_STAMP], "big")
            if sent in self.seen:
                self.repeated += 1
                continue
            self.disordered += sent < self._last
            self._last = sent
            self.seen[sent] = None
            self.latencies.append((now - sent) / 1e6)


class App:
    """What a benchmark asks of an app. Each public method is an op; what it returns is the answer."""

    def __init__(self, client: sidecar_client.Client, stack: contextlib.AsyncExitStack) -> None:
        self._client = client
        self._stack = stack
        self._signing = Signing.STRICT_SIGN
        self._tasks: list[asyncio.Task[None]] = []
        self._numbers = 0  # unsigned messages need to differ, over floods too
        self._credit = _Credit(1)
        self._received = 0
        self._latencies: list[float] | None = None
        self._attended = Attended()

    async def info(self) -> dict[str, Any]:
        info = await self._client.info()
        return {"peer_id": info.peer_id, "addresses": info.listening_addresses}

    async def statistics(self) -> dict[str, float]:
        return dict(await self._client.statistics())

    async def await_outbound(self) -> None:
        """Wait for a connection that was opened here."""
        async for event in self._client.watch_peers():
            if event.peer is not None and event.peer.direction is sidecar_client.Direction.OUTBOUND:
                return

    async def peers(self) -> dict[str, int]:
        """How many peers are connected, and how many of these connections were opened here."""
        peers = [peer async for peer in self._client.peers(connected_only=True)]
        outbound = sum(peer.direction is sidecar_client.Direction.OUTBOUND for peer in peers)
        return {"connected": len(peers), "outbound": outbound}

    # ------------------------------------------------------------ gossip

    async def listen(self, signed: bool, ack_to: str, every: int) -> None:
        """Subscribe, and tell the app of `ack_to` about each `every` messages; a flood's count must be a multiple."""
        signing = Signing.STRICT_SIGN if signed else Signing.STRICT_NO_SIGN
        subscription = await self._stack.enter_async_context(self._client.subscribe(TOPIC, signing=signing))
        some = asyncio.Event()

        async def count() -> None:
            async for batch in subscription.batches():
                if batch.lagged is not None:
                    raise RuntimeError(str(batch.lagged))
                if self._latencies is not None:
                    now = time.monotonic_ns()
                    self._latencies += [(now - int.from_bytes(data[:_STAMP], "big")) / 1e6 for data in batch.payloads()]
                before = self._received // every
                self._received += len(batch)
                if self._received // every > before:
                    some.set()

        async def acknowledge() -> None:
            while True:
                await some.wait()
                some.clear()
                receipt = await self._client.send(ack_to, _ACK, self._received.to_bytes(8, "big"))
                _require_delivered(receipt.outcome)

        self._start(count())
        self._start(acknowledge())

    async def join(self, signed: bool) -> None:
        """Be ready to flood: hear acknowledgements."""
        self._signing = Signing.STRICT_SIGN if signed else Signing.STRICT_NO_SIGN
        receiver = await self._stack.enter_async_context(self._client.receive(_ACK))

        async def hear() -> None:
            async for batch in receiver.batches():
                self._credit.reach(max(int.from_bytes(data, "big") for data in batch.payloads()))

        self._start(hear())

    async def flood(self, size: int, count: int, window: int) -> dict[str, float]:
        """Publish, with at most `window` messages unacknowledged; returns once all are acknowledged."""
        credit = _Credit(window)
        credit.sent = credit.done = self._numbers
        self._credit = credit
        end = self._numbers + count
        tail = os.urandom(size - _STAMP)

        async def payloads() -> AsyncIterator[bytes]:
            while credit.sent < end:
                if credit.full:
                    await credit.room()
                credit.sent += 1
                yield credit.sent.to_bytes(_STAMP, "big") + tail

        started = time.monotonic()
        done = await self._client.publish_many(TOPIC, payloads(), signing=self._signing, minimum_peers=1)
        for receipts in done:
            _require_sent(receipts)
        await credit.empty()
        self._numbers = end
        return {"seconds": time.monotonic() - started}

    async def pace(self, size: int, count: int, rate: float) -> None:
        """Publish at a steady rate, each message with the time at which it was sent."""
        credit = self._credit = _Credit(count)
        credit.sent = credit.done = self._numbers
        tail = os.urandom(size - _STAMP)
        started = time.monotonic()

        async def payloads() -> AsyncIterator[bytes]:
            for number in range(count):
                await asyncio.sleep(max(0.0, started + number / rate - time.monotonic()))
                credit.sent += 1
                yield time.monotonic_ns().to_bytes(_STAMP, "big") + tail

        done = await self._client.publish_many(TOPIC, payloads(), signing=self._signing, minimum_peers=1)
        for receipts in done:
            _require_sent(receipts)
        await credit.empty()
        self._numbers += count

    async def stream_at(self, size: int, count: int, rate: float) -> None:
        """As `pace`, but nobody acknowledges."""
        tail = os.urandom(size - _STAMP)
        started = time.monotonic()

        async def payloads() -> AsyncIterator[bytes]:
            for number in range(count):
                await asyncio.sleep(max(0.0, started + number / rate - time.monotonic()))
                yield time.monotonic_ns().to_bytes(_STAMP, "big") + tail

        await self._client.publish_many(TOPIC, payloads(), signing=self._signing)

    async def attend(self, signed: bool) -> None:
        """Subscribe, and note of each message of `stream_at` whether it came once and in order."""
        signing = Signing.STRICT_SIGN if signed else Signing.STRICT_NO_SIGN
        subscription = await self._stack.enter_async_context(self._client.subscribe(TOPIC, signing=signing))
        attended = self._attended = Attended()

        async def note() -> None:
            async for batch in subscription.batches():
                if batch.lagged is not None:
                    attended.lagged += 1
                    continue
                attended.note(batch.payloads(), time.monotonic_ns())

        self._start(note())

    async def attended(self) -> dict[str, Any]:
        """What `attend` noted so far. The times are those since this was asked last."""
        attended = self._attended
        times, attended.latencies = attended.latencies, []
        return {
            "received": len(attended.seen),
            "repeated": attended.repeated,
            "disordered": attended.disordered,
            "hostile": attended.hostile,
            "lagged": attended.lagged,
            "latency_ms": percentiles(times or [0.0]),
        }

    async def watch(self) -> None:
        """From now on messages bring the time at which they were sent."""
        self._latencies = []

    async def tally(self) -> dict[str, Any]:
        """How many messages came in all, and how long they took since `watch`."""
        return {"received": self._received, "latency_ms": percentiles(self._latencies or [0.0])}

    # ------------------------------------------------------------ direct messages and requests

    async def answer(self) -> None:
        """Receive direct messages and echo requests."""

        async def echo(request: sidecar_client.Request) -> bytes:
            return request.data

        receiver = await self._stack.enter_async_context(self._client.receive(_DIRECT))
        await self._stack.enter_async_context(self._client.serve(_ECHO, echo))

        async def drain() -> None:
            async for batch in receiver.batches():
                self._received += len(batch)

        self._start(drain())

    async def send_each(self, peer_id: str, size: int, count: int) -> dict[str, Any]:
        """Direct messages one at a time."""
        data = os.urandom(size)

        async def once() -> None:
            _require_delivered((await self._client.send(peer_id, _DIRECT, data)).outcome)

        return await _repeat(once, count, 1)

    async def send_many(self, peer_id: str, size: int, count: int, in_flight: int) -> dict[str, Any]:
        """Direct messages with at most `in_flight` without a receipt."""
        data = os.urandom(size)
        credit = _Credit(in_flight)
        begun: list[float] = []
        times: list[float] = []

        async def payloads() -> AsyncIterator[bytes]:
            for _ in range(count):
                if credit.full:
                    await credit.room()
                credit.sent += 1
                begun.append(time.monotonic())
                yield data

        def receipted(receipts: SendReceipts) -> None:
            now = time.monotonic()
            times.extend((now - at) * 1000 for at in begun[receipts.first : receipts.first + receipts.count])
            credit.reach(credit.done + receipts.count)

        started = time.monotonic()
        for receipts in await self._client.send_many(peer_id, _DIRECT, payloads(), on_receipts=receipted):
            _require_delivered(receipts.outcome)
        return {"seconds": time.monotonic() - started, "latency_ms": percentiles(times)}

    async def request(self, peer_id: str, size: int, count: int, in_flight: int) -> dict[str, Any]:
        """Requests that are echoed."""
        data = os.urandom(size)

        async def once() -> None:
            if await self._client.request(peer_id, _ECHO, data) != data:
                raise RuntimeError("another answer than the request")

        return await _repeat(once, count, in_flight)

    # ------------------------------------------------------------ byte streams

    async def answer_streams(self) -> None:
        """Echo, swallow and send on streams; nobody needs the end of the other's direction to go on."""
        protocols = [_ECHO_STREAM, _SINK, _SOURCE]
        streams = await self._stack.enter_async_context(self._client.accept_streams(protocols))

        async def answer(stream: sidecar_client.ByteStream) -> None:
            async with stream:
                if stream.protocol == _ECHO_STREAM:
                    async for data in stream:
                        await stream.write(data)
                    return
                size = int.from_bytes(await stream.readexactly(8), "big")
                if stream.protocol == _SINK:
                    await _swallow(stream, size)
                    await stream.write(size.to_bytes(8, "big"))
                else:
                    await _write(stream, size)
                await stream.read()  # the other side closes first

        async def accept() -> None:
            async for stream in streams:
                self._start(answer(stream))

        self._start(accept())

    async def echo(self, peer_id: str, size: int, count: int, in_flight: int) -> dict[str, Any]:
        """Echoes on one stream that stays open, with at most `in_flight` on the way."""
        data = os.urandom(size)
        credit = _Credit(in_flight)
        begun: list[float] = []
        times: list[float] = []

        async with self._client.open_stream(peer_id, _ECHO_STREAM) as stream:

            async def write() -> None:
                for _ in range(count):
                    if credit.full:
                        await credit.room()
                    credit.sent += 1
                    begun.append(time.monotonic())
                    await stream.write(data)

            started = time.monotonic()
            async with asyncio.TaskGroup() as group:
                group.create_task(write())
                for number in range(count):
                    if await stream.readexactly(size) != data:
                        raise RuntimeError("another answer than what was sent")
                    times.append((time.monotonic() - begun[number]) * 1000)
                    credit.reach(number + 1)
            return {"seconds": time.monotonic() - started, "latency_ms": percentiles(times)}

    async def bulk(self, peer_id: str, send: int, receive: int) -> dict[str, Any]:
        """So many bytes each way at the same time, a stream each; the far end has them all when it returns."""

        async def sink() -> None:
            async with self._client.open_stream(peer_id, _SINK) as stream:
                await stream.write(send.to_bytes(8, "big"))
                await _write(stream, send)
                if int.from_bytes(await stream.readexactly(8), "big") != send:
                    raise RuntimeError("not all bytes arrived")

        async def source() -> None:
            async with self._client.open_stream(peer_id, _SOURCE) as stream:
                await stream.write(receive.to_bytes(8, "big"))
                await _swallow(stream, receive)

        started = time.monotonic()
        async with asyncio.TaskGroup() as group:
            if send:
                group.create_task(sink())
            if receive:
                group.create_task(source())
        return {"seconds": time.monotonic() - started}

    async def new_streams(self, peer_id: str, count: int) -> dict[str, Any]:
        """Echoes of 100 bytes, one after the other, each on a stream of its own."""
        data = os.urandom(100)

        async def once() -> None:
            async with self._client.open_stream(peer_id, _ECHO_STREAM) as stream:
                await stream.write(data)
                if await stream.readexactly(len(data)) != data:
                    raise RuntimeError("another answer than what was sent")

        return await _repeat(once, count, 1)

    async def open_streams(self, peer_id: str, count: int) -> None:
        """Streams that stay open and idle."""
        streams = [self._client.open_stream(peer_id, _ECHO_STREAM) for _ in range(count)]
        await asyncio.gather(*(self._stack.enter_async_context(stream) for stream in streams))

    # ------------------------------------------------------------ connections

    async def connections(self, peer_id: str, addresses: list[str], count: int) -> dict[str, Any]:
        """Connect and disconnect, one at a time."""

        async def once() -> None:
            await self._client.connect_peer(peer_id, addresses=addresses)
            await self._client.disconnect_peer(peer_id)

        return await _repeat(once, count, 1)

    async def connect(self, addresses: list[str], peer_id: str = "") -> None:
        await self._client.connect_peer(peer_id, addresses=addresses)

    def _start(self, work: Any) -> None:
        task = asyncio.create_task(work)
        task.add_done_callback(_end_on_failure)
        self._tasks.append(task)


def _end_on_failure(task: "asyncio.Task[None]") -> None:
    """A measurement without this task would wait in vain: end, so that it fails now."""
    if not task.cancelled() and task.exception() is not None:
        print(f"{task.exception()!r}", file=sys.stderr, flush=True)
        os._exit(1)


async def _swallow(stream: sidecar_client.ByteStream, size: int) -> None:
    while size:
        data = await stream.read(min(size, _WRITE_BYTES))
        if not data:
            raise RuntimeError(f"{size} bytes did not arrive")
        size -= len(data)


async def _write(stream: sidecar_client.ByteStream, size: int) -> None:
    data = os.urandom(_WRITE_BYTES)
    for _ in range(size // len(data)):
        await stream.write(data)
    await stream.write(data[: size % len(data)])


async def _repeat(once: Callable[[], Any], count: int, in_flight: int) -> dict[str, Any]:
    times: list[float] = []
    left = iter(range(count))

    async def work() -> None:
        for _ in left:
            begun = time.monotonic()
            await once()
            times.append((time.monotonic() - begun) * 1000)

    started = time.monotonic()
    async with asyncio.TaskGroup() as group:
        for _ in range(in_flight):
            group.create_task(work())
    return {"seconds": time.monotonic() - started, "latency_ms": percentiles(times)}


async def _serve(socket: str) -> None:
    orders = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(orders), sys.stdin)
    async with sidecar_client.connect(socket, reconnect=False) as client, contextlib.AsyncExitStack() as stack:
        app = App(client, stack)
        async for line in orders:
            order = json.loads(line)
            number, op = order.pop("id"), order.pop("op")
            order.pop("timeout", None)
            try:
                answer = {"ok": True, **(await getattr(app, op)(**order) or {})}
            except Exception as error:  # noqa: BLE001  the benchmark reports it
                answer = {"ok": False, "error": f"{type(error).__name__}: {error}"}
            print(json.dumps({"id": number, **answer}), flush=True)


if __name__ == "__main__":
    asyncio.run(_serve(sys.argv[1]))
