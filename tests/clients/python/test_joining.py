"""Single messages that are called for while others are under way: they go together, each with its own receipt."""

import asyncio
import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import sidecar_client
from sidecar_client import PublishOutcome, SendOutcome, Signing

from sidecar.core import direct, gossip
from tests.api.fakes import OTHER_TEXT, THIRD, FakeNode, asynchronous, served, server
from tests.clients.python.proxy import Proxy

pytestmark = pytest.mark.usefixtures("each_client_engine")

CHAT = "/chat/1"


def begin(*calls: Any) -> list[Any]:
    return [asyncio.create_task(call) for call in calls]


async def queued() -> None:
    """Let tasks that have just begun come to where they wait."""
    for _ in range(3):
        await asyncio.sleep(0)


async def fed(node: FakeNode, kind: type, count: int) -> None:
    """Wait until the node has got so many inputs of a kind."""
    while len(node.of(kind)) < count:
        await node.wait_for(kind)


def complete(node: FakeNode, outcomes: Sequence[gossip.PublishOutcome] | None = None) -> None:
    """Answer the last publishing: SENT, or with an outcome for each message."""
    published = node.of(gossip.Published)[-1]
    results = outcomes or [gossip.PublishOutcome.SENT] * len(published.messages)
    receipts = [gossip.Receipt(index, 1, outcome, 1, 0) for index, outcome in enumerate(results)]
    ids = [
        hashlib.sha256(data).digest() if outcome is gossip.PublishOutcome.SENT else b""
        for data, outcome in zip(published.messages, results, strict=True)
    ]
    node.on_news(gossip.PublishCompleted(published.op, receipts, ids))


# ---------------------------------------------------------------- going together


@asynchronous
async def test_ten_thousand_publishes_are_few_frames_and_each_has_its_receipt(tmp_path: Path) -> None:
    payloads = [b"%d" % number for number in range(10_000)]
    async with served(tmp_path) as (node, _, _, client):
        receipts = await asyncio.gather(*(client.publish("news", data) for data in payloads))
        frames = node.of(gossip.Published)
        assert len(frames) < 300
        assert [data for frame in frames for data in frame.messages] == payloads  # in the order of the calls
        assert [receipt.message_id for receipt in receipts] == [hashlib.sha256(data).digest() for data in payloads]
        assert {(receipt.outcome, receipt.peers, receipt.dropped) for receipt in receipts} == {
            (PublishOutcome.SENT, 1, 0)
        }
        await client.publish("news", b"alone")
        assert node.of(gossip.Published)[-1].wait  # by the same call, which stays open


@asynchronous
async def test_ten_thousand_sends_are_few_frames(tmp_path: Path) -> None:
    payloads = [b"%d" % number for number in range(10_000)]
    async with served(tmp_path) as (node, _, _, client):
        node.answers[direct.SendRequested] = (direct.SendOutcome.DELIVERED, None)
        receipts = await asyncio.gather(*(client.send(OTHER_TEXT, CHAT, data) for data in payloads))
        frames = node.of(direct.SendRequested)
        assert len(frames) < 300
        assert [data for frame in frames for data in frame.messages] == payloads
        assert {(receipt.outcome, receipt.detail) for receipt in receipts} == {(SendOutcome.DELIVERED, "")}


@asynchronous
async def test_sends_that_come_meanwhile_do_not_wait_for_the_receipts_of_others(tmp_path: Path) -> None:
    async with served(tmp_path) as (node, _, _, client):
        node.answers[direct.SendRequested] = None
        (first,) = begin(client.send(OTHER_TEXT, CHAT, b"1"))
        await node.wait_for(direct.SendRequested)
        (second,) = begin(client.send(OTHER_TEXT, CHAT, b"2"))
        await queued()
        assert len(node.of(direct.SendRequested)) == 1
        answer(node, -1, direct.SendOutcome.DELIVERED)
        await first
        await node.wait_for(direct.SendRequested)
        (third,) = begin(client.send(OTHER_TEXT, CHAT, b"3"))
        assert (await node.wait_for(direct.SendRequested)).messages == [b"3"]
        answer(node, -1, direct.SendOutcome.NO_SUBSCRIBER)
        assert (await third).outcome is SendOutcome.NO_SUBSCRIBER
        answer(node, -2, direct.SendOutcome.TIMED_OUT)
        assert (await second).outcome is SendOutcome.TIMED_OUT


def answer(node: FakeNode, which: int, outcome: direct.SendOutcome) -> None:
    requested = node.of(direct.SendRequested)[which]
    ranges = (direct.OutcomeRange(0, len(requested.messages), outcome),)
    node.on_news(direct.SendCompleted(requested.op, ranges, None))


