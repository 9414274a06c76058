"""Which topics apps here want, and their hubs."""

import asyncio
import os
import time
from itertools import groupby
from operator import attrgetter

from ...core.errors import InvalidArgument, ResourceExhausted, SidecarError
from ...core.gossip import GossipMessage, MessagesDelivered, TopicJoined, TopicLeft, TopicOptions
from ..common.bounds import Bounds
from ..common.encode import LagReason
from ..common.faults import InvalidField, TopicOptionsDiffer
from ..config import ApiConfig
from ..statistics import PubSubStatistics
from ..surface import Feed
from . import encode
from .hub import Gap, Policy, Subscription, TopicChunk, TopicHub

_EPOCH_BYTES = 8


class Topics:
    """Joins a topic for its first subscriber, leaves it a while after the last, and fans messages out in between."""

    def __init__(self, config: ApiConfig, feed: Feed) -> None:
        self._config = config
        self._feed = feed
        self._hubs: dict[str, TopicHub] = {}
        self._closed = False
        self._leaving: dict[str, asyncio.TimerHandle] = {}
        self._epoch = os.urandom(_EPOCH_BYTES)
        self._counter = 0
        self._missed = 0  # by subscriptions that have ended
        self._subscriptions: dict[Subscription, tuple[str, ...]] = {}

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
        if hub is not None and sign is not None and hub.sign != sign:
            raise TopicOptionsDiffer(f"topic {topic!r} is in use here with signing {'on' if hub.sign else 'off'}")

    def subscribe(
        self,
        topics: tuple[str, ...],
        cursor: bytes,
        *,
        policy: Policy,
        bounds: Bounds,
        skip_local: bool,
        sign: bool | None,
        rate: float = 0.0,
    ) -> Subscription:
        """Open a subscription that starts behind `cursor`, or now where it is empty.

        `rate`: messages a second that are expected on each topic; 0 is not known.

        Raises InvalidField for a cursor that was never given out, TopicOptionsDiffer, ResourceExhausted.
        """
        if len(self._subscriptions) >= self._config.max_subscriptions:
            raise ResourceExhausted(f"{len(self._subscriptions)} subscriptions are open, at most that many")
        position, restarted = self._read_cursor(cursor)
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
        if not cursor:
            position = self._counter
        subscription = Subscription(self._epoch, position, policy=policy, bounds=bounds, skip_local=skip_local)
        if cursor:
            missed = [hub.missed_since(position, skip_local) for hub in hubs]
            subscription.begin(self._replay(hubs, position), _gap(missed, restarted, position))
        self._subscriptions[subscription] = topics
        for hub in hubs:
            hub.subscribers[subscription] = None
        return subscription

    def unsubscribe(self, subscription: Subscription) -> None:
        """Close a subscription; topics that nobody reads any more are left after the linger."""
        self._missed += subscription.missed
        for topic in self._subscriptions.pop(subscription):
            hub = self._hubs[topic]
            del hub.subscribers[subscription]
            self._leave_later(hub)

    def delivered(self, effect: MessagesDelivered) -> None:
        """Encode what arrived, once, and hand it to the topic's readers."""
        hub = self._hubs.get(effect.topic)
        if hub is None:
            return
        wall = time.time_ns()
        bounds = self._history_bounds()
        for local, run in _runs(effect.messages):
            pieces = encode.topic_pieces(
                effect.topic, run, epoch=self._epoch, first=self._counter + 1, wall_ns=wall, local=local
            )
            for count, data in pieces:
                hub.deliver(TopicChunk(self._counter + 1, count, data, local), bounds)
                self._counter += count

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
        if len(cursor) != _EPOCH_BYTES + 8:
            raise _not_given_out(f"{len(cursor)} bytes were not given out by a sidecar")
        if not cursor.startswith(self._epoch):
            return 0, True
        position = int.from_bytes(cursor[_EPOCH_BYTES:], "big")
        if position > self._counter:
            raise _not_given_out("it lies beyond the newest message")
        return position, False

    def _replay(self, hubs: list[TopicHub], position: int) -> list[TopicChunk]:
        return sorted((chunk for hub in hubs for chunk in hub.since(position)), key=attrgetter("first"))

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
        if hub is None or rate:
            self._feed(TopicJoined(topic, TopicOptions(hub.sign if hub is not None else sign, rate)))
        if hub is None:
            self._counter += 1  # so that every earlier cursor is known to lie before the joining
            hub = self._hubs[topic] = TopicHub(topic, sign, self._counter)
            bounds = self._history_bounds()
            for other in self._hubs.values():
                other.evict(bounds)
        timer = self._leaving.pop(topic, None)
        if timer is not None:
            timer.cancel()
        return hub

    def _leave_later(self, hub: TopicHub) -> None:
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


def _gap(missed: list[int | None], restarted: bool, position: int) -> Gap | None:
    if restarted:
        return Gap(None, LagReason.RESTARTED, position)
    known = [count for count in missed if count is not None]
    if len(known) < len(missed):
        return Gap(None, LagReason.HISTORY_EXCEEDED, position)
    return Gap(sum(known), LagReason.HISTORY_EXCEEDED, position) if sum(known) else None
