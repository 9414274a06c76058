"""Which topics apps here want, and their hubs."""

import asyncio
import logging
import os
import time
from collections.abc import Callable, Sequence
from itertools import groupby
from operator import attrgetter

from ...core.classes import NamedTuple
from ...core.errors import InvalidArgument, ResourceExhausted, SidecarError
from ...core.gossip import GossipMessage, HistoryRepeated, MessagesDelivered, TopicJoined, TopicLeft, TopicOptions
from ...store.history import StoredTopic
from ...store.history.store import EPOCH_BYTES
from ..common.bounds import Bounds
from ..common.encode import LagReason
from ..common.faults import InvalidField, TopicOptionsDiffer
from ..config import ApiConfig
from ..statistics import PubSubStatistics
from ..surface import Feed
from . import encode
from .chunk import Gap, TopicChunk
from .history import TopicHistory
from .hub import Policy, Subscription, TopicHub
from .replay import Replay

_SECOND = 1_000_000_000  # nanoseconds

_log = logging.getLogger("sidecar.history")


class Start(NamedTuple):
    """Where a subscription begins: behind a cursor, at a time (nanoseconds since 1970), or with all that is kept.

    Without any of these, with what comes from now on. `first`: the counter of the first message on disk that is meant,
    if there is one; `gone`: some that was received since then is not there any more. `Topics.find` knows both.
    """

    cursor: bytes = b""
    since: int = 0
    beginning: bool = False
    first: int | None = None
    gone: bool = False

    @property
    def said(self) -> bool:
        """Whether anything is."""
        return bool(self.cursor or self.since or self.beginning)


class Subscribing(NamedTuple):
    """What a reader says of itself: what to drop when it is slow, of how much, and whether it has its own."""

    policy: Policy
    bounds: Bounds
    skip_local: bool


