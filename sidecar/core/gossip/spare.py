"""Links that mostly bring a peer what it has: they carry ids in place of messages, or messages a moment later.

Most copies of a message cross each other: two peers that have it send it to each other before either can know. Which
direction of a link is of use hardly changes from one message to the next, as long as these have the same author, and
not often as long as they come from the same side. So a node learns which of its mesh peers have had the messages of an
author, or of a source, from elsewhere. Links to these are spare, for such messages:

- a peer that knows lazy links is told the id, and asks for the message when it does not come (`late.py`);
- any other peer gets a large message a moment later, unless it shows by IDONTWANT or a copy that it has it.

Where a message turns out to be needed, the next ones go at once.
"""

import heapq
from collections.abc import Sequence

from ..classes import NamedTuple
from ..types import PeerId
from .messages import build_chunks, encode_ids
from .state import GossipPeer, GossipState, Needs, Topic
from .unwanted import Unwanted

# Measured with `python -m bench.propagation`, or guesses where it makes no difference.
_MEMORY = 15 / 16  # of what was learnt, with each message that is looked at
_PRIOR = 0.3  # messages of an author that what is known of the source counts as much as
_OWN_PRIOR = 0.06  # the same where the source is the author: two that were of no use make the link spare
_JUDGED = 1.0  # seconds after which a peer has shown what it had from elsewhere
_KNOWN = 6  # messages of an author that are looked at in any case: so many outweigh what is known of the source
_TRIED = 1 / 64  # of the messages that are looked at: all peers get them, to learn whether they still are of no use
_WORTH = 2  # times as long as its id: shorter messages are sent rather than their ids
_SLACK = 0.01  # seconds that a message waits beyond what a peer usually takes
_LONGEST = 0.5  # seconds that a message waits at most
_GRID = 1 / 256  # seconds: messages that are due nearly at once go together
_MOST = 1024  # messages that wait
_MOST_BYTES = 8 << 20
_ORIGINS = 1024  # authors, and sources, that are remembered for each link
_ROUTES = 4096  # kept until the next heartbeat, in each topic


class _Held(NamedTuple):
    due: float
    number: int
    topic: Topic
    source: GossipPeer
    author: PeerId | None
    peers: list[GossipPeer]
    ids: Sequence[bytes]
    raws: Sequence[bytes]
    size: int


class _Watched(NamedTuple):
    """A message of which it is looked at who had it from elsewhere."""

    at: float
    topic: Topic
    source: GossipPeer
    author: PeerId | None
    sent: list[GossipPeer]
    named: list[GossipPeer]  # that were told its id


