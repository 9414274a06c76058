"""Listening sockets, and the addresses they are reached at."""

import errno
import ipaddress
import os
import socket
import sys
from collections.abc import Sequence

from ..core.errors import AddressInUse, ConfigError, SidecarError
from ..core.multiaddr import Multiaddr
from .interfaces import interface_addresses


def open_socket(address: Multiaddr) -> socket.socket:
    """A bound socket for `address`, which must be a TCP or WebSocket one with an IP address.

    Raises AddressInUse, and ConfigError for every other address that cannot be listened on.
    """
    endpoint = address.endpoint()
    if endpoint is None or endpoint.kind not in ("ip4", "ip6"):
        allowed = "only /ip4/.../tcp/... and /ip6/.../tcp/..., with or without /ws or /tls/ws, are supported"
        raise ConfigError(f"cannot listen on {address}: {allowed}")
    kind, host, port = endpoint[:3]
    listening = socket.socket(socket.AF_INET if kind == "ip4" else socket.AF_INET6, socket.SOCK_STREAM)
    try:
        listening.setblocking(False)
        if os.name == "posix":  # elsewhere the option lets two processes share a port
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if kind == "ip6":  # /ip6/:: beside /ip4/0.0.0.0 with the same port
            listening.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        listening.bind((host, port))
    except OSError as error:
        listening.close()
        raise _refusal(address, error) from None
    return listening


_SHARED = sys.platform == "linux"  # elsewhere, that a listener's port may be dialled from has to be said too early


def let_dial_from(listening: socket.socket) -> None:
    """Have this node dial from the port of a socket that listens already.

    Both sockets need SO_REUSEPORT for it, by which two processes could listen at one port and never know. So it is set
    no sooner than now: whoever binds to the port without it, as every sidecar does at first, is refused.
    """
    if _SHARED:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)


def dialling_socket(listening: Sequence[socket.socket], host: str) -> socket.socket | None:
    """A socket to dial an IP address from the port that one of the others listens at; None where that cannot be."""
    if not _SHARED:
        return None
    target = ipaddress.ip_address(host.partition("%")[0])
    family = socket.AF_INET if target.version == 4 else socket.AF_INET6
    for own in listening:
        if own.family != family:
            continue
        name = own.getsockname()
        at = ipaddress.ip_address(name[0])
        if not at.is_unspecified and at.is_loopback != target.is_loopback:
            continue
        dialling = socket.socket(family, socket.SOCK_STREAM)
        try:
            dialling.setblocking(False)
            dialling.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            dialling.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            dialling.bind(name)
        except OSError:  # another user's process has come in between
            dialling.close()
            continue
        return dialling
    return None


def _refusal(address: Multiaddr, error: OSError) -> SidecarError:
    if error.errno == errno.EADDRINUSE:
        return AddressInUse(f"cannot listen on {address}: the port is in use")
    remedy = "name one that this host has, or a wildcard such as /ip4/0.0.0.0/tcp/4747"
    because = f"; {remedy}" if error.errno == errno.EADDRNOTAVAIL else ""
    return ConfigError(f"cannot listen on {address}: {error.strerror or error}{because}")


def reached_at(listening: socket.socket, suffix: str = "") -> list[Multiaddr]:
    """The addresses of a bound socket: its port as it is, a wildcard as every address of this machine.

    `suffix` is put behind each: what is spoken at the port.
    """
    host, port = listening.getsockname()[:2]
    if not ipaddress.ip_address(host).is_unspecified:
        return [Multiaddr.tcp(host, port, suffix)]
    family = "ip4" if listening.family == socket.AF_INET else "ip6"
    return [Multiaddr.tcp(found, port, suffix) for found in interface_addresses(family)]
