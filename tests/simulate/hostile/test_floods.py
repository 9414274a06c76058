"""Sybils that flood with control: what they say, how often, and from when on."""

from collections.abc import Mapping, Sequence
from typing import Any

import pytest

from sidecar.core.gossip.messages import RPC, decode_rpc, encode_graft, encode_ihaves, encode_prune, field
from sidecar.core.identity import Identity
from sidecar.core.multiaddr import Multiaddr
from sidecar.core.records import make_peer_record, open_peer_record
from sidecar.core.types import PeerId
from sidecar.simulate.hostile import Fellow

from .test_sybil import ONE, TWO, Bench

ADDRESS = Multiaddr.tcp("192.0.2.9", 4001)


def fellows() -> list[Fellow]:
    identities = [Identity(bytes([number]) * 32) for number in (7, 8)]
    return [Fellow(each.peer_id, (ADDRESS,), make_peer_record(each, 1, (ADDRESS,))) for each in identities]


def flooding(behaviour: str, options: Mapping[str, Any], begins: float = 0.0) -> Bench:
    bench = Bench(behaviour, options, begins)
    bench.sybil.around = bench.sybil.around._replace(contacts=lambda kind: fellows())
    bench.sybil.started(0.0)
    bench.node.said.clear()
    return bench


def until(bench: Bench, now: float) -> list[tuple[PeerId, RPC]]:
    """What it says by then, in the order in which it is said."""
    bench.node.said.clear()
    while (due := bench.node.deadlines.next()) is not None and due <= now:
        bench.node.deadlines.run(due)
    return [(peer, decode_rpc(rpc)) for peer, rpc in bench.node.said]


def test_a_graft_flood_grafts_as_often_as_it_is_told_and_heeds_no_prune() -> None:
    bench = flooding("graft-flood", {"rate": 10.0}, begins=5.0)
    assert until(bench, 4.9) == []
    until(bench, 6.0)  # it begins within a second
    bench.hears(ONE, field(3, encode_prune(b"news", (), 60)), now=6.0)
    said = until(bench, 7.0)
    assert [peer for peer, _ in said].count(ONE) == pytest.approx(10, abs=1)
    assert all([graft.topicID for graft in rpc.control.graft] == [b"news"] for _, rpc in said)


def test_ihave_spam_names_what_nobody_has_ever_the_other() -> None:
    bench = flooding("ihave-spam", {"rate": 2.0, "ids": 50})
    until(bench, 1.0)
    said = until(bench, 3.0)
    ids = [bytes(each) for peer, rpc in said if peer == ONE for ihave in rpc.control.ihave for each in ihave.messageIDs]
    assert len(ids) == len(set(ids)) == pytest.approx(200, abs=50)
    assert all(rpc.control.ihave[0].topicID == b"news" for _, rpc in said)


def test_an_iwant_flood_asks_for_what_it_was_sent_or_told_of() -> None:
    bench = flooding("iwant-flood", {"rate": 1.0, "ids": 2})
    assert until(bench, 3.0) == []  # it knows of nothing yet
    for number in range(3):
        bench.message(ONE, number)
    bench.hears(TWO, field(3, encode_ihaves(b"news", (b"told",), 1000)[0]))
    wanted = {tuple(map(bytes, rpc.control.iwant[0].messageIDs)) for _, rpc in until(bench, 9.0)}
    assert wanted == {(bytes(ONE) + bytes((0, 0, 0, 0, 0, 0, 0, 2)), b"told")}  # the last ones, again and again


def test_who_asks_wants_each_message_that_it_is_told_of_and_has_not_had() -> None:
    bench = flooding("asking", {})
    bench.message(ONE, 1)
    had = bytes(ONE) + (1).to_bytes(8, "big")
    bench.node.said.clear()
    bench.hears(TWO, field(3, encode_ihaves(b"news", (had, b"told"), 1000)[0]))
    ((peer, rpc),) = [(peer, decode_rpc(body)) for peer, body in bench.node.said]
    assert peer == TWO
    assert [bytes(each) for entry in rpc.control.iwant for each in entry.messageIDs] == [b"told"]
    bench.node.said.clear()
    bench.message(ONE, 2)
    assert bench.node.said == []  # and passes nothing on


def test_broken_promises_are_of_real_messages_and_to_those_who_did_not_bring_them() -> None:
    bench = flooding("broken-promises", {}, begins=5.0)
    assert bench.message(ONE, 1, now=4.0)
    raw = field(1, ONE) + field(2, b"data") + field(3, (2).to_bytes(8, "big")) + field(4, b"news")
    bench.node.said.clear()
    bench.hears(ONE, field(2, raw), now=6.0)
    ((peer, rpc),) = [(peer, decode_rpc(body)) for peer, body in bench.node.said]
    assert peer == TWO
    assert not rpc.publish
    assert [bytes(each) for each in rpc.control.ihave[0].messageIDs] == [bytes(ONE) + (2).to_bytes(8, "big")]


def prunes(said: Sequence[tuple[PeerId, RPC]]) -> list[Any]:
    return [prune for peer, rpc in said if peer == ONE for prune in rpc.control.prune]


def test_px_poison_prunes_grafts_anew_and_names_fellows_and_nobody() -> None:
    bench = flooding("px-poison", {"rate": 1.0})
    (prune,) = prunes(until(bench, 1.0))
    assert (prune.backoff, len(prune.peers)) == (1, 16)
    signed = [info for info in prune.peers if info.HasField("signedPeerRecord")]
    assert len(signed) == len(fellows())
    for info in signed:
        assert open_peer_record(info.signedPeerRecord, PeerId(info.peerID)).addresses == (ADDRESS,)
    grafts = [graft.topicID for peer, rpc in until(bench, 2.0) if peer == ONE for graft in rpc.control.graft]
    assert grafts == [b"news"]
    bench.hears(ONE, field(3, encode_graft(b"news")), now=2.0)
    assert len(prunes(until(bench, 3.0))) == 1


def test_px_poison_waits_for_the_back_off_of_who_pruned_it() -> None:
    bench = flooding("px-poison", {"rate": 1.0})
    bench.hears(ONE, field(3, encode_prune(b"news", (), 60)))
    assert [rpc for peer, rpc in until(bench, 10.0) if peer == ONE] == []
