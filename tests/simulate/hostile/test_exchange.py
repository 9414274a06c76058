"""Whom honest nodes name to each other in PRUNE, where sybils were there first."""

from pathlib import Path

import pytest

from sidecar.core.gossip.exchange import PeerExchange
from sidecar.core.gossip.state import GossipPeer, Topic
from sidecar.core.types import PeerId
from sidecar.simulate.play import Play
from sidecar.simulate.reading import load_scenario

COLD_BOOT = Path(__file__).parents[3] / "scenarios" / "attacks" / "cold-boot.toml"


def test_sybils_that_fill_the_meshes_are_not_handed_on_to_everybody(monkeypatch: pytest.MonkeyPatch) -> None:
    """There are four for each honest node, and no message has come yet: most names drawn at random are of sybils."""
    named: list[tuple[PeerId, PeerId]] = []
    real = PeerExchange.named

    def watched(self: PeerExchange, topic: Topic, pruned: GossipPeer) -> list[tuple[PeerId, bytes | None]]:
        found = real(self, topic, pruned)
        named.extend((pruned.id, peer) for peer, _ in found)
        return found

    monkeypatch.setattr(PeerExchange, "named", watched)
    play = Play(load_scenario(COLD_BOOT))
    play.run(lambda over: play.stop() if over >= 10 else None)
    honest = {peer.identity.peer_id for peer in play.honest}  # only asked, never iterated
    told = [peer for pruned, peer in named if pruned in honest]
    assert len(told) > 500
    assert sum(peer not in honest for peer in told) < 0.5 * len(told)
