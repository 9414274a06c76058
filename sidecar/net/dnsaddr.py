"""What a `/dnsaddr` name stands for: addresses in TXT records of the DNS (specs addressing, "dnsaddr Links")."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress

from ..core.errors import DialTimeout, InvalidMultiaddr, SidecarError, Unreachable
from ..core.multiaddr import Multiaddr
from ..core.types import PeerId

Found = list[tuple[Multiaddr, PeerId | None]]
Servers = tuple[tuple[str, int], ...]
LookUp = Callable[[str], Awaitable[list[str]]]

_PREFIX = "dnsaddr="
_MAX_DEPTH = 4  # names that lead to names; as go-libp2p
_MAX_LOOKUPS = 16  # for one address; a guess
_MAX_ADDRESSES = 100  # of one address; as go-libp2p


async def expand(address: Multiaddr, expected: PeerId | None, look_up: LookUp) -> Found:
    """The addresses that a `/dnsaddr` address stands for, each with the peer that it must lead to, if it says.

    Names that lead to further names are followed, each once and a bounded number of them. Only what ends as the
    address does counts, and only what leads to `expected` where that is given. What is no multiaddr is skipped.
    `look_up`: the texts of the TXT records of a name. Raises what it raises for the first name, and Unreachable where
    nothing is found.
    """
    found: dict[Multiaddr, PeerId | None] = {}
    seen: dict[str, None] = {}
    layer = [address]
    for depth in range(_MAX_DEPTH):
        names = [(link, link.dnsaddr.rstrip(".").lower()) for link in layer if link.dnsaddr is not None]
        fresh = list(dict.fromkeys((link, name) for link, name in names if name not in seen))
        fresh = fresh[: _MAX_LOOKUPS - len(seen)]
        seen.update(dict.fromkeys(name for _, name in fresh))
        answers = await asyncio.gather(*(look_up(f"_dnsaddr.{name}") for _, name in fresh), return_exceptions=True)
        layer = []
        for (link, _), answer in zip(fresh, answers, strict=True):
            if isinstance(answer, SidecarError):
                if depth == 0:
                    raise answer
                continue  # the others may lead somewhere
            if isinstance(answer, BaseException):
                raise answer
            ending = link.parts[1:]
            for text in answer:
                with suppress(InvalidMultiaddr):
                    told = Multiaddr.from_text(text.removeprefix(_PREFIX)) if text.startswith(_PREFIX) else None
                    if told is None or told.parts[len(told.parts) - len(ending) :] != ending:
                        continue
                    if told.dnsaddr is not None:
                        layer.append(told)
                    elif expected is None or told.peer_id in (None, expected):
                        found.setdefault(told, told.peer_id or expected)
    if not found:
        to = f" of {expected}" if expected is not None else ""
        raise Unreachable(f"{address}: no TXT record of _dnsaddr.{address.dnsaddr} leads to an address{to}")
    return list(found.items())[:_MAX_ADDRESSES]


class TextRecords:
    """Asks name servers for TXT records; as the system is configured, unless servers are named."""

    def __init__(self, servers: Servers, timeout: float) -> None:
        """`servers`: IP addresses and ports; none: the system's. `timeout`: seconds for one name."""
        self._servers = servers
        self._timeout = timeout

    async def look_up(self, name: str) -> list[str]:
        """The texts of a name's TXT records, the strings of each joined. Raises Unreachable and DialTimeout."""
        # Not before such a name is met: it costs 14 MB and a tenth of a second.
        import dns.asyncresolver
        import dns.exception
        import dns.nameserver
        import dns.resolver

        try:
            resolver = dns.asyncresolver.Resolver(configure=not self._servers)
            if self._servers:
                resolver.nameservers = [dns.nameserver.Do53Nameserver(host, port) for host, port in self._servers]
            answer = await resolver.resolve(name, "TXT", lifetime=self._timeout, search=False)
        except (dns.resolver.NXDOMAIN, dns.resolver.NoAnswer):
            raise Unreachable(f"{name} has no TXT records") from None
        except dns.exception.Timeout:
            raise DialTimeout(f"{name}: the name server did not answer within {self._timeout:g} s") from None
        except (dns.exception.DNSException, OSError) as error:
            raise Unreachable(f"{name}: its TXT records cannot be had: {error}") from None
        return [b"".join(record.strings).decode("utf-8", "replace") for record in answer]
