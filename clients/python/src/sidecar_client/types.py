"""What the client gives and takes: plain, frozen values."""

import enum
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, NamedTuple

from google.protobuf.timestamp_pb2 import Timestamp


class _Enum(enum.IntEnum):
    @classmethod
    def _missing_(cls, value: object) -> "_Enum":
        """A sidecar that is newer than this client may say more than this client knows."""
        return cls(0)


class Direction(_Enum):
    """Who opened a connection."""

    UNSPECIFIED = 0  # not connected
    INBOUND = 1
    OUTBOUND = 2


class PeerPath(_Enum):
    """How a peer is reached."""

    UNSPECIFIED = 0  # not connected, or an earlier sidecar
    DIRECT = 1
    RELAYED = 2  # through a relay that carries as much as there is
    RELAYED_LIMITED = 3  # through one that ends connections soon: neither gossip nor the DHT go there


class AddressOrigin(_Enum):
    """Who told an address of a peer."""

    UNSPECIFIED = 0  # not said
    BOOTSTRAP = 1  # the configuration
    APP = 2
    MDNS = 3  # the peer, on the local network
    PEER_RECORD = 4  # the peer, in a record that it has signed
    IDENTIFY = 5  # the peer, unsigned
    CONNECTION = 6  # this is where a connection led
    PEER_EXCHANGE = 7
    RELAY = 8  # an address of some other peer, who has this one for a relay
    DHT = 9
    MEMORY = 10  # an earlier run


class PeerEventType(_Enum):
    """What happened to a peer."""

    UNSPECIFIED = 0
    PRESENT = 1  # connected already, when watching began
    CURRENT = 2  # the present state has been told in full; this event has no peer
    CONNECTED = 3
    IDENTIFIED = 4
    UPDATED = 5
    DISCONNECTED = 6
    SCORED = 7  # its score has passed a threshold; `reason` says what costs it most
    LAGGED = 100  # of the client: this reader was too slow, events were lost, and the present state is told anew
    RECONNECTED = 101  # of the client: the connection to the sidecar was lost meanwhile; as LAGGED


class PeerStanding(_Enum):
    """What a peer's score in gossip has come to; each has what those before it have."""

    UNSPECIFIED = 0
    GOOD = 1
    NO_MESH = 2  # below 0: it is in no mesh
    NO_GOSSIP = 3  # no IHAVE to it, and its own IHAVE and IWANT are ignored
    NO_PUBLISH = 4  # what apps publish here is not sent to it
    GRAYLISTED = 5  # nothing that it says in gossip is listened to


class SendOutcome(_Enum):
    """What became of a direct message."""

    UNSPECIFIED = 0
    DELIVERED = 1  # written to the stream of a receiving app there
    NO_SUBSCRIBER = 2
    LOCAL_QUEUE_FULL = 3
    REMOTE_QUEUE_FULL = 4
    UNREACHABLE = 5
    REFUSED = 6
    TOO_LARGE = 7
    TIMED_OUT = 8  # sent, no receipt in time: it may have arrived
    UNKNOWN = 9  # sent, and the connection was lost: it may have arrived
    STORED = 10  # durable: on the sidecar's disk
    OUTBOX_FULL = 11  # durable, and not stored: a bound of the outbox is reached
    NOT_STORED = 12  # durable, and not stored: the sidecar's disk refuses


class DurableOutcome(_Enum):
    """What became of a durable message."""

    UNSPECIFIED = 0
    DONE = 1  # the peer's app acknowledged it
    REJECTED = 2  # the peer's app rejected it
    EXPIRED = 3  # its time was over, or it was withdrawn
    DEAD_LETTER = 4  # delivered too often without being settled


class PublishOutcome(_Enum):
    """What became of a published message."""

    UNSPECIFIED = 0
    SENT = 1  # queued to at least one peer
    NO_PEERS = 2  # subscribers at this node have got it
    QUEUE_FULL = 3
    TOO_LARGE = 4
    DUPLICATE = 5
    REJECTED = 6  # by a rule of the topic, or an app that judges its messages


