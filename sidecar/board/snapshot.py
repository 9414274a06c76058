"""A snapshot of the node as JSON can hold it, made from samples by functions without a clock or a socket."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from sidecar_client import (
    Condition,
    Histogram,
    NodeEvent,
    NodeInfo,
    Peer,
    PeerPath,
    PeerScore,
    Reachability,
    Topic,
)

from .sample import Gone, Sample

Snapshot = dict[str, Any]

_KEYED = ("peers", "topics", "events")  # parts of which only the entries that changed are sent

# What waits for somebody: the statistic, what it is, its unit.
QUEUES = (
    ("gossip_queued_messages", "Gossip waiting for slow peers", "messages"),
    ("gossip_queued_bytes", "Their size", "bytes"),
    ("gossip_fullest_queue_bytes", "Of that, for the slowest peer", "bytes"),
    ("direct_queued_bytes", "Direct messages waiting for peers", "bytes"),
    ("net_buffered", "Written, waiting for sockets", "bytes"),
    ("net_dials_queued", "Dials waiting for their turn", "dials"),
    ("dht_waiting_lookups", "Lookups waiting for their turn", "lookups"),
    ("api_operations", "Calls of apps waiting for the node", "calls"),
)

# What is on disk for somebody: the same. Nodes that keep nothing show none of it.
KEPT = (
    ("durable_outbox_messages", "Durable messages for peers", "messages"),
    ("durable_inbox_messages", "Durable messages for apps here", "messages"),
    ("durable_dead_letters", "Dead letters", "messages"),
    ("history_messages", "Messages of topics with history", "messages"),
    ("history_bytes", "Their size", "bytes"),
    ("history_waiting_bytes", "Of that, on its way to the disk", "bytes"),
)

# What was lost, since the start: the statistic, or the beginning of the names of several.
LOSSES = (
    ("gossip_dropped_", "Gossip dropped"),
    ("gossip_rejected_", "Gossip rejected"),
    ("direct_messages_dropped", "Direct messages refused: a bound was reached"),
    ("api_subscribers_missed", "Missed by apps that read topics too slowly"),
    ("api_receivers_missed", "Missed by apps that read direct messages too slowly"),
    ("api_receivers_refused", "Direct messages without room at any app"),
    ("history_missed", "Messages of topics with history that the disk did not take"),
    ("net_refused", "Connections refused: a bound was reached"),
    ("net_dials_failed", "Dials that reached nobody"),
    ("net_internal_errors", "Defects that were caught; the log has each"),
)

# How a peer is reached, in a word.
PATHS = {
    PeerPath.UNSPECIFIED: "",
    PeerPath.DIRECT: "direct",
    PeerPath.RELAYED: "relayed",
    PeerPath.RELAYED_LIMITED: "limited",
}
_RELAYED = (PeerPath.RELAYED, PeerPath.RELAYED_LIMITED)

# Named in the tiles: a rate's name, and the counters it is the sum of.
RATES = {
    "received": ("gossip_received", "direct_messages_received"),
    "sent": ("gossip_sent", "direct_messages_sent"),
    "delivered": ("gossip_delivered",),
    "published": ("gossip_published",),
    "duplicates": ("gossip_duplicates",),
    "bytes_in": ("net_bytes_in",),
    "bytes_out": ("net_bytes_out",),
}


def snapshot(now: Sample, before: Sample | None = None, earlier: Sample | None = None) -> Snapshot:
    """What is shown.

    `now`: the newest sample.
    `before`: one from some seconds ago, from which rates are computed; None: none are known yet.
    `earlier`: one from a longer while ago, from which the recent part of histograms is.

    Samples of another run of the sidecar count as None. Numbers are as in the API; rates are per second, None where
    they are not known.
    """
    before = _same_run(before, now)
    earlier = _same_run(earlier, now)
    rate = _Rates(now, before)
    mesh = _mesh_of_peers(now.topics)
    # As the API's moments are: the node's monotonic clock counts what lies between them, whoever sets the other one.
    time = now.node.start_time + now.node.uptime
    return {
        "time": time,
        "uptime": now.node.uptime,  # not a difference of moments: clocks are set
        "node": _node(now.node),
        "readiness": {
            "ready": now.readiness.ready,
            "conditions": [_condition(condition) for condition in now.readiness.conditions],
        },
        "totals": {
            "peers": len(now.peers),
            "inbound": sum(peer.direction.name == "INBOUND" for peer in now.peers),
            "outbound": sum(peer.direction.name == "OUTBOUND" for peer in now.peers),
            "relayed": sum(peer.path in _RELAYED for peer in now.peers),
            "known": int(now.values.get("peers_known", len(now.peers))),
            "latency": _median([peer.latency for peer in now.peers if peer.latency is not None]),
            "rates": {name: rate.of(*counters) for name, counters in RATES.items()},
            "lost": rate.of(*(loss["name"] for loss in _losses(now, rate))),
        },
        "peers": {
            **{gone.peer.peer_id: _gone(gone, time - (now.at - gone.at)) for gone in now.gone},
            **{peer.peer_id: _peer(peer, mesh.get(peer.peer_id, ())) for peer in now.peers},
        },
        "topics": {topic.name: _topic(topic, rate) for topic in now.topics},
        "queues": _amounts(QUEUES, now.values),
        "kept": [amount for amount in _amounts(KEPT, now.values) if amount["value"]],
        "losses": [loss for loss in _losses(now, rate) if loss["count"]],
        "histograms": {
            name: _histogram(histogram, earlier.histograms.get(name) if earlier is not None else None)
            for name, histogram in now.histograms.items()
        },
        "objective": _objective(now.values),
        "events": {str(number): _event(event) for number, event in now.events.items()},
    }


def changes(old: Snapshot, new: Snapshot) -> dict[str, Any]:
    """What turns one snapshot into another: `merge` undoes nothing but carries this out.

    A part that is the same is left out. Of peers, topics and events only entries that changed are given, under `set`,
    and the names of those that are gone, under `gone`.
    """
    found: dict[str, Any] = {}
    for part, value in new.items():
        was = old.get(part)
        if part in old and value == was:
            continue
        if part in _KEYED and was is not None:
            found[part] = {
                "set": {name: entry for name, entry in value.items() if was.get(name) != entry},
                "gone": [name for name in was if name not in value],
            }
        else:
            found[part] = value
    return found


def merge(old: Snapshot, found: Mapping[str, Any]) -> Snapshot:
    """The new snapshot, from the old one and its `changes`; the page does the same."""
    merged = dict(old)
    for part, value in found.items():
        if part in _KEYED and part in old:
            gone = set(value["gone"])
            merged[part] = {name: entry for name, entry in old[part].items() if name not in gone} | value["set"]
        else:
            merged[part] = value
    return merged


def quantile(bounds: Sequence[float], counts: Sequence[int], share: float) -> float | None:
    """The value below which `share` of a histogram's observations lie, interpolated within its bucket.

    None without observations; the last bound where it lies beyond, as nothing more is known.
    """
    total = sum(counts)
    if not total:
        return None
    rank = share * total
    below = 0
    for index, bound in enumerate(bounds):
        if counts[index] and below + counts[index] >= rank:
            low = bounds[index - 1] if index else 0.0
            return low + (bound - low) * (rank - below) / counts[index]
        below += counts[index]
    return bounds[-1] if bounds else None


class _Rates:
    """Differences of counters between two samples, per second."""

    def __init__(self, now: Sample, before: Sample | None) -> None:
        self._now = now
        self._before = before
        self._seconds = now.at - before.at if before is not None else 0.0
        self._topics = {topic.name: topic for topic in before.topics} if before is not None else {}

    def of(self, *counters: str) -> float | None:
        """How fast these statistics grow together; None where that is not known."""
        if self._before is None or not any(name in self._now.values for name in counters):
            return None
        return self._each(
            sum(self._now.values.get(name, 0.0) for name in counters),
            sum(self._before.values.get(name, 0.0) for name in counters),
        )

    def topic(self, topic: Topic, counter: str) -> float | None:
        """How fast a counter of a topic grows."""
        if self._before is None:
            return None
        old = self._topics.get(topic.name)
        return self._each(getattr(topic, counter), getattr(old, counter) if old is not None else 0)

    def _each(self, new: float, old: float) -> float | None:
        # A counter that went back began anew, as those of a topic do that was left and joined again.
        return (new - old) / self._seconds if self._seconds > 0 and new >= old else None


def _same_run(old: Sample | None, now: Sample) -> Sample | None:
    return old if old is not None and old.node.start_time == now.node.start_time else None


def _node(node: NodeInfo) -> dict[str, Any]:
    return {
        "peer_id": node.peer_id,
        "network": node.network,
        "agent": node.agent,
        "version": node.version,
        "listening": list(node.listening_addresses),
        "announced": list(node.announced_addresses),
        "observed": list(node.observed_addresses),
        "relayed": list(node.relayed_addresses),
        "reachability": reachability(node.reachability),
        "tried": [
            {"address": each.address, "reachability": reachability(each.reachability)} for each in node.addresses
        ],
        "started": node.start_time,
    }


def reachability(found: Reachability) -> str:
    """A verdict for people: "not reachable"; "unknown" of an earlier sidecar, too."""
    return (Reachability.UNKNOWN if found is Reachability.UNSPECIFIED else found).name.lower().replace("_", " ")


def _condition(condition: Condition) -> dict[str, Any]:
    return {
        "type": condition.type,
        "met": condition.met,
        "reason": condition.reason,
        "message": condition.message,
        "remedy": condition.remedy,
        "since": condition.since,
    }


def _peer(peer: Peer, mesh: Iterable[str]) -> dict[str, Any]:
    return {
        "direction": peer.direction.name.lower(),
        "path": PATHS[peer.path],
        "latency": peer.latency,
        "agent": peer.agent,
        "identified": peer.identified,
        "remote": peer.remote_address,
        "addresses": list(peer.addresses),
        "protocols": list(peer.protocols),
        "protocol_version": peer.protocol_version,
        "since": peer.connect_time,
        "connections": peer.connections,
        "mesh": list(mesh),
        "score": None if peer.score is None else _score(peer.score),
        "gone": None,
    }


def _score(score: PeerScore) -> dict[str, Any]:
    # To the tenth: what changes is sent to each page, and scores change with each heartbeat.
    return {"score": round(score.score, 1), "standing": score.standing.name.lower(), "reason": score.reason}


def _gone(gone: Gone, time: float) -> dict[str, Any]:
    return {**_peer(gone.peer, ()), "gone": {"time": time, "reason": gone.reason}}


def _topic(topic: Topic, rate: _Rates) -> dict[str, Any]:
    counters = ("delivered", "published", "duplicates", "rejected", "dropped")
    return {
        "subscribed": topic.subscribed,
        "signed": topic.signing.name != "STRICT_NO_SIGN",
        "peers": topic.peers,
        "mesh": list(topic.mesh_peer_ids),
        "subscribers": topic.subscribers,
        "history": topic.history_messages,
        **{counter: getattr(topic, counter) for counter in counters},
        "rates": {counter: rate.topic(topic, counter) for counter in counters},
    }


def _amounts(listed: Iterable[tuple[str, str, str]], values: Mapping[str, float]) -> list[dict[str, Any]]:
    return [
        {"name": name, "what": what, "unit": unit, "value": values[name]}
        for name, what, unit in listed
        if name in values
    ]


def _losses(now: Sample, rate: _Rates) -> list[dict[str, Any]]:
    found = []
    for beginning, what in LOSSES:
        for name in sorted(name for name in now.values if _belongs(name, beginning)):
            reason = name.removeprefix(beginning).replace("_", " ")
            text = f"{what}: {reason}" if reason else what
            found.append({"name": name, "what": text, "count": now.values[name], "rate": rate.of(name)})
    return found


def _belongs(name: str, beginning: str) -> bool:
    return name.startswith(beginning) if beginning.endswith("_") else name == beginning


def _histogram(new: Histogram, old: Histogram | None) -> dict[str, Any]:
    """Since the start, and `recent`: since the earlier sample; None where that is not known."""
    recent = None
    if old is not None and old.upper_bounds == new.upper_bounds:
        recent = [count - before for count, before in zip(new.counts, old.counts, strict=True)]
    shown = recent if recent is not None else new.counts
    return {
        "bounds": list(new.upper_bounds),
        "counts": list(new.counts),
        "recent": recent,
        "median": quantile(new.upper_bounds, shown, 0.5),
        "p95": quantile(new.upper_bounds, shown, 0.95),
    }


def _objective(values: Mapping[str, float]) -> dict[str, Any] | None:
    """What is wanted of broadcasts and what is the case; None where nothing is wanted."""
    seconds = values.get("probe_objective", 0.0)
    if not seconds:
        return None
    wanted, share = values["probe_objective_share"], values["probe_in_time_share"]
    judged = sum(value for name, value in values.items() if name.startswith("probe_judged_"))
    return {"seconds": seconds, "wanted": wanted, "share": share if judged else None, "met": share >= wanted}


def _event(event: NodeEvent) -> dict[str, Any]:
    return {
        "time": event.time,
        "severity": event.severity,
        "part": event.part,
        "message": event.message,
        "fields": dict(event.fields),
    }


def _mesh_of_peers(topics: Iterable[Topic]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for topic in topics:
        for peer_id in topic.mesh_peer_ids:
            found.setdefault(peer_id, []).append(topic.name)
    return found


def _median(values: list[float]) -> float | None:
    return sorted(values)[len(values) // 2] if values else None
