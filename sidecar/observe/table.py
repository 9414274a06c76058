"""The statistics as metrics: which becomes which, what it means, and which are left out.

The names follow Prometheus' conventions: a unit in the name, counters end in `_total` (which the writer adds).
"""

from collections.abc import Mapping
from typing import NamedTuple


class Row(NamedTuple):
    """A statistic and the metric that shows it. Rows of one metric differ in their labels and follow each other."""

    statistic: str
    metric: str
    counter: bool
    doc: str
    labels: Mapping[str, str] = {}


class Family(NamedTuple):
    """Statistics whose names begin with `prefix`; the rest of the name is the value of the label."""

    prefix: str
    metric: str
    counter: bool
    label: str
    doc: str
    known: tuple[str, ...] = ()
    """Values shown from the start on, with 0, so that a first increase is seen as one."""


def _gauge(statistic: str, metric: str, doc: str, **labels: str) -> Row:
    return Row(statistic, f"sidecar_{metric}", False, doc, labels)


def _counter(statistic: str, metric: str, doc: str, **labels: str) -> Row:
    return Row(statistic, f"sidecar_{metric}", True, doc, labels)


_GATE = "Connections and dials refused for a ban, a deny list or an allow list."
_GRAFTS = "GRAFTs: a peer joins the mesh of a topic."
_PRUNES = "PRUNEs: a peer leaves the mesh of a topic."
_IHAVE = "Ids of messages in IHAVE, examined."
_IWANT = "Ids of messages in IWANT."
_IDONTWANT = "Ids of messages in IDONTWANT."
_CONNECTIONS = "Open connections to peers."
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
    _gauge("peers_connected", "peers_connected", "Peers with at least one connection."),
    _gauge("peers_ready", "peers_ready", "Peers that are identified and of this network."),
    _gauge("peers_known", "peers_known", "Peers in the address book."),
    _gauge("bootstrap_peers_missing", "bootstrap_peers_missing", "Bootstrap peers not reached for a minute or longer."),
    _counter("islands_met", "islands_met", "Times that two parts of the mesh which had been apart were joined here."),
    _gauge("net_inbound", "connections", _CONNECTIONS, direction="inbound"),
    _gauge("net_outbound", "connections", _CONNECTIONS, direction="outbound"),
    _gauge("net_half_open", "connections_half_open", "Connections whose handshake is not finished."),
    _counter("net_opened_inbound", "connections_opened", _OPENED, direction="inbound"),
    _counter("net_opened_outbound", "connections_opened", _OPENED, direction="outbound"),
    _counter("net_refused", "connections_refused", "Connections refused since a bound was reached."),
    _gauge("work_paused_peers", "peers_slowed", "Peers that are not read for the work they cause."),
    _counter("work_pauses", "peer_slowdowns", "Times that a peer was not read for a while for the work it caused."),
    _counter("work_sent_away", "peers_sent_away", "Peers sent away since they went on causing needless work."),
    _counter("work_refused", "peers_refused_for_work", "Times that one of these was refused when it came back."),
    _counter("connections_trimmed", "connections_trimmed", "Connections closed since there were too many."),
    _gauge("gate_bans", "bans", "Bans in force."),
    _gauge("gate_protected_peers", "protected_peers", "Peers that are never trimmed, bootstrap peers left out."),
    _counter("gate_refused_peers", "gate_refused", _GATE, by="peer"),
    _counter("gate_refused_addresses", "gate_refused", _GATE, by="address"),
    _counter("net_dials", "dials", "Dials of peers, each of all their addresses."),
    _counter("net_dials_failed", "dials_failed", "Dials that reached nobody."),
    _counter(
        "net_dials_held_off",
        "dials_held_off",
        "Addresses not dialled, for attempts there had failed, for this or for another peer.",
    ),
    _gauge("net_dials_in_flight", "dials_in_flight", "Dials under way."),
    _gauge("net_dials_queued", "dials_queued", "Dials that wait for their turn."),
    _counter("net_bytes_in", "network_received_bytes", "Bytes that came from peers, as on the wire."),
    _counter("net_bytes_out", "network_sent_bytes", "Bytes that left for peers, as on the wire."),
    _gauge("net_streams", "streams", "Streams on all connections."),
    _counter("net_internal_errors", "internal_errors", "Defects that were caught; the log has each."),
    _counter("streams_opened", "streams_opened", "Streams negotiated, of both sides."),
    _counter("streams_failed", "streams_failed", "Streams asked for that did not come to be."),
    _counter("identity_conflicts", "identity_conflicts", "Peers seen in two places at once."),
    _counter("stream_violations", "stream_violations", "Streams reset since the peer broke their protocol."),
    _gauge("operations_open", "operations", "Operations of apps under way in the node."),
    # gossip
    _gauge("gossip_peers", "gossip_peers", "Peers that gossip with this node."),
    _counter("gossip_published", "gossip_published_messages", "Messages published by this node's apps."),
    _counter("gossip_received", "gossip_received_messages", "Messages that came from peers, repeats among them."),
    _counter("gossip_delivered", "gossip_delivered_messages", "New messages handed to this node's apps."),
    _counter("gossip_duplicates", "gossip_duplicate_messages", "Messages that had come before."),
    _counter("gossip_forwarded", "gossip_forwarded_messages", "Messages handed on to the mesh; not copies."),
    _counter("gossip_sent", "gossip_sent_messages", "Copies of messages queued for peers."),
    _counter("gossip_rpcs_received", "gossip_received_rpcs", "Frames of gossip that came from peers."),
    _counter("gossip_grafts_sent", "gossip_grafts", _GRAFTS, direction="sent"),
    _counter("gossip_grafts_received", "gossip_grafts", _GRAFTS, direction="received"),
    _counter("gossip_prunes_sent", "gossip_prunes", _PRUNES, direction="sent"),
    _counter("gossip_prunes_received", "gossip_prunes", _PRUNES, direction="received"),
    _counter("gossip_ihave_ids_received", "gossip_ihave_ids", _IHAVE, direction="received"),
    _counter("gossip_iwant_ids_sent", "gossip_iwant_ids", _IWANT, direction="sent"),
    _counter("gossip_iwant_ids_received", "gossip_iwant_ids", _IWANT, direction="received"),
    _counter("gossip_iwant_messages_sent", "gossip_iwant_sent_messages", "Messages sent in answer to IWANT."),
    _counter("gossip_idontwant_ids_sent", "gossip_idontwant_ids", _IDONTWANT, direction="sent"),
    _counter("gossip_idontwant_ids_received", "gossip_idontwant_ids", _IDONTWANT, direction="received"),
    _counter("gossip_idontwant_suppressed", "gossip_idontwant_suppressed_messages", "Copies that IDONTWANT saved."),
    _gauge("gossip_fullest_queue_bytes", "gossip_fullest_queue_bytes", "Gossip that waits for the slowest peer."),
    # the DHT
    _gauge("dht_peers", "dht_table_peers", "Peers in the routing table."),
    _gauge("dht_replacements", "dht_replacement_peers", "Peers that wait for a place in the routing table."),
    _gauge("dht_clients", "dht_client_peers", "Connected peers that answer no lookups."),
    _gauge("dht_running_lookups", "dht_lookups_running", "Lookups under way."),
    _gauge("dht_waiting_lookups", "dht_lookups_waiting", "Lookups that wait for their turn."),
    _gauge("dht_queries_in_flight", "dht_queries_in_flight", "Queries sent to peers and not answered yet."),
    _counter("dht_queries", "dht_queries", "Queries sent to peers."),
    _counter("dht_failed_queries", "dht_queries_failed", "Queries without an answer."),
    _counter("dht_requests", "dht_requests", "Requests of peers that were answered."),
    _counter("dht_refused_requests", "dht_requests_refused", "Requests of peers that were refused."),
    _gauge("dht_records", "dht_records", "Records kept for the DHT."),
    _gauge("dht_record_bytes", "dht_record_bytes", "The same in bytes."),
    _gauge("dht_providers", "dht_providers", "Advertisements of others kept for the DHT."),
    _gauge("dht_advertised", "dht_advertised", "Names that this node's apps advertise."),
    # direct messages
    _gauge("direct_links", "direct_links", "Streams of direct messages, of both directions."),
    _counter("direct_messages_sent", "direct_sent_messages", "Direct messages written to peers."),
    _counter("direct_messages_received", "direct_received_messages", "Direct messages that came from peers."),
    _counter("direct_requests_sent", "direct_sent_requests", "Requests written to peers."),
    _counter("direct_requests_received", "direct_received_requests", "Requests that came from peers."),
    # apps
    _gauge("byte_streams", "byte_streams", "Byte streams between apps, of both sides."),
    _gauge("byte_stream_protocols", "byte_stream_protocols", "Protocols for which apps accept byte streams."),
    _gauge("api_subscriptions", "api_subscriptions", "Open Subscribe calls."),
    _gauge("api_topics", "api_topics", "Topics joined for apps."),
    _gauge("api_receivers", "api_receivers", "Open Receive calls."),
    _gauge("api_byte_streams", "api_byte_streams", "Byte streams that apps hold."),
    _gauge("api_stream_acceptors", "api_stream_acceptors", "Open AcceptStreams calls."),
    _gauge("api_streams_unattached", "api_byte_streams_unattached", "Byte streams of peers that wait for their app."),
    _counter("api_streams_refused", "api_byte_streams_refused", "Byte streams of peers that were refused."),
    _gauge("api_servers", "api_servers", "Open Serve calls."),
    _gauge("api_streams", "api_streams", "Open streaming calls in all."),
    _counter("audit_written", "audit_lines", "Lines of the audit log that were written."),
    _counter("audit_lost", "audit_lines_lost", "Lines of the audit log that could not be written."),
    _gauge("api_operations", "api_operations", "Operations of apps that wait for the node."),
    _gauge("api_tokens", "api_tokens", "Tokens of apps."),
    _counter("api_refused_unauthenticated", "api_calls_refused", _REFUSED, reason="unauthenticated"),
    _counter("api_refused_permission", "api_calls_refused", _REFUSED, reason="permission"),
    _counter("api_refused_quota", "api_calls_refused", _REFUSED, reason="quota"),
    _counter("api_slowed_by_quota", "api_slowed_messages", "Messages of streams that waited for a token's quota."),
    # queues: what waits, and what was lost where they are bounded
    _gauge("gossip_queued_messages", "queue_messages", _MESSAGES, queue="gossip"),
    _gauge("api_subscribers_queued_messages", "queue_messages", _MESSAGES, queue="subscribers"),
    _gauge("api_history_messages", "queue_messages", _MESSAGES, queue="history"),
    _gauge("gossip_queued_bytes", "queue_bytes", _BYTES, queue="gossip"),
    _gauge("direct_queued_bytes", "queue_bytes", _BYTES, queue="direct"),
    _gauge("net_buffered", "queue_bytes", _BYTES, queue="sockets"),
    _gauge("api_subscribers_queued_bytes", "queue_bytes", _BYTES, queue="subscribers"),
    _gauge("api_history_bytes", "queue_bytes", _BYTES, queue="history"),
    _counter("gossip_dropped_queue_full", "queue_dropped_messages", _DROPPED, queue="gossip"),
    _counter("direct_messages_dropped", "queue_dropped_messages", _DROPPED, queue="direct"),
    _counter("api_subscribers_missed", "queue_dropped_messages", _DROPPED, queue="subscribers"),
    _counter("api_receivers_missed", "queue_dropped_messages", _DROPPED, queue="receivers"),
    _counter("api_receivers_refused", "queue_dropped_messages", _DROPPED, queue="all_receivers"),
)

