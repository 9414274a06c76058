"""What the API needs from below, written down."""

from collections.abc import Callable, Mapping, Sequence
from typing import Protocol, TypeAlias

from ..core import gossip
from ..core.autonat import AddressVerdict, Reachability
from ..core.events import Condition, PeerView, PortsMapped
from ..core.gate import Gate
from ..core.histogram import Histogram
from ..core.history import HistoryView
from ..core.multiaddr import Multiaddr
from ..core.node import NodeInput, Participation
from ..core.node.statistics import NodeStatistics
from ..core.types import PeerId

Feed: TypeAlias = Callable[[NodeInput], None]
"""Takes an input of the node and carries out what it brings (`Runtime.feed`). Raises what the node says of misuse."""


class Addresses(Protocol):
    """Where the node is."""

    @property
    def listening(self) -> Sequence[Multiaddr]:
        """Where it is bound."""

    @property
    def announced(self) -> Sequence[Multiaddr]:
        """What it tells peers."""

    @property
    def observed(self) -> Sequence[Multiaddr]:
        """What peers see."""

    @property
    def relayed(self) -> Sequence[Multiaddr]:
        """Where it is reached through relays."""

    @property
    def verdict(self) -> Reachability:
        """Whether peers reach the node."""

    @property
    def verdicts(self) -> Sequence[AddressVerdict]:
        """Whether they reach each address."""

    @property
    def mapping(self) -> PortsMapped:
        """What the gateway maps to it."""


class NodeSurface(Protocol):
    """What the API asks of the node machine directly: numbers and snapshots, nothing that has effects."""

    @property
    def peer_id(self) -> PeerId:
        """Who it is."""

    @property
    def network(self) -> str:
        """The name of its network."""

    @property
    def gate(self) -> Gate:
        """Who may connect."""

    def new_op(self) -> int:
        """A number for an operation, as no other has."""

    def peers(self, *, known: bool = False) -> Sequence[PeerView]:
        """The connected peers; with `known` all that are known."""

    def peer(self, peer: PeerId) -> PeerView | None:
        """One of them, with what is known of its addresses; None where nothing is known of it."""

    def conditions(self) -> Sequence[Condition]:
        """What its readiness is made of."""

    def topics(self) -> Sequence[gossip.TopicView]:
        """Every topic that is joined or that peers have announced."""

    def history(self) -> Sequence[HistoryView]:
        """How getting what is missing of topics with history stands."""

    def rules(self) -> Sequence[gossip.RuleView]:
        """The rules that messages are judged by."""

    def participation(self) -> Participation:
        """With how many peers it does what."""

    def statistics(self) -> NodeStatistics:
        """Its counters and sizes."""

    def histograms(self) -> Mapping[str, Histogram]:
        """What it counts by size, by name."""

    def addresses(self) -> Addresses:
        """Where it is."""