class Topics:
    """Joins a topic for its first subscriber, leaves it a while after the last, and fans messages out in between.

    Topics with history are not left: they are joined for good, again after a restart too.
    """

    def __init__(
        self,
        config: ApiConfig,
        feed: Feed,
        history: TopicHistory | None = None,
        wall_ns: Callable[[], int] = time.time_ns,
    ) -> None:
        """`history`: what keeps topics on disk, started; None: nothing does. `wall_ns`: nanoseconds since 1970."""
        self._wall_ns = wall_ns
        self._config = config
        self._feed = feed
        self._hubs: dict[str, TopicHub] = {}
        self._closed = False
        self._leaving: dict[str, asyncio.TimerHandle] = {}
        self._history = history if history is not None and history.config.topics else None
        self._epoch = os.urandom(EPOCH_BYTES) if history is None else history.epoch
        self._first = self._counter = 0 if history is None else history.first
        self._assumed: dict[str, None] = {}  # topics of which nobody has said yet how they are signed
        self._used: dict[str, None] = {}  # by publications
        if history is not None:
            history.counter = lambda: self._counter
            history.in_use = self._in_use
            history.lapse = self._lapse
        self._missed = 0  # by subscriptions that have ended
        self._subscriptions: dict[Subscription, tuple[str, ...]] = {}

    def begin(self) -> None:
        """Join the topics that are kept, as in the run before."""
        history = self._history
        if history is None:
            return
        history.tell_seen()
        for topic, sign in history.at_start():
            try:
                self._join(topic, sign is not False, 0.0)
            except SidecarError as error:
                _log.error("%r cannot be joined, and so not be kept: %s", topic, error)
                continue
            if sign is None:
                self._assumed[topic] = None

    def hub(self, topic: str) -> TopicHub | None:
        """Of a topic that is joined."""
        return self._hubs.get(topic)

    def statistics(self) -> PubSubStatistics:
        """Sizes as they are, and what slow subscribers have missed since the start."""
        return PubSubStatistics(
            subscriptions=len(self._subscriptions),
            topics=len(self._hubs),
            history_messages=sum(hub.history_messages for hub in self._hubs.values()),
            history_bytes=sum(hub.history_bytes for hub in self._hubs.values()),
            subscribers_queued_messages=sum(s.queued.messages for s in self._subscriptions),
            subscribers_queued_bytes=sum(s.queued.bytes for s in self._subscriptions),
            subscribers_missed=self._missed + sum(subscription.missed for subscription in self._subscriptions),
        )

    def check_signing(self, topic: str, sign: bool | None) -> None:
        """Raises TopicOptionsDiffer when the topic is joined with another signing than the one wanted."""
        hub = self._hubs.get(topic)
        if hub is not None and sign is not None and hub.sign != sign and not self._sign_otherwise(hub):
            raise TopicOptionsDiffer(f"topic {topic!r} is in use here with signing {'on' if hub.sign else 'off'}")

    def _sign_otherwise(self, hub: TopicHub) -> bool:
        """Whether an app may say how the topic is signed: so far only the configuration names it, and nothing is there.

        If so, it is signed so from now on.
        """
        history, topic = self._history, hub.stored
        if history is None or topic is None or hub.subscribers or hub.name not in self._assumed:
            return False
        if not history.empty(topic):
            return False
        del self._assumed[hub.name]
        hub.sign = not hub.sign
        hub.stored = history.resign(topic, hub.sign)
        self._feed(TopicLeft(hub.name))
        self._feed(TopicJoined(hub.name, TopicOptions(hub.sign, keep=True)))
        return True

    async def find(self, topics: Sequence[str], start: Start) -> Start:
        """Look up on disk where a subscription begins. Raises StorageError."""
        history = self._history
        if history is None or not (start.since or start.beginning):
            return start
        kept = [stored for topic in topics if (stored := history.known(topic)) is not None]
        if not kept:
            return start
        first, gone = await history.first_since(kept, start.since)
        return start._replace(first=first, gone=gone and not start.beginning)

    def subscribe(
        self,
        topics: tuple[str, ...],
        start: Start,
        *,
        policy: Policy,
        bounds: Bounds,
        skip_local: bool,
        sign: bool | None,
        rate: float = 0.0,
    ) -> Subscription:
        """Open a subscription that starts where it is told to.

        `rate`: messages a second that are expected on each topic; 0 is not known.

        Raises InvalidField for a cursor that was never given out, TopicOptionsDiffer, ResourceExhausted.
        """
        hubs = self._joined(topics, start.cursor, sign, rate)
        subscription = self._begun(hubs, start, Subscribing(policy, bounds, skip_local))
        self._subscriptions[subscription] = topics
        for hub in hubs:
            hub.subscribers[subscription] = None
        return subscription

    def _joined(self, topics: tuple[str, ...], cursor: bytes, sign: bool | None, rate: float) -> list[TopicHub]:
        """The hubs of these topics, none of which is left now."""
        if len(self._subscriptions) >= self._config.max_subscriptions:
            raise ResourceExhausted(f"{len(self._subscriptions)} subscriptions are open, at most that many")
        self._read_cursor(cursor)
        for topic in topics:
            self.check_signing(topic, sign)
        self._make_room(topics)
        hubs: list[TopicHub] = []
        try:
            for topic in topics:
                hubs.append(self._join(topic, sign is not False, rate))
        except SidecarError:
            for hub in hubs:
                self._leave_later(hub)
            raise
        return hubs

    def _begun(self, hubs: Sequence[TopicHub], start: Start, asked: Subscribing) -> Subscription:
        """A subscription, and where it begins."""
        skip_local = asked.skip_local
        position, old = self._read_cursor(start.cursor)
        since, gap = 0, None
        others = [hub for hub in hubs if hub.stored is None]
        if start.cursor:
            gap = self._gap_of(others, position, old, skip_local)
        elif start.since or start.beginning:
            since = start.since
            in_memory = [next((c.first for c in hub.since(0) if c.received >= since), None) for hub in hubs]
            firsts = [first for first in (start.first, *in_memory) if first is not None]
            position = min(firsts) - 1 if firsts else self._counter
            if since and (start.gone or any(hub.forgot >= since for hub in others)):
                gap = Gap(None, LagReason.HISTORY_EXCEEDED, position)
        else:
            position = self._counter
        wanted = since if start.said else self._wall_ns()
        subscription = Subscription(
            self._epoch, position, policy=asked.policy, bounds=asked.bounds, skip_local=skip_local, since=wanted
        )
        if start.said:
            replay = Replay(self._history, hubs, position, skip_local=skip_local, since=since)
            subscription.begin(replay, gap)
        return subscription

    def _gap_of(self, others: Sequence[TopicHub], position: int, old: bool, skip_local: bool) -> Gap | None:
        """What a cursor has missed at once: of topics on disk, the pages tell."""
        if old or (others and position < self._first):
            return Gap(None, LagReason.RESTARTED, position)
        return _gap([hub.missed(position, skip_local=skip_local) for hub in others], position)

    def unsubscribe(self, subscription: Subscription) -> None:
        """Close a subscription; topics that nobody reads any more are left after the linger."""
        self._missed += subscription.missed
        for topic in self._subscriptions.pop(subscription):
            hub = self._hubs[topic]
            del hub.subscribers[subscription]
            if hub.stored is not None:
                self._used[topic] = None
            self._leave_later(hub)

    def delivered(self, effect: MessagesDelivered) -> None:
        """Encode what arrived, once, and hand it to the topic's readers."""
        hub = self._hubs.get(effect.topic)
        if hub is None:
            return
        wall = self._wall_ns()
        if effect.raws and hub.stored is not None and self._history is not None:
            self._history.keep(hub.stored, self._counter + 1, effect, wall)
        bounds = self._history_bounds()
        if effect.history:
            self._brought(hub, effect, wall, bounds)
            return
        for local, run in _runs(effect.messages):
            pieces = encode.topic_pieces(
                effect.topic, run, epoch=self._epoch, first=self._counter + 1, wall_ns=wall, local=local
            )
            for count, data in pieces:
                hub.deliver(TopicChunk(self._counter + 1, count, data, local, wall), bounds)
                self._counter += count

    def _brought(self, hub: TopicHub, effect: MessagesDelivered, wall: int, bounds: Bounds) -> None:
        """The same of what a peer had kept, and of which each has a time of its own."""
        times = [wall - int(age * _SECOND) for age in effect.received]
        if effect.bundle:
            times *= len(effect.messages)
        for when, run in groupby(zip(times, effect.messages, strict=True), key=lambda each: each[0]):
            pieces = encode.topic_pieces(
                hub.name,
                [message for _, message in run],
                epoch=self._epoch,
                first=self._counter + 1,
                wall_ns=when,
                local=False,
                history=True,
            )
            for count, data in pieces:
                hub.deliver(TopicChunk(self._counter + 1, count, data, False, when, True), bounds)
                self._counter += count

    def repeated(self, effect: HistoryRepeated) -> None:
        """What was delivered before is kept, where it is not; nobody gets it now."""
        hub = self._hubs.get(effect.topic)
        if hub is not None and hub.stored is not None and self._history is not None:
            self._history.keep(hub.stored, self._counter + 1, effect, self._wall_ns())
            self._counter += len(effect.messages)

    def published(self, topic: str, sign: bool | None) -> None:
        """An app publishes on a topic: one that is to be kept is joined for it, as far as there is room."""
        history = self._history
        if history is None:
            return
        hub = self._hubs.get(topic)
        if hub is not None:
            self._used[topic] = None
        elif history.config.keeps(topic):
            try:
                if self._adopt(topic, sign is not False) is not None:
                    self._make_room((topic,))
                    self._join(topic, sign is not False, 0.0)
                    self._used[topic] = None
            except SidecarError as error:
                _log.debug("%r is not joined, though it is published on: %s", topic, error)

    def _in_use(self) -> list[StoredTopic]:
        """The topics on disk that are used now, or were published on since this was last asked."""
        used, self._used = self._used, {}
        named = () if self._history is None else self._history.config.topics
        return [
            hub.stored
            for hub in self._hubs.values()
            if hub.stored is not None and (hub.subscribers or hub.name in named or hub.name in used)
        ]

    def _lapse(self, names: list[str]) -> list[str]:
        """Leave topics that nobody has used for long; those that can be forgotten."""
        forgotten = []
        for name in names:
            hub = self._hubs.get(name)
            if hub is None or not hub.subscribers:
                forgotten.append(name)
                if hub is not None:
                    del self._hubs[name]
                    self._feed(TopicLeft(name))
        return forgotten

    def close(self) -> None:
        """Leave no topic any more, and cancel what waits for its time."""
        self._closed = True
        for timer in self._leaving.values():
            timer.cancel()
        self._leaving.clear()

    def _read_cursor(self, cursor: bytes) -> tuple[int, bool]:
        """Its counter, and whether it is of an earlier run of the sidecar (then everything here is behind it)."""
        if not cursor:
            return 0, False
        if len(cursor) != EPOCH_BYTES + 8:
            raise _not_given_out(f"{len(cursor)} bytes were not given out by a sidecar")
        if not cursor.startswith(self._epoch):
            return 0, True
        position = int.from_bytes(cursor[EPOCH_BYTES:], "big")
        if position > self._counter:
            raise _not_given_out("it lies beyond the newest message")
        return position, False

    def _make_room(self, topics: tuple[str, ...]) -> None:
        """Leave topics that nobody reads, the one that has lingered longest first, until these have room.

        None of these is left, for its history may be what is asked for. Raises ResourceExhausted, and leaves none then.
        """
        wanted = dict.fromkeys(topics)
        new = sum(topic not in self._hubs for topic in wanted)
        over = len(self._hubs) + new - self._config.max_topics
        if not new or over <= 0:
            return
        spare = [topic for topic in self._leaving if topic not in wanted]
        if over > len(spare):
            raise ResourceExhausted(
                f"{len(self._hubs) - len(spare)} topics are in use here and {new} more are asked for, at most "
                f"{self._config.max_topics} are taken"
            )
        for topic in spare[:over]:
            self._leave_now(topic)

    def _join(self, topic: str, sign: bool, rate: float) -> TopicHub:
        hub = self._hubs.get(topic)
        stored = hub.stored if hub is not None else self._adopt(topic, sign)
        if stored is not None:
            sign = stored.sign
        if hub is None or rate:
            signed = hub.sign if hub is not None else sign
            self._feed(TopicJoined(topic, TopicOptions(signed, rate, keep=stored is not None)))
        if hub is None:
            self._counter += 1  # so that every earlier cursor is known to lie before the joining
            hub = self._hubs[topic] = TopicHub(topic, sign, self._counter, stored)
            bounds = self._history_bounds()
            for other in self._hubs.values():
                other.evict(bounds)
        timer = self._leaving.pop(topic, None)
        if timer is not None:
            timer.cancel()
        return hub

    def _adopt(self, topic: str, sign: bool) -> StoredTopic | None:
        """What a topic is known by on disk; None where it is not kept."""
        history = self._history
        if history is None:
            return None
        kept = sum(hub.stored is not None for hub in self._hubs.values())
        return history.adopt(topic, sign, kept, self._counter + 1)

    def _leave_later(self, hub: TopicHub) -> None:
        if hub.stored is not None:
            return
        if not hub.subscribers and hub.name not in self._leaving and not self._closed:
            loop = asyncio.get_running_loop()
            self._leaving[hub.name] = loop.call_later(self._config.linger, self._leave, hub)

    def _leave_now(self, topic: str) -> None:
        self._leaving[topic].cancel()
        self._leave(self._hubs[topic])

    def _leave(self, hub: TopicHub) -> None:
        del self._leaving[hub.name]
        if not hub.subscribers:
            del self._hubs[hub.name]
            self._feed(TopicLeft(hub.name))

    def _history_bounds(self) -> Bounds:
        config = self._config
        share = config.history_total_bytes // max(1, len(self._hubs))
        return Bounds(config.history_messages, min(config.history_bytes, share))


def _not_given_out(what: str) -> InvalidField:
    return InvalidField("cursor", InvalidArgument(what))


def _runs(messages: list[GossipMessage]) -> list[tuple[bool, list[GossipMessage]]]:
    """Messages of this node's apps apart from others: almost always one run."""
    local = messages[0].local if messages else False
    if all(message.local is local for message in messages):
        return [(local, messages)]
    return [(local, list(run)) for local, run in groupby(messages, key=attrgetter("local"))]


def _gap(missed: list[int | None], position: int) -> Gap | None:
    known = [count for count in missed if count is not None]
    if len(known) < len(missed):
        return Gap(None, LagReason.HISTORY_EXCEEDED, position)
    return Gap(sum(known), LagReason.HISTORY_EXCEEDED, position) if sum(known) else None
