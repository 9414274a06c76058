"""The peer programs and the harness that drives them, proved on each other without a sidecar."""

import asyncio
import base64
import os

import pytest

from tests.interop.cells import ALL
from tests.interop.peer import Peer, PeerError, Stage, join

pytestmark = [pytest.mark.interop, pytest.mark.usefixtures("peer_programs")]

PAIRS = [("go", "js"), ("js", "go")]
if ALL:  # the others take long to build
    PAIRS += [("rust", "go"), ("go", "rust"), ("py", "go"), ("go", "py")]


async def pair(stage: Stage, languages: tuple[str, str], **options: str) -> tuple[Peer, Peer]:
    """Two connected peers, the first one the dialler."""
    dialler, listener = await asyncio.gather(
        stage.start(languages[0], "dialler", **options), stage.start(languages[1], "listener", **options)
    )
    answer = await dialler.call("connect", address=listener.address)
    assert answer["peer_id"] == listener.peer_id
    await listener.event("identified", peer_id=dialler.peer_id)
    return dialler, listener


@pytest.mark.parametrize("languages", PAIRS)
def test_connect_identify_ping_echo(languages: tuple[str, str]) -> None:
    async def scenario() -> None:
        async with Stage() as stage:
            dialler, listener = await pair(stage, languages, network="blue")
            for one, other, direction in ((dialler, listener, "outbound"), (listener, dialler, "inbound")):
                assert (await one.event("connected"))["direction"] == direction
                seen = await one.call("identify", peer_id=other.peer_id)
                assert seen["protocol_version"] == "sidecar/blue"
                assert seen["agent_version"] == other.agent
                assert {"/ipfs/id/1.0.0", "/ipfs/ping/1.0.0", "/meshsub/1.1.0"} <= set(seen["protocols"])
                assert other.address.removesuffix(f"/p2p/{other.peer_id}") in seen["addresses"]
                assert (await one.call("ping", peer_id=other.peer_id))["rtt_ms"] > 0
                data = base64.b64encode(os.urandom(300_000)).decode()
                assert (await one.call("echo", peer_id=other.peer_id, data=data))["data"] == data
            await dialler.call("disconnect", peer_id=listener.peer_id)
            await listener.event("disconnected", peer_id=dialler.peer_id)
            assert (await listener.call("peers"))["peers"] == []

    asyncio.run(scenario())


@pytest.mark.parametrize("languages", PAIRS[::2])
@pytest.mark.parametrize("sign", ["strict", "none"])
def test_gossip_both_ways(sign: str, languages: tuple[str, str]) -> None:
    async def scenario() -> None:
        async with Stage() as stage:
            one, other = await pair(stage, languages, sign=sign)
            await join(one, other, "news")
            assert (await one.call("mesh", topic="news"))["peers"] == [other.peer_id]
            for sender, receiver in ((one, other), (other, one)):
                # rust-libp2p's largest RPC is 65,536 bytes, with all that is around the data
                for size in (100, 1024, 60_000 if "rust" in languages else 65_536):
                    data = os.urandom(size)
                    await sender.publish("news", data)
                    message = await receiver.message("news")
                    assert message["data"] == data
                    assert message["from"] == (sender.peer_id if sign == "strict" else None)

    asyncio.run(scenario())


@pytest.mark.parametrize("languages", PAIRS)
def test_find_peer_through_a_third(languages: tuple[str, str]) -> None:
    async def scenario() -> None:
        async with Stage() as stage:
            seeker, bootstrap = await pair(stage, languages, dht="server")
            await seeker.event("dht_peer", peer_id=bootstrap.peer_id)
            sought = await stage.start(languages[0], "sought", dht="server")
            await sought.call("connect", address=bootstrap.address)
            await bootstrap.event("dht_peer", peer_id=sought.peer_id)
            found = await seeker.call("find_peer", peer_id=sought.peer_id)
            assert sought.address.removesuffix(f"/p2p/{sought.peer_id}") in {
                address.removesuffix(f"/p2p/{sought.peer_id}") for address in found["addresses"]
            }
            closest = await seeker.call("closest_peers", peer_id=sought.peer_id)
            assert bootstrap.peer_id in closest["peers"]

    asyncio.run(scenario())


@pytest.mark.parametrize("language", ["go", "js", *(["rust"] if ALL else [])])
def test_floods_are_counted_and_errors_told(language: str) -> None:
    async def scenario() -> None:
        async with Stage() as stage:
            sender, receiver = await pair(stage, (language, language))
            await sender.call("subscribe", topic="flood", quiet=True)
            await receiver.call("subscribe", topic="flood", quiet=True, ack_to=sender.peer_id)
            await sender.event("graft", topic="flood", peer_id=receiver.peer_id)
            answer = await sender.call("flood", topic="flood", size=100, count=500, window=64)
            assert answer["seconds"] > 0
            assert (await receiver.call("tally", topic="flood"))["received"] == 500
            answer = await sender.call("echo_many", peer_id=receiver.peer_id, size=100, count=200, in_flight=8)
            assert answer["latency_ms"]["p50"] > 0
            with pytest.raises(PeerError, match="unknown op"):
                await sender.call("sing")
            with pytest.raises(PeerError):
                await sender.call("ping", peer_id="QmNobody")

    asyncio.run(scenario())
