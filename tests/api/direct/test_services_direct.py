"""DirectService over a real Unix socket, against a node that is a fake."""

import asyncio
from pathlib import Path
from typing import Any

import grpc
import pytest
import sidecar_client
from sidecar_client import PublishOutcome, SendOutcome
from sidecar_client import errors as client_errors
from sidecar_client.v1 import direct_pb2, direct_pb2_grpc

from sidecar.api.backend import Backend
from sidecar.api.config import ApiConfig
from sidecar.core import direct, errors
from tests.api.fakes import (
    OTHER,
    OTHER_TEXT,
    FakeNode,
    asynchronous,
    served,
)

CHAT = "/chat/1"


@pytest.mark.parametrize("outcome", list(direct.SendOutcome))
def test_every_outcome_of_a_send(outcome: direct.SendOutcome, tmp_path: Path) -> None:
    @asynchronous
    async def check() -> None:
        async with served(tmp_path) as (node, _, _, client):
            node.answers[direct.SendRequested] = (outcome, errors.Unreachable("words"))
            batch = await client.send_many(OTHER_TEXT, CHAT, [b"a", b"b"])
            detail = "" if outcome is direct.SendOutcome.DELIVERED else "words"
            assert [(r.first, r.count, r.outcome.name, r.detail) for r in batch] == [(0, 2, outcome.name, detail)]
            if outcome is direct.SendOutcome.TOO_LARGE:
                with pytest.raises(sidecar_client.TooLarge, match="message of 1 bytes"):
                    await client.send(OTHER_TEXT, CHAT, b"a")
                return
            receipt = await client.send(OTHER_TEXT, CHAT, b"a")
            assert (receipt.outcome.name, receipt.detail) == (outcome.name, detail)
            assert node.of(direct.SendRequested)[-1][1:] == (OTHER, CHAT, [b"a"])

    check()


@pytest.mark.parametrize("lazily", [False, True])
def test_one_message_that_is_too_large_costs_its_own_receipt_only(lazily: bool, tmp_path: Path) -> None:
    @asynchronous
    async def check() -> None:
        async with served(tmp_path) as (node, _, _, client):
            node.answers[direct.SendRequested] = (direct.SendOutcome.DELIVERED, None)
            huge = bytes(4 << 20)
            messages = [huge, b"a", b"b", huge, huge, b"c", huge]

            async def source() -> Any:
                for message in messages:
                    yield message

            seen: list[sidecar_client.SendReceipts] = []
            given = source() if lazily else messages
            receipts = await client.send_many(OTHER_TEXT, CHAT, given, on_receipts=seen.append)
            wanted = [(0, 1, True), (1, 2, False), (3, 2, True), (5, 1, False), (6, 1, True)]
            assert [(r.first, r.count, r.outcome is SendOutcome.TOO_LARGE) for r in receipts] == wanted
            assert "message of 4194304 bytes" in receipts[0].detail
            assert sum(receipt.count for receipt in seen) == len(messages)
            assert [data for fed in node.of(direct.SendRequested) for data in fed.messages] == [b"a", b"b", b"c"]
            published = await client.publish_many("news", messages, return_message_ids=True)
            assert [r.first for r in published if r.outcome is PublishOutcome.TOO_LARGE] == [0, 3, 6]
            assert [(r.first, r.count) for r in published if r.message_ids] == [(1, 2), (5, 1)]
            none = await client.publish_many("news", [huge, huge])
            assert [(r.first, r.count, r.outcome) for r in none] == [(0, 2, PublishOutcome.TOO_LARGE)]

    check()


@asynchronous
async def test_batches_keep_to_what_the_sidecar_takes(tmp_path: Path) -> None:
    async with served(tmp_path, max_request_bytes=65_536) as (node, _, _, client):
        node.answers[direct.SendRequested] = (direct.SendOutcome.DELIVERED, None)
        data = [bytes(5_000)] * 100 + [b""] * 10_000 + [bytes(61_000), bytes(70_000), b"z"]
        for receipts in (
            await client.publish_many("news", data),
            await client.send_many(OTHER_TEXT, CHAT, data),
        ):
            assert [(r.first, r.count, r.outcome.name == "TOO_LARGE") for r in receipts] == [
                (0, 10_101, False),
                (10_101, 1, True),
                (10_102, 1, False),
            ]
        results = await asyncio.gather(
            *(client.publish("news", one, request_id="i" * 64 if not one else "") for one in data[60:2000]),
            *(client.publish("news", one) for one in data[-3:]),
            return_exceptions=True,
        )
        failures = [result for result in results if isinstance(result, BaseException)]
        assert [type(failure) for failure in failures] == [sidecar_client.TooLarge]
        node.answers[direct.RequestMade] = b"yes"
        answers = await asyncio.gather(
            *(client.request(OTHER_TEXT, CHAT, one) for one in [bytes(5_000)] * 100 + [bytes(60_000)] * 3)
        )
        assert set(answers) == {b"yes"}


