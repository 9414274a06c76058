"""The one table from method to scope: what each message of an app takes to be allowed.

A method without a row is refused to everybody who has a token; a test holds that each has one.
"""

from collections.abc import Callable, Sequence
from typing import Any

DEFAULT_PROBE = 20
"""Messages of a probe that does not say how many."""

Needs = Callable[[Any], Sequence[str]]


def _named(kind: str, field: str) -> Needs:
    """A scope of that name. An empty name is malformed, or means the one before; neither needs anything."""

    def needs(request: Any) -> Sequence[str]:
        name = getattr(request, field)
        return (f"{kind}:{name}",) if name else ()

    return needs


def _named_or(kind: str, scope: str) -> Needs:
    """That of the protocol which is named; without a name, `scope`: it is about those of all apps."""
    return lambda request: (f"{kind}:{request.protocol}" if request.protocol else scope,)


def _inbox(request: Any) -> Sequence[str]:
    """Payloads of all apps are for whoever manages the node."""
    return _named_or("receive", "node:manage" if request.with_data else "node:read")(request)


def _each(kind: str, field: str) -> Needs:
    return lambda request: [f"{kind}:{name}" for name in getattr(request, field)]


def _key(request: Any) -> Sequence[str]:
    return (f"record:{request.key.decode(errors='backslashreplace')}",)


def _fixed(scope: str) -> Needs:
    return lambda request: (scope,)


def _any_token(request: Any) -> Sequence[str]:
    """For every app that has a token: what clients need to connect and to wait until the node is ready."""
    return ()


def _by_the_service(request: Any) -> Sequence[str]:
    """The service itself asks (`caller.require`): it alone knows what for, or whom to tell."""
    return ()


def _one(request: Any) -> int:
    return 1


_COUNTS: dict[str, Callable[[Any], int]] = {
    "DirectService/Send": _one,
    "DirectService/SendMany": lambda request: len(request.messages),
    "DirectService/Request": _one,
    "DirectService/RequestMany": lambda request: len(request.requests),
    "DirectService/Serve": lambda request: len(request.answers),
    "PubSubService/Publish": _one,
    "PubSubService/PublishMany": lambda request: len(request.messages),
    "PubSubService/Probe": lambda request: request.messages or DEFAULT_PROBE,
    "DiscoveryService/PutRecord": _one,
}
"""How many messages a request has, for the quota; none where there is no row."""


def messages_in(method: str) -> Callable[[Any], int]:
    """What counts the messages in a request of that method."""
    return _COUNTS.get(method, lambda request: 0)


def subscriptions_in(method: str, request: Any) -> int:
    """How many topics a call subscribes to."""
    return len(set(request.topics)) if method == "PubSubService/Subscribe" else 0


METHODS: dict[str, Needs] = {
    "NodeService/GetNode": _any_token,
    "NodeService/GetReadiness": _any_token,
    "NodeService/WatchReadiness": _any_token,
    "NodeService/GetStatistics": _fixed("node:read"),
    "NodeService/GetConfiguration": _fixed("node:read"),
    "NodeService/WatchEvents": _fixed("node:read"),
    "NodeService/SetLogLevel": _fixed("node:manage"),
    "PeerService/ListPeers": _fixed("peers:read"),
    "PeerService/WatchPeers": _fixed("peers:read"),
    "PeerService/GetPeer": _fixed("peers:read"),
    "PeerService/FindPeer": _fixed("peers:read"),
    "PeerService/ListClosestPeers": _fixed("peers:read"),
    "PeerService/ConnectPeer": _fixed("peers:manage"),
    "PeerService/DisconnectPeer": _fixed("peers:manage"),
    "PeerService/PingPeer": _fixed("peers:manage"),  # it connects
    "PeerService/BanPeer": _fixed("peers:ban"),
    "PeerService/AllowPeer": _fixed("peers:ban"),
    "PeerService/ListBans": _fixed("peers:read"),
    "PeerService/ProtectPeer": _fixed("peers:ban"),
    "PeerService/UnprotectPeer": _fixed("peers:ban"),
    "PeerService/SetPeerScore": _fixed("peers:ban"),
    "DirectService/Send": _named("send", "protocol"),
    "DirectService/SendMany": _named("send", "protocol"),
    "DirectService/Receive": _each("receive", "protocols"),
    "DirectService/Request": _named("request", "protocol"),
    "DirectService/RequestMany": _by_the_service,  # each request has its own outcome, this one too
    "DirectService/Serve": _each("serve", "protocols"),
    "DurableService/Settle": _by_the_service,  # which protocol, only the delivery tells
    "DurableService/WatchOutbox": _named_or("send", "node:read"),
    "DurableService/ListOutbox": _named_or("send", "node:read"),
    "DurableService/WithdrawOutbox": _named_or("send", "node:manage"),
    "DurableService/ListInbox": _inbox,
    "DurableService/RetryDeadLetters": _named_or("receive", "node:manage"),
    "DurableService/PurgeDeadLetters": _named_or("receive", "node:manage"),
    "StreamService/OpenStream": _each("stream", "protocols"),
    "StreamService/AcceptStreams": _each("stream", "protocols"),
    "StreamService/AttachStream": _by_the_service,  # which protocol, only the stream's token tells
    "StreamService/CarryStreams": _by_the_service,  # each stream fails by itself
    "PubSubService/Publish": _named("publish", "topic"),
    "PubSubService/PublishMany": _named("publish", "topic"),
    "PubSubService/Subscribe": _each("subscribe", "topics"),
    "PubSubService/Validate": _each("validate", "topics"),
    "PubSubService/ListTopics": _fixed("node:read"),
    "PubSubService/ListRules": _fixed("node:read"),
    "PubSubService/SetRules": _fixed("node:rules"),
    "PubSubService/Probe": _named("probe", "topic"),
    "DiscoveryService/Advertise": _named("advertise", "name"),
    "DiscoveryService/FindPeers": _named("discover", "name"),
    "DiscoveryService/PutRecord": _key,
    "DiscoveryService/GetRecord": _key,
}
