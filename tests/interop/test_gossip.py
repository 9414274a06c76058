"""Gossip between sidecars and peers."""

import asyncio
import os
import random
import time
from pathlib import Path

import pytest
import sidecar_client
from sidecar_client import Signing

from sidecar.core.gossip import GossipConfig, GossipRouter
from sidecar.core.identity import Identity
from tests.interop.cells import NETWORK, SPOKEN, NotOffered, cell
from tests.interop.ours import Ours, connect, our_sidecar, pair
from tests.interop.peer import TIMEOUT, Peer, Stage
from tests.interop.wire import US, dial, signed_rpc

TOPICS = 100
# Bytes of the largest RPC that are theirs: js-libp2p adds the key to each message, though an Ed25519 peer id holds it
# already; py-libp2p does too (Pubsub.publish), and adds its signed record to each RPC (GossipSub.publish).
ITS_OWN_FIELDS = {"js": 38, "py": 400}
BEATS, BEAT = 600, 0.1  # seconds: ten minutes of heartbeats of a second


async def both_ways(language: str, home: Path, *, we_dial: bool, sign: str, sizes: tuple[int, ...]) -> None:
    """Messages of these sizes pass from us to the peer and back."""
    signing = Signing.STRICT_SIGN if sign == "strict" else Signing.STRICT_NO_SIGN
    async with (
        pair(language, home, we_dial=we_dial, sign=sign) as (ours, peer),
        ours.client.subscribe("news", signing=signing, skip_local=True) as subscription,
    ):
        await peer.call("subscribe", topic="news")
        await peer.event("graft", topic="news", peer_id=ours.peer_id)
        assert (await peer.call("gossip_peers"))["peers"][ours.peer_id] == SPOKEN[language]
        arriving = aiter(subscription)
        for size in sizes:
            data = os.urandom(size)
            await ours.client.publish("news", data, signing=signing, minimum_peers=1, timeout=TIMEOUT)
            message = await peer.message("news")
            assert message["data"] == data
            assert message["from"] == (ours.peer_id if sign == "strict" else None)
            assert message["source"] == ours.peer_id

            data = os.urandom(size)
            await peer.publish("news", data)
            got = await asyncio.wait_for(anext(arriving), TIMEOUT)
            assert (got.data, got.local) == (data, False)
            assert got.sender == (peer.peer_id if sign == "strict" else "")


@cell("gossip", "StrictSign: 100 B, 1 KiB and 64,000 B both ways", quick=True, both_dial=True)
def test_signed(language: str, we_dial: bool, tmp_path: Path) -> None:
    asyncio.run(both_ways(language, tmp_path, we_dial=we_dial, sign="strict", sizes=(100, 1024, 64_000)))


@cell("gossip", "StrictNoSign both ways", quick=True, both_dial=True)
def test_unsigned(language: str, we_dial: bool, tmp_path: Path) -> None:
    asyncio.run(both_ways(language, tmp_path, we_dial=we_dial, sign="none", sizes=(100,)))


@cell("gossip", "fallback to /meshsub/1.1.0 and 1.0.0, messages both ways", quick=True)
@pytest.mark.parametrize("version", ["1.0", "1.1"])
def test_older_versions(language: str, version: str, tmp_path: Path) -> None:
    async def scenario() -> None:
        async with (
            pair(language, tmp_path, gossip=version) as (ours, peer),
            ours.client.subscribe("news", skip_local=True) as subscription,
        ):
            await peer.call("subscribe", topic="news")
            await peer.event("graft", topic="news", peer_id=ours.peer_id)
            spoken = (await peer.call("gossip_peers"))["peers"][ours.peer_id]
            assert spoken == f"/meshsub/{version}.0"
            await ours.client.publish("news", b"to them", minimum_peers=1, timeout=TIMEOUT)
            assert (await peer.message("news"))["data"] == b"to them"
            await peer.publish("news", b"to us")
            assert (await asyncio.wait_for(anext(aiter(subscription)), TIMEOUT)).data == b"to us"

    asyncio.run(scenario())


async def until_counted(ours: Ours, name: str, least: int = 1) -> None:
    """Wait until one of our counters is there."""
    async with asyncio.timeout(TIMEOUT):
        while (await ours.client.statistics())[name] < least:
            pass


async def idontwant_at_either(one: Peer, other: Peer, peer_id: str, direction: str) -> None:
    """Wait until one of two peers tells of an IDONTWANT from or to a third."""
    waiting = [
        asyncio.create_task(peer.event("idontwant", peer_id=peer_id, direction=direction)) for peer in (one, other)
    ]
    ended, running = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
    for task in running:
        task.cancel()
    for task in ended:
        task.result()


