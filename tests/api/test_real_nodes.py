"""From app to app: clients, servers, drivers and node machines over loopback, nothing faked."""

import asyncio
import contextlib
import random
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import sidecar_client
from sidecar_client import Client, PeerEventType, PublishOutcome, SendOutcome, Signing

from sidecar.api.backend import Backend
from sidecar.api.config import ApiConfig
from sidecar.api.server.server import ApiServer
from sidecar.core.events import AddressesChanged, AddressesKnown, Note, PeersLearned
from sidecar.core.identity import Identity
from sidecar.core.multiaddr import Multiaddr
from sidecar.core.node import Node, NodeConfig, NodeNews
from sidecar.net.config import NetConfig
from sidecar.net.runtime import Runtime
from tests.api.fakes import asynchronous

CHAT = "/chat/1"
LOOPBACK = (Multiaddr.from_text("/ip4/127.0.0.1/tcp/0"),)


@contextlib.asynccontextmanager
async def sidecar(directory: Path, number: int, *bootstrap: str) -> AsyncIterator[tuple[Client, str]]:
    """A whole sidecar and a client of it; gives the client and the node's address."""
    now = asyncio.get_running_loop().time()
    identity = Identity(number.to_bytes(32, "big"))
    settings = NodeConfig(network="test", bootstrap=tuple(map(Multiaddr.from_text, bootstrap)))
    node = Node(settings, identity, now=now, wall_ns=time.time_ns(), rng=random.Random(number))

    def tell(news: NodeNews) -> None:
        if not isinstance(news, Note | PeersLearned | AddressesKnown):
            backend.on_news(news)

    runtime = Runtime(node, identity, NetConfig(), tell)
    config = ApiConfig(socket=directory / f"{number}.sock", drain_timeout=0.5)
    backend = Backend(node, runtime.feed, config, agent="sidecar/test")
    server = ApiServer(backend, config)
    await server.start()
    try:
        listening = await runtime.listen(LOOPBACK)
        runtime.feed(AddressesChanged(listening, ()))
        async with sidecar_client.connect(server.target) as client:
            yield client, str(listening[0].with_peer(identity.peer_id))
    finally:
        await server.stop()
        await runtime.close(1.0)


@contextlib.asynccontextmanager
async def three(directory: Path) -> AsyncIterator[list[tuple[Client, str]]]:
    """Three sidecars, two of which know the first; the clients with their peer ids."""
    async with contextlib.AsyncExitStack() as stack:
        first, address = await stack.enter_async_context(sidecar(directory, 1))
        clients = [first]
        for number in (2, 3):
            clients.append((await stack.enter_async_context(sidecar(directory, number, address)))[0])
        for client in clients:
            await client.ready(timeout=10)
        yield [(client, (await client.info()).peer_id) for client in clients]


@asynchronous
async def test_peers(tmp_path: Path) -> None:
    async with three(tmp_path) as ((first, _), (second, second_id), (third, third_id)):
        assert third_id in [peer.peer_id async for peer in first.peers(connected_only=True)]
        assert await second.find_peer(third_id)
        assert (await second.connect_peer(third_id, timeout=5)).peer_id == third_id
        assert await second.ping_peer(third_id, timeout=5) >= 0
        async with contextlib.aclosing(third.watch_peers()) as watching:
            async for event in watching:
                if event.type is PeerEventType.CURRENT:
                    break
            await second.disconnect_peer(third_id)
            async for event in watching:
                if event.type is PeerEventType.DISCONNECTED and event.peer is not None:
                    assert event.peer.peer_id == second_id
                    break
        with pytest.raises(sidecar_client.Unreachable):
            await second.connect_peer(addresses=["/ip4/127.0.0.1/tcp/1"], timeout=5)
        statistics = await second.statistics()
        assert statistics["peers_connected"] >= 1


