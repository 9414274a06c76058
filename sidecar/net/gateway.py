"""The gateway of this machine's network, as its routing table has it (Linux), and whether this is a container."""

import os
import socket
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from ..core.events import PortMappingState, PortsMapped
from ..core.multiaddr import Multiaddr
from ..core.portmap.method import Gateway
from .config import PortMappingConfig

_ROUTES = Path("/proc/self/net/route")
_UP, _GATEWAY = 0x1, 0x2
# Left there by Docker, by Podman, and by systemd-nspawn, LXC and others.
_MARKS = ("/.dockerenv", "/run/.containerenv", "/run/systemd/container", "/run/host/container-manager")


def in_container(environ: Mapping[str, str] = os.environ, root: Path = Path("/")) -> bool:
    """Whether this process seems to run in a container, where the next gateway is the engine's own."""
    if "KUBERNETES_SERVICE_HOST" in environ or environ.get("container"):
        return True
    return any((root / mark.lstrip("/")).exists() for mark in _MARKS)


def default_gateway(routes: Path = _ROUTES) -> Gateway | None:
    """Where packets to everywhere go, and this machine's address toward there; None where there is no such way."""
    try:
        host = parse_routes(routes.read_text())
    except OSError:  # another system
        return None
    if host is None:
        return None
    try:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
            probe.connect((host, 9))  # a datagram socket: chooses a source address and sends nothing
            return Gateway(host, str(probe.getsockname()[0]))
    except OSError:
        return None


def parse_routes(table: str) -> str | None:
    """The gateway of the default route, of several that with the least metric."""
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


def not_asked(config: PortMappingConfig, bound: Sequence[Multiaddr]) -> PortsMapped | None:
    """Why no gateway is asked, whatever there is; None: one is. `bound`: where this node listens."""
    endpoints = [address.endpoint() for address in bound]
    hosts = [endpoint.host for endpoint in endpoints if endpoint is not None and endpoint.kind == "ip4"]
    if config.mode == "off":
        why = "nat.mapping is off"
    elif all(host.startswith("127.") for host in hosts):
        why = "this node listens at no IPv4 address that a gateway could map a port to"
    elif config.mode == "auto" and config.announced:
        why = "nat.mapping is auto, and listen.announce says where this node is"
    elif config.mode == "auto" and in_container():
        why = "nat.mapping is auto, and this is a container"
    else:
        return None
    return PortsMapped(PortMappingState.OFF, why)
