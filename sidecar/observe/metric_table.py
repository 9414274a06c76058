"""The statistics as metrics: which becomes which, what it means, and which are left out.

The names follow Prometheus' conventions: a unit in the name, counters end in `_total` (which the writer adds).
"""

from collections.abc import Callable, Mapping

from ..api.statistics import BackendStatistics
from ..core.classes import NamedTuple
from ..core.events import Standing
from ..core.gossip.events import MISBEHAVIOUR
from ..core.history.statistics import REFUSALS, SESSION_ENDS
from ..core.node.statistics import CIRCUIT_ENDS, CIRCUIT_REFUSALS, PUNCH_FAILURES, NodeStatistics
from ..core.relay import CircuitFault, RelayStatus
from ..net.statistics import NetStatistics, snaked


class Counted(NamedTuple):
    """All that is counted, at one moment."""

    api: BackendStatistics
    net: NetStatistics

    @property
    def node(self) -> NodeStatistics:
        """The node's part."""
        return self.api.node


Number = Callable[[Counted], float]


class Row(NamedTuple):
    """A number and the metric that shows it. Rows of one metric differ in their labels and follow each other."""

    number: Number
    metric: str
    counter: bool
    doc: str
    labels: Mapping[str, str] = {}


class Family(NamedTuple):
    """Numbers of one kind by name, which is the value of the label."""

    numbers: Callable[[Counted], Mapping[str, float]]
    metric: str
    counter: bool
    label: str
    doc: str
    known: tuple[str, ...] = ()
    """Values shown from the start on, with 0, so that a first increase is seen as one."""


def _gauge(number: Number, metric: str, doc: str, **labels: str) -> Row:
    return Row(number, f"sidecar_{metric}", False, doc, labels)


def _counter(number: Number, metric: str, doc: str, **labels: str) -> Row:
    return Row(number, f"sidecar_{metric}", True, doc, labels)


_GATE = "Connections and dials refused for a ban, a deny list or an allow list."
_GRAFTS = "GRAFTs: a peer joins the mesh of a topic."
_PRUNES = "PRUNEs: a peer leaves the mesh of a topic."
_IHAVE = "Ids of messages in IHAVE, examined."
_IWANT = "Ids of messages in IWANT."
_IDONTWANT = "Ids of messages in IDONTWANT."
_NAMED = "Ids of messages on lazy links, in place of the messages."
_ADDRESSES = "Public addresses of this node, by what peers have found that were asked to dial them."
_FOUND = "What came of asking peers to dial this node; broken: an error, unproven: said to have worked, and not shown."
_SERVED = (
    "What came of requests of peers to be dialled; rejected: too many, refused: no address that may be dialled, "
    "broken: given up or against the protocol."
)
_CONNECTIONS = "Open connections to peers."
_KEPT = (
    "Durable messages on this node's disk: for peers (outbox), for apps (inbox), delivered too often (dead_letters)."
)
_SESSIONS = "Sessions of backfill under way: that this node has with peers (asking), that peers have with it (serving)."
_KEPT_BYTES = "Their bytes, as they count against the bounds: 256 a message beside its own."
_CARRIED = "Streams through relays that connections of this node go over."
_CIRCUITS = "Streams through relays that were agreed on; their handshakes follow."
_OPENED = "Connections whose handshake was finished."
_REFUSED = "Calls of apps that a token, its scopes or its quota did not allow."
_MESSAGES = (
    "Messages that wait: gossip for slow peers, subscribers for slow apps; history for subscribers that come back."
)
_BYTES = (
    "Bytes that wait: gossip and direct for slow peers, sockets below them, subscribers for slow apps; history for "
    "subscribers that come back."
)
_DROPPED = (
    "Messages lost to a full queue: gossip to a slow peer; direct, of peers to this node; subscribers and receivers, "
    "to a slow app; all_receivers, where no app's queue had room, which the sender is told."
)