class Verdict(_Enum):
    """What becomes of a message."""

    UNSPECIFIED = 0
    ACCEPT = 1  # it is delivered, and passed on to peers
    REJECT = 2  # it is not, and it counts against the peers that sent it
    IGNORE = 3  # it is not, and nobody is to blame


class ValidationFallback(_Enum):
    """What becomes of a message for which there is no verdict in time, and of all while no app judges the topic."""

    UNSPECIFIED = 0  # as before, else as configured
    ACCEPT = 1
    IGNORE = 2
    HOLD = 3  # it waits for an app, without a deadline, as long as there is room


class Signing(_Enum):
    """How messages of a topic prove where they come from; all its nodes must agree."""

    UNSPECIFIED = 0  # as in force for the topic here, else STRICT_SIGN
    STRICT_SIGN = 1
    STRICT_NO_SIGN = 2


class Bundling(_Enum):
    """Whether messages that are published together on a signed topic travel as one, under one signature.

    Each is judged and delivered by itself all the same.
    """

    UNSPECIFIED = 0  # as configured for the topic
    OFF = 1
    KNOWN = 2  # while all connected peers of the topic know bundles
    ALWAYS = 3  # in any case; apps of other peers get each bundle as one message


class HistoryState(_Enum):
    """Whether a topic's messages are kept on disk."""

    UNSPECIFIED = 0  # they are not
    KEPT = 1
    REFUSED = 2  # they should be, but the disk refuses or is too slow


class OverflowPolicy(_Enum):
    """What becomes of messages when a subscription's queue in the sidecar is full."""

    UNSPECIFIED = 0  # as DROP_OLDEST
    DROP_OLDEST = 1
    DROP_NEWEST = 2
    END_STREAM = 3  # SlowReader is raised


class LagReason(_Enum):
    """Why messages were missed."""

    UNSPECIFIED = 0
    SLOW_READER = 1
    HISTORY_EXCEEDED = 2
    RESTARTED = 3
    RECONNECTED = 100  # of the client: the connection to the sidecar was lost meanwhile


class Reachability(_Enum):
    """Whether peers reach the node from outside, or an address of it."""

    UNSPECIFIED = 0  # of a sidecar that does not look
    UNKNOWN = 1
    CONFIRMED = 2
    NOT_REACHABLE = 3


@dataclass(frozen=True, slots=True)
class AddressReachability:
    """An address of the node, and what peers have found of it.

    `source`: "listening", "announced", "mapped" or "observed". `since`: Unix seconds. `proofs`: how many networks of
    peers have reached it; `failures`: how many say, later than these, that they do not.
    """

    address: str
    reachability: Reachability
    source: str
    since: float
    proofs: int
    failures: int


@dataclass(frozen=True, slots=True)
class MappedPort:
    """A port of the gateway that leads to the node's `port`. `expire_time`: Unix seconds, None where it has no end."""

    address: str
    port: int
    expire_time: float | None


@dataclass(frozen=True, slots=True)
class PortMapping:
    """What the gateway of the node's network does for it.

    `state`: "off", "no gateway", "asking", "mapped", "refused" or "no answer". `message` and `remedy` are for people.
    `protocol`: "pcp", "nat-pmp" or "upnp", empty where nothing is mapped.
    """

    state: str
    message: str
    remedy: str
    gateway: str
    protocol: str
    ports: tuple[MappedPort, ...]


