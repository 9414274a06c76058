"""What goes into the gossip router and what comes out of it."""

import enum
from collections.abc import Collection, Mapping, Sequence
from dataclasses import field

from ..classes import NamedTuple, dataclass
from ..errors import SidecarError
from ..events import Standing
from ..parameters.bundles import Bundling
from ..parameters.rules import TopicRule
from ..parameters.score import TopicScoreConfig
from ..parameters.validation import ValidationSettings
from ..statistics import Statistics
from ..types import PeerId
from .judging import Verdict
from .signing import SignatureCheck


@dataclass(frozen=True, slots=True)
class TopicOptions:
    """How a topic is spoken; all its members must agree (specs pubsub, Signature Policy Options).

    `sign`: True is StrictSign, a message's id is author + sequence number (+ place, in a bundle); False is
    StrictNoSign, its id is the SHA-256 of its data, so that the same data again is a duplicate. `expected_rate`:
    messages a second that are expected of all publishers together, by which peers are scored; 0 is not known.
    `keep`: its messages are stored here, so that what is delivered carries what travelled.
    """

    sign: bool = True
    expected_rate: float = 0.0
    keep: bool = False


class GossipMessage(NamedTuple):
    """A message as it is delivered. `sender` and `seqno` are None where messages are not signed."""

    id: bytes
    topic: str
    sender: PeerId | None
    seqno: int | None
    data: bytes
    received_from: PeerId  # this node's own id when `local`
    local: bool  # published by this node's apps


# ---------------------------------------------------------------- inputs


class PeerAdded(NamedTuple):
    """A peer speaks gossip with us. Must come before its first RPC.

    `outbound`: we opened the connection. `dial_only`: nobody can open one to it, so it has only links that it opens.
    `max_rpc`: bytes of the largest RPC that it reads, as far as that is known; 0 when it is not. `hosts`: the IP
    addresses that its connections come from, but for those of relays.
    """

    peer: PeerId
    protocol: str
    outbound: bool
    max_rpc: int = 0
    dial_only: bool = False
    hosts: tuple[str, ...] = ()


class PeerDescribed(NamedTuple):
    """What a peer says of itself has changed, or its connections have; see `PeerAdded`."""

    peer: PeerId
    dial_only: bool
    hosts: tuple[str, ...] = ()


class PeerAppointed(NamedTuple):
    """An app says what it thinks of a peer, which need not be here: P5. 0 takes it back.

    `seconds`: for how long; None: as long as anything is known of the peer.
    """

    peer: PeerId
    score: float
    seconds: float | None = None


class PeerMoved(NamedTuple):
    """What is for the peer goes over another stream from now on, which begins as a first one does."""

    peer: PeerId


class PeerRemoved(NamedTuple):
    """The peer is gone, and with it what was queued for it."""

    peer: PeerId


class FirstRpc(bytes):
    """An RPC that is the first on its stream. A peer with several connections may write on several streams at once."""


class RpcsReceived(NamedTuple):
    """The bodies (without length prefix) of all RPCs that one read brought; those that begin a stream as `FirstRpc`."""

    peer: PeerId
    frames: Sequence[bytes]


class SignaturesChecked(NamedTuple):
    """The verdicts on the batch of `CheckSignatures` with this number: for each None, or why it is rejected."""

    number: int
    reasons: Sequence[str | None]


class TopicJoined(NamedTuple):
    """An app wants the topic. Joining again with the same options changes nothing; `keep` is as said last.

    Raises InvalidArgument, TooLarge (the name), AlreadyExists (with other options), ResourceExhausted.
    """

    topic: str
    options: TopicOptions = TopicOptions()


class TopicLeft(NamedTuple):
    """No app wants the topic any more. `backoff`: seconds in which neither side grafts again; None as configured."""

    topic: str
    backoff: int | None = None


class Published(NamedTuple):
    """An app publishes a batch on one topic; answered by one PublishCompleted with the same `op`.

    `wait`: when every peer's queue is full, or fewer than `minimum_peers` are there, wait instead of giving up.
    `options` only matter for a topic that is not joined; None is that of the topic, else the default.
    `without`: peers that are not sent it from here. `bundling`: whether they may travel as one; None is as configured
    for the topic. It means nothing where messages are not signed.
    Raises InvalidArgument (a payload begins as a bundle does, too), TooLarge (the topic's name).
    """

    op: int
    topic: str
    messages: Sequence[bytes]
    wait: bool = False
    minimum_peers: int = 0
    options: TopicOptions | None = None
    without: Collection[PeerId] = ()
    bundling: Bundling | None = None


