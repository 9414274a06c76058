"""Peer exchange: who leaves a topic hands its mesh other peers, with their signed records."""

import asyncio
from pathlib import Path

from sidecar_client import Direction, PeerEventType

from tests.interop.cells import NETWORK, NotOffered, cell
from tests.interop.ours import connect, our_sidecar
from tests.interop.peer import TIMEOUT, Stage, meshed

_LACKING = {
    "rust": "rust-libp2p: gossipsub sends no signed records and does not read those it gets",
    "py": "py-libp2p: its peer program runs gossip without exchange",
}


def offered(language: str) -> None:
    if language in _LACKING:
        raise NotOffered(_LACKING[language])


@cell("gossip", "peer exchange of theirs, with signed records", quick=True)
def test_their_exchange(language: str, tmp_path: Path) -> None:
    """A peer between two sidecars leaves: the one that seeks peers connects to the other, which seeks none."""

    async def scenario() -> None:
        offered(language)
        async with (
            Stage() as stage,
            our_sidecar(tmp_path / "ours") as ours,
            our_sidecar(tmp_path / "other", "--peers-target", "0") as other,
        ):
            hub = await stage.start(language, "hub", network=NETWORK)
            await hub.call("subscribe", topic="news")
            async with ours.client.subscribe("news"), other.client.subscribe("news"):
                for sidecar in (other, ours):
                    await connect(sidecar, hub, we_dial=True)
                    await meshed(hub, sidecar.peer_id, "news")
                await hub.call("unsubscribe", topic="news")
                seen = await ours.until(PeerEventType.IDENTIFIED, other.peer_id)
                assert seen.direction is Direction.OUTBOUND

    asyncio.run(scenario())


@cell("gossip", "peer exchange of ours, with signed records", quick=True)
def test_our_exchange(language: str, tmp_path: Path) -> None:
    """We leave between two peers: the one that nobody can dial connects to the other."""

    async def scenario() -> None:
        offered(language)
        async with Stage() as stage, our_sidecar(tmp_path, "--api-linger", "0") as ours:
            caller = await stage.start(language, "caller", network=NETWORK, listen=None)
            other = await stage.start(language, "other", network=NETWORK)
            async with ours.client.subscribe("news"):
                for peer in (caller, other):
                    await peer.call("subscribe", topic="news")
                    await connect(ours, peer, we_dial=False)
                    await meshed(peer, ours.peer_id, "news")
            line = await other.event("connected", timeout=TIMEOUT, peer_id=caller.peer_id)
            assert line["direction"] == "inbound"

    asyncio.run(scenario())
