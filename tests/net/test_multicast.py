"""Multicast DNS on the loopback interface: nodes of one machine find each other."""

import asyncio
import os

from sidecar.core.identity import Identity
from sidecar.core.mdns.discovery import LocalPeer
from sidecar.core.multiaddr import Multiaddr
from sidecar.core.types import PeerId
from sidecar.net.interfaces import interface_addresses, links
from sidecar.net.multicast import MulticastDns, fingerprint

from .harness import both_loops


class Neighbour:
    def __init__(self, number: int, network: str, psk: bytes | None = None) -> None:
        self.peer = Identity(bytes([number]) * 32).peer_id
        self.found: dict[PeerId, tuple[Multiaddr, ...]] = {}
        self.heard = asyncio.Event()
        self.listening = Multiaddr.tcp("127.0.0.1", number)
        self.mdns = MulticastDns(self.peer, network, psk, [self.listening], self._on_found)

    def _on_found(self, peers: "list[LocalPeer]") -> None:
        self.found.update(peers)
        self.heard.set()

    async def finds(self, other: "Neighbour") -> None:
        while other.peer not in self.found:
            self.heard.clear()
            await self.heard.wait()
        assert self.found[other.peer] == (other.listening,)


@both_loops
async def test_nodes_of_one_mesh_find_each_other_and_no_others() -> None:
    mesh = f"test-{os.getpid()}-{id(asyncio.get_running_loop())}"  # other tests run beside this one
    psk = os.urandom(32)
    nodes = [Neighbour(1, mesh), Neighbour(2, mesh), Neighbour(3, mesh, psk), Neighbour(4, mesh, psk)]
    try:
        for node in nodes:
            node.mdns.open()
        await asyncio.gather(
            *(a.finds(b) for a, b in ((nodes[0], nodes[1]), (nodes[1], nodes[0]), (nodes[2], nodes[3])))
        )
        assert nodes[0].mdns.statistics().links >= 1
        assert not {nodes[2].peer, nodes[3].peer} & {*nodes[0].found, *nodes[1].found}
    finally:
        for node in nodes:
            node.mdns.close()


def test_links_have_the_addresses_of_this_machine() -> None:
    here = [address for link in links() if link.family == "ip4" for address in link.addresses]
    assert "127.0.0.1" in here
    assert set(here) <= set(interface_addresses("ip4"))


def test_a_private_network_is_known_by_what_does_not_tell_its_key() -> None:
    one, two = fingerprint(bytes(32)), fingerprint(bytes(31) + b"\x01")
    assert len(one) == 16
    assert one != two
