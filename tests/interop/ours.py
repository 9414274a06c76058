"""A sidecar of ours in a cell of the matrix: a real process, driven through its API."""

import asyncio
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import sidecar_client
from sidecar_client import Client, NodeInfo, PeerEventType

from tests.e2e.processes import Process, running
from tests.interop.cells import NETWORK
from tests.interop.peer import TIMEOUT, Peer, Stage


@dataclass(frozen=True)
class Ours:
    """A running sidecar of ours, and where it listens."""

    client: Client
    info: NodeInfo
    address: str
    process: Process

    @property
    def peer_id(self) -> str:
        return self.info.peer_id

    async def gone(self, peer_id: str) -> None:
        """Wait until we are not connected with a peer."""
        async with asyncio.timeout(TIMEOUT), aclosing(self.client.watch_peers()) as events:
            present = False
            async for event in events:
                if event.type is PeerEventType.CURRENT and not present:
                    return
                if event.peer is not None and event.peer.peer_id == peer_id:
                    present = event.type is not PeerEventType.DISCONNECTED
                    if not present:
                        return

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
async def our_sidecar(home: Path, *flags: str, inside: Sequence[str] = ()) -> AsyncIterator[Ours]:
    """A sidecar that is up, in another place where `inside` says so; what it logged is told when the test fails."""
    with running(home, "--network", NETWORK, "--log-level", "debug", *flags, prefix=inside) as process:
        try:
            address = (await asyncio.to_thread(process.line, "  address")).split()[-1]
            async with sidecar_client.connect(str(process.socket)) as client:
                yield Ours(client, await client.info(), address, process)
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


@asynccontextmanager
async def pair(
    language: str, home: Path, *, we_dial: bool = True, flags: Sequence[str] = (), **options: Any
) -> AsyncIterator[tuple[Ours, Peer]]:
    """A sidecar of ours and a peer, connected and identified.

    Args:
        language: the peer's implementation.
        home: an empty folder for the sidecar.
        we_dial: who dials.
        flags: of `sidecar run`.
        options: of `Peer.start`.
    """
    async with Stage() as stage, our_sidecar(home, *flags) as ours:
        peer = await stage.start(language, "peer", **{"network": NETWORK, **options})
        await connect(ours, peer, we_dial=we_dial)
        yield ours, peer