@dataclass(frozen=True, slots=True)
class NodeInfo:
    """Who the node is and where. `start_time` is Unix seconds, `uptime` seconds.

    `api_engine`: what speaks gRPC to apps, "http2" or "grpcio"; empty of an earlier sidecar.
    `addresses`: those that peers were asked to dial. `port_mapping`: None of an earlier sidecar.
    `relayed_addresses`: at which it is reached through relays.
    """

    peer_id: str
    network: str
    agent: str
    version: str
    listening_addresses: tuple[str, ...]
    announced_addresses: tuple[str, ...]
    observed_addresses: tuple[str, ...]
    start_time: float
    uptime: float
    api_engine: str = ""
    reachability: Reachability = Reachability.UNSPECIFIED
    addresses: tuple[AddressReachability, ...] = ()
    port_mapping: PortMapping | None = None
    relayed_addresses: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Condition:
    """One of the things that readiness is made of. `since` is Unix seconds."""

    type: str
    met: bool
    reason: str
    message: str
    remedy: str
    since: float


@dataclass(frozen=True, slots=True)
class Readiness:
    """Whether the node is ready, and why not."""

    ready: bool
    conditions: tuple[Condition, ...]


@dataclass(frozen=True, slots=True)
class ConfigurationEntry:
    """A key of the sidecar's configuration, such as `gossip.degree`, and its value as TOML has it.

    `source` says where it was set: `default`, a place in a file, `$VARIABLE` or `--flag`. `reloadable`: it changes when
    the sidecar reads its configuration again.
    """

    name: str
    value: str
    source: str
    reloadable: bool


@dataclass(frozen=True, slots=True)
class TopicScore:
    """What a peer's behaviour in one topic adds to its score, in points (P1, P2, P3, P3b and P4 of gossipsub v1.1)."""

    topic: str
    time_in_mesh: float
    first_deliveries: float
    mesh_deliveries: float
    mesh_failures: float
    invalid_messages: float


@dataclass(frozen=True, slots=True)
class PeerScore:
    """What is thought of a peer in gossip, in points. `reason`: what costs most, a sentence; empty where nothing does.

    Its parts: `topics`, which together add no more than the configured cap, then P5 (`set_peer_score`), P6 (many peers
    at one address), P7 (misbehaviour) of gossipsub v1.1, and what is lost for being slow.
    """

    score: float
    standing: PeerStanding
    reason: str
    topics: tuple[TopicScore, ...]
    application: float
    colocation: float
    behaviour: float
    slow: float


@dataclass(frozen=True, slots=True)
class PeerAddress:
    """An address of a peer, who told it, and when the peer was found there last, and was not, in Unix seconds."""

    address: str
    origin: AddressOrigin
    last_success: float | None
    last_failure: float | None


@dataclass(frozen=True, slots=True)
class Peer:
    """What is known of a peer. `latency` is seconds, None until measured; `connect_time` Unix seconds.

    `protected`: its connections are never closed because there are too many. `score`: None where nothing is known of it
    in gossip, or peers are not scored. `path_time`: since when it is reached by this `path`, in Unix seconds.
    `known_addresses`: from `Client.peer` alone, in the order in which they are dialled.
    """

    peer_id: str
    connected: bool
    direction: Direction
    addresses: tuple[str, ...]
    remote_address: str
    protocols: tuple[str, ...]
    agent: str
    protocol_version: str
    identified: bool
    latency: float | None
    connect_time: float | None
    connections: int
    protected: bool = False
    score: PeerScore | None = None
    path: PeerPath = PeerPath.UNSPECIFIED
    path_time: float | None = None
    known_addresses: tuple[PeerAddress, ...] = ()


@dataclass(frozen=True, slots=True)
class PeerEvent:
    """A change of a peer. `reason` says why it disconnected, empty when in order; of SCORED, what costs it most.

    `peer` is None for CURRENT, and for LAGGED and RECONNECTED, where events were missed: forget what you knew, the
    present state is told anew.
    """

    type: PeerEventType
    peer: Peer | None
    reason: str


