"""The pure channel (multistream-select, Noise, yamux) with other implementations, as dialler and listener."""

import asyncio
import base64
import os

import pytest

from sidecar.core import errors
from sidecar.core.identify import IDENTIFY, IdentifyReader
from sidecar.core.identity import Identity
from sidecar.core.ping import PING
from sidecar.core.types import PeerId
from tests.interop.peer import TIMEOUT, Peer, Stage
from tests.interop.wire import ECHO, Wire

pytestmark = [pytest.mark.interop, pytest.mark.usefixtures("peer_programs")]
both_peers = pytest.mark.parametrize("language", ["go", "js"])
US = Identity(bytes(range(32)))


async def dial(peer: Peer, expected: str | None = None) -> Wire:
    host, port = peer.address.split("/")[2], int(peer.address.split("/")[4])
    _, wire = await asyncio.get_running_loop().create_connection(
        lambda: Wire(US, dialer=True, expected=PeerId.from_text(expected or peer.peer_id)), host, port
    )
    return wire


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


@both_peers
@pytest.mark.parametrize("dialler", ["us", "them"])
def test_streams_both_ways(language: str, dialler: str) -> None:
    async def scenario() -> None:
        async with Stage() as stage, asyncio.timeout(TIMEOUT):
            peer = await stage.start(language, "peer")
            wire = await (dial(peer) if dialler == "us" else dialled_by(peer))
            assert str((await wire.secured).peer_id) == peer.peer_id
            assert (await wire.ready).early  # both know early muxer negotiation
            await peer.event("identified", peer_id=str(US.peer_id))
            assert (await peer.call("identify", peer_id=str(US.peer_id)))["agent_version"] == "wire"

            reader = IdentifyReader()
            reader.receive(await wire.exchange(IDENTIFY))
            assert reader.finish().agent == peer.agent
            assert await wire.exchange(PING, data := os.urandom(32)) == data
            await peer.call("ping", peer_id=str(US.peer_id))

            data = os.urandom(3_000_000)  # more than any window
            assert await wire.exchange(ECHO, data) == data
            text = base64.b64encode(data).decode()
            assert (await peer.call("echo", peer_id=str(US.peer_id), data=text))["data"] == text
            many = [os.urandom(2000) for _ in range(200)]
            assert await asyncio.gather(*(wire.exchange(ECHO, data) for data in many)) == many

            with pytest.raises(errors.SidecarError):
                await wire.exchange("/nobody/speaks/this")
            assert await wire.exchange(ECHO, b"still here") == b"still here"
            await peer.call("disconnect", peer_id=str(US.peer_id))
            assert isinstance(await wire.failed, errors.Closed)

    asyncio.run(scenario())


@both_peers
def test_our_close_is_understood(language: str) -> None:
    async def scenario() -> None:
        async with Stage() as stage, asyncio.timeout(TIMEOUT):
            peer = await stage.start(language, "peer")
            wire = await dial(peer)
            await peer.event("identified", peer_id=str(US.peer_id))
            wire.close()
            await peer.event("disconnected", peer_id=str(US.peer_id))

    asyncio.run(scenario())


@both_peers
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
