"""The pure channel (multistream-select, Noise, yamux) with other implementations, as dialler and listener."""

import asyncio
import base64
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from sidecar.core import errors
from sidecar.core.identify import IDENTIFY, IdentifyReader
from sidecar.core.identity import Identity
from sidecar.core.ping import PING
from tests.interop.cells import NotOffered, cell
from tests.interop.peer import TIMEOUT, Peer, Stage
from tests.interop.wire import ECHO, US, Wire, dial

SINK, SOURCE = "/interop/sink/1", "/interop/source/1"
MANY = 1000  # streams
BULK = 100_000_000  # bytes each way


async def dialled_by(peer: Peer) -> Wire:
    accepted: asyncio.Future[Wire] = asyncio.get_running_loop().create_future()

    def accept() -> Wire:
        accepted.set_result(Wire(US, dialer=False))
        return accepted.result()

    server = await asyncio.get_running_loop().create_server(accept, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    await peer.call("connect", address=f"/ip4/127.0.0.1/tcp/{port}/p2p/{US.peer_id}")
    server.close()
    return await accepted


@asynccontextmanager
async def wired(language: str, *, we_dial: bool = True) -> AsyncIterator[tuple[Peer, Wire]]:
    """A peer, and a channel to it."""
    async with Stage() as stage, asyncio.timeout(2 * TIMEOUT):
        peer = await stage.start(language, "peer")
        wire = await (dial(peer) if we_dial else dialled_by(peer))
        await wire.ready
        await peer.event("identified", peer_id=str(US.peer_id))
        yield peer, wire
        if not wire.failed.done():
            wire.close()


@cell("connection", "Noise and yamux: identify, ping, streams both ways", quick=True, both_dial=True)
def test_streams_both_ways(language: str, we_dial: bool) -> None:
    async def scenario() -> None:
        async with wired(language, we_dial=we_dial) as (peer, wire):
            assert str((await wire.secured).peer_id) == peer.peer_id
            assert (await peer.call("identify", peer_id=str(US.peer_id)))["agent_version"] == "wire"
            reader = IdentifyReader()
            reader.receive(await wire.exchange(IDENTIFY))
            assert reader.finish().agent == peer.agent
            assert await wire.exchange(PING, data := os.urandom(32)) == data
            await peer.call("ping", peer_id=str(US.peer_id))
            many = [os.urandom(2000) for _ in range(30)]
            if language == "rust":  # libp2p-stream drops what comes in a burst
                assert [await wire.exchange(ECHO, data) for data in many] == many
            else:
                assert await asyncio.gather(*(wire.exchange(ECHO, data) for data in many)) == many
            await peer.call("disconnect", peer_id=str(US.peer_id))
            assert isinstance(await wire.failed, errors.Closed)

    asyncio.run(scenario())


@cell("connection", "early muxer negotiation", quick=True, both_dial=True)
def test_early_muxer(language: str, we_dial: bool) -> None:
    async def scenario() -> None:
        async with wired(language, we_dial=we_dial) as (_, wire):
            early = (await wire.ready).early
            assert await wire.exchange(ECHO, b"the muxer agreed on works") == b"the muxer agreed on works"
            if not early:
                raise NotOffered("no muxers in its Noise payload; multistream-select chose the muxer instead")

    asyncio.run(scenario())


@cell("connection", "half-close: the reply still arrives", both_dial=True)
def test_half_close(language: str, we_dial: bool) -> None:
    async def scenario() -> None:
        async with wired(language, we_dial=we_dial) as (peer, wire):
            data = os.urandom(3_000_000)  # more than any window
            assert await wire.exchange(SINK, data) == len(data).to_bytes(8, "big")
            text = base64.b64encode(data).decode()
            assert (await peer.call("echo", peer_id=str(US.peer_id), data=text))["data"] == text

    asyncio.run(scenario())


@cell("connection", "yamux windows under 100 MB both ways at once", both_dial=True)
def test_bulk_both_ways(language: str, we_dial: bool) -> None:
    async def scenario() -> None:
        async with wired(language, we_dial=we_dial) as (_, wire):
            size = BULK.to_bytes(8, "big")
            sunk, sourced = await asyncio.gather(wire.exchange(SINK, bytes(BULK)), wire.exchange(SOURCE, size))
            assert (sunk, len(sourced)) == (size, BULK)

    asyncio.run(scenario())


@cell("connection", "1,000 streams opened and reset", both_dial=True)
def test_many_streams(language: str, we_dial: bool) -> None:
    async def scenario() -> None:
        async with wired(language, we_dial=we_dial) as (peer, wire):
            for _ in range(MANY // 50):
                wire.reset(await wire.open_many(ECHO, 50))
            assert await wire.exchange(ECHO, b"still here") == b"still here"
            assert (await peer.call("streams_reset", peer_id=str(US.peer_id), count=MANY))["opened"] == MANY
            assert await wire.exchange(ECHO, b"and still") == b"and still"

    asyncio.run(scenario())


@cell("connection", "keep-alive pings are answered", quick=True)
def test_keep_alive(language: str) -> None:
    async def scenario() -> None:
        async with wired(language) as (_, wire):
            for _ in range(3):
                await wire.keep_alive()

    asyncio.run(scenario())


@cell("connection", "our go-away is understood", quick=True)
def test_our_close_is_understood(language: str) -> None:
    async def scenario() -> None:
        async with wired(language) as (peer, wire):
            wire.close()
            await peer.event("disconnected", peer_id=str(US.peer_id))

    asyncio.run(scenario())


@cell("refusals", "wrong peer id, at the handshake", quick=True)
def test_another_peer_than_dialled_is_refused(language: str) -> None:
    async def scenario() -> None:
        async with Stage() as stage, asyncio.timeout(TIMEOUT):
            peer = await stage.start(language, "peer")
            wire = await dial(peer, expected=str(Identity(bytes(32)).peer_id))
            assert isinstance(await wire.failed, errors.WrongPeer)
            assert not wire.secured.done()
            wire = await dial(peer)  # and the peer goes on
            assert await wire.exchange(ECHO, b"hello") == b"hello"
            wire.close()

    asyncio.run(scenario())


@cell("refusals", "a frame over its window: they end the connection, and go on")
def test_oversize_frame(language: str) -> None:
    async def scenario() -> None:
        async with wired(language) as (peer, wire):
            (number,) = await wire.open_many(ECHO, 1)
            # yamux header: version 0, type 0 (data), no flags, the stream, a length that no window allows
            wire.send_raw(bytes([0, 0, 0, 0]) + number.to_bytes(4, "big") + (1 << 30).to_bytes(4, "big"))
            for _ in range(600):
                if wire.failed.done():
                    break
                wire.send_raw(bytes(60_000))
                await asyncio.wait([wire.failed], timeout=0.01)
            assert isinstance(await wire.failed, errors.Closed | errors.Refused)
            again = await dial(peer)
            assert await again.exchange(ECHO, b"hello") == b"hello"
            again.close()

    asyncio.run(scenario())


@cell("refusals", "an unknown protocol: negotiation says so", quick=True)
def test_unknown_protocol(language: str) -> None:
    async def scenario() -> None:
        async with wired(language) as (_, wire):
            with pytest.raises(errors.NotSupported):
                await wire.exchange("/nobody/speaks/this")
            assert await wire.exchange(ECHO, b"still here") == b"still here"

    asyncio.run(scenario())
