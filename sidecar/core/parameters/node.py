"""What a node is told at its start."""

from dataclasses import field

from ..classes import dataclass
from ..errors import ConfigError
from ..multiaddr import Multiaddr
from ..networks import LOCAL_NETWORKS, Network
from ..peers import KnownAddress
from ..types import PeerId
from .autonat import AutonatConfig
from .direct import DirectConfig
from .durable import DurableConfig
from .gossip import GossipConfig
from .history import HistoryConfig
from .kademlia import KademliaConfig
from .probe import ProbeConfig
from .relay import RelayConfig
from .rules import TopicRule

MAX_NETWORK_NAME = 64


@dataclass(frozen=True, slots=True)
class WorkConfig:
    """The budget of each peer. A point is what one needless entry costs, some 5 us; seconds. Raises ConfigError."""

    rate: float = 10_000.0
    """Points a second: some 5 % of a processor. A guess: gossip peers at rest cause some ten a second."""
    burst: float = 20_000.0
    """Points at once. A guess: enough to join 5,000 topics in one instant."""
    excess: float = 20_000.0
    """Points above the burst that are held against a peer; it bounds how long reading from it pauses at a time."""
    relief: float = 2_000.0
    """Points below the burst at which it is read again."""
    patience: float = 10.0
    """Seconds of slowness for needless work, above a fifth of the time, after which a peer is sent away. A guess."""
    hold_off: float = 60.0
    """How long it is refused then; doubles each time, up to an hour. A guess."""
    per_address: float = 4.0
    """How many peers' budgets those of one address (IPv4, or IPv6 /64) have together, unless it is exempt. A guess."""
    per_network: float = 8.0
    """The same of one network (IPv4 /24, IPv6 /48). A guess: 40 % of a processor."""
    max_peers: int = 4096
    """Peers of which it is remembered what they caused; more than are connected. A guess."""

    def __post_init__(self) -> None:
        for name in self.__dataclass_fields__:
            if not getattr(self, name) > 0:
                raise ConfigError(f"work.{name} is {getattr(self, name)} and must be more than 0")
        if self.relief > self.burst:
            raise ConfigError(f"work.relief is {self.relief:g} points, more than work.burst ({self.burst:g})")


@dataclass(frozen=True, slots=True)
class NodeConfig:
    """Every bound and interval of the node; times in seconds. Raises ConfigError where a value cannot work."""

    network: str = "main"
    """Name of the network; part of protocol ids, so letters, digits, `-`, `_` and `.` only."""
    agent: str = "sidecar"
    bootstrap: tuple[Multiaddr, ...] = ()
    known_peers: tuple[tuple[PeerId, tuple[KnownAddress, ...]], ...] = ()
    """Peers kept from an earlier run, best first; tried before the bootstrap peers."""
    rules: tuple[TopicRule, ...] = ()
    """What messages of gossip are judged by from the start on; `RulesSet` puts others into force."""
    listens: bool = True
    """Whether this node is meant to accept connections; one that only dials is ready without an address."""
    dht_server: bool = True
    dht_adapts: bool = True
    """Whether a server of the DHT that nobody can reach becomes a client."""
    accept_unnamed: bool = False
    """Whether peers that show no network at all (plain libp2p nodes) may stay and gossip."""
    target_peers: int = 24
    """Connections that the node seeks by itself. A guess: twice gossipsub's D_high, so that meshes find members."""
    target_outbound: int = 8
    """How many of them at least this node opens itself, however many dial it; they are trimmed last. As bitcoind has it
    for the peers that it relays with; at most `target_peers`."""
    high_water: int = 768
    low_water: int = 640
    """With more connections than `high_water`, those of least use are closed until `low_water` are left; 0: never. A
    guess: three quarters of the driver's default bound, so that there is room for new ones to prove their use."""
    exempt_networks: tuple[Network, ...] = LOCAL_NETWORKS
    """IP networks of which it is not counted how many peers have one address or are in one network."""
    release_after: float = 10.0
    """How long a connection that was opened for one question is kept idle where there are peers enough. A guess."""
    trim_grace: float = 20.0
    """How long a new peer is not closed for that; as in go-libp2p's connection manager."""
    upkeep_interval: float = 5.0
    """How often missing connections are sought, when nothing else calls for it. A guess."""
    redial_base: float = 1.0
    redial_limit: float = 60.0
    """First and longest wait before a peer that failed is tried again unasked. A guess; doubles in between."""
    ping_interval: float = 30.0
    """Between two pings of a connected peer, as hashicorp's yamux and go-libp2p's have it: with 20 peers at rest, pings
    and their answers are most of what wakes a node."""
    ping_timeout: float = 10.0
    identify_timeout: float = 10.0
    stream_timeout: float = 20.0
    """For whole short exchanges on a stream of their own."""
    settle_timeout: float = 10.0
    """How long the surplus one of two connections to a peer may finish its streams; those of apps take their time."""
    stream_buffer: int = 256 * 1024
    """Bytes of an app's byte stream that may wait here for the peer before the app is told to wait. A guess: as many as
    a transport takes before it counts as full."""
    max_book_peers: int = 4096
    max_book_addresses: int = 16
    max_operations: int = 10_000
    """Operations of apps under way at once."""
    max_early_bytes: int = 2 << 20
    """Gossip held of one peer that has not been identified yet."""
    gossip: GossipConfig = field(default_factory=GossipConfig)
    kademlia: KademliaConfig = field(default_factory=KademliaConfig)
    direct: DirectConfig = field(default_factory=DirectConfig)
    durable: DurableConfig = field(default_factory=DurableConfig)
    history: HistoryConfig = field(default_factory=HistoryConfig)
    work: WorkConfig = field(default_factory=WorkConfig)
    probe: ProbeConfig = field(default_factory=ProbeConfig)
    relay: RelayConfig = field(default_factory=RelayConfig)
    autonat: AutonatConfig = field(default_factory=AutonatConfig)

    def __post_init__(self) -> None:
        name = self.network
        if (
            not name
            or len(name) > MAX_NETWORK_NAME
            or not all(c.isascii() and (c.isalnum() or c in "-_.") for c in name)
        ):
            raise ConfigError(
                f"network name {name!r}: from 1 to {MAX_NETWORK_NAME} letters, digits, '-', '_' and '.' are allowed"
            )

    @property
    def outbound(self) -> int:
        """How many connections at least this node is to open itself."""
        return min(self.target_outbound, self.target_peers)

    @property
    def protocol_version(self) -> str:
        """What identify shows as our protocolVersion; names the network."""
        return f"sidecar/{self.network}"

    @property
    def kademlia_protocol(self) -> str:
        """The DHT's protocol id: networks of different names do not share one."""
        return f"/sidecar/{self.network}/kad/1.0.0"

    @property
    def direct_protocol(self) -> str:
        """The protocol id of direct messages (docs/protocols.md)."""
        return f"/sidecar/{self.network}/direct/1"

    @property
    def durable_protocol(self) -> str:
        """The protocol id of durable messages (docs/protocols.md)."""
        return f"/sidecar/{self.network}/durable/1"

    @property
    def history_protocol(self) -> str:
        """The protocol id of backfill (docs/protocols.md)."""
        return f"/sidecar/{self.network}/history/1"

    @property
    def probe_protocol(self) -> str:
        """The protocol id of answers to probes (docs/protocols.md)."""
        return f"/sidecar/{self.network}/probe/1"
