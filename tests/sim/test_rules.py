"""Rules in a simulated mesh: what one node's rules keep back goes no further through it."""

import pytest

from sidecar.core.gossip import Published, RulesSet
from sidecar.core.node import NodeConfig
from sidecar.core.parameters import SenderRate, TopicRule

from .mesh import TOPIC, build, received, subscribe

RATE, BURST, SECONDS = 5.0, 10.0, 10
RULE = TopicRule("rate", (TOPIC,), rate=SenderRate(RATE, BURST))


@pytest.mark.parametrize("seed", [1, 2])
@pytest.mark.parametrize("ruled", [True, False])
def test_a_flood_of_one_sender_is_not_relayed_where_a_rule_bounds_its_rate(seed: int, ruled: bool) -> None:
    """At ten times the rate; one neighbour of the flooder is enough to bound what the rest gets through it."""
    simulation = build(seed, 8, config=NodeConfig(target_peers=12))
    flooder, *others = simulation.peers
    if ruled:
        for peer in others:
            peer.feed(RulesSet([RULE], configured=True))
    subscribe(simulation.peers)
    simulation.run(15)
    told = [b"honest %d" % number for number in range(SECONDS)]
    flood = int(RATE * 10) * SECONDS
    for second in range(SECONDS):
        others[0].ask(lambda op, second=second: Published(op, TOPIC, [told[second]]))  # type: ignore[misc]
        for part in range(10):
            datas = [b"flood %d %d %d" % (second, part, number) for number in range(flood // SECONDS // 10)]
            flooder.ask(lambda op, datas=datas: Published(op, TOPIC, datas))  # type: ignore[misc]
            simulation.run(0.1)
    simulation.run(5)
    for peer in others:
        got = received(peer)
        assert [data for data in got if data.startswith(b"honest")] == told, f"seed {seed}"
        flooded = sum(data.startswith(b"flood") for data in got)
        if not ruled:
            assert flooded == flood
            continue
        assert BURST <= flooded <= RATE * SECONDS + BURST + 1, f"seed {seed}"
        counts = peer.node.statistics().gossip
        assert counts.forwarded <= flooded + SECONDS
        assert counts.rules["rate"] == counts.ignored["rule"] > 0
        # Whoever relays it is not at fault: nobody lost score for it.
        assert not sum(counts.misbehaviour.values())
        assert not sum(counts.rejected.values())
