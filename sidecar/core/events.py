"""What goes into the node machine and what comes out of it.

Inputs are past tense: what the driver saw happen, or what an app asked for. Effects are imperatives for the driver, or
news for the apps. A driver is anything that carries them out: sockets (`sidecar.net`) or virtual time (`sidecar.sim`).

The driver's duties
1. One call of `Node.handle(input, now)` at a time; carry out the effects it returns, in order, before the next one.
2. One timer: call `Node.handle_deadline(now)` when `Node.next_deadline()` is due. Look at it again after every
   `handle`, `handle_deadline`, `take` and `drain`.
3. After `Wake(stream)`: call `Node.take(stream, limit)` while the transport and the stream's window accept bytes, until
   it returns nothing. Then call `Node.drain(now)` and carry out what it returns, as after `handle`.
4. After `OpenStream`: exactly one of `StreamOpened` or `StreamFailed` with its token, unless the connection ends first.
5. After `Dial`: exactly one of `ConnectionOpened` with its `dial` number or `DialFailed`.
6. `ConnectionOpened` once and `ConnectionClosed` once a connection; its streams end with it, unsaid.
7. What `StreamsReceived` brought counts as consumed when `handle` returns, and the remote may send as many bytes again;
   of a stream that a `Defer` named, only when `Acknowledge` says so, also after its end.
8. After `PauseReading(connection)`: read nothing more of it until `ResumeReading`; hand on what has been read.
9. After `MeasureLatency`: a ping of the muxer, and `LatencyMeasured` when the remote answers it, which it may never do.
10. Numbers of connections, streams and tokens are never used again.
"""

import enum
from collections.abc import Sequence

from .classes import NamedTuple
from .errors import SidecarError
from .gate import Ban, GateLists, Subject
from .identity import PublicKey
from .multiaddr import Multiaddr
from .networks import Scope
from .peers import KnownAddress
from .types import Direction, PeerId

# A stream's number is unique in the node: connection << 32 | number of the stream in its connection.
STREAM_BITS = 32

# ---------------------------------------------------------------- inputs from the transport


class AddressesChanged(NamedTuple):
    """Where this node listens, and what it announces instead when that is not reachable from outside."""

    listening: tuple[Multiaddr, ...]
    announced: tuple[Multiaddr, ...]


class ConnectionOpened(NamedTuple):
    """A connection is secured and muxed. `dial` is the number of the `Dial` that asked for it, else None.

    `limited`: the relay that it goes through ends it after some time, or some bytes. `failed`: the addresses of the
    `Dial` at which attempts had failed before. `near`: the relay that it goes through sees both ends at one public
    address, so that they may be in one private network.
    """

    connection: int
    peer: PeerId
    public_key: PublicKey
    direction: Direction
    remote: Multiaddr
    local: Multiaddr
    dial: int | None = None
    limited: bool = False
    failed: tuple[Multiaddr, ...] = ()
    near: bool = False


class ConnectionClosed(NamedTuple):
    """A connection ended; `error` is None when either side closed it in order."""

    connection: int
    error: SidecarError | None


class DialFailed(NamedTuple):
    """No address of a `Dial` led to a connection. `failed`: those at which that was seen."""

    dial: int
    error: SidecarError
    failed: tuple[Multiaddr, ...] = ()


class Resolved(NamedTuple):
    """What is behind the address of a `Resolve`: addresses of IP hosts, at least one, or why there are none."""

    lookup: int
    result: tuple[Multiaddr, ...] | SidecarError


class StreamOpened(NamedTuple):
    """A stream is negotiated. `token` is that of our `OpenStream`, None for the remote's streams."""

    stream: int
    protocol: str
    token: int | None


class StreamFailed(NamedTuple):
    """The stream asked for with `token` could not be opened or negotiated."""

    token: int
    error: SidecarError


class StreamsReceived(NamedTuple):
    """All that one read of a connection brought, in order: (stream, bytes) pairs."""

    connection: int
    chunks: Sequence[tuple[int, bytes]]


class StreamEnded(NamedTuple):
    """The remote will write no more on this stream."""

    stream: int


class StreamGone(NamedTuple):
    """The stream is gone in both directions. `error` says why, where it was not the remote that reset it."""

    stream: int
    error: SidecarError | None = None


