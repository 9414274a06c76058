"""PubSubService over a real Unix socket, against a node that is a fake."""

import asyncio
from pathlib import Path

import grpc
import pytest
import sidecar_client
from sidecar_client import Bundling, PublishOutcome, Signing
from sidecar_client.v1 import common_pb2, pubsub_pb2, pubsub_pb2_grpc

from sidecar.core import gossip
from sidecar.core.parameters import bundles
from tests.api.fakes import (
    OTHER_TEXT,
    asynchronous,
    served,
)

CHAT = "/chat/1"


async def _never(request: sidecar_client.Request) -> bytes:
    raise AssertionError("nobody asks")


@pytest.mark.parametrize("outcome", [o for o in gossip.PublishOutcome if o is not gossip.PublishOutcome.CANCELLED])
def test_every_outcome_of_publishing(outcome: gossip.PublishOutcome, tmp_path: Path) -> None:
    @asynchronous
    async def check() -> None:
        async with served(tmp_path) as (node, _, _, client):
            node.outcome = outcome
            many = await client.publish_many("news", [b"a"] * 5000, signing=Signing.STRICT_NO_SIGN)
            assert [(r.first, r.count, r.outcome.name) for r in many] == [(0, 5000, outcome.name)]
            published = node.of(gossip.Published)[0]
            assert (published.wait, published.options) == (True, gossip.TopicOptions(sign=False))
            if outcome is gossip.PublishOutcome.TOO_LARGE:
                with pytest.raises(sidecar_client.TooLarge, match="payload of 1 bytes"):
                    await client.publish("news", b"a")
                return
            receipt = await client.publish("news", b"a")
            assert receipt.outcome.name == outcome.name
            assert len(receipt.message_id) == (32 if outcome.name in ("SENT", "NO_PEERS") else 0)
            single = node.of(gossip.Published)[2:]  # when all queues are full, the client has it wait
            assert [one.wait for one in single] == [False, True][: 2 if outcome.name == "QUEUE_FULL" else 1]

    check()


@asynchronous
async def test_publish_many_gives_ids_when_asked(tmp_path: Path) -> None:
    async with served(tmp_path) as (_, _, _, client):
        receipts = await client.publish_many("news", [b"a", b"b"], return_message_ids=True)
        assert [len(name) for receipt in receipts for name in receipt.message_ids] == [32, 32]
        assert await client.publish_many("news", []) == []


@asynchronous
async def test_what_may_travel_in_bundles_is_said_with_the_topic(tmp_path: Path) -> None:
    async with served(tmp_path) as (node, _, _, client):
        await client.publish_many("news", [b"a", b"b"], bundling=Bundling.ALWAYS)
        await client.publish_many("news", [b"a", b"b"], bundling=Bundling.OFF)
        await client.publish_many("news", [b"a", b"b"])
        said = [published.bundling for published in node.of(gossip.Published)]
        assert said == [bundles.Bundling.ALWAYS, bundles.Bundling.OFF, None]
        wrong = pubsub_pb2.PublishManyRequest(topic="news", bundling=9)  # type: ignore[arg-type]
        call = client._pubsub.PublishMany(iter([wrong]))
        with pytest.raises(grpc.aio.AioRpcError) as raised:
            await call.read()
        assert client._link.error(raised.value).field == "bundling"  # type: ignore[attr-defined]


@asynchronous
async def test_publishing_waits_for_peers_until_cancelled(tmp_path: Path) -> None:
    async with served(tmp_path) as (node, _, _, client):
        with pytest.raises(sidecar_client.DeadlineExceeded):
            await client.publish("news", b"a", minimum_peers=3, timeout=0.05)
        published = await node.wait_for(gossip.Published)
        assert (published.wait, published.minimum_peers) == (True, 3)
        assert (await node.wait_for(gossip.PublishCancelled)).op == published.op


@asynchronous
async def test_a_publisher_that_waits_is_not_read_further(tmp_path: Path) -> None:
    async with served(tmp_path) as (node, _, _, client):
        node.answers[gossip.Published] = None
        call = asyncio.create_task(client.publish_many("news", [bytes(1000)] * 2000))
        parked = await node.wait_for(gossip.Published)
        await client.info()
        assert len(node.of(gossip.Published)) == 1
        del node.answers[gossip.Published]
        count = len(parked.messages)
        receipt = gossip.Receipt(0, count, gossip.PublishOutcome.SENT, 1, 0)
        node.on_news(gossip.PublishCompleted(parked.op, [receipt], [b"id"] * count))
        assert [(r.first, r.count) for r in await call] == [(0, 2000)]


