"""Who may come in, decided before a byte is read."""

from collections import OrderedDict

from ..core.networks import AddressGroup, Grouping
from .config import NetConfig

SUSPECT_RATE = 5.0  # connections a second from where one banned or sent away came from; a guess: hardly any CPU
SUSPECT_TIME = 60.0  # seconds after which that is forgotten; a guess
_MAX_SUSPECTS = 4096


class Suspects:
    """Addresses from which a peer came a short while ago that is banned or was sent away: few connections a second.

    Who a peer is shows only in the handshake, which costs a hundred times what a refusal by address costs. So a peer
    that tries again and again is held off here, without locking out the others behind the same NAT.
    """

    __slots__ = ("_seen",)

    def __init__(self) -> None:
        self._seen: OrderedDict[tuple[int, int], tuple[float, float, float]] = OrderedDict()  # end, tokens, as of

    def add(self, host: str, now: float) -> None:
        """Hold connections from an IP address to `SUSPECT_RATE` a second, for `SUSPECT_TIME` seconds from now."""
        address = AddressGroup.of(host).address
        _, tokens, at = self._seen.pop(address, (0.0, SUSPECT_RATE, now))
        self._seen[address] = (now + SUSPECT_TIME, tokens, at)
        if len(self._seen) > _MAX_SUSPECTS:
            self._seen.popitem(last=False)

    def refuse(self, address: tuple[int, int], now: float) -> bool:
        """Whether a connection is one too many; else it is counted."""
        found = self._seen.get(address)
        if found is None:
            return False
        end, tokens, at = found
        if now >= end:
            del self._seen[address]
            return False
        tokens = min(SUSPECT_RATE, tokens + (now - at) * SUSPECT_RATE)
        refused = tokens < 1
        self._seen[address] = (end, tokens if refused else tokens - 1, now)
        return refused


class Admission:
    """Counts connections and says which of the bounds a new one would break.

    In exempt networks, one address or network may hold any number of connections: see `limits.exempt_networks`.
    """

    __slots__ = (
        "_config",
        "_grouping",
        "_half_open",
        "_per_address",
        "_per_network",
        "_tokens",
        "_tokens_at",
        "half_open",
        "suspects",
        "total",
    )

    def __init__(self, config: NetConfig, now: float) -> None:
        self._config = config
        self._grouping = Grouping(config.exempt_networks)
        self._per_address: dict[tuple[int, int], int] = {}
        self._per_network: dict[tuple[int, int], int] = {}
        self._half_open: dict[tuple[int, int], int] = {}
        self.suspects = Suspects()
        self._tokens = float(config.accept_burst)
        self._tokens_at = now
        self.half_open = 0
        self.total = 0

    def refuse_inbound(self, host: str, now: float) -> str | None:
        """Count an inbound, half-open connection from an IP address, or return the bound that it would break."""
        config, (address, network, _) = self._config, AddressGroup.of(host)
        if self.suspects.refuse(address, now):  # first, for it must not use up what is left to the others
            return f"more than {SUSPECT_RATE:g} connections a second from where a banned peer, or one sent away, came"
        self._tokens = min(config.accept_burst, self._tokens + (now - self._tokens_at) * config.accept_rate)
        self._tokens_at = now
        if self._tokens < 1:
            return f"more than {config.accept_rate:g} connections a second"
        self._tokens -= 1
        if self.total >= config.max_connections - config.reserved_outbound:
            return f"{self.total} connections, at most {config.max_connections - config.reserved_outbound} before dials"
        counted = not self._grouping.exempts(host)
        if counted and self._per_address.get(address, 0) >= config.max_per_address:
            return f"{config.max_per_address} connections from one address"
        if counted and self._per_network.get(network, 0) >= config.max_per_network:
            return f"{config.max_per_network} connections from one network"
        if self.half_open >= config.max_half_open:
            return f"{self.half_open} connections in their handshake"
        if self._half_open.get(address, 0) >= config.max_half_open_per_address:
            return f"{config.max_half_open_per_address} connections in their handshake from one address"
        self.total += 1
        self.half_open += 1
        for counts, key in ((self._per_address, address), (self._per_network, network), (self._half_open, address)):
            counts[key] = counts.get(key, 0) + 1
        return None

    def refuse_outbound(self) -> str | None:
        """Count an outbound connection, or return the bound that it would break."""
        if self.total >= self._config.max_connections:
            return f"{self.total} connections, at most {self._config.max_connections}"
        self.total += 1
        return None

    def handshake_over(self, host: str) -> None:
        """An inbound connection is no longer half-open."""
        self.half_open -= 1
        _decrement(self._half_open, AddressGroup.of(host).address)

    def release_inbound(self, host: str) -> None:
        """An inbound connection is gone; its place is free again."""
        source = AddressGroup.of(host)
        self.total -= 1
        _decrement(self._per_address, source.address)
        _decrement(self._per_network, source.network)

    def release_outbound(self) -> None:
        """One that this node dialled is gone."""
        self.total -= 1


def _decrement(counts: dict[tuple[int, int], int], key: tuple[int, int]) -> None:
    counts[key] -= 1
    if not counts[key]:
        del counts[key]
