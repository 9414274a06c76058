"""Lies in the DHT: whom the answers name."""

import random
from collections.abc import Mapping
from typing import Any, cast

import pytest

from sidecar.core.deadlines import Deadlines
from sidecar.core.kademlia.messages import MessageType, decode_answer, encode_find_node, encode_question
from sidecar.core.multiaddr import Multiaddr
from sidecar.core.node import NodeConfig
from sidecar.core.parameters.gossip import PROTOCOLS
from sidecar.core.types import PeerId
from sidecar.simulate.hostile import BEHAVIOURS, Accomplice, Exchange, Fellow, Surroundings

from .test_sybil import ONE, FakeNode

CONFIG = NodeConfig()
VICTIM = Fellow(PeerId(b"\x00\x02\x09\x00"), (Multiaddr.tcp("192.0.2.9", 4001),), b"")
FELLOWS = [
    Fellow(PeerId(bytes((0, 2, 10, number))), (Multiaddr.tcp(f"198.51.100.{number}", 4001),), b"")
    for number in range(30)
]


def answers(behaviour: str, question: bytes, kind: MessageType, options: Mapping[str, Any] | None = None) -> Any:
    contacts = {None: FELLOWS, "victim": [VICTIM]}
    around = Surroundings(random.Random(1), 0.0, lambda name: (), options or {}, contacts.__getitem__, CONFIG)
    conduct = BEHAVIOURS[behaviour].conduct(around)
    node = FakeNode()
    conduct.node = cast(Accomplice, node)
    assert conduct.taps(CONFIG.kademlia_protocol)
    assert conduct.taps(PROTOCOLS[0])
    exchange = Exchange(1, ONE, CONFIG.kademlia_protocol, ours=False)
    conduct.opened(exchange, 0.0)
    assert list(conduct.hears(exchange, question, 0.0)) == []
    conduct.closed(exchange, 0.0)
    ((peer, frame),) = node.said
    assert peer == ONE
    return decode_answer(frame, kind, CONFIG.kademlia)


@pytest.mark.parametrize("behaviour", ["dht-sybils", "table-eclipse"])
@pytest.mark.parametrize("kind", [MessageType.FIND_NODE, MessageType.GET_VALUE, MessageType.GET_PROVIDERS])
def test_they_name_only_each_other(behaviour: str, kind: MessageType) -> None:
    key = b"key"
    question = encode_find_node(key) if kind is MessageType.FIND_NODE else encode_question(kind, key)
    found = answers(behaviour, question, kind)
    known = {fellow.peer: fellow.addresses for fellow in FELLOWS}
    assert len(found.closer) == len(dict(found.closer)) == CONFIG.kademlia.k
    assert all(known[peer] == addresses for peer, addresses in found.closer)
    assert (found.record, found.providers) == (None, [])


def test_they_name_nobody_at_ports_of_a_victim() -> None:
    found = answers("dht-victim", encode_find_node(b"key"), MessageType.FIND_NODE, {"victim": "victim"})
    peers = dict(found.closer)
    assert len(peers) == CONFIG.kademlia.k
    assert VICTIM.peer not in peers
    assert {address.ip for addresses in peers.values() for address in addresses} == {"192.0.2.9"}
    assert len({address for addresses in peers.values() for address in addresses}) > 1


def test_they_answer_pings() -> None:
    found = answers("dht-sybils", encode_question(MessageType.PING, b""), MessageType.PING)
    assert found.closer == []


def test_what_is_no_question_is_passed_over() -> None:
    around = Surroundings(random.Random(1), 0.0, lambda name: (), {}, lambda name: FELLOWS, CONFIG)
    conduct = BEHAVIOURS["dht-sybils"].conduct(around)
    node = FakeNode()
    node.deadlines = Deadlines()
    conduct.node = cast(Accomplice, node)
    exchange = Exchange(1, ONE, CONFIG.kademlia_protocol, ours=False)
    for frame in (b"\xff", encode_question(MessageType.ADD_PROVIDER, b"key")):
        assert list(conduct.hears(exchange, frame, 0.0)) == []
    assert node.said == []