ROWS: tuple[Row, ...] = (
    # peers and connections
    _gauge(lambda c: c.node.switch.peers_connected, "peers_connected", "Peers with at least one connection."),
    _gauge(lambda c: c.node.switch.peers_ready, "peers_ready", "Peers that are identified and of this network."),
    _gauge(lambda c: c.node.switch.peers_known, "peers_known", "Peers in the address book."),
    _gauge(
        lambda c: c.node.unity.bootstrap_peers_missing,
        "bootstrap_peers_missing",
        "Bootstrap peers not reached for a minute or longer.",
    ),
    _counter(
        lambda c: c.node.unity.islands_met,
        "islands_met",
        "Times that two parts of the mesh which had been apart were joined here.",
    ),
    _gauge(lambda c: c.node.reachability.confirmed, "addresses", _ADDRESSES, reachability="confirmed"),
    _gauge(lambda c: c.node.reachability.not_reachable, "addresses", _ADDRESSES, reachability="not_reachable"),
    _gauge(lambda c: c.node.reachability.unknown, "addresses", _ADDRESSES, reachability="unknown"),
    _gauge(
        lambda c: c.node.reachability.node_not_reachable,
        "not_reachable",
        "1 where peers reach this node at none of the addresses that they were asked to dial.",
    ),
    _counter(lambda c: c.node.reachability.requests, "reachability_requests", "Times that a peer was asked to dial."),
    _counter(lambda c: c.node.reachability.proofs, "reachability_answers", _FOUND, answer="reached"),
    _counter(lambda c: c.node.reachability.failures, "reachability_answers", _FOUND, answer="not_reached"),
    _counter(lambda c: c.node.reachability.refusals, "reachability_answers", _FOUND, answer="refused"),
    _counter(lambda c: c.node.reachability.broken, "reachability_answers", _FOUND, answer="broken"),
    _counter(lambda c: c.node.reachability.unproven, "reachability_answers", _FOUND, answer="unproven"),
    _counter(
        lambda c: c.node.reachability.stray_dial_backs,
        "reachability_stray_dial_backs",
        "Dial-backs that nobody here has asked for, or that came over a connection which was open before.",
    ),
    _counter(
        lambda c: c.node.reachability.dial_data_bytes,
        "reachability_dial_data_bytes",
        "Bytes paid for dials at another IP address than the one that the server sees.",
    ),
    _counter(lambda c: c.node.dial_back.requests, "autonat_requests", "Requests of peers to be dialled."),
    _counter(lambda c: c.node.dial_back.rejected, "autonat_answers", _SERVED, answer="rejected"),
    _counter(lambda c: c.node.dial_back.refused, "autonat_answers", _SERVED, answer="refused"),
    _counter(lambda c: c.node.dial_back.broken, "autonat_answers", _SERVED, answer="broken"),
    _counter(lambda c: c.node.dial_back.reached, "autonat_answers", _SERVED, answer="reached"),
    _counter(lambda c: c.node.dial_back.not_reached, "autonat_answers", _SERVED, answer="not_reached"),
    _counter(lambda c: c.node.dial_back.not_delivered, "autonat_answers", _SERVED, answer="not_delivered"),
    _counter(
        lambda c: c.node.dial_back.dial_data_bytes,
        "autonat_dial_data_bytes",
        "Bytes that peers paid for dials at another IP address than their own.",
    ),
    _gauge(lambda c: c.net.inbound, "connections", _CONNECTIONS, direction="inbound"),
    _gauge(lambda c: c.net.outbound, "connections", _CONNECTIONS, direction="outbound"),
    _gauge(lambda c: c.net.relayed, "connections_relayed", "Open connections to peers that go through relays."),
    _gauge(lambda c: c.net.half_open, "connections_half_open", "Connections whose handshake is not finished."),
    _counter(lambda c: c.net.opened_inbound, "connections_opened", _OPENED, direction="inbound"),
    _counter(lambda c: c.net.opened_outbound, "connections_opened", _OPENED, direction="outbound"),
    _counter(lambda c: c.net.refused, "connections_refused", "Connections refused since a bound was reached."),
    _gauge(lambda c: c.node.work.paused_peers, "peers_slowed", "Peers that are not read for the work they cause."),
    _counter(
        lambda c: c.node.work.pauses,
        "peer_slowdowns",
        "Times that a peer was not read for a while for the work it caused.",
    ),
    _counter(
        lambda c: c.node.work.shared_pauses,
        "peer_slowdowns_shared",
        "Times that a peer was not read for a while for the work that all peers of its address or network caused.",
    ),
    _counter(
        lambda c: c.node.work.sent_away, "peers_sent_away", "Peers sent away since they went on causing needless work."
    ),
    _counter(
        lambda c: c.node.work.refused,
        "peers_refused_for_work",
        "Times that one of these was refused when it came back.",
    ),
    _counter(
        lambda c: c.node.dial_budget.dials_held_back,
        "dials_held_back",
        "Dials not made since too many of that address or network, which others had named, led nowhere.",
    ),
    _counter(
        lambda c: c.node.dial_budget.addresses_left_out,
        "addresses_left_out",
        "Private addresses not dialled since they are of networks that this node is not in.",
    ),
    _counter(
        lambda c: c.node.connection_manager.connections_trimmed,
        "connections_trimmed",
        "Connections closed since there were too many.",
    ),
    _counter(
        lambda c: c.node.connection_manager.connections_released,
        "connections_released",
        "Connections closed that had been opened for a question of the DHT.",
    ),
    _gauge(lambda c: c.node.gate.bans, "bans", "Bans in force."),
    _gauge(
        lambda c: c.node.gate.protected_peers,
        "protected_peers",
        "Peers that are never trimmed, bootstrap peers left out.",
    ),
    _counter(lambda c: c.node.gate.refused_peers, "gate_refused", _GATE, by="peer"),
    _counter(lambda c: c.node.gate.refused_addresses, "gate_refused", _GATE, by="address"),
    _counter(lambda c: c.net.dials, "dials", "Dials of peers, each of all their addresses."),
    _counter(lambda c: c.net.dials_failed, "dials_failed", "Dials that reached nobody."),
    _counter(
        lambda c: c.net.dials_held_off,
        "dials_held_off",
        "Addresses not dialled, for attempts there had failed, for this or for another peer.",
    ),
    _gauge(lambda c: c.net.mdns.links, "mdns_links", "Links of this machine on which peers are sought."),
    _counter(lambda c: c.net.mdns.questions, "mdns_questions", "Questions that asked who is on a link."),
    _counter(lambda c: c.net.mdns.answers, "mdns_answers", "Times that this node told a link of itself."),
    _counter(lambda c: c.net.mdns.received, "mdns_received", "Multicast DNS messages that came, one's own included."),
    _counter(lambda c: c.net.mdns.refused, "mdns_refused", "Multicast DNS messages that were no DNS, or too many."),
    _counter(lambda c: c.net.mdns.peers, "mdns_peers_found", "Times that a link told of a peer, new or still there."),
    # port mapping
    _gauge(lambda c: c.net.port_mapping.mappings, "port_mappings", "Ports of the gateway that lead to this node."),
    _counter(
        lambda c: c.net.port_mapping.requests,
        "port_mapping_requests",
        "Requests to the gateway, repeated ones included.",
    ),
    _counter(
        lambda c: c.net.port_mapping.granted, "port_mappings_granted", "Times that it mapped a port or renewed that."
    ),
    _counter(lambda c: c.net.port_mapping.denied, "port_mappings_denied", "Times that the gateway said no."),
    _counter(lambda c: c.net.port_mapping.unanswered, "port_mapping_unanswered", "Requests to the gateway given up."),
    _counter(
        lambda c: c.net.port_mapping.malformed,
        "port_mapping_malformed",
        "Answers of the gateway that were none: cut short, too large, absurd, or that led elsewhere.",
    ),
    _counter(
        lambda c: c.net.port_mapping.strays,
        "port_mapping_strays",
        "Datagrams of others than the gateway, or that answered nothing that was asked.",
    ),
    _counter(lambda c: c.net.port_mapping.restarts, "port_mapping_restarts", "Times that the gateway had begun anew."),
    _counter(lambda c: c.net.port_mapping.lost, "port_mappings_lost", "Mappings that ended for want of a renewal."),
    _gauge(lambda c: c.net.dials_in_flight, "dials_in_flight", "Dials under way."),
    _gauge(lambda c: c.net.dials_queued, "dials_queued", "Dials that wait for their turn."),
    _counter(lambda c: c.net.bytes_in, "network_received_bytes", "Bytes that came from peers, as on the wire."),
    _counter(lambda c: c.net.bytes_out, "network_sent_bytes", "Bytes that left for peers, as on the wire."),
    _gauge(lambda c: c.net.streams, "streams", "Streams on all connections."),
    _counter(lambda c: c.net.internal_errors, "internal_errors", "Defects that were caught; the log has each."),
    _counter(lambda c: c.node.switch.streams_opened, "streams_opened", "Streams negotiated, of both sides."),
    _counter(lambda c: c.node.switch.streams_failed, "streams_failed", "Streams asked for that did not come to be."),
    _counter(lambda c: c.node.identify.identity_conflicts, "identity_conflicts", "Peers seen in two places at once."),
    _counter(
        lambda c: c.node.switch.stream_violations,
        "stream_violations",
        "Streams reset since the peer broke their protocol.",
    ),
    _gauge(lambda c: c.node.operations.operations_open, "operations", "Operations of apps under way in the node."),
    # relays
    _gauge(lambda c: c.node.relay.places, "relay_places", "Places with relays, through which this node is reached."),
    _gauge(lambda c: c.node.relay.places_wanted, "relay_places_wanted", "Places with relays that this node wants."),
    _counter(
        lambda c: c.node.relay.places_lost,
        "relay_places_lost",
        "Places that were not renewed in time, or whose relay was gone.",
    ),
    _counter(lambda c: c.node.relay.places_granted, "relay_places_granted", "Times that a relay gave or renewed one."),
    _gauge(lambda c: c.node.circuits.open_inbound, "circuits", _CARRIED, direction="inbound"),
    _gauge(lambda c: c.node.circuits.open_outbound, "circuits", _CARRIED, direction="outbound"),
    _counter(lambda c: c.node.circuits.opened_inbound, "circuits_opened", _CIRCUITS, direction="inbound"),
    _counter(lambda c: c.node.circuits.opened_outbound, "circuits_opened", _CIRCUITS, direction="outbound"),
    _gauge(lambda c: c.node.relay.reservations, "relay_reservations", "Places of others with this node as a relay."),
    _counter(
        lambda c: c.node.relay.reservations_granted,
        "relay_reservations_granted",
        "Times that this node gave or renewed one.",
    ),
    _gauge(lambda c: c.node.relay.circuits, "relay_circuits", "Connections of others that this node carries."),
    _counter(lambda c: c.node.relay.circuits_opened, "relay_circuits_opened", "The same since the start."),
    _counter(lambda c: c.node.relay.relayed_bytes, "relay_bytes", "Bytes carried for others, of both directions."),
    _counter(
        lambda c: c.node.punch.begun, "punches", "Connections through relays that this node tried to make direct."
    ),
    _counter(lambda c: c.node.punch.succeeded, "punches_succeeded", "Of these, those that became direct."),
    _counter(lambda c: c.node.punch.tries, "punch_tries", "Times that both sides agreed to dial at one moment."),
    _gauge(
        lambda c: c.node.punch.under_way,
        "punches_running",
        "Connections through relays that are being made direct.",
    ),
    # gossip
    _gauge(lambda c: c.node.gossip_queues.peers, "gossip_peers", "Peers that gossip with this node."),
    _counter(lambda c: c.node.gossip.published, "gossip_published_messages", "Messages published by this node's apps."),
    _counter(
        lambda c: c.node.gossip.received,
        "gossip_received_messages",
        "Messages that came from peers, repeats among them.",
    ),
    _counter(
        lambda c: c.node.gossip.delivered, "gossip_delivered_messages", "New messages handed to this node's apps."
    ),
    _counter(
        lambda c: c.node.gossip.bundles_published,
        "gossip_published_bundles",
        "Bundles that messages of this node's apps travelled in; their messages count by themselves.",
    ),
    _counter(
        lambda c: c.node.gossip.bundles_received,
        "gossip_received_bundles",
        "Bundles that came and were opened; their messages count by themselves.",
    ),
    _counter(lambda c: c.node.gossip.duplicates, "gossip_duplicate_messages", "Messages that had come before."),
    _counter(
        lambda c: c.node.gossip.forwarded, "gossip_forwarded_messages", "Messages handed on to the mesh; not copies."
    ),
    _counter(lambda c: c.node.gossip.sent, "gossip_sent_messages", "Copies of messages queued for peers."),
    _counter(lambda c: c.node.gossip.rpcs_received, "gossip_received_rpcs", "Frames of gossip that came from peers."),
    _counter(lambda c: c.node.gossip.grafts_sent, "gossip_grafts", _GRAFTS, direction="sent"),
    _counter(lambda c: c.node.gossip.grafts_received, "gossip_grafts", _GRAFTS, direction="received"),
    _counter(lambda c: c.node.gossip.prunes_sent, "gossip_prunes", _PRUNES, direction="sent"),
    _counter(lambda c: c.node.gossip.prunes_received, "gossip_prunes", _PRUNES, direction="received"),
    _counter(lambda c: c.node.gossip.ihave_ids_received, "gossip_ihave_ids", _IHAVE, direction="received"),
    _counter(lambda c: c.node.gossip.iwant_ids_sent, "gossip_iwant_ids", _IWANT, direction="sent"),
    _counter(lambda c: c.node.gossip.iwant_ids_received, "gossip_iwant_ids", _IWANT, direction="received"),
    _counter(
        lambda c: c.node.gossip.iwant_messages_sent, "gossip_iwant_sent_messages", "Messages sent in answer to IWANT."
    ),
    _counter(lambda c: c.node.gossip.idontwant_ids_sent, "gossip_idontwant_ids", _IDONTWANT, direction="sent"),
    _counter(lambda c: c.node.gossip.idontwant_ids_received, "gossip_idontwant_ids", _IDONTWANT, direction="received"),
    _counter(
        lambda c: c.node.gossip.idontwant_suppressed,
        "gossip_idontwant_suppressed_messages",
        "Copies that IDONTWANT saved.",
    ),
    _counter(lambda c: c.node.gossip.named_ids_sent, "gossip_named_ids", _NAMED, direction="sent"),
    _counter(lambda c: c.node.gossip.named_ids_received, "gossip_named_ids", _NAMED, direction="received"),
    _counter(
        lambda c: c.node.gossip.promises_broken,
        "gossip_broken_promises",
        "Messages that peers named on lazy links and did not send when they were asked.",
    ),
    _counter(
        lambda c: c.node.gossip.idle_pruned,
        "gossip_idle_pruned",
        "Mesh links that ended since the peer neither brought messages nor wanted any.",
    ),
    _gauge(
        lambda c: c.node.gossip_queues.fullest_queue_bytes,
        "gossip_fullest_queue_bytes",
        "Gossip that waits for the slowest peer.",
    ),
    _gauge(
        lambda c: c.node.gossip_queues.pending_messages,
        "gossip_pending_messages",
        "Messages of peers that wait for their signatures to be checked.",
    ),
    _gauge(lambda c: c.net.verify_workers, "gossip_verify_workers", "Processes that check signatures."),
    _gauge(
        lambda c: c.net.verify_worker_bytes,
        "gossip_verify_worker_bytes",
        "Memory of the processes that check signatures that they share with nobody.",
    ),
    _counter(
        lambda c: c.net.verify_worker_failures,
        "gossip_verify_worker_failures",
        "Processes that checked signatures and died, or were killed since they did not answer.",
    ),
    _gauge(
        lambda c: c.node.gossip_queues.judged_messages,
        "gossip_unjudged_messages",
        "Messages that wait for the verdicts of apps.",
    ),
    _gauge(lambda c: c.node.gossip_queues.judged_bytes, "gossip_unjudged_bytes", "The same in bytes."),
    _gauge(lambda c: c.node.gossip_queues.pending_bytes, "gossip_pending_bytes", "The same in bytes."),
    # the DHT
    _gauge(lambda c: c.node.kademlia.peers, "dht_table_peers", "Peers in the routing table."),
    _gauge(
        lambda c: c.node.kademlia.replacements,
        "dht_replacement_peers",
        "Peers that wait for a place in the routing table.",
    ),
    _gauge(
        lambda c: c.node.kademlia.crowded,
        "dht_crowded_peers",
        "Peers left out of the routing table since enough of their networks are in it.",
    ),
    _gauge(lambda c: c.node.kademlia.clients, "dht_client_peers", "Connected peers that answer no lookups."),
    _gauge(lambda c: c.node.kademlia.running_lookups, "dht_lookups_running", "Lookups under way."),
    _gauge(lambda c: c.node.kademlia.waiting_lookups, "dht_lookups_waiting", "Lookups that wait for their turn."),
    _gauge(
        lambda c: c.node.kademlia.queries_in_flight,
        "dht_queries_in_flight",
        "Queries sent to peers and not answered yet.",
    ),
    _counter(lambda c: c.node.kademlia.queries, "dht_queries", "Queries sent to peers."),
    _counter(lambda c: c.node.kademlia.failed_queries, "dht_queries_failed", "Queries without an answer."),
    _counter(
        lambda c: c.node.kademlia.refused_addresses,
        "dht_addresses_refused",
        "Addresses in answers that were not believed: out of the peer's reach, or one for many peers.",
    ),
    _counter(lambda c: c.node.kademlia.requests, "dht_requests", "Requests of peers that were answered."),
    _counter(
        lambda c: c.node.kademlia.refused_requests, "dht_requests_refused", "Requests of peers that were refused."
    ),
    _gauge(lambda c: c.node.kademlia.records, "dht_records", "Records kept for the DHT."),
    _gauge(lambda c: c.node.kademlia.record_bytes, "dht_record_bytes", "The same in bytes."),
    _gauge(lambda c: c.node.kademlia.providers, "dht_providers", "Advertisements of others kept for the DHT."),
    _gauge(lambda c: c.node.rendezvous.advertised, "dht_advertised", "Names that this node's apps advertise."),
    # durable messages
    _gauge(lambda c: c.node.durable.links, "durable_links", "Streams of durable messages, of both directions."),
    _gauge(
        lambda c: c.node.durable.peers_waiting,
        "durable_waiting_peers",
        "Peers that durable messages, or what became of some, wait for.",
    ),
    _counter(
        lambda c: c.node.durable.messages_sent,
        "durable_sent_messages",
        "Durable messages written to peers, repeats included.",
    ),
    _counter(
        lambda c: c.node.durable.messages_received,
        "durable_received_messages",
        "Durable messages that came from peers, repeats included.",
    ),
    _counter(
        lambda c: c.node.durable.conflicts,
        "durable_conflicts",
        "Senders of durable messages that turned out to be restored from a copy, or cloned.",
    ),
    _gauge(lambda c: c.api.mail.outbox_messages, "durable_messages", _KEPT, box="outbox"),
    _gauge(lambda c: c.api.mail.inbox_messages, "durable_messages", _KEPT, box="inbox"),
    _gauge(lambda c: c.api.mail.dead_letters, "durable_messages", _KEPT, box="dead_letters"),
    _gauge(lambda c: c.api.mail.outbox_bytes, "durable_bytes", _KEPT_BYTES, box="outbox"),
    _gauge(lambda c: c.api.mail.inbox_bytes, "durable_bytes", _KEPT_BYTES, box="inbox"),
    _gauge(lambda c: c.api.mail.disk_refuses, "durable_disk_refuses", "1 while the disk takes no durable messages."),
    _gauge(
        lambda c: c.api.mail.disk_slow,
        "durable_disk_slow",
        "1 while the disk takes a second or more for a transaction of durable messages.",
    ),
    _gauge(
        lambda c: c.api.mail.volatile,
        "durable_volatile",
        "1 where durable messages do not last: the state directory is in memory, or in a container's own layer.",
    ),
    # topic history
    _gauge(lambda c: c.api.history.topics, "history_topics", "Topics that are kept on disk."),
    _gauge(lambda c: c.api.history.messages, "history_messages", "Messages of topics on disk."),
    _gauge(lambda c: c.api.history.bytes, "history_bytes", "Their bytes, each with 160 more."),
    _gauge(lambda c: c.api.history.waiting_bytes, "history_waiting_bytes", "Bytes of them on their way to the disk."),
    _counter(
        lambda c: c.api.history.missed,
        "history_missed_messages",
        "Messages of topics with history that could not be kept, since the disk was full or too slow.",
    ),
    _counter(lambda c: c.api.history.pages, "history_read_pages", "Pages of messages on disk, read for subscribers."),
    _gauge(lambda c: c.api.history.disk_refuses, "history_disk_refuses", "1 while the disk takes no topic history."),
    # what is missing of topic history, from peers
    _gauge(
        lambda c: c.node.history.topics, "backfill_topics", "Joined topics of which what is missing is got from peers."
    ),
    _gauge(
        lambda c: c.node.history.topics_complete,
        "backfill_topics_complete",
        "Of these, those of which two peers, or the only one there is, had nothing that this node lacked.",
    ),
    _gauge(lambda c: c.node.history.asking, "backfill_sessions_open", _SESSIONS, side="asking"),
    _gauge(lambda c: c.node.history.serving, "backfill_sessions_open", _SESSIONS, side="serving"),
    _counter(lambda c: c.node.history.served, "backfill_served", "Sessions of backfill that peers were given."),
    _counter(
        lambda c: c.node.history.brought,
        "backfill_brought_messages",
        "Messages that this node lacked and got from peers' history; of a bundle one.",
    ),
    _counter(
        lambda c: c.node.history.rejected,
        "backfill_invalid",
        "Batches of peers' history with messages that no honest peer sends.",
    ),
    _counter(
        lambda c: c.node.history.gone,
        "backfill_gone_messages",
        "Messages that peers said to have in their history, and did not send.",
    ),
    _counter(
        lambda c: c.node.history.sent, "backfill_sent_messages", "Messages of history sent to peers; of a bundle one."
    ),
    _counter(lambda c: c.node.history.sent_bytes, "backfill_sent_bytes", "The same in bytes."),
    _counter(
        lambda c: c.node.history.nudges_sent, "backfill_nudges_sent", "Peers told that there is something to get here."
    ),
    _counter(lambda c: c.node.history.nudges_received, "backfill_nudges_received", "Such words of peers."),
    _counter(
        lambda c: c.node.history.nudges_ignored, "backfill_nudges_ignored", "Of these, those that came too often."
    ),
    # direct messages
    _gauge(lambda c: c.node.direct.links, "direct_links", "Streams of direct messages, of both directions."),
    _counter(lambda c: c.node.direct.messages_sent, "direct_sent_messages", "Direct messages written to peers."),
    _counter(
        lambda c: c.node.direct.messages_received, "direct_received_messages", "Direct messages that came from peers."
    ),
    _counter(lambda c: c.node.direct.requests_sent, "direct_sent_requests", "Requests written to peers."),
    _counter(lambda c: c.node.direct.requests_received, "direct_received_requests", "Requests that came from peers."),
    _counter(
        lambda c: c.node.probe.messages_published, "probe_published_messages", "Messages of probes published here."
    ),
    _counter(
        lambda c: c.node.probe.messages_received,
        "probe_received_messages",
        "Messages of probes that came here, which no app gets.",
    ),
    _counter(lambda c: c.node.probe.answers_received, "probe_received_answers", "Answers to probes of this node."),
    _counter(lambda c: c.node.probe.answers_sent, "probe_sent_answers", "Answers to probes of others."),
    _gauge(
        lambda c: c.node.probe.objective,
        "probe_objective_seconds",
        "In which time messages should reach their receivers (probe.objective); 0: there is no such wish.",
    ),
    _gauge(
        lambda c: c.node.probe.objective_share,
        "probe_objective_ratio",
        "How many of the receivers should have them by then (probe.share), 0 to 1.",
    ),
    _gauge(
        lambda c: c.node.probe.in_time_share,
        "probe_in_time_ratio",
        "How many of the receivers of the last messages published in the background had them in time, 0 to 1; on the "
        "topic where they are fewest. 1 until there are enough.",
    ),
    # apps
    _gauge(lambda c: c.node.streams.byte_streams, "byte_streams", "Byte streams between apps, of both sides."),
    _gauge(
        lambda c: c.node.streams.byte_stream_protocols,
        "byte_stream_protocols",
        "Protocols for which apps accept byte streams.",
    ),
    _gauge(lambda c: c.api.pubsub.subscriptions, "api_subscriptions", "Open Subscribe calls."),
    _gauge(lambda c: c.api.pubsub.validators, "api_validators", "Open Validate calls."),
    _counter(
        lambda c: c.api.pubsub.validators_missed,
        "api_validators_missed_messages",
        "Messages that apps which judge them did not read in time.",
    ),
    _gauge(lambda c: c.api.pubsub.topics, "api_topics", "Topics joined for apps."),
    _gauge(lambda c: c.api.receivers.receivers, "api_receivers", "Open Receive calls."),
    _gauge(lambda c: c.api.byte_streams.byte_streams, "api_byte_streams", "Byte streams that apps hold."),
    _gauge(lambda c: c.api.byte_streams.stream_acceptors, "api_stream_acceptors", "Open AcceptStreams calls."),
    _gauge(
        lambda c: c.api.byte_streams.streams_unattached,
        "api_byte_streams_unattached",
        "Byte streams of peers that wait for their app.",
    ),
    _counter(
        lambda c: c.api.byte_streams.streams_refused,
        "api_byte_streams_refused",
        "Byte streams of peers that were refused.",
    ),
    _gauge(lambda c: c.api.receivers.servers, "api_servers", "Open Serve calls."),
    _gauge(lambda c: c.api.calls.streams, "api_streams", "Open streaming calls in all."),
    _counter(lambda c: c.api.audit.written, "audit_lines", "Lines of the audit log that were written."),
    _counter(lambda c: c.api.audit.lost, "audit_lines_lost", "Lines of the audit log that could not be written."),
    _gauge(lambda c: c.api.calls.operations, "api_operations", "Operations of apps that wait for the node."),
    _gauge(lambda c: c.api.guard.tokens, "api_tokens", "Tokens of apps."),
    _counter(lambda c: c.api.guard.refused_unauthenticated, "api_calls_refused", _REFUSED, reason="unauthenticated"),
    _counter(lambda c: c.api.guard.refused_permission, "api_calls_refused", _REFUSED, reason="permission"),
    _counter(lambda c: c.api.guard.refused_quota, "api_calls_refused", _REFUSED, reason="quota"),
    _counter(
        lambda c: c.api.guard.slowed_by_quota,
        "api_slowed_messages",
        "Messages of streams that waited for a token's quota.",
    ),
    # queues: what waits, and what was lost where they are bounded
    _gauge(lambda c: c.node.gossip_queues.queued_messages, "queue_messages", _MESSAGES, queue="gossip"),
    _gauge(lambda c: c.api.pubsub.subscribers_queued_messages, "queue_messages", _MESSAGES, queue="subscribers"),
    _gauge(lambda c: c.api.pubsub.history_messages, "queue_messages", _MESSAGES, queue="history"),
    _gauge(lambda c: c.node.gossip_queues.queued_bytes, "queue_bytes", _BYTES, queue="gossip"),
    _gauge(lambda c: c.node.direct.queued_bytes, "queue_bytes", _BYTES, queue="direct"),
    _gauge(lambda c: c.net.buffered, "queue_bytes", _BYTES, queue="sockets"),
    _gauge(lambda c: c.api.pubsub.subscribers_queued_bytes, "queue_bytes", _BYTES, queue="subscribers"),
    _gauge(lambda c: c.api.pubsub.history_bytes, "queue_bytes", _BYTES, queue="history"),
    _counter(lambda c: c.node.gossip.dropped["queue_full"], "queue_dropped_messages", _DROPPED, queue="gossip"),
    _counter(lambda c: c.node.direct.messages_dropped, "queue_dropped_messages", _DROPPED, queue="direct"),
    _counter(lambda c: c.api.pubsub.subscribers_missed, "queue_dropped_messages", _DROPPED, queue="subscribers"),
    _counter(lambda c: c.api.receivers.receivers_missed, "queue_dropped_messages", _DROPPED, queue="receivers"),
    _counter(lambda c: c.api.receivers.receivers_refused, "queue_dropped_messages", _DROPPED, queue="all_receivers"),
)

