"""DCUtR with other implementations: a connection through a relay becomes a direct one."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from pathlib import Path
from typing import NamedTuple

import sidecar_client
from sidecar_client import PeerPath

from tests.interop.cells import NotOffered, cell
from tests.interop.lan import PUBLIC, Place, lan
from tests.interop.ours import Ours, our_sidecar
from tests.interop.peer import TIMEOUT, Peer, Stage

FLAGS = ("--dht-mode", "client", "--gossip-unknown-network", "accept", "--peers-target", "0")
PORT = 4001
NOWHERE = "/ip4/127.0.0.1/tcp/9"
"""Announced by who is not to be dialled before a hole is punched: no implementation tries it from elsewhere."""


class _Trio(NamedTuple):
    relay: Ours
    ours: Ours
    peer: Peer


@asynccontextmanager
async def _through_relay(
    language: str, home: Path, places: tuple[Place, ...], *, we_dial: bool, shy: bool
) -> AsyncIterator[_Trio]:
    """Our relay, a sidecar of ours and a peer, of which one holds a place at the relay, and the other is to dial.

    `shy`: whoever dials announces an address that leads nowhere.
    """
    middle, dialler, listener = places
    here, there = (dialler, listener) if we_dial else (listener, dialler)
    listening = f"/ip4/{here.ip}/tcp/{PORT}", f"/ip4/{there.ip}/tcp/{PORT}"
    flags = [*FLAGS, "--listen", listening[0]]
    if shy and we_dial:
        flags += ["--announce", NOWHERE]
    # js-libp2p takes its own public address for one only where it is announced
    # py-libp2p dials from the address that it announces
    announce = NOWHERE if shy and not we_dial and language != "py" else listening[1] if language == "js" else None
    relaying = (*FLAGS, "--listen", middle.listen, "--relay-server", "true")
    async with (
        Stage() as stage,
        our_sidecar(home / "r", *relaying, inside=middle.inside) as relay,
        our_sidecar(home / "o", *flags, "--relay", relay.address, inside=here.inside) as ours,
    ):
        peer = await stage.start(
            language, "peer", network="interop", punch=True, listen=listening[1], announce=announce, inside=there.inside
        )
        await peer.call("connect", address=relay.address)  # so that it knows where others see it
        yield _Trio(relay, ours, peer)


async def _placed(trio: _Trio) -> None:
    """Wait until our relay has given our sidecar a place."""
    async with asyncio.timeout(TIMEOUT), aclosing(trio.relay.client.watch_peers()) as events:
        async for event in events:
            if event.peer is None or event.peer.peer_id != trio.ours.peer_id:
                continue
            if any("/p2p-circuit" in address for address in event.peer.addresses):
                return


async def _direct(ours: Ours, peer_id: str) -> sidecar_client.Peer:
    """Wait until we are connected with a peer directly, having been so through the relay."""
    relayed = False
    async with asyncio.timeout(TIMEOUT), aclosing(ours.client.watch_peers()) as events:
        async for event in events:
            known = event.peer
            if known is None or known.peer_id != peer_id:
                continue
            relayed |= known.path is PeerPath.RELAYED_LIMITED
            if known.path is PeerPath.DIRECT:
                assert relayed
                return known
    raise AssertionError("the watch ended")


async def _punch(trio: _Trio, *, we_dial: bool) -> sidecar_client.Peer:
    """Connect through the relay; the peer as we see it once the connection is direct."""
    relay, ours, peer = trio
    through = f"{relay.address}/p2p-circuit/p2p/"
    direct = asyncio.create_task(_direct(ours, peer.peer_id))
    try:
        if we_dial:
            await peer.call("reserve", address=relay.address)
            await ours.client.connect_peer(addresses=[through + peer.peer_id], timeout=TIMEOUT)
        else:
            await _placed(trio)
            await peer.call("connect", address=through + ours.peer_id)
        return await direct
    finally:
        direct.cancel()


async def _usable(trio: _Trio) -> None:
    """Both sides use what they have now."""
    assert await trio.ours.client.ping_peer(trio.peer.peer_id, timeout=TIMEOUT) > 0
    await trio.peer.call("ping", peer_id=trio.ours.peer_id)


@cell("punching", "DCUtR: agreed on through a relay, and connected directly", both_dial=True)
def test_agreed_and_connected(language: str, we_dial: bool, tmp_path: Path) -> None:
    """Nobody gets in at who dials, so the other side has to ask to be dialled."""

    async def play(places: tuple[Place, ...]) -> None:
        places[1].close(silent=False)
        async with _through_relay(language, tmp_path, places, we_dial=we_dial, shy=False) as trio:
            await _punch(trio, we_dial=we_dial)
            await _usable(trio)

    with lan(PUBLIC[:3]) as places:
        asyncio.run(play(places))


@cell("punching", "DCUtR: through two firewalls that let nobody in", both_dial=True)
def test_through_firewalls(language: str, we_dial: bool, tmp_path: Path) -> None:
    """Both have to dial at the same moment, from the ports that they listen at."""
    if language == "js":
        raise NotOffered("@libp2p/tcp dials from another port than the one that it listens at")

    async def play(places: tuple[Place, ...]) -> None:
        for place in places[1:]:
            place.close(silent=True)
        async with _through_relay(language, tmp_path, places, we_dial=we_dial, shy=True) as trio:
            found = await _punch(trio, we_dial=we_dial)
            there = places[2 if we_dial else 1]
            assert found.remote_address.startswith(f"/ip4/{there.ip}/tcp/{PORT}")
            await _usable(trio)

    with lan(PUBLIC[:3]) as places:
        asyncio.run(play(places))
