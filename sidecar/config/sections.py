"""The configuration keys, section by section: kind, unit, default, meaning, and where the default comes from.

This is the one table. Reading, checking, `--help`, `sidecar config` and `docs/configuration.md` are all made from it.
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..core.kademlia import DEFAULT_NAMESPACES, Namespace
from ..core.multiaddr import Multiaddr
from .kinds import (
    Kind,
    choice,
    file_mode,
    flag,
    loopback_endpoint,
    multiaddrs,
    namespaces,
    number,
    path,
    seconds,
    size,
    text,
)

_KIB, _MIB = 2**10, 2**20
_DAY = 86400.0


def key(default: Any, kind: Kind, doc: str, source: str, flag: str = "") -> Any:
    """A field of a section. `flag`: a shorter name of its flag, beside `--section-key`."""
    return field(default=default, metadata={"kind": kind, "doc": doc, "source": source, "flag": flag})


@dataclass(frozen=True, slots=True)
class NetworkSection:
    """Which mesh this node belongs to."""

    name: str = key(
        "main",
        text(r"[A-Za-z0-9._-]{1,64}", "1 to 64 ASCII letters, digits, '.', '_' and '-'", "NAME"),
        "The network's name. It is part of the protocol ids: nodes of different names never mix.",
        "a name of our own",
        "--network",
    )
    psk_file: Path | None = key(
        None,
        path("the path of a key file as `sidecar keygen --psk` makes; empty: no private network"),
        "The key of a private network, in the format of libp2p's swarm.key. Nodes without the same key cannot connect.",
        "off: whoever can reach the node may connect",
    )


@dataclass(frozen=True, slots=True)
class ListenSection:
    """Where peers reach this node."""

    addresses: tuple[Multiaddr, ...] = key(
        (Multiaddr.from_text("/ip4/0.0.0.0/tcp/4747"),),
        multiaddrs(listening=True),
        "The addresses to listen at: TCP, or WebSocket with /ws or /tls/ws behind the port. "
        "Port 0 takes any free port, which then differs after each restart. "
        "An empty list: only dial.",
        "a fixed port, so that what others have noted of this node stays true after a restart; its number is a guess",
        "--listen",
    )
    announce: tuple[Multiaddr, ...] = key(
        (),
        multiaddrs(),
        "The addresses to tell peers instead of those listened at: set it behind a port mapping or in a container.",
        "most nodes are reached where they listen",
        "--announce",
    )
    tls_certificate: Path | None = key(
        None,
        path("the path of a PEM file; empty: none"),
        "The certificate for addresses that end in /tls/ws, and behind it those that lead to its root. "
        "Browsers must trust it.",
        "only addresses with /tls need one",
    )
    tls_key: Path | None = key(
        None,
        path("the path of a PEM file, not encrypted; empty: none"),
        "The private key of listen.tls_certificate.",
        "only addresses with /tls need one",
    )


@dataclass(frozen=True, slots=True)
class BootstrapSection:
    """How this node finds its first peers."""

    peers: tuple[Multiaddr, ...] = key(
        (),
        multiaddrs(with_peer=True),
        "Peers to join the mesh through. Peers remembered from the last run are tried first.",
        "there is no public network of sidecars; the first node has nobody to ask",
        "--bootstrap",
    )


@dataclass(frozen=True, slots=True)
class StateSection:
    """What is kept on disk."""

    directory: Path | None = key(
        None,
        path("a directory's path; empty: $XDG_STATE_HOME/sidecar, else ~/.local/state/sidecar"),
        "The directory of the key and of the peers learned; made with mode 0700, locked by the sidecar that uses it.",
        "the XDG base directory specification",
        "--state",
    )
    max_peers: int = key(
        1000,
        number(0, 1_000_000, "peers"),
        "How many peers to remember over a restart, the most recently seen first.",
        "a guess: enough to find somebody alive after days",
    )


@dataclass(frozen=True, slots=True)
class ApiSection:
    """Where apps reach this node over gRPC, and what they may use."""

    socket: Path | None = key(
        None,
        path(
            "a path; empty: $XDG_RUNTIME_DIR/sidecar/api.sock, else sidecar-<uid>/api.sock in the temporary directory"
        ),
        "The Unix socket of the API.",
        "the XDG base directory specification; clients look at the same place",
        "--socket",
    )
    mode: int = key(
        0o600,
        file_mode(),
        "The socket's permissions. Who may write to it may use the node.",
        "the strictest: only the user who started it",
    )
    group: str = key(
        "",
        text(r"[A-Za-z0-9_.-]{0,64}", "the name or number of a group; empty: leave it", "GROUP"),
        'The group that the socket is given to; takes a mode such as "0660" to mean anything.',
        "nobody else by default",
    )
    tcp: str = key(
        "",
        loopback_endpoint(),
        "A TCP address to serve the API at as well. Everybody on this machine can then use the node.",
        "off: a port has no permissions",
        "--tcp",
    )
    max_request: int = key(
        4 * _MIB,
        size(64 * _KIB, 1024 * _MIB),
        "The largest gRPC message taken from an app.",
        "what gRPC libraries take by default",
    )
    max_calls: int = key(4096, number(16, 1_000_000, "calls"), "Calls under way at once, streams included.", "a guess")
    max_topics: int = key(1024, number(1, 1_000_000, "topics"), "Topics joined at once.", "a guess")
    history_messages: int = key(
        65_536,
        number(0, 10_000_000, "messages"),
        "How many messages of each topic to keep in memory, for subscribers that come back with a cursor.",
        "a guess",
    )
    history_bytes: int = key(16 * _MIB, size(0, 65536 * _MIB), "The same bound in bytes, for each topic.", "a guess")
    history_total: int = key(64 * _MIB, size(0, 65536 * _MIB), "The same bound for all topics together.", "a guess")
    queue_messages: int = key(
        65_536,
        number(1, 10_000_000, "messages"),
        "How many messages may wait for one slow subscriber; then some are dropped, which it is told.",
        "a guess",
    )
    queue_bytes: int = key(16 * _MIB, size(64 * _KIB, 65536 * _MIB), "The same bound in bytes.", "a guess")
    linger: float = key(
        30.0,
        seconds(0, 3600),
        "How long a topic stays joined after its last subscriber has gone, so that one that reconnects misses nothing.",
        "a guess",
    )
    request_timeout: float = key(
        30.0, seconds(0.1, 3600), "The deadline of a request whose call brings none.", "a guess"
    )


@dataclass(frozen=True, slots=True)
class DhtSection:
    """Finding peers through Kademlia."""

    mode: str = key(
        "server",
        choice("server", "client"),
        "server: answer the lookups of others. client: only ask; for nodes that others cannot reach.",
        "specs kad-dht: server is for nodes that are reachable, as a listening sidecar is taken to be",
    )
    refresh_interval: float = key(
        600.0,
        seconds(1, 7 * _DAY),
        "How often to look up random keys, so that the table stays full.",
        "specs kad-dht, bootstrap process: 10 minutes",
    )
    query_timeout: float = key(
        10.0,
        seconds(0.1, 600),
        "How long to wait for one peer's answer in a lookup.",
        "specs kad-dht, bootstrap process: 10 seconds",
    )
    lookup_timeout: float = key(
        60.0,
        seconds(0.5, 3600),
        "How long a whole lookup may take; it then ends with what it has.",
        "go-libp2p-kad-dht gives its refresh queries one minute",
    )

    namespaces: tuple[Namespace, ...] = key(
        DEFAULT_NAMESPACES,
        namespaces(),
        "Which records are stored and believed. pk: the public key of the peer in the key. signed: signed by it, the "
        "last one wins. greatest: any value, of two the greatest as bytes. Values that begin with refuse_prefix are "
        "refused. The same at all nodes.",
        "those that prove themselves; under greatest anybody may write under any key",
    )
    record_ttl: float = key(
        2 * _DAY, seconds(1, 365 * _DAY), "How long a record is kept after it was put last.", "go-libp2p-kad-dht"
    )
    provider_ttl: float = key(
        2 * _DAY,
        seconds(1, 365 * _DAY),
        "How long an advertisement is kept after it was announced last.",
        "specs kad-dht, content provider advertisement: 48 hours",
    )
    provide_interval: float = key(
        22 * 3600.0,
        seconds(1, 365 * _DAY),
        "From one announcement of an advertisement to the next, once 20 peers hold it; below dht.provider_ttl.",
        "specs kad-dht, content provider advertisement: 22 hours",
    )
    max_record: int = key(
        12 * _KIB,
        size(1, 12 * _KIB),
        "The largest value of a record, put or taken.",
        "a guess: with 20 peers beside it, it fits into the 16 KiB that rust-libp2p reads",
    )
    records: int = key(
        4096,
        number(1, 10_000_000, "records"),
        "How many records are kept in memory; of more, those closest to this node.",
        "a guess",
    )
    record_bytes: int = key(
        16 * _MIB, size(16 * _KIB, 65536 * _MIB), "The same bound in bytes of keys and values.", "a guess"
    )
    providers: int = key(
        16384,
        number(1, 10_000_000, "entries"),
        "How many advertisements of others are kept in memory; of more, those of the names closest to this node.",
        "a guess",
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
        1.0,
        seconds(0.05, 60),
        "How often each topic's mesh is looked after and IHAVE is sent.",
        "specs gossipsub v1.0, parameters",
    )
    degree: int = key(
        6,
        number(1, 100, "peers"),
        "D: how many mesh peers to keep in each topic. More is faster and costs more copies.",
        "specs gossipsub v1.0, parameters",
    )
    degree_low: int = key(
        5, number(1, 100, "peers"), "D_low: below it, graft.", "go-libp2p-pubsub; specs gossipsub v1.0 say 4"
    )
    degree_high: int = key(12, number(1, 200, "peers"), "D_high: above it, prune.", "specs gossipsub v1.0, parameters")
    degree_out: int = key(
        2,
        number(0, 100, "peers"),
        "D_out: how many of them at least are connections that this node opened; at most half of gossip.degree.",
        "specs gossipsub v1.1, parameters",
    )
    flood_publish: bool = key(
        True,
        flag(),
        "Send own messages to every peer of the topic, not only to its mesh: faster, and costs upload.",
        "specs gossipsub v1.1, parameters",
    )
    idontwant_threshold: int = key(
        _KIB,
        size(1, 64 * _MIB),
        "Messages of so many bytes are announced to the mesh by IDONTWANT as they come, so that they come only once.",
        "go-libp2p-pubsub; js-libp2p says 512",
    )
    seen_ttl: float = key(
        120.0,
        seconds(1, 3600),
        "How long a message's id is remembered, so that the message is not delivered again.",
        "specs gossipsub v1.0, parameters",
    )
    seen_max: int = key(
        2**20,
        number(1024, 2**27, "ids"),
        "How many ids are remembered at most, some 110 bytes each.",
        "a guess: five seconds at 200,000 messages a second",
    )
    max_message: int = key(
        _MIB,
        size(4 * _KIB, 64 * _MIB),
        "The largest gossip frame, taken or sent; a payload is smaller by its envelope. The same at all nodes.",
        "go-libp2p-pubsub",
    )
    queue_messages: int = key(
        65_536, number(1, 10_000_000, "messages"), "How many messages may wait for one slow peer.", "a guess"
    )
    queue_bytes: int = key(8 * _MIB, size(64 * _KIB, 65536 * _MIB), "The same bound in bytes.", "a guess")


@dataclass(frozen=True, slots=True)
class DirectSection:
    """Direct messages and requests."""

    max_message: int = key(
        1_000_000,
        size(1, 2**20 - 2048),
        "The largest message, request or response sent.",
        "a guess; the protocol's frames end at 1 MiB",
    )
    queue_bytes: int = key(
        16 * _MIB,
        size(2 * _MIB, 65536 * _MIB),
        "How much may wait for one peer.",
        "a guess: 100,000 messages of 100 bytes",
    )
    queue_total: int = key(64 * _MIB, size(2 * _MIB, 65536 * _MIB), "The same bound for all peers together.", "a guess")
    receipt_timeout: float = key(
        30.0,
        seconds(0.1, 3600),
        "How long a sent message waits for its receipt before it counts as UNKNOWN.",
        "a guess",
    )
    idle_timeout: float = key(
        300.0, seconds(1, _DAY), "After how long without a message the stream to a peer is closed.", "a guess"
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
        256 * _KIB,
        size(4 * _KIB, 64 * _MIB),
        "How much of one stream may wait for its peer; then its app is read no further. In the other direction "
        "limits.receive_window is the bound.",
        "a guess: as much as a connection's socket is given",
    )


@dataclass(frozen=True, slots=True)
class PeersSection:
    """How many peers to be connected to, and how they are kept."""

    target: int = key(
        24,
        number(0, 10_000, "connections"),
        "How many connections the node seeks by itself.",
        "a guess: twice gossipsub's D_high, so that meshes find members",
    )
    upkeep_interval: float = key(
        5.0, seconds(0.1, 3600), "How often missing connections are sought when nothing else calls for it.", "a guess"
    )
    redial_base: float = key(
        1.0,
        seconds(0.05, 3600),
        "The first wait before a peer that failed is tried again unasked; it doubles.",
        "a guess",
    )
    redial_limit: float = key(60.0, seconds(1, _DAY), "The longest such wait.", "a guess")
    ping_interval: float = key(
        15.0,
        seconds(0.1, 3600),
        "The time between two pings of a connected peer, from which its latency is known.",
        "go-libp2p's daemon and js-libp2p's monitor have 10 to 15 seconds",
    )
    ping_timeout: float = key(10.0, seconds(0.1, 600), "How long to wait for the answer to a ping.", "a guess")
    tls_ca: Path | None = key(
        None,
        path("the path of a PEM file; empty: none"),
        "Certificate authorities that are trusted when dialling /tls/ws addresses, besides the system's.",
        "public certificates need none",
    )


@dataclass(frozen=True, slots=True)
class LimitsSection:
    """Bounds. What is over them is refused, counted, and told to whom it concerns."""

    connections: int = key(1024, number(1, 100_000, "connections"), "Connections in all.", "a guess")
    connections_for_dials: int = key(
        64, number(0, 100_000, "connections"), "How many of them inbound ones cannot take.", "a guess"
    )
    connections_per_address: int = key(
        512,
        number(1, 100_000, "connections"),
        "Inbound connections of one IPv4 address or one IPv6 /64.",
        "a guess that lets a whole mesh live on one host or behind one NAT",
    )
    half_open: int = key(
        256, number(1, 100_000, "connections"), "Inbound connections that have not finished the handshake.", "a guess"
    )
    half_open_per_address: int = key(128, number(1, 100_000, "connections"), "The same of one address.", "a guess")
    accept_rate: int = key(
        1000,
        number(1, 1_000_000, "a second"),
        "Inbound connections a second.",
        "a guess: a handshake costs about half a millisecond of CPU",
    )
    streams: int = key(
        1024,
        number(8, 100_000, "streams"),
        "Streams at once on one connection, both directions together.",
        "go-libp2p's yamux takes as many inbound ones",
    )
    receive_window: int = key(
        _MIB,
        size(256 * _KIB, 1024 * _MIB),
        "Unacknowledged bytes that a peer may have on one stream. Throughput is at most this in one round trip.",
        "a guess: 10 MB/s at a round trip of 100 ms",
    )
    connection_buffer: int = key(
        16 * _MIB, size(256 * _KIB, 4096 * _MIB), "Unacknowledged bytes on one connection.", "a guess: 16 full windows"
    )
    total_buffer: int = key(
        256 * _MIB,
        size(_MIB, 65536 * _MIB),
        "Buffered bytes of all connections together; beyond it the fullest one goes.",
        "a guess",
    )
    operations: int = key(10_000, number(1, 1_000_000, "operations"), "Calls of apps under way at once.", "a guess")


@dataclass(frozen=True, slots=True)
class TimeoutsSection:
    """How long to wait for others."""

    handshake: float = key(
        10.0, seconds(0.1, 600), "From a connection's start to secured and muxed.", "a guess: three round trips"
    )
    negotiation: float = key(10.0, seconds(0.1, 600), "For the protocol of one stream.", "a guess")
    dial: float = key(20.0, seconds(0.1, 600), "For a whole dial: all addresses of a peer.", "a guess")
    dial_attempt: float = key(10.0, seconds(0.1, 600), "For one address, handshake included.", "a guess")
    identify: float = key(10.0, seconds(0.1, 600), "For the peer to say who it is.", "a guess")
    write_stall: float = key(
        30.0, seconds(1, 3600), "How long a peer may read nothing while bytes wait for it.", "a guess"
    )
    keep_alive_interval: float = key(
        30.0, seconds(0.1, 3600), "Silence after which a connection is probed.", "go-libp2p's yamux"
    )
    keep_alive: float = key(10.0, seconds(0.1, 600), "How long to wait for the probe's answer.", "go-libp2p's yamux")
    shutdown: float = key(
        10.0,
        seconds(0.1, 600),
        "How long SIGTERM lets calls and connections end in order; then they are cut.",
        "a guess: a third of the 30 seconds that Kubernetes allows",
        "--shutdown-timeout",
    )


@dataclass(frozen=True, slots=True)
class LogSection:
    """The log, on standard error, and the trace of the wire."""

    level: str = key(
        "info",
        choice("debug", "info", "warning", "error"),
        "The least level written. info is the node's life: start, readiness, trouble, end.",
        "convention",
        "--log-level",
    )
    format: str = key(
        "text",
        choice("text", "json"),
        "text for people; json is one object a line, for collectors.",
        "convention",
        "--log-format",
    )
    trace_wire: Path | None = key(
        None,
        path("a file's path; empty: no trace"),
        "Write every message of every peer to this file, DECRYPTED, for `sidecar trace show`: to look for a fault, "
        "not to leave on. Made with mode 0600; a file of this user's that nobody else can read is continued.",
        "off: it holds what the encryption is there to hide",
        "--trace-wire",
    )
    trace_limit: int = key(
        1024 * _MIB,
        size(4 * _KIB, 1024 * 1024 * _MIB),
        "The size at which that file is full and the trace ends; the node goes on.",
        "a guess: some three million small messages",
        "--trace-limit",
    )
