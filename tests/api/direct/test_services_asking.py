"""RequestMany over a real Unix socket, against a node that is a fake."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf.duration_pb2 import Duration
from google.rpc.status_pb2 import Status
from sidecar_client.v1 import direct_pb2, direct_pb2_grpc

from sidecar.api.backend import Backend
from sidecar.api.config import ApiConfig
from sidecar.api.direct.asking import Asker
from sidecar.api.guard import caller
from sidecar.core import direct, errors
from sidecar.process.spans import NoTracer
from tests.api.fakes import ME_TEXT, OTHER, OTHER_TEXT, FakeNode, asynchronous, server

CHAT = "/chat/1"


class Call:
    """A RequestMany call, read into results by number."""

    def __init__(self, node: FakeNode, backend: Backend, call: Any) -> None:
        self.node, self.backend, self.call = node, backend, call
        self.results: dict[int, bytes | Status] = {}

    async def write(self, *requests: tuple[int, bytes], withdrawn: tuple[int, ...] = (), **fields: str) -> None:
        outgoing = [direct_pb2.OutgoingRequest(id=number, data=data) for number, data in requests]
        await self.call.write(direct_pb2.RequestManyRequest(requests=outgoing, withdrawn=withdrawn, **fields))

    async def read(self, count: int) -> dict[int, bytes | Status]:
        """Read until there are so many results; what they are."""
        while len(self.results) < count:
            response = await self.call.read()
            assert response is not grpc.aio.EOF
            for result in response.results:
                assert result.id not in self.results
                failed = result.HasField("status")
                self.results[result.id] = Status.FromString(result.status) if failed else result.data
        return self.results

    async def made(self, count: int) -> list[direct.RequestMade]:
        """The requests made so far, once there are so many."""
        while len(self.node.of(direct.RequestMade)) < count:
            await self.node.wait_for(direct.RequestMade)
        return self.node.of(direct.RequestMade)

    def answer(self, made: direct.RequestMade, answer: bytes | errors.SidecarError) -> None:
        self.node.on_news(direct.RequestCompleted(made.op, answer))


@asynccontextmanager
async def calling(directory: Path, **bounds: Any) -> AsyncIterator[Call]:
    path = directory / "api.sock"
    async with server(path, **bounds) as (node, backend, api), grpc.aio.insecure_channel(api.target) as channel:
        stub: Any = direct_pb2_grpc.DirectServiceStub(channel)
        call = stub.RequestMany()
        yield Call(node, backend, call)
        call.cancel()


@asynchronous
async def test_results_come_by_number_in_any_order(tmp_path: Path) -> None:
    async with calling(tmp_path) as call:
        await call.write((7, b"a"), (0, b"b"), peer_id=OTHER_TEXT, protocol=CHAT)
        await call.write((3, b"c"))  # as in the message before
        made = await call.made(3)
        assert call.node.batches == [2]  # what came together is one input
        assert [(one.peer, one.protocol, one.data) for one in made] == [
            (OTHER, CHAT, data) for data in (b"a", b"b", b"c")
        ]
        call.answer(made[2], b"C")
        assert await call.read(1) == {3: b"C"}
        call.answer(made[0], errors.Refused("no"))
        call.answer(made[1], b"")
        results = await call.read(3)
        assert results[0] == b""
        refused = results[7]
        assert isinstance(refused, Status)
        assert (refused.code, refused.message) == (grpc.StatusCode.FAILED_PRECONDITION.value[0], "no")
        await call.write((7, b"again"))  # the number is free again
        call.answer((await call.made(4))[3], b"!")
        await call.call.done_writing()
        response = await call.call.read()
        assert [(result.id, result.data) for result in response.results] == [(7, b"!")]
        assert await call.call.read() is grpc.aio.EOF


@asynchronous
async def test_what_is_malformed_is_the_result_of_its_requests_only(tmp_path: Path) -> None:
    async with calling(tmp_path) as call:
        call.node.answers[direct.RequestMade] = b"yes"
        await call.write((1, b""))
        await call.write((2, b""), peer_id="nobody", protocol=CHAT)
        await call.write((3, b""), peer_id=ME_TEXT)
        await call.write((4, b""), peer_id=OTHER_TEXT, protocol="\n")
        await call.write((5, b""), protocol=CHAT)
        late = direct_pb2.OutgoingRequest(id=6, timeout=Duration(seconds=86_401))
        await call.call.write(direct_pb2.RequestManyRequest(requests=[late]))
        results = await call.read(6)
        assert results.pop(5) == b"yes"
        assert {
            number: result.code for number, result in results.items() if isinstance(result, Status)
        } == dict.fromkeys((1, 2, 3, 4, 6), grpc.StatusCode.INVALID_ARGUMENT.value[0])
        assert len(call.node.of(direct.RequestMade)) == 1


@asynchronous
async def test_a_number_in_use_ends_the_call(tmp_path: Path) -> None:
    async with calling(tmp_path) as call:
        await call.write((1, b"a"), peer_id=OTHER_TEXT, protocol=CHAT)
        await call.write((1, b"b"))
        with pytest.raises(grpc.aio.AioRpcError, match="1 still waits for its result") as caught:
            await call.read(1)
        assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
        (made,) = call.node.of(direct.RequestMade)
        assert (await call.node.wait_for(direct.RequestCancelled)).op == made.op


@asynchronous
async def test_withdrawn_requests_and_those_of_a_call_that_ends_are_cancelled(tmp_path: Path) -> None:
    async with calling(tmp_path) as call:
        await call.write((1, b"a"), (2, b"b"), peer_id=OTHER_TEXT, protocol=CHAT)
        made = await call.made(2)
        await call.write(withdrawn=(1, 99))
        assert (await call.node.wait_for(direct.RequestCancelled)).op == made[0].op
        call.call.cancel()
        while len(call.node.of(direct.RequestCancelled)) < 2:
            await call.node.wait_for(direct.RequestCancelled)
        assert [one.op for one in call.node.of(direct.RequestCancelled)] == [one.op for one in made]


@asynchronous
async def test_deadlines_are_the_requests_own(tmp_path: Path) -> None:
    async with calling(tmp_path, request_timeout=7.0) as call:
        given = direct_pb2.OutgoingRequest(id=1, timeout=Duration(seconds=3))
        default = direct_pb2.OutgoingRequest(id=2)
        await call.call.write(
            direct_pb2.RequestManyRequest(peer_id=OTHER_TEXT, protocol=CHAT, requests=[given, default])
        )
        left = [made.deadline - call.backend.now() for made in await call.made(2)]
        assert 1 < left[0] < 4
        assert 5 < left[1] <= 7


@asynchronous
async def test_open_requests_are_bounded_by_back_pressure() -> None:
    node = FakeNode()
    backend = Backend(node, node.feed, ApiConfig(), agent="sidecar/test")
    node.on_news = backend.on_news
    caller.introduce(caller.EVERYONE)  # as the gate does
    asker = Asker(backend.context, NoTracer())
    outgoing = [direct_pb2.OutgoingRequest(id=number) for number in range(1500)]
    request = direct_pb2.RequestManyRequest(peer_id=OTHER_TEXT, protocol=CHAT, requests=outgoing)
    reading = asyncio.create_task(asker.consume(request))
    await node.wait_for(direct.RequestMade)
    assert len(node.of(direct.RequestMade)) == 1024
    for made in node.of(direct.RequestMade)[:600]:
        node.on_news(direct.RequestCompleted(made.op, b""))
    await reading
    assert len(node.of(direct.RequestMade)) == 1500
    asker.close()
    assert len(node.of(direct.RequestCancelled)) == 900


@asynchronous
async def test_results_that_nobody_reads_are_bounded() -> None:
    node = FakeNode()
    node.answers[direct.RequestMade] = bytes(600)
    backend = Backend(node, node.feed, ApiConfig(send_window_bytes=1000), agent="sidecar/test")
    node.on_news = backend.on_news
    caller.introduce(caller.EVERYONE)  # as the gate does
    asker = Asker(backend.context, NoTracer())
    frames = [
        direct_pb2.RequestManyRequest(
            peer_id=OTHER_TEXT,
            protocol=CHAT,
            requests=[direct_pb2.OutgoingRequest(id=number) for number in range(first, first + 5)],
        )
        for first in range(0, 30, 5)
    ]

    async def consume() -> None:
        for frame in frames:
            await asker.consume(frame)

    reading = asyncio.create_task(consume())
    results: list[direct_pb2.RequestResult] = []
    batches = 0
    while len(results) < 30:
        await node.wait_for(direct.RequestMade)
        batch = direct_pb2.RequestManyResponse.FromString(asker.take() or b"").results
        assert [len(result.data) for result in batch] == [600] + [0] * (
            len(batch) - 1
        )  # those behind are told QUEUE_FULL
        codes = {Status.FromString(result.status).code for result in batch[1:]}
        assert codes <= {grpc.StatusCode.RESOURCE_EXHAUSTED.value[0]}
        results += batch
        batches += 1
        await asyncio.sleep(0)
    assert batches > 3
    assert [result.id for result in results] == list(range(30))
    await reading
