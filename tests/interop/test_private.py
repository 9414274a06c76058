"""A private network of sidecars and peers: who has the key connects, who has not is refused."""

import asyncio
from pathlib import Path

import pytest
import sidecar_client

from sidecar.store.swarm_key import create_psk
from tests.interop.cells import NETWORK, cell
from tests.interop.ours import our_sidecar, pair
from tests.interop.peer import TIMEOUT, PeerError, Stage


def psk(folder: Path, name: str = "swarm.key") -> Path:
    """A new key's file, as `sidecar keygen --psk` makes it."""
    create_psk(folder / name)
    return folder / name


@cell("private network", "the same key", both_dial=True)
def test_the_same_key(language: str, we_dial: bool, tmp_path: Path) -> None:
    async def scenario() -> None:
        key = psk(tmp_path)
        flags = ("--network-psk-file", str(key))
        async with pair(language, tmp_path / "ours", we_dial=we_dial, flags=flags, psk=key) as (ours, peer):
            assert await ours.client.ping_peer(peer.peer_id, timeout=TIMEOUT) > 0
            assert (await peer.call("ping", peer_id=ours.peer_id))["rtt_ms"] > 0

    asyncio.run(scenario())


@cell("private network", "the same key, over WebSocket", both_dial=True)
def test_the_same_key_over_websocket(language: str, we_dial: bool, tmp_path: Path) -> None:
    async def scenario() -> None:
        key, listen = psk(tmp_path), "/ip4/127.0.0.1/tcp/0/ws"
        flags = ("--network-psk-file", str(key), "--listen", listen)
        options = {"flags": flags, "listen": listen, "psk": key}
        async with pair(language, tmp_path / "ours", we_dial=we_dial, **options) as (ours, peer):
            assert await ours.client.ping_peer(peer.peer_id, timeout=TIMEOUT) > 0

    asyncio.run(scenario())


@cell("private network", "another key, or none, is refused", both_dial=True)
def test_another_key(language: str, we_dial: bool, tmp_path: Path) -> None:
    async def scenario() -> None:
        key, other = psk(tmp_path), psk(tmp_path, "other.key")
        async with Stage() as stage, our_sidecar(tmp_path / "ours", "--network-psk-file", str(key)) as ours:
            member = await stage.start(language, "member", network=NETWORK, psk=key)
            for stranger in (
                await stage.start(language, "stranger", network=NETWORK, psk=other),
                await stage.start(language, "public", network=NETWORK),
            ):
                if we_dial:
                    refusals = (sidecar_client.WrongPrivateNetwork, sidecar_client.DialTimeout)
                    with pytest.raises(refusals):
                        await ours.client.connect_peer(addresses=[stranger.address], timeout=TIMEOUT)
                else:
                    with pytest.raises(PeerError):
                        await stranger.call("connect", address=ours.address)
                connected = [each.peer_id async for each in ours.client.peers(connected_only=True)]
                assert stranger.peer_id not in connected
            await ours.client.connect_peer(addresses=[member.address], timeout=TIMEOUT)
            assert await ours.client.ping_peer(member.peer_id, timeout=TIMEOUT) > 0

    asyncio.run(scenario())
