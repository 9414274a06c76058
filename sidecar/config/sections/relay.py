"""Peers that cannot be dialled: reached through relays, and this node as a relay."""

from ...core.classes import dataclass
from ...core.multiaddr import Multiaddr
from ...core.parameters import RelayConfig
from ..kinds import flag, flag_or, multiaddrs, number, seconds, size
from .key import DAY, MIB, key

_RELAY = RelayConfig()  # the core's own defaults are the table's


@dataclass(frozen=True, slots=True)
class RelaySection:
    """Being reached behind a NAT or a firewall, through other nodes, and being such a node."""

    relays: tuple[Multiaddr, ...] = key(
        _RELAY.relays,
        multiaddrs(relay=True),
        "Relays to be reached through, each with /p2p/ and its peer id at the end. This node keeps a place with each "
        "and announces its addresses there.",
        "most nodes are reached where they listen",
        "--relay",
    )
    find: bool | str = key(
        _RELAY.find,
        flag_or("auto"),
        "Look for relays in the mesh as well: among the peers, and under the name /libp2p/relay in the DHT. auto: only "
        "while peers find that they cannot reach this node at any of its public addresses (autonat.ask).",
        "off: a node that is reached where it listens needs none",
    )
    reservations: int = key(
        _RELAY.reservations,
        number(1, 16, "relays"),
        "With how many relays to have a place where relay.find is on; those of relay.relays count.",
        "go-libp2p's AutoRelay wants two",
    )
    punch: bool = key(
        _RELAY.punch,
        flag(),
        "Turn connections through a relay into direct ones where the NATs let that happen (DCUtR). With relay.relays "
        "or relay.find, this node then dials from the port that it listens at, so that others see where that one is.",
        "on: a relay is a detour",
    )
    max_inbound: int = key(
        _RELAY.max_inbound,
        number(1, 100_000, "connections"),
        "Connections that come in through relays at once: no address bounds who is behind them.",
        "a guess",
    )
    server: bool = key(
        _RELAY.server,
        flag(),
        "Be a relay: give other nodes places, and carry connections to them within the bounds below.",
        "it costs traffic; only a node that others can dial is of use as one",
        "--relay-server",
    )
    server_reservations: int = key(
        _RELAY.max_reservations, number(1, 100_000, "places"), "Places given at once.", "go-libp2p"
    )
    server_reservations_per_address: int = key(
        _RELAY.max_reservations_per_address,
        number(1, 100_000, "places"),
        "Of these, to peers of one address (IPv4, or IPv6 /64); limits.exempt_networks are not counted.",
        "go-libp2p",
    )
    server_reservations_per_network: int = key(
        _RELAY.max_reservations_per_network,
        number(1, 100_000, "places"),
        "The same of one network (IPv4 /24, or IPv6 /48).",
        "as go-libp2p bounds those of one autonomous system",
    )
    server_reservation_ttl: float = key(
        _RELAY.reservation_ttl,
        seconds(60, 7 * DAY),
        "How long a place is given for; who wants to stay asks again before.",
        "go-libp2p",
    )
    server_circuits: int = key(
        _RELAY.max_circuits,
        number(1, 100_000, "connections"),
        "Connections carried at once. Each may hold two windows of 256 KiB for readers that are slow.",
        "a guess",
    )
    server_circuits_per_peer: int = key(
        _RELAY.max_circuits_per_peer,
        number(1, 100_000, "connections"),
        "Of these, those that one peer is at an end of.",
        "go-libp2p",
    )
    server_duration: float = key(
        _RELAY.circuit_duration,
        seconds(0, 365 * DAY),
        "How long a connection is carried; 0: without end. Gossip and the DHT use carried connections only where this "
        "and relay.server_data are 0.",
        "go-libp2p: enough to punch a hole",
    )
    server_data: int = key(
        _RELAY.circuit_data,
        size(0, 1_048_576 * MIB),
        "How many bytes of it are carried in each direction; 0: any number.",
        "go-libp2p",
    )
