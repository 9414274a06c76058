"""Connections through a relay, over real sockets: three nodes with their drivers on one loop."""

import asyncio
import random
import socket
import sys
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace

import pytest

from sidecar.core import events, gossip, streams
from sidecar.core.errors import AddressInUse, Refused, SidecarError
from sidecar.core.gate import Ban, Gate
from sidecar.core.identity import Identity
from sidecar.core.multiaddr import Multiaddr
from sidecar.core.node import Node, NodeConfig
from sidecar.core.node.relay_server import _Half
from sidecar.core.node.switch import Stream
from sidecar.core.parameters import RelayConfig
from sidecar.core.types import Direction
from sidecar.net.config import NetConfig
from sidecar.net.runtime import Runtime
from sidecar.net.transports import Transports

from .harness import LOOPBACK, both_loops, one_loop

QUIET = NodeConfig(target_peers=0, upkeep_interval=0.05, redial_base=0.05, dht_server=False)
OPEN = RelayConfig(server=True, circuit_duration=0.0, circuit_data=0)


class Peer:
    """A node with its driver, and what it told its apps."""

    def __init__(self, config: NodeConfig, psk: bytes | None = None, net: NetConfig | None = None) -> None:
        self.identity = Identity(random.randbytes(32))
        self.gate = Gate()
        self.news: list[object] = []
        self._waiting: list[tuple[Callable[[object], bool], asyncio.Future[object]]] = []
        now = time.monotonic()
        self.node = Node(config, self.identity, now=now, wall_ns=time.time_ns(), rng=random.Random(), gate=self.gate)
        self.runtime = Runtime(
            self.node, self.identity, net or NetConfig(), self._on_news, transports=Transports(psk=psk), gate=self.gate
        )
        self.address = LOOPBACK

    def _on_news(self, news: object) -> None:
        self.news.append(news)
        for matches, future in self._waiting:
            if not future.done() and matches(news):
                future.set_result(news)

    async def start(self, *, listen: bool = True) -> None:
        listening = await self.runtime.listen((LOOPBACK,) if listen else ())
        if listening:
            self.address = listening[0].with_peer(self.identity.peer_id)
        self.runtime.feed(events.AddressesChanged(listening, ()))

    async def until(self, matches: Callable[[object], bool]) -> object:
        for news in self.news:
            if matches(news):
                return news
        future: asyncio.Future[object] = asyncio.get_running_loop().create_future()
        self._waiting.append((matches, future))
        return await future

    async def ask(self, make: Callable[[int], object]) -> object:
        op = self.node.new_op()
        self.runtime.feed(make(op))  # type: ignore[arg-type]
        answer = await self.until(lambda news: isinstance(news, events.OperationCompleted) and news.op == op)
        assert isinstance(answer, events.OperationCompleted)
        return answer.result


class Three:
    """A relay, a peer that listens nowhere but there, and one that seeks it."""

    def __init__(self, relay: RelayConfig, psk: bytes | None) -> None:
        self.psk = psk
        self.relay = Peer(replace(QUIET, relay=relay), psk)
        self.seeker = Peer(replace(QUIET, relay=RelayConfig(punch=False)), psk)

    async def start(self) -> None:
        await self.relay.start()
        places = RelayConfig((self.relay.address,), punch=False)
        self.hidden = Peer(replace(QUIET, listens=False, relay=places), self.psk)
        await self.hidden.start(listen=False)
        await self.seeker.start()
        await self.relay.until(
            lambda news: (
                isinstance(news, events.PeerChanged)
                and news.view.peer == self.hidden.identity.peer_id
                and any(address.is_relayed for address in news.view.addresses)
            )
        )

    @property
    def circuit(self) -> Multiaddr:
        return Multiaddr.from_text(f"{self.relay.address}/p2p-circuit/p2p/{self.hidden.identity.peer_id}")

    async def connect(self) -> object:
        peer = self.circuit.peer_id
        return await self.seeker.ask(lambda op: events.ConnectRequested(op, peer, (self.circuit,)))


@asynccontextmanager
async def three(relay: RelayConfig = OPEN, psk: bytes | None = None) -> AsyncIterator[Three]:
    found = Three(relay, psk)
    await found.start()
    try:
        yield found
    finally:
        for peer in (found.seeker, found.hidden, found.relay):
            await peer.runtime.close(1)


