"""What the node speaks with its peers."""

from ...core.classes import dataclass
from ...core.parameters import (
    AutonatConfig,
    DirectConfig,
    GossipConfig,
    KademliaConfig,
    Namespace,
    NodeConfig,
    ProbeConfig,
)
from ...core.parameters.direct import MAX_MESSAGE
from ...core.parameters.probe import MAX_INTERVAL, MAX_TOPIC, MAX_TOPICS
from ..kinds import bundlings, choice, fallbacks, flag, names, namespaces, number, seconds, share, size
from ..rules import NO_RULES, RulesFile, rules_file
from .key import DAY, KIB, MIB, key

# The core's own defaults are the table's.
_DIRECT, _GOSSIP, _KADEMLIA, _NODE = DirectConfig(), GossipConfig(), KademliaConfig(), NodeConfig()
_PROBE, _AUTONAT = ProbeConfig(), AutonatConfig()


@dataclass(frozen=True, slots=True)
class DhtSection:
    """Finding peers through Kademlia."""

    mode: str = key(
        "auto",
        choice("auto", "server", "client"),
        "server: answer the lookups of others. client: only ask; for nodes that others cannot reach. auto: server, "
        "until peers find that they cannot reach this node (section autonat).",
        "specs kad-dht: server is for reachable nodes, as a listening sidecar is taken to be until it is known",
    )
    refresh_interval: float = key(
        _KADEMLIA.refresh_interval,
        seconds(1, 7 * DAY),
        "How often to look up random keys, so that the table stays full.",
        "specs kad-dht, bootstrap process: 10 minutes",
    )
    query_timeout: float = key(
        _KADEMLIA.query_timeout,
        seconds(0.1, 600),
        "How long to wait for one peer's answer in a lookup.",
        "specs kad-dht, bootstrap process: 10 seconds",
    )
    lookup_timeout: float = key(
        _KADEMLIA.lookup_timeout,
        seconds(0.5, 3600),
        "How long a whole lookup may take; it then ends with what it has.",
        "go-libp2p-kad-dht gives its refresh queries one minute",
    )

    namespaces: tuple[Namespace, ...] = key(
        _KADEMLIA.namespaces,
        namespaces(),
        "Which records are stored and believed. pk: the public key of the peer in the key. signed: signed by it, the "
        "last one wins. greatest: any value, of two the greatest as bytes. Values that begin with refuse_prefix are "
        "refused. The same at all nodes.",
        "those that prove themselves; under greatest anybody may write under any key",
    )
    record_ttl: float = key(
        _KADEMLIA.record_ttl,
        seconds(1, 365 * DAY),
        "How long a record is kept after it was put last.",
        "go-libp2p-kad-dht",
    )
    provider_ttl: float = key(
        _KADEMLIA.provider_ttl,
        seconds(1, 365 * DAY),
        "How long an advertisement is kept after it was announced last.",
        "specs kad-dht, content provider advertisement: 48 hours",
    )
    provide_interval: float = key(
        _KADEMLIA.provide_interval,
        seconds(0.5, 365 * DAY),
        "From one announcement of an advertisement to the next, once 20 peers hold it; below dht.provider_ttl.",
        "specs kad-dht, content provider advertisement: 22 hours",
    )
    max_record: int = key(
        _KADEMLIA.max_value,
        size(1, 12 * KIB),
        "The largest value of a record, put or taken.",
        "a guess: with 20 peers beside it, it fits into the 16 KiB that rust-libp2p reads",
    )
    records: int = key(
        _KADEMLIA.max_records,
        number(1, 10_000_000, "records"),
        "How many records are kept in memory; of more, those closest to this node.",
        "a guess",
    )
    record_bytes: int = key(
        _KADEMLIA.max_record_bytes,
        size(16 * KIB, 65536 * MIB),
        "The same bound in bytes of keys and values.",
        "a guess",
    )
    providers: int = key(
        _KADEMLIA.max_providers,
        number(1, 10_000_000, "entries"),
        "How many advertisements of others are kept in memory; of more, those of the names closest to this node. Of "
        "one name 128.",
        "a guess",
    )


