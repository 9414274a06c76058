"""The driver keeps out whom the gate refuses, whatever the transport."""

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import pytest

from sidecar.core import events
from sidecar.core.errors import PeerBanned, SidecarError
from sidecar.core.gate import Ban, Gate, GateLists, Subject
from sidecar.core.multiaddr import Multiaddr
from sidecar.core.networks import Network
from sidecar.net.config import NetConfig

from .harness import LOOPBACK, Host, closed, one_loop

WEBSOCKET = Multiaddr.from_text("/ip4/127.0.0.1/tcp/0/ws")
ELSEWHERE = Multiaddr.from_text("/ip4/127.0.0.2/tcp/0")


def ban(subject: Subject | str, reason: str = "spam") -> Ban:
    return Ban(Network.from_text(subject) if isinstance(subject, str) else subject, reason, 0.0, None)


@asynccontextmanager
async def pair(*listen: Multiaddr, lists: GateLists | None = None) -> AsyncIterator[tuple[Host, Host, Gate]]:
    """Two hosts, the first of which has a gate."""
    gate = Gate(lists)
    hosts = [Host(1, NetConfig(), gate=gate), Host(2, NetConfig())]
    try:
        for host in hosts:
            host.addresses = await host.runtime.listen(listen or [LOOPBACK])
        yield hosts[0], hosts[1], gate
    finally:
        for host in hosts:
            await host.runtime.close(2.0)
    assert all(host.runtime.statistics().connections == 0 for host in hosts)
    assert all(host.runtime.statistics().half_open == 0 for host in hosts)


async def refused(dialler: Host, target: Host) -> SidecarError | None:
    """What a dial ends with. Whoever dials is done with its handshake first, and is cut a moment later."""
    number = dialler.dial(target.addresses, target.peer, force=True)
    end = await dialler.node.until(
        lambda input: isinstance(input, events.DialFailed | events.ConnectionOpened) and input.dial == number
    )
    if isinstance(end, events.ConnectionOpened):
        end = await dialler.node.until(closed(end.connection))
    error: SidecarError | None = end.error
    return error


@pytest.mark.parametrize("listen", [LOOPBACK, WEBSOCKET], ids=["tcp", "websocket"])
@one_loop
async def test_a_banned_peer_is_refused_as_soon_as_it_has_shown_its_key(listen: Multiaddr) -> None:
    async with pair(listen) as (one, two, gate):
        gate.add(ban(two.peer))
        await refused(two, one)
        assert not one.node.all(events.ConnectionOpened)
        assert one.runtime.statistics().handshakes == {"PeerBanned": 1}
        assert gate.refused_peers == 1
        assert isinstance(await refused(one, two), PeerBanned)
        assert not [opened for opened in two.node.all(events.ConnectionOpened) if opened.dial is None]
        gate.lift(two.peer)
        await two.connect(one)
        await one.node.saw(events.ConnectionOpened)


@pytest.mark.parametrize("listen", [LOOPBACK, WEBSOCKET], ids=["tcp", "websocket"])
@one_loop
async def test_a_banned_address_gets_not_one_byte(listen: Multiaddr) -> None:
    async with pair(listen) as (one, two, gate):
        gate.add(ban("127.0.0.0/8"))
        port = one.addresses[0].value("tcp")
        reader, writer = await asyncio.open_connection("127.0.0.1", int(port or 0))
        with suppress(ConnectionResetError):  # closed in order or cut: either will do
            assert await reader.read() == b""
        writer.close()
        await refused(two, one)
        assert not one.runtime.statistics().handshakes
        assert isinstance(await refused(one, two), PeerBanned)
        assert gate.refused_addresses == 3
        assert two.runtime.statistics().opened == 0


@one_loop
async def test_only_what_comes_from_the_network_is_refused() -> None:
    async with pair(lists=GateLists(deny_networks=(Network.from_text("127.0.0.2"),))) as (one, two, gate):
        port = int(one.addresses[0].value("tcp") or 0)
        with socket.socket() as raw:
            raw.setblocking(False)
            raw.bind(("127.0.0.2", 0))
            loop = asyncio.get_running_loop()
            await loop.sock_connect(raw, ("127.0.0.1", port))
            with suppress(ConnectionResetError):
                assert await loop.sock_recv(raw, 100) == b""
        await two.connect(one)
        assert gate.refused_addresses == 1
        two.addresses = await two.runtime.listen([ELSEWHERE])
        error = await refused(one, two)
        assert str(error) == "127.0.0.2 is on the deny list of the configuration"


@one_loop
async def test_a_name_that_leads_to_a_denied_address_is_not_dialled() -> None:
    async with pair(lists=GateLists(deny_networks=(Network.from_text("127.0.0.0/8"), Network.from_text("::1")))) as (
        one,
        two,
        _,
    ):
        port = two.addresses[0].value("tcp")
        number = one.dial([Multiaddr.from_text(f"/dns/localhost/tcp/{port}")], two.peer)
        assert isinstance(await one.dial_failed(number), PeerBanned)
        assert two.runtime.statistics().opened == 0


@one_loop
async def test_who_answers_at_an_address_may_be_banned() -> None:
    async with pair() as (one, two, gate):
        gate.add(ban(two.peer))
        number = one.dial(two.addresses)  # nobody is named
        error = await one.dial_failed(number)
        assert str(error) == f"{two.peer} is banned: spam"
        assert not one.node.all(events.ConnectionOpened)


@one_loop
async def test_another_address_of_a_peer_is_tried_where_one_is_denied() -> None:
    async with pair(LOOPBACK, ELSEWHERE) as (one, two, gate):
        gate.add(ban("127.0.0.2"))
        number = one.dial(two.addresses[::-1], two.peer)
        opened = await one.node.until(lambda input: isinstance(input, events.ConnectionOpened) and input.dial == number)
        assert opened.remote == two.addresses[0]


@one_loop
async def test_a_ban_during_the_handshake() -> None:
    async with pair() as (one, two, gate):
        refusing = asyncio.create_task(refused(two, one))
        for _ in range(1000):  # until its connection is there, in the midst of the handshake
            await asyncio.sleep(0)
            if one.runtime.statistics().half_open:
                break
        gate.add(ban("127.0.0.1"))
        await refusing
        assert one.runtime.statistics().handshakes == {"PeerBanned": 1}


@one_loop
async def test_a_banned_peer_that_comes_again_and_again_is_held_off_before_the_handshake() -> None:
    async with pair() as (one, two, gate):
        gate.add(ban(two.peer))
        for _ in range(40):
            await refused(two, one)
        statistics = one.runtime.statistics()
        assert statistics.handshakes["PeerBanned"] < 20
        assert statistics.handshakes["PeerBanned"] + statistics.refused == 40
        assert gate.refused_peers == statistics.handshakes["PeerBanned"]


@one_loop
async def test_the_node_closes_with_the_ban_as_its_reason() -> None:
    async with pair() as (one, two, gate):
        opened = await one.connect(two)
        gate.add(ban(two.peer))
        one.do(events.CloseConnection(opened.connection, gate.refuse_peer(two.peer)))
        end = await one.node.until(closed(opened.connection))
        assert isinstance(end.error, PeerBanned)
        assert (await two.node.saw(events.ConnectionClosed)).error is None  # the peer is not told why
