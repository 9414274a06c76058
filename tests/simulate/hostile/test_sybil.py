"""The sybils: what each kind of them passes on, and that it grafts whoever pruned it."""

import random
from collections.abc import Mapping
from typing import Any, cast

import pytest

from sidecar.core.deadlines import Deadlines
from sidecar.core.gossip.messages import decode_rpc, encode_graft, encode_prune, encode_subscription, field
from sidecar.core.node import NodeConfig
from sidecar.core.types import PeerId
from sidecar.simulate.hostile import BEHAVIOURS, Accomplice, Exchange, Surroundings
from sidecar.simulate.hostile.sybil import Sybil

PROTOCOL = "/meshsub/1.2.0"
ONE, TWO, AUTHOR = (PeerId(b"\x00\x02" + bytes((number, 0))) for number in (1, 2, 3))


class FakeNode:
    """Keeps what a conduct says."""

    def __init__(self) -> None:
        self.deadlines = Deadlines()
        self.said: list[tuple[PeerId, bytes]] = []

    def say(self, exchange: Exchange, frame: bytes) -> None:
        self.said.append((exchange.peer, frame))


class Bench:
    """A sybil with two peers that are in `news`, both grafted."""

    def __init__(self, behaviour: str, options: Mapping[str, Any] | None = None, begins: float = 0.0) -> None:
        around = Surroundings(
            random.Random(1),
            begins,
            lambda name: {"victim": (AUTHOR,)}[name],
            options or {},
            lambda name: (),
            NodeConfig(),
        )
        self.sybil = cast(Sybil, BEHAVIOURS[behaviour].conduct(around))
        self.node = FakeNode()
        self.sybil.node = cast(Accomplice, self.node)
        self.theirs = {}
        for number, peer in enumerate((ONE, TWO)):
            ours = Exchange(2 * number, peer, PROTOCOL, ours=True)
            self.theirs[peer] = Exchange(2 * number + 1, peer, PROTOCOL, ours=False)
            self.sybil.opened(self.theirs[peer], 0.0)
            self.sybil.opened(ours, 0.0)
            self.hears(peer, encode_subscription(b"news", 0))

    def hears(self, peer: PeerId, rpc: bytes, now: float = 0.0) -> None:
        assert list(self.sybil.hears(self.theirs[peer], rpc, now)) == []

    def message(self, author: PeerId, number: int, now: float = 0.0) -> bool:
        """Whether a message that the one peer brings is passed on to the other, and to nobody else."""
        raw = field(1, author) + field(2, b"data") + field(3, number.to_bytes(8, "big")) + field(4, b"news")
        self.node.said.clear()
        for _ in range(2):  # a copy changes nothing
            self.hears(ONE, field(2, raw), now)
        assert self.node.said in ([], [(TWO, field(2, raw))])
        return bool(self.node.said)


def test_it_joins_what_its_peers_are_in_and_grafts_them() -> None:
    bench = Bench("silent")
    assert [peer for peer, _ in bench.node.said] == [ONE, TWO]
    rpc = decode_rpc(bench.node.said[0][1])
    assert [(each.subscribe, each.topicid) for each in rpc.subscriptions] == [(True, b"news")]
    assert [graft.topicID for graft in rpc.control.graft] == [b"news"]


@pytest.mark.parametrize("seed", range(3))
def test_upon_a_prune_it_grafts_again_a_minute_later(seed: int) -> None:
    bench = Bench("silent")
    bench.sybil.around.rng.seed(seed)
    bench.node.said.clear()
    for _ in range(2):  # said twice, it is answered once
        bench.hears(ONE, field(3, encode_prune(b"news", (), 60)), now=10.0)
    due = bench.node.deadlines.next()
    assert due is not None
    assert 70.0 <= due <= 85.0
    bench.node.deadlines.run(100.0)
    assert bench.node.said == [(ONE, field(3, encode_graft(b"news")))]
    bench.node.said.clear()
    bench.hears(ONE, field(3, encode_prune(b"news", (), 60)), now=100.0)
    bench.hears(ONE, field(3, encode_graft(b"news")), now=110.0)  # it has come back by itself
    bench.node.deadlines.run(200.0)
    assert bench.node.said == []


def test_a_silent_one_passes_on_nothing_once_it_does_harm() -> None:
    bench = Bench("silent", begins=5.0)
    assert bench.message(ONE, 1, now=4.9)
    assert not bench.message(ONE, 2, now=5.0)


def test_a_censor_drops_one_author() -> None:
    bench = Bench("censor", {"author": "victim"}, begins=5.0)
    assert bench.message(AUTHOR, 1, now=4.9)
    assert not bench.message(AUTHOR, 2, now=5.0)
    assert bench.message(ONE, 3, now=5.0)


def test_a_degrading_one_passes_on_a_share() -> None:
    for forwards, least, most in ((0.0, 0, 0), (0.3, 200, 400), (1.0, 1000, 1000)):
        bench = Bench("degrade", {"forwards": forwards})
        assert least <= sum(bench.message(ONE, number) for number in range(1000)) <= most


def test_who_has_pruned_it_or_is_gone_gets_nothing() -> None:
    bench = Bench("degrade", {"forwards": 1.0})
    assert bench.message(ONE, 1)
    bench.hears(TWO, field(3, encode_prune(b"news", (), 60)))
    assert not bench.message(ONE, 2)
    bench.hears(TWO, field(3, encode_graft(b"news")))
    assert bench.message(ONE, 3)
    bench.sybil.closed(Exchange(2, TWO, PROTOCOL, ours=True), 0.0)  # not the stream that is in use
    assert bench.message(ONE, 4)


@pytest.mark.parametrize("rpc", [b"\xff", field(2, b"\xff"), field(2, b"")])
def test_what_is_no_message_is_passed_over(rpc: bytes) -> None:
    bench = Bench("degrade", {"forwards": 1.0})
    bench.node.said.clear()
    bench.hears(ONE, rpc)
    assert bench.node.said in ([], [(TWO, rpc)])