@cell("gossip", "IDONTWANT for a large message, theirs heard and ours sent")
def test_idontwant(language: str, tmp_path: Path) -> None:
    async def scenario() -> None:
        async with Stage() as stage, our_sidecar(tmp_path) as ours:
            source, other = [await stage.start(language, name, network=NETWORK) for name in ("source", "other")]
            for peer in (source, other):
                await connect(ours, peer, we_dial=True)
            await source.call("connect", address=other.address)
            async with ours.client.subscribe("news", skip_local=True) as subscription:
                for peer in (source, other):
                    await peer.call("subscribe", topic="news")
                    await peer.event("graft", topic="news", peer_id=ours.peer_id)
                await source.event("graft", topic="news", peer_id=other.peer_id)
                arriving = aiter(subscription)
                # Nobody tells whom it has a message from: who of the two is first differs from message to message.
                async with asyncio.timeout(TIMEOUT):
                    while True:
                        await source.publish("news", os.urandom(20_000))
                        await anext(arriving)
                        await other.message("news")
                        counted = await ours.client.statistics()
                        if counted["gossip_idontwant_ids_received"] and counted["gossip_idontwant_ids_sent"]:
                            break
                if language in ("rust", "py"):
                    raise NotOffered("its IDONTWANT was received here; what it does with ours it does not tell")
                for direction in ("received", "sent"):
                    await idontwant_at_either(source, other, ours.peer_id, direction)

    asyncio.run(scenario())


@cell("gossip", "StrictSign: a tampered message of theirs is refused by us", quick=True)
def test_their_tampered_message(language: str, tmp_path: Path) -> None:
    async def scenario() -> None:
        async with (
            pair(language, tmp_path) as (ours, peer),
            ours.client.subscribe("news", skip_local=True) as subscription,
        ):
            await peer.call("subscribe", topic="news")
            await peer.event("graft", topic="news", peer_id=ours.peer_id)
            await peer.call("publish_tampered", topic="news", data="dGFtcGVyZWQ=", peer_id=ours.peer_id)
            await until_counted(ours, "gossip_rejected_signature")
            await peer.publish("news", b"sound")
            assert (await asyncio.wait_for(anext(aiter(subscription)), TIMEOUT)).data == b"sound"

    asyncio.run(scenario())


@cell("gossip", "StrictSign: a tampered message of ours is refused by them", quick=True)
def test_our_tampered_message(language: str) -> None:
    async def scenario() -> None:
        async with Stage() as stage, asyncio.timeout(TIMEOUT):
            peer = await stage.start(language, "peer")
            await peer.call("subscribe", topic="news")
            wire = await dial(peer, further=("/meshsub/1.1.0",))
            await peer.event("identified", peer_id=str(US.peer_id))
            frames = signed_rpc(b"tampered", 1, tampered=True) + signed_rpc(b"sound", 2, tampered=False)
            await wire.send("/meshsub/1.1.0", frames)
            assert (await peer.message("news"))["data"] == b"sound"
            wire.close()

    asyncio.run(scenario())


def largest(topic: str) -> int:
    """The most data that fits a signed message in an RPC of 1 MiB."""
    router = GossipRouter(
        GossipConfig(),
        Identity(bytes(32)),
        now=0.0,
        sequence=0,
        rng=random.Random(0),
        signed_record=lambda peer: None,
    )
    return router.max_message(topic)


@cell("gossip", "the largest message within an RPC of 1 MiB arrives, one byte more is TooLarge here", quick=True)
def test_largest_message(language: str, tmp_path: Path) -> None:
    async def scenario() -> None:
        async with (
            pair(language, tmp_path) as (ours, peer),
            ours.client.subscribe("news", skip_local=True) as subscription,
        ):
            await peer.call("subscribe", topic="news")
            await peer.event("graft", topic="news", peer_id=ours.peer_id)
            size = largest("news")
            with pytest.raises(sidecar_client.TooLarge):
                await ours.client.publish("news", bytes(size + 1), timeout=TIMEOUT)
            if language == "rust":
                raise NotOffered("rust-libp2p takes and sends RPCs of 65,536 bytes at most unless configured")
            data = os.urandom(size)
            await ours.client.publish("news", data, minimum_peers=1, timeout=TIMEOUT)
            assert (await peer.message("news"))["data"] == data
            back = data[ITS_OWN_FIELDS.get(language, 0) :]
            await peer.publish("news", back)
            assert (await asyncio.wait_for(anext(aiter(subscription)), TIMEOUT)).data == back

    asyncio.run(scenario())


