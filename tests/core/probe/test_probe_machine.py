"""Probes without a network: their bytes, the draw, what is answered how often, and the size of the network."""

import random
import re
from pathlib import Path

import pytest

from sidecar.core import probe
from sidecar.core.errors import ProtocolError
from sidecar.core.identity import Identity
from sidecar.core.kademlia import KademliaConfig
from sidecar.core.kademlia.table import RoutingTable
from sidecar.core.multiaddr import Multiaddr
from sidecar.core.types import PeerId

DOCUMENT = Path(__file__).parents[3] / "docs" / "protocols.md"
IDENTITY = Identity(bytes(32))
ID = bytes(range(16))
PROBE = probe.ProbeMessage(ID, 2, probe.WHOLE, "news", (Multiaddr.from_text("/ip4/10.0.0.1/tcp/4001"),))


def example(name: str) -> bytes:
    (block,) = re.findall(rf"```hex-{name}\n(.*?)```", DOCUMENT.read_text(encoding="utf-8"), re.DOTALL)
    return bytes.fromhex("".join(line.partition("#")[0] for line in block.splitlines()))


def peers(count: int) -> list[PeerId]:
    rng = random.Random(count)
    return [PeerId(b"\x00\x24\x08\x01\x12\x20" + rng.randbytes(32)) for _ in range(count)]


def test_the_examples_are_what_travels() -> None:
    payload = example("probe")
    assert probe.encode_probe(IDENTITY, PROBE, 0) == payload
    read, envelope = probe.read_probe(payload)
    assert read == PROBE
    assert probe.prober_of(envelope) == IDENTITY.peer_id
    answer = probe.Answer(ID, 2, 1500, False)
    assert probe.encode_answer(answer) == example("answer")
    assert probe.decode_answer(example("answer")[1:]) == answer


def test_a_probe_is_as_large_as_is_wanted() -> None:
    payload = probe.encode_probe(IDENTITY, PROBE, 5000)
    assert len(payload) == 5000
    assert probe.read_probe(payload)[0] == PROBE
    assert len(probe.encode_probe(IDENTITY, PROBE, 10)) == len(example("probe"))


def test_no_bytes_of_strangers_do_anything_but_fail_as_documented() -> None:
    payload = example("probe")
    rng = random.Random(1)
    for end in range(len(probe.MARK), len(payload)):
        with pytest.raises(ProtocolError):
            probe.read_probe(payload[:end])
    for place in range(len(probe.MARK), len(payload)):
        changed = bytearray(payload)
        changed[place] ^= 1 << rng.randrange(8)
        with pytest.raises(ProtocolError):
            probe.prober_of(probe.read_probe(bytes(changed))[1])


@pytest.mark.parametrize("wrong", [{"id": b"short"}, {"rate": 0}, {"rate": probe.WHOLE + 1}])
def test_values_out_of_range_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ProtocolError, match="probe with an id of"):
        probe.read_probe(probe.encode_probe(IDENTITY, PROBE._replace(**wrong), 0))


def test_the_draw_is_even_and_another_for_each_message() -> None:
    crowd = peers(4000)
    quarter = probe.WHOLE // 4
    first = [peer for peer in crowd if probe.asks(ID, 0, quarter, peer)]
    second = [peer for peer in crowd if probe.asks(ID, 1, quarter, peer)]
    assert 900 < len(first) < 1100
    assert 900 < len(second) < 1100
    assert 180 < len(set(first) & set(second)) < 320
    assert all(probe.asks(ID, 0, probe.WHOLE, peer) for peer in crowd)


def test_one_prober_does_not_take_what_others_may_have() -> None:
    one, other = peers(2)
    bounds = probe.AnswerBounds(probe.ProbeConfig(prober_rate=2, burst=2), 0.0)
    assert [bounds.answer(one, ID, number, 0.0) for number in range(5)] == [None] * 4 + ["prober_rate"]
    assert bounds.answer(other, ID, 0, 0.0) is None
    assert bounds.answer(one, ID, 5, 0.5) is None
    assert bounds.answer(one, ID, 6, 0.5) == "prober_rate"
    assert bounds.answer(one, ID, 0, 9.0) == "repeated"


def test_many_probers_get_no_more_memory() -> None:
    bounds = probe.AnswerBounds(probe.ProbeConfig(max_probers=3, max_remembered=2, burst=4), 0.0)
    crowd = peers(6)
    assert [bounds.answer(peer, ID, 0, 0.0) for peer in crowd] == [None] * 3 + ["prober_rate"] * 3
    assert bounds.answer(crowd[5], ID, 0, 5.0) is None
    assert len(bounds._probers) == 3
    assert len(bounds._remembered) == 2


def test_signatures_are_checked_at_a_rate() -> None:
    bounds = probe.AnswerBounds(probe.ProbeConfig(read_rate=5, burst=2), 0.0)
    assert [bounds.read(0.0) for _ in range(11)] == [None] * 10 + ["read_rate"]
    assert bounds.read(0.2) is None


def test_an_objective_is_judged_by_the_last_messages_and_only_when_there_are_enough() -> None:
    objective = probe.ProbeObjective(share=0.75, window=3)
    good, bad = probe.Judged(4, 0, 0), probe.Judged(0, 3, 1)
    assert [objective.judge(each) for each in (bad, bad)] == [False, False]
    assert (objective.share, objective.missed) == (1.0, False)
    assert objective.judge(good)
    assert (objective.share, objective.receivers, objective.missed) == (4 / 12, 12, True)
    assert [objective.judge(good) for _ in range(3)] == [False, True, False]  # 8 of 12, then all
    assert (objective.share, objective.missed) == (1.0, False)
    assert not objective.judge(probe.Judged(1, 3, 0))  # 9 of 12 are just enough


def test_messages_without_receivers_miss_no_objective() -> None:
    objective = probe.ProbeObjective(share=1.0, window=1)
    assert not objective.judge(probe.Judged(0, 0, 0))
    assert objective.share == 1.0


@pytest.mark.parametrize("count", [5, 19, 300, 5000])
def test_a_table_tells_how_large_the_network_is(count: int) -> None:
    sizes = []
    for local in peers(8):
        table = RoutingTable(KademliaConfig(), local)
        for peer in peers(count):
            table.connected(peer, (), 0.0)
        sizes.append(table.network_size())
    if count < 20:
        assert sizes == [count + 1] * 8
    else:
        assert 0.75 * count < sum(sizes) / 8 < 1.35 * count
