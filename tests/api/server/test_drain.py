"""The end in order: what is under way when the server stops is answered, what is new is refused."""

import asyncio
from pathlib import Path
from typing import Any

import grpc
import pytest
import sidecar_client
from sidecar_client.v1 import direct_pb2, direct_pb2_grpc, node_pb2, node_pb2_grpc

from sidecar.api.backend import Backend
from sidecar.api.server.server import ApiServer
from sidecar.core import direct, errors
from sidecar.core.direct import SendOutcome
from tests.api.fakes import OTHER, OTHER_TEXT, FakeNode, asynchronous, served, server

pytestmark = pytest.mark.usefixtures("each_engine")

CHAT = "/chat/1"


async def _draining(api: ApiServer, backend: Backend) -> "asyncio.Task[None]":
    """The server has begun to stop, and takes nothing new on."""
    stopping = asyncio.create_task(api.stop())
    while not backend.lifetime.refusing():  # noqa: ASYNC110 - it takes a few turns of the loop, no time
        await asyncio.sleep(0)
    return stopping


def _delivered(node: FakeNode) -> None:
    for fed in node.of(direct.SendRequested):
        ranges = (direct.OutcomeRange(0, len(fed.messages), SendOutcome.DELIVERED),)
        node.on_news(direct.SendCompleted(fed.op, ranges, None))


@asynchronous
async def test_receipts_and_results_under_way_go_out_before_the_streams_end(tmp_path: Path) -> None:
    async with server(tmp_path / "api.sock", drain_timeout=15) as (node, backend, api), _channel(api) as channel:
        node.answers[direct.SendRequested] = None
        stub = direct_pb2_grpc.DirectServiceStub(channel)  # type: ignore[no-untyped-call]
        many = stub.SendMany()
        await many.write(_batch(b"a", b"b"))
        await node.wait_for(direct.SendRequested)
        single = stub.Send(direct_pb2.SendRequest(peer_id=OTHER_TEXT, protocol=CHAT, data=b"c"))
        await node.wait_for(direct.SendRequested)
        asked = stub.Request(direct_pb2.RequestRequest(peer_id=OTHER_TEXT, protocol=CHAT, data=b"d"))
        question = await node.wait_for(direct.RequestMade)

        stopping = await _draining(api, backend)
        await many.write(_batch(b"too late"))
        _delivered(node)
        assert not stopping.done()
        node.on_news(direct.RequestCompleted(question.op, b"answer"))

        assert [(r.first, r.count) for response in [await many.read()] for r in response.receipts] == [(0, 2)]
        assert (await single).receipt.outcome == direct_pb2.SEND_OUTCOME_DELIVERED
        assert (await asked).data == b"answer"
        with pytest.raises(grpc.aio.AioRpcError, match="the sidecar is stopping") as ended:
            await many.read()
        assert ended.value.code() is grpc.StatusCode.UNAVAILABLE
        await stopping
        assert [fed.messages for fed in node.of(direct.SendRequested)] == [[b"a", b"b"], [b"c"]]


@asynchronous
async def test_new_calls_are_refused_while_what_tells_of_the_node_still_answers(tmp_path: Path) -> None:
    async with server(tmp_path / "api.sock", drain_timeout=15) as (node, backend, api), _channel(api) as channel:
        node.answers[direct.SendRequested] = None
        stub = direct_pb2_grpc.DirectServiceStub(channel)  # type: ignore[no-untyped-call]
        under_way = stub.Send(direct_pb2.SendRequest(peer_id=OTHER_TEXT, protocol=CHAT))
        await node.wait_for(direct.SendRequested)
        stopping = await _draining(api, backend)
        with pytest.raises(grpc.aio.AioRpcError, match="the sidecar is stopping") as refused:
            await stub.Send(direct_pb2.SendRequest(peer_id=OTHER_TEXT, protocol=CHAT))
        assert refused.value.code() is grpc.StatusCode.UNAVAILABLE
        told = node_pb2_grpc.NodeServiceStub(channel)  # type: ignore[no-untyped-call]
        assert (await told.GetNode(node_pb2.GetNodeRequest())).node.network == "test"
        _delivered(node)
        await under_way
        await stopping


@asynchronous
async def test_an_app_answers_the_requests_it_has_been_given(tmp_path: Path) -> None:
    async with served(tmp_path, drain_timeout=15) as (node, backend, api, client):
        begun, go_on = asyncio.Event(), asyncio.Event()

        async def answer(request: sidecar_client.Request) -> bytes:
            begun.set()
            await go_on.wait()
            return request.data.upper()

        async with client.serve(CHAT, answer):
            node.on_news(direct.RequestArrived(1, OTHER, CHAT, b"old", backend.now() + 9))
            await begun.wait()
            stopping = await _draining(api, backend)
            node.on_news(direct.RequestArrived(2, OTHER, CHAT, b"new", backend.now() + 9))
            go_on.set()
            await stopping
        answers = {answered.token: answered.answer for answered in node.of(direct.RequestAnswered)}
        assert answers.pop(1) == b"OLD"
        assert isinstance(answers.pop(2), errors.Closed)
        assert not answers


@asynchronous
async def test_what_never_ends_does_not_hold_the_stop_up_for_ever(tmp_path: Path) -> None:
    async with server(tmp_path / "api.sock", drain_timeout=0.05) as (node, _, api), _channel(api) as channel:
        node.answers[direct.SendRequested] = None
        stub = direct_pb2_grpc.DirectServiceStub(channel)  # type: ignore[no-untyped-call]
        many = stub.SendMany()
        await many.write(_batch(b"a"))
        await node.wait_for(direct.SendRequested)
        await api.stop()
        with pytest.raises(grpc.aio.AioRpcError, match="the sidecar is stopping"):
            await many.read()


def _batch(*messages: bytes) -> direct_pb2.SendManyRequest:
    batch = [{"data": data} for data in messages]
    return direct_pb2.SendManyRequest(peer_id=OTHER_TEXT, protocol=CHAT, messages=batch)


def _channel(api: ApiServer) -> Any:
    return grpc.aio.insecure_channel(api.target)
