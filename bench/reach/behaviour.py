"""Looks at a place with probes from two addresses outside, and says how it behaves; nothing is taken for granted.

TCP throughout: that is what nodes dial. The order matters: whether strangers get in is tried before anything was sent
to them (RFC 5780, sections 4.3 and 4.4, does the same with UDP).
"""

import contextlib
import socket
from collections.abc import Sequence

from bench.namespaces import inside
from bench.reach.kinds import Behaviour, Filtering, Mapping
from bench.reach.places import Host, Internet, Place
from bench.reach.rules import PROBE_PORT

_PATIENCE = 1.5  # seconds for a connection that may not come; the longest way there and back takes a tenth of a second
_ASKED, _OTHER = 4751, 4752  # ports outside

Seen = tuple[str, int]


def observe(internet: Internet, place: Place) -> Behaviour:
    """How the place behaves. Raises OSError where not even connections to the outside come about."""
    version = place.kind.version
    home, second = place.homes[0], place.homes[-1]
    one, other = (_of(host, version) for host in (internet.relay, internet.witness))
    with contextlib.ExitStack() as stack:
        stack.enter_context(_listening(home, _of(home, version), PROBE_PORT))
        unasked = _connects(internet.witness, (_of(home, version), PROBE_PORT))
        outside = {
            (host, port): stack.enter_context(_listening(at, host, port))
            for at, host in ((internet.relay, one), (internet.witness, other))
            for port in (_ASKED, _OTHER)
        }
        seen = _seen(stack, home, outside, (one, _ASKED))
        if unasked:
            filtering = Filtering.NONE
        elif _connects(internet.witness, seen):
            filtering = Filtering.INDEPENDENT
        elif _connects(internet.relay, seen):
            filtering = Filtering.ADDRESS
        else:
            filtering = Filtering.PORT
        hairpin = second is not home and seen[0] not in home.addresses and _connects(second, seen)
        all_seen = [seen, *(_seen(stack, home, outside, at) for at in ((one, _OTHER), (other, _ASKED)))]
        # The same port inside once more: first where nobody has seen the other home, then where it is in the way. Linux
        # keeps to what it gave a home before, where it can.
        if second is not home:
            stack.enter_context(_listening(second, _of(second, version), PROBE_PORT))
            beside = [_seen(stack, second, outside, at) for at in ((other, _OTHER), (one, _ASKED))]
        else:
            beside = []
        udp = _answered(internet.relay, one, home)
        return Behaviour(_mapping((_of(home, version), PROBE_PORT), all_seen, beside), filtering, hairpin, udp)


def _mapping(own: Seen, seen: Sequence[Seen], beside: Sequence[Seen]) -> Mapping:
    """By how a home was seen from three sides, and one beside it that uses the same port from two."""
    if len(set(seen)) > 1 or len(set(beside)) > 1 or set(seen) & set(beside):
        return Mapping.DEPENDENT
    return Mapping.NONE if seen[0] == own else Mapping.INDEPENDENT


def _of(host: Host, version: int) -> str:
    return next(address for address in host.addresses if (":" in address) == (version == 6))


def _listening(host: Host, address: str, port: int) -> socket.socket:
    with inside(host.namespace):
        here = socket.socket(_family(address), socket.SOCK_STREAM)
    _share(here)
    here.settimeout(_PATIENCE)
    here.bind((address, port))
    here.listen()
    return here


def _seen(stack: contextlib.ExitStack, home: Host, outside: dict[Seen, socket.socket], at: Seen) -> Seen:
    """As whom a host outside sees the home that connects to it; the connection stays. Raises OSError."""
    with inside(home.namespace):
        here = stack.enter_context(socket.socket(_family(at[0]), socket.SOCK_STREAM))
    _share(here)
    here.settimeout(2 * _PATIENCE)
    here.bind((_of(home, 6 if ":" in at[0] else 4), PROBE_PORT))
    here.connect(at)
    there, remote = outside[at].accept()
    stack.enter_context(there)
    return remote[0], remote[1]


def _connects(host: Host, to: Seen) -> bool:
    """Whether a host that has had nothing to do with it comes to a connection."""
    with inside(host.namespace):
        here = socket.socket(_family(to[0]), socket.SOCK_STREAM)
    with here:
        here.settimeout(_PATIENCE)
        try:
            here.connect(to)
        except OSError:
            return False
        return True


def _answered(outside: Host, address: str, home: Host) -> bool:
    """Whether a datagram gets out, and an answer in."""
    with inside(outside.namespace):
        there = socket.socket(_family(address), socket.SOCK_DGRAM)
    with inside(home.namespace):
        here = socket.socket(_family(address), socket.SOCK_DGRAM)
    with there, here:
        there.settimeout(_PATIENCE)
        here.settimeout(_PATIENCE)
        there.bind((address, _ASKED))
        try:
            here.sendto(b"?", (address, _ASKED))
            asked, remote = there.recvfrom(100)
            there.sendto(asked, remote)
            return here.recv(100) == b"?"
        except OSError:
            return False


def _share(here: socket.socket) -> None:
    """The listener and those who dial use one port, as a node does."""
    here.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    here.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)


def _family(address: str) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in address else socket.AF_INET
