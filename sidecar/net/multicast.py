"""Multicast DNS on sockets: one for each link, and the machine of `core.mdns` between them and the node."""

import asyncio
import contextlib
import logging
import random
import socket
import struct
from collections.abc import Callable, Sequence
from time import monotonic
from typing import Any

from ..core.mdns.discovery import LocalDiscovery, LocalPeer
from ..core.mdns.messages import MAX_MESSAGE, service_of
from ..core.mdns.statistics import MdnsStatistics
from ..core.multiaddr import Multiaddr
from ..core.types import PeerId
from .alarm import Alarm
from .interfaces import LocalLink, links

log = logging.getLogger(__name__)

_PORT = 5353  # RFC 6762
_GROUPS = {"ip4": "224.0.0.251", "ip6": "ff02::fb"}
_LOOK_AGAIN = 30.0  # seconds between looks at the interfaces; a guess
_IP_MULTICAST_ALL = 49  # Linux: 0 means only what came over the interface that this socket joined at


class MulticastDns:
    """Asks and answers on all links of this machine, as long as it is open."""

    def __init__(
        self,
        own: PeerId,
        network: str,
        psk: bytes | None,
        listening: Sequence[Multiaddr],
        on_found: Callable[[Sequence[LocalPeer]], None],
    ) -> None:
        """`listening`: where this node listens, wildcards as they are. `psk`: the key of its private network."""
        self._loop = asyncio.get_running_loop()
        service = service_of(None if psk is None else fingerprint(psk))
        self._discovery = LocalDiscovery(own, network, service, random.Random())
        self._listening = listening
        self._on_found = on_found
        self._sockets: dict[str, _LinkSocket] = {}
        self._refused: dict[str, None] = {}  # links that could not be joined, each told once
        self._looked = 0.0
        self._alarm = Alarm(self._loop, self._discovery.next_deadline, self._on_deadline)
        self._again: asyncio.TimerHandle | None = None
        self._closed = False

    def open(self) -> None:
        """Join the group on every link; those that refuse are left out, and said."""
        self._look(monotonic())
        self._alarm.arm()
        if not self._sockets:
            log.warning("multicast DNS: no interface to ask on")

    def close(self) -> None:
        """Say goodbye, and leave the group."""
        self._closed = True
        if self._again is not None:
            self._again.cancel()
        self._alarm.cancel()
        self._discovery.say_goodbye()
        self._send()
        for opened in self._sockets.values():
            opened.close()
        self._sockets.clear()

    def statistics(self) -> MdnsStatistics:
        """A snapshot of the counters."""
        return self._discovery.statistics()

    def heard(self, data: bytes, link: str) -> None:
        """A datagram of the group."""
        if self._closed:
            return
        found = self._discovery.receive_datagram(data, link, monotonic())
        if found:
            self._on_found(found)
        self._alarm.arm()

    def _on_deadline(self, now: float) -> None:
        if now - self._looked >= _LOOK_AGAIN:
            self._look(now)
        self._discovery.handle_deadline(now)
        self._send()

    def _look(self, now: float) -> None:
        """Follow the interfaces as they come and go."""
        self._looked = now
        present = {str(link): link for link in links()}
        for name, opened in list(self._sockets.items()):
            if present.get(name) != opened.link:
                opened.close()
                del self._sockets[name]
        for name, link in present.items():
            if name not in self._sockets:
                try:
                    self._sockets[name] = _LinkSocket(self._loop, link, self.heard)
                    self._refused.pop(name, None)
                except OSError as error:
                    if name not in self._refused:
                        self._refused[name] = None
                        log.info("multicast DNS: not on %s: %s", name, error.strerror or error)
        here = {name: _reached(self._listening, opened.link) for name, opened in self._sockets.items()}
        self._discovery.relink(here, now)
        if not self._sockets and not self._closed:  # no question wakes us: look again by a timer
            self._again = self._loop.call_later(_LOOK_AGAIN, self._look_again)

    def _look_again(self) -> None:
        self._look(monotonic())
        self._alarm.arm()

    def _send(self) -> None:
        for name, data in self._discovery.data_to_send():
            opened = self._sockets.get(name)
            if opened is not None:
                opened.send(data)


class _LinkSocket:
    """Bound to the group itself, so that nothing from beyond the link gets in: what is sent to us alone does not."""

    def __init__(self, loop: asyncio.AbstractEventLoop, link: LocalLink, heard: Callable[[bytes, str], None]) -> None:
        """Raises OSError."""
        self.link = link
        self._loop = loop
        self._heard = heard
        self._socket = _joined(link)
        loop.add_reader(self._socket, self._read)

    def _read(self) -> None:
        try:
            data = self._socket.recv(MAX_MESSAGE + 1)
        except OSError:
            return  # such as an interface that is gone
        self._heard(data, str(self.link))

    def send(self, data: bytes) -> None:
        """Send to the group; what does not leave is lost, as datagrams are."""
        with contextlib.suppress(OSError):
            if self.link.family == "ip4":
                self._socket.sendto(data, (_GROUPS["ip4"], _PORT))
            else:
                self._socket.sendto(data, (_GROUPS["ip6"], _PORT, 0, self.link.number))

    def close(self) -> None:
        """Leave the group."""
        self._loop.remove_reader(self._socket)
        self._socket.close()


def _joined(link: LocalLink) -> socket.socket:
    group = _GROUPS[link.family]
    opened = socket.socket(socket.AF_INET if link.family == "ip4" else socket.AF_INET6, socket.SOCK_DGRAM)
    try:
        opened.setblocking(False)
        opened.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if hasattr(socket, "SO_REUSEPORT"):  # the system's own responder has the port, and other sidecars
            with contextlib.suppress(OSError):
                opened.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        if link.family == "ip4":
            at = struct.pack("4s4si", socket.inet_aton(group), socket.inet_aton("0.0.0.0"), link.number)
            opened.setsockopt(socket.IPPROTO_IP, _IP_MULTICAST_ALL, 0)
            opened.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_TTL, 255)
            opened.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_LOOP, 1)
            opened.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, at)
            opened.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, at)
            opened.bind((group, _PORT))
        else:
            at = socket.inet_pton(socket.AF_INET6, group) + struct.pack("@I", link.number)
            opened.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            opened.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_HOPS, 255)
            opened.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_LOOP, 1)
            opened.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_IF, link.number)
            opened.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_JOIN_GROUP, at)
            opened.bind((group, _PORT, 0, link.number))
    except BaseException:
        opened.close()
        raise
    return opened


def _reached(listening: Sequence[Multiaddr], link: LocalLink) -> tuple[Multiaddr, ...]:
    """Where this node is reached on a link."""
    found: dict[Multiaddr, None] = {}
    for address in listening:
        endpoint = address.endpoint()
        if endpoint is None or endpoint.kind != link.family:
            continue
        if endpoint.host in ("0.0.0.0", "::"):
            found.update((Multiaddr.tcp(host, endpoint.port, endpoint.suffix), None) for host in link.addresses)
        elif endpoint.host in link.addresses:
            found[address] = None
    return tuple(found)


def fingerprint(psk: bytes) -> bytes:
    """The 16 bytes that a private network is known by, without telling its 32-byte key; as kubo reckons it."""
    import hashlib

    from Crypto.Cipher import Salsa20

    stream: Any = Salsa20.new(key=psk, nonce=b"finprint")
    return hashlib.shake_128(stream.encrypt(bytes(64))).digest(16)