@dataclass(frozen=True, slots=True)
class AutonatSection:
    """Finding out which public addresses of this node others reach: peers dial each other on request (AutoNAT v2)."""

    ask: bool = key(
        _AUTONAT.ask,
        flag(),
        "Ask peers to dial this node's public addresses. What nobody reaches is not announced. Of private addresses "
        "nobody is asked.",
        "go-libp2p asks wherever AutoNAT v2 is switched on",
    )
    answer: bool = key(
        _AUTONAT.answer,
        flag(),
        "Dial peers that ask, at one public address each time.",
        "somebody has to: a mesh of sidecars has no other servers",
    )
    servers: int = key(
        _AUTONAT.servers,
        number(1, 8, "networks"),
        "Peers of how many networks have to say that an address is not reachable before that is believed. Two that "
        "have reached it prove that it is.",
        "go-libp2p; specs autonat v2 suggest more than 3",
    )
    requests_per_minute: int = key(
        _AUTONAT.requests_per_minute,
        number(1, 100_000, "requests"),
        "How many requests of all peers are served in a minute; more are rejected.",
        "go-libp2p",
    )
    requests_per_peer: int = key(
        _AUTONAT.requests_per_peer,
        number(1, 10_000, "requests"),
        "The same of one peer in a minute, and of one network (IPv4 /24, IPv6 /48) that is not exempt.",
        "go-libp2p",
    )
    dial_data_per_minute: int = key(
        _AUTONAT.dial_data_per_minute,
        number(1, 10_000, "requests"),
        "How often in a minute peers may have other IP addresses dialled than their own; each time they pay with 30 to "
        "100 kB.",
        "go-libp2p",
    )
    private_addresses: bool = key(
        _AUTONAT.private_addresses,
        flag(),
        "Treat private addresses as public ones: ask about them, and dial those of others. For laboratories: elsewhere "
        "peers could have machines of this node's own network dialled.",
        "specs autonat v2: servers should not dial private addresses",
    )


