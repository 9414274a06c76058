"""Circuit relay v2 with other implementations: as the relay, as who has a place there, and as who dials through it."""

import asyncio
from pathlib import Path

from sidecar_client import PeerEventType, PeerPath

from tests.interop.cells import cell
from tests.interop.ours import Ours, our_sidecar
from tests.interop.peer import TIMEOUT, Stage

LOOPBACK = "/ip4/127.0.0.1/tcp/0"
FLAGS = ("--listen", LOOPBACK, "--dht-mode", "client", "--gossip-unknown-network", "accept")

HIDDEN = (*FLAGS, "--announce", "/ip4/127.0.0.1/tcp/9", "--relay-punch", "false")
"""Of a sidecar that nobody reaches but through a relay: nobody listens where it says that it does, and it does not dial
whoever has come through one.
"""


def _through(relay: str, peer_id: str) -> str:
    return f"{relay}/p2p-circuit/p2p/{peer_id}"


async def _reached(dialler: Ours, peer_id: str) -> None:
    """A sidecar of ours reaches a peer through a relay, and it answers there."""
    view = await dialler.client.peer(peer_id)
    assert view.path is PeerPath.RELAYED_LIMITED
    assert await dialler.client.ping_peer(peer_id, timeout=TIMEOUT) > 0


@cell("relays", "our relay: their place, and both dial through it", quick=True)
def test_our_relay(language: str, tmp_path: Path) -> None:
    async def play() -> None:
        async with Stage() as stage, our_sidecar(tmp_path / "r", *FLAGS, "--relay-server", "true") as relay:
            peer = await stage.start(language, "peer", network="interop", relay=True)
            (there,) = (await peer.call("reserve", address=relay.address))["addresses"]
            assert there == relay.address
            async with our_sidecar(tmp_path / "o", *HIDDEN, "--relay", relay.address) as ours:
                address = _through(relay.address, peer.peer_id)
                await ours.client.connect_peer(addresses=[address], timeout=TIMEOUT)
                await _reached(ours, peer.peer_id)
                await ours.client.disconnect_peer(peer.peer_id)
                await ours.gone(peer.peer_id)
                await peer.call("connect", address=_through(relay.address, ours.peer_id))
                await ours.until(PeerEventType.IDENTIFIED, peer.peer_id)
                await _reached(ours, peer.peer_id)

    asyncio.run(play())


@cell("relays", "their relay: our place, and both dial through it", quick=True)
def test_their_relay(language: str, tmp_path: Path) -> None:
    async def play() -> None:
        async with Stage() as stage:
            relay = await stage.start(language, "relay", network="interop", relay=True)
            peer = await stage.start(language, "peer", network="interop", relay=True)
            async with our_sidecar(tmp_path / "o", *HIDDEN, "--relay", relay.address) as ours:
                await ours.until(PeerEventType.IDENTIFIED, relay.peer_id)
                await peer.call("reserve", address=relay.address)
                address = _through(relay.address, peer.peer_id)
                await ours.client.connect_peer(addresses=[address], timeout=TIMEOUT)
                await _reached(ours, peer.peer_id)
                await ours.client.disconnect_peer(peer.peer_id)
                await ours.gone(peer.peer_id)
                await peer.call("connect", address=_through(relay.address, ours.peer_id))
                await ours.until(PeerEventType.IDENTIFIED, peer.peer_id)
                await _reached(ours, peer.peer_id)

    asyncio.run(play())
