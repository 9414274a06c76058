"""A partition under load, and its heal: within seconds everybody has all, by gossip or from somebody's history."""

from collections import Counter

import pytest

from sidecar.core import gossip
from sidecar.core.node import NodeConfig
from sidecar.core.parameters import HistoryConfig
from sidecar.sim import SimPeer, Simulation

from .mesh import TOPIC, build, publish

_KEEPING = NodeConfig(target_peers=12, history=HistoryConfig(topics=("*",)))


class Load:
    """Publishes on and on, each message by the next peer, and counts what arrives where."""

    def __init__(self, seed: int, count: int, rate: float) -> None:
        self.simulation = build(seed, count, config=_KEEPING)
        self.peers = self.simulation.peers
        self.sent: list[bytes] = []
        self.got: dict[int, Counter[bytes]] = {}
        self.live: dict[int, set[bytes]] = {}
        self._pause = 1 / rate
        self.simulation.keep_news = False
        for peer in self.peers:
            peer.news.clear()
            self._listen(peer)
            peer.feed(gossip.TopicJoined(TOPIC, gossip.TopicOptions(keep=True)))
        self.simulation.run(10)

    def _listen(self, peer: SimPeer) -> None:
        got, live = self.got[peer.index], self.live[peer.index] = Counter[bytes](), set[bytes]()

        def listener(news: object) -> None:
            if isinstance(news, gossip.MessagesDelivered):
                datas = [message.data for message in news.messages]
                got.update(datas)
                if not news.history:
                    live.update(datas)

        peer.listener = listener

    def go_on(self, seconds: float) -> None:
        end = self.simulation.clock.now + seconds
        while self.simulation.clock.now < end:
            data = b"%d" % len(self.sent)
            publish(self.peers[len(self.sent) % len(self.peers)], data)
            self.sent.append(data)
            self.simulation.run(self._pause)

    def lacking(self, sent: list[bytes]) -> dict[int, int]:
        lacking = {index: sum(data not in got for data in sent) for index, got in self.got.items()}
        return {index: count for index, count in lacking.items() if count}


def test_only_nodes_with_history_answer_for_it_and_only_where_they_are_to() -> None:
    for config, answers in (
        (HistoryConfig(), False),
        (HistoryConfig(topics=("news",)), True),
        (HistoryConfig(topics=("news",), backfill=False), False),
    ):
        peer = Simulation(1).add(NodeConfig(history=config))
        assert peer.node.accepts(peer.config.history_protocol) is answers
        peer.feed(gossip.TopicJoined("news", gossip.TopicOptions(keep=True)))
        assert [view.topic for view in peer.node.history()] == (["news"] if answers else [])


@pytest.mark.parametrize(
    ("seed", "count", "few", "rate"),
    [(1, 10, 2, 5.0), *(pytest.param(seed, 20, 4, 50.0, marks=pytest.mark.slow) for seed in (1, 2))],
)
def test_within_five_seconds_of_the_heal_all_have_all(seed: int, count: int, few: int, rate: float) -> None:
    load = Load(seed, count, rate)
    load.go_on(2)
    load.simulation.partition([load.peers[:few], load.peers[few:]])
    load.go_on(60)
    before = list(load.sent)
    assert len(load.lacking(before)) == count, f"seed {seed}"
    load.simulation.heal()
    load.go_on(5)
    assert load.lacking(before) == {}, f"seed {seed}"
    load.go_on(3)
    load.simulation.run(3)
    assert load.lacking(load.sent) == {}, f"seed {seed}"
    assert {count for got in load.got.values() for count in got.values()} == {1}
    # What is new came as ever: backfill does not overtake gossip.
    fresh = set(load.sent[-int(2 * rate) :])
    assert all(fresh <= live for live in load.live.values())