@asynchronous
async def test_only_messages_of_one_key_go_together(tmp_path: Path) -> None:
    async with served(tmp_path) as (node, _, _, client):
        node.answers[gossip.Published] = None
        node.answers[direct.SendRequested] = None
        calls = begin(
            client.publish("news", b"a"),
            client.publish("sport", b"a"),
            client.publish("news", b"a", signing=Signing.STRICT_NO_SIGN),
            client.publish("news", b"a", minimum_peers=1),
            client.send(OTHER_TEXT, CHAT, b"a"),
            client.send(str(THIRD), CHAT, b"a"),
            client.send(OTHER_TEXT, "/chat/2", b"a"),
        )
        await fed(node, gossip.Published, 4)
        await fed(node, direct.SendRequested, 3)
        for call in calls:
            call.cancel()
        await asyncio.wait(calls)


@asynchronous
async def test_messages_with_and_without_ids(tmp_path: Path) -> None:
    async with served(tmp_path) as (node, _, _, client):
        calls = [
            client.publish("news", b"%d" % number, request_id=f"id{number % 50}" * (number % 2))
            for number in range(100)
        ]
        receipts = await asyncio.gather(*calls)
        published = [data for frame in node.of(gossip.Published) for data in frame.messages]
        assert published == [b"%d" % number for number in range(100) if number < 50 or not number % 2]
        assert [r.message_id for r in receipts[51::2]] == [r.message_id for r in receipts[1:50:2]]
        calls = [client.publish("news", b"x", request_id=name) for name in ("a", "b", "c" * 65)]
        good, also_good, refused = await asyncio.gather(*calls, return_exceptions=True)
        assert [type(result) for result in (good, also_good)] == [sidecar_client.PublishReceipt] * 2
        assert isinstance(refused, sidecar_client.InvalidArgument)
        assert refused.field == "request_id"


@asynchronous
async def test_what_is_bytes_and_what_is_not(tmp_path: Path) -> None:
    async with served(tmp_path) as (node, _, _, client):
        data = bytearray(b"mutable")
        calls = begin(client.publish("news", b"first"), client.publish("news", data))  # type: ignore[arg-type]
        await queued()
        data[:] = b"changed"
        await asyncio.gather(*calls)
        assert node.of(gossip.Published)[-1].messages == [b"mutable"]
        results = await asyncio.gather(
            client.publish("news", b"good"),
            client.publish("news", "text"),  # type: ignore[arg-type]
            client.publish("news", b"good"),
            return_exceptions=True,
        )
        assert [type(result) for result in results] == [
            sidecar_client.PublishReceipt,
            TypeError,
            sidecar_client.PublishReceipt,
        ]


# ---------------------------------------------------------------- outcomes


@asynchronous
async def test_publishing_waits_while_all_queues_are_full(tmp_path: Path) -> None:
    async with served(tmp_path) as (node, _, _, client):
        node.answers[gossip.Published] = None
        calls = begin(client.publish("news", b"1"), client.publish("news", b"2"))
        assert not (await node.wait_for(gossip.Published)).wait
        complete(node, [gossip.PublishOutcome.QUEUE_FULL])
        published = await node.wait_for(gossip.Published)
        assert (published.wait, published.messages) == (True, [b"1", b"2"])  # still in order
        complete(node)
        assert [(await call).outcome for call in calls] == [PublishOutcome.SENT] * 2


@asynchronous
async def test_one_that_is_too_large_is_refused_and_its_neighbours_are_not(tmp_path: Path) -> None:
    sent, too_large = gossip.PublishOutcome.SENT, gossip.PublishOutcome.TOO_LARGE
    async with served(tmp_path) as (node, _, _, client):
        node.answers[gossip.Published] = None
        calls = begin(*(client.publish("news", bytes(size)) for size in (1, 2, 30, 4)))
        await node.wait_for(gossip.Published)
        complete(node)
        await node.wait_for(gossip.Published)
        complete(node, [sent, too_large, sent])
        results = await asyncio.gather(*calls, return_exceptions=True)
        assert [type(result).__name__ for result in results] == ["PublishReceipt"] * 2 + ["TooLarge", "PublishReceipt"]
        assert str(results[2]).startswith("payload of 30 bytes")
        node.answers[direct.SendRequested] = (direct.SendOutcome.TOO_LARGE, None)
        for result in await asyncio.gather(
            *(client.send(OTHER_TEXT, CHAT, b"x") for _ in range(3)), return_exceptions=True
        ):
            assert isinstance(result, sidecar_client.TooLarge)
            assert result.reason == "TOO_LARGE"


