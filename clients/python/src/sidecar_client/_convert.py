"""Between protobuf messages and the client's own values."""

from collections.abc import Iterable, Iterator
from typing import Any

from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp

from . import _checks, types
from .v1 import common_pb2, direct_pb2, discovery_pb2, durable_pb2, node_pb2, peer_pb2, pubsub_pb2


def seconds(value: Duration) -> float:
    return value.seconds + value.nanos / 1e9


def unix(value: Timestamp) -> float:
    return value.seconds + value.nanos / 1e9


def _moment(message: Any, name: str) -> float | None:
    return unix(getattr(message, name)) if message.HasField(name) else None


def node(message: node_pb2.Node) -> types.NodeInfo:
    return types.NodeInfo(
        peer_id=message.peer_id,
        network=message.network,
        agent=message.agent,
        version=message.version,
        listening_addresses=tuple(message.listening_addresses),
        announced_addresses=tuple(message.announced_addresses),
        observed_addresses=tuple(message.observed_addresses),
        start_time=unix(message.start_time),
        uptime=seconds(message.uptime),
        api_engine=message.api_engine,
        reachability=types.Reachability(message.reachability),
        addresses=tuple(
            types.AddressReachability(
                address=each.address,
                reachability=types.Reachability(each.reachability),
                source=each.source,
                since=unix(each.since),
                proofs=each.proofs,
                failures=each.failures,
            )
            for each in message.addresses
        ),
        relayed_addresses=tuple(message.relayed_addresses),
        port_mapping=_port_mapping(message.port_mapping) if message.HasField("port_mapping") else None,
    )


def _port_mapping(message: node_pb2.PortMapping) -> types.PortMapping:
    ports = tuple(types.MappedPort(each.address, each.port, _moment(each, "expire_time")) for each in message.ports)
    return types.PortMapping(message.state, message.message, message.remedy, message.gateway, message.protocol, ports)


def readiness(message: node_pb2.Readiness) -> types.Readiness:
    conditions = tuple(
        types.Condition(c.type, c.met, c.reason, c.message, c.remedy, unix(c.since)) for c in message.conditions
    )
    return types.Readiness(message.ready, conditions)


def peer(message: peer_pb2.Peer) -> types.Peer:
    return types.Peer(
        peer_id=message.peer_id,
        connected=message.connected,
        direction=types.Direction(message.direction),
        addresses=tuple(message.addresses),
        remote_address=message.remote_address,
        protocols=tuple(message.protocols),
        agent=message.agent,
        protocol_version=message.protocol_version,
        identified=message.identified,
        latency=seconds(message.latency) if message.HasField("latency") else None,
        connect_time=_moment(message, "connect_time"),
        connections=message.connections,
        protected=message.protected,
        score=peer_score(message.score) if message.HasField("score") else None,
        path=types.PeerPath(message.path),
        path_time=_moment(message, "path_time"),
        known_addresses=tuple(map(peer_address, message.known_addresses)),
    )


def peer_address(message: peer_pb2.PeerAddress) -> types.PeerAddress:
    return types.PeerAddress(
        address=message.address,
        origin=types.AddressOrigin(message.origin),
        last_success=_moment(message, "last_success"),
        last_failure=_moment(message, "last_failure"),
    )


def peer_score(message: peer_pb2.PeerScore) -> types.PeerScore:
    return types.PeerScore(
        score=message.score,
        standing=types.PeerStanding(message.standing),
        reason=message.reason,
        topics=tuple(
            types.TopicScore(
                topic=topic.topic,
                time_in_mesh=topic.time_in_mesh,
                first_deliveries=topic.first_deliveries,
                mesh_deliveries=topic.mesh_deliveries,
                mesh_failures=topic.mesh_failures,
                invalid_messages=topic.invalid_messages,
            )
            for topic in message.topics
        ),
        application=message.application,
        colocation=message.colocation,
        behaviour=message.behaviour,
        slow=message.slow,
    )