class PublishCancelled(NamedTuple):
    """The app waits no longer: PublishCompleted says what was sent until now. Unknown operations are ignored."""

    op: int


class ValidatorAdded(NamedTuple):
    """An app judges the messages of some topics from now on: `MessagesToJudge` has them, `VerdictsGiven` answers.

    `settings` of a topic hold from now on; None: as before, else as configured. Messages that are held go to the app
    at once. Of several apps all must accept. Raises InvalidArgument, TooLarge (a name), ResourceExhausted.
    """

    validator: int
    topics: Mapping[str, ValidationSettings | None]


class VerdictsGiven(NamedTuple):
    """Verdicts of an app on messages by their numbers: (first, count, verdict). Unknown numbers are ignored."""

    validator: int
    verdicts: Sequence[tuple[int, int, Verdict]]


class ValidatorRemoved(NamedTuple):
    """An app judges no more. `lost`: it did not say so itself, and what it has asked for goes on without it."""

    validator: int
    lost: bool = True


class RulesSet(NamedTuple):
    """The rules of the configuration, or those set at run time, are these from now on; the others stay.

    A rule that keeps its name keeps what it remembers of senders, and its counts. Raises AlreadyExists (two of one
    name), ResourceExhausted; nothing is changed then.
    """

    rules: Sequence[TopicRule]
    configured: bool = False


class HistoryBrought(NamedTuple):
    """Messages of a topic with `keep` that a peer had stored, as they travel: judged as new ones are, but for time.

    Form, topic, signatures, the rules' sizes and senders, and the verdicts of apps count; rates and sequence numbers do
    not. What is accepted is delivered as history. Nothing is sent on or named to anybody, and nobody is scored.
    `ages`: of each, in seconds. `keys`: of each, the SHA-256 that its id is to have; empty where none is known.
    Answered by `HistoryJudged` with the same `number`, which must not be that of a batch under way.
    """

    number: int
    peer: PeerId
    topic: str
    raws: Sequence[bytes]
    ages: Sequence[float]
    keys: Sequence[bytes] = ()


class HistorySeen(NamedTuple):
    """Messages with these ids were delivered before the node started: gossip that lingers does not bring them again."""

    topic: str
    ids: Sequence[bytes]


AppInput = (
    TopicJoined
    | TopicLeft
    | Published
    | PublishCancelled
    | PeerAppointed
    | ValidatorAdded
    | VerdictsGiven
    | ValidatorRemoved
    | RulesSet
    | HistorySeen
)
GossipInput = (
    PeerAdded | PeerDescribed | PeerMoved | PeerRemoved | RpcsReceived | SignaturesChecked | HistoryBrought | AppInput
)

# ---------------------------------------------------------------- effects


class PublishOutcome(enum.Enum):
    """What became of a published message."""

    SENT = "sent"  # queued for at least one peer
    NO_PEERS = "no peers"  # nobody in the topic: own apps got it; fewer than asked for: nobody did, and it has no id
    QUEUE_FULL = "queue full"  # every peer's queue, or the waiting room of publishers
    TOO_LARGE = "too large"  # its RPC would pass `max_rpc`, or too few of the topic's peers read one so large
    REJECTED = "rejected"  # a rule of the topic, or an app that judges its messages, did not accept it
    DUPLICATE = "duplicate"  # the same data was seen a short while ago (unsigned topics)
    CANCELLED = "cancelled"  # PublishCancelled came first


class Receipt(NamedTuple):
    """What became of the messages `first` to `first + count - 1` of a batch."""

    first: int
    count: int  # type: ignore[assignment]  # hides tuple.count, which nobody needs here
    outcome: PublishOutcome
    peers: int  # whose queues took it
    dropped: int  # peers whose queues were full


class PeerWoken(NamedTuple):
    """`take(peer, ...)` has frames: said once when the peer's queue was empty before."""

    peer: PeerId


