"""Port mapping on sockets: routes, whom to ask at all, HTTP servers that misbehave, and a gateway on loopback."""

import asyncio
import contextlib
import logging
import os
import re
import socket
import sys
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import cast

import pytest

from sidecar.core.errors import ProtocolError
from sidecar.core.events import PortMapping, PortMappingState, PortsMapped
from sidecar.core.multiaddr import Multiaddr
from sidecar.core.portmap.http import MAX_BODY
from sidecar.core.portmap.method import Datagram, Gateway, GatewayRequest
from sidecar.net import gateway, port_mapping
from sidecar.net.config import PortMappingConfig
from sidecar.net.gateway_sockets import fetch

from ..core.portmap.fake_gateway import FakeGateway
from .harness import both_loops

HEADING = "Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT\n"
ON = PortMappingConfig(mode="on")


def route(gateway: str, *, to: str = "00000000", flags: int = 3, metric: int = 0, mask: str = "00000000") -> str:
    """A line of the routing table; the addresses as this machine's numbers."""
    number = int.from_bytes(socket.inet_aton(gateway), sys.byteorder)
    return f"eth0\t{to}\t{number:08X}\t{flags:04X}\t0\t0\t{metric}\t{mask}\t0\t0\t0\n"


def test_the_gateway_is_that_of_the_default_route_with_the_least_metric() -> None:
    assert gateway.parse_routes(HEADING) is None
    assert gateway.parse_routes("") is None
    lines = [
        route("10.0.0.1", metric=600),
        route("192.168.1.1", metric=100),
        route("192.168.1.2", flags=2),  # down
        route("0.0.0.0", flags=1),  # a link, no gateway
        route("192.168.1.3", to="0000000A", mask="000000FF"),
        "eth0\tgarbage\n",
        "eth0\t00000000\t1FFFFFFFFFF\t0003\t0\t0\t0\t00000000\n",
    ]
    assert gateway.parse_routes(HEADING + "".join(lines)) == "192.168.1.1"


def test_this_machine_has_an_address_toward_its_gateway(tmp_path: Path) -> None:
    table = tmp_path / "route"
    assert gateway.default_gateway("ip4", {"ip4": table}) is None
    table.write_text(HEADING + route("127.0.0.1"))
    assert gateway.default_gateway("ip4", {"ip4": table}) == Gateway("127.0.0.1", "127.0.0.1")


def test_the_gateway_of_ipv6_comes_with_its_link() -> None:
    nothing, some = 32 * "0", "fe800000000000000000000000000001"
    lines = [
        f"{nothing} 00 {nothing} 00 {nothing} ffffffff 00000001 00000000 00200200       lo",
        f"20010db8000000000000000000000000 40 {nothing} 00 {some} 00000001 00000001 00000000 00000003     eth9",
        f"{nothing} 00 {nothing} 00 {some} 00000400 00000001 00000000 00000003     eth1",
        f"{nothing} 00 {nothing} 00 {some[:-1]}2 00000100 00000001 00000000 00000003     eth0",
        f"{nothing} 00 {nothing} 00 {some[:-1]}3 00000001 00000001 00000000 00000002     eth2",
        "garbage",
    ]
    assert gateway.parse_ip6_routes("\n".join(lines)) == ("fe80::2", "eth0")
    assert gateway.parse_ip6_routes("") == (None, "")


@pytest.mark.parametrize("mark", [".dockerenv", "run/.containerenv", "run/systemd/container"])
def test_containers_are_told_by_what_their_engines_leave_there(tmp_path: Path, mark: str) -> None:
    assert not gateway.in_container({}, tmp_path)
    assert gateway.in_container({"KUBERNETES_SERVICE_HOST": "10.96.0.1"}, tmp_path)
    assert gateway.in_container({"container": "lxc"}, tmp_path)
    (tmp_path / mark).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / mark).touch()
    assert gateway.in_container({}, tmp_path)


