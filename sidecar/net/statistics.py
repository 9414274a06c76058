"""What the driver counts, and how it shows its connections."""

import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import field, replace

from ..core.classes import dataclass
from ..core.mdns.statistics import MdnsStatistics
from ..core.multiaddr import Multiaddr
from ..core.portmap.statistics import PortMappingStatistics
from ..core.statistics import Statistics
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


@dataclass(slots=True)
class NetStatistics(Statistics):
    """A snapshot. Bytes are those on the wire; `buffered` waits in this process for sockets to take it."""

    prefix = "net_"

    connections: int = 0
    inbound: int = 0  # of these
    outbound: int = 0  # of these
    relayed: int = 0  # of all of these, those that go through relays
    half_open: int = 0
    streams: int = 0
    dials_in_flight: int = 0
    dials_queued: int = 0
    dials_held_off: int = 0
    opened: int = 0
    opened_inbound: int = 0  # of these
    opened_outbound: int = 0  # of these
    closed: int = 0
    refused: int = 0
    refused_by: dict[str, int] = field(default_factory=dict)  # by the bound; those of the gate left out
    dials: int = 0
    dials_failed: int = 0
    bytes_in: int = 0
    bytes_out: int = 0
    buffered: int = 0
    internal_errors: int = 0
    verify_workers: int = 0  # processes that check signatures
    verify_worker_bytes: int = 0  # memory of these that they share with nobody
    verify_worker_failures: int = 0  # of these that died, or were killed since they did not answer
    handshakes: dict[str, int] = field(default_factory=dict)  # "completed", or the name of the error
    closed_by: dict[str, int] = field(default_factory=dict)  # "order", or the name of the error
    mdns: MdnsStatistics = field(default_factory=MdnsStatistics)
    port_mapping: PortMappingStatistics = field(default_factory=PortMappingStatistics)

    def flat(self) -> dict[str, int | float]:
        """As `Statistics.flat`, the names of errors in snake case."""
        return Statistics.flat(replace(self, handshakes=snaked(self.handshakes), closed_by=snaked(self.closed_by)))


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


def snaked(counts: Mapping[str, int]) -> dict[str, int]:
    """Counts by names of errors, these in snake case: `WrongPeer` is wrong_peer."""
    return {re.sub(r"(?<!^)(?=[A-Z])", "_", name).lower(): count for name, count in counts.items()}