class LatencyMeasured(NamedTuple):
    """The remote's muxer has answered a ping that `MeasureLatency` asked for, after so many seconds."""

    connection: int
    round_trip: float


class PeersFound(NamedTuple):
    """Peers say on the local network that they are there: claims, which anybody there can make."""

    peers: Sequence[tuple[PeerId, tuple[Multiaddr, ...]]]


class PortMappingState(enum.Enum):
    """Whether the gateway maps ports to this node."""

    OFF = "off"
    """It is not asked."""
    NO_GATEWAY = "no gateway"
    ASKING = "asking"
    MAPPED = "mapped"
    REFUSED = "refused"
    NO_ANSWER = "no answer"


class PortMapping(NamedTuple):
    """A port of the gateway that leads to `port` of this node; `ends_at`: unless it is renewed before that."""

    address: Multiaddr
    port: int
    ends_at: float


class PortsMapped(NamedTuple):
    """How the gateway maps ports to this node now. `message`: a sentence for people; `remedy`: what to do, if anything.

    `protocol`: by which they were mapped; `gateway`: its IP address. Both are empty where there is none.
    """

    state: PortMappingState
    message: str
    remedy: str = ""
    gateway: str = ""
    protocol: str = ""
    mappings: tuple[PortMapping, ...] = ()


class MeshRestored(NamedTuple):
    """This node has been part of the mesh all along: it need not join.

    For a driver that places nodes in a mesh rather than letting them join, before the first connection. `contacts`:
    the servers that its routing table holds, as right after a refresh. `links`: the peers that it is connected to in
    a moment, and keeps. Bootstrap peers beyond these have no place for it: they are not sought for some minutes.
    """

    contacts: Sequence[tuple[PeerId, tuple[Multiaddr, ...]]]
    links: Sequence[PeerId]


class WorkCaused(NamedTuple):
    """Frames without use came on a connection: work for the driver, in points of the peer's budget (`WorkConfig`)."""

    connection: int
    points: float


class CircuitWanted(NamedTuple):
    """The driver's attempt `attempt` takes a stream to `peer` through a relay; see `CircuitOpened`, `CircuitFailed`.

    `relay`: who is at `address`, as far as somebody has said. `force`: as in `Dial`.
    """

    attempt: int
    peer: PeerId
    relay: PeerId
    address: Multiaddr
    force: bool


class CircuitUnwanted(NamedTuple):
    """The attempt is given up; a circuit that it has already is ended by `CircuitCut`."""

    attempt: int


class CircuitWritten(NamedTuple):
    """The connection over a circuit has these bytes for the far end; `CircuitTaken` tells how many have left."""

    stream: int
    data: Sequence[bytes | memoryview]


class CircuitRead(NamedTuple):
    """The connection over a circuit has consumed so many bytes of what `CircuitReceived` brought."""

    stream: int
    size: int


class CircuitFinished(NamedTuple):
    """The connection over a circuit will write no more."""

    stream: int


class CircuitCut(NamedTuple):
    """The connection over a circuit is over: the stream ends at once."""

    stream: int


class CircuitSecured(NamedTuple):
    """The connection over a circuit has its handshake behind it: who was asked for is at the far end."""

    stream: int


class CircuitOver(NamedTuple):
    """The connection over a circuit has ended, open or not yet; `error`: why, None where it did in order."""

    stream: int
    error: SidecarError | None


CircuitInput = (
    CircuitWanted
    | CircuitUnwanted
    | CircuitWritten
    | CircuitRead
    | CircuitFinished
    | CircuitCut
    | CircuitSecured
    | CircuitOver
)

TransportInput = (
    CircuitInput
    | AddressesChanged
    | ConnectionOpened
    | ConnectionClosed
    | DialFailed
    | Resolved
    | StreamOpened
    | StreamFailed
    | StreamsReceived
    | StreamEnded
    | StreamGone
    | LatencyMeasured
    | PeersFound
    | PortsMapped
    | MeshRestored
    | WorkCaused
)

# ---------------------------------------------------------------- effects on the transport


