"""The configuration keys, section by section: kind, unit, default, meaning, and where the default comes from.

This is the one table. Reading, checking, `--help`, `sidecar config` and `docs/configuration.md` are all made from it.
"""

from .api import ApiSection
from .durable import DurableSection
from .gate import GateSection
from .history import HistorySection
from .nat import NatSection
from .network import BootstrapSection, DiscoverySection, ListenSection, NetworkSection, PeersSection
from .process import (
    AuditSection,
    LimitsSection,
    LogSection,
    MetricsSection,
    StateSection,
    TimeoutsSection,
    TracingSection,
)
from .protocols import AutonatSection, DhtSection, DirectSection, GossipSection, ProbeSection, StreamsSection
from .relay import RelaySection
from .score import ScoreSection

__all__ = [
    "ApiSection",
    "AuditSection",
    "AutonatSection",
    "BootstrapSection",
    "DhtSection",
    "DirectSection",
    "DiscoverySection",
    "DurableSection",
    "GateSection",
    "GossipSection",
    "HistorySection",
    "LimitsSection",
    "ListenSection",
    "LogSection",
    "MetricsSection",
    "NatSection",
    "NetworkSection",
    "PeersSection",
    "ProbeSection",
    "RelaySection",
    "ScoreSection",
    "StateSection",
    "StreamsSection",
    "TimeoutsSection",
    "TracingSection",
]
