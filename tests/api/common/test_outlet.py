"""What calls are answered from: everything is written before the end, and the first error counts."""

import asyncio
from collections import deque
from typing import Any

import pytest

from sidecar.api.common.lifetime import Lifetime
from sidecar.api.common.outlet import Outlet, converse, pour
from sidecar.core.errors import Closed, InvalidArgument, QueueFull
from sidecar.core.override import override
from tests.api.fakes import asynchronous


class Queue(Outlet):
    """Of texts; `expected` as in `Outlet.nothing`."""

    def __init__(self) -> None:
        super().__init__()
        self.texts: deque[str] = deque()
        self.expected = False

    def push(self, text: str) -> None:
        self.texts.append(text)
        self.ready.set()

    @override
    def take(self) -> Any:
        return self.texts.popleft() if self.texts else self.nothing(expected=self.expected)


class Reader:
    """Reads what is written; `told` is set after each."""

    def __init__(self) -> None:
        self.read: list[Any] = []
        self.told = asyncio.Event()

    async def write(self, response: Any) -> None:
        self.read.append(response)
        self.told.set()


@asynchronous
async def test_what_is_there_is_written_before_the_end() -> None:
    outlet, reader = Queue(), Reader()
    pouring = asyncio.create_task(pour(outlet, reader.write))
    outlet.push("a")
    await reader.told.wait()
    outlet.push("b")
    outlet.end(QueueFull("first"))
    outlet.end(Closed("second"))
    with pytest.raises(QueueFull, match="first"):
        await pouring
    assert reader.read == ["a", "b"]


@asynchronous
async def test_one_that_is_finished_is_over_when_nothing_is_expected_any_more() -> None:
    outlet, reader = Queue(), Reader()
    outlet.expected = True
    pouring = asyncio.create_task(pour(outlet, reader.write))
    outlet.finish()
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert not pouring.done()
    outlet.expected = False
    outlet.push("last")
    await pouring
    assert reader.read == ["last"]


async def _said(*requests: str) -> Any:
    for request in requests:
        yield request


@asynchronous
async def test_what_the_app_says_is_consumed_until_it_is_refused_or_wrong() -> None:
    heard: list[str] = []

    async def consume(outlet: Queue, request: str) -> None:
        if request == "wrong":
            raise InvalidArgument("wrong")
        heard.append(request)
        outlet.push(request.upper())

    outlet, reader = Queue(), Reader()
    await converse(_said("a", "b"), outlet, lambda request: consume(outlet, request), reader.write)
    assert (heard, reader.read) == (["a", "b"], ["A", "B"])

    outlet, reader = Queue(), Reader()
    with pytest.raises(InvalidArgument):
        await converse(_said("c", "wrong", "d"), outlet, lambda request: consume(outlet, request), reader.write)
    assert (heard, reader.read) == (["a", "b", "c"], ["C"])

    outlet, reader = Queue(), Reader()
    refused = asyncio.create_task(
        converse(_said("e"), outlet, lambda request: consume(outlet, request), reader.write, lambda: True)
    )
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    outlet.end(Closed("stopping"))
    with pytest.raises(Closed):
        await refused
    assert (heard, reader.read) == (["a", "b", "c"], [])


@asynchronous
async def test_draining_waits_for_all_that_is_busy_and_closing_ends_every_stream() -> None:
    lifetime, busy, stream = Lifetime(), {"one": True, "two": True}, Queue()
    for name in busy:
        lifetime.await_end_of(lambda name=name: busy[name])
    lifetime.check_accepting()
    with lifetime.stream(stream):
        assert lifetime.streams == 1
        draining = asyncio.create_task(lifetime.drain(60))
        await asyncio.sleep(0)
        assert lifetime.refusing()
        with pytest.raises(Closed):
            lifetime.check_accepting()
        lifetime.check_open()
        busy["one"] = False
        lifetime.settled()
        await asyncio.sleep(0)
        assert not draining.done()
        busy["two"] = False
        lifetime.settled()
        await draining
        lifetime.close()
        with pytest.raises(Closed):
            stream.take()
    with pytest.raises(Closed), lifetime.stream(Queue()):
        pass
    assert lifetime.streams == 0
