"""What must be refused between a sidecar and a peer: a typed error here, and both live on."""

import asyncio
from pathlib import Path

import pytest
import sidecar_client
from sidecar_client import PeerEventType

from sidecar.core.identity import Identity
from tests.interop.cells import NETWORK, cell
from tests.interop.ours import our_sidecar, pair
from tests.interop.peer import TIMEOUT, PeerError, Stage


@cell("refusals", "wrong peer id, through the API", quick=True)
def test_wrong_peer(language: str, tmp_path: Path) -> None:
    async def scenario() -> None:
        async with Stage() as stage, our_sidecar(tmp_path) as ours:
            peer = await stage.start(language, "peer", network=NETWORK)
            other = peer.address.replace(peer.peer_id, str(Identity(bytes(32)).peer_id))
            with pytest.raises(sidecar_client.WrongPeer):
                await ours.client.connect_peer(addresses=[other], timeout=TIMEOUT)
            await ours.client.connect_peer(addresses=[peer.address], timeout=TIMEOUT)

    asyncio.run(scenario())


@cell("refusals", "wrong network name", quick=True, both_dial=True)
def test_wrong_network(language: str, we_dial: bool, tmp_path: Path) -> None:
    async def scenario() -> None:
        async with Stage() as stage, our_sidecar(tmp_path) as ours:
            stranger = await stage.start(language, "stranger", network="elsewhere")
            friend = await stage.start(language, "friend", network=NETWORK)
            if we_dial:
                with pytest.raises(sidecar_client.WrongNetwork):
                    await ours.client.connect_peer(addresses=[stranger.address], timeout=TIMEOUT)
            else:
                await asyncio.gather(stranger.call("connect", address=ours.address), return_exceptions=True)
            await stranger.event("disconnected", peer_id=ours.peer_id)
            assert "elsewhere" in ours.process.log()
            await friend.call("connect", address=ours.address)
            await ours.until(PeerEventType.IDENTIFIED, friend.peer_id)
            await stranger.call("connect", address=friend.address)  # they live, and talk with each other

    asyncio.run(scenario())


@cell("refusals", "unknown protocol: NotSupported here, an error there", quick=True)
def test_unknown_protocol(language: str, tmp_path: Path) -> None:
    async def scenario() -> None:
        async with pair(language, tmp_path) as (ours, peer):
            with pytest.raises(sidecar_client.NotSupported):
                await ours.client.request(peer.peer_id, "/nobody/speaks/this", b"hello", timeout=TIMEOUT)
            with pytest.raises(PeerError):
                await peer.call("echo", peer_id=ours.peer_id, data="aGVsbG8=")
            assert await ours.client.ping_peer(peer.peer_id, timeout=TIMEOUT) > 0
            await peer.call("ping", peer_id=ours.peer_id)

    asyncio.run(scenario())
