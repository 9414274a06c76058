"""A relay's book: who holds a place with it, and how many circuits each peer has."""

from collections import Counter
from typing import TypeVar

from ..networks import AddressGroup, AddressKey
from ..parameters.relay import RelayConfig
from ..types import PeerId
from .messages import RelayStatus

_Key = TypeVar("_Key")


class _Place:
    __slots__ = ("expires", "group")

    def __init__(self, expires: float, group: AddressGroup | None) -> None:
        self.expires = expires
        self.group = group


class RelayBook:
    """Counts reservations and circuits against their bounds. Times are monotonic seconds."""

    def __init__(self, config: RelayConfig) -> None:
        self._config = config
        self._places: dict[PeerId, _Place] = {}
        self._per_address: Counter[AddressKey] = Counter()
        self._per_network: Counter[AddressKey] = Counter()
        self._circuits: Counter[PeerId] = Counter()
        self.circuits = 0
        """That are open or being opened."""

    def __len__(self) -> int:
        """Places held, those past their time included until `expire`."""
        return len(self._places)

    def reserve(self, peer: PeerId, group: AddressGroup | None, now: float) -> RelayStatus:
        """Give the peer a place, or renew the one that it has. `group`: where it is; None where that is not counted."""
        config = self._config
        self._remove(peer)
        if len(self._places) >= config.max_reservations:
            self.expire(now)
        if len(self._places) >= config.max_reservations:
            return RelayStatus.RESERVATION_REFUSED
        if group is not None:
            if self._per_address[group.address] >= config.max_reservations_per_address:
                return RelayStatus.RESERVATION_REFUSED
            if self._per_network[group.network] >= config.max_reservations_per_network:
                return RelayStatus.RESERVATION_REFUSED
            self._per_address[group.address] += 1
            self._per_network[group.network] += 1
        self._places[peer] = _Place(now + config.reservation_ttl, group)
        return RelayStatus.OK

    def holds(self, peer: PeerId, now: float) -> bool:
        """Whether the peer has a place."""
        place = self._places.get(peer)
        return place is not None and now < place.expires

    def expire(self, now: float) -> list[PeerId]:
        """Free the places whose time is over; returns whose they were."""
        late = [peer for peer, place in self._places.items() if place.expires <= now]
        for peer in late:
            self._remove(peer)
        return late

    def lost(self, peer: PeerId) -> None:
        """The peer is not connected any more: its place is free."""
        self._remove(peer)

    def open(self, source: PeerId, target: PeerId, now: float) -> RelayStatus:
        """Count a circuit between the two, or say why it cannot be."""
        config = self._config
        if not self.holds(target, now):
            return RelayStatus.NO_RESERVATION
        if self.circuits >= config.max_circuits:
            return RelayStatus.RESOURCE_LIMIT_EXCEEDED
        if max(self._circuits[source], self._circuits[target]) >= config.max_circuits_per_peer:
            return RelayStatus.RESOURCE_LIMIT_EXCEEDED
        self.circuits += 1
        self._circuits[source] += 1
        self._circuits[target] += 1
        return RelayStatus.OK

    def close(self, source: PeerId, target: PeerId) -> None:
        """A circuit that was counted is over."""
        self.circuits -= 1
        for peer in (source, target):
            self._circuits[peer] -= 1
            _drop_empty(self._circuits, peer)

    def _remove(self, peer: PeerId) -> None:
        place = self._places.pop(peer, None)
        if place is not None and place.group is not None:
            for counts, key in ((self._per_address, place.group.address), (self._per_network, place.group.network)):
                counts[key] -= 1
                _drop_empty(counts, key)


def _drop_empty(counts: Counter[_Key], key: _Key) -> None:
    if not counts[key]:
        del counts[key]