@cell("gossip", "1,000 messages published at once arrive: joined RPCs within its limit")
def test_joined_rpcs(language: str, tmp_path: Path) -> None:
    async def scenario() -> None:
        async with pair(language, tmp_path) as (ours, peer), ours.client.subscribe("news"):
            await peer.call("subscribe", topic="news")
            await peer.event("graft", topic="news", peer_id=ours.peer_id)
            wanted = {b"%d " % number + bytes(900) for number in range(1000)}
            await ours.client.publish_many("news", sorted(wanted), timeout=TIMEOUT)
            got = [(await peer.message("news"))["data"] for _ in wanted]
            assert (len(got), set(got)) == (len(wanted), wanted)

    asyncio.run(scenario())


@cell("gossip", "unsubscribe and resubscribe, both sides", quick=True)
def test_resubscribe(language: str, tmp_path: Path) -> None:
    async def scenario() -> None:
        async with pair(language, tmp_path, flags=("--api-linger", "0")) as (ours, peer):
            await peer.call("subscribe", topic="news")
            for joined in range(2):
                async with ours.client.subscribe("news", skip_local=True) as subscription:
                    await peer.event("topic_peer", topic="news", peer_id=ours.peer_id, joined=True)
                    data = b"to them %d" % joined
                    await ours.client.publish("news", data, minimum_peers=1, timeout=TIMEOUT)
                    assert (await peer.message("news"))["data"] == data
                    if joined and language == "py":
                        raise NotOffered(
                            "within a PRUNE's back-off nothing it says reaches us: it publishes to its mesh alone, and"
                            " GossipSub._handle_topic_heartbeat in pubsub/gossipsub.py omits such peers from IHAVE"
                        )
                    await peer.publish("news", data[::-1])
                    got = await asyncio.wait_for(anext(aiter(subscription)), TIMEOUT)
                    assert got.data == data[::-1]
                await peer.event("topic_peer", topic="news", peer_id=ours.peer_id, joined=False)
            async with ours.client.subscribe("news", skip_local=True):
                await peer.event("topic_peer", topic="news", peer_id=ours.peer_id, joined=True)
                await peer.call("unsubscribe", topic="news")
                async with asyncio.timeout(TIMEOUT):
                    while any(topic.peers for topic in await ours.client.topics() if topic.name == "news"):
                        pass
                await peer.call("subscribe", topic="news")
                await ours.client.publish("news", b"again", minimum_peers=1, timeout=TIMEOUT)
                assert (await peer.message("news"))["data"] == b"again"

    asyncio.run(scenario())


@cell("gossip", "100 topics")
def test_many_topics(language: str, tmp_path: Path) -> None:
    async def scenario() -> None:
        names = [f"topic {number}" for number in range(TOPICS)]
        async with (
            pair(language, tmp_path) as (ours, peer),
            ours.client.subscribe(names[::2], skip_local=True) as even,  # at most 64 topics a call
            ours.client.subscribe(names[1::2], skip_local=True) as odd,
        ):
            for name in names:
                await peer.call("subscribe", topic=name)
            for name in names:
                await peer.event("graft", topic=name, peer_id=ours.peer_id)
                await ours.client.publish(name, name.encode(), minimum_peers=1, timeout=TIMEOUT)
                await peer.publish(name, name.encode())
            for name in names:
                assert (await peer.message(name))["data"] == name.encode()
            got = [
                await asyncio.wait_for(anext(arriving), TIMEOUT)
                for arriving in (aiter(even), aiter(odd))
                for _ in range(TOPICS // 2)
            ]
            assert sorted((message.topic, message.data) for message in got) == sorted((n, n.encode()) for n in names)

    asyncio.run(scenario())


@cell("gossip", "prune back-off respected: their score of us stays at 0 or above for 600 heartbeats")
def test_backoff_keeps_the_score(language: str, tmp_path: Path) -> None:
    """Our app comes and goes as fast as it can: each GRAFT within the back-off would cost score (v1.1, P7)."""

    async def scenario() -> None:
        flags = ("--gossip-heartbeat-interval", str(BEAT), "--api-linger", "0")
        async with pair(language, tmp_path, flags=flags, heartbeat_ms=int(BEAT * 1000)) as (ours, peer):
            await peer.call("subscribe", topic="news")
            end = time.monotonic() + BEATS * BEAT
            while time.monotonic() < end:
                async with ours.client.subscribe("news"):
                    await peer.event("topic_peer", topic="news", peer_id=ours.peer_id, joined=True)
                await peer.event("topic_peer", topic="news", peer_id=ours.peer_id, joined=False)
                assert (await peer.call("scores"))["scores"].get(ours.peer_id, 0) >= 0
            assert ours.peer_id in (await peer.call("scores"))["scores"]

    asyncio.run(scenario())
