"""`/dnsaddr` names: what they stand for, through a name server of our own and the dialer."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

import dns.message
import dns.rcode
import dns.rrset
import pytest

from sidecar.core import events
from sidecar.core.errors import DialTimeout, NotSupported, SidecarError, Unreachable
from sidecar.core.identity import Identity
from sidecar.core.multiaddr import Multiaddr
from sidecar.net.config import NetConfig
from sidecar.net.dnsaddr import Found, TextRecords, expand

from .harness import both_loops, hosts

ONE, TWO = (Identity(bytes([number]) * 32).peer_id for number in (1, 2))
A = Multiaddr.from_text(f"/ip4/192.0.2.1/tcp/1/p2p/{ONE}")
B = Multiaddr.from_text(f"/dns4/b.example/tcp/2/p2p/{TWO}")


def expanded(text: str, zone: Mapping[str, "list[str] | SidecarError"]) -> tuple[Found, list[str]]:
    """What an address stands for, and the names asked for, in order."""
    asked: list[str] = []

    async def look_up(name: str) -> list[str]:
        asked.append(name)
        answer = zone.get(name, Unreachable(f"{name} has no TXT records"))
        if isinstance(answer, SidecarError):
            raise answer
        return answer

    address = Multiaddr.from_text(text)
    return asyncio.run(expand(address, address.peer_id, look_up)), asked


def test_a_name_stands_for_the_addresses_in_its_records() -> None:
    zone = {
        "_dnsaddr.a.example": [f"dnsaddr={A}", "v=spf1 -all", f"dnsaddr={B}", "dnsaddr=/no/address", f"dnsaddr={A}"]
    }
    found, asked = expanded("/dnsaddr/a.example", zone)
    assert found == [(A, ONE), (B, TWO)]
    assert asked == ["_dnsaddr.a.example"]


def test_only_what_ends_as_the_address_does_counts() -> None:
    bare = "/ip4/192.0.2.3/tcp/3"
    found, _ = expanded(
        f"/dnsaddr/a.example/p2p/{TWO}", {"_dnsaddr.a.example": [f"dnsaddr={A}", f"dnsaddr={B}", f"dnsaddr={bare}"]}
    )
    assert found == [(B, TWO)]


def test_names_lead_to_names_in_bounds() -> None:
    zone: dict[str, list[str] | SidecarError] = {
        f"_dnsaddr.{depth}.example": [f"dnsaddr=/dnsaddr/{depth + 1}.example", f"dnsaddr=/ip4/192.0.2.{depth}/tcp/1"]
        for depth in range(9)
    }
    found, asked = expanded("/dnsaddr/0.example", zone)
    assert len(asked) == 4
    assert [str(address) for address, _ in found] == [f"/ip4/192.0.2.{depth}/tcp/1" for depth in range(4)]


def test_a_circle_of_names_is_gone_round_once() -> None:
    zone: dict[str, list[str] | SidecarError] = {
        "_dnsaddr.a.example": ["dnsaddr=/dnsaddr/b.example"],
        "_dnsaddr.b.example": ["dnsaddr=/dnsaddr/A.example", f"dnsaddr={A}"],
    }
    found, asked = expanded("/dnsaddr/a.example", zone)
    assert found == [(A, ONE)]
    assert asked == ["_dnsaddr.a.example", "_dnsaddr.b.example"]


def test_a_name_that_names_hundreds_is_followed_within_bounds() -> None:
    names = [f"dnsaddr=/dnsaddr/{number}.example" for number in range(500)]
    addresses = [f"dnsaddr=/ip4/192.0.2.1/tcp/{port}" for port in range(1, 501)]
    found, asked = expanded("/dnsaddr/a.example", {"_dnsaddr.a.example": names + addresses})
    assert (len(found), len(asked)) == (100, 16)


def test_a_further_name_that_fails_costs_nothing_of_the_others() -> None:
    zone: dict[str, list[str] | SidecarError] = {
        "_dnsaddr.a.example": ["dnsaddr=/dnsaddr/gone.example", f"dnsaddr={A}"],
        "_dnsaddr.gone.example": DialTimeout("no answer"),
    }
    assert expanded("/dnsaddr/a.example", zone)[0] == [(A, ONE)]


def test_a_name_without_addresses_says_so() -> None:
    with pytest.raises(Unreachable, match=r"_dnsaddr\.a\.example has no TXT records"):
        expanded("/dnsaddr/a.example", {})
    with pytest.raises(Unreachable, match=f"leads to an address of {TWO}"):
        expanded(f"/dnsaddr/a.example/p2p/{TWO}", {"_dnsaddr.a.example": [f"dnsaddr={A}"]})


class NameServer(asyncio.DatagramProtocol):
    """Answers TXT questions of a zone; names that it does not know do not exist."""

    def __init__(self, zone: Mapping[str, list[str]]) -> None:
        self.zone = zone

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport: Any = transport  # uvloop's and asyncio's have no base in common

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        answer = answered(data, self.zone)
        if answer is not None:
            self.transport.sendto(answer, addr)


def answered(data: bytes, zone: Mapping[str, list[str]]) -> bytes | None:
    """What a name server with the zone answers; None: it is silent."""
    question = dns.message.from_wire(data)
    answer = dns.message.make_response(question)
    name = question.question[0].name
    texts = zone.get(name.to_text(omit_final_dot=True))
    if texts == ["silence"]:
        return None
    if texts is None:
        answer.set_rcode(dns.rcode.NXDOMAIN)
    elif texts:
        answer.answer.append(dns.rrset.from_text(name, 60, "IN", "TXT", *(f'"{text}"' for text in texts)))
    return answer.to_wire()


@asynccontextmanager
async def name_server(zone: Mapping[str, list[str]]) -> AsyncIterator[tuple[str, int]]:
    loop = asyncio.get_running_loop()
    transport, _ = await loop.create_datagram_endpoint(lambda: NameServer(zone), ("127.0.0.1", 0))
    host, port = transport.get_extra_info("sockname")[:2]
    try:
        yield host, port
    finally:
        transport.close()


@both_loops
async def test_records_are_asked_for_at_the_servers_that_are_named() -> None:
    zone = {"_dnsaddr.a.example": ["one", "two"], "_dnsaddr.empty.example": [], "_dnsaddr.slow.example": ["silence"]}
    async with name_server(zone) as server:
        records = TextRecords((server,), 0.3)
        assert sorted(await records.look_up("_dnsaddr.a.example")) == ["one", "two"]
        for name in ("_dnsaddr.empty.example", "_dnsaddr.none.example"):
            with pytest.raises(Unreachable, match="has no TXT records"):
                await records.look_up(name)
        with pytest.raises(DialTimeout, match=r"did not answer within 0\.3 s"):
            await records.look_up("_dnsaddr.slow.example")


@both_loops
async def test_a_name_is_dialled_by_those_who_chose_it() -> None:
    zone: dict[str, list[str]] = {}
    async with name_server(zone) as server, hosts(2, NetConfig(dns_servers=(server,))) as (one, two):
        zone["_dnsaddr.mesh.example"] = [f"dnsaddr={two.addresses[0].with_peer(two.peer)}"]
        name = Multiaddr.from_text("/dnsaddr/mesh.example")
        one.do(events.Resolve(1, name))
        assert (await one.node.saw(events.Resolved)).result == (two.addresses[0].with_peer(two.peer),)
        refused = await one.dial_failed(one.dial([name], two.peer))  # as a stranger may have told
        assert isinstance(refused, NotSupported)
        one.dial([name], two.peer, force=True)
        assert (await one.node.saw(events.ConnectionOpened)).peer == two.peer
