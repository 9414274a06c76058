"""Who may come in, decided before a byte is read, and how often the log says so."""

import ipaddress
from collections import OrderedDict

from .config import NetConfig


def address_key(host: str) -> bytes:
    """What counts as one remote address: an IPv4 address, or the /64 of an IPv6 address (one host owns that many)."""
    address = ipaddress.ip_address(host.partition("%")[0])
    return address.packed if address.version == 4 else address.packed[:8]


class Admission:
    """Counts connections and says which of the bounds a new one would break."""

    __slots__ = ("_config", "_half_open", "_per_address", "_tokens", "_tokens_at", "half_open", "total")

    def __init__(self, config: NetConfig, now: float) -> None:
        self._config = config
        self._per_address: dict[bytes, int] = {}
        self._half_open: dict[bytes, int] = {}
        self._tokens = float(config.accept_burst)
        self._tokens_at = now
        self.half_open = 0
        self.total = 0

    def refuse_inbound(self, key: bytes, now: float) -> str | None:
        """Count an inbound, half-open connection from `key`, or return the bound that it would break."""
        config = self._config
        self._tokens = min(config.accept_burst, self._tokens + (now - self._tokens_at) * config.accept_rate)
        self._tokens_at = now
        if self._tokens < 1:
            return f"more than {config.accept_rate:g} connections a second"
        self._tokens -= 1
        if self.total >= config.max_connections - config.reserved_outbound:
            return f"{self.total} connections, at most {config.max_connections - config.reserved_outbound} before dials"
        if self._per_address.get(key, 0) >= config.max_per_address:
            return f"{config.max_per_address} connections from one address"
        if self.half_open >= config.max_half_open:
            return f"{self.half_open} connections in their handshake"
        if self._half_open.get(key, 0) >= config.max_half_open_per_address:
            return f"{config.max_half_open_per_address} connections in their handshake from one address"
        self.total += 1
        self.half_open += 1
        self._per_address[key] = self._per_address.get(key, 0) + 1
        self._half_open[key] = self._half_open.get(key, 0) + 1
        return None

    def refuse_outbound(self) -> str | None:
        """Count an outbound connection, or return the bound that it would break."""
        if self.total >= self._config.max_connections:
            return f"{self.total} connections, at most {self._config.max_connections}"
        self.total += 1
        return None

    def handshake_over(self, key: bytes) -> None:
        """An inbound connection is no longer half-open."""
        self.half_open -= 1
        _decrement(self._half_open, key)

    def release_inbound(self, key: bytes) -> None:
        self.total -= 1
        _decrement(self._per_address, key)

    def release_outbound(self) -> None:
        self.total -= 1


def _decrement(counts: dict[bytes, int], key: bytes) -> None:
    counts[key] -= 1
    if not counts[key]:
        del counts[key]


class Throttle:
    """Lets one warning of a kind through per `interval` seconds, and counts the others."""

    __slots__ = ("_interval", "_seen", "_size")

    def __init__(self, interval: float = 10.0, size: int = 256) -> None:
        self._interval = interval
        self._size = size
        self._seen: OrderedDict[str, tuple[float, int]] = OrderedDict()

    def pass_(self, kind: str, now: float) -> str | None:
        """None when the warning is not to be logged, else a suffix that tells how many were not."""
        since, hidden = self._seen.get(kind, (now - self._interval, 0))
        if now - since < self._interval:
            self._seen[kind] = (since, hidden + 1)
            return None
        self._seen[kind] = (now, 0)
        self._seen.move_to_end(kind)
        if len(self._seen) > self._size:
            self._seen.popitem(last=False)
        return f" ({hidden} more like this)" if hidden else ""
