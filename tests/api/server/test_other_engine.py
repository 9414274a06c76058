"""The services behind something that is not gRPC: all that an engine has to bring is a call of its own."""

import asyncio
from collections.abc import AsyncIterator, Iterable
from typing import Any, NoReturn

import pytest
from google.protobuf.message import Message
from sidecar_client.v1 import direct_pb2, node_pb2, pubsub_pb2

from sidecar.api.backend import Backend
from sidecar.api.common.call import Metadata
from sidecar.api.common.status import Code, code, reason
from sidecar.api.config import ApiConfig
from sidecar.api.guard.gate import TokenGate
from sidecar.api.server import schema
from sidecar.api.server.callers import Callers
from sidecar.api.server.methods import served_methods
from sidecar.core import direct
from sidecar.core.errors import SidecarError
from tests.api.fakes import ME_TEXT, OTHER_TEXT, FakeNode, asynchronous, message


class Ended(Exception):
    """What the engine's `fail` raises, as gRPC's does."""


class Call:
    """A call in this process."""

    def __init__(self, *, left: float | None = None) -> None:
        self.peer = "here"
        self.metadata: Metadata = ()
        self.begun: Metadata | None = None
        self.responses: asyncio.Queue[Any] = asyncio.Queue()
        self.failed: SidecarError | None = None
        self._left = left

    def time_left(self) -> float | None:
        return self._left

    async def begin(self, metadata: Metadata) -> None:
        self.begun = metadata

    async def write(self, response: Any) -> None:
        self.responses.put_nowait(schema.serialize(response))

    def over(self) -> bool:
        return self.failed is not None

    def lost(self, error: Exception) -> bool:
        return isinstance(error, BrokenPipeError)

    async def fail(self, error: SidecarError) -> NoReturn:
        self.failed = error
        raise Ended


class Engine:
    """Finds the method, parses, lets the gate look who calls, and hands the call on."""

    def __init__(self, backend: Backend, *, required: bool = False) -> None:
        self._gate = TokenGate(None, required=required)
        methods = served_methods(backend.services, self._gate, Callers(), backend.calls, backend.lifetime)
        self._methods = {(name, served.method.name): served for name, found in methods.items() for served in found}

    async def call(self, service: str, method: str, call: Call, *requests: Message) -> Any:
        served = self._methods[f"sidecar.v1.{service}", method]
        try:
            self._gate.admit(call.metadata)
        except SidecarError as error:
            call.failed = error
            return None
        parsed = [served.method.parse(request.SerializeToString()) for request in requests]
        stream = _stream(parsed) if served.method.client_streaming else parsed[0]
        try:
            return await served.handler(stream, call)
        except Ended:
            return None


async def _stream(requests: Iterable[Any]) -> AsyncIterator[Any]:
    for request in requests:
        yield request


def _engine(**named: bool) -> tuple[FakeNode, Backend, Engine]:
    node = FakeNode()
    backend = Backend(node, node.feed, ApiConfig(linger=0.0), agent="sidecar/test")
    node.on_news = backend.on_news
    return node, backend, Engine(backend, **named)


@asynchronous
async def test_single_calls_are_answered_or_end_with_a_status() -> None:
    node, backend, engine = _engine()
    node.answers[direct.RequestMade] = b"pong"
    call = Call(left=3.0)
    asked = direct_pb2.RequestRequest(peer_id=OTHER_TEXT, protocol="/ping/1", data=b"ping")
    assert (await engine.call("DirectService", "Request", call, asked)).data == b"pong"
    assert 2 < node.of(direct.RequestMade)[0].deadline - backend.now() <= 3
    call = Call()
    asked.peer_id = ME_TEXT
    assert await engine.call("DirectService", "Request", call, asked) is None
    assert call.failed is not None
    assert (code(call.failed), str(call.failed)) == (
        Code.INVALID_ARGUMENT,
        "peer_id: the peer named is this node itself",
    )
    counted = backend.calls.methods["DirectService/Request"]
    assert (dict(counted.ended), counted.open) == ({Code.OK: 1, Code.INVALID_ARGUMENT: 1}, 0)


@asynchronous
async def test_streams_of_the_server_and_of_both_sides() -> None:
    node, backend, engine = _engine()
    call = Call()
    reading = asyncio.create_task(
        engine.call("PubSubService", "Subscribe", call, pubsub_pb2.SubscribeRequest(topics=["news"]))
    )
    first = pubsub_pb2.SubscribeResponse.FromString(await call.responses.get())
    assert (bool(first.cursor), dict(call.begun or ())) == (True, {"sidecar-stream": "open"})
    node.deliver(message(b"one"), message(b"two"))
    batch = pubsub_pb2.SubscribeResponse.FromString(await call.responses.get())
    assert [item.data for item in batch.messages] == [b"one", b"two"]
    publishing = Call()
    sent = pubsub_pb2.PublishManyRequest(topic="other")
    for data in (b"three", b"four"):
        sent.messages.add().data = data
    await engine.call("PubSubService", "PublishMany", publishing, sent)
    receipts = pubsub_pb2.PublishManyResponse.FromString(publishing.responses.get_nowait()).receipts
    assert [(receipt.first, receipt.count) for receipt in receipts] == [(0, 2)]
    backend.close()
    await reading
    assert call.failed is not None
    assert reason(call.failed) == "CLOSED"


@asynchronous
async def test_a_caller_that_is_gone_when_it_is_written_to_counts_as_one_that_cancelled() -> None:
    _, backend, engine = _engine()

    class Gone(Call):
        async def write(self, response: Any) -> None:
            raise BrokenPipeError

    call = Gone()
    with pytest.raises(asyncio.CancelledError):
        await engine.call("PubSubService", "Subscribe", call, pubsub_pb2.SubscribeRequest(topics=["news"]))
    assert dict(backend.calls.methods["PubSubService/Subscribe"].ended) == {Code.CANCELLED: 1}
    assert call.failed is None


@pytest.mark.parametrize(("required", "status"), [(True, Code.UNAUTHENTICATED), (False, None)])
def test_the_gate_is_asked_before_the_first_message(required: bool, status: Code | None) -> None:
    @asynchronous
    async def check() -> None:
        _, _, engine = _engine(required=required)
        call = Call()
        answer = await engine.call("NodeService", "GetNode", call, node_pb2.GetNodeRequest())
        assert (answer is None) == required
        assert (None if call.failed is None else code(call.failed)) == status

    check()
