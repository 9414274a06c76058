"""Links that mostly bring a peer what it has: large messages wait there a moment, and do not go if the peer shows them.

Most copies of a message cross each other: two peers that have it send it to each other before either can know. Which of
the two directions is of use hardly changes from one message to the next, as long as it comes from the same side. So it
is learnt which mesh peers have had the messages of a source from elsewhere; they are not sent the next ones at once.
An IDONTWANT or a copy says then that they need not be. One that says nothing gets the message, only a moment later, and
at once from then on. Nothing of this is seen on the wire, so it works with every implementation.
"""

import heapq
from collections.abc import Sequence
from typing import NamedTuple

from .messages import build_chunks
from .state import GossipPeer, GossipState, Topic
from .unwanted import Unwanted

# Measured with `python -m bench.propagation`, or guesses where it makes no difference.
_MEMORY = 15 / 16  # of what was learnt, with each message that is looked at
_JUDGED = 1.0  # seconds after which a peer has shown what it had from elsewhere
_SLACK = 0.01  # seconds that a message waits beyond what a peer usually takes, and four of its mean deviations
_LONGEST = 0.5  # seconds that a message waits at most
_GRID = 1 / 256  # seconds: messages that are due nearly at once go together
_MOST = 1024  # messages that wait
_MOST_BYTES = 8 << 20
_PAIRS = 1024  # of source and peer, in each topic


class _Held(NamedTuple):
    due: float
    number: int
    topic: Topic
    source: GossipPeer
    peers: list[GossipPeer]
    ids: Sequence[bytes]
    raws: Sequence[bytes]
    size: int


class _Watched(NamedTuple):
    """A message of which it is looked at who had it from elsewhere."""

    at: float
    topic: Topic
    source: GossipPeer
    targets: list[GossipPeer]


class SpareLinks:
    """Holds messages back, and learns from samples of them whom they were of use to."""

    def __init__(self, state: GossipState, unwanted: Unwanted) -> None:
        self._state = state
        self._unwanted = unwanted
        self._held: list[_Held] = []  # a heap
        self._watched: dict[bytes, _Watched] = {}  # no more than samples of `propagation`; in the order of their coming
        self._number = 0
        self._messages = self._bytes = 0

    @property
    def due(self) -> float:
        """When the first message has waited long enough; infinity when none waits."""
        return self._held[0].due if self._held else float("inf")

    def hold(
        self,
        source: GossipPeer,
        topic: Topic,
        targets: list[GossipPeer],
        ids: Sequence[bytes],
        raws: Sequence[bytes],
    ) -> list[GossipPeer]:
        """Those of the peers that get the messages at once; for the others they wait here.

        Small ones do not, nor does anything for peers that have hardly another link.
        """
        state, config, needs = self._state, self._state.config, topic.needs
        if source.id not in topic.mesh or min(map(len, raws)) < config.idontwant_threshold or not config.eager_share:
            return targets
        if ids[0] in state.propagation.samples:
            independent = [peer for peer in targets if peer.id not in topic.dependents]
            self._watched[ids[0]] = _Watched(state.now, topic, source, independent)
        if not needs:
            return targets
        size = sum(map(len, raws))
        if self._messages + len(ids) > _MOST or self._bytes + size > _MOST_BYTES:
            return targets
        at_once: list[GossipPeer] = []
        waiting: dict[float, list[GossipPeer]] = {}
        for peer in targets:
            need = needs.get((source.id, peer.id))
            if need is None or need[0] >= need[1] * config.eager_share or peer.id in topic.dependents:
                at_once.append(peer)
            else:
                wait = min(_LONGEST, peer.lag + 4 * peer.lag_deviation + _SLACK)
                waiting.setdefault((state.now + wait) // _GRID * _GRID + _GRID, []).append(peer)
                peer.held += 1
        for due, peers in waiting.items():
            self._number += 1
            heapq.heappush(self._held, _Held(due, self._number, topic, source, peers, ids, raws, size))
            self._messages += len(ids)
            self._bytes += size
        return at_once

    def release(self) -> None:
        """Send what has waited long enough to those that have not shown it."""
        state, config = self._state, self._state.config
        while self._held and self._held[0].due <= state.now:
            held = heapq.heappop(self._held)
            topic, ids, raws = held.topic, held.ids, held.raws
            self._messages -= len(ids)
            self._bytes -= held.size
            for peer in held.peers:
                peer.held -= 1
            peers = [peer for peer in held.peers if topic.mesh.get(peer.id) is peer]
            lacking = [peer for peer in peers if any(identifier not in peer.unwanted for identifier in ids)]
            for peer in lacking:
                self._learn(topic, held.source, peer, 1.0)
            wanting = self._unwanted.send_wanted(topic, peers, ids, raws)
            if wanting:
                chunks = build_chunks(raws, config.max_chunk, config.max_chunk_messages)
                topic.counts.dropped += state.send_chunks(wanting, chunks)

    def heartbeat(self) -> None:
        """Judge the samples: who has not shown a message within a second had it from here."""
        state = self._state
        while self._watched:
            identifier, watched = next(iter(self._watched.items()))
            if state.now - watched.at < _JUDGED:
                break
            del self._watched[identifier]
            sample = state.propagation.samples.get(identifier)
            if sample is None:
                continue
            for peer in watched.targets:
                if watched.topic.mesh.get(peer.id) is not peer:
                    continue
                delay = sample.shown.get(peer.id)
                self._learn(watched.topic, watched.source, peer, float(delay is None))
                if delay is not None:
                    self._note_lag(peer, delay)

    def _learn(self, topic: Topic, source: GossipPeer, peer: GossipPeer, needed: float) -> None:
        """Count for source and peer what was of use, and all; both wear off."""
        pair = source.id, peer.id
        useful, all_ = topic.needs.pop(pair, (0.5, 1.0))
        topic.needs[pair] = (useful - 0.5) * _MEMORY + 0.5 + needed, (all_ - 1.0) * _MEMORY + 2.0
        if len(topic.needs) > _PAIRS:
            del topic.needs[next(iter(topic.needs))]

    @staticmethod
    def _note_lag(peer: GossipPeer, delay: float) -> None:
        """How long after its coming here a peer shows a message; smoothed as in RFC 6298."""
        if peer.lag:
            peer.lag_deviation += (abs(delay - peer.lag) - peer.lag_deviation) / 4
            peer.lag += (delay - peer.lag) / 8
        else:
            peer.lag, peer.lag_deviation = delay, delay / 2
