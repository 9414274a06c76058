"""Nodes that find each other on a link, on virtual time."""

import random
from collections.abc import Sequence

from sidecar.core.identity import Identity
from sidecar.core.mdns.discovery import LocalDiscovery, LocalPeer
from sidecar.core.mdns.messages import encode_answer, encode_question, service_of
from sidecar.core.multiaddr import Multiaddr
from sidecar.core.types import PeerId

SERVICE = service_of(None)


class Neighbour:
    def __init__(self, number: int, network: str = "main", service: str = SERVICE) -> None:
        self.peer = Identity(bytes([number]) * 32).peer_id
        self.address = Multiaddr.from_text(f"/ip4/192.168.1.{number}/tcp/4747")
        self.machine = LocalDiscovery(self.peer, network, service, random.Random(number))
        self.found: dict[PeerId, tuple[Multiaddr, ...]] = {}
        self.sent: list[tuple[float, bytes]] = []


def play(nodes: Sequence[Neighbour], until: float, now: float = 0.0) -> float:
    """Let them talk on one link, each hearing everything at once, itself included."""
    while (due := min(node.machine.next_deadline() or until for node in nodes)) < until:
        now = max(now, due)
        for node in nodes:
            node.machine.handle_deadline(now)
            for link, data in node.machine.data_to_send():
                node.sent.append((now, data))
                for other in nodes:
                    for peer, addresses in other.machine.receive_datagram(data, link, now):
                        other.found[peer] = addresses
    return now


def linked(*nodes: Neighbour, now: float = 0.0) -> tuple[Neighbour, ...]:
    for node in nodes:
        node.machine.relink({"eth0": (node.address,)}, now)
    return nodes


def test_all_on_a_link_find_all_others_within_a_second() -> None:
    nodes = linked(*(Neighbour(number) for number in range(1, 6)))
    play(nodes, 1.5)
    for node in nodes:
        assert node.found == {other.peer: (other.address,) for other in nodes if other is not node}


def test_who_comes_later_is_heard_by_those_who_have_long_asked_nothing() -> None:
    (first,) = linked(Neighbour(1))
    now = play([first], 500.0)
    late = Neighbour(2)
    linked(late, now=now)
    play([first, late], now + 1.5, now)
    assert first.found == {late.peer: (late.address,)}
    assert late.found == {first.peer: (first.address,)}


def test_questions_grow_rare_and_answers_are_bounded() -> None:
    nodes = linked(Neighbour(1), Neighbour(2))
    play(nodes, 3600.0)
    questions = nodes[0].machine.statistics().questions
    assert 3600 / 120 <= questions <= 3600 / 120 / 0.9 + 9
    asked = Neighbour(3)
    linked(asked, now=3600.0)
    for _ in range(100):
        asked.machine.receive_datagram(encode_question(SERVICE), "eth0", 3600.0)
        asked.machine.handle_deadline(3600.2)
    assert asked.machine.statistics().answers == 1  # one a second, however often it is asked


def test_another_mesh_and_a_private_network_are_not_told() -> None:
    nodes = linked(Neighbour(1), Neighbour(2, "other"), Neighbour(3, service=service_of(bytes(16))))
    play(nodes, 5.0)
    assert not any(node.found for node in nodes)


def test_a_node_of_another_make_says_nothing_of_meshes_and_is_told() -> None:
    (node,) = linked(Neighbour(1))
    other = Identity(bytes([9]) * 32).peer_id
    texts = [
        f"dnsaddr=/ip4/192.168.1.9/tcp/4001/p2p/{other}".encode(),
        f"dnsaddr=/ip4/192.168.1.9/udp/4001/quic-v1/p2p/{other}".encode(),  # no transport of ours
    ]
    told = node.machine.receive_datagram(encode_answer(SERVICE, "other", texts, 120), "eth0", 1.0)
    assert told == [LocalPeer(other, (Multiaddr.from_text("/ip4/192.168.1.9/tcp/4001"),))]


