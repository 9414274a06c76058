"""What the API has answered at one time: the raw material of a snapshot."""

from collections.abc import Mapping, Sequence
from dataclasses import field

from sidecar_client import Histogram, NodeEvent, NodeInfo, Peer, Readiness, Topic

from ..core.classes import dataclass


@dataclass(frozen=True, slots=True)
class Gone:
    """A peer that was connected until `at` (monotonic seconds). `reason` is empty when in order."""

    peer: Peer
    at: float
    reason: str


@dataclass(frozen=True, slots=True)
class Sample:
    """Everything that is shown, as it was at `at` (monotonic seconds)."""

    at: float
    node: NodeInfo
    readiness: Readiness
    values: Mapping[str, float]
    histograms: Mapping[str, Histogram] = field(default_factory=dict)
    peers: Sequence[Peer] = ()
    gone: Sequence[Gone] = ()
    topics: Sequence[Topic] = ()
    events: Mapping[int, NodeEvent] = field(default_factory=dict)
    """By number, in order; the numbers go up and none comes again."""
