"""The addresses of this machine, for what a wildcard listening address stands for."""

import contextlib
import ipaddress
import socket
import struct
from collections.abc import Iterable
from pathlib import Path

from ..core.classes import NamedTuple

_IF_INET6 = Path("/proc/self/net/if_inet6")
_SIOCGIFADDR, _SIOCGIFFLAGS = 0x8915, 0x8913
_UP = 0x1


class LocalLink(NamedTuple):
    """An interface, as far as one family of IP is concerned."""

    number: int
    name: str
    family: str  # "ip4" or "ip6"
    addresses: tuple[str, ...]  # of this machine; for IPv6 without link-local ones, which mean nothing without a zone

    def __str__(self) -> str:
        return f"{self.name} ({self.family})"


def links() -> list[LocalLink]:
    """The interfaces that are up and have an address, once for each family of IP. Linux only; elsewhere none."""
    try:
        from fcntl import ioctl
    except ImportError:  # pragma: no cover - not a Unix
        return []
    found: list[LocalLink] = []
    fours, sixes = _ip4_by_interface(), _ip6_by_interface()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        for number, name in socket.if_nameindex():
            with contextlib.suppress(OSError):  # gone meanwhile, or a system without this call
                flags: int = struct.unpack("H", ioctl(probe.fileno(), _SIOCGIFFLAGS, _request(name))[16:18])[0]
                if not flags & _UP:
                    continue
                if number in sixes:
                    found.append(LocalLink(number, name, "ip6", tuple(_with_meaning(sixes[number]))))
                if number in fours:
                    found.append(LocalLink(number, name, "ip4", (fours[number],)))
    return found


def interface_addresses(family: str) -> list[str]:
    """The unicast addresses of all interfaces, loopback first; `family` is "ip4" or "ip6".

    IPv6 link-local addresses are left out: they mean nothing without a zone. Where the system does not list its
    addresses, the one that leads to the default route stands for all.
    """
    found = _ip4() if family == "ip4" else _ip6()
    if not found:
        found = ["127.0.0.1" if family == "ip4" else "::1"]
        route = _default_route(family)
        if route and route not in found:
            found.append(route)
    return sorted(found, key=lambda text: not ipaddress.ip_address(text).is_loopback)


def _ip4() -> list[str]:
    return list(dict.fromkeys(_ip4_by_interface().values()))


def _ip6() -> list[str]:
    return [text for addresses in _ip6_by_interface().values() for text in _with_meaning(addresses)]


def _ip4_by_interface() -> dict[int, str]:
    try:
        from fcntl import ioctl
    except ImportError:  # pragma: no cover - not a Unix
        return {}
    found: dict[int, str] = {}
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        for number, name in socket.if_nameindex():
            with contextlib.suppress(OSError):  # an interface without an IPv4 address, or a system without this call
                found[number] = socket.inet_ntoa(ioctl(probe.fileno(), _SIOCGIFADDR, _request(name))[20:24])
    return found


def _request(name: str) -> bytes:
    """A `struct ifreq` that asks about an interface."""
    return struct.pack("256s", name.encode()[:15])


def _ip6_by_interface() -> dict[int, list[ipaddress.IPv6Address]]:
    try:
        lines = _IF_INET6.read_text().splitlines()
    except OSError:
        return {}
    found: dict[int, list[ipaddress.IPv6Address]] = {}
    for line in lines:
        address, index = line.split()[:2]
        found.setdefault(int(index, 16), []).append(ipaddress.IPv6Address(bytes.fromhex(address)))
    return found


def _with_meaning(addresses: Iterable[ipaddress.IPv6Address]) -> list[str]:
    """Those that mean something without a zone."""
    return [str(address) for address in addresses if not address.is_link_local]


def _default_route(family: str) -> str | None:
    kind, target = (socket.AF_INET, "192.0.2.1") if family == "ip4" else (socket.AF_INET6, "2001:db8::1")
    with contextlib.suppress(OSError), socket.socket(kind, socket.SOCK_DGRAM) as probe:
        probe.connect((target, 9))  # a datagram socket: chooses a source address and sends nothing
        return str(probe.getsockname()[0])
    return None
