"""The Python client of the p2p sidecar.

async with sidecar_client.connect() as node:
    async for message in node.subscribe("news"):
        print(message.sender, message.data)
"""

import importlib
from typing import TYPE_CHECKING, Any

from . import _experiments  # noqa: F401 - first of all, before anything imports gRPC

if TYPE_CHECKING:
    from .advertisement import Advertisement
    from .client import Client, connect
    from .durable import DurableMessage, DurableReceiver, OutboxWatch
    from .errors import (
        AlreadyExists,
        Closed,
        DeadlineExceeded,
        DialBackoff,
        DialTimeout,
        FailedPrecondition,
        InternalError,
        InvalidArgument,
        InvalidMultiaddr,
        InvalidPeerId,
        NoAddresses,
        NoQuorum,
        NotFound,
        NotSupported,
        Outdated,
        PeerBanned,
        PermissionDenied,
        ProtocolError,
        QueueFull,
        QuotaExceeded,
        Refused,
        ResourceExhausted,
        SelfDial,
        SidecarError,
        SidecarUnavailable,
        SlowReader,
        StreamReset,
        TooLarge,
        TopicOptionsDiffer,
        Unauthenticated,
        Unreachable,
        WorkExceeded,
        WrongNetwork,
        WrongPeer,
        WrongPrivateNetwork,
    )
    from .server import Server
    from .streams import ByteStream, StreamAcceptor
    from .subscription import DirectBatch, MessageBatch, Receiver, Subscription
    from .types import (
        AddressOrigin,
        AddressReachability,
        Announcement,
        Ban,
        Banned,
        Bundling,
        Condition,
        ConfigurationEntry,
        Direction,
        DirectMessage,
        Durable,
        DurableOutcome,
        FoundPeer,
        Histogram,
        HistoryState,
        InboxMessage,
        Lagged,
        LagReason,
        LogLevels,
        MappedPort,
        Message,
        MessageId,
        NodeEvent,
        NodeInfo,
        OutboxEvent,
        OutboxMessage,
        OverflowPolicy,
        Peer,
        PeerAddress,
        PeerEvent,
        PeerEventType,
        PeerPath,
        PeerScore,
        PeerStanding,
        PortMapping,
        ProbeAnswer,
        ProbeSummary,
        PublishOutcome,
        PublishReceipt,
        PublishReceipts,
        Reachability,
        Readiness,
        Record,
        RecordReceipt,
        Request,
        Rule,
        RuleCount,
        SendOutcome,
        SendReceipt,
        SendReceipts,
        Signing,
        Statistics,
        Topic,
        TopicScore,
        ValidationFallback,
        Verdict,
    )
    from .validator import Judge, Validator

__all__ = [
    "AddressOrigin",
    "AddressReachability",
    "Advertisement",
    "AlreadyExists",
    "Announcement",
    "Ban",
    "Banned",
    "Bundling",
    "ByteStream",
    "Client",
    "Closed",
    "Condition",
    "ConfigurationEntry",
    "DeadlineExceeded",
    "DialBackoff",
    "DialTimeout",
    "DirectBatch",
    "DirectMessage",
    "Direction",
    "Durable",
    "DurableMessage",
    "DurableOutcome",
    "DurableReceiver",
    "FailedPrecondition",
    "FoundPeer",
    "Histogram",
    "HistoryState",
    "InboxMessage",
    "InternalError",
    "InvalidArgument",
    "InvalidMultiaddr",
    "InvalidPeerId",
    "Judge",
    "LagReason",
    "Lagged",
    "LogLevels",
    "MappedPort",
    "Message",
    "MessageBatch",
    "MessageId",
    "NoAddresses",
    "NoQuorum",
    "NodeEvent",
    "NodeInfo",
    "NotFound",
    "NotSupported",
    "OutboxEvent",
    "OutboxMessage",
    "OutboxWatch",
    "Outdated",
    "OverflowPolicy",
    "Peer",
    "PeerAddress",
    "PeerBanned",
    "PeerEvent",
    "PeerEventType",
    "PeerPath",
    "PeerScore",
    "PeerStanding",
    "PermissionDenied",
    "PortMapping",
    "ProbeAnswer",
    "ProbeSummary",
    "ProtocolError",
    "PublishOutcome",
    "PublishReceipt",
    "PublishReceipts",
    "QueueFull",
    "QuotaExceeded",
    "Reachability",
    "Readiness",
    "Receiver",
    "Record",
    "RecordReceipt",
    "Refused",
    "Request",
    "ResourceExhausted",
    "Rule",
    "RuleCount",
    "SelfDial",
    "SendOutcome",
    "SendReceipt",
    "SendReceipts",
    "Server",
    "SidecarError",
    "SidecarUnavailable",
    "Signing",
    "SlowReader",
    "Statistics",
    "StreamAcceptor",
    "StreamReset",
    "Subscription",
    "TooLarge",
    "Topic",
    "TopicOptionsDiffer",
    "TopicScore",
    "Unauthenticated",
    "Unreachable",
    "ValidationFallback",
    "Validator",
    "Verdict",
    "WorkExceeded",
    "WrongNetwork",
    "WrongPeer",
    "WrongPrivateNetwork",
    "connect",
]

# What is asked for is loaded then, no more: the sidecar needs the generated code alone, and starts sooner by a tenth.
_HOMES = {
    "Advertisement": "advertisement",
    "ByteStream": "streams",
    "Client": "client",
    "DirectBatch": "subscription",
    "DurableMessage": "durable",
    "DurableReceiver": "durable",
    "Judge": "validator",
    "MessageBatch": "subscription",
    "OutboxWatch": "durable",
    "Receiver": "subscription",
    "Server": "server",
    "StreamAcceptor": "streams",
    "Subscription": "subscription",
    "Validator": "validator",
    "connect": "client",
}
_MODULES = frozenset((*_HOMES.values(), "bulk", "errors", "places", "types", "v1"))

if not TYPE_CHECKING:  # else no name would be a wrong one

    def __getattr__(name: str) -> Any:
        if name in _MODULES:
            return importlib.import_module(f".{name}", __name__)
        if name not in __all__:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        homes = (_HOMES[name],) if name in _HOMES else ("errors", "types")
        for home in homes:
            module = importlib.import_module(f".{home}", __name__)
            if hasattr(module, name):
                found = getattr(module, name)
                globals()[name] = found  # the next one is not asked for here
                return found
        raise AssertionError(f"{name} is in none of {homes}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__, *_MODULES})
