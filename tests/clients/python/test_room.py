"""What waits in the client is bounded, also where a sidecar hangs; and servers that say nothing before they answer."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest
import sidecar_client
from sidecar_client._room import COST, MOST, Room, cost_of
from sidecar_client.v1 import direct_pb2, pubsub_pb2

from tests.api.fakes import OTHER_TEXT, asynchronous
from tests.clients.python.test_connecting import serving
from tests.clients.python.test_joining import begin, queued

pytestmark = pytest.mark.usefixtures("each_client_engine")

CHAT = "/chat/1"
KINDS = ("publish", "send", "request")


# ---------------------------------------------------------------- room


@asynchronous
async def test_who_comes_when_it_is_full_waits_in_order() -> None:
    room = Room()
    room.used = MOST
    let_in: list[str] = []

    async def enter(name: str, cost: int, timeout: float | None = None) -> float | None:
        left = await room.enter(cost, timeout)
        let_in.append(name)
        return left

    large, small, other = begin(enter("large", MOST // 2), enter("small", 1, 1000.0), enter("other", 1))
    await queued()
    room.leave(10)
    await queued()
    assert let_in == []  # small ones do not overtake
    room.leave(MOST // 2 - 10)
    await queued()
    assert let_in == ["large"]
    room.leave(1)
    left = await small
    assert left is not None
    assert 999 < left <= 1000
    other.cancel()
    await asyncio.wait((other, large))
    assert (room.used, list(room.waiting)) == (MOST, [])


@asynchronous
async def test_who_gives_up_lets_others_in() -> None:
    room = Room()
    room.used = MOST - 10
    gone, behind = begin(room.enter(100, None), room.enter(5, None))
    await queued()
    assert len(room.waiting) == 2
    gone.cancel()
    await behind
    assert room.used == MOST - 5
    with pytest.raises(TimeoutError):
        await room.enter(100, 0.001)
    (both,) = begin(room.enter(100, None))
    await queued()
    room.leave(95)
    both.cancel()  # it has been let in, and has not gone on
    with pytest.raises(asyncio.CancelledError):
        await both
    assert (room.used, list(room.waiting)) == (MOST - 100, [])
    room.used = MOST
    (closed,) = begin(room.enter(1, None))
    await queued()
    room.close(sidecar_client.Closed("over"))
    with pytest.raises(sidecar_client.Closed, match="over"):
        await closed


def test_what_a_message_counts() -> None:
    assert cost_of(b"abc") == 3 + COST
    assert cost_of(bytes(MOST)) == MOST  # else it would wait for ever
    assert MOST // COST == 65_536


# ---------------------------------------------------------------- a sidecar that hangs


@asynccontextmanager
async def hanging(place: Path, monkeypatch: pytest.MonkeyPatch, room: int) -> AsyncIterator[sidecar_client.Client]:
    """A client with so many bytes of room, at a sidecar that takes calls and answers none."""
    monkeypatch.setattr("sidecar_client._link._GREETING", 0.001)
    for module in ("_room", "_joining", "_asking"):
        monkeypatch.setattr(f"sidecar_client.{module}.MOST", room)

    async def one(request: Any, context: Any) -> Any:
        await asyncio.Event().wait()

    async def many(requests: Any, context: Any) -> Any:
        await asyncio.Event().wait()

    unary, stream = grpc.unary_unary_rpc_method_handler(one), grpc.stream_stream_rpc_method_handler(many)
    methods = {
        **dict.fromkeys(("PubSubService/Publish", "DirectService/Send", "DirectService/Request"), unary),
        **dict.fromkeys(("PubSubService/PublishMany", "DirectService/SendMany", "DirectService/RequestMany"), stream),
    }
    address = f"unix:{place / 'api.sock'}"
    async with serving(address, methods=methods):
        client = sidecar_client.connect(address)
        try:
            yield client
        finally:
            await client.close()


def caller(client: sidecar_client.Client, kind: str) -> tuple[Callable[..., Any], Any]:
    """Makes a call with some bytes; and what carries the calls."""
    if kind == "publish":
        return lambda data, **more: client.publish("news", data, **more), client._publishing
    if kind == "send":
        return lambda data, **more: client.send(OTHER_TEXT, CHAT, data, **more), client._sending
    return lambda data, **more: client.request(OTHER_TEXT, CHAT, data, **more), client._asking


@pytest.mark.parametrize("kind", KINDS)
def test_callers_wait_where_the_sidecar_hangs(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    @asynchronous
    async def play() -> None:
        async with hanging(tmp_path, monkeypatch, 20 * (1000 + COST)) as client:
            call, carrier = caller(client, kind)
            room = carrier._room
            calls = begin(*(call(bytes(1000)) for _ in range(50)))
            await queued()
            assert (room.used, len(room.waiting)) == (20 * (1000 + COST), 30)
            with pytest.raises(sidecar_client.DeadlineExceeded, match=r"within 0\.01 s"):
                await call(bytes(1000), timeout=0.01)
            calls[30].cancel()  # one that waits
            calls[5].cancel()  # one that had room: the next one has it now
            await asyncio.wait((calls[5], calls[30]))
            await queued()
            assert (room.used, len(room.waiting)) == (20 * (1000 + COST), 28)
            await client.close()
            results = await asyncio.gather(*calls, return_exceptions=True)
            assert {type(result) for result in results} == {sidecar_client.Closed, asyncio.CancelledError}
            assert (room.used, len(room.waiting)) == (0, 0)

    play()


@pytest.mark.parametrize("kind", KINDS)
def test_who_gives_up_leaves_nothing_behind(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    @asynchronous
    async def play() -> None:
        async with hanging(tmp_path, monkeypatch, MOST) as client:
            call, carrier = caller(client, kind)
            kept = begin(call(b"first"), call(bytes(200_000)), call(bytes(200_000)))
            for _ in range(10):
                calls = begin(*(call(bytes(1000)) for _ in range(100)))
                await queued()
                for one in calls:
                    one.cancel()
                await asyncio.wait(calls)
            assert sum(not one.done() for one in kept) == 3
            if kind == "request":
                held = [question.data for question in (*carrier._queue, *carrier._waiting.values())]
            else:
                (lane,) = carrier._lanes.values()
                held = [item.data for item in (*lane.queue, *lane.sent.values())]
            assert len(held) < 200  # of 1,000
            await client.close()
            await asyncio.wait(kept)
            assert {type(one.exception()) for one in kept} == {sidecar_client.Closed}

    play()


# ---------------------------------------------------------------- a server that says nothing before it answers


@pytest.mark.parametrize("kind", KINDS)
def test_a_server_that_sends_no_headers_of_its_own(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sidecar_client._link._GREETING", 0.001)
    sizes: list[int] = []
    first_one = asyncio.Event()

    def ranges(kind: Any, response: Any, **told: Any) -> Any:
        async def answer(requests: Any, context: Any) -> Any:
            first = 0
            async for request in requests:
                sizes.append(request.ByteSize())
                count = len(request.messages)
                yield response(receipts=[kind(first=first, count=count, **told)])
                first += count

        return answer

    async def results(requests: Any, context: Any) -> Any:
        async for request in requests:
            sizes.append(request.ByteSize())
            answers = [direct_pb2.RequestResult(id=one.id, data=one.data) for one in request.requests]
            yield direct_pb2.RequestManyResponse(results=answers)

    async def one(request: Any, context: Any) -> Any:
        await first_one.wait()
        if kind == "publish":
            outcome = pubsub_pb2.PUBLISH_OUTCOME_SENT
            return pubsub_pb2.PublishResponse(receipt=pubsub_pb2.PublishReceipt(outcome=outcome))
        if kind == "send":
            delivered = direct_pb2.SEND_OUTCOME_DELIVERED
            return direct_pb2.SendResponse(receipt=direct_pb2.SendReceipt(outcome=delivered))
        return direct_pb2.RequestResponse(data=request.data)

    def unary(request: Any) -> Any:
        return grpc.unary_unary_rpc_method_handler(one, request.FromString, lambda made: made.SerializeToString())

    def stream(handler: Any, request: Any) -> Any:
        return grpc.stream_stream_rpc_method_handler(handler, request.FromString, lambda made: made.SerializeToString())

    sent, delivered = {"outcome": 1}, {"receipt": direct_pb2.SendReceipt(outcome=1)}
    publish_many = ranges(pubsub_pb2.PublishReceiptRange, pubsub_pb2.PublishManyResponse, **sent)
    send_many = ranges(direct_pb2.SendReceiptRange, direct_pb2.SendManyResponse, **delivered)
    methods = {
        "PubSubService/Publish": unary(pubsub_pb2.PublishRequest),
        "PubSubService/PublishMany": stream(publish_many, pubsub_pb2.PublishManyRequest),
        "DirectService/Send": unary(direct_pb2.SendRequest),
        "DirectService/SendMany": stream(send_many, direct_pb2.SendManyRequest),
        "DirectService/Request": unary(direct_pb2.RequestRequest),
        "DirectService/RequestMany": stream(results, direct_pb2.RequestManyRequest),
    }

    @asynchronous
    async def play() -> None:
        address = f"unix:{tmp_path / 'api.sock'}"
        async with serving(address, methods=methods):
            client = sidecar_client.connect(address)
            call, _ = caller(client, kind)
            calls = begin(*(call(bytes(1000)) for _ in range(200)))
            await queued()
            first_one.set()
            await asyncio.gather(*calls)
            if kind == "publish":
                (receipts,) = await client.publish_many("news", [bytes(1000)] * 200)
                assert receipts.count == 200
            elif kind == "send":
                (taken,) = await client.send_many(OTHER_TEXT, CHAT, [bytes(1000)] * 200)
                assert taken.count == 200
            assert len(sizes) >= 4
            assert max(sizes) <= 65_536  # what every sidecar takes
            await client.close()

    play()