class SpareLinks:
    """Chooses the links that a message goes over, and learns from samples of them whom they were of use to."""

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

    # ------------------------------------------------------------ which links

    def route(self, topic: Topic, source: GossipPeer, author: PeerId | None) -> tuple[GossipPeer, ...]:
        """The mesh peers to which a message of this author (None: unknown) that comes from there is hardly news."""
        origins = source.id, author
        route = topic.routes.get(origins)
        if route is None:
            share = self._state.config.eager_share
            route = tuple(
                peer
                for peer in topic.mesh.values()
                if peer.id not in topic.dependents and self._need(topic, source.id, author, peer.id) < share
            )
            if len(topic.routes) >= _ROUTES:
                topic.routes.clear()
            topic.routes[origins] = route
        return route

    def told(self, topic: Topic, source: GossipPeer, author: PeerId | None) -> list[GossipPeer]:
        """The mesh peers that such a message is named to rather than sent."""
        return [peer for peer in self.route(topic, source, author) if peer.lazy]

    @staticmethod
    def _hardly_known(topic: Topic, author: PeerId, peer: GossipPeer) -> bool:
        return topic.authors.get(peer.id, _NOTHING).get(author, (0.0, 0.0))[1] < _KNOWN

    @staticmethod
    def _need(topic: Topic, source: PeerId, author: PeerId | None, peer: PeerId) -> float:
        """The share of such messages that is news to the peer, as far as it is known; a half where nothing is."""
        of_source = topic.needs.get(peer, _NOTHING).get(source, _UNKNOWN)
        if author is None:
            return _share(of_source, 0.75, 0.5)
        of_author = topic.authors.get(peer, _NOTHING).get(author, _UNKNOWN)
        if source == author:  # what a peer publishes may have other ways than what it passes on
            return _share(of_author, _OWN_PRIOR, 1.0)
        return _share(of_author, _PRIOR, _share(of_source, 1.0, 0.5))

    # ------------------------------------------------------------ sending

    def divert(
        self,
        source: GossipPeer,
        topic: Topic,
        author: PeerId | None,
        targets: list[GossipPeer],
        ids: Sequence[bytes],
        raws: Sequence[bytes],
    ) -> list[GossipPeer]:
        """Those of the peers that get the messages at once; the others are told the ids, or the messages wait here."""
        state = self._state
        route = self.route(topic, source, author)
        watched = ids[0] in state.propagation.samples
        if not watched and author is not None and self._hardly_known(topic, author, targets[0]):
            watched = state.propagation.follow(ids[0], source.id, state.now)
        if not route and not watched:
            return targets
        shortest = min(map(len, raws))
        if shortest < _WORTH * len(ids[0]) or (watched and state.rng.random() < _TRIED):
            route = ()
        named: list[GossipPeer] = []
        held: list[GossipPeer] = []
        at_once = targets
        if route:
            at_once = []
            large = shortest >= state.config.idontwant_threshold
            for peer in targets:
                if peer not in route:
                    at_once.append(peer)
                elif peer.lazy:
                    named.append(peer)
                elif large:
                    held.append(peer)
                else:
                    at_once.append(peer)
            if named:
                at_once += self._name(topic, named, ids)
            if held:
                at_once += self._hold(source, topic, author, held, ids, raws)
        if watched:
            sent = [peer for peer in targets if peer not in named and peer.id not in topic.dependents]
            self._watched[ids[0]] = _Watched(state.now, topic, source, author, sent, named)
        return at_once

    def _name(self, topic: Topic, peers: Sequence[GossipPeer], ids: Sequence[bytes]) -> list[GossipPeer]:
        """Tell the peers the ids of what they have not shown; those of them for which there is no room."""
        state = self._state
        piece = b""
        full: list[GossipPeer] = []
        for peer in peers:
            part = ids
            if not peer.unwanted.keys().isdisjoint(ids):
                part = [identifier for identifier in ids if identifier not in peer.unwanted]
                if not part:
                    continue
            if len(part) == len(ids):
                piece = piece or encode_ids(ids)
            if not state.name_ids(peer, topic, piece if len(part) == len(ids) else encode_ids(part), len(part)):
                full.append(peer)
        return full

    def _hold(
        self,
        source: GossipPeer,
        topic: Topic,
        author: PeerId | None,
        peers: Sequence[GossipPeer],
        ids: Sequence[bytes],
        raws: Sequence[bytes],
    ) -> Sequence[GossipPeer]:
        """Keep the messages for these peers for a moment; the peers, where there is no room."""
        state = self._state
        size = sum(map(len, raws))
        if self._messages + len(ids) > _MOST or self._bytes + size > _MOST_BYTES:
            return peers
        waiting: dict[float, list[GossipPeer]] = {}
        for peer in peers:
            wait = min(_LONGEST, peer.lag.bound(0.0) + _SLACK)
            waiting.setdefault((state.now + wait) // _GRID * _GRID + _GRID, []).append(peer)
            peer.held += 1
        for due, together in waiting.items():
            self._number += 1
            heapq.heappush(self._held, _Held(due, self._number, topic, source, author, together, ids, raws, size))
            self._messages += len(ids)
            self._bytes += size
        return ()

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
                self._learn(topic, held.source.id, held.author, peer, needed=True)
            wanting = self._unwanted.send_wanted(topic, peers, ids, raws)
            if wanting:
                chunks = build_chunks(raws, config.max_chunk, config.max_chunk_messages)
                topic.counts.dropped += state.send_chunks(wanting, chunks)

    # ------------------------------------------------------------ learning

    def asked(self, peer: GossipPeer, ids: Sequence[bytes]) -> None:
        """A peer asks for messages of which it was told the ids: they were late there."""
        for identifier in ids:
            watched = self._watched.get(identifier)
            if watched is not None and peer in watched.named:
                watched.named.remove(peer)
                self._learn(watched.topic, watched.source.id, watched.author, peer, needed=True)

    def heartbeat(self) -> None:
        """Judge the samples: who has not shown a message within a second had it from here."""
        state = self._state
        while self._watched:
            identifier, watched = next(iter(self._watched.items()))
            if state.now - watched.at < _JUDGED:
                break
            del self._watched[identifier]
            topic, origins = watched.topic, (watched.source.id, watched.author)
            for peer in watched.named:
                if topic.mesh.get(peer.id) is peer:
                    self._learn(topic, *origins, peer, needed=False)
            sample = state.propagation.samples.get(identifier)
            if sample is None:
                continue
            for peer in watched.sent:
                if topic.mesh.get(peer.id) is peer:
                    delay = sample.shown.get(peer.id)
                    self._learn(topic, *origins, peer, needed=delay is None)
                    if delay is not None:
                        peer.lag.note(delay)

    def _learn(self, topic: Topic, source: PeerId, author: PeerId | None, peer: GossipPeer, *, needed: bool) -> None:
        topic.routes = {}
        _count(topic.needs.setdefault(peer.id, {}), source, needed=needed)
        if author is not None:
            _count(topic.authors.setdefault(peer.id, {}), author, needed=needed)


_NOTHING: Needs = {}
_UNKNOWN = (0.0, 0.0)


def _share(counts: tuple[float, float], prior: float, expected: float) -> float:
    """The share that was of use, where so many messages were expected to be with that share before any was seen."""
    useful, of = counts
    return (useful + prior * expected) / (of + prior)


def _count(needs: Needs, origin: PeerId, *, needed: bool) -> None:
    """Count a message of an origin; the origins that were not counted for longest go first."""
    useful, of = needs.pop(origin, (0.0, 0.0))
    if len(needs) >= _ORIGINS:
        del needs[next(iter(needs))]
    needs[origin] = useful * _MEMORY + needed, of * _MEMORY + 1
