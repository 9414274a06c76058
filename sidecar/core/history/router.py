"""Backfill of one node: what is missing of its topics is got from peers, and peers get from it what they lack."""

import random
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from ..errors import ProtocolError
from ..parameters.history import HistoryConfig
from ..types import PeerId
from .asking import AskingSession, NudgingSession
from .events import (
    BringHistory,
    BroughtJudged,
    HistoryBodiesLoaded,
    HistoryDataReceived,
    HistoryEffect,
    HistoryInput,
    HistoryKeysFound,
    HistoryKeysLoaded,
    HistoryLinkAccepted,
    HistoryLinkClosed,
    HistoryLinkFailed,
    HistoryLinkOpened,
    HistoryPeerCame,
    HistoryPeerLeft,
    HistoryTopicKept,
    HistoryTopicLeft,
    HistoryViolated,
)
from .nudges import Nudges
from .serving import BackfillServer
from .shared import BackfillShared, Eligible
from .statistics import BackfillStatistics, HistoryView
from .topics import Asides, Brought, SessionPlaces, TopicBackfill

_MAX_BATCHES = 4096  # that gossip may have of sessions that are over, or are asked of apps; a guess


class _Batch:
    """Messages that gossip judges."""

    __slots__ = ("ages", "peer", "session", "topic")

    def __init__(self, session: AskingSession, brought: BringHistory) -> None:
        self.session = session
        self.peer = brought.peer
        self.topic = brought.topic
        self.ages = brought.ages


