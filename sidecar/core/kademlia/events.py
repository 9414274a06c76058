"""What goes into the Kademlia router and what comes out of it.

Frames are message bodies, without the varint length that goes before them on the stream.

The driver's duties
1. After `SendQuery`: one `QueryAnswered` or `QueryFailed` with its number, unless `CancelQuery` came first. The router
   gives up by itself after `query_timeout` and says `CancelQuery`; what comes later is ignored.
2. After `Probe`: one `ProbeSucceeded` or `ProbeFailed`.
3. After `RequestReceived`: the answer is among the effects of the same turn.
4. `PeerIdentified` after identify and after every change that identify/push tells; `PeerDisconnected` when the last
   connection of a peer ended.
"""

from typing import NamedTuple

from ..errors import SidecarError
from ..multiaddr import Multiaddr
from ..types import PeerId

Addresses = tuple[Multiaddr, ...]
PeerAddresses = tuple[PeerId, Addresses]

# ---------------------------------------------------------------- inputs


class PeerIdentified(NamedTuple):
    """A connected peer said what it is. `server`: it speaks the DHT's protocol, so others may be sent to it."""

    peer: PeerId
    addresses: Addresses
    server: bool


class PeerDisconnected(NamedTuple):
    """No connection to the peer is left."""

    peer: PeerId


class RequestReceived(NamedTuple):
    """A peer asks; `token` comes back in `Respond` or `RefuseRequest`."""

    token: int
    peer: PeerId
    frame: bytes


class QueryAnswered(NamedTuple):
    """The answer to a `SendQuery`."""

    query: int
    frame: bytes


class QueryFailed(NamedTuple):
    """A `SendQuery` that came to nothing."""

    query: int
    error: SidecarError


class ProbeSucceeded(NamedTuple):
    """The peer of a `Probe` lives."""

    peer: PeerId


class ProbeFailed(NamedTuple):
    """The peer of a `Probe` did not answer."""

    peer: PeerId


class LookupRequested(NamedTuple):
    """Find the peers closest to `key`, whose SHA-256 is its place.

    With a `target` the lookup asks that peer too as soon as it hears of it and ends when the peer has answered; `key`
    is then the target's id. Ends in `LookupCompleted` or `LookupFailed` with the same `op`.
    """

    op: int
    key: bytes
    target: PeerId | None = None


class BootstrapRequested(NamedTuple):
    """Refresh now, in the background: look up our own id, then a random key for every bucket.

    The router does so by itself on joining and at intervals.
    """


class LookupCancelled(NamedTuple):
    """The asker no longer wants it; nothing more is said of it."""

    op: int


KademliaInput = (
    PeerIdentified
    | PeerDisconnected
    | RequestReceived
    | QueryAnswered
    | QueryFailed
    | ProbeSucceeded
    | ProbeFailed
    | LookupRequested
    | BootstrapRequested
    | LookupCancelled
)

# ---------------------------------------------------------------- effects


class SendQuery(NamedTuple):
    """Send `frame` to the peer on a stream of the DHT's protocol, dialling first where needed.

    `addresses`: what the router heard, its own knowledge first.
    """

    query: int
    peer: PeerId
    addresses: Addresses
    frame: bytes


class CancelQuery(NamedTuple):
    """The answer is not wanted any more: reset the stream, forget the query."""

    query: int


class Respond(NamedTuple):
    """Write the answer to a request."""

    token: int
    frame: bytes


class RefuseRequest(NamedTuple):
    """Reset the stream of a request: the protocol has no message for a refusal."""

    token: int
    error: SidecarError


class Probe(NamedTuple):
    """Ping the peer with libp2p's ping, dialling first where needed."""

    peer: PeerId
    addresses: Addresses


class LookupCompleted(NamedTuple):
    """A lookup ended.

    `closest`: the peers that answered, closest first, at most k. `found`: the target's addresses; those that it
    answered at when it did, else what others say of it; None when nobody knows it. `hops`: the longest chain of answers
    that led to one of `closest`. `queried` and `failed` count peers.
    """

    op: int
    closest: tuple[PeerAddresses, ...]
    found: Addresses | None
    hops: int
    queried: int
    failed: int


class LookupFailed(NamedTuple):
    """A lookup that was not begun."""

    op: int
    error: SidecarError


class PeersLearned(NamedTuple):
    """Peers and addresses that an answer named: hearsay, for the address book."""

    peers: tuple[PeerAddresses, ...]


class TableChanged(NamedTuple):
    """Peers that entered and left the routing table."""

    added: tuple[PeerId, ...]
    removed: tuple[PeerId, ...]


KademliaEffect = (
    SendQuery
    | CancelQuery
    | Respond
    | RefuseRequest
    | Probe
    | LookupCompleted
    | LookupFailed
    | PeersLearned
    | TableChanged
)