def ban(message: peer_pb2.Ban) -> types.Ban:
    return types.Ban(
        peer_id=message.peer_id,
        network=message.network,
        reason=message.reason,
        create_time=_moment(message, "create_time"),
        expire_time=_moment(message, "expire_time"),
        configured=message.configured,
        refused=message.refused,
    )


def peer_events(response: peer_pb2.WatchPeersResponse) -> Iterable[types.PeerEvent]:
    if response.HasField("lagged"):
        gap = lagged(response.lagged)
        reconnected = gap.reason is types.LagReason.RECONNECTED
        kind = types.PeerEventType.RECONNECTED if reconnected else types.PeerEventType.LAGGED
        yield types.PeerEvent(kind, None, gap.why)
    for event in response.events:
        about = peer(event.peer) if event.HasField("peer") else None
        yield types.PeerEvent(types.PeerEventType(event.type), about, event.reason)


def rule(message: pubsub_pb2.Rule) -> types.Rule:
    counts = tuple(types.RuleCount(count.topic, count.limit, count.messages) for count in message.counts)
    return types.Rule(message.name, tuple(message.topics), message.description, message.configured, counts)


def topic(message: pubsub_pb2.Topic) -> types.Topic:
    return types.Topic(
        name=message.name,
        subscribed=message.subscribed,
        signing=types.Signing(message.signing),
        peers=message.peers,
        mesh_peer_ids=tuple(message.mesh_peer_ids),
        subscribers=message.subscribers,
        history_messages=message.history_messages,
        delivered=message.delivered,
        published=message.published,
        duplicates=message.duplicates,
        rejected=message.rejected,
        dropped=message.dropped,
        delivered_bytes=message.delivered_bytes,
        published_bytes=message.published_bytes,
        ignored=message.ignored,
        validators=message.validators,
        unjudged=message.unjudged,
        scoring=message.scoring,
        history=types.HistoryState(message.history),
        stored_messages=message.stored_messages,
        stored_bytes=message.stored_bytes,
        oldest_time=_moment(message, "oldest_time"),
        complete_since=_moment(message, "complete_since"),
        complete_until=_moment(message, "complete_until"),
        history_gap=message.history_gap,
    )


def statistics(message: node_pb2.GetStatisticsResponse) -> types.Statistics:
    histograms = {
        histogram.name: types.Histogram(tuple(histogram.upper_bounds), tuple(histogram.counts), histogram.sum)
        for histogram in message.histograms
    }
    return types.Statistics(message.values, histograms)


def node_events(message: node_pb2.WatchEventsResponse) -> Iterator[types.NodeEvent | types.Lagged]:
    if message.HasField("lagged"):
        yield lagged(message.lagged)
    for event in message.events:
        yield types.NodeEvent(unix(event.time), event.severity, event.part, event.message, dict(event.fields))


def configuration_entry(message: node_pb2.ConfigurationEntry) -> types.ConfigurationEntry:
    return types.ConfigurationEntry(message.name, message.value, message.source, message.reloadable)


def log_levels(message: node_pb2.SetLogLevelResponse) -> types.LogLevels:
    return types.LogLevels(message.level, dict(message.parts))


def lagged(message: common_pb2.Lagged) -> types.Lagged:
    missed = message.missed if message.HasField("missed") else None
    return types.Lagged(missed, types.LagReason(message.reason))


def reconnected() -> common_pb2.Lagged:
    """As if the sidecar had said it: only the client knows."""
    return common_pb2.Lagged(reason=common_pb2.LagReason.ValueType(types.LagReason.RECONNECTED))


def publish_receipt(message: pubsub_pb2.PublishReceipt) -> types.PublishReceipt:
    outcome = types.PublishOutcome(message.outcome)
    return types.PublishReceipt(outcome, message.message_id, message.peers, message.dropped)


def publish_receipts(message: pubsub_pb2.PublishReceiptRange) -> types.PublishReceipts:
    return types.PublishReceipts(
        message.first,
        message.count,
        types.PublishOutcome(message.outcome),
        message.peers,
        message.dropped,
        tuple(message.message_ids),
    )