@dataclass(frozen=True, slots=True)
class Ban:
    """A peer, or an IP address or network, that the sidecar refuses; the other of the two is empty.

    Times are Unix seconds: `create_time` is None for an entry of the configuration's deny lists (`configured`),
    `expire_time` for a ban that does not end by itself. `refused` counts connections and dials since its start.
    """

    peer_id: str
    network: str
    reason: str
    create_time: float | None
    expire_time: float | None
    configured: bool
    refused: int


@dataclass(frozen=True, slots=True)
class Banned:
    """What came of a ban: the bans, the connections closed, and sentences about what else there is to know."""

    bans: tuple[Ban, ...]
    connections_closed: int
    warnings: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Topic:
    """A topic as this node sees it."""

    name: str
    subscribed: bool
    signing: Signing
    peers: int
    mesh_peer_ids: tuple[str, ...]
    subscribers: int
    history_messages: int
    delivered: int = 0  # this and what follows: since the topic came to be known there
    published: int = 0
    duplicates: int = 0
    rejected: int = 0
    dropped: int = 0  # copies that a peer did not get since its queue was full
    delivered_bytes: int = 0  # of payload
    published_bytes: int = 0
    ignored: int = 0  # messages of peers that were not passed on, though nobody is to blame
    validators: int = 0  # apps that judge its messages
    unjudged: int = 0  # messages that wait for their verdicts
    scoring: str = ""  # how its peers are scored by the expected rate, a sentence; empty: as those of any topic
    history: HistoryState = HistoryState.UNSPECIFIED  # what follows is for topics whose messages are kept on disk
    stored_messages: int = 0  # on disk
    stored_bytes: int = 0  # as they count: as they travelled, and 160 for each
    oldest_time: float | None = None  # the `receive_time` of the oldest; None where there is none
    complete_since: float | None = None  # compared with a peer, nothing was missing from here, Unix seconds
    complete_until: float | None = None  # to here; both None where no comparison has ended so yet
    history_gap: str = ""  # what arrived and could not be kept, a sentence; empty: nothing, as far as is known


class RuleCount(NamedTuple):
    """How many messages broke a rule on a topic, and what of it (`max_payload`, `rate`, ...)."""

    topic: str
    limit: str
    messages: int


@dataclass(frozen=True, slots=True)
class Rule:
    """A rule that messages are judged by there before anybody gets them."""

    name: str
    topics: tuple[str, ...]
    description: str  # what it asks for, a sentence
    configured: bool  # it is of the node's file; else it was set at run time
    counts: tuple[RuleCount, ...]


class Histogram(NamedTuple):
    """Observations counted by upper bounds; `counts` has one more, for what is above all of them.

    The schema, `Histogram` in `node.proto`, says what each one measures.
    """

    upper_bounds: tuple[float, ...]
    counts: tuple[int, ...]
    sum: float


class Statistics(dict[str, float]):
    """Counters and gauges by name, and histograms by name."""

    def __init__(self, values: Mapping[str, float], histograms: Mapping[str, Histogram]) -> None:
        super().__init__(values)
        self.histograms = dict(histograms)


class NodeEvent(NamedTuple):
    """A record of the sidecar's log. `time` is in Unix seconds, `severity` debug, info, warning or error."""

    time: float
    severity: str
    part: str
    message: str
    fields: dict[str, str]


class LogLevels(NamedTuple):
    """The level of all parts of the log, and those of parts with one of their own."""

    level: str
    parts: dict[str, str]


class _Described(NamedTuple):
    topic: str
    sender: str
    message_id: bytes
    cursor: bytes
    receive_time: float
    local: bool
    history: bool