@dataclass(frozen=True, slots=True)
class GossipSection:
    """Broadcast on topics."""

    unknown_network: str = key(
        "refuse",
        choice("accept", "refuse"),
        "What to do with peers that show no network name, such as plain libp2p nodes: gossip with them or not.",
        "two networks must never mix; a mesh with other libp2p nodes in it says accept",
    )
    heartbeat_interval: float = key(
        _GOSSIP.heartbeat_interval,
        seconds(0.05, 60),
        "How often each topic's mesh is looked after and IHAVE is sent.",
        "specs gossipsub v1.0, parameters",
    )
    degree: int = key(
        _GOSSIP.d,
        number(1, 100, "peers"),
        "D: how many mesh peers to keep in each topic. More is faster and costs more copies.",
        "specs gossipsub v1.0, parameters",
    )
    degree_low: int = key(
        _GOSSIP.d_low,
        number(1, 100, "peers"),
        "D_low: below it, graft.",
        "go-libp2p-pubsub; specs gossipsub v1.0 say 4",
    )
    degree_high: int = key(
        _GOSSIP.d_high, number(1, 200, "peers"), "D_high: above it, prune.", "specs gossipsub v1.0, parameters"
    )
    degree_out: int = key(
        _GOSSIP.d_out,
        number(0, 100, "peers"),
        "D_out: how many of them at least are connections that this node opened; at most half of gossip.degree.",
        "specs gossipsub v1.1, parameters",
    )
    dependents: int = key(
        _GOSSIP.dependents,
        number(0, 10_000, "peers"),
        "How many peers to keep in a topic's mesh beyond these, since they have hardly another link: such as only "
        "dial, or come back after they were turned away from a full mesh. The rest of them gets messages by gossip, "
        "within three heartbeats.",
        "a guess",
    )
    flood_publish: bool = key(
        _GOSSIP.flood_publish,
        flag(),
        "Send own messages to more peers of the topic than its mesh (gossip.flood_peers): faster, and costs upload.",
        "specs gossipsub v1.1, parameters",
    )
    flood_peers: int = key(
        _GOSSIP.flood_peers,
        number(1, 100_000, "peers"),
        "To how many, where the topic has more: to the mesh, to those that get too little by their own, and to others, "
        "those first that this node has dialled. To all while the mesh lacks peers.",
        "measured (python -m bench.propagation): as soon at the last receiver as with all",
    )
    eager_share: float = key(
        _GOSSIP.eager_share,
        share(),
        "A mesh peer to which less than this share of an author's, or a source's, messages is news does not get the "
        "next ones at once. See gossip.lazy_links; peers that do not know these get messages of "
        "gossip.idontwant_threshold bytes or more a moment later, and not at all if they show by then that they have "
        "them. 0: all get all at once.",
        "measured (python -m bench.propagation): fewest copies with which no message arrives later",
    )
    lazy_links: bool = key(
        _GOSSIP.lazy_links,
        flag(),
        "Tell such a peer the ids of messages in their place, where it is a sidecar that does so as well; it asks for "
        "what does not come by another link.",
        "measured (python -m bench.propagation): a sixth of the copies, and no message arrives later",
    )
    idontwant_threshold: int = key(
        _GOSSIP.idontwant_threshold,
        size(1, 64 * MIB),
        "Messages of so many bytes are announced to the mesh by IDONTWANT as they come, so that they come only once.",
        "js-libp2p; measured (python -m bench.propagation). go-libp2p-pubsub says 1024",
    )
    verify_workers: int = key(
        -1,
        number(-1, 64, "processes"),
        "How many processes beside this one check signatures once there are many; each takes some 15 MB while it is in "
        "use. 0: none, all are checked here. -1: half as many as this process may use processors, at most 4.",
        "a guess: with the other half the node itself, and apps, have enough to do",
    )
    validated_topics: tuple[tuple[str, str], ...] = key(
        (),
        fallbacks(),
        "Topics whose messages apps judge (Validate) before they are passed on, and what becomes of a message without "
        "a verdict, be it that no app is there. accept: it is passed on; ignore: it is not; hold: it waits as long as "
        "there is room. Topics that are not named here are judged while an app does so.",
        "no topic is judged unless somebody asks for it",
    )
    validation_timeout: float = key(
        _GOSSIP.validation.timeout,
        seconds(0.01, 600),
        "How long a message waits for the verdicts of apps, unless the app says otherwise.",
        "a guess",
    )
    validation_waiting: int = key(
        _GOSSIP.validation.max_waiting,
        number(1, 2**20, "messages"),
        "How many messages of a topic may wait for them, unless the app says otherwise.",
        "a guess",
    )
    rules: RulesFile = key(
        NO_RULES,
        rules_file(),
        "A file of rules that messages are judged by before they are passed on: their size, who sent them, how many, "
        "replays. See docs/rules.md. SIGHUP reads the file again.",
        "what an app may send is for the app to know",
        live=True,
    )
    bundled_topics: tuple[tuple[str, str], ...] = key(
        (),
        bundlings(),
        "Signed topics on which messages that are published together travel as one, under one signature; the first "
        "that fits the name holds, unless the app says otherwise. known: while all connected peers of the topic know "
        "bundles. always: in any case; apps of peers that do not know them get them as they are. off: never. Every "
        "sidecar opens them, whatever it says here. See docs/protocols.md.",
        "off: apps of other implementations would not read the messages",
    )
    seen_ttl: float = key(
        _GOSSIP.seen_ttl,
        seconds(1, 3600),
        "How long a message's id is remembered, so that the message is not delivered again; at least five heartbeats, "
        "for that long others may still send it.",
        "specs gossipsub v1.0, parameters",
    )
    flood_share: float = key(
        _GOSSIP.flood_share,
        share(least=0.01),
        "The share of this node's time for messages of peers that send by far more than others, while others send as "
        "well: some 1,000 messages, or 16 MB, a second and more. Such peers have to wait, and what they sent goes "
        "on to others behind all else. It is less while the processor is busy with other things. 1: they never wait.",
        "a guess: what others send comes soon, and who sends much is at most halved",
    )
    ignore_replays: bool = key(
        _GOSSIP.ignore_replays,
        flag(),
        "Leave out a signed message whose id is forgotten already and whose number is no greater than one of its "
        "author's that was heard before: somebody sends it again. Authors whose numbers do not follow their clocks, "
        "such as js-libp2p's, are not judged. See docs/rules.md.",
        "a message that is later than gossip.seen_ttl is nearly always a replay",
    )
    seen_max: int = key(
        _GOSSIP.seen_max,
        number(1024, 2**27, "ids"),
        "How many ids are remembered at most, some 110 bytes each.",
        "a guess: five seconds at 200,000 messages a second",
    )
    max_message: int = key(
        _GOSSIP.max_rpc,
        size(4 * KIB, 64 * MIB),
        "The largest gossip frame, taken or sent; a payload is smaller by its envelope. The same at all nodes. What "
        "apps publish has to fit into api.max_request, too.",
        "go-libp2p-pubsub",
    )
    queue_messages: int = key(
        _GOSSIP.queue_max_messages,
        number(1, 10_000_000, "messages"),
        "How many messages may wait for one slow peer.",
        "a guess",
    )
    queue_bytes: int = key(_GOSSIP.queue_max_bytes, size(64 * KIB, 65536 * MIB), "The same bound in bytes.", "a guess")


