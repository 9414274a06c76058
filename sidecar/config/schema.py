"""The configuration as a whole, and its keys as rows: what reads them, checks them and shows them goes by these."""

import dataclasses
from collections.abc import Iterable, Iterator
from dataclasses import field
from typing import Any

from ..core.classes import NamedTuple, dataclass
from .kinds import Kind
from .sections import (
    ApiSection,
    AuditSection,
    AutonatSection,
    BootstrapSection,
    DhtSection,
    DirectSection,
    DiscoverySection,
    DurableSection,
    GateSection,
    GossipSection,
    HistorySection,
    LimitsSection,
    ListenSection,
    LogSection,
    MetricsSection,
    NatSection,
    NetworkSection,
    PeersSection,
    ProbeSection,
    RelaySection,
    ScoreSection,
    StateSection,
    StreamsSection,
    TimeoutsSection,
    TracingSection,
)


@dataclass(frozen=True, slots=True)
class Config:
    """The configuration of one sidecar."""

    network: NetworkSection = field(default_factory=NetworkSection)
    listen: ListenSection = field(default_factory=ListenSection)
    bootstrap: BootstrapSection = field(default_factory=BootstrapSection)
    discovery: DiscoverySection = field(default_factory=DiscoverySection)
    state: StateSection = field(default_factory=StateSection)
    api: ApiSection = field(default_factory=ApiSection)
    autonat: AutonatSection = field(default_factory=AutonatSection)
    nat: NatSection = field(default_factory=NatSection)
    dht: DhtSection = field(default_factory=DhtSection)
    gossip: GossipSection = field(default_factory=GossipSection)
    score: ScoreSection = field(default_factory=ScoreSection)
    direct: DirectSection = field(default_factory=DirectSection)
    durable: DurableSection = field(default_factory=DurableSection)
    history: HistorySection = field(default_factory=HistorySection)
    streams: StreamsSection = field(default_factory=StreamsSection)
    probe: ProbeSection = field(default_factory=ProbeSection)
    peers: PeersSection = field(default_factory=PeersSection)
    relay: RelaySection = field(default_factory=RelaySection)
    gate: GateSection = field(default_factory=GateSection)
    limits: LimitsSection = field(default_factory=LimitsSection)
    timeouts: TimeoutsSection = field(default_factory=TimeoutsSection)
    log: LogSection = field(default_factory=LogSection)
    audit: AuditSection = field(default_factory=AuditSection)
    metrics: MetricsSection = field(default_factory=MetricsSection)
    tracing: TracingSection = field(default_factory=TracingSection)


class Key(NamedTuple):
    """One row of the table."""

    section: str
    name: str
    kind: Kind
    default: Any
    doc: str
    source: str
    flags: tuple[str, ...]
    live: bool
    """Whether a change takes effect on SIGHUP; else at the next start."""

    @property
    def full_name(self) -> str:
        """As messages and the documentation name it: `section.name`."""
        return f"{self.section}.{self.name}"

    @property
    def variable(self) -> str:
        """The environment variable that sets it."""
        return f"SIDECAR_{self.section}_{self.name}".upper()


DEFAULTS: dict[str, Any] = {section.name: getattr(Config(), section.name) for section in dataclasses.fields(Config)}


def sections() -> Iterator[tuple[str, str]]:
    """(name, one sentence) of every section, in order."""
    for section, default in DEFAULTS.items():
        yield section, str(type(default).__doc__)


def _keys() -> Iterator[Key]:
    for section, default in DEFAULTS.items():
        for entry in dataclasses.fields(default):
            data = entry.metadata
            own = f"--{section}-{entry.name}".replace("_", "-")
            flags = (data["flag"], own) if data["flag"] and data["flag"] != own else (own,)
            yield Key(
                section, entry.name, data["kind"], entry.default, data["doc"], data["source"], flags, data["live"]
            )


KEYS = {entry.full_name: entry for entry in _keys()}


def value(config: Config, entry: Key) -> Any:
    """What a key is set to."""
    return getattr(getattr(config, entry.section), entry.name)


def changed(old: Config, new: Config) -> list[Key]:
    """The keys whose values differ."""
    return [entry for entry in KEYS.values() if value(old, entry) != value(new, entry)]


def adopted(config: Config, other: Config, entries: Iterable[Key]) -> Config:
    """A configuration with some keys as in another one."""
    for entry in entries:
        section = dataclasses.replace(getattr(config, entry.section), **{entry.name: value(other, entry)})
        config = dataclasses.replace(config, **{entry.section: section})
    return config