class MessagesDelivered(NamedTuple):
    """New messages of a joined topic, own ones included, in order.

    `raws`: where the topic is kept, the gossip messages as they travel, one for each; else empty. Those of a bundle are
    delivered apart from others: `bundle` is its id, and `raws` has it alone. The id of each message in it is that id
    and the message's place in two bytes; those that were not accepted are missing.
    `history`: another node had stored them, and `received` has for each of `raws` its age in seconds.
    """

    topic: str
    messages: list[GossipMessage]
    raws: Sequence[bytes] = ()
    received: Sequence[float] = ()
    history: bool = False
    bundle: bytes = b""


class HistoryRepeated(NamedTuple):
    """Messages that another node had stored and that were delivered here before: nothing for apps.

    But the store may lack them. All else is as in `MessagesDelivered`.
    """

    topic: str
    messages: list[GossipMessage]
    raws: Sequence[bytes]
    received: Sequence[float]
    bundle: bytes = b""


class HistoryJudged(NamedTuple):
    """What became of the messages of a `HistoryBrought`, by their ids (of a bundle the outer one).

    It comes once all signatures are checked, which takes a while where they are many; and again, with the same number
    and `waited`, for messages that apps have judged since, whenever they do.
    """

    number: int
    peer: PeerId
    topic: str
    accepted: tuple[bytes, ...] = ()  # delivered, at least one message of a bundle
    known: tuple[bytes, ...] = ()  # delivered before, or on their way here from elsewhere
    waiting: tuple[bytes, ...] = ()  # for verdicts of apps; what was told to wait before, and does so still, as well
    ignored: tuple[bytes, ...] = ()  # by a rule or an app; nobody is to blame
    rejected: tuple[bytes, ...] = ()  # the same, and not to be passed on; but the peer may have other rules and apps
    unjudged: tuple[bytes, ...] = ()  # no app is there to judge them, or not in time: they may be brought once more
    invalid: tuple[tuple[int, str], ...] = ()  # places in `raws`, and why no honest peer sends that
    dropped: int = 0  # not looked at: too many wait to be judged, or the topic is not kept any more
    waited: bool = False


class TopicPeerChanged(NamedTuple):
    """A gossip peer is in a topic that is kept here, or not any more."""

    topic: str
    peer: PeerId
    present: bool


class MessagesToJudge(NamedTuple):
    """Messages that wait for an app's verdict; they are numbered from `first`, in the order of their coming.

    What this node's apps publish is judged before it is signed: it has no `id` and no `seqno` yet.
    """

    validator: int
    topic: str
    first: int
    messages: list[GossipMessage]


class PublishCompleted(NamedTuple):
    """Receipts as ranges that cover the batch in order, and the id of each message (empty where it was not sent)."""

    op: int
    receipts: list[Receipt]
    ids: list[bytes]


class PeersOffered(NamedTuple):
    """A peer that pruned us names others of the topic, each with its signed peer record, unchecked, if it had one."""

    peer: PeerId
    topic: str
    peers: list[tuple[PeerId, bytes | None]]


class PeerViolated(NamedTuple):
    """The peer broke the protocol, or let a bounded queue run over that must not drop: end its streams."""

    peer: PeerId
    error: SidecarError


class TopicScored(NamedTuple):
    """What peers do in a topic counts in a way of its own, which follows from its expected rate."""

    topic: str
    parameters: TopicScoreConfig


class StandingChanged(NamedTuple):
    """A peer's score has passed a threshold. `outcast`: it is so low that the peer is to be sent away."""

    peer: PeerId
    score: float
    standing: Standing
    reason: str  # what costs it most, in words
    outcast: bool


class PeerBacklogged(NamedTuple):
    """Whether more of the peer's RPCs waits for its turn than may: then no more is to be read of it."""

    peer: PeerId
    backlogged: bool


class CheckSignatures(NamedTuple):
    """Have signatures checked by another process: to be answered by one `SignaturesChecked`, whatever happens.

    Asked only where `verify_workers` is not 0, and for so many that the way there is worth it.
    """

    number: int
    checks: list[SignatureCheck]


News = MessagesDelivered | MessagesToJudge | PublishCompleted
GossipEffect = (
    PeerWoken
    | PeersOffered
    | PeerViolated
    | PeerBacklogged
    | CheckSignatures
    | TopicScored
    | StandingChanged
    | HistoryRepeated
    | HistoryJudged
    | TopicPeerChanged
    | News
)

