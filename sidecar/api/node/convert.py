"""Messages of `node.proto`."""

from collections.abc import Iterable, Mapping, Sequence
from math import isfinite

from sidecar_client.v1 import node_pb2 as pb
from sidecar_client.v1.common_pb2 import LAG_REASON_SLOW_READER, Lagged

from ... import __version__
from ...config.describe import Setting
from ...core.autonat import Reachability
from ...core.events import Condition, PortsMapped
from ...core.histogram import Histogram
from ...core.types import PeerId
from ...process.journal import JournalEntry
from ..common.values import duration, wall_time
from ..surface import Addresses

REACHABILITIES = {
    Reachability.UNKNOWN: pb.REACHABILITY_UNKNOWN,
    Reachability.CONFIRMED: pb.REACHABILITY_CONFIRMED,
    Reachability.UNREACHABLE: pb.REACHABILITY_NOT_REACHABLE,
}


def node(
    *,
    peer_id: PeerId,
    network: str,
    agent: str,
    addresses: Addresses,
    started: float,
    now: float,
    epoch_ns: int,
    engine: str,
) -> pb.GetNodeResponse:
    return pb.GetNodeResponse(
        node=pb.Node(
            peer_id=str(peer_id),
            network=network,
            agent=agent,
            version=__version__,
            listening_addresses=map(str, addresses.listening),
            announced_addresses=map(str, addresses.announced),
            observed_addresses=map(str, addresses.observed),
            start_time=wall_time(started, epoch_ns),
            uptime=duration(now - started),
            reachability=REACHABILITIES[addresses.verdict],
            addresses=[
                pb.AddressReachability(
                    address=str(each.address),
                    reachability=REACHABILITIES[each.verdict],
                    source=each.source.value,
                    since=wall_time(each.since, epoch_ns),
                    proofs=each.proofs,
                    failures=each.failures,
                )
                for each in addresses.verdicts
            ],
            api_engine=engine,
            relayed_addresses=map(str, addresses.relayed),
            port_mapping=_port_mapping(addresses.mapping, epoch_ns),
        )
    )


def _port_mapping(mapping: PortsMapped, epoch_ns: int) -> pb.PortMapping:
    return pb.PortMapping(
        state=mapping.state.value,
        message=mapping.message,
        remedy=mapping.remedy,
        gateway=mapping.gateway,
        protocol=mapping.protocol,
        ports=[
            pb.MappedPort(
                address=str(each.address),
                port=each.port,
                expire_time=wall_time(each.ends_at, epoch_ns) if isfinite(each.ends_at) else None,
            )
            for each in mapping.mappings
        ],
    )


def _readiness(conditions: Sequence[Condition], epoch_ns: int) -> pb.Readiness:
    return pb.Readiness(
        ready=all(condition.met for condition in conditions),
        conditions=[
            pb.Condition(
                type=condition.type,
                met=condition.met,
                reason=condition.reason,
                message=condition.message,
                remedy=condition.remedy,
                since=wall_time(condition.since, epoch_ns),
            )
            for condition in conditions
        ],
    )


def readiness(conditions: Sequence[Condition], epoch_ns: int) -> pb.GetReadinessResponse:
    return pb.GetReadinessResponse(readiness=_readiness(conditions, epoch_ns))


def readiness_event(conditions: Sequence[Condition], epoch_ns: int) -> pb.WatchReadinessResponse:
    return pb.WatchReadinessResponse(readiness=_readiness(conditions, epoch_ns))


def statistics(values: Mapping[str, int | float], histograms: Mapping[str, Histogram]) -> pb.GetStatisticsResponse:
    return pb.GetStatisticsResponse(
        values={name: float(value) for name, value in values.items()},
        histograms=[
            pb.Histogram(name=name, upper_bounds=counted.bounds, counts=counted.counts, sum=counted.total)
            for name, counted in sorted(histograms.items())
        ],
    )


def configuration(settings: Iterable[Setting]) -> pb.GetConfigurationResponse:
    return pb.GetConfigurationResponse(
        entries=[
            pb.ConfigurationEntry(name=entry.name, value=entry.value, source=entry.source, reloadable=entry.live)
            for entry in settings
        ]
    )


def log_entries(entries: Sequence[JournalEntry], missed: int) -> pb.WatchEventsResponse:
    return pb.WatchEventsResponse(
        events=[
            pb.NodeEvent(
                time=wall_time(entry.time, 0),
                severity=entry.severity,
                part=entry.part,
                message=entry.message,
                fields=entry.fields,
            )
            for entry in entries
        ],
        lagged=Lagged(missed=missed, reason=LAG_REASON_SLOW_READER) if missed else None,
    )


def log_levels(level: str, parts: Mapping[str, str]) -> pb.SetLogLevelResponse:
    return pb.SetLogLevelResponse(level=level, parts=parts)
