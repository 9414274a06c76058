"""Every number of relays, with where it comes from."""

from ..classes import dataclass
from ..errors import ConfigError
from ..multiaddr import Multiaddr


@dataclass(frozen=True, slots=True)
class RelayConfig:
    """Both sides of circuit relay v2, and hole punching. Seconds, bytes and counts. Raises ConfigError."""

    relays: tuple[Multiaddr, ...] = ()
    """Relays to be reached through, each with its peer id; a place is kept with all of them."""
    find: bool = False
    """Whether to look for relays in the mesh as well, until `reservations` are held."""
    find_unreachable: bool = False
    """Whether to do so while others were found not to reach this node at any public address of it."""
    reservations: int = 2
    """How many places to hold where they are looked for. A guess: go-libp2p's AutoRelay wants two."""
    punch: bool = True
    """Whether to turn connections through a relay into direct ones (DCUtR)."""
    max_inbound: int = 64
    """Connections that come through relays at once: no address bounds who is behind them. A guess."""
    max_wanted: int = 16
    """Circuits being opened at once; fewer than a driver has dials under way, since each may need one more. A guess."""
    max_candidates: int = 32
    """Relays that are remembered to be tried where they are looked for. A guess."""
    reserve_timeout: float = 20.0
    """From the question to a relay to its answer. go-libp2p waits a minute, js-libp2p 5 s."""
    connect_timeout: float = 30.0
    """For the far end of a circuit to accept it, as go-libp2p's relay waits."""
    refused_pause: float = 60.0
    """After a relay has refused; doubles up to an hour. A guess."""
    search_pause: float = 60.0
    """From one search of the DHT for relays to the next. A guess."""

    server: bool = False
    """Whether to be a relay for others. The defaults below are go-libp2p's where nothing else is said."""
    max_reservations: int = 128
    max_reservations_per_address: int = 8
    max_reservations_per_network: int = 32
    """As go-libp2p bounds those of one autonomous system."""
    reservation_ttl: float = 3600.0
    max_circuits: int = 128
    """In all. A guess: each may hold two windows of 256 KiB for readers that are slow."""
    max_circuits_per_peer: int = 16
    """Of one peer, counted at either end."""
    circuit_duration: float = 120.0
    """0: no limit."""
    circuit_data: int = 128 * 1024
    """In each direction; 0: no limit."""

    def __post_init__(self) -> None:
        for address in self.relays:
            if address.peer_id is None or address.is_relayed:
                raise ConfigError(f"{address} is no relay's address: it must end in /p2p/ID, and lead through no relay")

    @property
    def limited(self) -> bool:
        """Whether the circuits of this node as a relay have limits."""
        return bool(self.circuit_duration or self.circuit_data)


MAX_PUNCHES = 16  # holes being punched at once; a guess
PUNCH_TRIES = 3  # specs relay/DCUtR: two retries
PUNCH_PLAIN = 2.0
"""Seconds for a peer to be dialled as any is, before a hole is punched to it. A guess: a packet may be lost, and three
round trips must be made. Who takes longer is dialled again as the hole is punched."""
PUNCH_DIAL = 5.0  # seconds for a try's dial, as in go-libp2p and js-libp2p: what does not come through soon never does
PUNCH_EXCHANGE = 15.0  # seconds for a try's messages; a guess below the minute of go-libp2p
MAX_PUNCH_ADDRESSES = 8  # dialled at once; a guess: a peer has one or two that others see
