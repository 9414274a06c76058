"""The API toward apps."""

from pathlib import Path

from ...core.classes import dataclass
from ..kinds import choice, endpoint, file_mode, flag, number, path, seconds, size, socket_path, text
from .key import KIB, MIB, key


@dataclass(frozen=True, slots=True)
class ApiSection:
    """Where apps reach this node over gRPC, and what they may use."""

    socket: Path | None = key(
        None,
        socket_path(
            "a path; empty: $XDG_RUNTIME_DIR/sidecar/api.sock, else sidecar-<uid>/api.sock in $TMPDIR, else in /tmp"
        ),
        "The Unix socket of the API.",
        "the XDG base directory specification; clients look at the same place",
        "--socket",
    )
    engine: str = key(
        "auto",
        choice("auto", "grpcio", "http2"),
        "What speaks gRPC to apps: `http2`, which spends a third of the CPU on a call, takes the package ngh2, "
        "and refuses compressed messages; `grpcio`, gRPC's own library; `auto`: http2 where that package is installed.",
        "the faster one",
    )
    mode: int = key(
        0o600,
        file_mode(),
        "The socket's permissions. Who may write to it may use the node.",
        "the strictest: only the user who started it",
    )
    owner: str = key(
        "",
        text(r"[A-Za-z0-9_.-]{0,64}", "the name or number of a user; empty: leave it", "USER"),
        "The user that the socket is given to, which only root can do.",
        "nobody else by default",
    )
    group: str = key(
        "",
        text(r"[A-Za-z0-9_.-]{0,64}", "the name or number of a group; empty: leave it", "GROUP"),
        'The group that the socket is given to; takes a mode such as "0660" to mean anything.',
        "nobody else by default",
    )
    tcp: str = key(
        "",
        endpoint(),
        "A TCP address to serve the API at as well. In plain text only a loopback address is served, and everybody on "
        "this machine can then use the node; any other takes TLS, and api.tls_client_ca or api.require_token.",
        "off: a port has no permissions",
        "--tcp",
    )
    tls_certificate: Path | None = key(
        None,
        path("the path of a PEM file; empty: plain text"),
        "The certificate for api.tcp, and behind it those that lead to its root. Read again when the file changes.",
        "a loopback address needs none",
    )
    tls_key: Path | None = key(
        None,
        path("the path of a PEM file, not encrypted; empty: none"),
        "The private key of api.tls_certificate.",
        "a loopback address needs none",
    )
    tls_client_ca: Path | None = key(
        None,
        path("the path of a PEM file; empty: apps need no certificate"),
        "The authorities that sign the certificates of apps: at api.tcp, who has no such certificate is turned away.",
        "a loopback address needs none",
    )
    tokens: Path | None = key(
        None,
        path("a file's path; empty: tokens.json in the state directory"),
        "The file of tokens, where something else keeps it, such as a mounted Secret: its group may read it then, and "
        "a link is followed. Read again when it changes.",
        "beside the key",
    )
    require_token: bool = key(
        False,
        flag(),
        "Refuse calls without a token (`sidecar token create`), on the Unix socket too; not for health and reflection. "
        "A call that brings a token may do only what that allows, whether one is required or not.",
        "off: the socket's permissions say who may call",
    )
    max_request: int = key(
        4 * MIB,
        size(64 * KIB, 1024 * MIB),
        "The largest gRPC message taken from an app.",
        "what gRPC libraries take by default",
    )
    max_calls: int = key(
        4096,
        number(16, 1_000_000, "calls"),
        "Calls under way at once, streams included; a quarter of them, or 256, may be subscriptions, as many may "
        "receive, and as many watch.",
        "a guess",
    )
    max_connections: int = key(
        512,
        number(16, 100_000, "connections"),
        "Connections to the Unix socket at once, and as many to api.tcp; further ones are closed. So whoever holds all "
        "of one leaves the other its own, and the mesh its files.",
        "a guess: apps use one or two each",
    )
    max_topics: int = key(
        1024,
        number(1, 1_000_000, "topics"),
        "Topics joined at once; one without subscribers makes room for a new one. From 1,024 on also how many topics "
        "of one peer are remembered, so all nodes need the higher bound.",
        "a guess",
    )
    history_messages: int = key(
        65_536,
        number(0, 10_000_000, "messages"),
        "How many messages of each topic to keep in memory, for subscribers that come back with a cursor.",
        "a guess",
    )
    history_bytes: int = key(16 * MIB, size(0, 65536 * MIB), "The same bound in bytes, for each topic.", "a guess")
    history_total: int = key(64 * MIB, size(0, 65536 * MIB), "The same bound for all topics together.", "a guess")
    queue_messages: int = key(
        65_536,
        number(1, 10_000_000, "messages"),
        "How many messages may wait for one slow subscriber; then some are dropped, which it is told.",
        "a guess",
    )
    queue_bytes: int = key(16 * MIB, size(64 * KIB, 65536 * MIB), "The same bound in bytes.", "a guess")
    linger: float = key(
        30.0,
        seconds(0, 3600),
        "How long a topic stays joined after its last subscriber has gone, so that one that reconnects misses nothing.",
        "a guess",
    )
    request_timeout: float = key(
        30.0, seconds(0.1, 3600), "The deadline of a request whose call brings none.", "a guess"
    )
