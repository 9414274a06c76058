"""The Python agent of the client benchmark: `python agent.py`, orders as JSON lines on standard input.

The agents of all languages understand the same orders; `bench/clients/README.md` says which. What begins with `stub` is
done with the generated code and gRPC's defaults, as an app without this client would; the rest with the client.
"""

import asyncio
import base64
import json
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack
from typing import Any

import grpc
import sidecar_client
from sidecar_client import Signing
from sidecar_client.v1 import common_pb2, direct_pb2, direct_pb2_grpc, pubsub_pb2, pubsub_pb2_grpc

_SIGNING = Signing.STRICT_NO_SIGN
_PB_SIGNING = pubsub_pb2.SIGNING_STRICT_NO_SIGN
_STAMP = 8  # bytes that make a payload differ from all others


class Agent:
    """Each public method is an order; what it returns is the answer."""

    def __init__(self, stack: AsyncExitStack) -> None:
        self._stack = stack
        self._clients: dict[str, sidecar_client.Client] = {}
        self._channels: dict[str, Any] = {}
        self._numbers = time.time_ns()

    # ------------------------------------------------------------ subscribing

    async def subscribe(self, target: str, via: str, topic: str, count: int, cursor: str, per_pass: int) -> Any:
        """Read `count` messages, at most `per_pass` of them from each subscription, which begins at the cursor."""
        place = base64.b64decode(cursor)
        read: Callable[..., Awaitable[int]] = {
            "stub": self._read_stub,
            "batches": self._read_batches,
            "messages": self._read_messages,
        }[via]
        seen = size = 0
        started = time.monotonic()
        while seen < count:
            wanted = min(per_pass or count, count - seen)
            size += await read(target, topic, place, wanted)
            seen += wanted
        return {"seconds": time.monotonic() - started, "bytes": size}

    async def _read_stub(self, target: str, topic: str, cursor: bytes, wanted: int) -> int:
        stub: Any = pubsub_pb2_grpc.PubSubServiceStub(self._channel(target))
        seen = size = 0
        request = pubsub_pb2.SubscribeRequest(topics=[topic], cursor=cursor, signing=_PB_SIGNING)
        call = stub.Subscribe(request)
        async for response in call:
            for message in response.messages:
                size += len(message.data)
            seen += len(response.messages)
            if seen >= wanted:
                call.cancel()
                return size
        raise RuntimeError("the stream has ended")

    async def _read_batches(self, target: str, topic: str, cursor: bytes, wanted: int) -> int:
        seen = size = 0
        async with (await self._client(target)).subscribe(topic, cursor=cursor, signing=_SIGNING) as subscription:
            async for batch in subscription.batches():
                if batch.lagged is not None:
                    raise RuntimeError(str(batch.lagged))
                for payload in batch.payloads():
                    size += len(payload)
                seen += len(batch)
                if seen >= wanted:
                    return size
        raise RuntimeError("the stream has ended")

    async def _read_messages(self, target: str, topic: str, cursor: bytes, wanted: int) -> int:
        seen = size = 0
        async with (await self._client(target)).subscribe(topic, cursor=cursor, signing=_SIGNING) as subscription:
            async for message in subscription:
                size += len(message.data)
                seen += 1
                if seen >= wanted:
                    return size
        raise RuntimeError("the stream has ended")

    async def fill(self, target: str, topic: str, size: int, count: int) -> Any:
        """Publish into a topic's history; the cursor before it."""
        client = await self._client(target)
        async with client.subscribe(topic, signing=_SIGNING) as subscription:
            cursor = subscription.cursor
            await client.publish_many(topic, self._payloads(size, count), signing=_SIGNING)
        return {"cursor": base64.b64encode(cursor).decode()}

    # ------------------------------------------------------------ publishing

    async def publish(self, target: str, via: str, topic: str, size: int, count: int, batch: int, many: int) -> Any:
        """Publish `count` messages: by the stub's PublishMany in requests of `batch`, or the client, `many` at once."""
        started = time.monotonic()
        if via == "stub":
            await self._publish_stub(target, topic, size, count, batch)
        elif via == "publish_many":
            client = await self._client(target)
            receipts = await client.publish_many(topic, self._payloads(size, count), signing=_SIGNING)
            _require(sum(r.count for r in receipts if r.outcome.name in ("SENT", "NO_PEERS")) == count)
        else:
            client = await self._client(target)
            payloads = self._payloads(size, count)

            async def work() -> None:
                for data in payloads:
                    receipt = await client.publish(topic, data, signing=_SIGNING)
                    _require(receipt.outcome.name in ("SENT", "NO_PEERS"))

            await asyncio.gather(*(work() for _ in range(many)))
        return {"seconds": time.monotonic() - started}

    async def _publish_stub(self, target: str, topic: str, size: int, count: int, batch: int) -> None:
        call: Any = pubsub_pb2_grpc.PubSubServiceStub(self._channel(target)).PublishMany()
        answered = 0

        async def write() -> None:
            payloads = self._payloads(size, count)
            first = True
            for start in range(0, count, batch):
                some = (next(payloads) for _ in range(min(batch, count - start)))
                request = pubsub_pb2.PublishManyRequest(
                    topic=topic if first else "",
                    signing=_PB_SIGNING if first else pubsub_pb2.SIGNING_UNSPECIFIED,
                    messages=[common_pb2.OutgoingMessage(data=data) for data in some],
                )
                await call.write(request)
                first = False
            await call.done_writing()

        writing = asyncio.create_task(write())
        while (response := await call.read()) is not grpc.aio.EOF:
            answered += sum(receipt.count for receipt in response.receipts)
        await writing
        _require(answered == count)

    def _payloads(self, size: int, count: int) -> Iterator[bytes]:
        """Payloads that differ: on an unsigned topic the same data is one message."""
        first, tail = self._numbers, bytes(size - _STAMP)
        self._numbers += count
        for number in range(first, first + count):
            yield number.to_bytes(_STAMP, "big") + tail

    # ------------------------------------------------------------ unary calls

    async def unary(self, target: str, count: int, many: int) -> Any:
        """Ask the node for its identity, `many` calls at once."""
        client = await self._client(target)
        left = iter(range(count))

        async def work() -> None:
            for _ in left:
                await client.info()

        started = time.monotonic()
        await asyncio.gather(*(work() for _ in range(many)))
        return {"seconds": time.monotonic() - started}

    # ------------------------------------------------------------ byte streams

    async def echo(self, target: str) -> Any:
        """Give back what comes on byte streams from now on."""
        client = await self._client(target)
        accepted = await self._stack.enter_async_context(client.accept_streams("/bench/echo/1"))

        async def each() -> None:
            async for stream in accepted:
                tasks.add(asyncio.create_task(back(stream)))

        async def back(stream: sidecar_client.ByteStream) -> None:
            async with stream:
                while data := await stream.read(1 << 20):
                    await stream.write(data)

        tasks = {asyncio.create_task(each())}
        self._stack.callback(lambda: [task.cancel() for task in tasks])
        return {"peer_id": (await client.info()).peer_id}

    async def stream(self, target: str, peer_id: str, size: int, count: int) -> Any:
        """Write `count` pieces to a stream, and read as many bytes back meanwhile."""
        client = await self._client(target)
        data = bytes(size)
        started = time.monotonic()
        async with client.open_stream(peer_id, "/bench/echo/1") as stream:

            async def write() -> None:
                for _ in range(count):
                    await stream.write(data)
                await stream.close_write()

            writing = asyncio.create_task(write())
            seen = 0
            while piece := await stream.read(1 << 20):
                seen += len(piece)
            await writing
            _require(seen == size * count)
        return {"seconds": time.monotonic() - started}

    # ------------------------------------------------------------ requests

    async def request(self, target: str, via: str, peer_id: str, size: int, count: int, many: int) -> Any:
        """Make requests, `many` at once; with how long each took."""
        data = bytes(size)
        once: Callable[[], Awaitable[bytes]]
        if via == "stub":
            stub: Any = direct_pb2_grpc.DirectServiceStub(self._channel(target))
            request = direct_pb2.RequestRequest(peer_id=peer_id, protocol="/bench/1", data=data)

            async def once() -> bytes:
                response = await stub.Request(request)
                answer: bytes = response.data
                return answer
        else:
            client = await self._client(target)

            async def once() -> bytes:
                return await client.request(peer_id, "/bench/1", data)

        times: list[float] = []
        left = iter(range(count))

        async def work() -> None:
            for _ in left:
                begun = time.monotonic()
                _require(len(await once()) == size)
                times.append((time.monotonic() - begun) * 1000)

        started = time.monotonic()
        await asyncio.gather(*(work() for _ in range(many)))
        seconds = time.monotonic() - started
        times.sort()
        return {"seconds": seconds, "p50_ms": times[len(times) // 2], "p99_ms": times[len(times) * 99 // 100]}

    async def serve(self, target: str) -> Any:
        """Echo requests from now on."""

        async def echo(request: sidecar_client.Request) -> bytes:
            return request.data

        client = await self._client(target)
        await self._stack.enter_async_context(client.serve("/bench/1", echo))
        return {"peer_id": (await client.info()).peer_id}

    # ------------------------------------------------------------ verdicts

    async def judge(self, target: str, topic: str, count: int) -> Any:
        """Accept all messages of a topic from now on; `count` of them may wait for that."""
        client = await self._client(target)
        judging = client.validate(
            topic,
            lambda message: sidecar_client.Verdict.ACCEPT,
            fallback=sidecar_client.ValidationFallback.HOLD,
            max_waiting=count,
        )
        await self._stack.enter_async_context(judging)
        return {}

    # ------------------------------------------------------------ connections

    async def _client(self, target: str) -> sidecar_client.Client:
        client = self._clients.get(target)
        if client is None:
            client = await self._stack.enter_async_context(sidecar_client.connect(target, reconnect=False))
            self._clients[target] = client
        return client

    def _channel(self, target: str) -> Any:
        channel = self._channels.get(target)
        if channel is None:
            channel = self._channels[target] = grpc.aio.insecure_channel(target)
            self._stack.push_async_callback(channel.close)
        return channel


def _require(right: bool) -> None:
    if not right:
        raise RuntimeError("another answer than expected")


async def _orders() -> AsyncIterator[dict[str, Any]]:
    reader = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    async for line in reader:
        yield json.loads(line)


async def main() -> None:
    async with AsyncExitStack() as stack:
        agent = Agent(stack)
        async for order in _orders():
            try:
                answer = {"ok": await getattr(agent, order.pop("op"))(**order)}
            except Exception as error:  # noqa: BLE001  the benchmark reports it
                answer = {"error": f"{type(error).__name__}: {error}"}
            print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    asyncio.run(main())
