"""Kademlia between sidecars and peers."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import sidecar_client

from tests.interop.cells import NETWORK, cell
from tests.interop.ours import Ours, connect, our_sidecar, pair, plain
from tests.interop.peer import TIMEOUT, Peer, PeerError, Stage, Unsupported

NAMESPACES = ("--dht-namespaces", "interop=greatest:refuse_prefix=bad")  # the rule of the peers


@asynccontextmanager
async def both_serve(language: str, home: Path) -> AsyncIterator[tuple[Ours, Peer]]:
    """A sidecar and a peer that are in each other's routing table."""
    async with pair(language, home, flags=NAMESPACES, dht="server") as (ours, peer):
        await peer.event("dht_peer", peer_id=ours.peer_id)
        yield ours, peer


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


@cell("kad-dht", "PUT_VALUE: put by us, got by them")
def test_we_put_and_they_get(language: str, tmp_path: Path) -> None:
    async def scenario() -> None:
        async with both_serve(language, tmp_path) as (ours, peer):
            receipt = await ours.client.put_record("/interop/ours", b"value of ours", quorum=1, timeout=TIMEOUT)
            assert receipt.stored == 1
            assert (await peer.call_bytes("get_value", key=b"/interop/ours"))["value"] == b"value of ours"

    asyncio.run(scenario())


@cell("kad-dht", "PUT_VALUE: put by them, got by us")
def test_they_put_and_we_get(language: str, tmp_path: Path) -> None:
    async def scenario() -> None:
        async with both_serve(language, tmp_path) as (ours, peer):
            await peer.call_bytes("put_value", key=b"/interop/theirs", value=b"value of theirs")
            record = await ours.client.get_record("/interop/theirs", timeout=TIMEOUT)
            assert record.value == b"value of theirs"

    asyncio.run(scenario())


@cell("kad-dht", "the better of two values wins at both sides")
def test_the_better_value_wins(language: str, tmp_path: Path) -> None:
    async def scenario() -> None:
        async with both_serve(language, tmp_path) as (ours, peer):
            await ours.client.put_record("/interop/two", b"1 worse", quorum=1, timeout=TIMEOUT)
            await peer.call_bytes("put_value", key=b"/interop/two", value=b"2 better")
            assert (await ours.client.get_record("/interop/two", timeout=TIMEOUT)).value == b"2 better"
            with pytest.raises(sidecar_client.Outdated):
                await ours.client.put_record("/interop/two", b"1 worse", quorum=1, timeout=TIMEOUT)
            await ours.client.put_record("/interop/two", b"3 best", quorum=1, timeout=TIMEOUT)
            assert (await peer.call_bytes("get_value", key=b"/interop/two"))["value"] == b"3 best"

    asyncio.run(scenario())


@cell("kad-dht", "an invalid value is refused where it is put")
def test_an_invalid_value_is_refused(language: str, tmp_path: Path) -> None:
    async def scenario() -> None:
        async with both_serve(language, tmp_path) as (ours, peer):
            with pytest.raises(sidecar_client.InvalidArgument):
                await ours.client.put_record("/interop/bad", b"bad of ours", timeout=TIMEOUT)
            try:
                await peer.call_bytes("put_value", key=b"/interop/bad", value=b"bad of theirs")
            except Unsupported:
                raise
            except PeerError:
                pass  # most refuse it before it is sent; the others hear that we did
            with pytest.raises(sidecar_client.NotFound):
                await ours.client.get_record("/interop/bad", timeout=TIMEOUT)

    asyncio.run(scenario())


@cell("kad-dht", "ADD_PROVIDER: provided by them, found by us")
def test_they_provide_and_we_find(language: str, tmp_path: Path) -> None:
    async def scenario() -> None:
        async with both_serve(language, tmp_path) as (ours, peer):
            await peer.call("provide", name="theirs")
            found = [one.peer_id async for one in ours.client.find_peers("theirs", timeout=TIMEOUT)]
            assert found == [peer.peer_id]

    asyncio.run(scenario())
