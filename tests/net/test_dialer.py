"""Dials: which address wins, how failures are told, and what is bounded."""

import asyncio
import contextlib
import random
import socket
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager

import pytest

from sidecar.core import events
from sidecar.core.channel import Channel, ChannelLimits
from sidecar.core.errors import (
    Closed,
    DialBackoff,
    DialTimeout,
    HandshakeError,
    InvalidArgument,
    NoAddresses,
    NotSupported,
    ProtocolError,
    QueueFull,
    SelfDial,
    SidecarError,
    TooManyConnections,
    Unreachable,
    WrongPeer,
)
from sidecar.core.gate import Gate
from sidecar.core.identity import Identity
from sidecar.core.multiaddr import Multiaddr
from sidecar.core.networks import Scope
from sidecar.core.types import PeerId
from sidecar.net.concurrent_dial import Attempt
from sidecar.net.config import NetConfig
from sidecar.net.dial_history import DialHistory, EndpointTried
from sidecar.net.dialer import Dialer
from sidecar.net.resolve import Target

from .harness import Host, both_loops, hosts, one_loop

OTHER = Identity(bytes([77]) * 32).peer_id
OWN = Identity(bytes([78]) * 32).peer_id


@contextmanager
def silent_address() -> Iterator[Multiaddr]:
    """Where connections are taken by the kernel and nobody ever answers."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield Multiaddr.tcp(*server.getsockname())


def refusing_address() -> Multiaddr:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return Multiaddr.tcp(*server.getsockname())


@asynccontextmanager
async def garbling_address() -> AsyncIterator[Multiaddr]:
    """Where somebody answers in another language."""

    def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"SSH-2.0-OpenSSH\r\n" * 20)
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    async with server:
        yield Multiaddr.tcp(*server.sockets[0].getsockname())


@both_loops
async def test_a_dead_first_address_does_not_hold_the_dial_up() -> None:
    config = NetConfig(attempt_delay=0.02)
    async with hosts(2, config) as (one, two):
        with silent_address() as dead:
            number = one.dial([dead, *two.addresses], two.peer)
            opened = await one.node.saw(events.ConnectionOpened)
            assert (opened.dial, opened.remote) == (number, two.addresses[0])
        assert len(one.runtime.connections()) == 1
        await one.runtime.close(1)
        assert not one.node.all(events.DialFailed)


@both_loops
async def test_of_two_good_addresses_one_wins() -> None:
    config = NetConfig(attempt_delay=0.0)
    async with hosts(2, config) as (one, two):
        more = await two.runtime.listen([Multiaddr.from_text("/ip4/127.0.0.1/tcp/0")] * 3)
        one.dial([*two.addresses, *more], two.peer)
        await one.node.saw(events.ConnectionOpened)
        await one.runtime.close(1)
        assert len(one.node.all(events.ConnectionOpened)) == 1
        assert one.runtime.statistics().opened == 1


@both_loops
async def test_another_key_is_a_failure_but_other_addresses_go_on() -> None:
    async with hosts(3) as (one, two, three):
        error = await one.dial_failed(one.dial([*two.addresses, refusing_address()], three.peer))
        assert isinstance(error, WrongPeer)
        assert str(two.peer) in str(error)
        assert str(three.peer) in str(error)
        number = one.dial([*two.addresses, *three.addresses], three.peer)
        assert (await one.node.saw(events.ConnectionOpened)).dial == number
        # who is where matters, not the address alone
        assert (await one.connect(two)).peer == two.peer


@one_loop
async def test_an_address_alone_is_enough() -> None:
    async with hosts(2) as (one, two):
        one.dial(two.addresses)
        assert (await one.node.saw(events.ConnectionOpened)).peer == two.peer
        error = await one.dial_failed(one.dial([two.addresses[0].with_peer(OTHER)]))
        assert isinstance(error, WrongPeer)


@both_loops
async def test_the_most_telling_failure_is_told() -> None:
    config = NetConfig(attempt_timeout=0.15, attempt_delay=0.01)
    async with hosts(1, config) as (one,), garbling_address() as garbling:
        with silent_address() as silent:
            refusing = refusing_address()
            quic = Multiaddr.from_text("/ip4/127.0.0.1/udp/4001/quic-v1")
            cases: list[tuple[list[Multiaddr], type[SidecarError]]] = [
                ([], NoAddresses),
                ([quic], NotSupported),
                ([Multiaddr.tcp("127.0.0.1", 0)], NotSupported),
                ([quic, silent], DialTimeout),
                ([silent, refusing, quic], Unreachable),
                ([refusing, garbling, silent], ProtocolError),
                ([refusing.with_peer(OWN)], InvalidArgument),
            ]
            for addresses, expected in cases:
                error = await one.dial_failed(one.dial(addresses, OTHER, force=True))
                assert isinstance(error, expected), (addresses, error)
                assert type(error) is not DialBackoff


@both_loops
async def test_a_name_is_looked_up_and_the_answer_can_be_dialled() -> None:
    async with hosts(2) as (one, two):
        port = two.addresses[0].value("tcp")
        lookups = {
            7: f"/dns4/localhost/tcp/{port}",
            8: f"/ip4/127.0.0.1/tcp/{port}/ws",
            9: "/dns4/nobody.invalid/tcp/1",
        }
        for lookup, text in lookups.items():
            one.do(events.Resolve(lookup, Multiaddr.from_text(text)))
        await one.node.saw(events.Resolved, len(lookups))
        results = {resolved.lookup: resolved.result for resolved in one.node.all(events.Resolved)}
        assert results[7] == two.addresses
        assert results[8] == (Multiaddr.from_text(f"/ip4/127.0.0.1/tcp/{port}/ws"),)
        assert isinstance(results[9], Unreachable)
        one.dial(results[7])
        assert (await one.node.saw(events.ConnectionOpened)).peer == two.peer


@one_loop
async def test_names_are_not_waited_for_at_the_end() -> None:
    async with hosts(1) as (one,):
        one.do(events.Resolve(1, Multiaddr.from_text("/dns4/localhost/tcp/1")))
        await one.runtime.close(1)
        one.do(events.Resolve(2, Multiaddr.from_text("/dns4/localhost/tcp/1")))
        assert not one.node.all(events.Resolved)


def test_a_looked_up_address_keeps_the_name_that_tls_asks_for() -> None:
    for text, expected in {
        "/dns4/a.example/tcp/1": "/ip4/192.0.2.1/tcp/1",
        "/dns4/a.example/ws": "/ip4/192.0.2.1/tcp/80/ws",
        "/dns/a.example/tcp/1/wss": "/ip4/192.0.2.1/tcp/1/tls/sni/a.example/ws",
        "/dns/a.example/tcp/1/tls/sni/b.example/ws": "/ip4/192.0.2.1/tcp/1/tls/sni/b.example/ws",
        "/ip4/192.0.2.1/tcp/1/tls/ws": "/ip4/192.0.2.1/tcp/1/tls/ws",
    }.items():
        address = Multiaddr.from_text(text)
        endpoint = address.endpoint()
        assert endpoint is not None
        assert str(Target(address, "192.0.2.1", endpoint.port, None).by_number()) == expected


@both_loops
async def test_oneself() -> None:
    async with hosts(2) as (one, two):
        for addresses, peer in ((one.addresses, None), (two.addresses, one.peer), (one.addresses, OTHER)):
            assert isinstance(await one.dial_failed(one.dial(addresses, peer)), SelfDial)
        twin = Host(1, one.runtime.config)  # the same identity elsewhere
        assert isinstance(await twin.dial_failed(twin.dial(one.addresses)), SelfDial)
        await twin.runtime.close(1)
        assert not one.node.all(events.ConnectionOpened)


@one_loop
async def test_an_address_that_failed_is_left_alone_for_a_while() -> None:
    async with hosts(1) as (one,):
        address = refusing_address()
        assert type(await one.dial_failed(one.dial([address], OTHER))) is Unreachable
        error = await one.dial_failed(one.dial([address], OTHER))
        assert isinstance(error, DialBackoff)
        assert "tried again in" in str(error)
        assert type(await one.dial_failed(one.dial([address], OTHER, force=True))) is Unreachable


@one_loop
async def test_no_room_for_another_connection() -> None:
    config = NetConfig(max_connections=1, reserved_outbound=0)
    async with hosts(3, config) as (one, two, three):
        await one.connect(two)
        error = await one.dial_failed(one.dial(three.addresses, three.peer))
        assert isinstance(error, TooManyConnections)
        error = await three.dial_failed(three.dial(one.addresses, one.peer))
        assert isinstance(error, ProtocolError | Unreachable | Closed)
        assert one.runtime.statistics().refused >= 1


@one_loop
async def test_names_are_resolved() -> None:
    async with hosts(2) as (one, two):
        port = two.addresses[0].value("tcp")
        one.dial([Multiaddr.from_text(f"/dns4/localhost/tcp/{port}")], two.peer)
        assert (await one.node.saw(events.ConnectionOpened)).remote == two.addresses[0]
        too_long = Multiaddr.from_text(f"/dns4/{'a' * 70}.example/tcp/{port}")
        assert isinstance(await one.dial_failed(one.dial([too_long], two.peer)), Unreachable)


@one_loop
async def test_a_name_that_others_told_is_not_followed_into_a_narrower_scope() -> None:
    async with hosts(2) as (one, two):
        port = two.addresses[0].value("tcp")
        name = Multiaddr.from_text(f"/dns4/localhost/tcp/{port}")
        for number, force in ((101, False), (102, True)):
            one.do(events.Dial(number, two.peer, (name.with_peer(two.peer),), force, told=((name, Scope.PRIVATE),)))
            error = await one.dial_failed(number)
            assert isinstance(error, InvalidArgument)
            assert "127.0.0.1" in str(error)
        one.do(events.Dial(103, two.peer, (name, two.addresses[0]), told=((name, Scope.PUBLIC),)))
        assert (await one.node.saw(events.ConnectionOpened)).dial == 103  # by the other address


@one_loop
async def test_a_name_may_lead_as_far_as_who_told_it_is_away() -> None:
    async with hosts(2) as (one, two):
        name = Multiaddr.from_text(f"/dns4/localhost/tcp/{two.addresses[0].value('tcp')}")
        one.do(events.Dial(101, two.peer, (name,), told=((name, Scope.LOOPBACK),)))
        assert (await one.node.saw(events.ConnectionOpened)).dial == 101


class Fake:
    """A dialer whose sockets are opened by the test."""

    def __init__(self, config: NetConfig) -> None:
        self.attempts: list[Attempt] = []
        self.aborted: list[int] = []
        self.failures: dict[int, SidecarError] = {}
        self.in_vain: dict[int, tuple[Multiaddr, ...]] = {}
        self._news = asyncio.Condition()
        self.dialer = Dialer(
            config,
            OWN,
            history=DialHistory(config, random.Random(1)),
            gate=Gate(),
            connect=self._connect,
            is_own_endpoint=lambda host, port: False,
            on_failed=self._failed,
            on_resolved=lambda lookup, result: None,
        )

    def _failed(self, number: int, error: SidecarError, addresses: tuple[Multiaddr, ...]) -> None:
        self.failures[number], self.in_vain[number] = error, addresses

    async def _connect(self, attempt: Attempt) -> "FakeConnection":
        async with self._news:
            self.attempts.append(attempt)
            self._news.notify_all()
        return FakeConnection(self, attempt)

    async def attempted(self, count: int) -> list[int]:
        """The ports tried so far, once they are `count`."""
        async with self._news:
            await self._news.wait_for(lambda: len(self.attempts) >= count)
        return [attempt.target.port for attempt in self.attempts]

    def dial(
        self, number: int, *ports: int, host: str = "127.0.0.1", peer: PeerId = OTHER, trusted: bool = False
    ) -> None:
        addresses = tuple(Multiaddr.tcp(host, port) for port in ports)
        self.dialer.dial(events.Dial(number, peer, addresses, trusted=trusted))


class FakeConnection:
    def __init__(self, fake: Fake, attempt: Attempt) -> None:
        self.fake, self.attempt = fake, attempt

    def abort(self, error: SidecarError | None = None) -> None:
        self.fake.aborted.append(self.attempt.target.port)


@one_loop
async def test_attempts_of_a_dial_are_few_and_a_failure_starts_the_next_at_once() -> None:
    fake = Fake(NetConfig(max_parallel_attempts=2, attempt_delay=0.001, max_addresses=4))
    fake.dial(1, 1, 2, 3, 4, 5)
    assert await fake.attempted(2) == [1, 2]
    fake.attempts[0].fail(Closed("no"))
    assert await fake.attempted(3) == [1, 2, 3]  # in the place of the first
    assert fake.attempts[1].finish()
    assert not fake.attempts[2].finish()  # the race is over
    await fake.dialer.close()
    assert fake.aborted == [1, 3]
    assert not fake.failures


def behind(relay: int) -> Multiaddr:
    """The address of the peer dialled, behind one of several relays."""
    identity = Identity(relay.to_bytes(32, "big"))
    return Multiaddr.from_text(f"/ip4/127.0.0.9/tcp/{relay}/p2p/{identity.peer_id}/p2p-circuit")


@one_loop
async def test_relays_wait_for_all_direct_addresses_to_fail_and_then_go_one_after_the_other() -> None:
    fake = Fake(NetConfig(attempt_delay=0.001, relay_delay=60.0))
    addresses = (behind(1), behind(2), Multiaddr.tcp("127.0.0.1", 3), Multiaddr.tcp("127.0.0.1", 4))
    fake.dialer.dial(events.Dial(1, OTHER, addresses))
    assert await fake.attempted(2) == [3, 4]
    fake.attempts[0].fail(Closed("no"))
    fake.attempts[1].fail(Closed("no"))
    await fake.attempted(3)
    assert fake.attempts[2].target.address == behind(1)
    fake.attempts[2].fail(Closed("no"))
    await fake.attempted(4)
    assert fake.attempts[3].target.address == behind(2)
    fake.attempts[3].fail(Closed("no"))
    await fake.dialer._tasks[1]
    assert fake.in_vain[1] == (addresses[2], addresses[3], behind(1), behind(2))


@one_loop
async def test_direct_addresses_that_hang_do_not_hold_the_relays() -> None:
    fake = Fake(NetConfig(attempt_delay=0.001, relay_delay=0.002, max_parallel_attempts=2))
    direct = tuple(Multiaddr.tcp("127.0.0.1", port) for port in (1, 2, 3))
    fake.dialer.dial(events.Dial(1, OTHER, (behind(1), behind(2), *direct)))
    await fake.attempted(4)
    assert [attempt.target.relay is not None for attempt in fake.attempts].count(True) == 2
    assert all(attempt.target.port != 3 for attempt in fake.attempts)
    await fake.dialer.close()


@one_loop
async def test_dials_in_flight_and_queued_are_bounded_and_closing_ends_them_all() -> None:
    fake = Fake(NetConfig(max_dials=2, max_queued_dials=2))
    for number in range(1, 6):
        fake.dial(number, number)
    assert isinstance(fake.failures.pop(5), QueueFull)
    assert (await fake.attempted(2), fake.dialer.in_flight, fake.dialer.queued) == ([1, 2], 2, 2)
    fake.attempts[0].fail(ProtocolError("no"))
    await fake.attempted(3)
    assert (fake.dialer.in_flight, fake.dialer.queued) == (2, 1)
    await fake.dialer.close()
    fake.dial(6, 6)
    assert isinstance(fake.failures.pop(1), ProtocolError)
    assert sorted(fake.failures) == [2, 3, 4, 6]
    assert all(type(error) is Closed for error in fake.failures.values())


@one_loop
async def test_the_whole_dial_has_its_deadline() -> None:
    fake = Fake(NetConfig(dial_timeout=0.05))
    fake.dial(1, 1)
    (attempt,) = [fake.attempts[0] for _ in await fake.attempted(1)]
    await fake.dialer._tasks[1]
    assert isinstance(fake.failures[1], DialTimeout)
    assert not attempt.finish()
    assert fake.aborted == [1]


@one_loop
async def test_a_relay_is_not_asked_twice_at_a_time() -> None:
    fake = Fake(NetConfig(attempt_delay=0.001, relay_delay=0.001))
    one, other = (Identity(bytes(31) + bytes((number,))).peer_id for number in (1, 2))
    addresses = tuple(
        Multiaddr.from_text(f"/ip4/192.0.2.{host}/tcp/4747/p2p/{relay}/p2p-circuit")
        for host, relay in ((1, one), (2, one), (3, other))
    )
    fake.dialer.dial(events.Dial(1, OTHER, (*addresses, Multiaddr.tcp("127.0.0.1", 4))))
    await fake.attempted(3)
    assert [attempt.target.relay and attempt.target.relay.peer_id for attempt in fake.attempts] == [None, one, other]
    fake.attempts[1].fail(Closed("no"))
    await fake.attempted(4)
    assert fake.attempts[3].target.address == addresses[1]
    fake.attempts[3].fail(Closed("no"))
    await fake.dialer.close()


@one_loop
async def test_a_dial_may_be_given_less_time() -> None:
    fake = Fake(NetConfig(dial_timeout=60.0))
    fake.dialer.dial(events.Dial(1, OTHER, (Multiaddr.tcp("127.0.0.1", 1),), within=0.05))
    await fake.attempted(1)
    await fake.dialer._tasks[1]
    assert str(fake.failures[1]) == "not connected within 0.05 s"


@one_loop
async def test_what_was_told_outlives_a_cancellation_in_the_same_turn() -> None:
    fake = Fake(NetConfig(attempt_delay=0.001))
    fake.dial(1, 1, 2)
    await fake.attempted(2)
    fake.attempts[0].fail(Closed("no"))
    assert fake.attempts[1].finish()
    await fake.dialer._tasks[1]
    assert fake.aborted == [1]
    assert not fake.failures


def made_up(count: int) -> list[PeerId]:
    return [Identity(number.to_bytes(32, "big")).peer_id for number in range(1000, 1000 + count)]


@one_loop
async def test_a_live_endpoint_named_under_made_up_ids_is_dialled_once_and_shows_who_is_there() -> None:
    fake = Fake(NetConfig())
    for number, peer in enumerate(made_up(40)):
        fake.dial(number, 1, peer=peer)
    fake.dial(100, 1)  # the peer that is there, named among them
    assert await fake.attempted(1) == [1]
    dials = list(fake.dialer._tasks.values())
    fake.attempts[0].fail(WrongPeer(f"{OTHER} answered", answered=OTHER))
    assert await fake.attempted(2) == [1, 1]
    assert fake.attempts[1].target.expected == OTHER
    assert fake.attempts[1].finish(OTHER)
    await asyncio.gather(*dials)
    assert len(fake.attempts) <= 3  # the success may have freed one more
    assert 100 not in fake.failures
    assert len(fake.failures) == 40
    assert {type(error) for error in fake.failures.values()} <= {WrongPeer, DialBackoff}
    assert any(f"{OTHER} answers, not " in str(error) for error in fake.failures.values())
    assert fake.dialer.held_off >= 38


@one_loop
async def test_a_dead_endpoint_named_under_made_up_ids_is_dialled_once_but_for_trusted_peers() -> None:
    fake = Fake(NetConfig())
    *strangers, trusted = made_up(20)
    for number, peer in enumerate(strangers):
        fake.dial(number, 1, peer=peer)
    assert await fake.attempted(1) == [1]
    dials = list(fake.dialer._tasks.values())
    fake.attempts[0].fail(Unreachable("refused"))
    await asyncio.gather(*dials)
    assert len(fake.attempts) == 1
    assert [type(fake.failures[number]) for number in range(19)] == [Unreachable, *[DialBackoff] * 18]
    fake.dial(50, 1, peer=trusted, trusted=True)
    await fake.attempted(2)
    assert fake.attempts[1].target.expected == trusted
    await fake.dialer.close()


@one_loop
async def test_another_identity_at_a_live_address_is_remembered_as_the_one_there() -> None:
    async with hosts(2) as (one, two):
        first, second, *_ = made_up(2)
        error = await one.dial_failed(one.dial(two.addresses, first))
        assert isinstance(error, WrongPeer)
        assert error.answered == two.peer
        error = await one.dial_failed(one.dial(two.addresses, second))
        assert isinstance(error, DialBackoff)
        assert f"{two.peer} answers, not {second}" in str(error)
        assert one.runtime.statistics().dials_held_off == 1
        assert (await one.connect(two)).peer == two.peer
        tried = [item for item in one.news if isinstance(item, EndpointTried)]
        assert [(news.endpoint.holder, news.endpoint.failures, news.failed) for news in tried] == [
            (two.peer, 1, first),
            (two.peer, 0, None),
        ]


@pytest.mark.parametrize("error", [ValueError("a defect"), OSError(24, "Too many open files")])
@one_loop
async def test_failures_of_our_own(error: Exception, caplog: pytest.LogCaptureFixture) -> None:
    fake = Fake(NetConfig())

    async def connect(attempt: Attempt) -> FakeConnection:
        raise error

    fake.dialer._connect = connect
    for number in (1, 2):
        fake.dial(number, 1)
        await fake.dialer._tasks[number]
        assert type(fake.failures[number]) is not DialBackoff  # the address is not to blame
    assert ("internal error" in caplog.text) == isinstance(error, ValueError)


def _opens(writer: asyncio.StreamWriter) -> None:
    """Say what a dialler says first."""
    channel = Channel(
        Identity(bytes([79]) * 32),
        dialer=True,
        expected_peer=None,
        limits=ChannelLimits(),
        pull=lambda stream, limit: (),
        accepts=lambda protocol: False,
        ephemeral=bytes([80]) * 32,
        now=0.0,
    )
    writer.writelines(channel.data_to_send(4096))


@asynccontextmanager
async def crossing_address(times: int, then: Host | None) -> AsyncIterator[tuple[Multiaddr, list[tuple[str, int]]]]:
    """Where so many dials meet one of the other side, and later ones lead to a host; and from where they came."""
    came: list[tuple[str, int]] = []
    relays: list[asyncio.Task[None]] = []

    async def carry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter | None) -> None:
        with contextlib.suppress(ConnectionResetError):
            while data := await reader.read(65536):
                if writer is not None:
                    writer.write(data)
        if writer is not None:
            writer.close()

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        came.append(writer.get_extra_info("peername"))
        if len(came) <= times or then is None:
            _opens(writer)
            await carry(reader, None)
            writer.close()
            return
        endpoint = then.addresses[0].endpoint()
        assert endpoint is not None
        onward, back = await asyncio.open_connection(endpoint.host, endpoint.port)
        relays.extend(asyncio.ensure_future(carry(*pair)) for pair in ((reader, back), (onward, writer)))

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    async with server:
        yield Multiaddr.tcp(*server.sockets[0].getsockname()), came
    await asyncio.gather(*relays)


@one_loop
async def test_two_dials_that_cross_are_made_up_for_from_another_port_at_once() -> None:
    config = NetConfig(dial_from_listener=True)
    async with hosts(2, config) as (one, two), crossing_address(1, two) as (address, came):
        number = one.dial([address], two.peer)
        opened = await one.node.saw(events.ConnectionOpened)
        assert (opened.dial, opened.remote, opened.failed) == (number, address, ())
        await one.runtime.close(1)
        await two.runtime.close(1)
    listened = one.addresses[0].endpoint()
    assert listened is not None
    if sys.platform == "linux":  # elsewhere ports are not dialled from while they are listened at
        assert came[0][1] == listened.port
    assert came[1][1] != listened.port
    assert one.runtime.statistics().handshakes["SimultaneousOpen"] == 1


@one_loop
async def test_who_is_dialled_and_always_begins_is_dialled_twice_at_most() -> None:
    async with hosts(1, NetConfig(dial_from_listener=True)) as (one,), crossing_address(9, None) as (address, came):
        error = await one.dial_failed(one.dial([address], OTHER))
        assert type(error) is HandshakeError
        assert len(came) == 2
