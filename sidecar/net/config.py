"""The bounds and time-outs of the socket driver."""

from dataclasses import field

from ..config.sections import LimitsSection, NatSection, PeersSection, TimeoutsSection
from ..core.channel import ChannelLimits
from ..core.classes import dataclass
from ..core.errors import InvalidArgument
from ..core.networks import Network

_MAY_BE_NOTHING = (
    "channel",
    "port_mapping",
    "reserved_outbound",
    "attempt_delay",
    "relay_delay",
    "dns_servers",
    "exempt_networks",
    "verify_workers",
    "dial_from_listener",
)
_LIMITS, _PEERS, _TIMEOUTS = LimitsSection(), PeersSection(), TimeoutsSection()
_NAT = NatSection()


@dataclass(frozen=True, slots=True)
class PortMappingConfig:
    """`mode`: "auto", "on" or "off"; `protocols`: in the order in which they are tried; `lifetime`: in seconds."""

    mode: str = _NAT.mapping
    protocols: tuple[str, ...] = _NAT.protocols
    lifetime: float = _NAT.lifetime
    announced: bool = False
    """Whether addresses to announce are configured: who names them has cared for the way to them."""


@dataclass(frozen=True, slots=True)
class NetConfig:
    """Times are seconds, sizes are bytes. A default without a source, here or in the table of keys, is a guess.

    Raises InvalidArgument when a value makes no sense.
    """

    max_connections: int = _LIMITS.connections
    reserved_outbound: int = _LIMITS.connections_for_dials  # of max_connections: places that inbound ones cannot take
    max_per_address: int = _LIMITS.connections_per_address  # inbound connections of one IPv4 address or one IPv6 /64
    max_per_network: int = _LIMITS.connections_per_network  # inbound connections of one IPv4 /24 or IPv6 /48
    exempt_networks: tuple[Network, ...] = _LIMITS.exempt_networks  # not counted by address and network
    max_half_open: int = _LIMITS.half_open  # inbound connections that have not finished the handshake
    max_half_open_per_address: int = _LIMITS.half_open_per_address
    accept_rate: float = float(_LIMITS.accept_rate)  # inbound connections a second
    accept_rate_per_address: float = float(_LIMITS.accept_rate_per_address)  # the same of one address, and at once
    accept_rate_per_network: float = float(_LIMITS.accept_rate_per_network)  # the same of one network
    accept_burst: int = _LIMITS.accept_rate
    backlog: int = 256  # of the listening sockets

    write_high_water: int = 256 * 1024  # bytes handed to a transport before it counts as full
    write_stall_timeout: float = _TIMEOUTS.write_stall  # without a byte taken by the remote while bytes wait for it
    max_buffered_total: int = _LIMITS.total_buffer  # over all connections; beyond it the fullest one goes
    close_timeout: float = 5.0  # for goodbye bytes to leave

    dial_timeout: float = _TIMEOUTS.dial  # the whole dial, name resolution included
    attempt_timeout: float = _TIMEOUTS.dial_attempt  # one address, handshake included
    resolve_timeout: float = 5.0
    dns_servers: tuple[tuple[str, int], ...] = ()  # asked for /dnsaddr names; none: the system's
    dial_from_listener: bool = False  # from the port listened at, so that a NAT shows others where that one is reached
    attempt_delay: float = 0.25  # between attempts; RFC 8305 section 5 recommends 250 ms
    relay_delay: float = 0.5  # for which a dial leaves relays alone while direct addresses may answer; as go-libp2p
    max_parallel_attempts: int = 4  # of one dial
    max_dials: int = 64  # in flight
    max_queued_dials: int = 1024
    max_addresses: int = 16  # tried by one dial
    backoff_base: float = _PEERS.redial_base  # after the first failure of an address; doubles with every further one
    backoff_max: float = _PEERS.redial_limit  # as the node waits at most before it tries a peer again
    endpoint_backoff_max: float = 60.0  # where one peer after the other was not found at an address
    max_endpoints: int = 4096  # host, port, what is spoken there: of so many the last success or failure is remembered

    verify_workers: int = 0  # processes that check signatures of gossip, at most; as the node is told

    port_mapping: PortMappingConfig = field(default_factory=PortMappingConfig)
    channel: ChannelLimits = field(default_factory=ChannelLimits)

    def __post_init__(self) -> None:
        for name in self.__dataclass_fields__:
            value = getattr(self, name)
            if name not in _MAY_BE_NOTHING and value <= 0:
                raise InvalidArgument(f"{name} is {value} and must be more than 0")
        if not 0 <= self.reserved_outbound < self.max_connections:
            raise InvalidArgument(
                f"reserved_outbound is {self.reserved_outbound}, not 0 to {self.max_connections - 1} (max_connections)"
            )
