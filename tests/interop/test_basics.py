"""Connection, identify and ping between a sidecar and a peer."""

import asyncio
import base64
from contextlib import aclosing
from pathlib import Path

from sidecar_client import Direction, PeerEventType

from sidecar.core.records import open_peer_record
from sidecar.core.types import PeerId
from tests.interop.cells import NETWORK, NotOffered, cell
from tests.interop.ours import pair, plain
from tests.interop.peer import TIMEOUT

PROTOCOLS = {"/ipfs/id/1.0.0", "/ipfs/ping/1.0.0", "/meshsub/1.1.0"}
KADEMLIA = f"/sidecar/{NETWORK}/kad/1.0.0"


@cell("basics", "identify", quick=True, both_dial=True)
def test_identify(language: str, we_dial: bool, tmp_path: Path) -> None:
    async def scenario() -> None:
        async with pair(language, tmp_path, we_dial=we_dial, dht="server") as (ours, peer):
            seen = await ours.until(PeerEventType.IDENTIFIED, peer.peer_id)
            assert seen.direction is (Direction.OUTBOUND if we_dial else Direction.INBOUND)
            assert (await peer.event("connected"))["direction"] == ("inbound" if we_dial else "outbound")
            assert (seen.agent, seen.protocol_version) == (peer.agent, f"sidecar/{NETWORK}")
            assert {*PROTOCOLS, KADEMLIA} <= set(seen.protocols)
            assert plain([peer.address]) <= plain(seen.addresses)
            told = await peer.call("identify", peer_id=ours.peer_id)
            assert (told["agent_version"], told["protocol_version"]) == (ours.info.agent, f"sidecar/{NETWORK}")
            assert {*PROTOCOLS, KADEMLIA} <= set(told["protocols"])
            assert plain([ours.address]) <= plain(told["addresses"])

    asyncio.run(scenario())


@cell("basics", "ping, both ways", quick=True, both_dial=True)
def test_ping(language: str, we_dial: bool, tmp_path: Path) -> None:
    async def scenario() -> None:
        async with pair(language, tmp_path, we_dial=we_dial) as (ours, peer):
            assert 0 < await ours.client.ping_peer(peer.peer_id, timeout=TIMEOUT) < TIMEOUT
            assert (await peer.call("ping", peer_id=ours.peer_id))["rtt_ms"] > 0

    asyncio.run(scenario())


@cell("connection", "closed by us, closed by them", quick=True, both_dial=True)
def test_disconnect(language: str, we_dial: bool, tmp_path: Path) -> None:
    async def scenario() -> None:
        async with pair(language, tmp_path, we_dial=we_dial) as (ours, peer):
            if we_dial:
                await ours.client.disconnect_peer(peer.peer_id)
                await peer.event("disconnected", peer_id=ours.peer_id)
                return
            async with aclosing(ours.client.watch_peers()) as events:
                assert (await anext(events)).type is PeerEventType.PRESENT
                await peer.call("disconnect", peer_id=ours.peer_id)
                async with asyncio.timeout(TIMEOUT):
                    async for event in events:
                        if event.type is PeerEventType.DISCONNECTED:
                            break

    asyncio.run(scenario())


@cell("basics", "identify/push of theirs: protocols")
def test_their_protocols_change(language: str, tmp_path: Path) -> None:
    async def scenario() -> None:
        async with pair(language, tmp_path) as (ours, peer), aclosing(ours.client.watch_peers()) as events:
            await peer.call("protocol_add", protocol="/interop/new/1")
            async with asyncio.timeout(TIMEOUT):
                async for event in events:
                    if event.peer is not None and "/interop/new/1" in event.peer.protocols:
                        break
                await peer.call("protocol_remove", protocol="/interop/new/1")
                async for event in events:
                    if event.peer is not None and "/interop/new/1" not in event.peer.protocols:
                        break

    asyncio.run(scenario())


@cell("basics", "identify/push of theirs: addresses")
def test_their_addresses_change(language: str, tmp_path: Path) -> None:
    async def scenario() -> None:
        async with pair(language, tmp_path) as (ours, peer), aclosing(ours.client.watch_peers()) as events:
            added = (await peer.call("listen_add", address="/ip4/127.0.0.1/tcp/0"))["addresses"]
            new = plain(added) - plain([peer.address])
            assert new
            async with asyncio.timeout(TIMEOUT):
                async for event in events:
                    if event.peer is not None and new <= plain(event.peer.addresses):
                        break

    asyncio.run(scenario())


@cell("basics", "identify/push of ours: protocols", quick=True)
def test_our_protocols_change(language: str, tmp_path: Path) -> None:
    async def scenario() -> None:
        async with pair(language, tmp_path) as (ours, peer):
            async with ours.client.accept_streams("/interop/new/1"):
                while "/interop/new/1" not in (await peer.event("pushed", peer_id=ours.peer_id))["protocols"]:
                    pass
            while "/interop/new/1" in (await peer.event("pushed", peer_id=ours.peer_id))["protocols"]:
                pass

    asyncio.run(scenario())


@cell("basics", "signed peer record of ours", quick=True)
def test_our_signed_record(language: str, tmp_path: Path) -> None:
    async def scenario() -> None:
        async with pair(language, tmp_path) as (ours, peer):
            text = (await peer.call("signed_record", peer_id=ours.peer_id))["record"]
            if language == "rust" and text is None:
                raise NotOffered("libp2p-identify reads signed records in the form before RFC 0003 only (protocol.rs)")
            assert text is not None
            record = open_peer_record(base64.b64decode(text), PeerId.from_text(ours.peer_id))
            assert plain([ours.address]) <= plain(map(str, record.addresses))

    asyncio.run(scenario())
