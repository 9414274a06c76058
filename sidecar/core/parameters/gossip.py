"""Every number of the gossip machine, with where it comes from."""

from collections.abc import Mapping
from dataclasses import field

from ..classes import dataclass
from ..errors import ConfigError
from .bundles import Bundling
from .score import ScoreConfig
from .validation import ValidationSettings

# In order of preference.
PROTOCOLS = ("/meshsub/1.3.0", "/meshsub/1.2.0", "/meshsub/1.1.0", "/meshsub/1.0.0")
IDONTWANT_PROTOCOLS = PROTOCOLS[:2]
EXCHANGE_PROTOCOLS = PROTOCOLS[:3]
EXTENSIONS_PROTOCOLS = PROTOCOLS[:1]

_VALIDATION = ValidationSettings()


@dataclass(frozen=True, slots=True)
class GossipConfig:
    """Parameters of the mesh, the caches and the queues. Raises ConfigError when they contradict each other.

    "v1.0", "v1.1" and "v1.2" are the tables of parameters in the gossipsub specifications; "go" is a default of
    go-libp2p-pubsub; "js" one of js-libp2p. Seconds, bytes and counts unless said otherwise.
    """

    d: int = 6  # v1.0: the degree of the mesh that is aimed at
    d_low: int = 5  # v1.0 says 4; go 5
    d_high: int = 12  # v1.0
    d_lazy: int = 6  # v1.0: peers that get IHAVE, at least
    d_out: int = 2  # v1.1: connections that we opened, at least, in each mesh
    # A guess: peers kept in a mesh beyond these, since they depend on this node (see Mesh).
    dependents: int = 256
    d_score: int = 4  # v1.1 "4 or 5": kept by score when a mesh is too large
    # Peers that get what is published here, where the topic has more; at least the mesh. Measured with 100 nodes of 20
    # connections (`python -m bench.propagation`): with 16 the last receiver has a message as soon as with all, with 12
    # and 8 some 2 % and 4 % later.
    flood_peers: int = 16
    # Mesh peers to which less than this share of an author's or a source's messages is news do not get the next ones at
    # once: see `spare.py`. Measured (`python -m bench.propagation`). 0: everybody gets them at once.
    eager_share: float = 0.05
    lazy_links: bool = True  # ours: such links to other sidecars carry ids in place of messages
    max_named: int = 10_000  # a guess: ids taken on lazy links from one peer in a heartbeat; half may wait for it
    gossip_factor: float = 0.25  # v1.1: share of the other peers that get IHAVE
    flood_publish: bool = True  # v1.1: own messages go to more peers of the topic than the mesh: see `flood_peers`
    heartbeat_interval: float = 1.0  # v1.0
    heartbeat_initial_delay: float = 0.1  # go; up to an interval of jitter is added
    fanout_ttl: float = 60.0  # v1.0
    history_length: int = 5  # v1.0 mcache_len, in heartbeats
    history_gossip: int = 3  # v1.0 mcache_gossip, in heartbeats
    seen_ttl: float = 120.0  # v1.0
    ignore_replays: bool = True  # ours: signed messages that are older than what the cache of seen ids remembers
    max_guarded_authors: int = 65_536  # a guess: authors whose numbers are kept for this, some 200 bytes each
    prune_backoff: float = 60.0  # v1.1
    unsubscribe_backoff: float = 10.0  # v1.1
    # A guess: for whom a mesh has no place when it grafts. Less than for who is pruned: by then it may be known to be
    # better than those inside, who came first.
    full_backoff: float = 10.0
    backoff_slack: float = 2.0  # go: two heartbeats before we graft again
    max_prune_backoff: float = 3600.0  # a guess: what another peer can make us wait
    prune_peers: int = 16  # go: peers exchanged in a PRUNE; "larger than D_hi"
    max_ihave_length: int = 5000  # go: ids taken from or sent to one peer in a heartbeat
    max_ihave_messages: int = 10  # go: RPCs with IHAVE taken from one peer in a heartbeat
    max_iwant_length: int = 5000  # ours, as for IHAVE: ids looked up for one peer in a heartbeat
    gossip_retransmission: int = 3  # go: times that one peer gets one message by IWANT

    # js, and measured (`python -m bench.propagation --size 600 --set lazy_links=false`): with 1024, as go has it,
    # messages of 600 bytes come in 7.2 copies instead of 1.3, and take nearly three times as many bytes.
    idontwant_threshold: int = 512
    idontwant_ttl: int = 3  # go: heartbeats for which a peer's IDONTWANT is heeded
    idontwant_ids: int = 10  # go: ids in one RPC, since it reads no more of them
    max_idontwant_messages: int = 1000  # go: RPCs with IDONTWANT taken from one peer in a heartbeat
    max_unwanted: int = 10_000  # a guess: ids kept for one peer; also those that wait to be told to it

    max_rpc: int = 1 << 20  # go: largest RPC, without its length prefix; bounds messages at publish
    # What one RPC holds unless a single message is larger. rust's `max_transmit_size` is 65,536, and libp2p-gossipsub
    # 0.50 compares it with all that it has read: the length prefix and up to 8,192 bytes of the next RPC as well.
    max_chunk: int = 65_536 - 8_192 - 3
    max_chunk_messages: int = 4096  # js refuses RPCs of more than 5,000 messages
    max_rpc_messages: int = 16_384  # a guess: 64 bytes each in the largest RPC; those behind are dropped
    max_rpc_control: int = 5000  # js: subscriptions, and control messages of each kind, taken from one RPC
    turn_messages: int = 1024  # of one peer, until others have their turn; a guess: 10 to 40 ms
    turn_work: int = 1024  # points of work as `core.node` counts them, likewise; a guess: some 5 ms
    # A guess: of this node's time, for peers that send by far more than others who send; 1: as much as there is.
    flood_share: float = 0.5
    max_backlog: int = 512 << 10  # bytes of a peer's RPCs that wait for their turn before no more is read; a guess
    verify_workers: int = 0  # other processes that check signatures; 0: they are checked in the turns of this one
    verify_burst: int = 320  # signatures that one turn checks without such: what a read of 64 KiB brings, some 17 ms
    verify_few: int = 32  # the same with such processes: what goes beyond it is for them; a guess
    verify_interval: float = 0.02  # seconds after which these may be checked again, in whatever turn; a guess
    verify_batch: int = 128  # signatures asked of such a process at once, some 7 ms
    max_pending: int = 1024  # of one peer, that wait for their signatures to be checked; a guess
    max_pending_total: int = 65_536  # a guess
    max_pending_bytes: int = 32 << 20  # a guess
    validation: ValidationSettings = _VALIDATION  # of topics that apps judge, where the apps do not say
    validated_topics: Mapping[str, ValidationSettings] = field(default_factory=dict)  # judged whether an app is there
    # Patterns of topics on which what is published together travels as one message; the first that fits holds.
    bundled_topics: tuple[tuple[str, Bundling], ...] = ()
    max_guarded: int = 1024  # topics that are judged; a guess, as `max_topics`
    max_judged_bytes: int = 64 << 20  # of messages that wait for verdicts; a guess
    max_refusals: int = 16  # GRAFTs of one peer answered with PRUNE in a heartbeat; a guess

    max_topic_name: int = 1024  # a guess, in bytes of UTF-8
    max_topics: int = 1024  # a guess: joined by this node; what its apps use and what still lingers
    max_topics_per_peer: int = 1024  # a guess: announced by one peer
    max_message_id: int = 512  # a guess: the longest id remembered of another's IHAVE
    max_backoffs: int = 4096  # a guess: peers that one topic keeps waiting; the oldest go first

    seen_max: int = 1 << 20  # ids, some 110 bytes each: five seconds at 200,000 messages a second
    history_max_messages: int = 1 << 17  # a guess
    history_max_bytes: int = 32 << 20  # a guess
    queue_max_bytes: int = 8 << 20  # a guess, for each peer; the bytes are shared by the peers' queues
    queue_max_messages: int = 65_536  # a guess, for each peer
    queue_max_control: int = 4096  # a guess: a peer that lets more changes of topics and mesh wait is given up
    parked_max_bytes: int = 16 << 20  # a guess: payloads of publishers that wait for room
    parked_max_jobs: int = 1024  # a guess
    sign_burst: int = 256  # signatures made in one turn, some 5 ms; what is left waits for the next one
    score: ScoreConfig = field(default_factory=ScoreConfig)

    def __post_init__(self) -> None:
        if not 0 <= self.d_out <= self.d_low <= self.d <= self.d_high or self.d_out > self.d / 2:
            raise ConfigError(
                f"gossip degrees must keep d_out ({self.d_out}) <= d_low ({self.d_low}) <= d ({self.d}) <= "
                f"d_high ({self.d_high}) and d_out <= d / 2"
            )
        if not 0 < self.history_gossip <= self.history_length:
            raise ConfigError(f"history_gossip is {self.history_gossip}, must be 1 to {self.history_length}")
        if not 0 < self.flood_share <= 1:
            raise ConfigError(f"flood_share is {self.flood_share:g}, must be above 0 and at most 1")
        if self.heartbeat_interval <= 0:
            raise ConfigError(f"heartbeat_interval is {self.heartbeat_interval} s, must be above 0")
        if self.max_topic_name + 256 > self.max_rpc:
            raise ConfigError(f"max_rpc is {self.max_rpc} bytes, too few for a topic of {self.max_topic_name}")
