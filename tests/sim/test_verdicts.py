"""Signatures that are checked once for all nodes of a simulation."""

import pytest

from sidecar.core.errors import ProtocolError
from sidecar.core.gossip import GossipConfig, MessagesDelivered, Published, SignatureCheck, TopicJoined
from sidecar.core.gossip.signing import SIGN_PREFIX
from sidecar.core.identity import Identity
from sidecar.core.multiaddr import Multiaddr
from sidecar.core.node import NodeConfig
from sidecar.core.records import make_peer_record, open_peer_record
from sidecar.sim.verdicts import Verdicts

from .mesh import build


def test_verdicts_are_those_of_the_check_itself() -> None:
    identity, verdicts = Identity(bytes(32)), Verdicts()
    good = [
        SignatureCheck(identity.public_key, content, identity.sign(SIGN_PREFIX + content)) for content in (b"a", b"b")
    ]
    forged = good[0]._replace(content=b"c")
    for _ in range(2):  # the second time from memory
        assert verdicts.verify([good[0], forged, good[1]]) == [None, "signature", None]
    assert verdicts.verify([]) == []


def test_verdicts_are_bounded() -> None:
    key = Identity(bytes(32)).public_key
    verdicts = Verdicts()
    for number in range(6000):
        assert verdicts.verify([SignatureCheck(key, b"%d" % number, b"short")]) == ["signature"]
    assert len(verdicts._known) <= 4096


@pytest.mark.parametrize("seed", [1, 2])
def test_a_mesh_whose_nodes_have_signatures_checked_elsewhere_delivers_all_in_order(seed: int) -> None:
    gossip = GossipConfig(verify_workers=2, verify_few=0, verify_batch=8)
    simulation = build(seed, 6, config=NodeConfig(gossip=gossip))
    peers = simulation.peers
    for peer in peers:
        peer.feed(TopicJoined("news"))
    simulation.run(15)
    sent = [b"%d" % number for number in range(100)]
    peers[0].ask(lambda op: Published(op, "news", sent))
    simulation.run(5)
    for peer in peers:
        told = [message.data for news in peer.news if isinstance(news, MessagesDelivered) for message in news.messages]
        assert told == sent, f"seed {seed}"
    checked = [peer.node.statistics().gossip.signatures for peer in peers[1:]]
    assert all(counts["workers"] >= 100 and not counts["inline"] for counts in checked)


def test_a_record_is_checked_once_and_a_forged_one_each_time() -> None:
    identity, verdicts = Identity(bytes(32)), Verdicts()
    record = make_peer_record(identity, 1, (Multiaddr.tcp("10.0.0.1", 4001),))
    opened = verdicts.open_record(record, identity.peer_id)
    assert opened == open_peer_record(record, identity.peer_id)
    assert verdicts.open_record(bytes(bytearray(record)), identity.peer_id) is opened
    forged = record[:-1] + bytes((record[-1] ^ 1,))
    for _ in range(2):
        with pytest.raises(ProtocolError, match="wrong signature"):
            verdicts.open_record(forged, identity.peer_id)
    with pytest.raises(ProtocolError, match="not of"):
        verdicts.open_record(record, Identity(bytes(range(32))).peer_id)
