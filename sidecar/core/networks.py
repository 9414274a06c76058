"""IP networks: a table that finds the one an address is in, where an address can be reached from, who shares one.

Whoever owns one IPv6 address owns its /64, and one site has a /48, as it has a /24 of IPv4. So bounds that are to hold
against one party count these (`AddressGroup`), and leave out where many nodes of one owner share one (`Grouping`).
"""

import enum
import ipaddress
from collections.abc import Iterable, Iterator
from functools import lru_cache
from typing import Generic, TypeVar

from .classes import NamedTuple
from .errors import InvalidArgument
from .multiaddr import Multiaddr

Item = TypeVar("Item")

BITS = {4: 32, 6: 128}
_MAX_TEXT = 64
_KEPT = 16_384  # hosts that are kept parsed, some 3 MB at most: each connection asks a dozen times about the same one


@lru_cache(maxsize=_KEPT)
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


class Scope(enum.IntEnum):
    """From where an IP address can be reached; a narrower one is less."""

    LOOPBACK = 0  # this host; what is unspecified leads there too
    LINK = 1  # one link: 169.254.0.0/16, fe80::/10
    PRIVATE = 2  # one site: RFC 1918, fc00::/7 (RFC 4193), and 100.64.0.0/10 behind a carrier's NAT (RFC 6598)
    PUBLIC = 3

    @classmethod
    def of(cls, address: Multiaddr) -> "Scope":
        """From where an address can be reached; PUBLIC where it does not say, as a name does not."""
        return cls.PUBLIC if address.ip is None else _group(address.ip).scope

    @classmethod
    def of_teller(cls, remote: Multiaddr) -> "Scope":
        """How far away a peer is whose connection comes from an address: PUBLIC where a relay is in between.

        It can know addresses of this scope and of wider ones.
        """
        return cls.PUBLIC if remote.is_relayed else cls.of(remote)

    @property
    def networks(self) -> tuple[Network, ...]:
        """The networks of this scope; none for PUBLIC, which is what is in no other."""
        return _SCOPES.get(self, ())


_SCOPES = {
    scope: tuple(map(Network.from_text, texts))
    for scope, texts in {
        Scope.LOOPBACK: ("127.0.0.0/8", "0.0.0.0/8", "::1", "::"),
        Scope.LINK: ("169.254.0.0/16", "fe80::/10"),
        Scope.PRIVATE: ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10", "fc00::/7"),
    }.items()
}

LOCAL_NETWORKS = tuple(network for networks in _SCOPES.values() for network in networks)
"""All that is not public. A cluster's nodes share such a network, and so do those of a test on one machine."""


def _scopes() -> NetworkTable[Scope]:
    table: NetworkTable[Scope] = NetworkTable()
    for scope, networks in _SCOPES.items():
        for network in networks:
            table.put(network, scope)
    return table


_SCOPE_OF = _scopes()


def _local() -> NetworkTable[Network]:
    table: NetworkTable[Network] = NetworkTable()
    for scope in (Scope.LINK, Scope.PRIVATE):
        for network in scope.networks:
            table.put(network, network)
    return table


_LOCAL = _local()


def local_network(host: str) -> Network | None:
    """The range of private or link-local addresses that one is in, such as 192.168.0.0/16; None for any other.

    Raises ValueError for what is no address.
    """
    return _LOCAL.find(*split_address(host))


def in_one_lan(one: Multiaddr, other: Multiaddr) -> bool:
    """Whether two addresses of private networks are in one /24 of IPv4 or one /64 of IPv6, as in most LANs."""
    if one.ip is None or other.ip is None or one.is_relayed or other.is_relayed:
        return False
    if not Scope.of(one) is Scope.of(other) is Scope.PRIVATE:
        return False
    return Network.of(one.ip, 24, 64) == Network.of(other.ip, 24, 64)


AddressKey = tuple[int, int]
"""An address or a network as bounds count it: the version of IP, and the prefix as a number."""


class AddressGroup(NamedTuple):
    """Whom an IP address belongs to."""

    address: AddressKey  # an IPv4 address, or the /64 of an IPv6 address: one host owns that many
    network: AddressKey  # an IPv4 /24, or an IPv6 /48: what one site has
    scope: Scope

    @classmethod
    def of(cls, host: str) -> "AddressGroup":
        """Of an IP address in text form. Raises ValueError for what is none."""
        return _group(host)

    @classmethod
    def of_multiaddr(cls, address: Multiaddr) -> "AddressGroup | None":
        """Of where an address leads. None where it does not say: a name, or a peer behind a relay.

        The IP address of a relayed one is the relay's. Many peers share it, and it says nothing of them.
        """
        if address.ip is None or address.is_relayed:
            return None
        return _group(address.ip)


@lru_cache(maxsize=_KEPT)
def _group(host: str) -> AddressGroup:
    version, number = split_address(host)
    scope = _SCOPE_OF.find(version, number)
    if scope is None:
        scope = Scope.PUBLIC
    return (
        AddressGroup((4, number), (4, number >> 8), scope)
        if version == 4
        else AddressGroup((6, number >> 64), (6, number >> 80), scope)
    )


@lru_cache(maxsize=16)
def _exempting(networks: tuple[Network, ...]) -> NetworkTable[bool]:
    """A table of these networks; one for all that count alike, since it is only read."""
    table: NetworkTable[bool] = NetworkTable()
    for network in networks:
        table.put(network, True)
    return table


class Grouping:
    """Tells peers' address groups, and leaves out those in networks that are not to be counted."""

    __slots__ = ("_exempt",)

    def __init__(self, exempt: Iterable[Network] = LOCAL_NETWORKS) -> None:
        self._exempt = _exempting(tuple(exempt))

    def exempts(self, host: str) -> bool:
        """Whether an IP address is not to be counted. Raises ValueError for what is none."""
        return self._exempt.find(*split_address(host)) is not None

    def of(self, address: Multiaddr | None) -> AddressGroup | None:
        """By what to count a peer at this address; None where it is not to be counted.

        That is in an exempt network, behind a relay, and where no IP address is known.
        """
        group = None if address is None else AddressGroup.of_multiaddr(address)
        if group is None or address is None or address.ip is None or self.exempts(address.ip):
            return None
        return group
