"""What this node keeps for others and for itself: records and providers, bounded and expiring.

All entries of a store live equally long, so that the order in which they were written is the order in which they end.
"""

from bisect import bisect_left, insort
from collections import Counter

from ..classes import NamedTuple
from ..errors import Outdated, ResourceExhausted, TooLarge
from ..networks import AddressKey
from ..parameters.kademlia import KademliaConfig
from ..types import PeerId
from .events import Addresses, PeerAddresses
from .keyspace import place
from .validators import Validators


class _Ranking:
    """Keys by their distance from us: who is full gives up the farthest one."""

    __slots__ = ("_local", "_order")

    def __init__(self, local: PeerId) -> None:
        self._local = place(local)
        self._order: list[tuple[int, bytes]] = []

    def add(self, key: bytes) -> None:
        insort(self._order, (self._distance(key), key))

    def remove(self, key: bytes) -> None:
        del self._order[bisect_left(self._order, (self._distance(key), key))]

    def farther_than(self, key: bytes) -> bytes | None:
        """The farthest key, if it is farther than this one."""
        if not self._order or self._order[-1][0] <= self._distance(key):
            return None
        return self._order[-1][1]

    def _distance(self, key: bytes) -> int:
        return place(key) ^ self._local


class StoredValue(NamedTuple):
    """A record's value; times in monotonic seconds."""

    value: bytes
    received: float
    expires: float


class ValueStore:
    """At most `max_records` records of `max_record_bytes` together."""

    __slots__ = ("_config", "_ranking", "_records", "_validators", "size")

    def __init__(self, config: KademliaConfig, local: PeerId, validators: Validators) -> None:
        self._config = config
        self._validators = validators
        self._records: dict[bytes, StoredValue] = {}
        self._ranking = _Ranking(local)
        self.size = 0  # bytes of keys and values

    def __len__(self) -> int:
        return len(self._records)

    def get(self, key: bytes, now: float) -> StoredValue | None:
        """What is kept under a key and has not expired."""
        stored = self._records.get(key)
        return stored if stored is not None and stored.expires > now else None

    def check(self, key: bytes, value: bytes, now: float) -> None:
        """Whether the value may be put. Raises InvalidArgument, TooLarge, Outdated."""
        if len(value) > self._config.max_value:
            raise TooLarge(f"record of {len(value)} bytes, at most {self._config.max_value}")
        self._validators.check(key, value)
        known = self.get(key, now)
        if known is not None and known.value != value and not self._validators.better(key, value, known.value):
            raise Outdated("a better value of the record is known already")

    def put(self, key: bytes, value: bytes, now: float) -> None:
        """Keep a record; the same one again lives longer. Raises as `check` does, and ResourceExhausted."""
        self.check(key, value, now)
        self._remove(key)
        size = len(key) + len(value)
        while len(self._records) >= self._config.max_records or self.size + size > self._config.max_record_bytes:
            farthest = self._ranking.farther_than(key)
            if farthest is None:
                raise ResourceExhausted(f"{len(self._records)} records are kept, all closer to this node")
            self._remove(farthest)
        self._records[key] = StoredValue(value, now, now + self._config.record_ttl)
        self._ranking.add(key)
        self.size += size

    def next_deadline(self) -> float | None:
        """When the oldest record expires, in monotonic seconds."""
        return next(iter(self._records.values())).expires if self._records else None

    def expire(self, now: float) -> None:
        """Forget what is too old."""
        while self._records:
            key, stored = next(iter(self._records.items()))
            if stored.expires > now:
                return
            self._remove(key)

    def _remove(self, key: bytes) -> None:
        stored = self._records.pop(key, None)
        if stored is not None:
            self.size -= len(key) + len(stored.value)
            self._ranking.remove(key)


class _Provider(NamedTuple):
    addresses: Addresses
    network: AddressKey | None


class ProviderStore:
    """At most `max_providers` entries, so many of one key, and of both so many of one network.

    The newest stay; but where a key has too many, those give way first whose network has the most of them. Who has a
    single network pushes out nobody else, neither of a key nor, by many keys, of all.
    """

    __slots__ = ("_config", "_expiries", "_keys", "_networks", "_ranking")

    def __init__(self, config: KademliaConfig, local: PeerId) -> None:
        self._config = config
        self._keys: dict[bytes, dict[PeerId, _Provider]] = {}  # the providers of a key in the order of their age
        self._expiries: dict[tuple[bytes, PeerId], float] = {}
        self._networks: dict[AddressKey, dict[tuple[bytes, PeerId], None]] = {}  # of each, in the order of their age
        self._ranking = _Ranking(local)

    def __len__(self) -> int:
        return len(self._expiries)

    def get(self, key: bytes, now: float) -> list[PeerAddresses]:
        """The providers of a key that have not expired, the oldest first."""
        providers = self._keys.get(key, {})
        return [(peer, kept.addresses) for peer, kept in providers.items() if self._expiries[key, peer] > now]

    def add(
        self, key: bytes, peer: PeerId, addresses: Addresses, now: float, network: AddressKey | None = None
    ) -> None:
        """Keep a provider, or keep it longer. Raises ResourceExhausted. `network`: of the peer; None: not counted."""
        self.remove(key, peer)
        self._make_room(key, network)
        if network is not None and len(self._networks.get(network, ())) >= self._config.max_providers_of_network:
            self.remove(*next(iter(self._networks[network])))
        while len(self._expiries) >= self._config.max_providers:
            farthest = self._ranking.farther_than(key)
            if farthest is None:
                raise ResourceExhausted(f"{len(self._expiries)} providers are kept, all of closer keys")
            for other in list(self._keys[farthest]):
                self.remove(farthest, other)
        if key not in self._keys:
            self._keys[key] = {}
            self._ranking.add(key)
        self._keys[key][peer] = _Provider(addresses, network)
        self._expiries[key, peer] = now + self._config.provider_ttl
        if network is not None:
            self._networks.setdefault(network, {})[key, peer] = None

    def _make_room(self, key: bytes, network: AddressKey | None) -> None:
        """Forget the oldest of the network, or of the key, where it has as many as it may."""
        config, providers = self._config, self._keys.get(key, {})
        if len(providers) < min(config.max_providers_per_network, config.max_providers_per_key):
            return
        counts = Counter(kept.network for kept in providers.values() if kept.network is not None)
        if network is not None and counts[network] >= config.max_providers_per_network:
            crowded: AddressKey | None = network
        elif len(providers) >= config.max_providers_per_key:
            most = max(counts.values(), default=0)
            crowded = next((each for each, count in counts.items() if count == most > 1), None)
        else:
            return
        oldest = (other for other, kept in providers.items() if crowded is None or kept.network == crowded)
        self.remove(key, next(oldest))

    def remove(self, key: bytes, peer: PeerId) -> None:
        """Forget a provider."""
        if self._expiries.pop((key, peer), None) is not None:
            providers = self._keys[key]
            network = providers.pop(peer).network
            if not providers:
                del self._keys[key]
                self._ranking.remove(key)
            if network is not None:
                of_network = self._networks[network]
                del of_network[key, peer]
                if not of_network:
                    del self._networks[network]

    def next_deadline(self) -> float | None:
        """When the oldest entry expires, in monotonic seconds."""
        return next(iter(self._expiries.values()), None)

    def expire(self, now: float) -> None:
        """Forget what is too old."""
        while self._expiries:
            (key, peer), expires = next(iter(self._expiries.items()))
            if expires > now:
                return
            self.remove(key, peer)
