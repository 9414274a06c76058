"""What the API needs from below, written down."""

from collections.abc import Callable, Mapping, Sequence
from typing import Protocol, TypeAlias

from ..core import gossip
from ..core.events import Condition, PeerView
from ..core.gate import Gate
from ..core.histogram import Histogram
from ..core.multiaddr import Multiaddr
from ..core.node import NodeInput
from ..core.node.statistics import NodeStatistics
from ..core.types import PeerId

Feed: TypeAlias = Callable[[NodeInput], None]
"""Takes an input of the node and carries out what it brings (`Runtime.feed`). Raises what the node says of misuse."""


class Addresses(Protocol):
    """Where the node is."""

    @property
    def listening(self) -> Sequence[Multiaddr]: ...
    @property
    def announced(self) -> Sequence[Multiaddr]: ...
    @property
    def observed(self) -> Sequence[Multiaddr]: ...


class NodeSurface(Protocol):
    """What the API asks of the node machine directly: numbers and snapshots, nothing that has effects."""

    @property
    def peer_id(self) -> PeerId: ...
    @property
    def network(self) -> str: ...
    @property
    def gate(self) -> Gate: ...
    def new_op(self) -> int: ...
    def peers(self, *, known: bool = False) -> Sequence[PeerView]: ...
    def conditions(self) -> Sequence[Condition]: ...
    def topics(self) -> Sequence[gossip.TopicView]: ...
    def statistics(self) -> NodeStatistics: ...
    def histograms(self) -> Mapping[str, Histogram]: ...
    def addresses(self) -> Addresses: ...
