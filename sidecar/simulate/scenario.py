"""What is played: a scenario as a value. Times are virtual seconds, sizes bytes."""

import enum
from collections.abc import Mapping
from typing import Any

from ..core.classes import dataclass
from ..core.node import NodeConfig
from ..net.config import NetConfig
from ..sim import LinkModel
from .settings import Assignment

_BOUNDS = NetConfig()


@dataclass(frozen=True, slots=True)
class Hostility:
    """How nodes of a kind do harm (`hostile.BEHAVIOURS`)."""

    behaviour: str
    after: float
    """For how long from its start on each behaves well."""
    connections: int
    """To so many honest nodes each holds a connection, whatever it needs itself."""
    against: str | None
    """These are of this kind; None: of any."""
    options: Mapping[str, Any]
    """The keys of its behaviour."""


@dataclass(frozen=True, slots=True)
class NodeKind:
    """Nodes that are alike."""

    name: str
    count: int
    start: float
    """When the first of them starts."""
    over: float
    """In how many seconds from then all have started, evenly."""
    topics: tuple[str, ...]
    regions: tuple[int, ...]
    """In which regions they are, one after the other; empty where the network has none."""
    config: NodeConfig
    bounds: NetConfig = _BOUNDS
    """What an honest one's connections are bounded by."""
    hosts: int = 0
    """They share so many public addresses, each in a network of its own; 0: each has a private one."""
    hostility: Hostility | None = None
    """None: they are honest."""
    clock_offset: float = 0.0
    """Each one's wall clock is wrong by so many seconds at most, either way."""
    clock_drift: float = 0.0
    """Each one's clocks run too fast or too slow by so large a share at most."""

    @property
    def is_placed(self) -> bool:
        """Whether a warm start finds them joined: those that are there from the beginning, and are honest."""
        return not self.start and not self.over and self.hostility is None


@dataclass(frozen=True, slots=True)
class SimulatedNetwork:
    """How the network behaves, beside what the simulation's links do by themselves."""

    model: LinkModel
    """Its latency is that of networks without regions."""
    regions: tuple[str, ...] = ()
    round_trips: tuple[tuple[float, ...], ...] = ()
    """Seconds, from the region of the row to that of the column."""
    spread: float = 0.0
    """How far a pair's latency may be from half the round trip of its regions, as a share of it."""


@dataclass(frozen=True, slots=True)
class Publication:
    """Messages that are published."""

    topic: str
    kind: str | None
    """By nodes of this kind; None: of any that joins the topic."""
    publishers: int
    count: int
    rate: float
    """Messages a second, of all publishers together."""
    size: int
    start: float


class What(enum.Enum):
    """What can happen to a network."""

    KILL = "kill"
    RESTART = "restart"
    PARTITION = "partition"
    HEAL = "heal"
    CHURN = "churn"


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happens at a moment."""

    at: float
    what: What
    kind: str | None = None
    """Only to nodes of this kind."""
    count: int = 0
    """To so many nodes; 0: to a share of them."""
    share: float = 1.0
    shares: tuple[float, ...] = ()
    """Of a partition: how large its parts are."""
    lasts: float = 0.0
    """Of churn: for how long."""
    rate: float = 0.0
    """Of churn: how many nodes vanish a second."""
    away: float = 0.0
    """Of churn: after how many seconds each comes back."""


@dataclass(frozen=True, slots=True)
class Scenario:
    """All of it."""

    name: str
    about: str
    seed: int
    duration: float
    entrances: int
    """So many nodes, the first ones, are the bootstrap peers of all."""
    warm: bool
    """Whether the nodes that are there from the beginning have joined by then."""
    settled: float
    """A message is owed to nodes that have been up for so long when it is published."""
    network: SimulatedNetwork
    kinds: tuple[NodeKind, ...]
    publications: tuple[Publication, ...]
    events: tuple[Event, ...]
    settings: tuple[Assignment, ...] = ()
    """What is otherwise here than in the file."""

    @property
    def nodes(self) -> int:
        """How many there are, of all kinds."""
        return sum(kind.count for kind in self.kinds)

    @property
    def honest(self) -> int:
        """How many of these are honest."""
        return sum(kind.count for kind in self.kinds if kind.hostility is None)
