"""What the driver counts, and how it shows its connections."""

import re
from collections import Counter
from dataclasses import asdict, dataclass, field

from ..core.multiaddr import Multiaddr
from ..core.types import Direction, PeerId


@dataclass(slots=True)
class Counters:
    """Running totals since the start."""

    opened: int = 0
    opened_inbound: int = 0  # of these
    closed: int = 0
    bytes_in: int = 0  # of connections that are gone; living ones count their own
    bytes_out: int = 0
    dials: int = 0
    dials_failed: int = 0
    internal_errors: int = 0
    refused: int = 0
    handshakes: Counter[str] = field(default_factory=Counter)  # "completed", or the name of the error
    closed_by: Counter[str] = field(default_factory=Counter)  # "order", or the name of the error


@dataclass(frozen=True, slots=True)
class NetStatistics:
    """A snapshot. Bytes are those on the wire; `buffered` waits in this process for sockets to take it."""

    connections: int
    inbound: int  # of these
    half_open: int
    streams: int
    dials_in_flight: int
    dials_queued: int
    dials_held_off: int
    opened: int
    opened_inbound: int  # of these
    closed: int
    refused: int
    dials: int
    dials_failed: int
    bytes_in: int
    bytes_out: int
    buffered: int
    internal_errors: int
    handshakes: dict[str, int]
    closed_by: dict[str, int]

    def flat(self) -> dict[str, int]:
        """All of it by name; the classes of errors in snake case."""
        values = asdict(self)
        handshakes, closed_by = values.pop("handshakes"), values.pop("closed_by")
        return {
            **{f"net_{name}": value for name, value in values.items()},
            "net_outbound": self.connections - self.inbound,
            "net_opened_outbound": self.opened - self.opened_inbound,
            **{f"net_handshakes_{_snake(name)}": count for name, count in handshakes.items()},
            **{f"net_closed_by_{_snake(name)}": count for name, count in closed_by.items()},
        }


@dataclass(frozen=True, slots=True)
class ConnectionView:
    """One open connection. `opened_at` is in seconds of `time.monotonic`."""

    connection: int
    peer: PeerId
    direction: Direction
    remote: Multiaddr
    local: Multiaddr
    opened_at: float
    bytes_in: int
    bytes_out: int
    buffered: int
    streams: int


def _snake(name: str) -> str:
    return re.sub(r"(?<!^)(?=[A-Z])", "_", name).lower()