class HistoryRouter:
    """The machine: `handle` inputs, carry out the effects, and keep its one deadline."""

    def __init__(
        self, config: HistoryConfig, *, now: float, rng: random.Random, eligible: Eligible, max_rpc: int = 1 << 20
    ) -> None:
        """`eligible`: whether a peer's score lets it be asked and answered. `max_rpc`: bytes of the largest message."""
        self._shared = shared = BackfillShared(config, now, rng, eligible, max_rpc)
        self._asides = Asides(shared)
        self._places = SessionPlaces(config.asking)
        self._nudges = Nudges(shared)
        self._server = BackfillServer(shared, self._on_offered, self._on_nudged)
        self._topics: dict[str, TopicBackfill] = {}
        self._batches: dict[int, _Batch] = {}
        self._handlers: dict[type[Any], Callable[[Any], None]] = {
            HistoryTopicKept: self._on_topic_kept,
            HistoryTopicLeft: self._on_topic_left,
            HistoryPeerCame: self._on_peer_came,
            HistoryPeerLeft: self._on_peer_left,
            HistoryLinkOpened: self._on_link_opened,
            HistoryLinkFailed: self._on_link_failed,
            HistoryLinkAccepted: self._on_link_accepted,
            HistoryLinkClosed: self._on_link_closed,
            HistoryDataReceived: self._on_data_received,
            BroughtJudged: self._on_judged,
            HistoryKeysLoaded: self._on_keys_loaded,
            HistoryKeysFound: self._on_keys_found,
            HistoryBodiesLoaded: self._on_bodies_loaded,
        }

    def handle(self, arrived: HistoryInput, now: float) -> list[HistoryEffect]:
        """Take an input, at `now`, monotonic seconds."""
        self._shared.now = now
        self._handlers[type(arrived)](arrived)
        return self._effects()

    def next_deadline(self) -> float | None:
        """When to call `handle_deadline`, monotonic seconds."""
        return self._shared.deadlines.next()

    def handle_deadline(self, now: float) -> list[HistoryEffect]:
        """Do what is due."""
        self._shared.now = now
        self._shared.deadlines.run(now)
        return self._effects()

    def take_charges(self) -> dict[PeerId, float]:
        """The needless work that peers caused since the last call, in points of some 5 us."""
        return self._shared.take_charges()

    def keeps(self, topic: str) -> bool:
        """Whether the topic is one of its own."""
        return topic in self._topics

    @property
    def topics(self) -> tuple[str, ...]:
        """Those of its own."""
        return tuple(self._topics)

    def statistics(self) -> BackfillStatistics:
        """Totals since the start, and what is under way now: a copy."""
        counts = self._shared.counts
        return replace(
            counts,
            asked=dict(counts.asked),
            refused=dict(counts.refused),
            topics=len(self._topics),
            topics_complete=sum(topic.complete_since is not None for topic in self._topics.values()),
            asking=self._places.taken,
            serving=len(self._server),
        )

    def views(self, epoch: float) -> list[HistoryView]:
        """How each topic stands. `epoch`: what the wall clock showed when the monotonic one was at 0, in seconds."""
        return [
            HistoryView(
                topic.name,
                len(topic.peers),
                len(topic.sessions),
                None if topic.complete_since is None else epoch + topic.complete_since,
                None if topic.complete_until is None else epoch + topic.complete_until,
            )
            for topic in self._topics.values()
        ]

    def _effects(self) -> list[HistoryEffect]:
        effects, self._shared.effects = self._shared.effects, []
        return effects

    # ------------------------------------------------------------ topics and peers

    def _on_topic_kept(self, kept: HistoryTopicKept) -> None:
        name = kept.topic
        if name not in self._topics:
            brought = Brought(self._on_brought, self._on_got)
            self._topics[name] = TopicBackfill(self._shared, self._asides, name, self._places, brought)
            self._server.topics[name] = None

    def _on_topic_left(self, left: HistoryTopicLeft) -> None:
        topic = self._topics.pop(left.topic, None)
        if topic is not None:
            topic.leave()
            self._server.leave_topic(left.topic)

    def _on_peer_came(self, came: HistoryPeerCame) -> None:
        topic = self._topics.get(came.topic)
        if topic is not None:
            topic.came(came.peer)

    def _on_peer_left(self, left: HistoryPeerLeft) -> None:
        for topic in list(self._topics.values()):
            if left.topic in (None, topic.name):
                topic.gone(left.peer)
        if left.topic is None:
            self._nudges.gone(left.peer)

    def _on_offered(self, peer: PeerId, name: str) -> None:
        """A peer whose session is over has what this node lacks."""
        topic = self._topics.get(name)
        if topic is not None:
            topic.called(peer)

    def _on_nudged(self, peer: PeerId, topics: Sequence[str]) -> None:
        if self._nudges.heed(peer):
            for name in topics:
                self._on_offered(peer, name)

    # ------------------------------------------------------------ what is brought

    def _on_brought(self, session: AskingSession, brought: BringHistory) -> None:
        while len(self._batches) >= _MAX_BATCHES:
            del self._batches[next(iter(self._batches))]
        self._batches[brought.number] = _Batch(session, brought)
        self._shared.effects.append(brought)

    def _on_judged(self, judged: BroughtJudged) -> None:
        batch = self._batches.pop(judged.number, None)
        if batch is None:
            return
        if not judged.final:
            self._batches[judged.number] = batch
        counts = self._shared.counts
        counts.brought += judged.accepted
        self._shared.refuse(judged.unwanted)
        topic = self._topics.get(batch.topic)
        if judged.accepted and topic is not None:
            self._shared.changed(batch.topic)
            topic.found(batch.ages)
        if judged.invalid is not None:
            counts.rejected += 1
        if not batch.session.over:
            batch.session.judged(judged)
        elif judged.invalid is not None:
            error = ProtocolError(f"a message of {batch.topic!r} that is not valid: {judged.invalid}")
            self._shared.effects.append(HistoryViolated(batch.peer, None, error))
            self._asides.put(batch.peer)
        elif judged.accepted:
            self._on_got(batch.topic, batch.peer)

    def _on_got(self, topic: str, peer: PeerId) -> None:
        """Something of a topic came from a peer: others may lack it too."""
        found = self._topics.get(topic)
        if found is not None:
            others = [each for each in found.eligible() if each != peer]
            count = min(self._shared.config.nudged, len(others))
            for each in self._shared.rng.sample(others, count):
                self._nudges.tell(each, topic)

    # ------------------------------------------------------------ links

    def _on_link_opened(self, opened: HistoryLinkOpened) -> None:
        session = self._shared.sessions.get(opened.session)
        if isinstance(session, AskingSession | NudgingSession):
            session.link_opened(opened.link)
        else:
            self._shared.reset(opened.link)

    def _on_link_failed(self, failed: HistoryLinkFailed) -> None:
        session = self._shared.sessions.get(failed.session)
        if isinstance(session, AskingSession | NudgingSession):
            session.link_failed(failed.error)

    def _on_link_accepted(self, accepted: HistoryLinkAccepted) -> None:
        self._server.accept(accepted.peer, accepted.link)

    def _on_link_closed(self, closed: HistoryLinkClosed) -> None:
        session = self._shared.links.get(closed.link)
        if session is not None:
            session.link_closed()

    def _on_data_received(self, arrived: HistoryDataReceived) -> None:
        session = self._shared.links.get(arrived.link)
        if session is not None:
            session.receive(arrived.data)

    # ------------------------------------------------------------ the store

    def _on_keys_loaded(self, loaded: HistoryKeysLoaded) -> None:
        session = self._shared.sessions.get(loaded.session)
        if session is not None:
            session.keys_loaded(loaded)

    def _on_keys_found(self, found: HistoryKeysFound) -> None:
        session = self._shared.sessions.get(found.session)
        if session is not None:
            session.keys_found(found)

    def _on_bodies_loaded(self, loaded: HistoryBodiesLoaded) -> None:
        session = self._shared.sessions.get(loaded.session)
        if session is not None:
            session.bodies_loaded(loaded)
