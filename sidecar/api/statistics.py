"""What the API counts, service by service."""

from collections.abc import Mapping
from dataclasses import field

from ..core.classes import dataclass
from ..core.node.statistics import NodeStatistics
from ..core.statistics import Statistics
from ..process.audit import AuditStatistics


@dataclass(slots=True)
class PubSubStatistics(Statistics):
    """Topics toward apps."""

    prefix = "api_"

    subscriptions: int = 0
    topics: int = 0
    """Joined for apps."""
    history_messages: int = 0
    history_bytes: int = 0
    subscribers_queued_messages: int = 0
    subscribers_queued_bytes: int = 0
    subscribers_missed: int = 0
    """Messages, by apps that were too slow."""
    validators: int = 0
    """Open Validate calls."""
    validators_missed: int = 0
    """Messages that these did not read in time."""


@dataclass(slots=True)
class ReceiversStatistics(Statistics):
    """Receive and Serve calls, and what became of messages for the former."""

    prefix = "api_"

    receivers: int = 0
    receivers_missed: int = 0
    receivers_refused: int = 0
    servers: int = 0


@dataclass(slots=True)
class OutcomesStatistics(Statistics):
    """What became of direct messages and requests of this node's apps."""

    prefix = "direct_"

    receipts: Mapping[str, int] = field(default_factory=dict)
    answers: Mapping[str, int] = field(default_factory=dict)
    """ANSWERED, or the reason why there was no answer, in lower case."""


@dataclass(slots=True)
class MailStatistics(Statistics):
    """Durable messages on this node's disk."""

    prefix = "durable_"

    outbox_messages: int = 0
    outbox_bytes: int = 0
    """As they count against the bounds."""
    inbox_messages: int = 0
    inbox_bytes: int = 0
    dead_letters: int = 0
    disk_refuses: int = 0
    """1 while it does."""
    disk_slow: int = 0
    """1 while a transaction takes a second or more."""
    volatile: int = 0
    """1 where the state directory is in memory, or in a container's own layer."""


@dataclass(slots=True)
class HistoryStatistics(Statistics):
    """What is kept of topics on this node's disk."""

    prefix = "history_"

    topics: int = 0
    messages: int = 0
    bytes: int = 0
    """As they count against the bound."""
    waiting_bytes: int = 0
    """On their way to the disk."""
    missed: int = 0
    """Messages that could not be kept, since the start."""
    pages: int = 0
    """Read for subscribers, since the start."""
    disk_refuses: int = 0
    """1 while it does."""


@dataclass(slots=True)
class ByteStreamsStatistics(Statistics):
    """Byte streams toward apps."""

    prefix = "api_"

    byte_streams: int = 0
    stream_acceptors: int = 0
    streams_unattached: int = 0
    streams_refused: int = 0


@dataclass(slots=True)
class GuardStatistics(Statistics):
    """Calls that were refused, and messages of streams that had to wait, since the start; tokens now."""

    prefix = "api_"

    tokens: int = 0
    refused_unauthenticated: int = 0
    refused_permission: int = 0
    refused_quota: int = 0
    slowed_by_quota: int = 0


@dataclass(slots=True)
class CallsStatistics(Statistics):
    """Streaming calls, and operations of apps that wait for the node."""

    prefix = "api_"

    streams: int = 0
    operations: int = 0


@dataclass(slots=True)
class BackendStatistics(Statistics):
    """The node, its driver and the API; `flat` gives what `GetStatistics` tells."""

    node: NodeStatistics
    driver: Statistics
    pubsub: PubSubStatistics
    receivers: ReceiversStatistics
    outcomes: OutcomesStatistics
    mail: MailStatistics
    history: HistoryStatistics
    byte_streams: ByteStreamsStatistics
    guard: GuardStatistics
    calls: CallsStatistics
    audit: AuditStatistics
