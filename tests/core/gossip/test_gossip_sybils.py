"""Sybils that graft on everybody and pass nothing on, against routers with bounded floods; and a mesh without any."""

import random
from dataclasses import replace

import pytest
from gossip_network import GossipNetwork, peer_id

from sidecar.core.gossip import GossipConfig, Published, RpcsReceived, TopicJoined, TopicLeft, TopicOptions
from sidecar.core.gossip.events import GossipEffect, GossipInput
from sidecar.core.gossip.messages import decode_rpc, encode_graft, field
from sidecar.core.parameters import ScoreConfig

UNSIGNED = TopicOptions(sign=False)
HONEST, SYBILS = 8, 16
CONFIG = GossipConfig(d=4, d_low=3, d_high=6, d_out=0, d_score=3, flood_peers=4, dependents=0)


class SybilNetwork(GossipNetwork):
    """The last routers hear neither messages nor gossip, so that they have nothing to pass on."""

    def input(self, number: int, value: GossipInput) -> list[GossipEffect]:
        if number >= HONEST and isinstance(value, RpcsReceived):
            value = value._replace(frames=[_deaf(frame) for frame in value.frames])
        return super().input(number, value)


def _deaf(frame: bytes) -> bytes:
    rpc = decode_rpc(frame)
    del rpc.publish[:]
    rpc.ClearField("control")  # it does not hear PRUNE either, and goes on
    return rpc.SerializeToString()


def attacked(config: GossipConfig) -> SybilNetwork:
    """Everybody is connected to everybody; the meshes of the honest ones are full of sybils before they meet."""
    network = SybilNetwork(HONEST + SYBILS, 1, config)
    for number in range(HONEST + SYBILS):
        network.input(number, TopicJoined("news", UNSIGNED))
    for number in range(HONEST):
        for sybil in range(HONEST, HONEST + SYBILS):
            network.connect(sybil, number)
    network.run(3.0)
    for number in range(HONEST):
        for sybil in range(HONEST, HONEST + SYBILS):
            network.input(number, RpcsReceived(peer_id(sybil), [field(3, field(3, encode_graft(b"news")))]))
        for other in range(number):
            network.connect(number, other)
    network.run(1.0)
    return network


def honest_links(network: GossipNetwork) -> list[int]:
    """Of each honest router, how many of its mesh peers are honest."""
    honest = set(network.ids[:HONEST])
    return [len(honest & set(router.topics()[0].mesh)) for router in network.routers[:HONEST]]


def publish(network: GossipNetwork, seconds: int) -> list[bytes]:
    """Two messages a second, by the honest ones in turn."""
    datas = []
    for number in range(2 * seconds):
        datas.append(b"%f-%d" % (network.now, number))
        network.input(number % HONEST, Published(number, "news", [datas[-1]]))
        network.run(0.5)
    return datas


def test_a_mesh_full_of_sybils_recovers_by_grafting_those_that_bring_messages() -> None:
    for enabled in (False, True):
        network = attacked(replace(CONFIG, score=ScoreConfig(enabled=enabled)))
        before = honest_links(network)
        assert sum(before) <= HONEST  # hardly any
        datas = publish(network, 190)
        network.run(5.0)
        for delivered in network.delivered[:HONEST]:
            assert {message.data for message in delivered} == set(datas)
        if enabled:
            assert min(honest_links(network)) >= 2
        else:
            assert sum(honest_links(network)) <= HONEST


@pytest.mark.parametrize("seed", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_nobody_honest_falls_below_0_under_load_churn_and_slow_links(seed: int) -> None:
    count, rng = 10, random.Random(seed)
    network = GossipNetwork(count, seed, GossipConfig(d=4, d_low=3, d_high=6, d_out=1, flood_peers=4))
    for number in range(count):
        network.input(number, TopicJoined("news", UNSIGNED))
        for other in range(number):
            network.connect(number, other)
    for beat in range(600):
        burst = 40 if beat % 30 == 0 else 1
        payload = [b"%d-%d" % (beat, index) + bytes(1200 * (index % 5 == 0)) for index in range(burst)]
        network.input(beat % count, Published(beat, "news", payload))
        if beat % 10 == 0:
            one, other = rng.sample(range(count), 2)
            if network.connected(one, other):
                network.disconnect(one, other)
            elif not network.connected(other, one):
                network.connect(one, other)
        if beat % 50 == 25:  # leaves, and comes back within the back-off
            network.input(beat % count, TopicLeft("news"))
            network.run(0.2)
            network.input(beat % count, TopicJoined("news", UNSIGNED))
        network.run(1.0)
        for router in network.routers:
            for peer in network.ids:
                view = router.score(peer)
                assert view is None or view.score >= 0, f"seed {seed}, beat {beat}"
    assert any(router.score(peer) for router in network.routers for peer in network.ids)