def send_receipt(message: direct_pb2.SendReceipt) -> types.SendReceipt:
    return types.SendReceipt(types.SendOutcome(message.outcome), message.detail, _named(message))


def send_receipts(message: direct_pb2.SendReceiptRange) -> types.SendReceipts:
    outcome = types.SendOutcome(message.receipt.outcome)
    name = _named(message.receipt)
    return types.SendReceipts(message.first, message.count, outcome, message.receipt.detail, name)


def _named(receipt: direct_pb2.SendReceipt) -> types.MessageId | None:
    return message_id(receipt.message_id) if receipt.HasField("message_id") else None


def message_id(message: direct_pb2.MessageId) -> types.MessageId:
    return types.MessageId(message.incarnation, message.sequence)


def send_receipt_of_each(part: direct_pb2.SendReceiptRange) -> list[types.SendReceipt]:
    receipt = send_receipt(part.receipt)
    name = receipt.message_id
    if name is None:
        return [receipt] * part.count
    return [receipt._replace(message_id=name._replace(sequence=name.sequence + index)) for index in range(part.count)]


def durable(durable: types.Durable) -> direct_pb2.Durable:
    made = direct_pb2.Durable()
    if durable.time_to_live is not None:
        made.time_to_live.FromNanoseconds(_checks.nanoseconds(durable.time_to_live, "durable.time_to_live"))
    return made


def outbox_event(event: durable_pb2.OutboxEvent) -> types.OutboxEvent:
    return types.OutboxEvent(
        event.cursor,
        event.peer_id,
        event.protocol,
        message_id(event.message_id),
        event.request_id,
        types.DurableOutcome(event.outcome),
        event.reason,
        unix(event.time),
    )


def outbox_message(message: durable_pb2.OutboxMessage) -> types.OutboxMessage:
    return types.OutboxMessage(
        message.peer_id,
        message.protocol,
        message_id(message.message_id),
        message.request_id,
        message.size,
        unix(message.created),
        unix(message.expires),
        message.held,
    )


def inbox_message(message: durable_pb2.InboxMessage) -> types.InboxMessage:
    return types.InboxMessage(
        message.id,
        message.peer_id,
        message.protocol,
        message_id(message.message_id),
        message.size,
        message.attempts,
        unix(message.received),
        unix(message.expires),
        message.data,
        message.reason,
    )


def request(message: direct_pb2.IncomingRequest) -> types.Request:
    time_left = seconds(message.time_left) if message.HasField("time_left") else None
    return types.Request(message.peer_id, message.protocol, message.data, time_left, message.traceparent)


def announcement(message: discovery_pb2.AdvertiseResponse) -> types.Announcement:
    return types.Announcement(message.holders, message.asked, unix(message.next_announcement))


def probed(message: pubsub_pb2.ProbeResponse) -> list[types.ProbeAnswer | types.ProbeSummary]:
    told: list[types.ProbeAnswer | types.ProbeSummary] = [
        types.ProbeAnswer(
            answer.peer_id, answer.number, seconds(answer.delay), seconds(answer.round_trip), answer.direct
        )
        for answer in message.answers
    ]
    if message.HasField("summary"):
        whole = message.summary
        told.append(
            types.ProbeSummary(
                whole.published,
                whole.unpublished,
                whole.share,
                whole.answers,
                whole.peers,
                whole.expected,
                whole.answered,
                whole.receivers,
                whole.ignored,
            )
        )
    return told


def found_peers(message: discovery_pb2.FindPeersResponse) -> list[types.FoundPeer]:
    return [types.FoundPeer(found.peer_id, tuple(found.addresses)) for found in message.peers]


def record(message: discovery_pb2.GetRecordResponse) -> types.Record:
    expires = _moment(message, "expires_at")
    return types.Record(message.value, message.holders, expires, message.publisher, message.sequence)