@asynchronous
async def test_one_that_grpc_refuses_does_not_take_others_with_it(tmp_path: Path) -> None:
    async with served(tmp_path, max_request_bytes=1_000_000) as (node, _, _, client):
        sizes = [1, 2, 2_000_000, 3, 400_000, 4, 5, 100_000, 100_000, 100_000]
        results = await asyncio.gather(*(client.publish("news", bytes(size)) for size in sizes), return_exceptions=True)
        refused = [size for size, result in zip(sizes, results, strict=True) if isinstance(result, BaseException)]
        assert refused == [2_000_000]
        assert isinstance(results[2], sidecar_client.TooLarge)
        frames = [[len(data) for data in frame.messages] for frame in node.of(gossip.Published)]
        assert frames == [[1], [2, 3], [400_000], [4, 5, 100_000, 100_000], [100_000]]


@asynchronous
async def test_an_error_of_the_call_is_told_to_each(tmp_path: Path) -> None:
    async with served(tmp_path) as (_, _, _, client), client.subscribe("news"):
        results = await asyncio.gather(
            *(client.publish("news", b"x", signing=Signing.STRICT_NO_SIGN) for _ in range(5000)), return_exceptions=True
        )
        assert {type(result) for result in results} == {sidecar_client.TopicOptionsDiffer}
        assert len({id(result) for result in results}) == 5000


# ---------------------------------------------------------------- giving up


@asynchronous
async def test_who_gives_up_before_it_is_written_is_left_out(tmp_path: Path) -> None:
    async with served(tmp_path) as (node, _, _, client):
        node.answers[gossip.Published] = None
        calls = begin(*(client.publish("news", b"%d" % number) for number in range(4)))
        (late,) = begin(client.publish("news", b"late", timeout=0.01))
        await node.wait_for(gossip.Published)
        calls[2].cancel()
        with pytest.raises(sidecar_client.DeadlineExceeded, match=r"not published within 0\.01 s"):
            await late
        complete(node)
        assert (await node.wait_for(gossip.Published)).messages == [b"1", b"3"]
        calls[3].cancel()  # too late to be left out
        with pytest.raises(asyncio.CancelledError):
            await calls[3]
        complete(node)
        assert [(await calls[number]).outcome for number in (0, 1)] == [PublishOutcome.SENT] * 2
        assert calls[2].cancelled()
        assert node.of(gossip.PublishCancelled) == []


@asynchronous
async def test_when_all_give_up_the_call_ends(tmp_path: Path) -> None:
    async with served(tmp_path) as (node, _, _, client):
        node.answers[gossip.Published] = None
        calls = begin(
            client.publish("news", b"0"), client.publish("news", b"1"), client.publish("news", b"2", timeout=0.2)
        )
        await node.wait_for(gossip.Published)
        calls[0].cancel()  # the unary call has one caller
        assert (await node.wait_for(gossip.PublishCancelled)).op == node.of(gossip.Published)[0].op
        await node.wait_for(gossip.Published)
        calls[1].cancel()
        with pytest.raises(sidecar_client.DeadlineExceeded):
            await calls[2]
        assert (await node.wait_for(gossip.PublishCancelled)).op == node.of(gossip.Published)[1].op
        (after,) = begin(client.publish("news", b"after"))
        await node.wait_for(gossip.Published)
        complete(node)
        assert (await after).outcome is PublishOutcome.SENT


@asynchronous
async def test_closing_tells_all_who_wait(tmp_path: Path) -> None:
    async with server(tmp_path / "api.sock") as (node, _, api):
        node.answers[gossip.Published] = node.answers[direct.SendRequested] = None
        client = await sidecar_client.connect(api.target).__aenter__()
        calls = begin(*(client.publish("news", b"%d" % number) for number in range(3)))
        await node.wait_for(gossip.Published)
        complete(node)
        await node.wait_for(gossip.Published)
        calls += begin(*(client.send(OTHER_TEXT, CHAT, b"%d" % number) for number in range(3)))
        await node.wait_for(direct.SendRequested)
        calls += begin(client.publish("sport", b"x"), client.publish("news", b"y"))
        await queued()
        await client.close()
        results = await asyncio.gather(*calls, return_exceptions=True)
        assert isinstance(results.pop(0), sidecar_client.PublishReceipt)
        assert {(type(result), str(result)) for result in results} == {
            (sidecar_client.Closed, "this client has been closed")
        }
        with pytest.raises(sidecar_client.Closed):
            await client.publish("news", b"x")


# ---------------------------------------------------------------- lost connections


