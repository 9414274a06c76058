"""Kademlia between sidecars and peers."""

import asyncio
from pathlib import Path

from tests.interop.cells import NETWORK, cell
from tests.interop.ours import connect, our_sidecar, plain
from tests.interop.peer import TIMEOUT, Stage


@cell("kad-dht", "FIND_NODE: we find whom only they know", quick=True)
def test_we_find_a_node_that_only_the_peer_knows(language: str, tmp_path: Path) -> None:
    async def scenario() -> None:
        async with Stage() as stage, our_sidecar(tmp_path) as ours:
            peer, sought = await asyncio.gather(
                stage.start(language, "peer", network=NETWORK, dht="server"),
                stage.start(language, "sought", network=NETWORK, dht="server"),
            )
            await sought.call("connect", address=peer.address)
            await peer.event("dht_peer", peer_id=sought.peer_id)
            await connect(ours, peer, we_dial=True)
            found = await ours.client.find_peer(sought.peer_id, timeout=TIMEOUT)
            assert plain([sought.address]) <= plain(found)
            assert (await ours.client.connect_peer(sought.peer_id, timeout=TIMEOUT)).peer_id == sought.peer_id

    asyncio.run(scenario())


@cell("kad-dht", "FIND_NODE: they find whom only we know", quick=True)
def test_the_peer_finds_a_node_that_only_we_know(language: str, tmp_path: Path) -> None:
    async def scenario() -> None:
        async with Stage() as stage, our_sidecar(tmp_path) as ours:
            seeker, sought = await asyncio.gather(
                stage.start(language, "seeker", network=NETWORK, dht="server"),
                stage.start(language, "sought", network=NETWORK, dht="server"),
            )
            await connect(ours, sought, we_dial=False)
            await connect(ours, seeker, we_dial=False)
            await seeker.event("dht_peer", peer_id=ours.peer_id)
            found = await seeker.call("find_peer", peer_id=sought.peer_id)
            assert plain([sought.address]) <= plain(found["addresses"])
            assert ours.peer_id in (await seeker.call("closest_peers", peer_id=sought.peer_id))["peers"]

    asyncio.run(scenario())
