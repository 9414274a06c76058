"""How often unproved addresses are dialled."""

from sidecar.core.multiaddr import Multiaddr
from sidecar.core.networks import LOCAL_NETWORKS, Network
from sidecar.core.node.dial_budget import DialBudget


def at(host: str, port: int = 4747) -> Multiaddr:
    return Multiaddr.tcp(host, port)


def dials(budget: DialBudget, addresses: list[Multiaddr], now: float, *, first: int = 0) -> int:
    """How many of the addresses are dialled one after the other, each in vain."""
    made = 0
    for number, address in enumerate(addresses, first):
        if budget.affordable((address,), None, now):
            budget.began(number, (address,), None, now)
            budget.over(number, True, now)
            made += 1
    return made


def test_an_address_is_dialled_in_vain_a_few_times() -> None:
    budget = DialBudget(LOCAL_NETWORKS)
    ports = [at("203.0.113.5", port) for port in range(1, 101)]
    assert dials(budget, ports, 0.0) == 8
    assert dials(budget, ports, 29.0) == 0
    assert dials(budget, ports, 30.0) == 1
    assert sum(dials(budget, ports, 30.0 + second) for second in range(1, 601)) == 20
    assert dials(budget, [at("198.51.100.1")], 630.0) == 1  # others do not suffer


def test_a_network_is_dialled_in_vain_some_times() -> None:
    budget = DialBudget(LOCAL_NETWORKS)
    hosts = [at(f"203.0.113.{host}") for host in range(256)]
    assert dials(budget, hosts, 0.0) == 32
    assert dials(budget, hosts, 10.0) == 1
    assert dials(budget, [at(f"2001:db8:0:{host:x}::1") for host in range(256)], 0.0) == 32
    assert dials(budget, [at("203.0.114.1")], 0.0) == 1


def test_what_succeeds_costs_nothing_nor_does_what_is_proved_or_exempt() -> None:
    budget = DialBudget(LOCAL_NETWORKS)
    for number in range(1000):
        address = at("203.0.113.5", 1 + number)
        assert budget.affordable((address,), None, 0.0)
        budget.began(number, (address,), None, 0.0)
        budget.over(number, False, 0.0)
    assert dials(budget, [at("203.0.113.5")] * 100, 0.0) == 8
    assert budget.affordable((at("203.0.113.5"), at("203.0.113.5", 1)), at("203.0.113.5"), 0.0) == (at("203.0.113.5"),)
    assert dials(budget, [at("10.0.0.1")] * 100, 0.0) == 100
    assert dials(DialBudget(()), [at("10.0.0.1")] * 100, 0.0) == 8
    assert dials(DialBudget((Network.from_text("203.0.113.0/24"),)), [at("203.0.113.5")] * 100, 0.0) == 100


def test_dials_under_way_count() -> None:
    budget = DialBudget(LOCAL_NETWORKS)
    for number in range(8):
        budget.began(number, (at("203.0.113.5", number),), None, 0.0)
    assert not budget.affordable((at("203.0.113.5"),), None, 0.0)
    budget.over(3, False, 0.0)
    assert budget.affordable((at("203.0.113.5"),), None, 0.0)


def test_memory_is_bounded() -> None:
    budget = DialBudget(LOCAL_NETWORKS)
    for number in range(20_000):
        budget.began(number, (at(f"{1 + number % 7}.{number >> 8 & 255}.{number & 255}.1"),), None, 0.0)
    assert len(budget._spent) <= 4096
    assert len(budget._dials) <= 4096
