"""Bounds of AutoNAT v2: how this node learns where it can be reached, and what it does for others that ask."""

from ..classes import dataclass
from ..errors import ConfigError


@dataclass(frozen=True, slots=True)
class AutonatConfig:
    """Both sides of AutoNAT v2; times in seconds. Raises ConfigError where a value cannot work."""

    ask: bool = True
    """Whether other nodes are asked to dial this one."""
    answer: bool = True
    """Whether this node dials others that ask."""
    servers: int = 3
    """How many servers, in networks apart, have to say that an address is not reachable. As go-libp2p wants it; the
    specification suggests "more than 3"."""
    requests_per_minute: int = 60
    """Requests taken from all peers together; more are rejected. As in go-libp2p."""
    requests_per_peer: int = 12
    """The same of one peer, and of one network that is not exempt. As in go-libp2p."""
    dial_data_per_minute: int = 12
    """Requests for another IP address than the peer's own. As in go-libp2p."""
    private_addresses: bool = False
    """Treat private addresses as public ones: for laboratories. Else they are neither asked about nor dialled."""

    def __post_init__(self) -> None:
        for name in ("servers", "requests_per_minute", "requests_per_peer", "dial_data_per_minute"):
            if getattr(self, name) < 1:
                raise ConfigError(f"autonat.{name} is {getattr(self, name)} and must be at least 1")
