"""What a run counts: who got which message when, and what nodes counted themselves, those that died included."""

import math
from array import array
from collections import Counter
from dataclasses import field

from ..core.classes import dataclass
from ..core.gossip import GossipStatistics
from ..core.histogram import Histogram
from ..core.node import Node
from ..sim import SimPeer

_MOST_HOPS = 255


@dataclass(slots=True)
class Message:
    """A published message."""

    publication: int
    topic: str
    publisher: int
    at: float
    owed: "array[int]"
    """The indices of the nodes that were up, subscribed, settled and within reach, without the publisher's."""
    hops: bytearray
    """By index of a node, how often it was sent until it was there; 0: it is not there, or that cannot be known."""
    receivers: "array[int]" = field(default_factory=lambda: array("L"))
    delays: "array[float]" = field(default_factory=lambda: array("d"))

    def arrives(self, receiver: int, source: int, delay: float) -> None:
        """A node has got it, for the first time since it started, from another one."""
        before = self.hops[source]
        if before or source == self.publisher:
            self.hops[receiver] = min(before + 1, _MOST_HOPS)
        self.receivers.append(receiver)
        self.delays.append(delay)


@dataclass(slots=True)
class RunCounts:
    """Numbers of all nodes together."""

    copies: int = 0
    """Of messages that came in, by the mesh or by IWANT."""
    deliveries: int = 0
    """Of them, the first ones: apps got them."""
    asked: int = 0
    """Of the copies, those that were fetched by IWANT."""
    spared: int = 0
    """Copies not sent, since the peer had said IDONTWANT."""
    queries: int = 0
    queries_failed: int = 0
    requests: int = 0
    lookups: int = 0
    streams: int = 0
    streams_failed: int = 0
    trimmed: int = 0
    outcomes: Counter[str] = field(default_factory=Counter)
    """How lookups ended."""
    lookup_hops: Counter[float] = field(default_factory=Counter)
    """Lookups that somebody answered, by upper bounds of the hops that they took; infinite for all that took more."""
    lookup_questions: Counter[float] = field(default_factory=Counter)
    """Lookups, likewise by the questions that they asked."""
    sent: Counter[str] = field(default_factory=Counter)
    """Bytes of payload, by service."""

    def add(self, node: Node) -> None:
        """Add what one node has counted."""
        counted, sizes = node.statistics(), node.histograms()
        gossip, dht, switch = counted.gossip, counted.kademlia, counted.switch
        self.copies += gossip.received
        self.deliveries += first_copies(gossip)
        self.asked += gossip.iwant_messages_sent
        self.spared += gossip.idontwant_suppressed
        self.queries += dht.queries
        self.queries_failed += dht.failed_queries
        self.requests += dht.requests
        self.lookups += dht.lookups
        self.streams += switch.streams_opened
        self.streams_failed += switch.streams_failed
        self.trimmed += counted.connection_manager.connections_trimmed
        self.outcomes.update(dht.outcomes)
        self.lookup_hops.update(_bounded(sizes["dht_lookup_hops"]))
        self.lookup_questions.update(_bounded(sizes["dht_lookup_queries"]))
        self.sent.update(switch.stream_bytes_sent)


class Tally:
    """Gathers over a run."""

    def __init__(self) -> None:
        self.messages: list[Message] = []
        self.unpublished = 0
        """Messages whose publishers were all down."""
        self.late = 0
        """Deliveries to nodes that a message was not owed to: they came after it, or from another part."""
        self.gone = RunCounts()
        """Of nodes that died."""
        self.before: RunCounts | None = None
        """Of all, at the moment before the first message was published."""
        self.up_seconds = 0.0
        """Of all nodes together."""

    def dies(self, peer: SimPeer, up: float) -> None:
        """Keep what a node has counted that is about to die after `up` seconds."""
        self.gone.add(peer.node)
        self.up_seconds += up

    def counts(self, peers: list[SimPeer]) -> RunCounts:
        """What all nodes have counted until now."""
        counts = RunCounts()
        _join(counts, self.gone)
        for peer in peers:
            if peer.alive:
                counts.add(peer.node)
        return counts


def first_copies(gossip: GossipStatistics) -> int:
    """Messages that a node got and took; the other copies were duplicates, or no good."""
    return gossip.received - gossip.duplicates - sum(gossip.rejected.values())


def _bounded(histogram: Histogram) -> dict[float, int]:
    return dict(zip((*histogram.bounds, math.inf), histogram.counts, strict=True))


def _join(counts: RunCounts, more: RunCounts) -> None:
    for name in RunCounts.__dataclass_fields__:
        value = getattr(more, name)
        if isinstance(value, Counter):
            getattr(counts, name).update(value)
        else:
            setattr(counts, name, getattr(counts, name) + value)
