"""Nothing of a client is left once it has been closed: in asyncio's debug mode, with all that it can do under way."""

import asyncio
import gc
import logging
import os
import weakref
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import sidecar_client

from sidecar.core import direct, gossip
from tests.api.fakes import OTHER, OTHER_TEXT, server

pytestmark = pytest.mark.usefixtures("each_client_engine")

CHAT = "/chat/1"


def sockets() -> dict[str, str]:
    """The sockets of this process."""
    found = {}
    for name in os.listdir("/proc/self/fd"):
        with suppress(OSError):
            target = os.readlink(f"/proc/self/fd/{name}")
            if target.startswith("socket:"):
                found[name] = target
    return found


async def busy(client: sidecar_client.Client, node: Any) -> list["asyncio.Task[Any]"]:
    """Everything that a client can do, under way at the same time."""
    node.answers[gossip.Published] = node.answers[direct.SendRequested] = node.answers[direct.RequestMade] = None
    handling = asyncio.Event()

    async def handle(request: sidecar_client.Request) -> bytes:
        handling.set()
        await asyncio.Event().wait()
        return b""

    async def endless() -> Any:
        yield b"one"
        await asyncio.Event().wait()

    async def serve() -> None:
        await client.serve(CHAT, handle)

    async def read(stream: Any) -> None:
        async for _ in stream:
            pass

    works = [
        read(client.subscribe("news")),
        read(client.receive(CHAT)),
        read(client.watch_peers()),
        read(client.watch_readiness()),
        read(client.accept_streams("/echo/1")),
        serve(),
        client.publish_many("many", endless()),
        client.send_many(OTHER_TEXT, "/many/1", endless()),
        *(client.request(OTHER_TEXT, "/ask/1", b"") for _ in range(5)),
        client.ping_peer(OTHER_TEXT),
        *(client.publish("news", b"%d" % number) for number in range(10)),
        *(client.send(OTHER_TEXT, CHAT, b"%d" % number, timeout=60) for number in range(10)),
    ]
    tasks = [asyncio.create_task(work) for work in works]
    await node.wait_for(direct.RequestMade)
    while not {"many", "news"} <= {published.topic for published in node.of(gossip.Published)}:
        await node.wait_for(gossip.Published)
    while len(node.of(direct.SendRequested)) < 2:
        await node.wait_for(direct.SendRequested)
    while not any(CHAT in changed.serving for changed in node.of(direct.ProtocolsChanged)):
        await node.wait_for(direct.ProtocolsChanged)
    node.on_news(direct.RequestArrived(1, OTHER, CHAT, b"", None))
    await handling.wait()
    return tasks


def test_nothing_is_left(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    clients: list[weakref.ref[sidecar_client.Client]] = []

    async def once() -> None:
        async with server(tmp_path / "api.sock") as (node, _, api):
            client = await sidecar_client.connect(api.target).__aenter__()
            clients.append(weakref.ref(client))
            tasks = await busy(client, node)
            await client.aclose()
            for result in await asyncio.gather(*tasks, return_exceptions=True):
                assert isinstance(result, sidecar_client.Closed), result
            assert [task for task in asyncio.all_tasks() if "sidecar_client" in repr(task)] == []
            del client, tasks, result
        for _ in range(1000):  # gRPC's own tasks need some turns to notice
            left = asyncio.all_tasks() - {asyncio.current_task()}
            if not left:
                break
            await asyncio.sleep(0)
        assert not left

    with caplog.at_level(logging.WARNING):
        asyncio.run(once(), debug=True)  # gRPC's own poller is there from now on
        gc.collect()
        before = sockets()
        asyncio.run(once(), debug=True)
        gc.collect()
    assert sockets() == before
    assert [client() for client in clients] == [None, None]
    assert [record for record in caplog.records if "took" not in record.getMessage()] == []
