"""Messages that mesh peers have named on lazy links: waited for, and asked for when they are late.

A peer that knows a link to be spare names messages there in place of sending them (`spare.py`). Nearly always such a
message comes by another link, before or a moment after. Where it does not, it is asked for by IWANT: first of the peer
that named it first, then of the next one. All mesh peers that have a message send or name it: one of them suffices.
"""

import heapq
from collections.abc import Iterable, Sequence
from itertools import compress

from .messages import Named, NamedIds
from .state import FRUITLESS, IDENTIFIER, PASSED_OVER, Awaited, GossipPeer, GossipState, Topic
from .unwanted import Unwanted

# Guesses: what `python -m bench.propagation` measures hardly depends on them.
_FIRST_WAIT = 0.1  # seconds until a message is late, where nothing was measured
_SLACK = 0.01  # seconds beyond what it usually takes
_LONGEST = 0.5  # seconds that it is waited for at most, before it is asked for, and for each answer
_GRID = 1 / 256  # seconds: what is late nearly at once is asked for together
_ASKED = 8  # peers that one message is asked of, at most
_MOST = 4096  # messages of one peer that are waited for
_RESUMES = 16  # that are heeded of one peer in a heartbeat
_KEPT = 10.0  # seconds after which nobody has the message any more


class LateMessages:
    """Waits for what was named, and asks for what is late."""

    def __init__(self, state: GossipState, unwanted: Unwanted) -> None:
        self._state = state
        self._unwanted = unwanted
        self._looks: list[tuple[float, int, Topic, Sequence[bytes]]] = []  # a heap: when to look after which
        self._number = 0

    @property
    def due(self) -> float:
        """When to look after the first message; infinity when none is waited for."""
        return self._looks[0][0] if self._looks else float("inf")

    def on_named(self, peer: GossipPeer, entries: Sequence[Named | NamedIds]) -> None:
        """Take in the ids that a peer names."""
        state = self._state
        most = int(state.config.max_named * max(1.0, state.config.heartbeat_interval))
        for entry in state.bounded(peer, entries):
            topic = state.by_wire.get(entry.topicID)
            ids: Sequence[bytes] = entry.messageIDs
            state.statistics.named_ids_received += len(ids)
            if topic is None or topic.mesh.get(peer.id) is not peer:
                state.charge(peer, PASSED_OVER + len(ids) * IDENTIFIER)
                continue
            left = most - peer.names
            if entry.resume and left > 0:
                topic.forget_needs(peer.id)
                left -= most // _RESUMES
                peer.names += most // _RESUMES
            if len(ids) > max(left, 0) or any(len(identifier) > state.config.max_message_id for identifier in ids):
                state.statistics.dropped["control_bound"] += len(ids)
                state.charge(peer, FRUITLESS + len(ids) * IDENTIFIER)
                continue
            peer.names += len(ids)
            if ids:
                state.gives(peer, topic)
            else:
                state.shows(peer, topic)
            state.propagation.shown(ids, peer.id, state.now)
            self._unwanted.shown(peer, ids)
            fresh = state.seen.unseen(topic.name, ids)
            if fresh is not None:
                ids = list(compress(ids, fresh))
            if topic.judged:
                state.scores.again(peer.record, topic.name, entry.messageIDs, state.now)
            if ids:
                self._await(peer, topic, ids)

    def _await(self, peer: GossipPeer, topic: Topic, ids: Sequence[bytes]) -> None:
        now, awaited = self._state.now, topic.awaited
        new: list[bytes] = []
        again: list[bytes] = []
        for identifier in ids:
            known = awaited.get(identifier)
            if known is None:
                if peer.awaited < _MOST:
                    awaited[identifier] = Awaited(now, peer)
                    peer.awaited += 1
                    new.append(identifier)
            elif len(known.peers) < _ASKED and peer not in known.peers:
                known.peers.append(peer)
                if known.exhausted:
                    again.append(identifier)
        if new:
            self._look_at(now + min(_LONGEST, peer.lead.bound(_FIRST_WAIT) + _SLACK), topic, new)
        if again:
            self._ask(topic, again)

    def _look_at(self, due: float, topic: Topic, ids: Sequence[bytes]) -> None:
        self._number += 1
        heapq.heappush(self._looks, (due // _GRID * _GRID + _GRID, self._number, topic, ids))

    def ask(self) -> None:
        """Ask for what is late."""
        while self._looks and self._looks[0][0] <= self._state.now:
            _, _, topic, ids = heapq.heappop(self._looks)
            if topic.awaited:
                self._ask(topic, ids)

    def _ask(self, topic: Topic, ids: Iterable[bytes]) -> None:
        state = self._state
        wanted: dict[GossipPeer, list[bytes]] = {}
        for identifier in ids:
            awaited = topic.awaited.get(identifier)
            if awaited is None:
                continue
            awaited.exhausted = True
            while awaited.asked < len(awaited.peers):
                peer = awaited.peers[awaited.asked]
                awaited.asked += 1
                if state.peers.get(peer.id) is peer and not peer.violated:
                    awaited.asked_at = state.now
                    awaited.exhausted = False
                    wanted.setdefault(peer, []).append(identifier)
                    break
        for peer, asked in wanted.items():
            state.wake(peer)
            taken = peer.queue.put_iwant(asked, urgent=True)
            state.statistics.iwant_ids_sent += taken
            state.statistics.dropped["gossip"] += len(asked) - taken
            deadline = state.now + state.config.score.promise_time
            for identifier in asked[:taken]:
                peer.promised.setdefault(identifier, deadline)
            self._look_at(state.now + min(_LONGEST, peer.answer.bound(_LONGEST) + _SLACK), topic, asked)

    def came(self, peer: GossipPeer, topic: Topic, ids: Sequence[bytes]) -> dict[bytes, list[GossipPeer]]:
        """Messages came for the first time, from this peer. Returns who had named them.

        Need not be called where `topic.awaited` has none.
        """
        named: dict[bytes, list[GossipPeer]] = {}
        now = self._state.now
        if peer.promised:
            self._unwanted.brought(peer, ids)
        for identifier in ids:
            awaited = topic.awaited.pop(identifier, None)
            if awaited is None:
                continue
            named[identifier] = awaited.peers
            awaited.peers[0].awaited -= 1
            if awaited.asked and peer is awaited.peers[awaited.asked - 1]:
                peer.answer.note(now - awaited.asked_at)
            elif peer is not awaited.peers[0]:
                awaited.peers[0].lead.note(now - awaited.at)
        return named

    def heartbeat(self) -> None:
        """Forget what nobody has any more, and count what peers have named and not sent: both lie in order of time."""
        state = self._state
        for topic in state.topics.values():
            while topic.awaited:
                identifier, awaited = next(iter(topic.awaited.items()))
                if state.now - awaited.at < _KEPT:
                    break
                del topic.awaited[identifier]
                awaited.peers[0].awaited -= 1
        for peer in state.peers.values():
            peer.names = 0
            if peer.promised and not (peer.backlog or peer.step is not None or peer.pending_bytes):
                self._look_at_promises(peer)

    def _look_at_promises(self, peer: GossipPeer) -> None:
        """v1.1 Spam Protection Measures: who names messages and does not send them misbehaves, once a heartbeat."""
        state, broken = self._state, 0
        while peer.promised:
            identifier, deadline = next(iter(peer.promised.items()))
            if state.now < deadline:
                break
            del peer.promised[identifier]
            broken += 1
        if broken:
            state.statistics.promises_broken += broken
            state.scores.penalise(peer.record, "broken_promise")