@dataclass(frozen=True, slots=True)
class DirectSection:
    """Direct messages and requests."""

    max_message: int = key(
        _DIRECT.max_message,
        size(1, MAX_MESSAGE),
        "The largest message, request or response sent.",
        "a guess; the protocol's frames end at 1 MiB",
    )
    queue_bytes: int = key(
        _DIRECT.max_queued,
        size(2 * MIB, 65536 * MIB),
        "How much may wait for one peer.",
        "a guess: 100,000 messages of 100 bytes",
    )
    queue_total: int = key(
        _DIRECT.max_queued_total, size(2 * MIB, 65536 * MIB), "The same bound for all peers together.", "a guess"
    )
    receipt_timeout: float = key(
        _DIRECT.receipt_timeout,
        seconds(0.1, 3600),
        "How long a sent message waits for its receipt before it counts as UNKNOWN. The node that gets it waits "
        "20 s for an app to take it.",
        "a guess",
    )
    idle_timeout: float = key(
        _DIRECT.idle_timeout,
        seconds(1, DAY),
        "After how long without a message the stream to a peer is closed.",
        "a guess",
    )


@dataclass(frozen=True, slots=True)
class StreamsSection:
    """Byte streams, on which apps speak protocols of their own."""

    max_open: int = key(2048, number(1, 1_000_000, "streams"), "Streams of all apps at once.", "a guess")
    max_unattached: int = key(
        512,
        number(1, 1_000_000, "streams"),
        "How many streams opened by peers may wait for an app to take them up; further ones are reset.",
        "a guess",
    )
    attach_timeout: float = key(
        10.0, seconds(0.1, 600), "How long such a stream waits; then it is reset.", "a guess: as timeouts.negotiation"
    )
    buffer: int = key(
        _NODE.stream_buffer,
        size(4 * KIB, 64 * MIB),
        "How much of one stream may wait for its peer; then its app is read no further. In the other direction "
        "limits.receive_window is the bound.",
        "a guess: as much as a connection's socket is given",
    )


@dataclass(frozen=True, slots=True)
class ProbeSection:
    """Probing topics in the background: whether broadcasts are as fast as they must be."""

    topics: tuple[str, ...] = key(
        _PROBE.topics,
        names(MAX_TOPICS, MAX_TOPIC),
        "The topics on which this node measures how long messages take to reach the others. No app sees these "
        "messages. A few nodes of a network are enough.",
        "off: nobody but you knows which topics matter",
    )
    interval: float = key(
        _PROBE.interval,
        seconds(10, MAX_INTERVAL),
        "From one message on such a topic to the next, on average; each costs about 32 other nodes an answer.",
        "a guess",
    )
    size: int = key(
        _PROBE.size,
        size(0, 64 * MIB),
        "The size of their payload, at least; it takes some 200 bytes in any case. As large as those of your apps.",
        "the smallest there is",
    )
    objective: float = key(
        _PROBE.objective,
        seconds(0, 60),
        "In which time a message should have reached its receivers. Fewer than probe.share of them, over the last 20 "
        "messages, are told by the log, metrics and an alert. 0: none.",
        "only you know the deadlines of your apps",
    )
    share: float = key(
        _PROBE.share,
        share(),
        "How many of the receivers should have a message within probe.objective. Peers that owe an answer and give "
        "none have not.",
        "with it probe.objective is the 99th percentile",
    )
