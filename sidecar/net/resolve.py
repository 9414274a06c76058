"""From multiaddrs to endpoints: what can be dialled, and name resolution."""

import asyncio
import socket
from typing import NamedTuple

from ..core.errors import DialTimeout, NotSupported, SidecarError, Unreachable
from ..core.multiaddr import Multiaddr
from ..core.types import PeerId

_FAMILIES = {"dns": socket.AF_UNSPEC, "dns4": socket.AF_INET, "dns6": socket.AF_INET6}
_MAX_ANSWERS = 8  # of one name; a guess


class Target(NamedTuple):
    """One endpoint to try: the multiaddr that led to it, without its peer id, and who must answer there."""

    address: Multiaddr
    host: str
    port: int
    expected: PeerId | None


async def resolve(address: Multiaddr, expected: PeerId | None, timeout: float) -> list[Target]:
    """The endpoints that `address` stands for.

    Raises NotSupported for transports and name types that are not spoken here, DialTimeout when the name server does
    not answer within `timeout` seconds, and Unreachable for a name that does not exist.
    """
    endpoint = address.tcp_endpoint()
    if endpoint is None:
        what = "a /dnsaddr name" if address.value("dnsaddr") else "its transport"
        raise NotSupported(f"{address}: {what} cannot be dialled, only TCP on an IP address or DNS name")
    kind, host, port = endpoint
    if port == 0:
        raise NotSupported(f"{address}: port 0 cannot be dialled")
    base = address.without_peer()
    if kind in ("ip4", "ip6"):
        return [Target(base, host, port, expected)]
    loop = asyncio.get_running_loop()
    try:
        async with asyncio.timeout(timeout):
            answers = await loop.getaddrinfo(host, port, family=_FAMILIES[kind], type=socket.SOCK_STREAM)
    except TimeoutError:
        raise DialTimeout(f"{address}: the name was not resolved within {timeout:g} s") from None
    except (OSError, UnicodeError) as error:  # UnicodeError: a label that is too long for IDNA
        raise Unreachable(f"{address}: {error}") from None
    hosts = dict.fromkeys(str(answer[4][0]) for answer in answers)
    return [Target(base, text, port, expected) for text in list(hosts)[:_MAX_ANSWERS]]


async def resolve_all(
    addresses: list[tuple[Multiaddr, PeerId | None]], timeout: float
) -> tuple[list[Target], list[SidecarError]]:
    """All endpoints of several addresses, side by side, and why the others have none."""
    answers = await asyncio.gather(
        *(resolve(address, expected, timeout) for address, expected in addresses), return_exceptions=True
    )
    targets: dict[tuple[str, int, PeerId | None], Target] = {}
    errors: list[SidecarError] = []
    for answer in answers:
        if isinstance(answer, SidecarError):
            errors.append(answer)
        elif isinstance(answer, BaseException):
            raise answer
        else:
            for target in answer:
                targets.setdefault((target.host, target.port, target.expected), target)
    return list(targets.values()), errors