@asynchronous
async def test_send_many_keeps_many_on_their_way_and_numbers_them(tmp_path: Path) -> None:
    async with served(tmp_path, send_window=10) as (node, _, _, client):
        node.answers[direct.SendRequested] = None
        seen: list[sidecar_client.SendReceipts] = []
        go_on = asyncio.Event()

        async def source() -> Any:
            for number in range(20):
                yield b"%d" % number
                if number % 10 == 9:
                    await go_on.wait()
                    go_on.clear()

        call = asyncio.create_task(client.send_many(OTHER_TEXT, CHAT, source(), on_receipts=seen.append))
        first = await node.wait_for(direct.SendRequested)
        while sum(len(fed.messages) for fed in node.of(direct.SendRequested)) < 10:
            first = await node.wait_for(direct.SendRequested)
        go_on.set()
        for fed in reversed(node.of(direct.SendRequested)):
            half = len(fed.messages) // 2
            ranges = (direct.OutcomeRange(0, half, direct.SendOutcome.DELIVERED),) if half else ()
            rest = direct.OutcomeRange(half, len(fed.messages) - half, direct.SendOutcome.REMOTE_QUEUE_FULL)
            node.on_news(direct.SendCompleted(fed.op, (*ranges, rest), errors.QueueFull("full")))
        answered = len(node.of(direct.SendRequested))
        node.answers[direct.SendRequested] = (direct.SendOutcome.DELIVERED, None)
        await node.wait_for(direct.SendRequested)
        go_on.set()
        receipts = await call
        assert sum(receipt.count for receipt in receipts) == 20
        assert [receipt.first for receipt in receipts] == sorted(receipt.first for receipt in receipts)
        assert {receipt.outcome for receipt in receipts} >= {SendOutcome.REMOTE_QUEUE_FULL, SendOutcome.DELIVERED}
        assert sum(receipt.count for receipt in seen) == 20
        assert answered >= 1
        assert first.peer == OTHER


@asynchronous
async def test_send_many_is_not_read_while_too_many_bytes_are_unanswered(tmp_path: Path) -> None:
    async with served(tmp_path, send_window_bytes=1000) as (node, _, _, client):
        node.answers[direct.SendRequested] = None
        call = asyncio.create_task(client.send_many(OTHER_TEXT, CHAT, [bytes(200_000)] * 4))
        first = await node.wait_for(direct.SendRequested)
        await client.info()
        assert node.of(direct.SendRequested) == [first]
        node.answers[direct.SendRequested] = (direct.SendOutcome.DELIVERED, None)
        node.on_news(direct.SendCompleted(first.op, (direct.OutcomeRange(0, 1, direct.SendOutcome.DELIVERED),)))
        assert [(receipt.first, receipt.count) for receipt in await call] == [(0, 4)]


@asynchronous
async def test_a_repeated_id_is_answered_with_the_first_receipt(tmp_path: Path) -> None:
    async with served(tmp_path) as (node, _, _, client):
        node.answers[direct.SendRequested] = None
        calls = [asyncio.create_task(client.send(OTHER_TEXT, CHAT, b"a", request_id="1")) for _ in range(2)]
        asked = await node.wait_for(direct.SendRequested)
        node.answers[direct.SendRequested] = (direct.SendOutcome.UNREACHABLE, errors.Unreachable("away"))
        delivered = (direct.OutcomeRange(0, 1, direct.SendOutcome.DELIVERED),)
        await client.info()  # the other call has reached the server too
        node.on_news(direct.SendCompleted(asked.op, delivered))
        assert {(await call).outcome for call in calls} == {SendOutcome.DELIVERED}
        assert (await client.send(OTHER_TEXT, CHAT, b"a", request_id="1")).outcome is SendOutcome.DELIVERED
        assert len(node.of(direct.SendRequested)) == 1
        # Another id is another message, and one that went nowhere may be tried again.
        assert (await client.send(OTHER_TEXT, CHAT, b"a", request_id="2")).outcome is SendOutcome.UNREACHABLE
        node.answers[direct.SendRequested] = (direct.SendOutcome.DELIVERED, None)
        assert (await client.send(OTHER_TEXT, CHAT, b"a", request_id="2")).outcome is SendOutcome.DELIVERED


