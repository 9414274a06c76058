"""The process: what it keeps, its bounds, its log."""

from pathlib import Path

from ...core.classes import dataclass
from ...core.networks import Network
from ...core.parameters import ChannelLimits, NodeConfig, WorkConfig
from ...core.parameters.channel import INITIAL_WINDOW
from ..kinds import (
    LOG_LEVELS,
    choice,
    log_levels,
    networks,
    number,
    path,
    port_or_endpoint,
    seconds,
    share,
    size,
    text,
)
from .key import KIB, MIB, key

# The core's own defaults are the table's.
_CHANNEL, _NODE, _WORK = ChannelLimits(), NodeConfig(), WorkConfig()


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
    identity_file: Path | None = key(
        None,
        path("the path of a key file as `sidecar keygen FILE` makes; empty: identity.key in state.directory"),
        "The key of this node's identity, where something else keeps it, such as a mounted secret. It is only read; "
        "its group may read it too.",
        "empty: a key is made at the first start and kept in the state directory",
    )
    max_peers: int = key(
        1000,
        number(0, 1_000_000, "peers"),
        "How many peers to remember over a restart, the most recently seen first.",
        "a guess: enough to find somebody alive after days",
    )


@dataclass(frozen=True, slots=True)
class AuditSection:
    """The audit log: one JSON object a line for each change of the node, with who made it."""

    file: Path | None = key(
        None,
        path("a file's path; empty: audit.log in the state directory"),
        "Where it is written; made with mode 0600, and opened anew for each line, so that it may be moved away.",
        "beside what it tells of",
    )
    limit: int = key(
        64 * MIB,
        size(4 * KIB, 65536 * MIB),
        "The size at which the file is renamed to end in .1, in place of the one before, and begun anew.",
        "a guess: some 300,000 changes",
    )


