"""From multiaddrs to endpoints: what can be dialled, and name resolution."""

import asyncio
import contextlib
import socket
import threading
from collections.abc import Sequence

from ..core.classes import NamedTuple
from ..core.errors import DialTimeout, NotSupported, SidecarError, Unreachable
from ..core.multiaddr import Endpoint, Multiaddr
from ..core.networks import AddressGroup, Scope
from ..core.types import PeerId
from .dnsaddr import Servers, TextRecords, expand

_FAMILIES = {"dns": socket.AF_UNSPEC, "dns4": socket.AF_INET, "dns6": socket.AF_INET6}
_MAX_ANSWERS = 8  # of one name; a guess
_MAX_LOOKUPS = 8  # at once, each in a thread; a guess


class Target(NamedTuple):
    """One endpoint to try: the multiaddr that led to it, without its peer id, and who must answer there."""

    address: Multiaddr
    host: str
    port: int
    expected: PeerId | None
    relay: Multiaddr | None = None
    """Where the relay is that it is behind, with its id; `host` is then no host but a name for the place."""

    @property
    def endpoint(self) -> Endpoint:
        """What is spoken there."""
        return self.address.endpoint() or Endpoint("", self.host, self.port)

    @property
    def scope(self) -> Scope:
        """From where it can be reached; PUBLIC behind a relay, who is found where others are."""
        if self.relay is not None:
            return Scope.PUBLIC
        return AddressGroup.of(self.host).scope

    def by_number(self, *, with_peer: bool = False) -> Multiaddr:
        """The same with the IP address for the name, which TLS still asks for.

        `with_peer`: and with who must answer there at its end, where that is known.
        """
        if self.relay is not None:
            return self.address if self.expected is None or not with_peer else self.address.with_peer(self.expected)
        endpoint = self.endpoint
        if endpoint.tls and endpoint.sni is None and endpoint.kind.startswith("dns"):
            endpoint = endpoint._replace(sni=endpoint.host)
        address = Multiaddr.tcp(self.host, self.port, endpoint.suffix)
        return address if self.expected is None or not with_peer else address.with_peer(self.expected)


class Resolver:
    """Looks names up with the system's resolver, a bounded number at a time.

    In daemon threads rather than the loop's executor: that one is waited for at exit, and a name server that does not
    answer would hold the process for half a minute.
    """

    def __init__(self, timeout: float, dns_servers: Servers = ()) -> None:
        """`timeout`: seconds for one name, waiting for a free thread included.

        `dns_servers`: whom to ask what a `/dnsaddr` name stands for; none: as the system is configured.
        """
        self._timeout = timeout
        self._texts = TextRecords(dns_servers, timeout)
        self._free = asyncio.Semaphore(_MAX_LOOKUPS)

    async def resolve_all(
        self, addresses: Sequence[tuple[Multiaddr, PeerId | None]]
    ) -> tuple[list[Target], list[SidecarError]]:
        """All endpoints of several addresses, side by side, and why the others have none."""
        answers = await asyncio.gather(
            *(self.resolve(address, expected) for address, expected in addresses), return_exceptions=True
        )
        targets: dict[tuple[str, int, str, PeerId | None], Target] = {}
        errors: list[SidecarError] = []
        for answer in answers:
            if isinstance(answer, SidecarError):
                errors.append(answer)
            elif isinstance(answer, BaseException):
                raise answer
            else:
                for target in answer:
                    targets.setdefault((target.host, target.port, target.endpoint.suffix, target.expected), target)
        return list(targets.values()), errors

    async def resolve(self, address: Multiaddr, expected: PeerId | None) -> list[Target]:
        """The endpoints that `address` stands for.

        Raises NotSupported for transports and name types that are not spoken here, DialTimeout when the name server
        does not answer in time, and Unreachable for a name that does not exist.
        """
        if address.is_relayed:
            return [_behind_relay(address, expected)]
        if address.dnsaddr is not None:
            found = await expand(address, expected, self._texts.look_up)
            targets, errors = await self.resolve_all(found)
            if not targets:
                raise errors[0]
            return targets
        endpoint = address.endpoint()
        if endpoint is None:
            raise NotSupported(
                f"{address}: its transport cannot be dialled, only TCP and WebSocket on an IP address or DNS name, "
                "and what is behind a relay"
            )
        kind, host, port = endpoint[:3]
        if port == 0:
            raise NotSupported(f"{address}: port 0 cannot be dialled")
        base = address.without_peer()
        if kind in ("ip4", "ip6"):
            return [Target(base, host, port, expected)]
        try:
            async with asyncio.timeout(self._timeout):
                hosts = await self._lookup(host, _FAMILIES[kind])
        except TimeoutError:
            raise DialTimeout(f"{address}: the name was not resolved within {self._timeout:g} s") from None
        except (OSError, UnicodeError) as error:  # UnicodeError: a label that is too long for IDNA
            because = (isinstance(error, OSError) and error.strerror) or error
            raise Unreachable(f"{address}: {because}") from None
        return [Target(base, text, port, expected) for text in hosts[:_MAX_ANSWERS]]

    async def _lookup(self, host: str, family: socket.AddressFamily) -> list[str]:
        await self._free.acquire()  # released when the thread is over, also if nobody waits for it any more
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[list[str]] = loop.create_future()

        def finish(found: list[str], error: Exception | None) -> None:
            self._free.release()
            if answer.done():
                return
            if error is not None:
                answer.set_exception(error)
            else:
                answer.set_result(found)

        def work() -> None:
            found: list[str] = []
            failure: Exception | None = None
            try:
                infos = socket.getaddrinfo(host, None, family=family, type=socket.SOCK_STREAM)
                found = list(dict.fromkeys(str(info[4][0]) for info in infos))
            except (OSError, UnicodeError) as error:
                failure = error
            with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits
                loop.call_soon_threadsafe(finish, found, failure)

        threading.Thread(target=work, name=f"resolve-{host}", daemon=True).start()
        return await answer


def _behind_relay(address: Multiaddr, expected: PeerId | None) -> Target:
    """Raises NotSupported for an address that does not name one relay and who is behind it."""
    relay = address.relay
    if relay is None or relay.peer_id is None:
        raise NotSupported(f"{address}: cannot be dialled: it does not name one relay by its id before /p2p-circuit")
    if expected is None:
        raise NotSupported(f"{address}: cannot be dialled: it does not name who is behind the relay")
    base = address.without_peer()
    return Target(base, str(base.with_peer(expected)), 0, expected, relay)