FAMILIES: tuple[Family, ...] = (
    Family(
        lambda c: snaked(c.net.handshakes),
        "sidecar_handshakes",
        True,
        "outcome",
        "Handshakes of connections by outcome: completed, or the error.",
        ("completed",),
    ),
    Family(
        lambda c: snaked(c.net.closed_by),
        "sidecar_connections_closed",
        True,
        "reason",
        "Connections that ended after their handshake, by reason: order, or the error.",
        ("order",),
    ),
    Family(
        lambda c: snaked(c.node.relay.places_failed),
        "sidecar_relay_places_failed",
        True,
        "reason",
        "Places with relays asked for in vain, by the error.",
        ("refused",),
    ),
    Family(
        lambda c: snaked(c.node.circuits.failed),
        "sidecar_circuits_failed",
        True,
        "reason",
        "Connections through relays that this node asked for in vain, by the error.",
        ("refused",),
    ),
    Family(
        lambda c: c.node.circuits.faults,
        "sidecar_circuits_faulty",
        True,
        "fault",
        "Connections through relays that this node asked for and that came to nothing: another peer was there, nothing "
        "came, or no sense, or they were cut within seconds. They count against the relay.",
        tuple(CircuitFault),
    ),
    Family(
        lambda c: c.node.circuits.refused,
        "sidecar_circuits_refused",
        True,
        "reason",
        "Connections that relays brought and that were refused: a relay without a place of this node, a peer that is "
        "not wanted, too many, or no request.",
        CIRCUIT_REFUSALS,
    ),
    Family(
        lambda c: c.node.punch.failed,
        "sidecar_punches_failed",
        True,
        "reason",
        "Connections through relays that stayed so: no address to dial, no answer there, or the peer does not do it.",
        PUNCH_FAILURES,
    ),
    Family(
        lambda c: c.node.relay.requests_refused,
        "sidecar_relay_requests_refused",
        True,
        "status",
        "Requests to this node as a relay that were refused, by its answer.",
        tuple(status.name.lower() for status in RelayStatus if status is not RelayStatus.OK),
    ),
    Family(
        lambda c: c.node.relay.circuits_ended,
        "sidecar_relay_circuits_ended",
        True,
        "reason",
        "Connections that this node carried and that ended: in order, at the limit of time or data, or lost.",
        CIRCUIT_ENDS,
    ),
    Family(
        lambda c: c.node.history.asked,
        "sidecar_backfill_asked",
        True,
        "outcome",
        "Sessions of backfill that this node had with peers, by what came of them.",
        SESSION_ENDS,
    ),
    Family(
        lambda c: c.node.history.refused,
        "sidecar_backfill_refused",
        True,
        "reason",
        "Sessions of backfill that peers were not given: too many or too often, no such topic here, the disk.",
        REFUSALS,
    ),
    Family(
        lambda c: c.node.work.points,
        "sidecar_peer_work_points",
        True,
        "kind",
        "Work that peers caused and that counts against their budgets (limits.peer_work), in points of some 5 us.",
        ("gossip",),
    ),
    Family(
        lambda c: c.node.switch.stream_bytes_received,
        "sidecar_stream_received_bytes",
        True,
        "protocol",
        "Bytes that streams brought, by what they carry; without the cost of encryption and muxing.",
    ),
    Family(
        lambda c: c.node.switch.stream_bytes_sent,
        "sidecar_stream_sent_bytes",
        True,
        "protocol",
        "Bytes that streams took.",
    ),
    Family(
        lambda c: c.node.gossip_queues.standings,
        "sidecar_gossip_standing_peers",
        False,
        "standing",
        "Peers that gossip with this node, by what their scores have come to; each has what those before it have: "
        "no_mesh, no_gossip, no_publish, graylisted.",
        tuple(standing.name.lower() for standing in Standing),
    ),
    Family(
        lambda c: c.node.gossip.misbehaviour,
        "sidecar_gossip_misbehaviour",
        True,
        "kind",
        "Misbehaviour of peers that counts against their scores.",
        MISBEHAVIOUR,
    ),
    Family(
        lambda c: c.node.gossip.rejected,
        "sidecar_gossip_rejected_messages",
        True,
        "reason",
        "Messages of peers that are no good.",
    ),
    Family(
        lambda c: c.node.gossip.ignored,
        "sidecar_gossip_ignored_messages",
        True,
        "reason",
        "Messages that were not passed on, though nobody is to blame.",
    ),
    Family(
        lambda c: c.node.gossip.rules,
        "sidecar_gossip_rule_breaking_messages",
        True,
        "rule",
        "Messages that were not passed on since they broke a rule of their topic, by the first that they broke.",
    ),
    Family(
        lambda c: c.node.gossip.signatures,
        "sidecar_gossip_checked_signatures",
        True,
        "where",
        "Signatures of gossip that were checked: inline, in the node's own turns, or by workers.",
    ),
    Family(
        lambda c: c.node.gossip.history,
        "sidecar_gossip_history_messages",
        True,
        "outcome",
        "Messages that peers had stored, brought by backfill; a bundle is one. accepted: delivered here.",
    ),
    Family(
        lambda c: c.node.gossip.dropped,
        "sidecar_gossip_dropped",
        True,
        "reason",
        "Messages and control entries that a bound or a rule dropped; queue_full: a slow peer lost messages.",
    ),
    Family(
        lambda c: c.node.probe.ignored,
        "sidecar_probe_ignored_answers",
        True,
        "reason",
        "Answers to probes of this node that do not count: forged, late, or more than were wanted.",
    ),
    Family(
        lambda c: c.node.probe.refused,
        "sidecar_probe_refused_messages",
        True,
        "reason",
        "Messages of probes that were for this node to answer and that it did not answer.",
    ),
    Family(
        lambda c: c.node.probe.judged,
        "sidecar_probe_judged_receivers",
        True,
        "outcome",
        "Receivers of messages published in the background: in_time, late, or silent (they owed an answer).",
    ),
    Family(
        lambda c: c.node.probe.unjudged,
        "sidecar_probe_unjudged_messages",
        True,
        "reason",
        "Messages that were to be published in the background and were not.",
    ),
    Family(
        lambda c: c.net.refused_by,
        "sidecar_connections_refused_by_bound",
        True,
        "bound",
        "Connections refused by the bound that was reached; those of banned addresses are not among them.",
    ),
    Family(lambda c: c.node.kademlia.outcomes, "sidecar_dht_lookups", True, "outcome", "Lookups by how they ended."),
    Family(
        lambda c: c.api.outcomes.receipts,
        "sidecar_direct_receipts",
        True,
        "outcome",
        "Direct messages of this node's apps by what became of them.",
    ),
    Family(
        lambda c: c.api.outcomes.answers,
        "sidecar_direct_requests",
        True,
        "outcome",
        "Requests of this node's apps: answered, or the error.",
    ),
)

