"""The Python client against a real server: reconnecting, resuming, bulk transfers, clean ends."""

import asyncio
import copy
import logging
import pickle
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
import sidecar_client
from google.protobuf.timestamp_pb2 import Timestamp
from sidecar_client import Lagged, LagReason, OverflowPolicy, SendOutcome, _hot
from sidecar_client import server as _server
from sidecar_client.bulk import _batches, _Encoder
from sidecar_client.v1 import direct_pb2, pubsub_pb2

from sidecar.api.common.bounds import Bounds
from sidecar.api.direct.serving import ServeStream
from sidecar.core import direct, errors, gossip
from tests.api.fakes import OTHER, OTHER_TEXT, asynchronous, message, served, server
from tests.clients.python.proxy import Proxy

pytestmark = pytest.mark.usefixtures("each_client_engine")

CHAT = "/chat/1"


# ---------------------------------------------------------------- closing


@asynchronous
async def test_closing_the_client_ends_its_streams(tmp_path: Path) -> None:
    async with served(tmp_path) as (_, _, api, _):
        client = await sidecar_client.connect(api.target).__aenter__()
        subscription = await client.subscribe("news").__aenter__()
        reading = asyncio.create_task(anext(aiter(subscription)))
        await asyncio.sleep(0)
        await client.close()
        with pytest.raises(sidecar_client.Closed):
            await reading


# ---------------------------------------------------------------- subscriptions


def test_a_message_of_a_subscription_is_a_value() -> None:
    when = 1_700_000_000.25
    sent = pubsub_pb2.TopicMessage(topic="news", data=b"x", sender="me", message_id=b"id", cursor=b"c", local=True)
    sent.receive_time.CopyFrom(Timestamp(seconds=1_700_000_000, nanos=250_000_000))
    made = sidecar_client.Message("news", b"x", "me", b"id", b"c", when, True)
    (got,) = map(_hot.message, _hot.parse(pubsub_pb2.SubscribeResponse(messages=[sent]).SerializeToString()).messages)
    for other in (made, copy.copy(got), pickle.loads(pickle.dumps(got))):
        assert other == got
        assert hash(other) == hash(got)
        assert repr(other) == repr(got)
    assert got != sidecar_client.Message("news", b"y", "me", b"id", b"c", when, True)
    assert got != ("news", b"x", "me", b"id", b"c", when, True)
    assert "receive_time=1700000000.25" in repr(got)
    match got:
        case sidecar_client.Message(topic, data):
            assert (topic, data) == ("news", b"x")


@pytest.mark.parametrize("start", [{}, {"from_beginning": True}, {"start_time": 0.5}], ids=["now", "beginning", "time"])
@asynchronous
async def test_subscription_continues_where_a_lost_connection_ended(tmp_path: Path, start: dict[str, Any]) -> None:
    async with served(tmp_path, linger=30.0) as (node, _, api, _):
        proxy = Proxy(tmp_path / "proxy.sock", api.socket)
        async with (
            proxy.running(),
            sidecar_client.connect(proxy.target) as client,
            client.subscribe("news", **start) as subscription,
        ):
            messages = aiter(subscription)
            await proxy.cut()  # before any message: the first response's cursor is enough
            node.deliver(message(b"0"))
            for number in range(1, 4):
                node.deliver(*(message(b"%d" % (number * 10 + index)) for index in range(3)))
                assert (await anext(messages)).data == b"%d" % (0 if number == 1 else number * 10 - 8)
                await proxy.cut()
                read = [(await anext(messages)).data for _ in range(2)]
                assert read == [b"%d" % (number * 10), b"%d" % (number * 10 + 1)]
            assert subscription.missed == 0


@asynchronous
async def test_subscription_survives_a_restart_and_says_what_it_cannot_know(
    tmp_path: Path,
) -> None:
    path = tmp_path / "api.sock"
    async with server(path) as (node, _, api):
        client = await sidecar_client.connect(api.target).__aenter__()
        subscription = await client.subscribe("news").__aenter__()
        events = subscription.events()
        node.deliver(message(b"before"))
        event = await anext(events)
        assert isinstance(event, sidecar_client.Message)
        assert event.data == b"before"
    async with server(path) as (node, _, _):
        waiting = asyncio.create_task(anext(events))
        await node.wait_for(gossip.TopicJoined)
        node.deliver(message(b"after"))
        assert await waiting == Lagged(None, LagReason.RESTARTED)
        event = await anext(events)
        assert isinstance(event, sidecar_client.Message)
        assert event.data == b"after"
        await events.aclose()
        await client.close()