class Message:
    """A message of a topic.

    One that a subscription gives keeps the batch that it came in, of at most 1 MiB or one message, in memory as long as
    it is there itself. Where few of many are kept for long, keep their data, or `copy.copy(message)`.
    """

    # All but the payload is read when it is asked for, out of what protobuf has parsed: 0.4 us a message, not 0.8.
    __slots__ = ("_described", "data")
    __match_args__ = ("topic", "data", "sender", "message_id", "cursor", "receive_time", "local", "history")

    data: bytes
    _described: Any

    def __init__(
        self,
        topic: str,
        data: bytes,
        sender: str = "",
        message_id: bytes = b"",
        cursor: bytes = b"",
        receive_time: float = 0.0,
        local: bool = False,
        history: bool = False,
    ) -> None:
        self.data = data
        self._described = _Described(topic, sender, message_id, cursor, receive_time, local, history)

    @property
    def topic(self) -> str:
        """The topic's name."""
        return self._described.topic  # type: ignore[no-any-return]

    @property
    def sender(self) -> str:
        """Who published it, proven by its signature; empty on unsigned topics."""
        return self._described.sender  # type: ignore[no-any-return]

    @property
    def message_id(self) -> bytes:
        """The same at all nodes."""
        return self._described.message_id  # type: ignore[no-any-return]

    @property
    def cursor(self) -> bytes:
        """Continues a subscription behind this message."""
        return self._described.cursor  # type: ignore[no-any-return]

    @property
    def receive_time(self) -> float:
        """When this node got it, Unix seconds; with `history` about when the first node got it that tells of it."""
        found = self._described.receive_time
        return _unix(found) if isinstance(found, bytes) else found

    @property
    def local(self) -> bool:
        """Whether an app of this node published it."""
        return self._described.local  # type: ignore[no-any-return]

    @property
    def history(self) -> bool:
        """Whether this node had missed it, and a peer brought it later."""
        return self._described.history  # type: ignore[no-any-return]

    def _values(self) -> tuple[Any, ...]:
        return tuple(getattr(self, name) for name in self.__match_args__)

    def __eq__(self, other: object) -> bool:
        return self._values() == other._values() if isinstance(other, Message) else NotImplemented

    def __hash__(self) -> int:
        return hash(self._values())

    def __repr__(self) -> str:
        fields = zip(self.__match_args__, self._values(), strict=True)
        return f"Message({', '.join(f'{name}={value!r}' for name, value in fields)})"

    def __reduce__(self) -> tuple[type["Message"], tuple[Any, ...]]:
        return Message, self._values()


@lru_cache(maxsize=16)  # messages that came together have the same few
def _unix(encoded: bytes) -> float:
    when = Timestamp.FromString(encoded)
    return when.seconds + when.nanos / 1e9


class DirectMessage(NamedTuple):
    """A direct message. The connection proves who sent it."""

    peer_id: str
    protocol: str
    data: bytes


@dataclass(frozen=True, slots=True)
class Lagged:
    """Messages that a stream missed. `missed` is None where nobody knows how many."""

    missed: int | None
    reason: LagReason

    @property
    def why(self) -> str:
        """The reason in words."""
        words = {
            LagReason.SLOW_READER: "this reader was too slow",
            LagReason.HISTORY_EXCEEDED: "the sidecar's history does not reach back so far",
            LagReason.RESTARTED: "the sidecar has restarted",
            LagReason.RECONNECTED: "the connection to the sidecar was lost meanwhile",
        }
        return words.get(self.reason, "not said why")

    def __str__(self) -> str:
        count = "messages (how many is not known)" if self.missed is None else f"{self.missed} messages"
        return f"missed {count}: {self.why}"


class MessageId(NamedTuple):
    """How both ends name a durable message, beside sender, receiver and protocol. The sequence has no gaps."""

    incarnation: int
    sequence: int


@dataclass(frozen=True, slots=True)
class Durable:
    """That messages are kept on the sidecar's disk until the peer's app has settled them.

    `time_to_live`: seconds for which they are worth delivering; None: the configured time.
    """

    time_to_live: float | None = None


class OutboxEvent(NamedTuple):
    """What became of a durable message, and why; `time` is seconds since 1970. `cursor`: to go on behind it."""

    cursor: int
    peer_id: str
    protocol: str
    message_id: MessageId
    request_id: str
    outcome: DurableOutcome
    reason: str
    time: float


