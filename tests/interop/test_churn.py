"""Peers that die and return under the same key at another port."""

import asyncio
import os
import sqlite3
from contextlib import closing
from pathlib import Path

from sidecar_client import PeerEventType

from sidecar.core.types import PeerId
from sidecar.store.directory import PEERS_FILE
from tests.interop.cells import NETWORK, cell
from tests.interop.ours import Ours, connect, our_sidecar
from tests.interop.peer import TIMEOUT, Stage


async def kept(ours: Ours, peer_id: str) -> None:
    """Wait until a sidecar has written a peer down: it gathers its news for a moment before."""
    raw = bytes(PeerId.from_text(peer_id))
    async with asyncio.timeout(TIMEOUT):
        with closing(sqlite3.connect(ours.process.state / PEERS_FILE)) as database:
            while not database.execute("SELECT 1 FROM peers WHERE peer = ?", (raw,)).fetchall():
                await ours.client.info()


@cell("churn", "the peer is killed and returns elsewhere: gossip both ways again", quick=True, both_dial=True)
def test_killed_and_restarted(language: str, we_dial: bool, tmp_path: Path) -> None:
    async def scenario() -> None:
        async with Stage() as stage, our_sidecar(tmp_path) as ours:
            first = await stage.start(language, "phoenix", network=NETWORK)
            await connect(ours, first, we_dial=we_dial)
            async with ours.client.subscribe("news", skip_local=True) as subscription:
                arriving = aiter(subscription)
                await first.call("subscribe", topic="news")
                await first.event("graft", topic="news", peer_id=ours.peer_id)
                first.kill()
                await ours.gone(first.peer_id)

                second = await stage.start(language, "phoenix", network=NETWORK)
                assert second.peer_id == first.peer_id
                assert second.address != first.address
                await connect(ours, second, we_dial=we_dial)
                await second.call("subscribe", topic="news")
                await second.event("graft", topic="news", peer_id=ours.peer_id)
                data = os.urandom(300)
                await ours.client.publish("news", data, minimum_peers=1, timeout=TIMEOUT)
                assert (await second.message("news"))["data"] == data
                await second.publish("news", data[::-1])
                assert (await asyncio.wait_for(anext(arriving), TIMEOUT)).data == data[::-1]

    asyncio.run(scenario())


@cell("churn", "we are killed and return under our key")
def test_we_are_killed(language: str, tmp_path: Path) -> None:
    async def scenario() -> None:
        async with Stage() as stage:
            peer = await stage.start(language, "peer", network=NETWORK)
            await peer.call("subscribe", topic="news")
            async with our_sidecar(tmp_path) as ours:
                await connect(ours, peer, we_dial=True)
                us = ours.peer_id
                await kept(ours, peer.peer_id)
                ours.process.popen.kill()
                await peer.event("disconnected", peer_id=us)
            async with our_sidecar(tmp_path) as ours:  # the state remembers the peer: nobody tells us its address
                assert ours.peer_id == us
                await ours.until(PeerEventType.IDENTIFIED, peer.peer_id)
                async with ours.client.subscribe("news", skip_local=True):
                    await peer.event("graft", topic="news", peer_id=us)
                    data = os.urandom(300)
                    await ours.client.publish("news", data, minimum_peers=1, timeout=TIMEOUT)
                    assert (await peer.message("news"))["data"] == data

    asyncio.run(scenario())
