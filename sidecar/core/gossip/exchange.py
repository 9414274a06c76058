"""Peer exchange, v1.1 "PRUNE Backoff and Peer Exchange": whom a PRUNE names, and what becomes of one that came."""

from collections.abc import Iterable, Sequence

from ..errors import InvalidPeerId
from ..types import PeerId
from .messages import PeerInfo
from .state import GossipPeer, GossipState, Topic


class PeerExchange:
    """Names peers that this node knows to be of use, and strangers only while it knows few.

    Of use is who brought messages, who takes part in the mesh, and who this node has dialled: that one can be reached,
    and an attacker cannot choose to be. A place in the mesh alone shows nothing, nor does the score of it, for who came
    first has one. So sybils that fill the meshes of a young network are not handed on to everybody in it.

    Who that is, is looked up once in a heartbeat, however many GRAFTs are turned away in it.
    """

    def __init__(self, state: GossipState) -> None:
        self._state = state
        self._known: dict[str, tuple[list[GossipPeer], list[GossipPeer]]] = {}  # of this heartbeat, by topic

    def heartbeat(self) -> None:
        """What was found out is old."""
        self._known.clear()

    def joined(self, topic: Topic, peer: GossipPeer) -> None:
        """A peer is in the topic now: it can be named at once, for in a young topic there is nobody else."""
        known = self._known.get(topic.name)
        if known is not None and not peer.dial_only:
            known[1].append(peer)

    def named(self, topic: Topic, pruned: GossipPeer) -> list[tuple[PeerId, bytes | None]]:
        """Peers to try instead, with their signed records as far as there are any; nobody to who is below 0."""
        if pruned.record.value < 0:
            return []
        state = self._state
        if topic.name not in self._known:
            self._known[topic.name] = self._sorted(topic)
        useful, others = self._known[topic.name]
        chosen: dict[PeerId, None] = {}
        self._choose(topic, pruned, useful, chosen)
        if len(chosen) < state.config.d:
            self._choose(topic, pruned, others, chosen)
        return [(identifier, state.signed_record(identifier)) for identifier in chosen]

    def offered(self, infos: Sequence[PeerInfo]) -> list[tuple[PeerId, bytes | None]]:
        """The peers that a PRUNE names and that this node is not connected to, with their signed records, unchecked."""
        state = self._state
        offered: dict[PeerId, bytes | None] = {}
        for info in infos[: state.config.prune_peers]:
            try:
                peer = PeerId.from_bytes(info.peerID)
            except InvalidPeerId:
                continue
            if peer not in state.peers and peer != state.identity.peer_id:
                offered[peer] = info.signedPeerRecord if info.HasField("signedPeerRecord") else None
        return list(offered.items())

    def _sorted(self, topic: Topic) -> tuple[list[GossipPeer], list[GossipPeer]]:
        """Who is known to be of use, and the others. Nobody of both is below 0, or cannot be dialled."""
        useful: list[GossipPeer] = []
        others: list[GossipPeer] = []
        for identifier, peer in topic.peers.items():
            if not peer.dial_only and self._is_welcome(peer):
                shows = peer.firsts > 0 or (peer.gives and identifier in topic.mesh)
                (useful if shows or peer.outbound else others).append(peer)
        return useful, others

    def _choose(
        self, topic: Topic, pruned: GossipPeer, among: Sequence[GossipPeer], chosen: dict[PeerId, None]
    ) -> None:
        """Draw some, until there are `prune_peers`."""
        most = self._state.config.prune_peers
        for peer in self._drawn(among, most + 1 - len(chosen)):  # one may be who is pruned
            # Since the heartbeat it may have gone or become worse.
            if peer is not pruned and topic.peers.get(peer.id) is peer and self._is_welcome(peer):
                chosen[peer.id] = None
                if len(chosen) >= most:
                    return

    def _drawn(self, among: Sequence[GossipPeer], count: int) -> Iterable[GossipPeer]:
        return self._state.rng.sample(among, min(count, len(among)))

    @staticmethod
    def _is_welcome(peer: GossipPeer) -> bool:
        return peer.record.value >= 0 and not peer.record.idle