# The field of `TopicCounts`, the metric of a topic, and what it means.
TOPIC_COUNTERS: tuple[tuple[str, str, str], ...] = (
    ("delivered", "delivered_messages", "New messages of a topic handed to apps, own ones included."),
    ("published", "published_messages", "Messages of a topic published by apps."),
    ("duplicates", "duplicate_messages", "Messages of a topic that had come before."),
    ("rejected", "rejected_messages", "Messages of a topic that are no good."),
    ("ignored", "ignored_messages", "Messages of a topic that were not passed on, though nobody is to blame."),
    ("dropped", "dropped_messages", "Copies of a topic's messages that slow peers lost."),
    ("delivered_bytes", "delivered_bytes", "The payloads of a topic's delivered messages."),
)

HISTOGRAMS: Mapping[str, str] = {
    "event_loop_lag_seconds": "How late the event loop is, looked at once a second.",
    "gossip_propagation_seconds": "From the first copy of a message of others here until each further peer shows that "
    "it has it, by a copy or IDONTWANT; a sample, by this node's clock alone.",
    "gossip_probe_seconds": "From publishing a message of a probe here until a receiver has it, by the receivers' own "
    "answers, half of a round trip taken off for their way back.",
    "dht_lookup_duration_seconds": "How long lookups took, from their beginning to their end.",
    "dht_lookup_hops": "The longest chain of answers that led to one of the peers that a lookup found; lookups that "
    "nobody answered are left out.",
    "dht_lookup_queries": "How many peers each lookup asked.",
    "gossip_echo_seconds": "From publishing here until the first peer shows that it has the message, by a copy, "
    "IDONTWANT or IHAVE; a sample, and an upper bound.",
}
