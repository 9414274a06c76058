"""What a report says of hostile nodes: where honest ones have them, and what these think of them."""

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

from ..core.events import Standing
from ..core.types import PeerId
from ..sim import SimPeer
from .play import Play

_DIGITS = 6


def hostile_records(play: Play) -> Iterator[dict[str, Any]]:
    """The record `hostile` of all honest nodes, and one of each kind of these where there are several."""
    kinds = [kind.name for kind in play.scenario.kinds if kind.hostility is None]
    honest = [(peer, kind.name) for peer, kind in zip(play.peers, play.kinds, strict=True) if kind.hostility is None]
    hostile = {
        peer.identity.peer_id for peer, kind in zip(play.peers, play.kinds, strict=True) if kind.hostility is not None
    }  # only asked, never iterated
    for chosen in (None, *(kinds if len(kinds) > 1 else ())):
        peers = [peer for peer, kind in honest if peer.alive and chosen in (None, kind)]
        yield {"record": "hostile", "at": chosen or "all", **_seen_by(peers, hostile)}


def _seen_by(peers: Sequence[SimPeer], hostile: set[PeerId]) -> dict[str, Any]:
    scores: dict[bool, list[float]] = {True: [], False: []}
    standings: Counter[Standing] = Counter()
    links: Counter[bool] = Counter()
    dialled: Counter[bool] = Counter()
    meshes: Counter[bool] = Counter()
    regular: Counter[bool] = Counter()
    tables: Counter[bool] = Counter()
    refused: Counter[str] = Counter()
    misbehaviour: Counter[str] = Counter()
    vain: Counter[str] = Counter()
    for peer in peers:
        for link in peer.links.values():
            bad = link.far.peer.identity.peer_id in hostile
            links[bad] += 1
            dialled[bad] += link.outbound
        for topic in peer.node.topics():
            if topic.joined:
                meshes.update(other in hostile for other in topic.mesh)
                regular.update(other in hostile for other in topic.mesh if other not in topic.dependents)
        tables.update(other in hostile for bucket in peer.node.routing_table() for other in bucket.peers)
        for view in peer.node.peers():
            if view.score is not None:
                scores[view.peer in hostile].append(view.score.score)
                if view.peer in hostile:
                    standings[view.score.standing] += 1
        misbehaviour.update(peer.node.statistics().gossip.misbehaviour)
        vain.update(peer.vain)
        if peer.admission is not None:
            refused.update(+peer.admission.refused)
    return {
        "nodes": len(peers),
        "connections": _share(links),
        "dialled": _share(dialled),
        "mesh": _share(meshes),
        "mesh_regular": _share(regular),
        "table": _share(tables),
        "scores": {"hostile": _spread(scores[True]), "honest": _spread(scores[False])},
        "standing": {standing.name.lower(): standings[standing] for standing in Standing},
        "misbehaviour": {kind: count for kind, count in sorted(misbehaviour.items()) if count},
        "refused": dict(sorted(refused.items())),
        "dials_in_vain": sum(vain.values()),
        "dials_in_vain_to_one_address": max(vain.values(), default=0),
    }


def _share(found: Counter[bool]) -> float | None:
    """What part is of hostile ones."""
    return round(found[True] / found.total(), _DIGITS) if found.total() else None


def _spread(values: Sequence[float]) -> dict[str, float | None]:
    if not values:
        return {"min": None, "p50": None, "max": None}
    ordered = sorted(values)
    middle = ordered[(len(ordered) - 1) // 2]
    return {name: round(value, _DIGITS) for name, value in (("min", ordered[0]), ("p50", middle), ("max", ordered[-1]))}
