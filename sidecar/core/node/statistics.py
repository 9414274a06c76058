"""What a node counts, part by part."""

from collections.abc import Mapping
from dataclasses import field

from ..autonat import DialBackStatistics, ReachabilityStatistics
from ..classes import dataclass
from ..gossip import GossipStatistics
from ..history import BackfillStatistics
from ..kademlia import KademliaStatistics
from ..probe import ProbeStatistics
from ..statistics import Statistics


@dataclass(slots=True)
class SwitchStatistics(Statistics):
    """Peers, connections and streams."""

    peers_connected: int = 0
    peers_ready: int = 0
    """Identified, and of this network."""
    peers_known: int = 0
    """In the address book."""
    connections: int = 0
    streams_opened: int = 0
    """Negotiated, of both sides."""
    streams_failed: int = 0
    """Asked for, and not come to be."""
    stream_violations: int = 0
    """Reset since the peer broke their protocol."""
    stream_bytes_received: Mapping[str, int] = field(default_factory=dict)
    """Payload, by the names of the services."""
    stream_bytes_sent: Mapping[str, int] = field(default_factory=dict)


@dataclass(slots=True)
class IdentifyStatistics(Statistics):
    """What identify found."""

    identity_conflicts: int = 0
    """Peers seen in two places at once."""


@dataclass(slots=True)
class UnityStatistics(Statistics):
    """Whether this part of the mesh hangs together with the rest of it."""

    islands_met: int = 0
    bootstrap_peers_missing: int = 0
    """Not reached for a minute or longer."""


@dataclass(slots=True)
class DialBudgetStatistics(Statistics):
    """Dials of addresses that nobody has proved, and addresses that are not dialled."""

    dials_held_back: int = 0
    """Not made: too many at the address or its network had led nowhere."""
    addresses_left_out: int = 0
    """Private ones of networks that this node is not in."""


@dataclass(slots=True)
class OperationsStatistics(Statistics):
    """What apps asked for."""

    operations_open: int = 0


@dataclass(slots=True)
class ConnectionManagerStatistics(Statistics):
    """Connections beyond the high water."""

    connections_trimmed: int = 0
    connections_released: int = 0
    """To peers that had only been asked something."""


@dataclass(slots=True)
class WorkStatistics(Statistics):
    """The budgets of peers."""

    prefix = "work_"

    pauses: int = 0
    shared_pauses: int = 0
    """Of peers whose address or network was over its budget."""
    sent_away: int = 0
    refused: int = 0
    paused_peers: int = 0
    """At the moment."""
    points: dict[str, float] = field(default_factory=dict)
    """By kinds of work; a point is some 5 us."""


@dataclass(slots=True)
class GateStatistics(Statistics):
    """Who may connect."""

    prefix = "gate_"

    bans: int = 0
    protected_peers: int = 0
    refused_peers: int = 0
    refused_addresses: int = 0


@dataclass(slots=True)
class DirectStatistics(Statistics):
    """Direct messages and requests."""

    prefix = "direct_"

    links: int = 0
    queued_bytes: int = 0
    messages_sent: int = 0
    messages_received: int = 0
    messages_dropped: int = 0
    requests_sent: int = 0
    requests_received: int = 0


@dataclass(slots=True)
class DurableStatistics(Statistics):
    """Direct messages that are kept on disk, as they travel."""

    prefix = "durable_"

    links: int = 0
    peers_waiting: int = 0
    """Peers that something waits for."""
    messages_sent: int = 0
    """Written to a link, repeats included."""
    messages_received: int = 0
    conflicts: int = 0
    """Senders, this node or others, that turned out to be cloned or restored from a copy."""


@dataclass(slots=True)
class StreamsStatistics(Statistics):
    """Byte streams of apps."""

    byte_streams: int = 0
    byte_stream_protocols: int = 0


@dataclass(slots=True)
class GossipQueueStatistics(Statistics):
    """What waits for gossip peers."""

    prefix = "gossip_"

    peers: int = 0
    """That gossip with this node."""
    standings: dict[str, int] = field(default_factory=dict, metadata={"each": "peers"})
    """Of these, by what their scores have come to."""
    queued_messages: int = 0
    queued_bytes: int = 0
    fullest_queue_bytes: int = 0
    pending_messages: int = 0
    """That came, and whose signatures are not checked yet."""
    pending_bytes: int = 0
    judged_messages: int = 0
    """That wait for the verdicts of apps."""
    judged_bytes: int = 0


