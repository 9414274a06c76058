"""Calls that stay open for what is called for later: single messages and requests ride them, also one at a time."""

import asyncio
import gc
from pathlib import Path
from typing import Any

import grpc
import pytest
import sidecar_client
from sidecar_client import Durable, PublishOutcome, SendOutcome
from sidecar_client.v1 import direct_pb2, pubsub_pb2

from sidecar.api.backend import Backend
from sidecar.core import direct, gossip
from tests.api.fakes import OTHER_TEXT, FakeNode, asynchronous, served, server
from tests.clients.python.test_connecting import Flaky, serving
from tests.clients.python.test_joining import begin, fed

pytestmark = pytest.mark.usefixtures("each_client_engine")

CHAT = "/chat/1"


def calls(backend: Backend) -> dict[str, int]:
    """How often each method has been called, and those calls that are open."""
    return {name: sum(told.ended.values()) + told.open for name, told in backend.calls.methods.items()}


def streams(backend: Backend) -> int:
    return backend.calls.open


async def until(backend: Backend, count: int) -> None:
    """Wait until so many streams are open."""
    while streams(backend) != count:  # noqa: ASYNC110 - some turns of the loop
        await asyncio.sleep(0)


def answering(node: FakeNode) -> None:
    node.answers |= {direct.RequestMade: b"answer", direct.SendRequested: (direct.SendOutcome.DELIVERED, None)}


@asynchronous
async def test_the_first_is_a_single_call_and_all_that_follow_ride_one(tmp_path: Path) -> None:
    async with served(tmp_path) as (node, backend, _, client):
        answering(node)
        for number in range(4):
            assert (await client.publish("news", b"%d" % number)).outcome is PublishOutcome.SENT
            assert (await client.send(OTHER_TEXT, CHAT, b"%d" % number)).outcome is SendOutcome.DELIVERED
            assert await client.request(OTHER_TEXT, CHAT, b"%d" % number) == b"answer"
        made = calls(backend)
        for service, method in (("PubSub", "Publish"), ("Direct", "Send"), ("Direct", "Request")):
            assert made[f"{service}Service/{method}"] == made[f"{service}Service/{method}Many"] == 1
        assert streams(backend) == 3
        await client.close()
        await until(backend, 0)


@asynchronous
async def test_each_of_the_messages_that_ride_a_call_is_durable(tmp_path: Path) -> None:
    async with served(tmp_path) as (node, backend, _, client):
        answering(node)
        for number in range(4):  # the receipt tells which are kept
            receipt = await client.send(OTHER_TEXT, CHAT, b"%d" % number, durable=Durable())
            assert receipt.outcome is SendOutcome.STORED
            assert (await client.send(OTHER_TEXT, CHAT, b"%d" % number)).outcome is SendOutcome.DELIVERED
        assert calls(backend)["DirectService/SendMany"] == 2


@asynchronous
async def test_each_batch_of_many_messages_is_durable(tmp_path: Path) -> None:
    async with served(tmp_path) as (node, _, _, client):
        answering(node)
        receipts = await client.send_many(OTHER_TEXT, CHAT, [b"x" * 100_000] * 100, durable=Durable())
        assert [(part.count, part.outcome) for part in receipts] == [(100, SendOutcome.STORED)]


@asynchronous
async def test_calls_stay_open_for_the_keys_used_last(tmp_path: Path) -> None:
    async with served(tmp_path) as (_, backend, _, client):
        for _ in range(2):
            for number in range(8):
                await client.publish(f"topic {number}", b"")
        assert streams(backend) == 8
        for _ in range(2):
            await client.publish("another", b"")
        await until(backend, 8)
        made = calls(backend)["PubSubService/PublishMany"]
        await client.publish("topic 1", b"")  # its call is still there
        assert calls(backend)["PubSubService/PublishMany"] == made
        await client.publish("topic 0", b"")  # that of this one has ended
        assert calls(backend)["PubSubService/Publish"] == 10


