"""What the client makes of settlements before the sidecar sees them."""

import asyncio
from typing import Any, cast

import pytest
from sidecar_client import InvalidArgument
from sidecar_client._link import Link
from sidecar_client.durable import DurableMessage, Settling
from sidecar_client.v1 import direct_pb2, durable_pb2

from tests.api.fakes import asynchronous


class FakeLink:
    """Settles each delivery once, in calls that wait for the gate."""

    bounds = (64 << 10, 4096, 64 << 10)

    def __init__(self) -> None:
        self.gate = asyncio.Event()
        self.calls: list[list[int]] = []
        self._settled: set[int] = set()

    def check_open(self) -> None:
        pass

    async def unary(self, _call: Any, request: durable_pb2.SettleRequest, *_: Any, **__: Any) -> Any:
        numbers = [settlement.id for settlement in request.settlements]
        self.calls.append(numbers)
        await self.gate.wait()
        stale = [number for number in numbers if number in self._settled]
        self._settled.update(numbers)
        return durable_pb2.SettleResponse(stale=stale)


def messages(link: FakeLink, count: int) -> list[DurableMessage]:
    settling = Settling(cast(Link, link), None)
    return [
        DurableMessage(settling, direct_pb2.DirectMessage(delivery=direct_pb2.Delivery(id=number, attempt=1)))
        for number in range(count)
    ]


@asynchronous
async def test_what_is_settled_while_a_call_is_under_way_goes_together() -> None:
    link = FakeLink()
    settled = [asyncio.create_task(message.acknowledge()) for message in messages(link, 5000)]
    while not link.calls:  # noqa: ASYNC110 - a turn of the loop
        await asyncio.sleep(0)
    link.gate.set()
    assert all(await asyncio.gather(*settled))
    assert sum(map(len, link.calls)) == 5000
    assert len(link.calls) < 5
    assert max(map(len, link.calls)) <= 4096


@asynchronous
async def test_a_call_has_each_delivery_once_since_answers_are_told_by_its_number() -> None:
    link = FakeLink()
    other, twice = messages(link, 2)
    settled = [asyncio.create_task(message.acknowledge()) for message in (other, twice, twice)]
    link.gate.set()
    assert await asyncio.gather(*settled) == [True, True, False]


@asynchronous
async def test_long_reasons_do_not_make_a_request_that_is_too_large() -> None:
    link = FakeLink()
    link.gate.set()
    rejected = [message.reject("x" * 1024) for message in messages(link, 200)]
    assert all(await asyncio.gather(*rejected))
    assert max(map(len, link.calls)) * 1024 < link.bounds[0]


@asynchronous
async def test_what_the_sidecar_would_refuse_does_not_reach_it() -> None:
    link = FakeLink()
    (message,) = messages(link, 1)
    for reason in ("x" * 1025, "\ud800"):
        with pytest.raises(InvalidArgument):
            await message.reject(reason)
    for seconds in (-1, 86_401):
        with pytest.raises(InvalidArgument):
            await message.delay(seconds)
    assert link.calls == []
