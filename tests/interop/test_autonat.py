"""AutoNAT v2 with other implementations: who asks where it can be reached, and who dials it to find out."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from sidecar_client import AddressReachability

from tests.interop.cells import NotOffered, cell
from tests.interop.lan import PUBLIC, Place, lan
from tests.interop.ours import Ours, connect, our_sidecar
from tests.interop.peer import TIMEOUT, Peer, Stage

FLAGS = ("--dht-mode", "client", "--gossip-unknown-network", "accept")
_LOOK = 0.1  # seconds between looks at what has no event


@asynccontextmanager
async def _apart(
    language: str, home: Path, places: tuple[Place, ...], *flags: str, **options: Any
) -> AsyncIterator[tuple[Ours, Peer]]:
    """A sidecar of ours and a peer with AutoNAT, in places of their own, where strangers could reach them."""
    here, there = places
    async with (
        Stage() as stage,
        our_sidecar(home, *FLAGS, "--listen", here.listen, *flags, inside=here.inside) as ours,
    ):
        peer = await stage.start(
            language, "peer", network="interop", autonat=True, listen=there.listen, inside=there.inside, **options
        )
        yield ours, peer


async def _found(ours: Ours) -> AddressReachability:
    """What their server has found of our one address, once it has."""
    async with asyncio.timeout(TIMEOUT):
        while True:
            for address in (await ours.client.info()).addresses:
                if address.proofs or address.failures:
                    return address
            await asyncio.sleep(_LOOK)


@cell("reachability", "AutoNAT v2: their server reaches us and proves it", quick=True)
def test_their_server_reaches_us(language: str, tmp_path: Path) -> None:
    async def play(places: tuple[Place, ...]) -> None:
        async with _apart(language, tmp_path, places) as (ours, peer):
            await connect(ours, peer, we_dial=True)
            found = await _found(ours)
            assert found.address == ours.address.split("/p2p/")[0]
            assert (found.proofs, found.failures) == (1, 0)

    with lan(PUBLIC[:2]) as places:
        asyncio.run(play(places))


@cell("reachability", "AutoNAT v2: their server says that it does not reach us")
def test_their_server_does_not_reach_us(language: str, tmp_path: Path) -> None:
    async def play(places: tuple[Place, ...]) -> None:
        places[0].close(silent=False)
        async with _apart(language, tmp_path, places) as (ours, peer):
            await connect(ours, peer, we_dial=True)
            found = await _found(ours)
            assert (found.proofs, found.failures) == (0, 1)

    with lan(PUBLIC[:2]) as places:
        asyncio.run(play(places))


@cell("reachability", "AutoNAT v2: our server reaches them, as they find")
def test_our_server_reaches_them(language: str, tmp_path: Path) -> None:
    async def play(places: tuple[Place, ...]) -> None:
        async with _apart(language, tmp_path, places) as (ours, peer):
            await connect(ours, peer, we_dial=False)
            address = peer.address.split("/p2p/")[0]
            assert (await peer.call("reachability", address=address))["reachable"]

    with lan(PUBLIC[:2]) as places:
        asyncio.run(play(places))


@cell("reachability", "AutoNAT v2: our server does not reach them, as they find")
def test_our_server_does_not_reach_them(language: str, tmp_path: Path) -> None:
    if language == "js":
        raise NotOffered("@libp2p/autonat-v2 gives an address up when eight servers have not reached it")

    async def play(places: tuple[Place, ...]) -> None:
        places[1].close(silent=False)
        async with _apart(language, tmp_path, places) as (ours, peer):
            await connect(ours, peer, we_dial=False)
            address = peer.address.split("/p2p/")[0]
            assert not (await peer.call("reachability", address=address))["reachable"]

    with lan(PUBLIC[:2]) as places:
        asyncio.run(play(places))