@asynchronous
async def test_a_repeated_publication_is_answered_with_the_first_receipt(tmp_path: Path) -> None:
    async with served(tmp_path) as (node, _, _, client):
        receipts = [await client.publish("news", data, request_id="1") for data in (b"a", b"b")]
        assert receipts[0] == receipts[1]
        assert len(node.of(gossip.Published)) == 1
        node.outcome = gossip.PublishOutcome.QUEUE_FULL
        assert (await client.publish("news", b"c", request_id="2")).outcome is PublishOutcome.QUEUE_FULL
        node.outcome = gossip.PublishOutcome.SENT
        assert (await client.publish("news", b"c", request_id="2")).outcome is PublishOutcome.SENT


@asynchronous
async def test_what_was_published_before_its_call_was_cancelled_is_not_published_again(tmp_path: Path) -> None:
    async with served(tmp_path) as (node, backend, _, client):
        receipts = [
            gossip.Receipt(0, 1, gossip.PublishOutcome.SENT, 1, 0),
            gossip.Receipt(1, 1, gossip.PublishOutcome.CANCELLED, 0, 0),
        ]
        node.when_cancelled = (receipts, [b"first", b""])
        node.answers[gossip.Published] = None
        messages = [common_pb2.OutgoingMessage(data=name.encode(), request_id=name) for name in ("1", "2")]
        async with grpc.aio.insecure_channel(str(client.target)) as channel:
            call = pubsub_pb2_grpc.PubSubServiceStub(channel).PublishMany()
            await call.write(pubsub_pb2.PublishManyRequest(topic="news", messages=messages))
            await node.wait_for(gossip.Published)
        await node.wait_for(gossip.PublishCancelled)
        del node.answers[gossip.Published]
        assert (await client.publish("news", b"1", request_id="1")).message_id == b"first"
        assert (await client.publish("news", b"2", request_id="2")).outcome is PublishOutcome.SENT
        assert [published.messages for published in node.of(gossip.Published)] == [[b"1", b"2"], [b"2"]]
        assert backend.statistics().flat()["api_operations"] == 0


@asynchronous
async def test_signing_that_differs_is_refused(tmp_path: Path) -> None:
    async with served(tmp_path) as (node, _, _, client):
        async with client.subscribe("news", signing=Signing.STRICT_NO_SIGN):
            assert node.joined["news"] == gossip.TopicOptions(sign=False)
            assert (await client.topics())[0].signing is Signing.STRICT_NO_SIGN
            await client.publish("news", b"a")
            for call in (
                client.publish("news", b"a", signing=Signing.STRICT_SIGN),
                client.publish_many("news", [b"a"], signing=Signing.STRICT_SIGN),
                client.subscribe("news", signing=Signing.STRICT_SIGN).__aenter__(),
            ):
                with pytest.raises(sidecar_client.TopicOptionsDiffer):
                    await call
        await node.wait_for(gossip.TopicLeft)


@asynchronous
async def test_topics(tmp_path: Path) -> None:
    async with served(tmp_path) as (_, _, _, client), client.subscribe(["b", "a"]), client.subscribe("a"):
        await client.publish("a", b"x")
        first, second = await client.topics()
        assert (first.name, first.subscribers, first.history_messages, first.peers) == ("a", 2, 1, 1)
        assert first.mesh_peer_ids == (OTHER_TEXT,)
        assert (second.name, second.subscribers, second.history_messages) == ("b", 1, 0)


@asynchronous
async def test_bounds_on_streams(tmp_path: Path) -> None:
    bounds = {"max_subscriptions": 1, "max_receivers": 1, "max_watchers": 1}
    async with served(tmp_path, **bounds) as (_, _, _, client):  # noqa: SIM117 - one after the other
        async with client.subscribe("a"), client.receive(CHAT), client.serve(CHAT, _never):
            watching = client.watch_peers()
            await anext(watching)
            second = client.watch_peers()
            for call in (
                client.subscribe("a").__aenter__(),
                client.receive(CHAT).__aenter__(),
                client.serve("/b/1", _never).__aenter__(),
                anext(second),
            ):
                with pytest.raises(sidecar_client.ResourceExhausted, match=r"at most 1|that many"):
                    await call
            await watching.aclose()


@asynchronous
async def test_an_oversize_request_is_refused_by_the_transport(tmp_path: Path) -> None:
    async with served(tmp_path, max_request_bytes=65_536) as (_, _, _, client):
        with pytest.raises(sidecar_client.TooLarge, match="larger than max"):
            await client.publish("news", bytes(70_000))
        with pytest.raises(sidecar_client.TooLarge, match="larger than max"):
            await client.publish_many("x" * 70_000, [b""])  # beside the messages there is room for names as they may be