@dataclass(frozen=True, slots=True)
class LimitsSection:
    """Bounds. What is over them is refused, counted, and told to whom it concerns."""

    high_water: int = key(
        _NODE.high_water,
        number(0, 100_000, "connections"),
        "With more connections than this, those of least use are closed until limits.low_water are left; 0: never. "
        "Of use are peers that apps talk with, that are in a topic's mesh, that are in the DHT's table.",
        "a guess: three quarters of limits.connections, so that newcomers can prove their use",
        live=True,
    )
    low_water: int = key(
        _NODE.low_water,
        number(0, 100_000, "connections"),
        "How many are left then; at least peers.target, at most limits.high_water.",
        "a guess: so that it is not done for every newcomer",
        live=True,
    )
    release_after: float = key(
        _NODE.release_after,
        seconds(0, 3600),
        "How long a connection that was opened for a question of the DHT is kept idle, where peers.target others are "
        "there. In no mesh, not protected and without business of an app, that is.",
        "a guess: as long as a walk takes that may come by again",
        live=True,
    )
    trim_grace: float = key(
        _NODE.trim_grace,
        seconds(0, 3600),
        "How long a new peer is safe from that. Protected peers always are (gate.protected_peers).",
        "go-libp2p's connection manager",
        live=True,
    )
    connections: int = key(
        1024, number(1, 100_000, "connections"), "Connections in all; beyond it new ones are refused.", "a guess"
    )
    connections_for_dials: int = key(
        64, number(0, 100_000, "connections"), "How many of them inbound ones cannot take.", "a guess"
    )
    connections_per_address: int = key(
        64,
        number(1, 100_000, "connections"),
        "Inbound connections of one IPv4 address or one IPv6 /64.",
        "a guess: as many nodes as may be behind one NAT",
    )
    connections_per_network: int = key(
        192,
        number(1, 100_000, "connections"),
        "Inbound connections of one IPv4 /24 or one IPv6 /48.",
        "a guess: a quarter of limits.high_water, so that no single site takes all places",
    )
    exempt_networks: tuple[Network, ...] = key(
        _NODE.exempt_networks,
        networks(),
        "Networks where it does not count how many peers share an address, a /24 or a /48. By default those of one "
        "host, one link and one site; 0.0.0.0/0 and ::/0 are all.",
        "the nodes of a cluster share a network, and those of a test an address; strangers are not in there",
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
    accept_rate_per_address: int = key(
        20,
        number(1, 1_000_000, "a second"),
        "The same of one IPv4 address or one IPv6 /64, where limits.exempt_networks does not have it.",
        "a guess: all nodes behind one NAT are there again within seconds; js-libp2p takes 5",
    )
    accept_rate_per_network: int = key(
        100,
        number(1, 1_000_000, "a second"),
        "The same of one IPv4 /24 or one IPv6 /48.",
        "a guess: a tenth of limits.accept_rate",
    )
    streams: int = key(
        _CHANNEL.max_streams,
        number(8, 100_000, "streams"),
        "Streams at once on one connection, both directions together.",
        "go-libp2p's yamux takes as many inbound ones",
    )
    receive_window: int = key(
        _CHANNEL.receive_window,
        size(INITIAL_WINDOW, 1024 * MIB),
        "Unacknowledged bytes that a peer may have on one stream. Throughput is at most this in one round trip.",
        "a guess: 10 MB/s at a round trip of 100 ms",
    )
    connection_buffer: int = key(
        _CHANNEL.max_buffered,
        size(INITIAL_WINDOW, 4096 * MIB),
        "Unacknowledged bytes on one connection.",
        "a guess: 16 full windows",
    )
    total_buffer: int = key(
        256 * MIB,
        size(MIB, 65536 * MIB),
        "Buffered bytes of all connections together; beyond it the fullest one goes.",
        "a guess",
    )
    peer_work: int = key(
        int(_WORK.rate),
        number(100, 1_000_000, "points a second"),
        "How much needless work a peer may cause, in points of some 5 us; twice as many at once. A peer above it is "
        "not read for a while. Payloads count nothing.",
        "a guess: 5 % of a processor; peers at rest cause some ten points a second",
        live=True,
    )
    peer_patience: float = key(
        _WORK.patience,
        seconds(1, 3600),
        "How long a peer may stay above it, for more than a fifth of the time, before it is sent away.",
        "a guess",
        live=True,
    )
    operations: int = key(
        _NODE.max_operations, number(1, 1_000_000, "operations"), "Calls of apps under way at once.", "a guess"
    )


@dataclass(frozen=True, slots=True)
class TimeoutsSection:
    """How long to wait for others."""

    handshake: float = key(
        _CHANNEL.handshake_timeout,
        seconds(0.1, 600),
        "From a connection's start to secured and muxed.",
        "a guess: three round trips",
    )
    negotiation: float = key(
        _CHANNEL.negotiation_timeout, seconds(0.1, 600), "For the protocol of one stream.", "a guess"
    )
    dial: float = key(20.0, seconds(0.1, 600), "For a whole dial: all addresses of a peer.", "a guess")
    dial_attempt: float = key(10.0, seconds(0.1, 600), "For one address, handshake included.", "a guess")
    identify: float = key(_NODE.identify_timeout, seconds(0.1, 600), "For the peer to say who it is.", "a guess")
    write_stall: float = key(
        30.0, seconds(1, 3600), "How long a peer may read nothing while bytes wait for it.", "a guess"
    )
    keep_alive_interval: float = key(
        _CHANNEL.keep_alive_interval,
        seconds(0.1, 3600),
        "Silence after which a connection is probed.",
        "go-libp2p's yamux",
    )
    keep_alive: float = key(
        _CHANNEL.keep_alive_timeout, seconds(0.1, 600), "How long to wait for the probe's answer.", "go-libp2p's yamux"
    )
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
        choice(*LOG_LEVELS),
        "The least level written. info is the node's life: start, readiness, trouble, end.",
        "convention",
        "--log-level",
        live=True,
    )
    format: str = key(
        "auto",
        choice("auto", "text", "json"),
        "text for people; json is one object a line, for collectors. auto: text on a terminal, else json.",
        "convention",
        "--log-format",
        live=True,
    )
    levels: tuple[str, ...] = key(
        (),
        log_levels(),
        "Levels of parts of their own, such as net=debug: the parts are the names that lines of the log begin with.",
        "one level for all parts",
        "--log-levels",
        live=True,
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
        1024 * MIB,
        size(4 * KIB, 1024 * 1024 * MIB),
        "The size at which that file is full and the trace ends; the node goes on.",
        "a guess: some three million small messages",
        "--trace-limit",
    )


@dataclass(frozen=True, slots=True)
class MetricsSection:
    """Metrics, liveness and readiness over HTTP, for Prometheus and probes."""

    listen: str = key(
        "",
        port_or_endpoint(),
        "Where to serve /metrics, /live and /ready: a port, on loopback, or an address and a port; empty: nowhere. "
        "It asks for no credentials, and shows addresses of peers and names of topics: an address that others reach "
        "belongs behind a firewall or network policy.",
        "off: what is not asked for is not served",
        "--metrics",
    )
    topics: int = key(
        50,
        number(0, 10_000, "topics"),
        "How many topics have metrics of their own; the others are counted together as other.",
        "a guess: eight series each",
    )


@dataclass(frozen=True, slots=True)
class TracingSection:
    """Traces of requests, for an OpenTelemetry collector. Places in traces are handed on also without one."""

    endpoint: str = key(
        "",
        text(r"(https?://[^\s@]{1,256})?", "a URL without a user or password, for it is logged; empty: none", "URL"),
        "Where the collector takes OTLP over gRPC, such as http://127.0.0.1:4317. "
        "Takes `pip install 'p2p-sidecar[tracing]'`.",
        "off: there is no collector that everybody has",
    )
    sample: float = key(
        1.0,
        share(),
        "The part of the traces that begin at this node which is recorded, 0 to 1. Of others their beginning decides.",
        "what OpenTelemetry records unless told otherwise",
    )
