"""The bounds and time-outs of the socket driver."""

from dataclasses import dataclass, field

from ..core.channel import ChannelLimits
from ..core.errors import InvalidArgument


@dataclass(frozen=True, slots=True)
class NetConfig:
    """Times are seconds, sizes are bytes. Where no source is named, the default is a guess.

    One address may hold many connections by default, so that a whole mesh can live on loopback or behind one NAT;
    what protects the node from a single address are the bounds on half-open connections. Raises InvalidArgument when a
    value makes no sense.
    """

    max_connections: int = 1024
    reserved_outbound: int = 64  # of max_connections: places that inbound connections cannot take
    max_per_address: int = 512  # inbound connections of one IPv4 address or one IPv6 /64
    max_per_network: int = 768  # inbound connections of one IPv4 /24 or IPv6 /48
    max_half_open: int = 256  # inbound connections that have not finished the handshake
    max_half_open_per_address: int = 128
    accept_rate: float = 1000.0  # inbound connections a second; a handshake costs about half a millisecond
    accept_burst: int = 1000
    backlog: int = 256  # of the listening sockets

    write_high_water: int = 256 * 1024  # bytes handed to a transport before it counts as full
    write_stall_timeout: float = 30.0  # without a byte taken by the remote while bytes wait for it
    max_buffered_total: int = 256 * 1024 * 1024  # over all connections; beyond it the fullest one goes
    close_timeout: float = 5.0  # for goodbye bytes to leave

    dial_timeout: float = 20.0  # the whole dial, name resolution included
    attempt_timeout: float = 10.0  # one address, handshake included
    resolve_timeout: float = 5.0
    stagger: float = 0.25  # between attempts; RFC 8305 section 5 recommends 250 ms
    max_parallel_attempts: int = 4  # of one dial
    max_dials: int = 64  # in flight
    max_queued_dials: int = 1024
    max_addresses: int = 16  # tried by one dial
    backoff_base: float = 1.0  # after the first failure of an address; doubles with every further one
    backoff_max: float = 60.0  # as the node waits at most before it tries a peer again
    place_backoff_max: float = 60.0  # where one peer after the other was not found at an address
    address_entries: int = 4096  # places (host and port) whose last success or failure is remembered

    channel: ChannelLimits = field(default_factory=ChannelLimits)

    def __post_init__(self) -> None:
        for name in self.__dataclass_fields__:
            value = getattr(self, name)
            if name not in ("channel", "reserved_outbound", "stagger") and value <= 0:
                raise InvalidArgument(f"{name} is {value} and must be more than 0")
        if not 0 <= self.reserved_outbound < self.max_connections:
            raise InvalidArgument(
                f"reserved_outbound is {self.reserved_outbound}, not 0 to {self.max_connections - 1} (max_connections)"
            )