class OutboxMessage(NamedTuple):
    """A durable message that waits for its peer; times are seconds since 1970. `held`: the peer's sidecar has it."""

    peer_id: str
    protocol: str
    message_id: MessageId
    request_id: str
    size: int
    created: float
    expires: float
    held: bool


class InboxMessage(NamedTuple):
    """A durable message that waits for an app here, or a dead letter and why; times are seconds since 1970."""

    id: int
    peer_id: str
    protocol: str
    message_id: MessageId
    size: int
    attempts: int
    received: float
    expires: float
    data: bytes
    reason: str


class SendReceipt(NamedTuple):
    """What became of a direct message; `detail` is for people."""

    outcome: SendOutcome
    detail: str = ""
    message_id: MessageId | None = None


@dataclass(frozen=True, slots=True)
class SendReceipts:
    """The same receipt for `count` consecutive messages of a batch, from the one numbered `first` on.

    `message_id`: of durable ones, that of the first; those that follow have the next sequences.
    """

    first: int
    count: int
    outcome: SendOutcome
    detail: str = ""
    message_id: MessageId | None = None


class PublishReceipt(NamedTuple):
    """What became of a published message: how many peers it was queued to, and for how many dropped."""

    outcome: PublishOutcome
    message_id: bytes
    peers: int
    dropped: int


@dataclass(frozen=True, slots=True)
class PublishReceipts:
    """The same receipt for `count` consecutive messages, from the one numbered `first` on; ids where asked for."""

    first: int
    count: int
    outcome: PublishOutcome
    peers: int
    dropped: int
    message_ids: Sequence[bytes] = ()


@dataclass(frozen=True, slots=True)
class Request:
    """A request to be answered.

    `time_left`: seconds that the asker still waited when it came; None: not said. `traceparent`: the parent, in traces,
    of what is done for it, as W3C Trace Context writes it; empty outside of traces.
    """

    peer_id: str
    protocol: str
    data: bytes
    time_left: float | None
    traceparent: str = ""


@dataclass(frozen=True, slots=True)
class Announcement:
    """An announcement of an advertised name: `holders` of the `asked` closest peers hold it."""

    holders: int
    asked: int
    next_announcement: float  # seconds since 1970


@dataclass(frozen=True, slots=True)
class ProbeAnswer:
    """One receiver got one message of a probe. Seconds; `number` counts the messages from 0.

    `round_trip`: to the receiver; half of it was taken off for the answer's way, so `delay` is off by that at most.
    `direct`: whether the receiver got the message from this node itself.
    """

    peer_id: str
    number: int
    delay: float
    round_trip: float
    direct: bool


@dataclass(frozen=True, slots=True)
class ProbeSummary:
    """A probe as a whole.

    `share`: of the receivers, how much was asked, 0 to 1. `peers`: different ones that answered.
    `expected`: answers that connected peers of the topic owed; `answered`: those of them that came. Of other receivers
    nobody knows who they are. `receivers`: about how many the answers stand for. `ignored`: answers that do not count.
    """

    published: int
    unpublished: int
    share: float
    answers: int
    peers: int
    expected: int
    answered: int
    receivers: float
    ignored: int


@dataclass(frozen=True, slots=True)
class FoundPeer:
    """A peer that the DHT names: one that advertises a name, or is close to a key."""

    peer_id: str
    addresses: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class RecordReceipt:
    """`stored` of the `asked` closest peers took a record."""

    stored: int
    asked: int


@dataclass(frozen=True, slots=True)
class Record:
    """A record of the DHT. `holders`: how many of those asked have this value."""

    value: bytes
    holders: int
    expires_at: float | None  # seconds since 1970
    publisher: str  # who signed it; empty unless the namespace's rule is `signed`
    sequence: int
