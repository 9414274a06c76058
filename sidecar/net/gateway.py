"""The gateway of this machine's network, as its routing table has it (Linux), and whether this is a container."""

import ipaddress
import os
import socket
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from ..core.events import PortMappingState, PortsMapped
from ..core.multiaddr import Multiaddr
from ..core.portmap.method import Gateway
from .config import PortMappingConfig

_ROUTES = {"ip4": Path("/proc/self/net/route"), "ip6": Path("/proc/self/net/ipv6_route")}
_FAR = "2001:db8::1"  # somewhere beyond the gateway
_UP, _GATEWAY = 0x1, 0x2
# Left there by Docker, by Podman, and by systemd-nspawn, LXC and others.
_MARKS = ("/.dockerenv", "/run/.containerenv", "/run/systemd/container", "/run/host/container-manager")


def in_container(environ: Mapping[str, str] = os.environ, root: Path = Path("/")) -> bool:
    """Whether this process seems to run in a container, where the next gateway is the engine's own."""
    if "KUBERNETES_SERVICE_HOST" in environ or environ.get("container"):
        return True
    return any((root / mark.lstrip("/")).exists() for mark in _MARKS)


def default_gateway(family: str, routes: Mapping[str, Path] = _ROUTES) -> Gateway | None:
    """Where packets to everywhere go, and this machine's address toward there; None where there is no such way.

    `family`: "ip4" or "ip6".
    """
    try:
        table = routes[family].read_text()
    except OSError:  # another system, or one without IPv6
        return None
    host, link = parse_routes(table), ""
    if family == "ip6":
        host, link = parse_ip6_routes(table)
    if host is None:
        return None
    try:
        with socket.socket(socket.AF_INET if family == "ip4" else socket.AF_INET6, socket.SOCK_DGRAM) as probe:
            # Toward the gateway's own address of the link this machine would show another one of the link.
            probe.connect((host if family == "ip4" else _FAR, 9))  # a datagram socket: sends nothing
            own = str(probe.getsockname()[0])
        return Gateway(host, own, socket.if_nametoindex(link) if link else 0)
    except OSError:
        return None


def parse_routes(table: str) -> str | None:
    """The gateway of the default route of IPv4, of several that with the least metric."""
    found: list[tuple[int, str]] = []
    for line in table.splitlines()[1:]:
        words = line.split()
        try:
            destination, gateway, flags, metric, mask = (words[column] for column in (1, 2, 3, 6, 7))
            if int(flags, 16) & (_UP | _GATEWAY) == _UP | _GATEWAY and int(destination, 16) == int(mask, 16) == 0:
                # In the order of this machine's bytes.
                found.append((int(metric), socket.inet_ntoa(int(gateway, 16).to_bytes(4, sys.byteorder))))
        except (IndexError, ValueError, OverflowError):
            continue
    return min(found)[1] if found else None


def parse_ip6_routes(table: str) -> tuple[str | None, str]:
    """The same of IPv6, with the interface that leads there."""
    found: list[tuple[int, str, str]] = []
    for line in table.splitlines():
        words = line.split()
        try:
            destination, length, gateway, metric, flags, link = (words[column] for column in (0, 1, 4, 5, 8, 9))
            if int(flags, 16) & (_UP | _GATEWAY) == _UP | _GATEWAY and int(destination, 16) == int(length, 16) == 0:
                found.append((int(metric, 16), str(ipaddress.IPv6Address(bytes.fromhex(gateway))), link))
        except (IndexError, ValueError):
            continue
    return min(found)[1:] if found else (None, "")


def not_asked(config: PortMappingConfig, bound: Sequence[Multiaddr]) -> PortsMapped | None:
    """Why no gateway is asked, whatever there is; None: one is. `bound`: where this node listens."""
    endpoints = [address.endpoint() for address in bound]
    hosts = [endpoint.host for endpoint in endpoints if endpoint is not None and endpoint.kind in ("ip4", "ip6")]
    if config.mode == "off":
        why = "nat.mapping is off"
    elif all(host.startswith("127.") or host == "::1" for host in hosts):
        why = "this node listens at no address that a gateway could map a port to"
    elif config.mode == "auto" and config.announced:
        why = "nat.mapping is auto, and listen.announce says where this node is"
    elif config.mode == "auto" and in_container():
        why = "nat.mapping is auto, and this is a container"
    else:
        return None
    return PortsMapped(PortMappingState.OFF, why)
