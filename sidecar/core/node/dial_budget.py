"""How often addresses are dialled that nobody has proved: a bound for each address and network of strangers.

What others say of peers' addresses may be made up, so that all nodes that believe it dial somebody who has nothing to
do with it. Each dial there that comes to nothing is held against the address and its network. One that leads to the
peer costs nothing, so that a mesh behind one address is reached as before.
"""

from collections import OrderedDict
from collections.abc import Iterable, Sequence

from ..multiaddr import Multiaddr
from ..networks import Grouping, Network
from .statistics import DialBudgetStatistics

_Key = tuple[str, int, int]  # which bound, and what of: an address or a network, as `AddressGroup` has them

# Dials at once, and seconds until there may be one more. Guesses: peers come and go, and their old addresses are
# named for some minutes; a victim hardly notices.
_ADDRESS = (8, 30.0)
_NETWORK = (32, 10.0)
_MAX_KEYS = 4096  # a guess; the least recently dialled are forgotten
_MAX_DIALS = 4096  # under way; more than the driver takes


class DialBudget:
    """Counts the dials of unproved addresses that have led nowhere."""

    __slots__ = ("_dials", "_grouping", "_spent", "statistics")

    def __init__(self, exempt: Iterable[Network]) -> None:
        """`exempt`: networks that are not counted."""
        self._grouping = Grouping(exempt)
        self._spent: OrderedDict[_Key, tuple[float, float]] = OrderedDict()  # dials spent, as of when
        self._dials: OrderedDict[int, tuple[_Key, ...]] = OrderedDict()
        self.statistics = DialBudgetStatistics()

    def affordable(self, addresses: Sequence[Multiaddr], proven: Multiaddr | None, now: float) -> tuple[Multiaddr, ...]:
        """The addresses of a peer that may be dialled now. `proven`: where it was reached last, which always may."""
        return tuple(
            address
            for address in addresses
            if address == proven or all(self._level(key, now) + 1 <= _bound(key)[0] for key in self._keys(address))
        )

    def began(self, dial: int, addresses: Sequence[Multiaddr], proven: Multiaddr | None, now: float) -> None:
        """A dial of these addresses begins: it counts until it has succeeded."""
        keys = tuple(dict.fromkeys(key for one in addresses if one != proven for key in self._keys(one)))
        if not keys:
            return
        for key in keys:
            self._spent[key] = (self._level(key, now) + 1, now)
            self._spent.move_to_end(key)
        while len(self._spent) > _MAX_KEYS:
            self._spent.popitem(last=False)
        self._dials[dial] = keys
        if len(self._dials) > _MAX_DIALS:
            self._dials.popitem(last=False)

    def over(self, dial: int, in_vain: bool, now: float) -> None:
        """A dial has ended; where it was not in vain, it counts no more."""
        for key in self._dials.pop(dial, ()):
            if not in_vain and key in self._spent:
                left = self._level(key, now) - 1
                if left > 0:
                    self._spent[key] = (left, now)
                else:
                    del self._spent[key]

    def _keys(self, address: Multiaddr) -> tuple[_Key, ...]:
        group = self._grouping.of(address)
        return () if group is None else (("address", *group.address), ("network", *group.network))

    def _level(self, key: _Key, now: float) -> float:
        spent, at = self._spent.get(key, (0.0, now))
        return max(0.0, spent - (now - at) / _bound(key)[1])


def _bound(key: _Key) -> tuple[int, float]:
    return _ADDRESS if key[0] == "address" else _NETWORK
