"""What a run's report says, as records: equal runs have equal ones."""

import math
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

from .hostile_report import hostile_records
from .limit import shortest
from .play import Play
from .tally import Message, RunCounts, first_copies

_MAX_PATHS = 64  # publishers whose shortest paths are sought: each takes as long as some hundred copies
_DIGITS = 6  # behind the point; a microsecond
_SHARES = (*range(100), 99.5, 99.9, 100)  # percent; of a curve's points
COLUMN = 0.5  # copies; how wide the columns of their histogram are

Record = dict[str, Any]
Run = Sequence[Record]
"""The records of one run."""


def records(play: Play) -> list[Record]:
    """The report: equal runs have equal ones."""
    scenario, tally, clock = play.scenario, play.tally, play.simulation.clock
    counts, honest = tally.counts(play.honest), play.honest
    report: list[Record] = [
        {
            "record": "run",
            "scenario": scenario.name,
            "about": scenario.about,
            "seed": play.seed,
            "settings": dict(scenario.settings),
            "nodes": scenario.nodes,
            "kinds": {kind.name: kind.count for kind in scenario.kinds},
            "hostile": scenario.nodes - scenario.honest,
            "duration": scenario.duration,
            "played": _rounded(clock.now),
            "whole": clock.now >= scenario.duration,
            "node_seconds": _rounded(tally.up_seconds),
            "up_at_end": sum(peer.alive for peer in play.peers),
            "unpublished": tally.unpublished,
        }
    ]
    messages = [_message(play, number, message) for number, message in enumerate(tally.messages)]
    report += _deliveries(play, messages)
    before = tally.before or RunCounts()
    report += _limit(play)
    report += _hops(play)
    report.append(_copies(play, counts))
    report += [
        {
            "record": "bytes",
            "service": service,
            "sent": counts.sent[service],
            "sent_before_first_message": before.sent[service],
            "per_node_second": _rounded(counts.sent[service] / tally.up_seconds) if tally.up_seconds else None,
        }
        for service in sorted(counts.sent)
    ]
    report += _meshes(play)
    if scenario.honest < scenario.nodes:
        report += hostile_records(play)
    report.append(
        {
            "record": "connections",
            **_spread(degrees := [len(peer.links) for peer in honest if peer.alive]),
            "histogram": _histogram(degrees),
            "to_hostile": _to_hostile(play),
            "dials": sum(peer.dials for peer in honest),
            "trimmed": counts.trimmed,
            "streams": counts.streams,
            "streams_failed": counts.streams_failed,
        }
    )
    report.append(
        {
            "record": "dht",
            "lookups": counts.lookups,
            "found": counts.outcomes["found"] + counts.outcomes["walked"],
            "outcomes": dict(sorted(counts.outcomes.items())),
            "hops": _bounded(counts.lookup_hops),
            "questions_per_lookup": _bounded(counts.lookup_questions),
            "questions": counts.queries,
            "questions_failed": counts.queries_failed,
            "questions_answered_for_others": counts.requests,
            "questions_per_node": _rounded(counts.queries / len(honest)) if honest else None,
        }
    )
    return report + [record for record, _ in messages]


def _message(play: Play, number: int, message: Message) -> tuple[Record, list[float]]:
    """The record of a message, and its delays to those whom it was owed, in order."""
    owed = set(message.owed)  # only asked, never iterated
    arrived = {peer: delay for peer, delay in zip(message.receivers, message.delays, strict=True) if peer in owed}
    missed = [peer for peer in message.owed if peer not in arrived and play.still_there(peer, message.at)]
    delays = sorted(arrived.values())
    last = max(arrived, key=lambda peer: (arrived[peer], peer)) if arrived else None
    return {
        "record": "message",
        "number": number,
        "publish": message.publication + 1,
        "topic": message.topic,
        "publisher": message.publisher,
        "at": _rounded(message.at),
        "owed": len(message.owed),
        "received": len(arrived),
        "missed": len(missed),
        "missed_by": missed[:20],
        "late_comers": len(message.receivers) - len(arrived),
        **_quantiles(delays),
        "last_receiver": last,
    }, delays


def _deliveries(play: Play, messages: Sequence[tuple[Record, list[float]]]) -> Iterator[Record]:
    """All messages together, then those of each `[[publish]]`."""
    for number in range(len(play.scenario.publications) + 1):
        chosen = [(record, delays) for record, delays in messages if number in (0, record["publish"])]
        if not chosen or (number and len(play.scenario.publications) == 1):
            continue
        last = sorted(delays[-1] for _, delays in chosen if delays)
        yield {
            "record": "deliveries",
            "publish": number or "all",
            "messages": len(chosen),
            "owed": sum(record["owed"] for record, _ in chosen),
            "received": sum(record["received"] for record, _ in chosen),
            "missed": sum(record["missed"] for record, _ in chosen),
            "delay": _quantiles(sorted(delay for _, delays in chosen for delay in delays)),
            "last_receiver": _quantiles(last),
        }
        if not number:
            yield from _curve("delay", sorted(delay for _, delays in chosen for delay in delays))
            yield from _curve("last_receiver", last)