@asynchronous
async def test_plain_iteration_logs_what_was_missed(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async with served(tmp_path, history_messages=1, linger=30.0) as (node, _, _, client):
        async with client.subscribe("news") as first:
            cursor = first.cursor
            node.deliver(message(b"a"))
            assert (await anext(aiter(first))).data == b"a"
            start = first.cursor or cursor
        for data in (b"b", b"c", b"d"):
            node.deliver(message(data))
        subscription = client.subscribe("news", cursor=start)
        with caplog.at_level(logging.WARNING, "sidecar_client"):
            assert [(await anext(aiter(subscription))).data] == [b"d"]
        assert "does not reach back" in caplog.text
        assert subscription.missed >= 2
        subscription.close()


@asynchronous
async def test_the_cursor_is_behind_what_was_given(tmp_path: Path) -> None:
    async with served(tmp_path) as (node, _, _, client):

        async def following(cursor: bytes) -> list[bytes]:
            async with client.subscribe("news", cursor=cursor) as again:
                return (await anext(again.batches())).payloads()

        async with client.subscribe("news") as news:
            start = news.cursor
            assert start
            for data in (b"a", b"b", b"c", b"d"):  # in one turn: they come together
                node.deliver(message(data))
            event = await anext(aiter(news))
            assert event.data == b"a"
            assert await following(news.cursor) == [b"b", b"c", b"d"]
            event = await anext(news.events())
            assert isinstance(event, sidecar_client.Message)
            assert event.data == b"b"
            assert await following(news.cursor) == [b"c", b"d"]
            assert (await anext(news.batches())).payloads() == [b"c", b"d"]  # what is left of the one begun
            node.deliver(message(b"e"))
            assert await following(news.cursor) == [b"e"]
            assert (await anext(news.batches())).payloads() == [b"e"]
            node.deliver(message(b"f"))
            assert await following(news.cursor) == [b"f"]
            assert await following(start) == [b"a", b"b", b"c", b"d", b"e", b"f"]


@asynchronous
async def test_the_cursor_stays_before_a_gap_until_that_is_told(tmp_path: Path) -> None:
    async with served(tmp_path, history_messages=2, linger=30.0) as (node, _, _, client):
        async with client.subscribe("news") as news:
            start = news.cursor
            for data in (b"a", b"b", b"c", b"d"):
                node.deliver(message(data))
            assert (await anext(aiter(news))).data == b"a"
        for way in ("events", "batches"):
            async with client.subscribe("news", cursor=start) as late:
                assert late.cursor == start
                if way == "events":
                    events = late.events()
                    assert isinstance(await anext(events), Lagged)
                    async with client.subscribe("news", cursor=late.cursor) as again:
                        assert (await anext(again.batches())).payloads() == [b"c", b"d"]
                    event = await anext(events)
                    assert isinstance(event, sidecar_client.Message)
                    assert late.cursor == event.cursor
                else:
                    batch = await anext(late.batches())
                    assert batch.lagged is not None
                    assert late.cursor == batch.messages[-1].cursor


@asynchronous
async def test_slow_reader_is_told_and_others_are_not_held_up(tmp_path: Path) -> None:
    async with served(tmp_path) as (node, _, _, client):
        slow = client.subscribe("news", queue_messages=50)
        ending = client.subscribe("news", queue_messages=50, policy=OverflowPolicy.END_STREAM)
        async with slow, ending, client.subscribe("news") as quick:
            batches = quick.batches()
            seen = 0
            for number in range(100):  # 40 MB: more than any window holds
                node.deliver(*(message(b"%d" % number + bytes(4000)) for _ in range(100)))
                while seen < 100 * (number + 1):
                    seen += len(await anext(batches))
            missed = read = 0
            async for event in slow.events():
                if isinstance(event, Lagged):
                    assert event.reason is LagReason.SLOW_READER
                    missed += event.missed or 0
                else:
                    read += 1
                if read + missed == 10_000:
                    break
            assert missed > 5000
            assert slow.missed == missed
            with pytest.raises(sidecar_client.SlowReader):
                async for _ in ending:
                    pass
            await batches.aclose()


@asynchronous
async def test_payloads_of_batches(tmp_path: Path) -> None:
    async with served(tmp_path) as (_, _, _, client), client.subscribe("news") as subscription:
        await client.publish_many("news", [b"%d" % number for number in range(1000)])
        payloads: list[bytes] = []
        async for batch in subscription.batches():
            payloads += batch.payloads()
            assert [message.data for message in batch.messages] == batch.payloads()
            if len(payloads) == 1000:
                break
        assert payloads == [b"%d" % number for number in range(1000)]


@asynchronous
async def test_a_subscription_that_nobody_holds_ends(tmp_path: Path) -> None:
    async with served(tmp_path, linger=0.0) as (node, _, _, client):

        async def publish() -> None:
            await node.wait_for(gossip.TopicJoined)
            await client.publish("news", b"x")

        publishing = asyncio.create_task(publish())
        async for received in client.subscribe("news"):
            assert received.data == b"x"
            break
        await publishing
        await node.wait_for(gossip.TopicLeft)


# ---------------------------------------------------------------- direct


@asynchronous
async def test_receiver_and_server_come_back_after_a_lost_connection(tmp_path: Path) -> None:
    async def echo(request: sidecar_client.Request) -> bytes:
        return request.data

    async with served(tmp_path) as (node, _, api, _):
        proxy = Proxy(tmp_path / "proxy.sock", api.socket)
        async with proxy.running(), sidecar_client.connect(proxy.target) as client:  # noqa: SIM117 - too long
            async with client.receive(CHAT) as receiver, client.serve(CHAT, echo):
                messages = aiter(receiver)
                reading = asyncio.create_task(anext(messages))
                both = direct.ProtocolsChanged((CHAT,), (CHAT,))
                assert node.of(direct.ProtocolsChanged)[-1] == both
                await proxy.cut()
                # Two to begin, two when the sidecar notices, two again.
                while len(node.of(direct.ProtocolsChanged)) < 6 or node.of(direct.ProtocolsChanged)[-1] != both:
                    await node.wait_for(direct.ProtocolsChanged)
                node.on_news(direct.MessagesReceived(1, OTHER, CHAT, 1, [b"back"]))
                assert (await reading).data == b"back"
                node.on_news(direct.RequestArrived(1, OTHER, CHAT, b"again", None))
                assert (await node.wait_for(direct.RequestAnswered)).answer == b"again"


@asynchronous
async def test_a_receiver_says_that_the_connection_was_lost_meanwhile(tmp_path: Path) -> None:
    async with served(tmp_path) as (node, _, api, _):
        proxy = Proxy(tmp_path / "proxy.sock", api.socket)
        async with proxy.running(), sidecar_client.connect(proxy.target) as client, client.receive(CHAT) as receiver:
            events = receiver.events()
            node.on_news(direct.MessagesReceived(1, OTHER, CHAT, 1, [b"before"]))
            before = await anext(events)
            assert isinstance(before, sidecar_client.DirectMessage)
            await proxy.cut()
            assert await anext(events) == Lagged(None, LagReason.RECONNECTED)  # without waiting for a message
            node.on_news(direct.MessagesReceived(1, OTHER, CHAT, 1, [b"after"]))
            after = await anext(events)
            assert isinstance(after, sidecar_client.DirectMessage)
            assert (before.data, after.data) == (b"before", b"after")
            await proxy.cut()
            assert await anext(events) == Lagged(None, LagReason.RECONNECTED)
            assert receiver.missed == 0
            await receiver.aclose()


@asynchronous
async def test_a_watcher_is_told_that_it_begins_anew(tmp_path: Path) -> None:
    kind = sidecar_client.PeerEventType
    async with served(tmp_path) as (_, _, api, _):
        proxy = Proxy(tmp_path / "proxy.sock", api.socket)
        async with proxy.running(), sidecar_client.connect(proxy.target) as client:
            watching = client.watch_peers()
            assert [(await anext(watching)).type for _ in range(2)] == [kind.PRESENT, kind.CURRENT]
            await proxy.cut()
            events = [await anext(watching) for _ in range(3)]
            assert [event.type for event in events] == [kind.RECONNECTED, kind.PRESENT, kind.CURRENT]
            assert (events[0].peer, events[0].reason) == (None, "the connection to the sidecar was lost meanwhile")
            await watching.aclose()


@asynchronous
async def test_handlers_of_a_lost_connection_are_cancelled(tmp_path: Path) -> None:
    begun, cancelled = asyncio.Event(), asyncio.Event()

    async def handle(request: sidecar_client.Request) -> bytes:
        if request.data == b"new":
            return b"answer"
        begun.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            cancelled.set()
            raise
        return b""

    async with served(tmp_path) as (node, _, api, _):
        proxy = Proxy(tmp_path / "proxy.sock", api.socket)
        async with proxy.running(), sidecar_client.connect(proxy.target) as client, client.serve(CHAT, handle):
            node.on_news(direct.RequestArrived(7, OTHER, CHAT, b"old", None))
            await begun.wait()
            await proxy.cut()
            await cancelled.wait()
            both = direct.ProtocolsChanged((), (CHAT,))
            while len(node.of(direct.ProtocolsChanged)) < 3 or node.of(direct.ProtocolsChanged)[-1] != both:
                await node.wait_for(direct.ProtocolsChanged)
            node.on_news(direct.RequestArrived(7, OTHER, CHAT, b"new", None))  # the same number again
            while node.of(direct.RequestAnswered)[-1].answer != b"answer":
                await node.wait_for(direct.RequestAnswered)


@asynchronous
async def test_a_request_that_is_withdrawn_while_it_waits_for_room_is_not_handled(tmp_path: Path) -> None:
    handled: list[bytes] = []
    begun, release = asyncio.Event(), asyncio.Event()

    async def handle(request: sidecar_client.Request) -> bytes:
        handled.append(request.data)
        begun.set()
        await release.wait()
        return request.data

    async with served(tmp_path) as (node, _, _, client), client.serve(CHAT, handle, concurrency=1):
        for token in range(3):
            node.on_news(direct.RequestArrived(token, OTHER, CHAT, b"%d" % token, None))
        await begun.wait()
        node.on_news(direct.RequestWithdrawn(1))
        node.on_news(direct.RequestArrived(3, OTHER, CHAT, b"last", None))
        await client.info()
        release.set()
        while len(node.of(direct.RequestAnswered)) < 3:
            await node.wait_for(direct.RequestAnswered)
        assert handled == [b"0", b"2", b"last"]


@asynchronous
async def test_a_handler_ends_when_its_asker_waits_no_longer(tmp_path: Path) -> None:
    ended = asyncio.Event()

    async def handle(request: sidecar_client.Request) -> bytes:
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()
        return b""

    async with served(tmp_path) as (node, backend, _, client), client.serve(CHAT, handle):
        node.on_news(direct.RequestArrived(1, OTHER, CHAT, b"", backend.now() + 0.05))
        await ended.wait()
        assert node.of(direct.RequestAnswered) == []


class Unspeakable(sidecar_client.Refused):
    def __str__(self) -> str:
        raise ValueError


async def awaits_what_is_cancelled() -> bytes:
    task = asyncio.ensure_future(asyncio.Event().wait())
    task.cancel()
    await task
    return b""


async def cancels_itself() -> bytes:
    task = asyncio.current_task()
    assert task is not None
    task.cancel()
    await asyncio.sleep(0)
    return b""


async def fails(error: BaseException) -> bytes:
    raise error


async def returns(value: object) -> bytes:
    return value  # type: ignore[return-value]


FAILED = "the app failed to answer"
EXITS: dict[str, tuple[Callable[[], Any], str]] = {
    "cancelled": (awaits_what_is_cancelled, FAILED),
    "itself": (cancels_itself, FAILED),
    "error": (lambda: fails(ValueError()), FAILED),
    "base": (lambda: fails(BaseException()), FAILED),
    "generator": (lambda: fails(GeneratorExit()), FAILED),
    "none": (lambda: returns(None), FAILED),
    "text": (lambda: returns("text"), FAILED),
    "plain": (lambda: b"not awaitable", FAILED),
    "huge": (lambda: returns(bytes(5 << 20)), "response of 5242880 bytes, at most 4190112"),
    "refusal": (lambda: fails(sidecar_client.Refused("no")), "no"),
    "silent": (lambda: fails(sidecar_client.Refused("")), "the app refused"),
    "long": (lambda: fails(sidecar_client.Refused("ö" * 600)), "ö" * 512),
    "surrogate": (lambda: fails(sidecar_client.Refused("a\udc80")), "a?"),
    "unspeakable": (lambda: fails(Unspeakable("x")), "the app refused"),
}


@asynchronous
async def test_every_exit_of_a_handler_is_an_answer_and_costs_no_other(tmp_path: Path) -> None:
    release = asyncio.Event()

    async def handle(request: sidecar_client.Request) -> bytes:
        way = request.data.decode()
        if way in EXITS:
            return await EXITS[way][0]()
        await release.wait()
        return bytearray(request.data)  # type: ignore[return-value]

    async with served(tmp_path) as (node, _, _, client), client.serve(CHAT, handle) as server:
        node.on_news(direct.RequestArrived(1000, OTHER, CHAT, b"under way", None))
        for token, way in enumerate(EXITS):
            node.on_news(direct.RequestArrived(token, OTHER, CHAT, way.encode(), None))
        while len(node.of(direct.RequestAnswered)) < len(EXITS):
            await node.wait_for(direct.RequestAnswered)
        told = {answered.token: answered.answer for answered in node.of(direct.RequestAnswered)}
        for token, (way, (_, words)) in enumerate(EXITS.items()):
            assert isinstance(told[token], errors.Refused), way
            assert str(told[token]).endswith(words), way
        assert server.rejected == 1
        release.set()
        while node.of(direct.RequestAnswered)[-1].token != 1000:
            await node.wait_for(direct.RequestAnswered)
        assert node.of(direct.RequestAnswered)[-1].answer == b"under way"


@asynchronous
async def test_an_app_that_exits_in_a_handler_has_answered(tmp_path: Path) -> None:
    """The task raises on, but where the loop lives through it, the asker is not left waiting."""

    async def handle(request: sidecar_client.Request) -> bytes:
        raise SystemExit

    requests = _server.Server(None, [CHAT], handle, 1, None)  # type: ignore[arg-type]
    answers = _server._Answers([CHAT], None)  # type: ignore[arg-type]
    message = direct_pb2.IncomingRequest(id=1, protocol=CHAT)
    answers.handlers[1] = None  # type: ignore[assignment]
    with pytest.raises(SystemExit):
        await requests._answer(message, answers)
    assert [answer.refusal for answer in answers._waiting] == [FAILED]


@asynchronous
async def test_what_never_began_waits_for_nobody(tmp_path: Path) -> None:
    """Requests that are withdrawn in the turn in which they came give their bytes back."""
    served_ = _server.Server(None, [CHAT], lambda request: returns(b""), 1, None)  # type: ignore[arg-type]
    answers = _server._Answers([CHAT], None)  # type: ignore[arg-type]
    served_._begin(direct_pb2.IncomingRequest(id=1, protocol=CHAT, data=bytes(1000)), answers)
    answers.withdraw(1)
    await asyncio.wait(served_._handlers)
    assert (served_._waiting, served_._sizes) == (0, {})


@asynchronous
async def test_serving_again_waits_until_the_sidecar_has_noticed(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async def echo(request: sidecar_client.Request) -> bytes:
        return request.data

    caplog.set_level(logging.INFO, "sidecar_client")
    async with served(tmp_path) as (node, backend, api, _):
        proxy = Proxy(tmp_path / "proxy.sock", api.socket)
        async with proxy.running(), sidecar_client.connect(proxy.target) as client, client.serve(CHAT, echo):
            await proxy.cut()
            while CHAT in backend.direct.desk.protocols():
                await node.wait_for(direct.ProtocolsChanged)
            backend.direct.desk.add(
                stale := ServeStream((CHAT,), Bounds(1, 1))
            )  # as if the old stream were still there
            while "served by another stream" not in caplog.text:  # noqa: ASYNC110 - a log has no event
                await asyncio.sleep(0)
            backend.direct.desk.remove(stale)
            node.on_news(direct.RequestArrived(1, OTHER, CHAT, b"early", None))
            node.arrived[direct.ProtocolsChanged].clear()
            while CHAT not in backend.direct.desk.protocols():
                await node.wait_for(direct.ProtocolsChanged)
            node.on_news(direct.RequestArrived(2, OTHER, CHAT, b"again", None))
            while node.of(direct.RequestAnswered)[-1].token != 2:
                await node.wait_for(direct.RequestAnswered)
            assert node.of(direct.RequestAnswered)[-1].answer == b"again"


@asynchronous
async def test_a_lost_connection_ends_bulk_sending_with_what_is_known(tmp_path: Path) -> None:
    async with served(tmp_path) as (node, _, api, _):
        proxy = Proxy(tmp_path / "proxy.sock", api.socket)
        known: list[sidecar_client.SendReceipts] = []
        seen = asyncio.Event()

        async def source() -> Any:
            yield b"first"
            await seen.wait()
            await proxy.cut()
            yield b"second"
            await asyncio.Event().wait()

        def on_receipts(receipts: sidecar_client.SendReceipts) -> None:
            known.append(receipts)
            seen.set()

        async with proxy.running(), sidecar_client.connect(proxy.target) as client:
            node.answers[direct.SendRequested] = (direct.SendOutcome.DELIVERED, None)
            with pytest.raises(sidecar_client.SidecarUnavailable):
                async with asyncio.timeout(10):
                    await client.send_many(OTHER_TEXT, CHAT, source(), on_receipts=on_receipts)
            assert [(r.first, r.count, r.outcome) for r in known] == [(0, 1, SendOutcome.DELIVERED)]


@asynchronous
async def test_serving_bounds_what_runs_at_once(tmp_path: Path) -> None:
    running = most = 0
    three, release = asyncio.Event(), asyncio.Event()

    async def slow(request: sidecar_client.Request) -> bytes:
        nonlocal running, most
        running += 1
        most = max(most, running)
        if running == 3:
            three.set()
        await release.wait()
        running -= 1
        return b""

    async with served(tmp_path) as (node, _, _, client), client.serve(CHAT, slow, concurrency=3):
        for token in range(10):
            node.on_news(direct.RequestArrived(token, OTHER, CHAT, b"", None))
        await three.wait()
        release.set()
        while len(node.of(direct.RequestAnswered)) < 10:
            await node.wait_for(direct.RequestAnswered)
        assert most == 3


def test_what_a_newer_sidecar_says_is_taken() -> None:
    assert LagReason(77) is LagReason.UNSPECIFIED
    assert SendOutcome(77) is SendOutcome.UNSPECIFIED


# ---------------------------------------------------------------- bulk


def test_batches_are_encoded_as_protobuf_does() -> None:
    payloads = [b"", b"a", bytes(127), bytes(128), bytes(20_000), b"a"]
    encoded = _Encoder(b"\x2a").encode(payloads)
    assert [item.data for item in pubsub_pb2.PublishManyRequest.FromString(encoded).messages] == payloads


@asynchronous
async def test_batching() -> None:
    assert [len(batch) async for batch in _batches(bytes(100_000) for _ in range(5))] == [2, 2, 1]
    assert [len(batch) async for batch in _batches([b"x"] * 9000)] == [4096, 4096, 808]
    assert [batch async for batch in _batches([])] == []

    async def generated(count: int) -> AsyncIterator[bytes]:
        for number in range(count):
            yield b"%d" % number

    together = [batch async for batch in _batches(generated(10_000))]
    assert [data for batch in together for data in batch] == [b"%d" % number for number in range(10_000)]
    assert max(len(batch) for batch in together) <= 4096

    async def broken() -> AsyncIterator[bytes]:
        yield b"one"
        raise ValueError("the source broke")

    with pytest.raises(ValueError, match="the source broke"):
        [batch async for batch in _batches(broken())]


@asynchronous
async def test_a_slow_source_is_not_held_back(tmp_path: Path) -> None:
    async with served(tmp_path) as (node, _, _, client):
        step = asyncio.Event()

        async def source() -> AsyncIterator[bytes]:
            for number in range(3):
                yield b"%d" % number
                await step.wait()
                step.clear()

        call = asyncio.create_task(client.publish_many("news", source()))
        for number in range(3):
            assert (await node.wait_for(gossip.Published)).messages == [b"%d" % number]
            step.set()
        assert [(r.first, r.count) for r in await call] == [(0, 3)]