FAMILIES: tuple[Family, ...] = (
    Family(
        "net_handshakes_",
        "sidecar_handshakes",
        True,
        "outcome",
        "Handshakes of connections by outcome: completed, or the error.",
        ("completed",),
    ),
    Family(
        "net_closed_by_",
        "sidecar_connections_closed",
        True,
        "reason",
        "Connections that ended after their handshake, by reason: order, or the error.",
        ("order",),
    ),
    Family(
        "work_points_",
        "sidecar_peer_work_points",
        True,
        "kind",
        "Work that peers caused and that counts against their budgets (limits.peer_work), in points of some 5 us.",
        ("gossip",),
    ),
    Family(
        "stream_bytes_received_",
        "sidecar_stream_received_bytes",
        True,
        "protocol",
        "Bytes that streams brought, by what they carry; without the cost of encryption and muxing.",
    ),
    Family("stream_bytes_sent_", "sidecar_stream_sent_bytes", True, "protocol", "Bytes that streams took."),
    Family(
        "gossip_rejected_", "sidecar_gossip_rejected_messages", True, "reason", "Messages of peers that are no good."
    ),
    Family(
        "gossip_dropped_",
        "sidecar_gossip_dropped",
        True,
        "reason",
        "Messages and control entries that a bound or a rule dropped; queue_full: a slow peer lost messages.",
    ),
    Family("dht_lookups_", "sidecar_dht_lookups", True, "outcome", "Lookups by how they ended."),
    Family(
        "direct_receipts_",
        "sidecar_direct_receipts",
        True,
        "outcome",
        "Direct messages of this node's apps by what became of them.",
    ),
    Family(
        "direct_answers_",
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
    ("dropped", "dropped_messages", "Copies of a topic's messages that slow peers lost."),
    ("delivered_bytes", "delivered_bytes", "The payloads of a topic's delivered messages."),
)

HISTOGRAMS: Mapping[str, str] = {
    "event_loop_lag_seconds": "How late the event loop is, looked at four times a second.",
    "gossip_propagation_seconds": "From the first copy of a message of others here until each further peer shows that "
    "it has it, by a copy or IDONTWANT; a sample, by this node's clock alone.",
    "dht_lookup_duration_seconds": "How long lookups took, from their beginning to their end.",
    "gossip_echo_seconds": "From publishing here until the first peer shows that it has the message, by a copy, "
    "IDONTWANT or IHAVE; a sample, and an upper bound.",
}

# Told by others: connections and their openings by direction, ends by reason, lookups by outcome.
LEFT_OUT = ("connections", "net_connections", "net_opened", "net_closed", "dht_lookups")
