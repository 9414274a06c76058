"""What becomes of the addresses that a gateway has mapped to a node, on virtual time."""

from sidecar.core import events
from sidecar.core.autonat import AddressSource, Reachability
from sidecar.core.multiaddr import Multiaddr
from sidecar.core.node import NodeConfig
from sidecar.core.parameters import AutonatConfig
from sidecar.sim import SimPeer, Simulation

QUIET = NodeConfig(target_peers=0, target_outbound=0)
SILENT = NodeConfig(target_peers=0, target_outbound=0, autonat=AutonatConfig(ask=False))
OUTSIDE = Multiaddr.from_text("/ip4/203.0.113.9/tcp/4747")


def mapped(address: Multiaddr = OUTSIDE) -> events.PortsMapped:
    mapping = events.PortMapping(address, 4747, 600.0)
    state = events.PortMappingState.MAPPED
    return events.PortsMapped(state, "mapped", gateway="10.0.0.1", protocol="pcp", mappings=(mapping,))


def at_home(config: NodeConfig = QUIET) -> tuple[Simulation, SimPeer, list[SimPeer]]:
    """A node with a private address, and four peers in networks of their own that it is connected to."""
    simulation = Simulation(1)
    node = simulation.add(config, host="10.0.0.5")
    others = [simulation.add(SILENT, host=f"198.51.{number}.1") for number in range(4)]
    for other in others:
        node.ask(lambda op, to=other: events.ConnectRequested(op, to.identity.peer_id, (to.address,)))
    simulation.run(5)
    return simulation, node, others


def known(node: SimPeer, others: list[SimPeer]) -> list[bool]:
    """Whether the others have been told of the address outside."""
    views = [other.node.peer(node.identity.peer_id) for other in others]
    return [view is not None and OUTSIDE in view.addresses for view in views]


def test_a_mapped_address_is_announced_at_once_until_peers_find_that_they_do_not_reach_it() -> None:
    simulation, node, others = at_home()
    assert node.node.addresses().announced == ()
    node.feed(mapped())
    assert node.node.addresses().announced == (node.address, OUTSIDE)
    (view,) = node.node.addresses().verdicts
    assert (view.address, view.source, view.verdict) == (OUTSIDE, AddressSource.MAPPED, Reachability.UNKNOWN)
    simulation.run(2)
    assert known(node, others) == [True] * 4
    simulation.run(300)  # nobody is there: the gateway has said what is not so
    addresses = node.node.addresses()
    assert [view.verdict for view in addresses.verdicts] == [Reachability.UNREACHABLE]
    assert addresses.announced == ()
    assert addresses.mapping == mapped(), "it is shown all the same"


def test_one_that_is_mapped_no_more_is_announced_no_more() -> None:
    _, node, _ = at_home()
    node.feed(mapped())
    node.feed(events.PortsMapped(events.PortMappingState.NO_ANSWER, "gone"))
    assert node.node.addresses().announced == ()
    assert node.node.addresses().verdicts == ()


def test_without_asking_peers_it_is_announced_too() -> None:
    _, node, _ = at_home(SILENT)
    node.feed(mapped())
    assert node.node.addresses().announced == (node.address, OUTSIDE)


def test_one_behind_another_nat_is_not_announced() -> None:
    for text in ("/ip4/10.9.8.7/tcp/4747", "/ip4/100.64.1.2/tcp/4747", "/ip4/192.168.0.9/tcp/4747"):
        _, node, _ = at_home()
        node.feed(mapped(Multiaddr.from_text(text)))
        assert node.node.addresses().announced == ()
        assert node.node.addresses().verdicts == ()
        assert node.node.addresses().mapping.mappings


def test_what_is_configured_is_announced_alone() -> None:
    _, node, _ = at_home()
    chosen = Multiaddr.from_text("/dns4/node.example.org/tcp/4747")
    node.feed(events.AddressesChanged((node.address,), (chosen,)))
    node.feed(mapped())
    assert node.node.addresses().announced == (chosen,)