@asynchronous
async def test_direct(tmp_path: Path) -> None:
    async def answer(request: sidecar_client.Request) -> bytes:
        if request.data == b"no":
            raise sidecar_client.Refused("not that")
        return request.data + request.peer_id.encode()

    async with three(tmp_path) as (_, (second, second_id), (third, third_id)):
        assert (await second.send(third_id, CHAT, b"early")).outcome is SendOutcome.NO_SUBSCRIBER
        async with third.receive(CHAT) as receiver, third.serve("/ask/1", answer):
            receipt = await second.send(third_id, CHAT, b"hello")
            assert receipt.outcome is SendOutcome.DELIVERED
            message = await anext(aiter(receiver))
            assert message == sidecar_client.DirectMessage(second_id, CHAT, b"hello")
            sent = asyncio.create_task(second.send_many(third_id, CHAT, (b"%d" % number for number in range(5000))))
            received: list[bytes] = []
            async for batch in receiver.batches():
                received += batch.payloads()
                if len(received) == 5000:
                    break
            assert received == [b"%d" % number for number in range(5000)]
            assert [(r.first, r.count, r.outcome) for r in await sent] == [(0, 5000, SendOutcome.DELIVERED)]
            assert await second.request(third_id, "/ask/1", b"me ") == b"me " + second_id.encode()
            with pytest.raises(sidecar_client.Refused, match="not that"):
                await second.request(third_id, "/ask/1", b"no")
            with pytest.raises(sidecar_client.TooLarge):
                await second.send(third_id, CHAT, bytes(1_000_001))
            with pytest.raises(sidecar_client.TooLarge):
                await second.request(third_id, "/ask/1", bytes(1_000_001))
        with pytest.raises(sidecar_client.NotSupported):
            await second.request(third_id, "/ask/1", b"anybody?")
        stranger = str(Identity(bytes(32)).peer_id)
        assert (await second.send(stranger, CHAT, b"hello")).outcome is SendOutcome.UNREACHABLE


@pytest.mark.parametrize("signing", [Signing.STRICT_SIGN, Signing.STRICT_NO_SIGN])
def test_topics(signing: Signing, tmp_path: Path) -> None:
    @asynchronous
    async def check() -> None:
        wanted: dict[str, Any] = {"signing": signing}
        async with three(tmp_path) as clients:
            publisher, publisher_id = clients[1]
            assert (await publisher.publish("lonely", b"?", **wanted)).outcome is PublishOutcome.NO_PEERS
            async with contextlib.AsyncExitStack() as stack:
                readers = [await stack.enter_async_context(client.subscribe("news", **wanted)) for client, _ in clients]
                await publisher.publish("news", b"first", minimum_peers=2, timeout=5, **wanted)
                count = 1000
                data = [b"%d" % number for number in range(count)]
                receipts = await publisher.publish_many("news", data, **wanted)
                assert sum(receipt.count for receipt in receipts) == count
                assert {receipt.outcome for receipt in receipts} == {PublishOutcome.SENT}
                for reader in readers:
                    messages = []
                    async for message in reader:
                        messages.append(message)
                        if len(messages) == count + 1:
                            break
                    assert sorted(message.data for message in messages) == sorted([b"first", *data])
                    sender = publisher_id if signing is Signing.STRICT_SIGN else ""
                    assert {message.sender for message in messages} == {sender}
                again = await publisher.publish("news", b"first", **wanted)
                unsigned = signing is Signing.STRICT_NO_SIGN
                assert again.outcome is (PublishOutcome.DUPLICATE if unsigned else PublishOutcome.SENT)
                with pytest.raises(sidecar_client.TooLarge):
                    await publisher.publish("news", bytes(1 << 20), **wanted)
                topics = {topic.name: topic for topic in await publisher.topics()}
                assert topics["news"].signing is signing
                assert topics["news"].subscribers == 1

    check()


@asynchronous
async def test_an_answer_that_is_too_large_costs_its_own_request_only(tmp_path: Path) -> None:
    release = asyncio.Event()
    arrived = asyncio.Event()

    async def handle(request: sidecar_client.Request) -> bytes:
        if request.data == b"under way":
            arrived.set()
            await release.wait()
        return bytes(1_000_001) if request.data == b"large" else request.data

    async with three(tmp_path) as ((asking, _), (_, peer), (serving, serving_id)):
        assert peer != serving_id
        async with serving.serve(CHAT, handle) as server:
            under_way = asyncio.create_task(asking.request(serving_id, CHAT, b"under way"))
            await arrived.wait()
            words = "cannot be taken: response of 1000001 bytes, at most 1000000"
            for _ in range(2):  # alone, and with others on the shared call
                with pytest.raises(sidecar_client.Refused, match=words):
                    await asking.request(serving_id, CHAT, b"large")
            release.set()
            assert await under_way == b"under way"
            assert await asking.request(serving_id, CHAT, b"next") == b"next"
            while server.rejected < 2:
                await serving.info()