@dataclass(slots=True)
class RendezvousStatistics(Statistics):
    """Names."""

    prefix = "dht_"

    advertised: int = 0
    """By this node's apps."""


CIRCUIT_REFUSALS = ("no_connect", "stranger", "peer", "full")
CIRCUIT_ENDS = ("order", "time", "data", "lost")


@dataclass(slots=True)
class CircuitStatistics(Statistics):
    """Connections through relays, at their ends."""

    prefix = "circuit_"

    open_inbound: int = 0
    """Now, as those that follow."""
    open_outbound: int = 0
    opened_inbound: int = 0
    """Since the start: accepted of relays."""
    opened_outbound: int = 0
    refused: dict[str, int] = field(default_factory=dict)
    """What relays brought, by why it was not taken."""
    failed: dict[str, int] = field(default_factory=dict)
    """That this node asked for, by the error."""
    faults: dict[str, int] = field(default_factory=dict)
    """What was wrong with those that it asked for, by kind (`CircuitFault`)."""


@dataclass(slots=True)
class RelayStatistics(Statistics):
    """Places with relays, and this node as a relay."""

    prefix = "relay_"

    places: int = 0
    """That this node holds with relays now."""
    places_wanted: int = 0
    """How many it is to hold: those of the configuration, and those that it looks for."""
    places_lost: int = 0
    """Since the start: not renewed in time, or the relay is gone."""
    places_granted: int = 0
    """By relays, renewals included."""
    places_failed: dict[str, int] = field(default_factory=dict)
    """Asked for in vain, by what the relay answered."""
    reservations: int = 0
    """Of others with this node, now."""
    reservations_granted: int = 0
    circuits: int = 0
    """That this node relays now."""
    circuits_opened: int = 0
    requests_refused: dict[str, int] = field(default_factory=dict)
    """Of others, by the answer."""
    circuits_ended: dict[str, int] = field(default_factory=dict)
    """By why: in order, at the limit of time or of data, or lost with one of the two."""
    relayed_bytes: int = 0


PUNCH_FAILURES = ("lost", "no_address", "no_answer", "not_supported")


@dataclass(slots=True)
class PunchStatistics(Statistics):
    """Holes punched: relayed connections made direct."""

    prefix = "punch_"

    begun: int = 0
    succeeded: int = 0
    tries: int = 0
    failed: dict[str, int] = field(default_factory=dict)
    """Given up, by why."""
    under_way: int = 0


@dataclass(slots=True)
class NodeStatistics(Statistics):
    """A whole node; `flat` gives the names of the API's `GetStatistics`."""

    switch: SwitchStatistics = field(default_factory=SwitchStatistics)
    identify: IdentifyStatistics = field(default_factory=IdentifyStatistics)
    unity: UnityStatistics = field(default_factory=UnityStatistics)
    dial_budget: DialBudgetStatistics = field(default_factory=DialBudgetStatistics)
    reachability: ReachabilityStatistics = field(default_factory=ReachabilityStatistics)
    dial_back: DialBackStatistics = field(default_factory=DialBackStatistics)
    operations: OperationsStatistics = field(default_factory=OperationsStatistics)
    connection_manager: ConnectionManagerStatistics = field(default_factory=ConnectionManagerStatistics)
    work: WorkStatistics = field(default_factory=WorkStatistics)
    gate: GateStatistics = field(default_factory=GateStatistics)
    gossip: GossipStatistics = field(default_factory=GossipStatistics)
    gossip_queues: GossipQueueStatistics = field(default_factory=GossipQueueStatistics)
    kademlia: KademliaStatistics = field(default_factory=KademliaStatistics)
    rendezvous: RendezvousStatistics = field(default_factory=RendezvousStatistics)
    direct: DirectStatistics = field(default_factory=DirectStatistics)
    durable: DurableStatistics = field(default_factory=DurableStatistics)
    history: BackfillStatistics = field(default_factory=BackfillStatistics)
    streams: StreamsStatistics = field(default_factory=StreamsStatistics)
    probe: ProbeStatistics = field(default_factory=ProbeStatistics)
    circuits: CircuitStatistics = field(default_factory=CircuitStatistics)
    relay: RelayStatistics = field(default_factory=RelayStatistics)
    punch: PunchStatistics = field(default_factory=PunchStatistics)
