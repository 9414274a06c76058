"""What no protocol can beat: the shortest path over the connections that nodes have."""

import heapq

from ..sim import SimPeer
from .play import Play


def shortest(play: Play, source: SimPeer, size: int) -> dict[int, float]:
    """How soon `size` bytes can be at each node, by index, over the connections that are open now.

    Every node sends to the right one first: one latency a hop, and the time that the bytes take by the uplink or the
    downlink, whichever is slower.
    """
    simulation = play.simulation
    rates = [rate for rate in (simulation.model.uplink, simulation.model.downlink) if rate]
    leaving = size / min(rates) if rates else 0.0
    found: dict[int, float] = {}
    waiting: list[tuple[float, int, SimPeer]] = [(0.0, source.index, source)]
    while waiting:
        delay, index, peer = heapq.heappop(waiting)
        if index in found:
            continue
        found[index] = delay
        for link in peer.links.values():
            other = link.far.peer
            if other.index not in found and other.alive and simulation.connected(peer, other):
                at = delay + leaving + link.latency
                heapq.heappush(waiting, (at, other.index, other))
    return found