class Dial(NamedTuple):
    """Connect to the peer at one of its addresses; `peer` is None where only the address is known.

    `force`: an app asked for it, so addresses that failed a moment ago are tried too. `trusted`: this node is
    configured to reach the peer, so only its own failures hold it off, not those of others at its addresses.
    `told`: names among the addresses that strangers told, and the narrowest scope that they may lead to: whoever owns a
    name can have it lead into this node's own network, where strangers know nobody.
    `punch`: both sides dial at this moment, all addresses at once and from the port listened at. Who is the client then
    cannot be told by who has dialled: OUTBOUND where it is this node, INBOUND where the other.
    `apart`: this connection is no part of the mesh: it shows a key made for it alone, streams of the remote are refused
    on it, and nothing is learned of addresses. So the remote cannot take it for another one of this node's.
    `within`: seconds after which it is given up, where the driver would try for longer.
    `known`: how earlier dials of the addresses went, where there were any, those of earlier runs among them.
    """

    dial: int
    peer: PeerId | None
    addresses: tuple[Multiaddr, ...]
    force: bool = False
    trusted: bool = False
    told: tuple[tuple[Multiaddr, Scope], ...] = ()
    punch: Direction | None = None
    apart: bool = False
    within: float | None = None
    known: tuple[KnownAddress, ...] = ()


class Resolve(NamedTuple):
    """Look up the name in an address; the answer is a `Resolved` with the same number."""

    lookup: int
    address: Multiaddr


class OpenStream(NamedTuple):
    """Open a stream and negotiate the first of `protocols` that the remote speaks."""

    connection: int
    token: int
    protocols: tuple[str, ...]


class Wake(NamedTuple):
    """`Node.take(stream, ...)` has bytes."""

    stream: int


class CloseWrite(NamedTuple):
    """End our direction of the stream once `take` returns nothing."""

    stream: int


class ResetStream(NamedTuple):
    """End the stream at once, both directions."""

    stream: int


class Defer(NamedTuple):
    """From now on what is handed over of this stream is consumed by `Acknowledge` only, not by being handed over."""

    stream: int


class Acknowledge(NamedTuple):
    """So many bytes of a deferred stream are consumed: its window opens again. Also said of streams that are gone."""

    stream: int
    size: int


class PauseReading(NamedTuple):
    """Read nothing more of the connection, so that its remote has to wait."""

    connection: int


class ResumeReading(NamedTuple):
    """Read the connection again."""

    connection: int


class MeasureLatency(NamedTuple):
    """Ping the remote's muxer with `value`, 32 bits that it cannot guess; see `LatencyMeasured`.

    A measurement that is still under way on the connection is given up.
    """

    connection: int
    value: int


class CloseConnection(NamedTuple):
    """End the connection: in order, or for the error named."""

    connection: int
    error: SidecarError | None


class CircuitOpened(NamedTuple):
    """A stream leads through a relay to `peer`: a connection is to be made over it, as over a socket.

    `attempt`: that of the `CircuitWanted` it answers; None: the far end has opened it. Who is there the handshake has
    to show. `limited`, `near`: as in `ConnectionOpened`.
    """

    stream: int
    peer: PeerId
    remote: Multiaddr
    local: Multiaddr
    attempt: int | None
    limited: bool
    near: bool = False


class CircuitFailed(NamedTuple):
    """No circuit came of a `CircuitWanted`."""

    attempt: int
    error: SidecarError


class CircuitReceived(NamedTuple):
    """The far end of a circuit has sent bytes."""

    stream: int
    data: bytes


class CircuitTaken(NamedTuple):
    """So many bytes of a circuit have left."""

    stream: int
    size: int


class CircuitEnded(NamedTuple):
    """The far end of a circuit will send no more."""

    stream: int


class CircuitLost(NamedTuple):
    """A circuit is gone, in both directions."""

    stream: int
    error: SidecarError


CircuitEffect = CircuitOpened | CircuitFailed | CircuitReceived | CircuitTaken | CircuitEnded | CircuitLost

TransportEffect = (
    CircuitEffect
    | Dial
    | Resolve
    | OpenStream
    | Wake
    | CloseWrite
    | ResetStream
    | Defer
    | Acknowledge
    | PauseReading
    | ResumeReading
    | MeasureLatency
    | CloseConnection
)

# ---------------------------------------------------------------- what apps ask of the node
#
# Gossip and direct messages have inputs and effects of their own (`core.gossip`, `core.direct`); the node takes and
# gives them as they are. An `op` is a number that the caller draws from `Node.new_op()`; each is answered by one
# `OperationCompleted`, also after `OperationCancelled`.