@asynchronous
async def test_a_message_with_an_id_is_not_sent_again_when_its_first_call_was_cancelled(tmp_path: Path) -> None:
    async with served(tmp_path) as (node, backend, _, client):
        node.answers[direct.SendRequested] = None
        call = asyncio.create_task(client.send(OTHER_TEXT, CHAT, b"a", request_id="1"))
        asked = await node.wait_for(direct.SendRequested)
        call.cancel()
        await asyncio.wait((call,))
        again = asyncio.create_task(client.send(OTHER_TEXT, CHAT, b"a", request_id="1"))
        await client.info()  # both have reached the server
        node.on_news(direct.SendCompleted(asked.op, (direct.OutcomeRange(0, 1, direct.SendOutcome.DELIVERED),)))
        assert (await again).outcome is SendOutcome.DELIVERED
        assert len(node.of(direct.SendRequested)) == 1
        assert backend.statistics().flat()["api_operations"] == 0


@asynchronous
async def test_receive(tmp_path: Path) -> None:
    async with served(tmp_path) as (node, _, _, client):
        async with client.receive([CHAT, "/b/1"]) as receiver:
            assert node.of(direct.ProtocolsChanged)[-1] == direct.ProtocolsChanged((CHAT, "/b/1"), ())
            node.on_news(direct.MessagesReceived(5, OTHER, CHAT, 1, [b"a", b"b"]))
            messages = aiter(receiver)
            assert await anext(messages) == sidecar_client.DirectMessage(OTHER_TEXT, CHAT, b"a")
            assert (await anext(messages)).data == b"b"
            handled = await node.wait_for(direct.MessagesHandled)
            assert handled == direct.MessagesHandled(5, 1, 2, direct.SendOutcome.DELIVERED)
        while node.of(direct.ProtocolsChanged)[-1].receiving:
            await node.wait_for(direct.ProtocolsChanged)


@asynchronous
async def test_request_carries_its_deadline_and_its_errors(tmp_path: Path) -> None:
    async with served(tmp_path, request_timeout=7.0) as (node, backend, _, client):
        node.answers[direct.RequestMade] = b"pong"
        assert await client.request(OTHER_TEXT, CHAT, b"ping") == b"pong"
        assert await client.request(OTHER_TEXT, CHAT, b"ping", timeout=3) == b"pong"
        default, given = (fed.deadline - backend.now() for fed in node.of(direct.RequestMade))
        assert 5 < default <= 7
        assert 1 < given < 4
        for error in (errors.NotSupported, errors.Refused, errors.QueueFull, errors.Unreachable, errors.TooLarge):
            node.answers[direct.RequestMade] = error("words")
            with pytest.raises(getattr(client_errors, error.__name__), match="words"):
                await client.request(OTHER_TEXT, CHAT, b"ping")
        node.answers[direct.RequestMade] = None
        call = asyncio.create_task(client.request(OTHER_TEXT, CHAT, b"ping"))
        while len(node.of(direct.RequestMade)) < 8:
            await node.wait_for(direct.RequestMade)
        call.cancel()
        assert (await node.wait_for(direct.RequestCancelled)).op == node.of(direct.RequestMade)[-1].op


@asynchronous
async def test_serve(tmp_path: Path) -> None:
    async with served(tmp_path) as (node, backend, _, client):
        withdrawn = asyncio.Event()

        async def answer(request: sidecar_client.Request) -> bytes:
            if request.data == b"wait":
                try:
                    await asyncio.Event().wait()
                finally:
                    withdrawn.set()
            if request.data == b"refuse":
                raise sidecar_client.Refused("not you")
            if request.data == b"fail":
                raise ValueError("a bug")
            assert request.peer_id == OTHER_TEXT
            assert request.time_left is not None
            return request.data.upper()

        async with client.serve(CHAT, answer):
            with pytest.raises(sidecar_client.AlreadyExists):
                await client.serve([CHAT, "/b/1"], answer)
            for token, data in enumerate([b"wait", b"hello", b"refuse", b"fail"]):
                node.on_news(direct.RequestArrived(token, OTHER, CHAT, data, backend.now() + 9))
            while len(node.of(direct.RequestAnswered)) < 3:
                await node.wait_for(direct.RequestAnswered)
            answers = {answered.token: answered.answer for answered in node.of(direct.RequestAnswered)}
            assert answers[1] == b"HELLO"
            assert [str(answers[token]) for token in (2, 3)] == ["not you", "the app failed to answer"]
            assert all(isinstance(answers[token], errors.Refused) for token in (2, 3))
            node.on_news(direct.RequestWithdrawn(0))
            await asyncio.wait_for(withdrawn.wait(), 5)
            node.on_news(direct.RequestArrived(9, OTHER, CHAT, b"wait", None))
        while len(node.of(direct.RequestAnswered)) < 4:
            await node.wait_for(direct.RequestAnswered)
        assert isinstance(node.of(direct.RequestAnswered)[-1].answer, errors.NotSupported)