@asynchronous
async def test_many_topics_in_turn_open_no_calls(tmp_path: Path) -> None:
    async with served(tmp_path) as (_, backend, _, client):
        for _ in range(3):
            for number in range(20):
                await client.publish(f"topic {number}", b"")
        assert streams(backend) == 0
        assert "PubSubService/PublishMany" not in {name for name, count in calls(backend).items() if count}


@asynchronous
async def test_an_idle_call_holds_up_no_drain_and_what_comes_then_is_refused_at_once(tmp_path: Path) -> None:
    async with served(tmp_path, drain_timeout=15.0) as (node, backend, api, client):
        answering(node)
        for _ in range(2):
            await client.request(OTHER_TEXT, CHAT, b"")
            await client.publish("news", b"")
        node.answers[direct.SendRequested] = None
        (under_way,) = begin(client.send(OTHER_TEXT, CHAT, b""))
        await fed(node, direct.SendRequested, 1)
        stopping = asyncio.create_task(api.stop())
        await until(backend, 1)  # that of the message under way
        for late in begin(client.request(OTHER_TEXT, CHAT, b""), client.publish("news", b"", timeout=0.2)):
            with pytest.raises(sidecar_client.SidecarError, match="the sidecar is stopping"):
                await late
        assert not stopping.done()
        sent = node.of(direct.SendRequested)[0]
        node.on_news(direct.SendCompleted(sent.op, (direct.OutcomeRange(0, 1, direct.SendOutcome.DELIVERED),), None))
        assert (await under_way).outcome is SendOutcome.DELIVERED
        await stopping


@asynchronous
async def test_it_is_opened_anew_when_the_sidecar_comes_back(tmp_path: Path) -> None:
    path = tmp_path / "api.sock"
    node = FakeNode()
    answering(node)
    async with server(path, node) as (_, _, api):
        client = sidecar_client.connect(api.target)
        for _ in range(2):
            assert await client.request(OTHER_TEXT, CHAT, b"") == b"answer"
            assert (await client.publish("news", b"")).outcome is PublishOutcome.SENT
    async with server(path, node) as (_, backend, _), client:
        for _ in range(3):
            assert await client.request(OTHER_TEXT, CHAT, b"") == b"answer"
            assert (await client.publish("news", b"")).outcome is PublishOutcome.SENT
        assert streams(backend) == 2


SENT = pubsub_pb2.PublishResponse(receipt=pubsub_pb2.PublishReceipt(outcome=pubsub_pb2.PUBLISH_OUTCOME_SENT))
DELIVERED = direct_pb2.SendResponse(receipt=direct_pb2.SendReceipt(outcome=direct_pb2.SEND_OUTCOME_DELIVERED))


def older(flaky: Flaky) -> dict[str, Any]:
    """The methods of a sidecar that has no bulk calls."""
    return flaky.methods() | {
        "PubSubService/Publish": flaky._answering(pubsub_pb2.PublishRequest, SENT),
        "DirectService/Send": flaky._answering(direct_pb2.SendRequest, DELIVERED),
    }


async def each(client: sidecar_client.Client, times: int) -> None:
    for _ in range(times):
        assert await client.request(OTHER_TEXT, CHAT, b"") == b"answer"
        assert (await client.publish("news", b"")).outcome is PublishOutcome.SENT
        assert (await client.send(OTHER_TEXT, CHAT, b"")).outcome is SendOutcome.DELIVERED


@asynchronous
async def test_a_sidecar_without_the_calls_is_asked_one_by_one(tmp_path: Path) -> None:
    place = f"unix:{tmp_path / 'api.sock'}"
    flaky = Flaky(0, grpc.StatusCode.UNAVAILABLE)
    async with serving(place, methods=older(flaky)), sidecar_client.connect(place) as client:
        await each(client, 3)
        assert not client._asking._followed
        assert flaky.calls == 10  # and one to see whether it is there