# ---------------------------------------------------------------- views


@dataclass(slots=True)
class TopicCounts:
    """Counters of a topic, since it came to be known here."""

    delivered: int = 0
    published: int = 0
    duplicates: int = 0
    rejected: int = 0
    ignored: int = 0  # not passed on, by a verdict that blames nobody
    dropped: int = 0  # copies that a full queue lost
    delivered_bytes: int = 0  # of payload
    published_bytes: int = 0


class TopicView(NamedTuple):
    """A topic as it stands: `peers` announced it, `mesh` are grafted (or, not joined, the fanout)."""

    topic: str
    joined: bool
    sign: bool
    peers: tuple[PeerId, ...]
    mesh: tuple[PeerId, ...]
    counts: TopicCounts = TopicCounts()  # a copy
    scoring: TopicScoreConfig | None = None  # how its peers are scored by its rate; None: as any
    validators: int = 0  # apps that judge its messages
    judged: int = 0  # messages that wait for their verdicts
    dependents: tuple[PeerId, ...] = ()  # the part of the mesh that is there beside the degrees


class GossipPeerView(NamedTuple):
    """A gossip peer as it stands."""

    peer: PeerId
    protocol: str
    outbound: bool
    topics: tuple[str, ...]
    mesh_topics: tuple[str, ...]
    queued_messages: int
    queued_bytes: int
    dropped: int  # messages that its full queue lost


class Queued(NamedTuple):
    """Messages that wait for one peer, and their bytes as frames."""

    messages: int
    bytes: int


MISBEHAVIOUR = ("graft_in_backoff", "broken_promise", "malformed", "extensions")  # what P7 counts
REJECTED = ("malformed", "missing_field", "foreign_field", "key", "signature", "too_large", "verdict", "rule", "bundle")
IGNORED = ("verdict", "rule", "deadline", "unattended", "full", "replay", "bundle")
CHECKED = ("inline", "workers")
HISTORY = ("accepted", "known", "ignored", "rejected", "unjudged", "invalid", "dropped")
DROPPED = (
    "queue_full",
    "not_joined",
    "own_echo",
    "rpc_bound",
    "control_bound",
    "topic_bound",
    "gossip",
    "past",
    "no_peer",
    "peer_limit",
    "pending_bound",
    "graylisted",
)


@dataclass(slots=True)
class GossipStatistics(Statistics):
    """Counters since the start. `sent` counts copies: one message queued for three peers counts three."""

    prefix = "gossip_"

    published: int = 0
    received: int = 0
    delivered: int = 0
    duplicates: int = 0
    bundles_published: int = 0  # their messages are counted beside, here and below
    bundles_received: int = 0
    forwarded: int = 0  # messages, not copies
    sent: int = 0
    rpcs_received: int = 0
    grafts_sent: int = 0
    grafts_received: int = 0
    prunes_sent: int = 0
    prunes_received: int = 0
    ihave_ids_received: int = 0
    iwant_ids_sent: int = 0
    iwant_ids_received: int = 0
    iwant_messages_sent: int = 0
    idontwant_ids_sent: int = 0
    idontwant_ids_received: int = 0
    idontwant_suppressed: int = 0  # copies not sent, since the peer has them
    named_ids_sent: int = 0  # on lazy links, in place of messages
    named_ids_received: int = 0
    promises_broken: int = 0  # messages that peers named and did not send when asked
    idle_pruned: int = 0  # mesh links that ended since the peer neither brought nor wanted messages
    signatures: dict[str, int] = field(default_factory=lambda: dict.fromkeys(CHECKED, 0))  # checked, by whom
    misbehaviour: dict[str, int] = field(default_factory=lambda: dict.fromkeys(MISBEHAVIOUR, 0))
    rejected: dict[str, int] = field(default_factory=lambda: dict.fromkeys(REJECTED, 0))
    ignored: dict[str, int] = field(default_factory=lambda: dict.fromkeys(IGNORED, 0))
    dropped: dict[str, int] = field(default_factory=lambda: dict.fromkeys(DROPPED, 0))
    history: dict[str, int] = field(default_factory=lambda: dict.fromkeys(HISTORY, 0))  # what peers had stored
    rules: dict[str, int] = field(default_factory=dict, metadata={"each": "rule"})  # broken, by name
