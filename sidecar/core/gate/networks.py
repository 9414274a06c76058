"""IP networks, and a table that finds the one that an address is in."""

import ipaddress
from collections.abc import Iterator
from typing import Generic, NamedTuple, TypeVar

from ..errors import InvalidArgument

Item = TypeVar("Item")

BITS = {4: 32, 6: 128}
_MAX_TEXT = 64


def split_address(host: str) -> tuple[int, int]:
    """An IP address as its version and number. An IPv4-mapped IPv6 address is the IPv4 address; a zone is left out.

    Raises ValueError for what is no address.
    """
    address = ipaddress.ip_address(host.partition("%")[0])
    number = int(address)
    if address.version == 6 and number >> 32 == 0xFFFF:  # ::ffff:0:0/96, as IPv6 sockets show IPv4 addresses
        return 4, number & 0xFFFFFFFF
    return address.version, number


class Network(NamedTuple):
    """The addresses of one version that begin with the same `prefix` bits; `first` is the first of them."""

    version: int
    first: int
    prefix: int

    @classmethod
    def from_text(cls, text: str) -> "Network":
        """Parse an address (`192.0.2.7`, `2001:db8::1`) or a network in CIDR form (`192.0.2.0/24`, `2001:db8::/32`).

        IPv4-mapped IPv6 is IPv4. Raises InvalidArgument, also where bits behind the prefix are set: whoever writes
        10.1.2.3/8 may mean either.
        """
        host, slash, length = text.strip().partition("/")
        shown = repr(text[:_MAX_TEXT])
        wrong = InvalidArgument(f"{shown} is not an IP address or network such as 192.0.2.7 or 2001:db8::/32")
        if not host or text.strip().startswith("/"):
            raise wrong
        if "%" in host:
            raise InvalidArgument(f"{shown}: networks have no zone; without it, the address is meant in every zone")
        try:
            address = ipaddress.ip_address(host)
        except ValueError:
            raise wrong from None
        version, first, bits = address.version, int(address), BITS[address.version]
        if slash and not (length.isascii() and length.isdecimal() and len(length) <= 3 and int(length) <= bits):
            raise InvalidArgument(f"{shown}: the prefix is not a number from 0 to {bits}")
        prefix = int(length) if slash else bits
        if version == 6 and first >> 32 == 0xFFFF and prefix >= 96:
            version, first, prefix = 4, first & 0xFFFFFFFF, prefix - 96
        masked = first >> (BITS[version] - prefix) << (BITS[version] - prefix)
        if masked != first:
            right = cls(version, masked, prefix)
            raise InvalidArgument(f"{shown} has bits behind its prefix; write {right}, or the address alone")
        return cls(version, first, prefix)

    @classmethod
    def of(cls, host: str, prefix4: int, prefix6: int) -> "Network":
        """The network of a given size around an address. Raises ValueError for what is no address."""
        version, number = split_address(host)
        prefix = prefix4 if version == 4 else prefix6
        shift = BITS[version] - prefix
        return cls(version, number >> shift << shift, prefix)

    @property
    def is_address(self) -> bool:
        """Whether it is a single address."""
        return self.prefix == BITS[self.version]

    def contains(self, version: int, number: int) -> bool:
        """Whether the address with that number, of IP version 4 or 6, is in it."""
        return version == self.version and (number ^ self.first) >> (BITS[version] - self.prefix) == 0

    def __str__(self) -> str:
        address = ipaddress.IPv4Address(self.first) if self.version == 4 else ipaddress.IPv6Address(self.first)
        return str(address) if self.is_address else f"{address}/{self.prefix}"


class NetworkTable(Generic[Item]):
    """Networks and something about each.

    One dict for each length of prefix in use: a look-up costs one probe for each, however many networks there are.
    """

    __slots__ = ("_by_length", "_probes")

    def __init__(self) -> None:
        self._by_length: dict[tuple[int, int], dict[int, Item]] = {}
        self._probes: dict[int, tuple[tuple[int, dict[int, Item]], ...]] = {4: (), 6: ()}  # (shift, networks)

    def __len__(self) -> int:
        return sum(map(len, self._by_length.values()))

    def __iter__(self) -> Iterator[Item]:
        for items in self._by_length.values():
            yield from items.values()

    def get(self, network: Network) -> Item | None:
        """What is kept of exactly this network."""
        return self._by_length.get((network.version, network.prefix), {}).get(network.first)

    def put(self, network: Network, item: Item) -> None:
        """Enter a network, in place of what it had before."""
        key = (network.version, network.prefix)
        if key not in self._by_length:
            self._by_length[key] = {}
            self._rebuild(network.version)
        self._by_length[key][network.first] = item

    def remove(self, network: Network) -> Item | None:
        """Take out exactly this network and return what it had; None where it was not in."""
        key = (network.version, network.prefix)
        items = self._by_length.get(key, {})
        item = items.pop(network.first, None)
        if key in self._by_length and not items:
            del self._by_length[key]
            self._rebuild(network.version)
        return item

    def find(self, version: int, number: int) -> Item | None:
        """What is kept of the smallest network that an address is in."""
        for shift, items in self._probes[version]:
            item = items.get(number >> shift << shift)
            if item is not None:
                return item
        return None

    def around(self, network: Network) -> Item | None:
        """What is kept of the smallest network that has all of this one, itself included."""
        for shift, items in self._probes[network.version]:
            if BITS[network.version] - shift <= network.prefix:
                item = items.get(network.first >> shift << shift)
                if item is not None:
                    return item
        return None

    def _rebuild(self, version: int) -> None:
        lengths = sorted((prefix for of, prefix in self._by_length if of == version), reverse=True)
        self._probes[version] = tuple((BITS[version] - p, self._by_length[version, p]) for p in lengths)