@asynchronous
async def test_one_that_has_them_in_its_place_is_asked_together(tmp_path: Path) -> None:
    path = tmp_path / "api.sock"
    node = FakeNode()
    answering(node)
    client = sidecar_client.connect(f"unix:{path}")
    async with serving(f"unix:{path}", methods=older(Flaky(0, grpc.StatusCode.UNAVAILABLE))):
        await each(client, 3)
    async with server(path, node) as (_, backend, _), client:
        await each(client, 3)
        assert streams(backend) == 3


@asynchronous
async def test_a_message_that_goes_alone_after_all_has_what_is_left_of_its_time(tmp_path: Path) -> None:
    place = f"unix:{tmp_path / 'api.sock'}"
    refuse = asyncio.Event()

    async def publish_many(_: Any, context: Any) -> None:
        await refuse.wait()
        await context.abort(grpc.StatusCode.UNIMPLEMENTED, "Method not found!")

    methods = older(Flaky(0, grpc.StatusCode.UNAVAILABLE)) | {
        "PubSubService/PublishMany": grpc.stream_stream_rpc_method_handler(publish_many),
    }
    async with serving(place, methods=methods), sidecar_client.connect(place) as client:
        given: list[float] = []
        one = client._publishing._one

        async def noted(key: Any, data: bytes, request_id: str, timeout: float | None) -> Any:
            assert timeout is not None
            given.append(timeout)  # gRPC would round it
            return await one(key, data, request_id, timeout)

        client._publishing._one = noted  # type: ignore[method-assign]
        await client.publish("news", b"", timeout=10)
        (second,) = begin(client.publish("news", b"", timeout=10))
        asyncio.get_running_loop().call_later(0.2, refuse.set)
        assert (await second).outcome is PublishOutcome.SENT
        assert given[0] == 10 > given[1] + 0.19


@asynchronous
async def test_with_a_token_a_message_that_is_alone_stays_a_single_call(tmp_path: Path) -> None:
    async with (
        server(tmp_path / "api.sock") as (node, backend, api),
        sidecar_client.connect(api.target, token="of.another") as client,
    ):
        answering(node)
        for _ in range(3):
            await client.request(OTHER_TEXT, CHAT, b"")
            await client.publish("news", b"")
        assert streams(backend) == 0
        assert calls(backend)["PubSubService/Publish"] == calls(backend)["DirectService/Request"] == 3


@asynchronous
async def test_a_client_that_is_dropped_keeps_nothing_open(tmp_path: Path) -> None:
    async with server(tmp_path / "api.sock") as (node, backend, api):
        answering(node)
        client = sidecar_client.connect(api.target)
        for _ in range(2):
            await client.request(OTHER_TEXT, CHAT, b"")
            await client.publish("news", b"")
        assert streams(backend) == 2
        del client
        gc.collect()
        await until(backend, 0)


@asynchronous
async def test_a_deadline_that_passes_leaves_the_next_message_alone(tmp_path: Path) -> None:
    async with served(tmp_path) as (node, _, _, client):
        answering(node)
        for _ in range(2):
            await client.request(OTHER_TEXT, CHAT, b"")
            await client.publish("news", b"")
        published, node.answers[direct.RequestMade] = node.answers.get(gossip.Published), None
        node.answers[gossip.Published] = None
        with pytest.raises(sidecar_client.DeadlineExceeded):
            await client.request(OTHER_TEXT, CHAT, b"", timeout=0.05)
        with pytest.raises(sidecar_client.DeadlineExceeded):
            await client.publish("news", b"", timeout=0.05)
        answering(node)
        if published is None:
            del node.answers[gossip.Published]
        else:
            node.answers[gossip.Published] = published
        assert await client.request(OTHER_TEXT, CHAT, b"") == b"answer"
        assert (await client.publish("news", b"")).outcome is PublishOutcome.SENT