@asynchronous
async def test_a_lost_connection_sends_again_only_what_is_safe(tmp_path: Path) -> None:
    async with served(tmp_path) as (node, _, api, _):
        proxy = Proxy(tmp_path / "proxy.sock", api.socket)
        async with proxy.running(), sidecar_client.connect(proxy.target) as client:
            node.answers[gossip.Published] = None
            calls = begin(
                client.publish("news", b"unary"),
                client.publish("news", b"written"),
                client.publish("news", b"named", request_id="id"),
            )
            await node.wait_for(gossip.Published)
            complete(node)
            assert (await calls[0]).outcome is PublishOutcome.SENT
            await node.wait_for(gossip.Published)
            calls += begin(client.publish("news", b"never written" + bytes(300_000)))  # too large to join the others
            await queued()
            await proxy.cut()
            with pytest.raises(sidecar_client.Closed, match="it may have been published"):
                await calls[1]
            await node.wait_for(gossip.PublishCancelled)
            while (await node.wait_for(gossip.Published)).messages != [b"named"]:
                pass
            complete(node)
            assert (await calls[2]).outcome is PublishOutcome.SENT
            published = await node.wait_for(gossip.Published)
            assert published.messages[0].startswith(b"never written")
            complete(node)
            assert (await calls[3]).outcome is PublishOutcome.SENT


@asynchronous
async def test_a_lone_message_that_a_lost_connection_had(tmp_path: Path) -> None:
    async with served(tmp_path) as (node, _, api, _):
        proxy = Proxy(tmp_path / "proxy.sock", api.socket)
        async with proxy.running(), sidecar_client.connect(proxy.target) as client:
            node.answers[gossip.Published] = node.answers[direct.SendRequested] = None
            calls = begin(
                client.publish("news", b"a"),
                client.publish("sport", b"b", request_id="b"),
                client.send(OTHER_TEXT, CHAT, b"c"),
                client.send(OTHER_TEXT, "/chat/2", b"d", request_id="d"),
            )
            await fed(node, gossip.Published, 2)
            await fed(node, direct.SendRequested, 2)
            del node.answers[gossip.Published]
            node.answers[direct.SendRequested] = (direct.SendOutcome.DELIVERED, None)
            await proxy.cut()
            with pytest.raises(sidecar_client.Closed, match="it may have been published"):
                await calls[0]
            with pytest.raises(sidecar_client.Closed, match="it may have been sent"):
                await calls[2]
            assert (await calls[1]).outcome is PublishOutcome.SENT
            answer(node, -1, direct.SendOutcome.DELIVERED)
            assert (await calls[3]).outcome is SendOutcome.DELIVERED


@asynchronous
async def test_without_a_sidecar_messages_wait_until_their_deadline(tmp_path: Path) -> None:
    path = tmp_path / "api.sock"
    client = sidecar_client.connect(str(path))
    soon = begin(*(client.publish("news", b"%d" % number, timeout=0.2) for number in range(3)))
    waiting = begin(*(client.publish("news", b"%d" % number) for number in range(3, 6)))
    for result in await asyncio.gather(*soon, return_exceptions=True):
        assert isinstance(result, sidecar_client.SidecarUnavailable | sidecar_client.DeadlineExceeded)
    async with server(path) as (node, _, _):
        receipts = await asyncio.gather(*waiting)
        assert [receipt.outcome for receipt in receipts] == [PublishOutcome.SENT] * 3
        assert [data for frame in node.of(gossip.Published) for data in frame.messages] == [b"3", b"4", b"5"]
        await client.close()


@asynchronous
async def test_patience_ends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sidecar_client._link.PATIENCE", 0.2)
    monkeypatch.setattr("sidecar_client._joining.PATIENCE", 0.2)
    client = sidecar_client.connect(str(tmp_path / "api.sock"))
    calls = begin(*(client.publish("news", b"%d" % number) for number in range(3)))
    for result in await asyncio.gather(*calls, return_exceptions=True):
        assert isinstance(result, sidecar_client.SidecarUnavailable)
        assert "tried" in str(result)
    await client.close()


@asynchronous
async def test_without_reconnecting_nothing_is_sent_again(tmp_path: Path) -> None:
    async with served(tmp_path) as (node, _, api, _):
        proxy = Proxy(tmp_path / "proxy.sock", api.socket)
        async with proxy.running(), sidecar_client.connect(proxy.target, reconnect=False) as client:
            node.answers[gossip.Published] = None
            calls = begin(
                client.publish("news", b"unary"),
                client.publish("news", b"written"),
                client.publish("news", b"named", request_id="id"),
            )
            await node.wait_for(gossip.Published)
            complete(node)
            await node.wait_for(gossip.Published)
            calls += begin(client.publish("news", b"never written" + bytes(300_000)))
            await queued()
            await proxy.cut()
            results = await asyncio.gather(*calls, return_exceptions=True)
            unavailable = sidecar_client.SidecarUnavailable
            assert [type(result) for result in results[1:]] == [sidecar_client.Closed, unavailable, unavailable]
            await node.wait_for(gossip.PublishCancelled)
            assert len(node.of(gossip.Published)) == 2