class ConnectRequested(NamedTuple):
    """Connect to a peer: at `addresses`, else at what is known of it, else found through the DHT.

    `peer` None: whoever answers at the addresses. Result: `PeerView`.
    """

    op: int
    peer: PeerId | None
    addresses: tuple[Multiaddr, ...]


class DisconnectRequested(NamedTuple):
    """Close all connections of a peer. Result: None; NotFound when there is none."""

    op: int
    peer: PeerId


class PingRequested(NamedTuple):
    """Ping a peer, connecting first where needed. Result: seconds as float."""

    op: int
    peer: PeerId


class FindPeerRequested(NamedTuple):
    """Find a peer's addresses: its connection's, the address book's, else the DHT's. Result: tuple of Multiaddr."""

    op: int
    peer: PeerId


class ClosestPeersRequested(NamedTuple):
    """Walk the DHT to the peers closest to a key. Result: tuple of (PeerId, tuple of Multiaddr)."""

    op: int
    key: bytes


class AdvertiseRequested(NamedTuple):
    """Advertise a name through the DHT until the operation is cancelled; announced again by itself.

    `AdvertisementAnnounced` after every announcement.
    """

    op: int
    name: str


class FindAdvertisedRequested(NamedTuple):
    """Find peers that advertise a name, at most `limit`; 0: as many as the DHT's configuration allows.

    `AdvertisersFound` as they come. Result: the number of peers that answered.
    """

    op: int
    name: str
    limit: int


class RecordPutRequested(NamedTuple):
    """Put a record into the DHT; in a namespace of signed values the node signs it. Result: `RecordStored`."""

    op: int
    key: bytes
    value: bytes


class RecordRequested(NamedTuple):
    """Get a record from the DHT, ending early when `quorum` peers had a value; 0: the configured number.

    Result: `RecordFound`, or NotFound.
    """

    op: int
    key: bytes
    quorum: int


class RecordStored(NamedTuple):
    """`stored` of the `asked` closest peers took the record."""

    stored: int
    asked: int


class RecordFound(NamedTuple):
    """A record. `holders`: how many of those asked had this value, this node among them.

    `expires`: when they will have forgotten it, in seconds since 1970, where that is known. `publisher` and `seq`: who
    signed it, in a namespace of signed values.
    """

    value: bytes
    holders: int
    expires: float | None
    publisher: PeerId | None
    seq: int


class AdvertisementAnnounced(NamedTuple):
    """Effect: a name was announced to the `asked` closest peers, of which `stored` hold it.

    `again`: when it will be announced next, in monotonic seconds.
    """

    op: int
    stored: int
    asked: int
    again: float


class AdvertisersFound(NamedTuple):
    """Effect: further peers that advertise the name looked for."""

    op: int
    peers: tuple[tuple[PeerId, tuple[Multiaddr, ...]], ...]


class BanRequested(NamedTuple):
    """Ban peers and networks: their connections close, peers are forgotten. Result: `BansMade`; ResourceExhausted."""

    op: int
    bans: tuple[Ban, ...]


class BansMade(NamedTuple):
    """The answer to `BanRequested`: how many connections were closed, and whom it concerns that should be there.

    `bootstrap` and `protected`: those of the peers that are configured for bootstrap, or protected.
    """

    closed: int
    bootstrap: tuple[PeerId, ...]
    protected: tuple[PeerId, ...]


class BansLifted(NamedTuple):
    """Some bans are no more."""

    subjects: tuple[Subject, ...]


class ProtectionChanged(NamedTuple):
    """A peer's connections are never to be trimmed, or are again as others. Raises ResourceExhausted."""

    peer: PeerId
    protected: bool


class GateConfigured(NamedTuple):
    """Other lists are in force; who is refused by them is disconnected."""

    lists: GateLists


class WallClockRead(NamedTuple):
    """The wall clock shows so many seconds since 1970: bans end by it."""

    wall: float


class OperationCancelled(NamedTuple):
    """The asker no longer wants it: it is answered at once with Closed, and its work ends."""

    op: int


AppInput = (
    ConnectRequested
    | DisconnectRequested
    | PingRequested
    | FindPeerRequested
    | ClosestPeersRequested
    | AdvertiseRequested
    | FindAdvertisedRequested
    | RecordPutRequested
    | RecordRequested
    | BanRequested
    | BansLifted
    | ProtectionChanged
    | GateConfigured
    | WallClockRead
    | OperationCancelled
)