@both_loops
async def test_a_stream_over_a_circuit() -> None:
    async with three() as peers:
        view = await peers.connect()
        assert isinstance(view, events.PeerView), view
        assert view.remote == peers.circuit.without_peer()
        peers.hidden.runtime.feed(streams.ProtocolsAccepted(("/bulk/1",)))
        hidden = peers.hidden.identity.peer_id
        made = await peers.seeker.ask(lambda op: streams.StreamRequested(op, hidden, ("/bulk/1",)))
        assert isinstance(made, streams.StreamMade)
        data = random.randbytes(2 << 20)  # many windows
        got = bytearray()

        def read(news: object) -> bool:
            if isinstance(news, streams.BytesArrived):
                got.extend(news.data)
                peers.hidden.runtime.feed(streams.BytesConsumed(news.stream, len(news.data)))
            return isinstance(news, streams.ReadEnded)

        for start in range(0, len(data), 1 << 16):
            peers.seeker.runtime.feed(streams.BytesWritten(made.stream, data[start : start + (1 << 16)]))
        peers.seeker.runtime.feed(streams.WriteEnded(made.stream))
        await peers.hidden.until(read)
        assert bytes(got) == data
        (shown,) = [one for one in peers.seeker.runtime.connections() if one.remote.is_relayed]
        assert shown.bytes_out > len(data)
        assert peers.seeker.runtime.statistics().relayed == 1
        assert peers.relay.node.statistics().relay.relayed_bytes > len(data)


@one_loop
async def test_a_private_network_is_one_over_circuits_too() -> None:
    async with three(psk=bytes(range(32))) as peers:
        assert isinstance(await peers.connect(), events.PeerView)


@one_loop
async def test_gossip_goes_over_circuits_without_limits() -> None:
    async with three() as peers:
        for peer in (peers.seeker, peers.hidden):
            peer.runtime.feed(gossip.TopicJoined("t"))
        assert isinstance(await peers.connect(), events.PeerView)
        op = peers.seeker.node.new_op()
        peers.seeker.runtime.feed(gossip.Published(op, "t", (b"hello",), wait=True, minimum_peers=1))
        await peers.hidden.until(
            lambda news: isinstance(news, gossip.MessagesDelivered) and news.messages[0].data == b"hello"
        )


@one_loop
async def test_who_is_banned_does_not_come_in_through_a_relay() -> None:
    async with three() as peers:
        ban = Ban(peers.seeker.identity.peer_id, "", 0.0, None)
        await peers.hidden.ask(lambda op: events.BanRequested(op, (ban,)))
        refused = await peers.connect()
        assert isinstance(refused, Refused), refused
        assert peers.hidden.node.statistics().circuits.refused == {"peer": 1}


@one_loop
async def test_a_relayed_connection_is_counted_as_others() -> None:
    async with three() as peers:
        assert isinstance(await peers.connect(), events.PeerView)
        (carried,) = [one for one in peers.hidden.runtime.connections() if one.remote.is_relayed]
        assert carried.direction is Direction.INBOUND
        assert peers.hidden.runtime.statistics().inbound == 1


@one_loop
async def test_a_circuit_ends_with_its_carrier() -> None:
    async with three() as peers:
        assert isinstance(await peers.connect(), events.PeerView)
        relay = peers.relay.identity.peer_id
        await peers.hidden.ask(lambda op: events.DisconnectRequested(op, relay))
        lost = await peers.seeker.until(
            lambda news: isinstance(news, events.PeerChanged) and news.change is events.PeerChange.DISCONNECTED
        )
        assert isinstance(lost, events.PeerChanged)
        assert lost.view.peer == peers.hidden.identity.peer_id


