"""Which peers a mesh may keep beside its degrees, since they have hardly another link: see `Mesh`."""

from ..networks import AddressKey
from .state import GossipPeer, GossipState, Topic

# Guesses:
_BELIEVED = 1 / 2  # of all places: for who has not shown yet that it takes part
_OF_ADDRESS, _OF_NETWORK = 1 / 16, 1 / 8  # but in exempt networks
_CAME = 8  # messages after which who was turned away has asked for some, if it lacks them


class Dependents:
    """Says who may be a dependent. That a peer needs it is believed at first, of some; and then it is seen."""

    def __init__(self, state: GossipState) -> None:
        self._state = state

    def admits(self, topic: Topic, peer: GossipPeer) -> bool:
        """Whether a peer may be in the mesh beside the degrees: it seems to need that, and there is room."""
        in_need = peer.dial_only or self._comes_back(topic, peer)
        return in_need and not peer.outbound and self.has_room(topic, peer)

    def has_room(self, topic: Topic, peer: GossipPeer) -> bool:
        """Whether there is room for such a peer, by all and by those of its address and network."""
        most, others = self._state.config.dependents, topic.dependents
        if len(others) >= most:
            return False
        if not peer.takes_part and sum(not other.takes_part for other in others.values()) >= most * _BELIEVED:
            return False
        if not peer.record.groups:
            return True
        addresses = [address for other in others.values() for address in other.record.groups]
        networks = [_network(address) for address in addresses]
        return all(
            addresses.count(address) < most * _OF_ADDRESS and networks.count(_network(address)) < most * _OF_NETWORK
            for address in peer.record.groups
        )

    @staticmethod
    def _comes_back(topic: Topic, peer: GossipPeer) -> bool:
        """Whether a peer was turned away and, as far as can be seen, lacks what came meanwhile."""
        came = topic.turned_away.get(peer.id)
        return came is not None and (peer.takes_part or topic.came - came < _CAME)


def _network(address: AddressKey) -> AddressKey:
    """The network of what counts as one address: the /24 of IPv4, of an IPv6 /64 the /48."""
    version, number = address
    return version, number >> (8 if version == 4 else 16)