def _limit(play: Play) -> Iterator[Record]:
    """The delays that were, beside those of the shortest paths between the same nodes, as connected at the end."""
    paths: dict[tuple[int, int], dict[int, float]] = {}
    best: list[float] = []
    real: list[float] = []
    for message in play.tally.messages:
        publisher, size = play.peers[message.publisher - 1], play.scenario.publications[message.publication].size
        key = (publisher.index, size)
        if key not in paths:
            if not publisher.alive or len(paths) >= _MAX_PATHS:
                continue
            paths[key] = shortest(play, publisher, size)
        owed = set(message.owed)  # only asked, never iterated
        for receiver, delay in zip(message.receivers, message.delays, strict=True):
            if receiver in owed and receiver in paths[key]:
                best.append(paths[key][receiver])
                real.append(delay)
    if best:
        best.sort()
        real.sort()
        shares = {f"p{percent}": percent / 100 for percent in (50, 99)}
        yield {
            "record": "limit",
            "path": {name: _rounded(quantile(best, share)) for name, share in shares.items()},
            "delay": {name: _rounded(quantile(real, share)) for name, share in shares.items()},
            "ratio": {name: _rounded(quantile(real, share) / quantile(best, share)) for name, share in shares.items()},
        }
        yield from _curve("shortest_path", best)


def _hops(play: Play) -> Iterator[Record]:
    """How often messages were sent on until those had them whom they were owed to."""
    counted: Counter[int] = Counter()
    for message in play.tally.messages:
        counted.update(hops for peer in message.owed if (hops := message.hops[peer]))
    if counted:
        yield {"record": "hops", **_spread(list(counted.elements())), "histogram": sorted(map(list, counted.items()))}


def _copies(play: Play, counts: RunCounts) -> Record:
    counted = [peer.node.statistics().gossip for peer in play.honest if peer.alive]
    own = [gossip.received / firsts for gossip in counted if (firsts := first_copies(gossip))]
    return {
        "record": "copies",
        "copies": counts.copies,
        "deliveries": counts.deliveries,
        "per_delivery": _rounded(counts.copies / counts.deliveries) if counts.deliveries else None,
        "per_node": _spread(list(map(_rounded, own))),
        "histogram": _histogram([int(copies / COLUMN) * COLUMN for copies in own]),
        "fetched_by_iwant": counts.asked,
        "spared_by_idontwant": counts.spared,
    }


def _meshes(play: Play) -> Iterator[Record]:
    """How many mesh links nodes have in each topic, and how many of these the other side does not know of."""
    meshes: dict[str, dict[bytes, frozenset[bytes]]] = {}
    honest = {peer.index for peer in play.honest}
    hostile = {peer.identity.peer_id for peer in play.peers if peer.index not in honest}
    for peer in play.honest:
        if peer.alive:
            for view in peer.node.topics():
                if view.joined:
                    meshes.setdefault(view.topic, {})[peer.identity.peer_id] = frozenset(view.mesh)
    for topic, mesh in sorted(meshes.items()):
        one_sided = sum(other in mesh and own not in mesh[other] for own, links in mesh.items() for other in links)
        yield {
            "record": "mesh",
            "topic": topic,
            **_spread(degrees := [len(links) for links in mesh.values()]),
            "histogram": _histogram(degrees),
            "one_sided": one_sided,
            "to_hostile": _share([other in hostile for links in mesh.values() for other in links]),
        }


def _to_hostile(play: Play) -> float | None:
    """The share of honest nodes' connections that lead to hostile ones."""
    honest = {peer.index for peer in play.honest}
    ends = [link.far.peer.index for peer in play.honest if peer.alive for link in peer.links.values()]
    return _share([index not in honest for index in ends])


def _share(found: Sequence[bool]) -> float | None:
    return _rounded(sum(found) / len(found)) if found else None


def _quantiles(delays: Sequence[float]) -> Record:
    """Of sorted values."""
    if not delays:
        return {"p50": None, "p90": None, "p99": None, "max": None}
    found = {f"p{percent}": _rounded(quantile(delays, percent / 100)) for percent in (50, 90, 99)}
    return {**found, "max": _rounded(delays[-1])}


def _curve(of: str, ordered: Sequence[float]) -> Iterator[Record]:
    """The values that so many percent of sorted ones are not above; the least of them at 0."""
    if ordered:
        values = [_rounded(quantile(ordered, percent / 100)) for percent in _SHARES]
        yield {"record": "curve", "of": of, "percent": _SHARES, "values": values}


def _histogram(values: Sequence[float]) -> list[list[float]]:
    """Each value and how many there are of it, the least first."""
    return sorted(map(list, Counter(values).items()))


def _bounded(counted: Counter[float]) -> list[list[float | None]]:
    """Upper bounds and how many belong to each; the bound of the last, which is over all others, is None."""
    return [[None if bound == math.inf else bound, count] for bound, count in sorted(counted.items())]


def _spread(values: Sequence[float]) -> Record:
    if not values:
        return {"min": None, "p50": None, "p99": None, "max": None}
    ordered = sorted(values)
    return {
        "min": ordered[0],
        "p50": quantile(ordered, 0.5),
        "p99": quantile(ordered, 0.99),
        "max": ordered[-1],
    }


def quantile(ordered: Sequence[Any], share: float) -> Any:
    """The least of the sorted values that is not below so large a share of them."""
    return ordered[min(len(ordered) - 1, max(0, -int(-share * len(ordered) // 1) - 1))]


def _rounded(value: float) -> float:
    return round(value, _DIGITS)
