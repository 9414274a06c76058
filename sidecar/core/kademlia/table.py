"""The routing table: k-buckets of servers, and beside full ones the connected peers that wait for a place."""

import heapq
from collections.abc import Iterator

from ..errors import (
    Closed,
    DialBackoff,
    NotSupported,
    PeerBanned,
    ResourceExhausted,
    SidecarError,
    WrongNetwork,
    WrongPeer,
)
from ..networks import AddressKey
from ..parameters.kademlia import KademliaConfig
from ..types import PeerId
from .events import Addresses
from .keyspace import KEY_BITS, common_prefix, place
from .messages import encode_peer


class Contact:
    """A peer that we have been connected to: a server here; the router keeps clients as such too."""

    __slots__ = ("_encoded", "addresses", "connected", "failures", "last_seen", "network", "peer", "place")

    def __init__(self, peer: PeerId, addresses: Addresses, now: float, network: AddressKey | None = None) -> None:
        self.peer = peer
        self.place = place(peer)
        self.addresses = addresses
        self.network = network  # that bounds count it under
        self.connected = True
        self.failures = 0  # in a row
        self.last_seen = now
        self._encoded: bytes | None = None

    def update(self, addresses: Addresses | None, connected: bool) -> None:
        """`addresses` None leaves them as they are."""
        self.addresses = self.addresses if addresses is None else addresses
        self.connected = connected
        self._encoded = None

    def encoded(self, max_addresses: int) -> bytes:
        """What answers say of this peer. Kept, for a bootstrap peer sends the same again and again."""
        if self._encoded is None:
            self._encoded = encode_peer(self.peer, self.addresses[:max_addresses], self.connected)
        return self._encoded


class Bucket:
    """The contacts that share one length of prefix with us; both dicts have the least recently seen first."""

    __slots__ = ("entries", "prefix", "probing", "refreshed", "replacements")

    def __init__(self, prefix: int) -> None:
        self.prefix = prefix
        self.entries: dict[PeerId, Contact] = {}
        self.replacements: dict[PeerId, Contact] = {}
        self.probing: PeerId | None = None
        self.refreshed = float("-inf")

    def of(self, peer: PeerId) -> dict[PeerId, Contact] | None:
        """The dict that holds the peer."""
        if peer in self.entries:
            return self.entries
        return self.replacements if peer in self.replacements else None


