"""What parts of a single message cost in Python with nothing around them: the floor of any client that has them."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import NamedTuple

from sidecar_client import _hot
from sidecar_client.v1 import pubsub_pb2

_COUNT = 100_000
_CALLERS = 1000
_TIMES = 5  # of which the quickest counts


class Costs(NamedTuple):
    """In microseconds."""

    waiting: float
    value: float
    step: float


def costs() -> Costs:
    """Measure all."""
    return Costs(_waiting(), _value(), _step())


def _waiting() -> float:
    """Microseconds for a caller to wait for a future that another task completes, a thousand callers at once."""

    async def all_wait() -> None:
        loop = asyncio.get_running_loop()
        pending: list[asyncio.Future[None]] = []

        async def call() -> None:
            for _ in range(_COUNT // _CALLERS):
                future = loop.create_future()
                pending.append(future)
                await future

        async def complete() -> None:
            while True:
                await asyncio.sleep(0)
                for future in pending:
                    future.set_result(None)
                pending.clear()

        completing = asyncio.create_task(complete())
        await asyncio.gather(*(call() for _ in range(_CALLERS)))
        completing.cancel()

    return _quickest(all_wait)


def _step() -> float:
    """Microseconds for a step of an asynchronous generator that need not wait."""

    async def count() -> AsyncIterator[int]:
        for number in range(_COUNT):
            yield number

    async def iterate() -> None:
        async for _ in count():
            pass

    return _quickest(iterate)


def _value() -> float:
    """Microseconds to make the client's value of a message that protobuf has parsed."""
    data = pubsub_pb2.TopicMessage(topic="bench", data=bytes(100))
    items = list(_hot.parse(pubsub_pb2.SubscribeResponse(messages=[data] * 1000).SerializeToString()).messages)

    async def make() -> None:
        for _ in range(_COUNT // len(items)):
            for _ in map(_hot.message, items):
                pass

    return _quickest(make)


def _quickest(work: Callable[[], Awaitable[None]]) -> float:
    """Microseconds of CPU for each of `_COUNT`."""

    async def measured() -> float:
        begun = time.process_time()
        await work()
        return time.process_time() - begun

    return min(asyncio.run(measured()) for _ in range(_TIMES)) / _COUNT * 1e6
