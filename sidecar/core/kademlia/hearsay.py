"""What to believe of the addresses that an answer names: it is hearsay, and whoever follows it dials them."""

from collections.abc import Iterable

from ..classes import NamedTuple
from ..multiaddr import Multiaddr
from ..networks import Scope
from ..types import PeerId
from .events import PeerAddresses

# Peers that one answer may name at one endpoint. One answers there; that others did before is remembered for a while.
_PEERS_AT_ENDPOINT = 3


class Sifted(NamedTuple):
    """The peers that an answer named with the addresses that are believed, and how many addresses are not."""

    peers: list[PeerAddresses]
    refused: int


def sift(peers: Iterable[PeerAddresses], teller: Scope) -> Sifted:
    """Leave out what cannot be so, or would harm somebody else.

    `teller`: from where the peer that answers can be reached. A narrower address is not taken from it: a stranger knows
    nobody in our own network, and what it names there is somebody whom it cannot reach itself. Nor is an endpoint that
    the answer names for many peers, for we would dial it as often.
    """
    at_endpoint: dict[object, int] = {}
    believed: list[PeerAddresses] = []
    refused = 0
    for peer, addresses in peers:
        kept: list[Multiaddr] = []
        for address in addresses:
            endpoint = address.endpoint()
            key = (endpoint.host, endpoint.port) if endpoint is not None else address
            at_endpoint[key] = at_endpoint.get(key, 0) + 1
            if at_endpoint[key] <= _PEERS_AT_ENDPOINT and Scope.of(address) >= teller:
                kept.append(address)
        refused += len(addresses) - len(kept)
        believed.append((peer, addresses if len(kept) == len(addresses) else tuple(kept)))
    return Sifted(believed, refused)


def told_by_itself(peer: PeerId, addresses: Iterable[Multiaddr], teller: Scope) -> PeerAddresses:
    """A peer with those of its own addresses that it can have, seen from where it is."""
    return peer, tuple(address for address in addresses if Scope.of(address) >= teller)
