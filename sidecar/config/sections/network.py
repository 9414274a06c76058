"""Where this node is, and its peers."""

from pathlib import Path

from ...core.classes import dataclass
from ...core.multiaddr import Multiaddr
from ...core.parameters import NodeConfig
from ...core.parameters.node import MAX_NETWORK_NAME
from ..kinds import flag, multiaddrs, name_servers, number, path, seconds, text
from .key import DAY, key

_NODE = NodeConfig()  # the core's own defaults are the table's


@dataclass(frozen=True, slots=True)
class NetworkSection:
    """Which mesh this node belongs to."""

    name: str = key(
        _NODE.network,
        text(
            rf"[A-Za-z0-9._-]{{1,{MAX_NETWORK_NAME}}}",
            f"1 to {MAX_NETWORK_NAME} ASCII letters, digits, '.', '_' and '-'",
            "NAME",
        ),
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
        multiaddrs(announced=True),
        "The addresses to tell peers instead of those listened at: set it behind a port mapping or in a container. "
        "At most 64, and no more than fit into a signed record of 4,093 bytes.",
        "most nodes are reached where they listen",
        "--announce",
        live=True,
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
        _NODE.bootstrap,
        multiaddrs(dialled=True),
        "Peers to join the mesh through. Peers remembered from the last run are tried first. Without a peer id, "
        "whoever answers at the address will do; a DNS name is looked up for each attempt, and everybody behind it is "
        "dialled. /dnsaddr/NAME stands for the addresses in the TXT records of _dnsaddr.NAME.",
        "there is no public network of sidecars; the first node has nobody to ask",
        "--bootstrap",
        live=True,
    )


@dataclass(frozen=True, slots=True)
class DiscoverySection:
    """How nodes find each other without bootstrap peers, and what names stand for."""

    mdns: bool = key(
        False,
        flag(),
        "Find peers on the local network by multicast DNS, and be found there: no bootstrap peer is needed. "
        "Everybody on that network sees the peer id and the addresses.",
        "off: a node tells a network of itself only when asked to; clusters and containers rarely carry multicast",
        "--mdns",
    )
    dns_servers: tuple[tuple[str, int], ...] = key(
        (),
        name_servers(),
        "Name servers to ask what a /dnsaddr name stands for. An empty list: those of the system. All other names are "
        "looked up as the system does.",
        "what the system asks is right nearly everywhere",
    )


@dataclass(frozen=True, slots=True)
class PeersSection:
    """How many peers to be connected to, and how they are kept."""

    target: int = key(
        _NODE.target_peers,
        number(0, 10_000, "connections"),
        "How many connections the node seeks by itself.",
        "a guess: twice gossipsub's D_high, so that meshes find members",
        live=True,
    )
    outbound: int = key(
        _NODE.target_outbound,
        number(0, 10_000, "connections"),
        "How many of them at least it opens itself, however many dial it, so that nobody can surround it; at most "
        "peers.target. They are the last to be closed for limits.high_water.",
        "bitcoind opens as many to peers that it relays with",
        live=True,
    )
    upkeep_interval: float = key(
        _NODE.upkeep_interval,
        seconds(0.1, 3600),
        "How often missing connections are sought when nothing else calls for it.",
        "a guess",
        live=True,
    )
    redial_base: float = key(
        _NODE.redial_base,
        seconds(0.05, 3600),
        "The first wait before a peer that failed is tried again unasked; it doubles.",
        "a guess",
        live=True,
    )
    redial_limit: float = key(_NODE.redial_limit, seconds(1, DAY), "The longest such wait.", "a guess", live=True)
    ping_interval: float = key(
        _NODE.ping_interval,
        seconds(0.1, 3600),
        "The time between two pings of a connected peer, from which its latency is known.",
        "hashicorp's yamux and go-libp2p's ping as often",
        live=True,
    )
    ping_timeout: float = key(
        _NODE.ping_timeout, seconds(0.1, 600), "How long to wait for the answer to a ping.", "a guess", live=True
    )
    tls_ca: Path | None = key(
        None,
        path("the path of a PEM file; empty: none"),
        "Certificate authorities that are trusted when dialling /tls/ws addresses, besides the system's.",
        "public certificates need none",
    )
