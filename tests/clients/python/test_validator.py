"""Judging with the Python client, beside a server that is no sidecar: how many handlers run at once."""

import asyncio
from pathlib import Path
from typing import Any

import grpc
import pytest
import sidecar_client
from sidecar_client import Message, Verdict
from sidecar_client._stream import OPEN
from sidecar_client.v1 import pubsub_pb2

from tests.api.fakes import asynchronous
from tests.clients.python.test_connecting import serving

pytestmark = pytest.mark.usefixtures("each_client_engine")


class Court:
    """Asks for verdicts on all messages in one response, and keeps those that come."""

    def __init__(self, count: int) -> None:
        self._count = count
        self.given: dict[int, int] = {}
        self.all = asyncio.Event()

    async def _validate(self, requests: Any, context: Any) -> Any:
        await anext(requests)  # which topics
        await context.send_initial_metadata(((OPEN, "1"),))
        messages = [pubsub_pb2.TopicMessage(topic="news", data=b"%d" % number) for number in range(self._count)]
        yield pubsub_pb2.ValidateResponse(first=7, messages=messages)
        async for request in requests:
            for part in request.verdicts:
                self.given.update(dict.fromkeys(range(part.first, part.first + part.count), part.verdict))
            if len(self.given) == self._count:
                self.all.set()

    def methods(self) -> dict[str, Any]:
        handler = grpc.stream_stream_rpc_method_handler(
            self._validate, pubsub_pb2.ValidateRequest.FromString, lambda made: made.SerializeToString()
        )
        return {"PubSubService/Validate": handler}


@pytest.mark.parametrize("concurrency", [1, 3, 256])
def test_no_more_handlers_run_than_may_of_messages_that_come_together_too(concurrency: int, tmp_path: Path) -> None:
    running = most = 0

    async def judge(message: Message) -> Verdict:
        nonlocal running, most
        running += 1
        most = max(most, running)
        for _ in range(3):  # others get their turn
            await asyncio.sleep(0)
        running -= 1
        return Verdict.REJECT if message.data == b"5" else Verdict.ACCEPT

    @asynchronous
    async def play() -> None:
        court, place = Court(20), f"unix:{tmp_path / 'api.sock'}"
        async with serving(place, methods=court.methods()):
            client = sidecar_client.connect(place)
            async with client.validate("news", judge, concurrency=concurrency):
                await court.all.wait()
            assert court.given == {7 + number: 2 if number == 5 else 1 for number in range(20)}
            await client.close()

    play()
    assert most == min(concurrency, 20)
