"""The gateway of this node's network: what it is asked for."""

from ...core.classes import dataclass
from ..kinds import choice, choices, seconds
from .key import DAY, key


@dataclass(frozen=True, slots=True)
class NatSection:
    """Being reached behind a NAT, by ports that the gateway of this network maps to this node."""

    mapping: str = key(
        "auto",
        choice("auto", "on", "off"),
        "Have the gateway map the ports listened at, and tell peers where they lead. auto: only with a private address "
        "and a default route, not in a container, and not with listen.announce. on: wherever there is a gateway.",
        "people at home expect programs like this to be reached; in clusters and data centres nothing is there to ask",
    )
    protocols: tuple[str, ...] = key(
        ("pcp", "nat-pmp", "upnp"),
        choices("pcp", "nat-pmp", "upnp"),
        "How to ask the gateway, the first first; the next one is tried where one is not spoken.",
        "PCP replaces NAT-PMP (RFC 6887), and both are simpler than UPnP",
    )
    lifetime: float = key(
        600.0,
        seconds(120, DAY),
        "How long a mapping is asked for. It is renewed at half of that; a node that is killed leaves it behind for as "
        "long.",
        "a guess: what a killed node leaves is soon gone, and a request in five minutes costs a gateway nothing",
    )