def test_whom_nobody_asks_for_is_not_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    everywhere = Multiaddr.from_text("/ip4/0.0.0.0/tcp/4747")

    def state(config: PortMappingConfig, listening: Multiaddr = everywhere) -> str:
        refusal = gateway.not_asked(config, [listening, Multiaddr.from_text("/ip6/::1/tcp/4747")])
        assert refusal is None or refusal.state is PortMappingState.OFF
        return "" if refusal is None else refusal.message

    auto = PortMappingConfig(mode="auto")
    monkeypatch.setattr(gateway, "in_container", lambda: True)
    assert state(auto) == "nat.mapping is auto, and this is a container"
    assert not state(ON)
    monkeypatch.setattr(gateway, "in_container", lambda: False)
    assert not state(auto)
    assert "listen.announce" in state(replace(auto, announced=True))
    assert not state(replace(ON, announced=True))
    assert state(PortMappingConfig(mode="off")) == "nat.mapping is off"
    assert "listens at no address" in state(ON, Multiaddr.from_text("/ip4/127.0.0.1/tcp/4747/ws"))
    assert not state(ON, Multiaddr.from_text("/ip4/192.168.1.5/tcp/4747"))


# ---------------------------------------------------------------- HTTP


@contextlib.asynccontextmanager
async def http_server(answer: bytes, *, ends: bool = True) -> AsyncIterator[int]:
    """Answers whatever comes with the same; `ends`: and closes then. Where it listens."""
    over = asyncio.Event()
    serving: list[asyncio.Task[None]] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        serving.append(task)
        with contextlib.suppress(ConnectionError):
            await reader.readuntil(b"\r\n\r\n")
            writer.write(answer)
            await writer.drain()
            if not ends:
                await over.wait()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        over.set()
        server.close()
        if serving:
            await asyncio.wait(serving)


def get(port: int) -> GatewayRequest:
    return GatewayRequest(1, "127.0.0.1", port, b"GET / HTTP/1.1\r\n\r\n")


@both_loops
async def test_a_request_gets_its_answer_and_does_not_wait_for_the_end_of_the_connection() -> None:
    async with http_server(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi", ends=False) as port:
        assert (await fetch(get(port), "127.0.0.1")).body == b"hi"


@both_loops
async def test_what_is_too_large_or_cut_short_is_refused() -> None:
    for answer in (
        b"HTTP/1.1 200 OK\r\n\r\n" + bytes(MAX_BODY + 1),
        b"HTTP/1.1 200 OK\r\nContent-Length: 20\r\n\r\nhi",
        b"HTTP/1.1 200 OK\r\n",
        b"",
    ):
        async with http_server(answer) as port:
            with pytest.raises(ProtocolError):
                await fetch(get(port), "127.0.0.1")


# ---------------------------------------------------------------- a whole one


class LoopbackGateway(asyncio.DatagramProtocol):
    """A gateway at an address of loopback that no other test has."""

    def __init__(self, number: int, *speaks: str) -> None:
        self.host = f"127.{os.getpid() // 256 % 200 + 20}.{os.getpid() % 256}.{number}"
        self.fake = FakeGateway(*speaks)
        self.fake.own = self.host
        self.silent = False
        self.told: list[PortsMapped] = []
        self.news = asyncio.Event()
        self._transport: asyncio.DatagramTransport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.DatagramTransport, transport)

    def datagram_received(self, data: bytes, address: tuple[str, int]) -> None:
        if not self.silent:
            for answer in self.fake.answers(Datagram(self.host, 5351, data), 0.0):
                self._transport.sendto(answer, address)

    def changed(self, told: PortsMapped) -> None:
        self.told.append(told)
        self.news.set()

    async def until(self, state: PortMappingState) -> PortsMapped:
        while not self.told or self.told[-1].state is not state:
            self.news.clear()
            await self.news.wait()
        return self.told[-1]


@pytest.fixture(autouse=True)
def said(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "sidecar.net.port_mapping")


@contextlib.asynccontextmanager
async def asked(
    number: int, *speaks: str, config: PortMappingConfig = ON, listening: str = "/ip4/0.0.0.0/tcp/4747"
) -> AsyncIterator[tuple[LoopbackGateway, port_mapping.PortMappings]]:
    """A gateway, and what asks it for one port of WebSocket and one of loopback that is of no use."""
    router = LoopbackGateway(number, *speaks)
    loop = asyncio.get_running_loop()
    transport = None
    if speaks:
        transport, _ = await loop.create_datagram_endpoint(lambda: router, local_addr=(router.host, 5351))
    bound = [Multiaddr.from_text(listening), Multiaddr.from_text("/ip6/::/tcp/4749")]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            port_mapping,
            "default_gateway",
            lambda family: Gateway(router.host, router.host) if family == "ip4" else None,
        )
        mappings = port_mapping.PortMappings(config, bound, b"secret", router.changed)
        try:
            mappings.open()
            yield router, mappings
        finally:
            await mappings.close(0.0)
            if transport is not None:
                transport.close()