@asynchronous
async def test_one_bad_answer_leaves_the_stream_of_all(tmp_path: Path) -> None:
    """Malformed, for nobody, twice, late, in one message with good ones: each costs at most its own request."""
    async with served(tmp_path) as (node, _, api, _), grpc.aio.insecure_channel(api.target) as channel:
        call: Any = direct_pb2_grpc.DirectServiceStub(channel).Serve()
        await call.write(direct_pb2.ServeRequest(protocols=[CHAT]))
        await call.initial_metadata()
        for token in range(5):
            node.on_news(direct.RequestArrived(token, OTHER, CHAT, b"", None))
        node.on_news(direct.RequestWithdrawn(4))
        answer = direct_pb2.Answer
        bad = [
            answer(id=0),
            answer(id=1, refusal="x" * 1025),
            answer(id=99, data=b"for nobody"),
            answer(id=4, data=b"late"),
        ]
        await call.write(direct_pb2.ServeRequest(answers=bad))
        await call.write(direct_pb2.ServeRequest())
        twice = [answer(id=2, data=b"good"), answer(id=2, data=b"again"), answer(id=2)]
        await call.write(direct_pb2.ServeRequest(answers=twice))
        rejected: dict[int, str] = {}
        while len(rejected) < 2:
            response = await call.read()
            rejected |= {one.id: one.reason for one in response.rejected}
        assert rejected == {0: "neither data nor a refusal", 1: "refusal of 1025 bytes, at most 1024"}
        await call.write(direct_pb2.ServeRequest(answers=[answer(id=3, data=b"last")]))
        while len(node.of(direct.RequestAnswered)) < 4:
            await node.wait_for(direct.RequestAnswered)
        told = {answered.token: answered.answer for answered in node.of(direct.RequestAnswered)}
        assert (told[2], told[3]) == (b"good", b"last")
        for token in (0, 1):
            assert isinstance(told[token], errors.Refused)
            assert rejected[token] in str(told[token])
        call.cancel()


@asynchronous
async def test_a_peers_endless_patience_ends_no_stream(tmp_path: Path) -> None:
    """A request may come with any time-out that 64 bits hold."""

    async def handle(request: sidecar_client.Request) -> bytes:
        assert request.time_left == 86_400
        return b"done"

    async with served(tmp_path) as (node, backend, _, client), client.serve(CHAT, handle):
        node.on_news(direct.RequestArrived(1, OTHER, CHAT, b"", backend.now() + 2**64 / 1000))
        assert (await node.wait_for(direct.RequestAnswered)).answer == b"done"


class _Leaving:
    """A call whose app goes away at the very moment when a write to it ends: in order, or failed."""

    def __init__(self, failure: Exception | None) -> None:
        self.call: asyncio.Task[None] | None = None
        self.open = asyncio.Event()
        self._failure = failure

    async def begin(self, metadata: object) -> None:
        self.open.set()

    async def write(self, data: bytes) -> None:
        assert self.call is not None
        self.call.cancel()
        await asyncio.sleep(0)  # the cancelled call has its turn first
        if self._failure is not None:
            raise self._failure


@pytest.mark.parametrize(
    ("failure", "outcome"),
    [(None, direct.SendOutcome.DELIVERED), (OSError("the app is gone"), direct.SendOutcome.NO_SUBSCRIBER)],
)
def test_an_app_that_leaves_with_its_message_has_got_it(failure: Exception | None, outcome: direct.SendOutcome) -> None:
    @asynchronous
    async def check() -> None:
        node = FakeNode()
        backend = Backend(node, node.feed, ApiConfig(), agent="sidecar/test")
        context = _Leaving(failure)
        request = direct_pb2.ReceiveRequest(protocols=[CHAT])
        call = backend.direct.receive(request, context)  # type: ignore[arg-type]
        context.call = asyncio.create_task(call)
        await context.open.wait()
        backend.direct.inbox.deliver(direct.MessagesReceived(7, OTHER, CHAT, 0, [b"bye"]))
        with pytest.raises(asyncio.CancelledError):
            await context.call
        assert node.of(direct.MessagesHandled) == [direct.MessagesHandled(7, 0, 1, outcome)]

    check()
