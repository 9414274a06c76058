"""Who may connect."""

from ...core.classes import dataclass
from ...core.gate import Gate
from ...core.networks import Network
from ...core.types import PeerId
from ..kinds import networks, number, peer_ids
from .key import key


@dataclass(frozen=True, slots=True)
class GateSection:
    """Who may connect, either way. What counts, in this order: a ban (`sidecar ban`), a deny list, an allow list."""

    allow_peers: tuple[PeerId, ...] = key(
        (),
        peer_ids(),
        "Only these peers; an empty list allows all.",
        "a mesh is open to whoever knows its name",
        live=True,
    )
    deny_peers: tuple[PeerId, ...] = key(
        (), peer_ids(), "Not these peers, also when an allow list has them.", "nobody is known to be bad", live=True
    )
    allow_networks: tuple[Network, ...] = key(
        (),
        networks(),
        "Only peers at these IP addresses and networks; an empty list allows all. A peer must pass both allow lists.",
        "a mesh is open to whoever can reach it",
        live=True,
    )
    deny_networks: tuple[Network, ...] = key(
        (),
        networks(),
        "Not what is at these IP addresses and networks: inbound connections are closed before their first byte is "
        "read, and none is dialled, also where a name leads there.",
        "nobody is known to be bad",
        live=True,
    )
    protected_peers: tuple[PeerId, ...] = key(
        (),
        peer_ids(),
        "Peers whose connections are never closed for limits.high_water. Bootstrap peers never are.",
        "whoever is of use is kept anyway",
        live=True,
    )
    max_bans: int = key(
        Gate().max_bans,
        number(0, 10_000_000, "bans"),
        "How many bans there may be at once.",
        "a guess: some 50 MB of memory",
    )