@both_loops
async def test_ports_are_mapped_told_with_what_is_spoken_there_and_removed() -> None:
    async with asked(1, "pcp", listening="/ip4/0.0.0.0/tcp/4747/ws") as (router, mappings):
        told = await router.until(PortMappingState.MAPPED)
        assert [(str(each.address), each.port) for each in told.mappings] == [("/ip4/203.0.113.9/tcp/4747/ws", 4747)]
        assert (told.protocol, told.gateway, told.remedy) == ("pcp", router.host, "")
        assert mappings.statistics().mappings == 1
        await mappings.close(10.0)
        assert not router.fake.mapped


@both_loops
async def test_an_end_does_not_wait_for_a_gateway_that_does_not_answer(caplog: pytest.LogCaptureFixture) -> None:
    async with asked(2, "nat-pmp") as (router, mappings):
        await router.until(PortMappingState.MAPPED)
        router.silent = True
        await mappings.close(0.05)
        assert "has not said within 0.05 s" in caplog.text


@both_loops
async def test_where_nothing_listens_the_next_protocol_is_tried_at_once() -> None:
    config = replace(ON, protocols=("pcp", "nat-pmp"))
    async with asked(3, config=config) as (router, _):
        told = await router.until(PortMappingState.NO_ANSWER)
        assert "pcp: nothing listens there; nat-pmp: nothing listens there" in told.message
        assert "Turn on UPnP" in told.remedy


@both_loops
async def test_an_address_outside_that_is_private_is_told_with_a_remedy(caplog: pytest.LogCaptureFixture) -> None:
    async with asked(4, "pcp") as (loopback, _):
        loopback.fake.outside = "10.9.8.7"
        told = await loopback.until(PortMappingState.MAPPED)
        assert "another NAT" in told.message
        assert "relay" in told.remedy
        assert any(record.levelno == logging.WARNING for record in caplog.records)


@both_loops
async def test_a_node_that_listens_at_another_address_alone_has_nothing_to_map() -> None:
    async with asked(5, "pcp", listening="/ip4/192.168.7.7/tcp/4747") as (router, mappings):
        told = await router.until(PortMappingState.OFF)
        assert "does not listen" in told.message
        assert mappings.statistics().requests == 0


def test_what_is_read_of_proc_is_there_where_only_processes_are_shown() -> None:
    # The systemd unit has ProcSubset=pid: there is no /proc/net, but /proc/self/net.
    package = Path(gateway.__file__).parent
    found = [path for file in package.rglob("*.py") for path in re.findall(r'"(/proc/[^"]*)', file.read_text())]
    assert "/proc/self/net/route" in found
    assert not [path for path in found if not path.startswith(("/proc/self/", "/proc/{"))]


def test_what_two_gateways_say_becomes_one() -> None:
    def mapped(address: str) -> PortsMapped:
        mapping = PortMapping(Multiaddr.from_text(address), 4747, 600.0)
        return PortsMapped(PortMappingState.MAPPED, f"at {address}", "", "192.168.1.1", "pcp", (mapping,))

    four, six = mapped("/ip4/203.0.113.9/tcp/4747"), mapped("/ip6/2001:db8::5/tcp/4747")
    silent = PortsMapped(PortMappingState.NO_ANSWER, "silent", "Do this.")
    nowhere = PortsMapped(PortMappingState.NO_GATEWAY, "nowhere")
    asking = PortsMapped(PortMappingState.ASKING, "asking")
    assert port_mapping.together([four]) == four
    assert port_mapping.together([silent, six]) == six
    assert port_mapping.together([silent, nowhere]) == silent
    assert port_mapping.together([silent, asking]) == asking
    both = port_mapping.together([four, six])
    assert both.mappings == (*four.mappings, *six.mappings)
    assert both.message == f"{four.message}; {six.message}"
