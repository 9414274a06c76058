"""The kinds of places where a node may be, and which pairs of them must come to a connection by which way.

The words are those of RFC 4787 (UDP) and RFC 5382 (TCP): of a NAT, mapping is which address the outside sees, filtering
who may come in there.
"""

import enum
from typing import NamedTuple


class Mapping(enum.StrEnum):
    """What the outside sees of one address and port inside."""

    NONE = "none"  # the same address: no NAT
    INDEPENDENT = "endpoint-independent"  # one address and port, whoever looks
    DEPENDENT = "address- and port-dependent"  # another port for each that looks


class Filtering(enum.StrEnum):
    """Who may send to what the outside sees."""

    NONE = "none"  # everybody, also unasked
    INDEPENDENT = "endpoint-independent"  # everybody, once something has gone out from there
    ADDRESS = "address-dependent"  # every port of an address that something has gone out to
    PORT = "address- and port-dependent"  # only the very address and port that something has gone out to


class Behaviour(NamedTuple):
    """What probes from two addresses outside can see of a place."""

    mapping: Mapping
    filtering: Filtering
    hairpin: bool = False
    """Whether two homes behind it reach each other at the addresses that the outside sees."""
    udp: bool = True
    """Whether UDP gets out and its answers in."""


class Kind(NamedTuple):
    """A kind of place."""

    name: str
    title: str
    built: str
    """How, in a sentence for docs/reach.md."""
    behaviour: Behaviour
    version: int = 4
    """Of IP; public places have both."""
    carrier: bool = False
    """Whether there is a second NAT of the same kind outside of the first one."""
    maps: bool = False
    """Whether a node behind it can have it open a port that the whole internet gets through to (PCP, NAT-PMP, UPnP)."""
    stock: bool = False
    """Whether ports are given out as nftables' plain `masquerade` does."""

    @property
    def public(self) -> bool:
        """Whether everybody may dial a node there unasked."""
        return self.behaviour.filtering is Filtering.NONE

    def meets(self, other: "Kind") -> bool:
        """Whether there is a version of IP that both have."""
        return self.public or other.public or self.version == other.version


_EIM, _SYMMETRIC = Mapping.INDEPENDENT, Mapping.DEPENDENT
_TABLE = "Each port inside has a port outside of its own, by a table (`snat` and `dnat` by nftables maps). "

KINDS = (
    Kind("public", "public", "No NAT, IPv4 and IPv6.", Behaviour(Mapping.NONE, Filtering.NONE)),
    Kind(
        "cone",
        "full cone",
        _TABLE + "Whoever sends to it comes in, once something has gone out from there in the last minutes.",
        Behaviour(_EIM, Filtering.INDEPENDENT),
        maps=True,
    ),
    Kind(
        "restricted",
        "restricted cone",
        _TABLE + "Only addresses come in that something has gone out to, from any of their ports.",
        Behaviour(_EIM, Filtering.ADDRESS),
        maps=True,
    ),
    Kind(
        "home",
        "home router",
        _TABLE + "Only answers come in: what connection tracking knows as established.",
        Behaviour(_EIM, Filtering.PORT),
        maps=True,
    ),
    Kind(
        "symmetric",
        "symmetric",
        "`masquerade random,fully-random`: each connection gets another port. Only answers come in.",
        Behaviour(_SYMMETRIC, Filtering.PORT),
        maps=True,
    ),
    Kind(
        "double",
        "double NAT",
        "A home router behind the NAT of a carrier (100.64.0.0/10), which is built like it.",
        Behaviour(_EIM, Filtering.PORT),
        carrier=True,
    ),
    Kind(
        "no-udp",
        "no UDP",
        "A home router that lets no UDP through, in either direction.",
        Behaviour(_EIM, Filtering.PORT, udp=False),
        maps=True,
    ),
    Kind(
        "ipv6",
        "IPv6 only",
        "No IPv4, public addresses, no NAT, and a firewall that lets only answers in.",
        Behaviour(Mapping.NONE, Filtering.PORT),
        version=6,
        maps=True,
    ),
)

SHARED = (
    Kind(
        "no-hairpin",
        "one NAT, no hairpin",
        "Two homes behind one home router. What a home sends to the address outside goes nowhere.",
        Behaviour(_EIM, Filtering.PORT),
    ),
    Kind(
        "hairpin",
        "one NAT, hairpin",
        "The same, but what a home sends to the address outside of the other one gets there, and looks as if it came "
        "from outside.",
        Behaviour(_EIM, Filtering.PORT, hairpin=True),
    ),
)
"""Places with two homes that are to reach each other. To all others they are home routers."""

STOCK = Kind(
    "masquerade",
    "stock masquerade",
    "`masquerade`. It keeps the port inside where it can. Where two homes use the same one, the second gets another "
    "for the destinations of the first: so it is no endpoint-independent NAT, though it looks like one to one home.",
    Behaviour(_SYMMETRIC, Filtering.PORT),
    stock=True,
)
"""Only looked at: the tables above are there for what this one lacks."""


class Way(enum.StrEnum):
    """How one node tries to reach the other."""

    DIRECT = "direct"
    """One dials the addresses at which the other listens, and that at which the relay sees it."""
    MAPPED = "mapped"
    """The same, after NATs were asked to open a port."""
    PUNCHED = "punched"
    """Through the relay, which must end in a connection without it: somebody is dialled back, or a hole is punched."""
    RELAYED = "relayed"
    """Through the relay, and it stays there."""


class Pair(NamedTuple):
    """Two places between which a connection is wanted."""

    one: Kind
    other: Kind
    together: bool = False
    """Whether both are behind one NAT."""

    @property
    def title(self) -> str:
        return self.one.title if self.together else f"{self.one.title} and {self.other.title}"


def pairs() -> tuple[Pair, ...]:
    """Every two kinds, and each with itself; last, those behind one NAT."""
    apart = [Pair(one, other) for number, one in enumerate(KINDS) for other in KINDS[number:]]
    return (*apart, *(Pair(kind, kind, together=True) for kind in SHARED))


def must(pair: Pair, way: Way) -> bool:
    """Whether a pair must come to a connection this way; where not, the NATs forbid it."""
    one, other = pair.one, pair.other
    if way is Way.RELAYED:
        return True
    if pair.together:  # by the addresses inside: the relay says that both are seen at one address
        return True
    if not one.meets(other):
        return False
    if way is Way.PUNCHED:
        return _lets_in(one, other) or _lets_in(other, one)
    mapped = way is Way.MAPPED
    return any(_dialable(kind) or (mapped and kind.maps) for kind in pair[:2])


def _dialable(kind: Kind) -> bool:
    """Whether somebody gets in who was never sent anything."""
    return kind.behaviour.filtering in (Filtering.NONE, Filtering.INDEPENDENT)


def _lets_in(inside: Kind, outside: Kind) -> bool:
    """Whether packets from outside get in when the node inside has sent some to where the other one was seen."""
    mapping, filtering = inside.behaviour.mapping, inside.behaviour.filtering
    if mapping is Mapping.DEPENDENT:  # where it was seen leads nowhere for others
        return False
    return filtering is not Filtering.PORT or outside.behaviour.mapping is not Mapping.DEPENDENT
