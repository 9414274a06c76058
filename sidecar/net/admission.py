"""Who may come in, decided before a byte is read."""

from collections import Counter, OrderedDict

from ..core.networks import AddressGroup, AddressKey, Grouping
from ..core.token_bucket import TokenBucket
from .config import NetConfig

SUSPECT_RATE = 5.0  # connections a second from where one banned or sent away came from; a guess: hardly any CPU
SUSPECT_TIME = 60.0  # seconds after which that is forgotten; a guess
_MAX_SUSPECTS = 4096
_MAX_PLACES = 4096  # whose rate is known; a guess: who has more can take `limits.accept_rate` as a whole


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


class Rates:
    """How often something may come from each of many places: a token bucket for each, the last ones used are kept."""

    __slots__ = ("_buckets", "rate")

    def __init__(self, rate: float) -> None:
        """`rate`: a second, and at once."""
        self.rate = rate
        self._buckets: OrderedDict[AddressKey, tuple[float, float]] = OrderedDict()  # tokens, as of

    def has(self, place: AddressKey, now: float) -> bool:
        """Whether one more may come now."""
        return self._tokens(place, now) >= 1

    def take(self, place: AddressKey, now: float) -> None:
        """One has come."""
        self._buckets[place] = (self._tokens(place, now) - 1, now)
        self._buckets.move_to_end(place)
        if len(self._buckets) > _MAX_PLACES:
            self._buckets.popitem(last=False)

    def _tokens(self, place: AddressKey, now: float) -> float:
        tokens, at = self._buckets.get(place, (self.rate, now))
        return min(self.rate, tokens + (now - at) * self.rate)


# The bounds that a connection may be refused for.
BOUNDS = (
    "suspect", "address_rate", "network_rate", "rate", "connections", "address", "network", "half_open",
    "half_open_address", "stopping",
)  # fmt: skip


class Admission:
    """Counts connections and says which of the bounds a new one would break.

    In exempt networks, one address or network may hold any number of connections: see `limits.exempt_networks`.
    """

    __slots__ = (
        "_accepts",
        "_address_rates",
        "_config",
        "_grouping",
        "_half_open",
        "_network_rates",
        "_per_address",
        "_per_network",
        "half_open",
        "refused",
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
        self._accepts = TokenBucket(config.accept_rate, config.accept_burst, now)
        self._address_rates = Rates(config.accept_rate_per_address)
        self._network_rates = Rates(config.accept_rate_per_network)
        self.half_open = 0
        self.total = 0
        self.refused = Counter(dict.fromkeys(BOUNDS, 0))  # connections, by the bound that they would have broken

    def refuse_inbound(self, host: str, now: float) -> str | None:
        """Count an inbound, half-open connection from an IP address, or return the bound that it would break.

        `host` is empty where it comes through a relay, whose address says nothing of who is behind it.
        """
        found = self._broken(host, now)
        if found is not None:
            bound, text = found
            self.refused[bound] += 1
            return text
        self.total += 1
        self.half_open += 1
        if not host:
            return None
        address, network, _ = AddressGroup.of(host)
        for counts, key in ((self._per_address, address), (self._per_network, network), (self._half_open, address)):
            counts[key] = counts.get(key, 0) + 1
        return None

    def _broken(self, host: str, now: float) -> tuple[str, str] | None:
        """The bound of `BOUNDS` that an inbound connection would break, and what to say of it."""
        config = self._config
        if not host:
            return self._full(now)
        address, network, _ = AddressGroup.of(host)
        # What one place does comes first, for it must not use up what is left to the others.
        if self.suspects.refuse(address, now):
            text = f"more than {SUSPECT_RATE:g} connections a second from where a banned peer, or one sent away, came"
            return "suspect", text
        counted = not self._grouping.exempts(host)
        if counted:
            for bound, rates, place, kind in (
                ("address_rate", self._address_rates, address, "address"),
                ("network_rate", self._network_rates, network, "network"),
            ):
                if not rates.has(place, now):
                    return bound, f"more than {rates.rate:g} connections a second from one {kind}"
            self._address_rates.take(address, now)
            self._network_rates.take(network, now)
        if (full := self._full(now)) is not None:
            return full
        if counted and self._per_address.get(address, 0) >= config.max_per_address:
            return "address", f"{config.max_per_address} connections from one address"
        if counted and self._per_network.get(network, 0) >= config.max_per_network:
            return "network", f"{config.max_per_network} connections from one network"
        if self._half_open.get(address, 0) >= config.max_half_open_per_address:
            text = f"{config.max_half_open_per_address} connections in their handshake from one address"
            return "half_open_address", text
        return None

    def _full(self, now: float) -> tuple[str, str] | None:
        """As `_broken`, of the bounds of all connections together."""
        config = self._config
        if not self._accepts.take(now):
            return "rate", f"more than {config.accept_rate:g} connections a second"
        most = config.max_connections - config.reserved_outbound
        if self.total >= most:
            return "connections", f"{self.total} connections, at most {most} before dials"
        if self.half_open >= config.max_half_open:
            return "half_open", f"{self.half_open} connections in their handshake"
        return None

    def refuse_outbound(self) -> str | None:
        """Count an outbound connection, or return the bound that it would break."""
        if self.total >= self._config.max_connections:
            self.refused["connections"] += 1
            return f"{self.total} connections, at most {self._config.max_connections}"
        self.total += 1
        return None

    def handshake_over(self, host: str) -> None:
        """An inbound connection is no longer half-open."""
        self.half_open -= 1
        if host:
            _decrement(self._half_open, AddressGroup.of(host).address)

    def release_inbound(self, host: str) -> None:
        """An inbound connection is gone; its place is free again."""
        self.total -= 1
        if not host:
            return
        source = AddressGroup.of(host)
        _decrement(self._per_address, source.address)
        _decrement(self._per_network, source.network)

    def release_outbound(self) -> None:
        """One that this node dialled is gone."""
        self.total -= 1


def _decrement(counts: dict[tuple[int, int], int], key: tuple[int, int]) -> None:
    counts[key] -= 1
    if not counts[key]:
        del counts[key]
