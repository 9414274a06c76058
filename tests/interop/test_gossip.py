"""Gossip between sidecars and peers."""

import asyncio
import os
from pathlib import Path

from sidecar_client import Signing

from tests.interop.cells import cell
from tests.interop.ours import pair
from tests.interop.peer import TIMEOUT


async def both_ways(language: str, home: Path, *, we_dial: bool, sign: str, sizes: tuple[int, ...]) -> None:
    """Messages of these sizes pass from us to the peer and back."""
    signing = Signing.STRICT_SIGN if sign == "strict" else Signing.STRICT_NO_SIGN
    async with (
        pair(language, home, we_dial=we_dial, sign=sign) as (ours, peer),
        ours.client.subscribe("news", signing=signing, skip_local=True) as subscription,
    ):
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


@cell("gossip", "StrictSign: 100 B, 1 KiB and 64,000 B both ways", quick=True, both_dial=True)
def test_signed(language: str, we_dial: bool, tmp_path: Path) -> None:
    asyncio.run(both_ways(language, tmp_path, we_dial=we_dial, sign="strict", sizes=(100, 1024, 64_000)))


@cell("gossip", "StrictNoSign both ways", quick=True, both_dial=True)
def test_unsigned(language: str, we_dial: bool, tmp_path: Path) -> None:
    asyncio.run(both_ways(language, tmp_path, we_dial=we_dial, sign="none", sizes=(100,)))
