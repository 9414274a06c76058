"""A real sidecar, driven through its API, against real go- and js-libp2p peers."""

import asyncio
import os
from collections.abc import AsyncIterator, Iterable
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
import sidecar_client
from sidecar_client import Client, Direction, NodeInfo, PeerEventType, Signing

from tests.e2e.processes import running
from tests.interop.peer import TIMEOUT, Peer, Stage

pytestmark = [
    pytest.mark.interop,
    pytest.mark.usefixtures("peer_programs"),
    pytest.mark.parametrize("language", ["go", "js"]),
]

NETWORK = "interop"
PROTOCOLS = {"/ipfs/id/1.0.0", "/ipfs/id/push/1.0.0", "/ipfs/ping/1.0.0", "/meshsub/1.1.0"}
KADEMLIA = f"/sidecar/{NETWORK}/kad/1.0.0"


@dataclass(frozen=True)
class Ours:
    """A running sidecar of ours, and where it listens."""

    client: Client
    info: NodeInfo
    address: str

    @property
    def peer_id(self) -> str:
        return self.info.peer_id

    async def until(self, kind: PeerEventType, peer_id: str) -> sidecar_client.Peer:
        """Wait until this has happened to a peer; identified also counts if it was so before."""
        async with asyncio.timeout(TIMEOUT), aclosing(self.client.watch_peers()) as events:
            async for event in events:
                peer = event.peer
                if peer is None or peer.peer_id != peer_id:
                    continue
                before = event.type is PeerEventType.PRESENT and peer.identified
                if event.type is kind or (before and kind is PeerEventType.IDENTIFIED):
                    return peer
        raise AssertionError("the watch ended")


@asynccontextmanager
async def our_sidecar(home: Path, *flags: str) -> AsyncIterator[Ours]:
    """A sidecar that is up; what it logged is told when the test fails."""
    with running(home, "--network", NETWORK, "--log-level", "debug", *flags) as process:
        try:
            address = (await asyncio.to_thread(process.line, "  address")).split()[-1]
            async with sidecar_client.connect(str(process.socket)) as client:
                yield Ours(client, await client.info(), address)
        except BaseException as error:
            error.add_note(f"--- the sidecar\n{process.log()}")
            raise


async def connect(ours: Ours, peer: Peer, *, we_dial: bool) -> sidecar_client.Peer:
    """Connect and wait until both sides have identified each other; the peer as we see it."""
    if we_dial:
        await ours.client.connect_peer(addresses=[peer.address], timeout=TIMEOUT)
    else:
        await peer.call("connect", address=ours.address)
    await peer.event("identified", peer_id=ours.peer_id)
    return await ours.until(PeerEventType.IDENTIFIED, peer.peer_id)


def plain(addresses: Iterable[str]) -> set[str]:
    """Addresses without their `/p2p/` ends."""
    return {address.split("/p2p/")[0] for address in addresses}


@pytest.mark.parametrize("we_dial", [True, False], ids=["we-dial", "they-dial"])
def test_connect_identify_ping_disconnect(language: str, we_dial: bool, tmp_path: Path) -> None:
    async def scenario() -> None:
        async with Stage() as stage, our_sidecar(tmp_path) as ours:
            peer = await stage.start(language, "peer", network=NETWORK, dht="server")
            seen = await connect(ours, peer, we_dial=we_dial)
            assert seen.direction is (Direction.OUTBOUND if we_dial else Direction.INBOUND)
            assert (await peer.event("connected"))["direction"] == ("inbound" if we_dial else "outbound")

            assert (seen.agent, seen.protocol_version) == (peer.agent, f"sidecar/{NETWORK}")
            assert {*PROTOCOLS, KADEMLIA} <= set(seen.protocols)
            assert plain([peer.address]) <= plain(seen.addresses)
            told = await peer.call("identify", peer_id=ours.peer_id)
            assert (told["agent_version"], told["protocol_version"]) == (ours.info.agent, f"sidecar/{NETWORK}")
            assert {*PROTOCOLS, KADEMLIA} <= set(told["protocols"])
            assert plain([ours.address]) <= plain(told["addresses"])

            assert 0 < await ours.client.ping_peer(peer.peer_id, timeout=TIMEOUT) < TIMEOUT
            assert (await peer.call("ping", peer_id=ours.peer_id))["rtt_ms"] > 0

            if we_dial:
                await ours.client.disconnect_peer(peer.peer_id)
                await peer.event("disconnected", peer_id=ours.peer_id)
            else:
                async with aclosing(ours.client.watch_peers()) as events:
                    assert (await anext(events)).type is PeerEventType.PRESENT
                    await peer.call("disconnect", peer_id=ours.peer_id)
                    async with asyncio.timeout(TIMEOUT):
                        async for event in events:
                            if event.type is PeerEventType.DISCONNECTED:
                                break

    asyncio.run(scenario())


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


@pytest.mark.parametrize(
    ("sign", "signing", "sizes"),
    [("strict", Signing.STRICT_SIGN, (100, 1024, 65536)), ("none", Signing.STRICT_NO_SIGN, (100,))],
    ids=["signed", "unsigned"],
)
def test_gossip_both_ways(language: str, sign: str, signing: Signing, sizes: tuple[int, ...], tmp_path: Path) -> None:
    async def scenario() -> None:
        async with Stage() as stage, our_sidecar(tmp_path) as ours:
            peer = await stage.start(language, "peer", network=NETWORK, sign=sign)
            await connect(ours, peer, we_dial=True)
            async with ours.client.subscribe("news", signing=signing, skip_local=True) as subscription:
                await peer.call("subscribe", topic="news")
                await peer.event("graft", topic="news", peer_id=ours.peer_id)
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

    asyncio.run(scenario())
