"""What apps may get wrong is refused at once, with InvalidArgument and the name of the field; nothing is sent."""

import math
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import sidecar_client
from sidecar_client import Client, InvalidArgument

from tests.api.fakes import asynchronous, served

HALF = "half of a pair: \ud83d"
CHAT = "/chat/1"


async def nothing(_: Any) -> bytes:
    return b""


async def first(items: Any) -> Any:
    return await anext(aiter(items))


async def opened(stream: Any) -> None:
    async with stream:
        pass


Begin = Callable[[Client], Awaitable[Any]]
WRONG: list[tuple[str, Begin]] = [
    ("queue_messages", lambda client: opened(client.subscribe("x", queue_messages=-1))),
    ("queue_messages", lambda client: opened(client.subscribe("x", queue_messages=1 << 32))),
    ("queue_messages", lambda client: opened(client.receive(CHAT, queue_messages=-1))),
    ("queue_bytes", lambda client: opened(client.subscribe("x", queue_bytes=-1))),
    ("queue_bytes", lambda client: opened(client.subscribe("x", queue_bytes=math.nan))),  # type: ignore[arg-type]
    ("cursor", lambda client: opened(client.subscribe("x", cursor=5))),  # type: ignore[arg-type]
    ("start_time", lambda client: opened(client.subscribe("x", start_time=math.nan))),
    ("start_time", lambda client: opened(client.subscribe("x", start_time=1e15))),
    ("start_time", lambda client: opened(client.subscribe("x", start_time="today"))),  # type: ignore[arg-type]
    ("policy", lambda client: opened(client.subscribe("x", policy=77))),  # type: ignore[arg-type]
    ("policy", lambda client: opened(client.subscribe("x", policy="ALL"))),  # type: ignore[arg-type]
    ("signing", lambda client: opened(client.subscribe("x", signing=77))),  # type: ignore[arg-type]
    ("signing", lambda client: client.publish("x", b"", signing="STRICT")),  # type: ignore[arg-type]
    ("signing", lambda client: client.publish_many("x", [], signing=77)),  # type: ignore[arg-type]
    ("bundling", lambda client: client.publish("x", b"", bundling="ALWAYS")),  # type: ignore[arg-type]
    ("bundling", lambda client: client.publish_many("x", [], bundling=77)),  # type: ignore[arg-type]
    ("topics", lambda client: opened(client.subscribe(HALF))),
    ("topic", lambda client: client.publish(HALF, b"")),
    ("topic", lambda client: client.publish_many(HALF, [])),
    ("request_id", lambda client: client.publish("x", b"", request_id=HALF)),
    ("request_id", lambda client: client.send("p", CHAT, b"", request_id=HALF)),
    ("minimum_peers", lambda client: client.publish("x", b"", minimum_peers=-1)),
    ("minimum_peers", lambda client: client.publish_many("x", [], minimum_peers=-1)),
    ("peer_id", lambda client: client.send(HALF, CHAT, b"")),
    ("protocol", lambda client: client.send_many("p", HALF, [])),
    ("protocol", lambda client: client.request("p", HALF, b"")),
    ("traceparent", lambda client: client.request("p", CHAT, b"", traceparent=HALF)),
    ("timeout", lambda client: client.request("p", CHAT, b"", timeout=math.nan)),
    ("timeout", lambda client: client.publish("x", b"", timeout=-1)),
    ("timeout", lambda client: client.publish_many("x", [], timeout=math.nan)),
    ("timeout", lambda client: client.info(timeout=math.nan)),
    ("limit", lambda client: client.closest_peers("key", limit=-1)),
    ("limit", lambda client: first(client.find_peers("x", limit=-1))),
    ("key", lambda client: client.get_record(HALF)),
    ("quorum", lambda client: client.get_record("/x/1", quorum=-1)),
    ("quorum", lambda client: client.put_record("/x/1", b"", quorum=-1)),
    ("part", lambda client: client.set_log_level(HALF, "")),
    ("duration", lambda client: client.ban_peer(network="192.0.2.1", duration=math.nan)),
    ("duration", lambda client: client.ban_peer(network="192.0.2.1", duration=1e300)),
    ("ttl", lambda client: opened(client.advertise("x", ttl=-1))),
    ("name", lambda client: opened(client.advertise(HALF))),
    ("concurrency", lambda client: opened(client.serve(CHAT, nothing, concurrency=0))),
    ("handler", lambda client: opened(client.serve(CHAT, None))),  # type: ignore[arg-type]
    ("protocols", lambda client: opened(client.serve(HALF, nothing))),
    ("protocols", lambda client: opened(client.open_stream("p", HALF))),
    ("protocols", lambda client: opened(client.accept_streams(HALF))),
    ("wait", lambda client: opened(sidecar_client.connect(client.target, wait=math.nan))),
    ("wait", lambda client: opened(sidecar_client.connect(client.target, wait=-1))),
]


@asynchronous
async def test_what_cannot_be_is_refused_and_the_field_is_named(tmp_path: Path) -> None:
    async with served(tmp_path) as (_, _, _, client):
        found: list[str | None] = []
        for _, begin in WRONG:

            async def call(begin: Begin = begin) -> None:
                await begin(client)

            try:
                await call()
            except InvalidArgument as error:
                found.append(error.field)
            except (sidecar_client.SidecarError, TypeError, ValueError) as error:
                found.append(repr(error))
            else:
                found.append("nothing")
        assert found == [field for field, _ in WRONG]
        receipt = await client.publish("x", b"all is well")
        assert receipt.message_id
