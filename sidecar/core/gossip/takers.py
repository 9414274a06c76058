"""Mesh peers that only take: they ask for messages, and never bring or name one.

Asking costs nothing, so a mesh of peers that ask may be one out of which nothing comes. Nor is it wrong: at the rim of
a topic, or next to its only publisher, nobody has anything to give. So nobody is sent away for it alone. But the
regular places, of which the degrees speak, are for those that give as far as there are any: a dependent that gives
gets one, in place of a peer that only takes where all are full. That one is a dependent from then on, and served as
before.
"""

from collections.abc import Iterable

from .mesh import Mesh
from .state import GossipPeer, GossipState, Silence, Topic

# As long as for trials: guesses as well.
_MESSAGES = 64  # of the topic that came while the peer gave nothing
_BEATS = 5  # heartbeats for which it did so, with messages in them


class Takers:
    """Finds out who only takes, and has those that give change places with them."""

    def __init__(self, state: GossipState, mesh: Mesh) -> None:
        self._state = state
        self._mesh = mesh

    def heartbeat(self) -> None:
        """Look at all meshes to which messages came since the last heartbeat; call before `Trials.heartbeat`."""
        if not self._state.config.score.enabled:
            return
        for topic in self._state.topics.values():
            if topic.mesh and topic.came != topic.looked_at:
                self._bring_in(topic, self._look(topic))

    @staticmethod
    def _look(topic: Topic) -> list[GossipPeer]:
        """The mesh peers that gave since the last look."""
        came, giving = topic.came, []
        for identifier, peer in topic.mesh.items():
            taking = topic.taking.get(identifier)
            if taking is None:
                topic.taking[identifier] = Silence(came)
                giving.append(peer)
                continue
            taking.beats += 1
            if taking.beats >= _BEATS and came - taking.since >= _MESSAGES:
                topic.takers[identifier] = peer
        return giving

    def _bring_in(self, topic: Topic, giving: Iterable[GossipPeer]) -> None:
        """Give regular places to dependents that give, but for those that nobody can dial: they would fill all."""
        for peer in giving:
            if peer.dial_only or peer.id not in topic.dependents:
                continue
            if topic.regular >= self._state.config.d_high and not self._make_place(topic):
                return
            del topic.dependents[peer.id]
            topic.routes = {}

    def _make_place(self, topic: Topic) -> bool:
        """Free the place of who only takes; False where nobody does but connections that we opened."""
        taking = [peer for identifier, peer in topic.regulars() if identifier in topic.takers and not peer.outbound]
        if not taking:
            return False
        self._mesh.move_aside(topic, min(taking, key=lambda peer: peer.record.value))
        return True