class OperationCompleted(NamedTuple):
    """Effect: the answer to an operation."""

    op: int
    result: object


# ---------------------------------------------------------------- news for the apps and the log


class Standing(enum.Enum):
    """What a peer's score has come to (specs gossipsub v1.1, "Score Thresholds"); each has what those before have."""

    GOOD = "good"
    NO_MESH = "kept out of meshes"  # below 0
    NO_GOSSIP = "no gossip with it"  # below the gossip threshold
    NO_PUBLISH = "nothing is published to it"  # below the publish threshold
    GRAYLISTED = "not listened to"  # below the graylist threshold


class TopicScoreView(NamedTuple):
    """What a peer's behaviour in a topic adds to its score, in points: weights are in it."""

    topic: str
    time_in_mesh: float  # P1
    first_deliveries: float  # P2
    mesh_deliveries: float  # P3
    mesh_failures: float  # P3b
    invalid_messages: float  # P4


class ScoreView(NamedTuple):
    """A peer's score with its parts, in points: weights are in them."""

    score: float
    standing: Standing
    topics: tuple[TopicScoreView, ...]  # together they count no more than the cap says
    application: float  # P5
    colocation: float  # P6
    behaviour: float  # P7
    slow: float
    reason: str  # what costs it most, in words; empty where nothing does


class Path(enum.Enum):
    """How a peer is reached."""

    DIRECT = "direct"
    RELAYED = "relayed"
    RELAYED_LIMITED = "relayed, limited"  # the relay ends it after some time, or some bytes


class PeerView(NamedTuple):
    """What is known of a peer; a snapshot."""

    peer: PeerId
    connected: bool
    direction: Direction | None
    addresses: tuple[Multiaddr, ...]
    remote: Multiaddr | None
    protocols: tuple[str, ...]
    agent: str
    protocol_version: str
    identified: bool
    latency: float | None  # seconds, smoothed round trip of ping
    connected_since: float | None  # monotonic seconds
    connections: int
    protected: bool = False  # from being trimmed
    score: ScoreView | None = None  # None: nothing is known of it in gossip
    path: Path | None = None
    path_since: float | None = None  # monotonic seconds
    known: tuple[KnownAddress, ...] = ()  # the addresses in the order in which to try them; only where asked for


class PeerChange(enum.Enum):
    """What happened to a peer."""

    CONNECTED = "connected"
    IDENTIFIED = "identified"
    UPDATED = "updated"
    SCORED = "scored"  # its score has passed a threshold
    DISCONNECTED = "disconnected"


class PeerChanged(NamedTuple):
    """Effect: a peer's state changed; `error` says why it disconnected, None when in order."""

    change: PeerChange
    view: PeerView
    error: SidecarError | None = None


class Condition(NamedTuple):
    """One of the things that readiness is made of."""

    type: str  # "Listening", "Bootstrapped", ...
    met: bool
    reason: str  # one CamelCase word
    message: str  # a sentence
    remedy: str  # what to do about it; empty when met
    since: float  # monotonic seconds of the last change of `met`


class ReadinessChanged(NamedTuple):
    """Effect: a condition changed; `Node.conditions()` has them all."""


AppNews = OperationCompleted | AdvertisementAnnounced | AdvertisersFound | PeerChanged | ReadinessChanged


class PeersLearned(NamedTuple):
    """Effect: addresses worth keeping over a restart. `good`: a connection has been seen to work."""

    peers: tuple[tuple[PeerId, tuple[Multiaddr, ...]], ...]
    good: bool


class AddressesKnown(NamedTuple):
    """Effect: what is known of a peer's addresses now, worth keeping over a restart, in place of what was."""

    peer: PeerId
    known: tuple[KnownAddress, ...]


class AnchorsChosen(NamedTuple):
    """Effect: the peers to come back to first after a restart, in place of those chosen before.

    Who makes a node restart, and has filled its memory with its own, is to find these still there.
    """

    peers: tuple[PeerId, ...]


class LogLevel(enum.IntEnum):
    """The standard levels, as the logging module numbers them."""

    DEBUG = 10
    INFO = 20
    WARNING = 30
    ERROR = 40


class Note(NamedTuple):
    """Effect: a line for the log. The driver joins `text % arguments`, limits the rate and writes it."""

    level: LogLevel
    peer: PeerId | None
    text: str
    arguments: tuple[object, ...] = ()