@one_loop
@pytest.mark.parametrize("fault", ["garbled", "dropped"])
async def test_a_circuit_that_comes_to_nothing_counts_against_its_relay(fault: str) -> None:
    async with three() as peers:
        server = peers.relay.node._services.relay_server

        def forward(stream: Stream, half: _Half, data: bytes, now: float) -> None:
            if half.other is not half.circuit.stream:
                honest(stream, half, data, now)  # to the target: all is well
            elif fault == "garbled":
                honest(stream, half, bytes(len(data)), now)
            else:
                server._cut(half.circuit, "time")

        honest = server._forward
        server._forward = forward  # type: ignore[method-assign]
        assert isinstance(await peers.connect(), SidecarError)
        assert peers.seeker.node.statistics().circuits.faults == {fault: 1}
        known = peers.seeker.node._services.relay_client._standings.known(peers.relay.identity.peer_id)
        assert known is not None
        assert known.points(time.monotonic()) < 0


@one_loop
async def test_without_a_place_nobody_is_reached() -> None:
    async with three() as peers:
        nobody = Identity(random.randbytes(32)).peer_id
        address = Multiaddr.from_text(f"{peers.relay.address}/p2p-circuit/p2p/{nobody}")
        answer = await peers.seeker.ask(lambda op: events.ConnectRequested(op, nobody, (address,)))
        assert isinstance(answer, Refused)
        assert "no place" in str(answer)


@both_loops
async def test_both_dial_at_one_moment_and_agree_who_is_the_client() -> None:
    one, two = Peer(QUIET), Peer(QUIET)
    try:
        for peer in (one, two):
            await peer.start()
        first, second = Direction.OUTBOUND, Direction.INBOUND
        for peer, other, side in ((one, two, first), (two, one, second)):
            dial = events.Dial(1 << 20, other.identity.peer_id, (other.address,), True, punch=side)
            peer.runtime._carry_out(dial)
        for peer, side in ((one, first), (two, second)):
            news = await peer.until(
                lambda news: isinstance(news, events.PeerChanged) and news.change is events.PeerChange.IDENTIFIED
            )
            assert isinstance(news, events.PeerChanged)
            assert news.view.direction is side
    finally:
        for peer in (one, two):
            await peer.runtime.close(1)


@both_loops
async def test_who_gets_in_while_a_hole_is_punched_is_met_by_a_client() -> None:
    one, two = Peer(QUIET), Peer(QUIET)
    nobody = socket.socket()  # where the NAT of `two` showed others a port that is of no use here
    try:
        for peer in (one, two):
            await peer.start()
        nobody.bind(("127.0.0.1", 0))
        wrong = Multiaddr.tcp(*nobody.getsockname())
        for peer, other, address, side in (
            (one, two, wrong, Direction.OUTBOUND),
            (two, one, one.address, Direction.INBOUND),
        ):
            dial = events.Dial(1 << 20, other.identity.peer_id, (address,), True, punch=side)
            peer.runtime._carry_out(dial)
        for peer, side in ((one, Direction.OUTBOUND), (two, Direction.INBOUND)):
            news = await peer.until(
                lambda news: isinstance(news, events.PeerChanged) and news.change is events.PeerChange.IDENTIFIED
            )
            assert isinstance(news, events.PeerChanged)
            assert news.view.direction is side
    finally:
        nobody.close()
        for peer in (one, two):
            await peer.runtime.close(1)
    assert not one.runtime._punched  # whoever comes later is the client again


@one_loop
@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere ports are not dialled from while they are listened at")
@pytest.mark.parametrize("apart", [False, True])
async def test_dials_apart_are_from_another_port_than_the_one_listened_at(apart: bool) -> None:
    one, two = Peer(QUIET, net=NetConfig(dial_from_listener=True)), Peer(QUIET)
    try:
        for peer in (one, two):
            await peer.start()
        one.runtime._carry_out(events.Dial(1 << 20, two.identity.peer_id, (two.address,), True, apart=apart))
        news = await two.until(
            lambda news: isinstance(news, events.PeerChanged) and news.change is events.PeerChange.CONNECTED
        )
        assert isinstance(news, events.PeerChanged)
        assert news.view.remote is not None
        assert (news.view.remote == one.address.without_peer()) is not apart
    finally:
        for peer in (one, two):
            await peer.runtime.close(1)


@one_loop
async def test_a_port_that_is_dialled_from_is_not_shared() -> None:
    one, two = Peer(QUIET), Peer(QUIET)
    try:
        await one.start()
        taken = one.address.without_peer()
        with pytest.raises(AddressInUse):
            await two.runtime.listen((taken,))
    finally:
        for peer in (one, two):
            await peer.runtime.close(1)