def test_what_no_node_of_the_link_can_have_is_not_told() -> None:
    (node,) = linked(Neighbour(1))
    other, relay = Identity(bytes([9]) * 32).peer_id, Identity(bytes([8]) * 32).peer_id
    texts = [
        b"dnsaddr=/ip4/192.168.1.9/tcp/4001",  # nobody's
        f"dnsaddr=/ip4/192.168.1.1/tcp/4747/p2p/{node.peer}".encode(),  # this node itself
        f"dnsaddr=/ip4/0.0.0.0/tcp/4001/p2p/{other}".encode(),
        f"dnsaddr=/ip4/224.0.0.251/tcp/4001/p2p/{other}".encode(),
        f"dnsaddr=/ip6/ff02::fb/tcp/4001/p2p/{other}".encode(),
        f"dnsaddr=/dns4/victim.example/tcp/4001/p2p/{other}".encode(),
        f"dnsaddr=/ip4/192.168.1.9/tcp/4001/p2p/{relay}/p2p-circuit/p2p/{other}".encode(),
        b"dnsaddr=\xff\xfe",
        b"dnsaddr=",
    ]
    assert not node.machine.receive_datagram(encode_answer(SERVICE, "liar", texts, 120), "eth0", 1.0)


def test_a_flood_is_read_no_further_than_its_bound() -> None:
    (node,) = linked(Neighbour(1))
    told = 0
    for number in range(1, 1001):
        other = Identity(number.to_bytes(32, "big")).peer_id
        text = f"dnsaddr=/ip4/192.168.1.9/tcp/4001/p2p/{other}".encode()
        told += len(node.machine.receive_datagram(encode_answer(SERVICE, "flood", [text], 120), "eth0", 1.0))
    assert told == 200
    seen = node.machine.statistics()
    assert (seen.received, seen.refused, seen.peers) == (1000, 800, 200)
    node.machine.receive_datagram(b"no DNS", "eth0", 2.0)
    assert node.machine.statistics().refused == 801


def test_who_is_still_there_is_told_again_rarely() -> None:
    (node,) = linked(Neighbour(1))
    other = Identity(bytes([9]) * 32).peer_id
    answer = encode_answer(SERVICE, "o", [f"dnsaddr=/ip4/192.168.1.9/tcp/1/p2p/{other}".encode()], 120)
    moved = encode_answer(SERVICE, "o", [f"dnsaddr=/ip4/192.168.1.9/tcp/2/p2p/{other}".encode()], 120)
    told = [
        len(node.machine.receive_datagram(data, "eth0", now))
        for data, now in ((answer, 0.0), (answer, 10.0), (moved, 11.0), (moved, 30.0), (moved, 45.0))
    ]
    assert told == [1, 0, 1, 0, 1]


def test_links_come_and_go() -> None:
    (node,) = linked(Neighbour(1))
    play([node], 300.0)
    node.machine.relink({"eth0": (node.address,), "wlan0": ()}, 300.0)
    node.machine.handle_deadline(300.2)
    assert [link for link, _ in node.machine.data_to_send()] == ["wlan0"]
    node.machine.relink({"wlan0": ()}, 301.0)
    assert not node.machine.receive_datagram(encode_question(SERVICE), "eth0", 301.0)
    node.machine.receive_datagram(encode_question(SERVICE), "wlan0", 301.0)
    node.machine.say_goodbye()  # it is reached at no address there: nobody is told
    assert not node.machine.data_to_send()
    node.machine.relink({}, 302.0)
    assert node.machine.next_deadline() is None


def test_a_goodbye_is_said_on_every_link() -> None:
    first, second = linked(Neighbour(1), Neighbour(2))
    play([first, second], 2.0)
    first.machine.say_goodbye()
    ((link, data),) = first.machine.data_to_send()
    assert link == "eth0"
    assert not second.machine.receive_datagram(data, link, 100.0)
