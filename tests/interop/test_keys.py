"""Identities of each kind of key: connections both ways, and messages signed with them."""

import asyncio
from pathlib import Path

import pytest

from tests.interop.cells import NETWORK, cell
from tests.interop.ours import connect, our_sidecar, pair, plain
from tests.interop.peer import TIMEOUT, Stage

PREFIXES = {"ed25519": "12D3Koo", "secp256k1": "16Uiu2HA", "ecdsa": "Qm", "rsa": "Qm"}


async def meet(language: str, kind: str, home: Path, *, we_dial: bool) -> None:
    async with (
        pair(language, home, we_dial=we_dial, key_type=kind) as (ours, peer),
        ours.client.subscribe("news", skip_local=True) as subscription,
    ):
        assert peer.peer_id.startswith(PREFIXES[kind])
        assert await ours.client.ping_peer(peer.peer_id, timeout=TIMEOUT) > 0
        await peer.call("subscribe", topic="news")
        await peer.event("graft", topic="news", peer_id=ours.peer_id)
        await peer.publish("news", b"signed by them")
        message = await asyncio.wait_for(anext(aiter(subscription)), TIMEOUT)
        assert (message.sender, message.data) == (peer.peer_id, b"signed by them")
        await ours.client.publish("news", b"signed by us", minimum_peers=1, timeout=TIMEOUT)
        assert (await peer.message("news"))["from"] == ours.peer_id


@cell("keys", "Ed25519, secp256k1: handshake, and messages signed with them", quick=True, both_dial=True)
@pytest.mark.parametrize("kind", ["ed25519", "secp256k1"])
def test_small_keys(language: str, kind: str, we_dial: bool, tmp_path: Path) -> None:
    asyncio.run(meet(language, kind, tmp_path, we_dial=we_dial))


@cell("keys", "ECDSA: handshake, and messages signed with it", both_dial=True)
def test_ecdsa(language: str, we_dial: bool, tmp_path: Path) -> None:
    asyncio.run(meet(language, "ecdsa", tmp_path, we_dial=we_dial))


@cell("keys", "RSA: handshake, and messages signed with it", both_dial=True)
def test_rsa(language: str, we_dial: bool, tmp_path: Path) -> None:
    asyncio.run(meet(language, "rsa", tmp_path, we_dial=we_dial))


@cell("keys", "RSA: found through the DHT by its id")
def test_a_hashed_id_is_found(language: str, tmp_path: Path) -> None:
    async def scenario() -> None:
        async with Stage() as stage, our_sidecar(tmp_path) as ours:
            peer, sought = await asyncio.gather(
                stage.start(language, "peer", network=NETWORK, dht="server", key_type="rsa"),
                stage.start(language, "sought", network=NETWORK, dht="server", key_type="rsa"),
            )
            await sought.call("connect", address=peer.address)
            await peer.event("dht_peer", peer_id=sought.peer_id)
            await connect(ours, peer, we_dial=True)
            assert sought.peer_id.startswith(PREFIXES["rsa"])
            found = await ours.client.find_peer(sought.peer_id, timeout=TIMEOUT)
            assert plain([sought.address]) <= plain(found)
            assert (await ours.client.connect_peer(sought.peer_id, timeout=TIMEOUT)).peer_id == sought.peer_id

    asyncio.run(scenario())
