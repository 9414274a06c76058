"""Byte streams between an app of ours and a peer."""

import asyncio
import base64
import hashlib
from pathlib import Path

import pytest
import sidecar_client

from tests.interop.cells import cell
from tests.interop.ours import pair
from tests.interop.peer import TIMEOUT

ECHO = "/interop/echo/1"
DATA = hashlib.shake_128(b"streams").digest(3_000_000)  # several windows


@cell("byte streams", "an app of ours writes to theirs: echo, half-close", quick=True)
def test_our_app_opens(language: str, tmp_path: Path) -> None:
    async def scenario() -> None:
        async with pair(language, tmp_path) as (ours, peer), asyncio.timeout(TIMEOUT):
            async with ours.client.open_stream(peer.peer_id, ["/interop/nobody/1", ECHO]) as stream:
                assert stream.protocol == ECHO
                writing = asyncio.create_task(stream.write(DATA))
                assert await stream.readexactly(len(DATA)) == DATA
                await writing
                await stream.write(b"last")
                await stream.close_write()
                assert await stream.read() == b"last"
            with pytest.raises(sidecar_client.NotSupported):
                async with ours.client.open_stream(peer.peer_id, "/interop/nobody/1"):
                    pass

    asyncio.run(scenario())


@cell("byte streams", "theirs writes to an app of ours: echo, half-close; identify/push of ours", quick=True)
def test_our_app_accepts(language: str, tmp_path: Path) -> None:
    async def scenario() -> None:
        async with (
            pair(language, tmp_path) as (ours, peer),
            asyncio.timeout(TIMEOUT),
            ours.client.accept_streams(ECHO) as streams,
        ):
            asked = asyncio.create_task(peer.call("echo", peer_id=ours.peer_id, data=base64.b64encode(DATA).decode()))
            async with await anext(aiter(streams)) as stream:
                assert stream.peer_id == peer.peer_id
                async for data in stream:
                    await stream.write(data)
                await stream.close_write()
            assert base64.b64decode((await asked)["data"]) == DATA
            told = await peer.call("identify", peer_id=ours.peer_id)
            assert ECHO in told["protocols"]

    asyncio.run(scenario())
