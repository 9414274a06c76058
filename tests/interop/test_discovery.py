"""Multicast DNS and `/dnsaddr` names with other implementations."""

import asyncio
from pathlib import Path

from sidecar_client import PeerEventType

from tests.interop.cells import cell
from tests.interop.lan import PRIVATE, Place, lan
from tests.interop.names import name_server
from tests.interop.ours import our_sidecar, plain
from tests.interop.peer import TIMEOUT, Stage

FLAGS = ("--dht-mode", "client", "--gossip-unknown-network", "accept")
NAME = "mesh.example"


@cell("discovery", "mDNS: we find them, and connect")
def test_we_find_them(language: str, tmp_path: Path) -> None:
    async def play(places: tuple[Place, ...]) -> None:
        here, there = places
        async with Stage() as stage:
            peer = await stage.start(
                language, "peer", network="interop", mdns=True, listen=there.listen, inside=there.inside
            )
            flags = (*FLAGS, "--mdns", "true", "--listen", here.listen)
            async with our_sidecar(tmp_path, *flags, inside=here.inside) as ours:
                found = await ours.until(PeerEventType.IDENTIFIED, peer.peer_id)
                assert found.remote_address in peer.address

    with lan(PRIVATE) as places:
        asyncio.run(play(places))


@cell("discovery", "mDNS: they find us")
def test_they_find_us(language: str, tmp_path: Path) -> None:
    async def play(places: tuple[Place, ...]) -> None:
        here, there = places
        flags = (*FLAGS, "--mdns", "true", "--listen", here.listen)
        async with Stage() as stage, our_sidecar(tmp_path, *flags, inside=here.inside) as ours:
            peer = await stage.start(
                language, "peer", network="interop", mdns=True, listen=there.listen, inside=there.inside
            )
            found = await peer.event("found", peer_id=ours.peer_id)
            assert plain([ours.address]) <= plain(found["addresses"])

    with lan(PRIVATE) as places:
        asyncio.run(play(places))


@cell("discovery", "dnsaddr: we resolve a name that leads to theirs")
def test_we_resolve_theirs(language: str, tmp_path: Path) -> None:
    async def play() -> None:
        async with Stage() as stage, name_server() as names:
            peer = await stage.start(language, "peer", network="interop")
            names.tell(NAME, f"/dnsaddr/node.{NAME}/p2p/{peer.peer_id}")
            names.tell(f"node.{NAME}", peer.address)
            flags = (*FLAGS, "--discovery-dns-servers", names.address, "--bootstrap", f"/dnsaddr/{NAME}")
            async with our_sidecar(tmp_path, *flags) as ours:
                await ours.until(PeerEventType.IDENTIFIED, peer.peer_id)

    asyncio.run(play())


@cell("discovery", "dnsaddr: they resolve a name that leads to ours")
def test_they_resolve_ours(language: str, tmp_path: Path) -> None:
    async def play() -> None:
        async with Stage() as stage, name_server() as names, our_sidecar(tmp_path, *FLAGS) as ours:
            names.tell(NAME, f"/dnsaddr/node.{NAME}/p2p/{ours.peer_id}")
            names.tell(f"node.{NAME}", ours.address)
            peer = await stage.start(language, "peer", network="interop", dns=names.address)
            await peer.call("connect", address=f"/dnsaddr/{NAME}/p2p/{ours.peer_id}", timeout=TIMEOUT)
            await ours.until(PeerEventType.IDENTIFIED, peer.peer_id)

    asyncio.run(play())
