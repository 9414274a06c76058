"""What goes into the Kademlia router and what comes out of it.

Frames are message bodies, without the varint length that goes before them on the stream.

The driver's duties
1. After `SendQuery`: one `QueryAnswered` or `QueryFailed` with its number, unless `CancelQuery` came first. The router
   gives up by itself after `query_timeout` and says `CancelQuery`; what comes later is ignored.
2. After `Probe`: one `ProbeSucceeded` or `ProbeFailed`.
3. After `RequestReceived`: the answer is among the effects of the same turn.
   After a `SendQuery` that is not `answered`: `QueryAnswered` with an empty frame once the peer ended the stream in
   order, which says that it took the message.
4. `PeerIdentified` after identify and after every change that identify/push tells; `PeerDisconnected` when the last
   connection of a peer ended.
"""

from collections.abc import Callable, Sequence

from ..classes import NamedTuple
from ..errors import SidecarError
from ..multiaddr import Multiaddr
from ..networks import AddressKey, Scope
from ..types import PeerId

Addresses = tuple[Multiaddr, ...]
PeerAddresses = tuple[PeerId, Addresses]

# ---------------------------------------------------------------- inputs


class PeerIdentified(NamedTuple):
    """A connected peer said what it is. `server`: it speaks the DHT's protocol, so others may be sent to it.

    `network`: where its connection comes from or leads to, as `AddressGroup` has it; None: not to be counted.
    """

    peer: PeerId
    addresses: Addresses
    server: bool
    network: AddressKey | None = None


class PeerDisconnected(NamedTuple):
    """No connection to the peer is left."""

    peer: PeerId


class PeerForgotten(NamedTuple):
    """The peer is not to be known any more, connected or not."""

    peer: PeerId


class RequestReceived(NamedTuple):
    """A peer asks; `token` comes back in `Respond` or `RefuseRequest`. `network` as in `PeerIdentified`."""

    token: int
    peer: PeerId
    frame: bytes
    teller: Scope = Scope.LOOPBACK
    """From where the peer can be reached; no narrower addresses are taken from it."""
    network: AddressKey | None = None


class QueryAnswered(NamedTuple):
    """The answer to a `SendQuery`; `teller` as in `RequestReceived`, `network` as in `PeerIdentified`."""

    query: int
    frame: bytes
    teller: Scope = Scope.LOOPBACK
    network: AddressKey | None = None


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
    is then the target's id. With `via` it begins with those peers alone, and asks of the others only whom the routing
    table does not have: what they know that we do not. `max_queries`: whom it asks in all; None: as the configuration
    has it. Ends in `LookupCompleted` or `LookupFailed` with the same `op`.
    """

    op: int
    key: bytes
    target: PeerId | None = None
    via: tuple[PeerAddresses, ...] = ()
    max_queries: int | None = None


class BootstrapRequested(NamedTuple):
    """Refresh now, in the background: look up our own id, then a random key for every bucket.

    The router does so by itself on joining and at intervals.
    """


class TableRestored(NamedTuple):
    """These servers were known before, and all is as right after a refresh: the next one is an interval away."""

    contacts: Sequence[PeerAddresses]


class LookupCancelled(NamedTuple):
    """The asker no longer wants it; nothing more is said of it."""

    op: int


class PutRequested(NamedTuple):
    """Put a record at the k peers closest to its key, and keep it here. Ends in `StoreCompleted` or `LookupFailed`.

    `renew`, of a value that has a number: makes it anew with one above that of a better value, which this node has or
    the lookup brings. It raises Outdated where that cannot be.
    """

    op: int
    key: bytes
    value: bytes
    renew: Callable[[bytes], bytes] | None = None


class ValueRequested(NamedTuple):
    """Find a record's best value. Ends in `ValueCompleted` or `LookupFailed`.

    It ends early when `quorum` peers, ourselves among them, answered with a value; 0: the configured number.
    """

    op: int
    key: bytes
    quorum: int


class ProvideRequested(NamedTuple):
    """Tell the k peers closest to a key that we provide it. Ends in `StoreCompleted` or `LookupFailed`."""

    op: int
    key: bytes
    addresses: Addresses


class ProvideEnded(NamedTuple):
    """We provide the key no longer. Others go on saying so until it expires with them: there is no message for it."""

    key: bytes


class ProvidersRequested(NamedTuple):
    """Find a key's providers, at most `limit`, ourselves left out; 0: the configured bound.

    `ProvidersFound` as they come, then `ProvidersCompleted`, or `LookupFailed`.
    """

    op: int
    key: bytes
    limit: int


KademliaInput = (
    PeerIdentified
    | PeerDisconnected
    | PeerForgotten
    | RequestReceived
    | QueryAnswered
    | QueryFailed
    | ProbeSucceeded
    | ProbeFailed
    | LookupRequested
    | BootstrapRequested
    | TableRestored
    | LookupCancelled
    | PutRequested
    | ValueRequested
    | ProvideRequested
    | ProvideEnded
    | ProvidersRequested
)

# ---------------------------------------------------------------- effects


class SendQuery(NamedTuple):
    """Send `frame` to the peer on a stream of the DHT's protocol, dialling first where needed.

    `addresses`: what the router heard, its own knowledge first. `answered`: whether the peer answers such a message.
    """

    query: int
    peer: PeerId
    addresses: Addresses
    frame: bytes
    answered: bool = True


class CancelQuery(NamedTuple):
    """The answer is not wanted any more: reset the stream, forget the query."""

    query: int


class Respond(NamedTuple):
    """Write the answer to a request; None: it has none, and was taken."""

    token: int
    frame: bytes | None


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


class StoreCompleted(NamedTuple):
    """A record or a provider was sent to the `asked` closest peers, of which `stored` took it."""

    op: int
    stored: int
    asked: int


class ValueCompleted(NamedTuple):
    """A search for a value ended.

    `value`: the best one, None when nobody has any. `holders`: how many had it, we among them. `received`: when the
    last of them got it, in seconds of the wall clock since 1970; None where none said.
    """

    op: int
    value: bytes | None
    holders: int
    received: float | None


class ProvidersFound(NamedTuple):
    """Further providers, each once."""

    op: int
    peers: tuple[PeerAddresses, ...]


class ProvidersCompleted(NamedTuple):
    """A search for providers ended; `asked` peers answered."""

    op: int
    asked: int


class PeersNamed(NamedTuple):
    """Peers and addresses that the answer of `teller` named: hearsay, for the address book.

    `refused`: addresses that are not believed (`hearsay.sift`). `reach`: from where the teller can be reached.
    """

    peers: tuple[PeerAddresses, ...]
    teller: PeerId
    refused: int
    reach: Scope = Scope.LOOPBACK


KademliaEffect = (
    SendQuery
    | CancelQuery
    | Respond
    | RefuseRequest
    | Probe
    | LookupCompleted
    | LookupFailed
    | StoreCompleted
    | ValueCompleted
    | ProvidersFound
    | ProvidersCompleted
    | PeersNamed
)