class RoutingTable:
    """Keeps at most 256 x (`k` + `max_replacements`) contacts.

    An entry leaves when it failed, never because somebody newer came: who lasted will last (Kademlia paper, 2.1). Of
    one network, few are in a bucket and in all, so that nobody fills it from there; the others wait until one leaves.
    """

    __slots__ = ("_buckets", "_config", "_crowd", "_networks", "_place", "_size")

    def __init__(self, config: KademliaConfig, local: PeerId) -> None:
        self._config = config
        self._place = place(local)
        self._buckets: dict[int, Bucket] = {}
        self._size = 0
        self._networks: dict[AddressKey, int] = {}  # contacts in buckets and beside them
        self._crowd: dict[PeerId, Contact] = {}  # connected ones for whom there is no place among their like

    @property
    def crowded(self) -> int:
        """Connected servers that are left out since enough of their networks are in."""
        return len(self._crowd)

    def __len__(self) -> int:
        """Contacts that have a place in a bucket."""
        return self._size

    def network_size(self) -> int:
        """How many servers there are, this node included, as far as the distances of the nearest tell.

        Ids lie evenly in the keyspace, and a node knows those nearest to itself: where `k` of them take up a part of
        it, the whole has so many times more. With k = 20 the figure is off by a fifth, usually.
        """
        nearest = self.closest(self._place, self._config.k)
        if len(nearest) < self._config.k:
            return len(nearest) + 1
        reach = nearest[-1].place ^ self._place
        return max((len(nearest) << KEY_BITS) // max(reach, 1), len(nearest)) + 1

    def buckets(self) -> list[Bucket]:
        """Those that ever had a contact, farthest first."""
        return [self._buckets[prefix] for prefix in sorted(self._buckets)]

    def bucket_of(self, where: int) -> Bucket | None:
        """The bucket of a place in the keyspace (`keyspace.place`); None where it never had a contact."""
        return self._buckets.get(common_prefix(where, self._place))

    def get(self, peer: PeerId) -> Contact | None:
        """The contact, whether in a bucket, waiting beside it or left out."""
        bucket = self.bucket_of(place(peer))
        holder = bucket.of(peer) if bucket else None
        return holder[peer] if holder else self._crowd.get(peer)

    # ---------------------------------------------------------------- what is seen of peers

    def connected(
        self, peer: PeerId, addresses: Addresses, now: float, network: AddressKey | None = None
    ) -> Contact | None:
        """A connected server: enters its bucket or waits beside it. Returns the contact to probe for its sake.

        `network`: where it is; None: not to be counted.
        """
        before = self.get(peer)
        if before is not None and before.network != network:
            self.remove(peer)
        return self._enter(Contact(peer, addresses, now, network), now)

    def _enter(self, contact: Contact, now: float) -> Contact | None:
        peer, addresses = contact.peer, contact.addresses
        prefix = common_prefix(place(peer), self._place)
        bucket = self._buckets.get(prefix)
        if bucket is None:
            bucket = self._buckets[prefix] = Bucket(prefix)
        holder = bucket.of(peer)
        if holder is not None:
            holder[peer].update(addresses, True)
            self.seen(peer, now)
            return None
        self._crowd.pop(peer, None)
        if self._is_full(bucket, contact.network):
            self._crowd[peer] = contact
            if len(self._crowd) > self._config.max_clients:
                del self._crowd[next(iter(self._crowd))]
            return None
        bucket.replacements[peer] = contact
        self._count(contact, 1)
        self._promote(bucket)
        if peer in bucket.entries:
            return None
        if len(bucket.replacements) > self._config.max_replacements:
            self._left(bucket.replacements.pop(next(iter(bucket.replacements))), now)
        return self.suspect(bucket, now)

    def restore(self, peer: PeerId, addresses: Addresses, now: float) -> None:
        """A server of earlier days, which is not connected: enters its bucket where there is room."""
        prefix = common_prefix(place(peer), self._place)
        if prefix == KEY_BITS:  # this node itself
            return
        bucket = self._buckets.get(prefix)
        if bucket is None:
            bucket = self._buckets[prefix] = Bucket(prefix)
        bucket.refreshed = now
        if bucket.of(peer) is None and len(bucket.entries) < self._config.k:
            contact = bucket.entries[peer] = Contact(peer, addresses, now)
            contact.connected = False
            self._size += 1

    def _is_full(self, bucket: Bucket, network: AddressKey | None) -> bool:
        """Whether there are enough contacts of a network, in the bucket or in all."""
        if network is None or network not in self._networks:
            return False
        if self._networks[network] >= self._config.max_network_contacts:
            return True
        here = (one for holder in (bucket.entries, bucket.replacements) for one in holder.values())
        return sum(one.network == network for one in here) >= self._config.max_network_bucket

    def _count(self, contact: Contact, by: int) -> None:
        if contact.network is not None:
            count = self._networks.pop(contact.network, 0) + by
            if count:
                self._networks[contact.network] = count

    def _left(self, contact: Contact, now: float) -> None:
        """A contact has left: one of its network that was left out may have its place."""
        self._count(contact, -1)
        if contact.network is None:
            return
        for other in [one for one in self._crowd.values() if one.network == contact.network]:
            bucket = self.bucket_of(other.place)
            if bucket is not None and not self._is_full(bucket, other.network):
                self._enter(other, now)
                return

    def disconnected(self, peer: PeerId, now: float) -> None:
        """An entry keeps its place; one that only waited is forgotten, for nothing says that it lives."""
        self._crowd.pop(peer, None)
        bucket = self.bucket_of(place(peer))
        if bucket is None:
            return
        waiting = bucket.replacements.pop(peer, None)
        if waiting is not None:
            self._left(waiting, now)
        contact = bucket.entries.get(peer)
        if contact is not None:
            contact.last_seen = now
            contact.update(None, False)

    def seen(self, peer: PeerId, now: float) -> None:
        """The peer answered or asked something."""
        bucket = self.bucket_of(place(peer))
        holder = bucket.of(peer) if bucket else None
        if bucket is None or holder is None:
            return
        contact = holder.pop(peer)
        contact.last_seen = now
        contact.failures = 0
        holder[peer] = contact
        if bucket.probing == peer:
            bucket.probing = None
        self._promote(bucket)

    def failed(self, peer: PeerId) -> None:
        """A query failed. An entry goes after some of these, at once where another one waits.

        One that is still connected never goes for it, it only gives up its place to one that waits.
        """
        bucket = self.bucket_of(place(peer))
        holder = bucket.of(peer) if bucket else None
        if bucket is None or holder is None:
            return
        contact = holder[peer]
        contact.failures += 1
        waiting = any(not other.failures for other in bucket.replacements.values())
        if holder is bucket.entries and (waiting or contact.failures >= self._config.max_failures):
            if not contact.connected:
                self.remove(peer)
            elif waiting:
                self._drop_entry(bucket, peer)
                bucket.replacements = {peer: contact, **bucket.replacements}
                self._promote(bucket)

    def remove(self, peer: PeerId) -> None:
        """The peer is dead, or no server any more."""
        self._crowd.pop(peer, None)
        bucket = self.bucket_of(place(peer))
        holder = bucket.of(peer) if bucket is not None else None
        if bucket is None or holder is None:
            return
        contact = holder[peer]
        if holder is bucket.entries:
            self._drop_entry(bucket, peer)
            self._promote(bucket)
        else:
            del holder[peer]
        self._left(contact, contact.last_seen)

    def suspect(self, bucket: Bucket, now: float) -> Contact | None:
        """The contact of this bucket that should be probed now, marked as being probed.

        Where somebody waits: the least recently seen, first among those without a connection. Else only one without a
        connection that was not heard of for a whole refresh interval. One at a time for a bucket.
        """
        if bucket.probing is not None:
            return None
        suspects = [contact for contact in bucket.entries.values() if not contact.connected]
        patience = self._config.refresh_interval
        if bucket.replacements:
            suspects = suspects or list(bucket.entries.values())
            patience = self._config.probe_after
        oldest = min(suspects, key=lambda contact: contact.last_seen, default=None)
        if oldest is None or now - oldest.last_seen < patience:
            return None
        bucket.probing = oldest.peer
        return oldest

    def _promote(self, bucket: Bucket) -> None:
        """Fill free places, the most recently seen first (Kademlia paper, 4.1)."""
        while len(bucket.entries) < self._config.k:
            healthy = [contact for contact in bucket.replacements.values() if not contact.failures]
            if not healthy:
                return
            contact = healthy[-1]
            del bucket.replacements[contact.peer]
            bucket.entries[contact.peer] = contact
            self._size += 1

    def _drop_entry(self, bucket: Bucket, peer: PeerId) -> None:
        del bucket.entries[peer]
        self._size -= 1
        if bucket.probing == peer:
            bucket.probing = None

    # ---------------------------------------------------------------- the closest

    def closest(self, target: int, count: int, *, exclude: PeerId | None = None, failing: bool = True) -> list[Contact]:
        """The `count` contacts closest to a place, closest first, those that wait beside full buckets among them.

        `failing` False leaves out those whose last query failed.
        """
        found: list[Contact] = []
        for group in self._groups(target):
            contacts = [
                contact
                for bucket in group
                for holder in (bucket.entries, bucket.replacements)
                for contact in holder.values()
                if contact.peer != exclude and (failing or not contact.failures)
            ]
            found += heapq.nsmallest(count - len(found), contacts, key=lambda contact: contact.place ^ target)
            if len(found) >= count:
                break
        return found

    def _groups(self, target: int) -> Iterator[list[Bucket]]:
        """Buckets in groups, each of which is closer to the target as a whole than the next.

        A target that shares n bits with us shares more than n with the peers of bucket n, just n with those of the
        deeper buckets, and i with those of bucket i < n. So few buckets need sorting.
        """
        shared = common_prefix(target, self._place)
        prefixes = sorted(self._buckets)
        if shared < KEY_BITS and shared in self._buckets:
            yield [self._buckets[shared]]
        yield [self._buckets[prefix] for prefix in prefixes if prefix > shared]
        for prefix in reversed(prefixes):
            if prefix < shared:
                yield [self._buckets[prefix]]


_LOCAL_TROUBLE = (ResourceExhausted, DialBackoff)  # says nothing about the peer
_NO_SERVER = (NotSupported, WrongPeer, WrongNetwork, PeerBanned)  # trying again will not help


def note_failure(table: RoutingTable, peer: PeerId, error: SidecarError, *, refusable: bool) -> None:
    """A query to a peer came to nothing. `refusable`: a live peer may refuse such a message, by ending the stream."""
    if isinstance(error, _NO_SERVER):
        table.remove(peer)
    elif not isinstance(error, _LOCAL_TROUBLE) and not (refusable and isinstance(error, Closed)):
        table.failed(peer)
