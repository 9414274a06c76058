"""Subscriptions to topics, and streams of direct messages."""

import logging
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from typing import Any, Generic, TypeVar

from . import _checks, _convert, _hot
from ._link import Link
from ._stream import Response, Stream
from ._waiting import Items
from .types import DirectMessage, Lagged, Message
from .v1 import direct_pb2, pubsub_pb2

Item = TypeVar("Item")
Some = TypeVar("Some", bound="_Batch[Any]")
_log = logging.getLogger(__name__)


class _Batch(Generic[Item]):
    __slots__ = ("_items", "lagged")

    def __init__(self, items: Any, lagged: Lagged | None) -> None:
        self._items = items
        self.lagged = lagged

    def __len__(self) -> int:
        return len(self._items)

    def payloads(self) -> list[bytes]:
        """The data of each message, in order."""
        return [item.data for item in self._items]

    @property
    def messages(self) -> list[Item]:
        """A value for each message, in order."""
        return list(self.each())

    def each(self) -> Iterator[Item]:
        """The same, made one after the other."""
        return map(self._made, self._items)

    @staticmethod
    def _made(item: Any) -> Item:
        raise NotImplementedError


class MessageBatch(_Batch[Message]):
    """Messages that came together. `lagged` says what was missed just before them.

    `payloads()` costs the least; `messages` builds a value for each message.
    """

    __slots__ = ()
    _made = staticmethod(_hot.message)


class DirectBatch(_Batch[DirectMessage]):
    """Direct messages that came together. `lagged` says what was missed just before them."""

    __slots__ = ()
    _made = staticmethod(_hot.direct_message)


class _Reader(Stream[Response], Generic[Response, Item, Some]):
    """What streams of messages have in common: three ways to read one."""

    def __init__(self, link: Link, name: str) -> None:
        super().__init__(link, name)
        self._hand: Some | None = None  # the batch that is being iterated over
        self._lag: Lagged | None = None  # before the rest of it
        self._left: Iterator[Any] = iter(())  # what of it has not been given, encoded
        self._rest: Iterator[Item] = iter(())  # the same, made into messages
        self._given: Item | None = None  # the last message that was given
        self.missed = 0
        """Messages missed so far, as far as their number is known."""

    def _batch(self, response: Response) -> Some:
        raise NotImplementedError

    def _told(self) -> None:
        """What was missed before the messages in hand is told now."""

    def __aiter__(self) -> AsyncIterator[Item]:
        return Items(self._message)

    def batches(self) -> Items[Some]:
        """Batches as they come, the fastest way. Of a batch that is being iterated over it gives the rest."""
        return Items(self._whole)

    def events(self) -> Items[Item | Lagged]:
        """Messages, and `Lagged` where some were missed."""
        return Items(self._event)

    async def _event(self) -> Item | Lagged:
        while True:
            if (gap := self._taken_lag()) is not None:
                return gap
            for item in self._rest:
                self._given = item
                return item
            await self._refill()

    async def _message(self) -> Item:
        while True:
            if self._lag is not None:
                _log.warning("%s: %s", self._name, self._taken_lag())
            for item in self._rest:
                self._given = item
                return item
            await self._refill()

    async def _refill(self) -> None:
        batch = self._hand = await self._next_batch()
        self._lag = batch.lagged
        self._left = iter(batch._items)
        self._rest = map(batch._made, self._left)

    async def _whole(self) -> Some:
        """A batch, or what is left of the one in hand."""
        hand, self._hand = self._hand, None
        if hand is not None:
            left = list(self._left)
            if left or self._lag is not None:
                return self._given_whole(type(hand)(left, self._lag))
        batch = await self._next_batch()
        self._lag = batch.lagged
        return self._given_whole(batch)

    def _given_whole(self, batch: Some) -> Some:
        self._taken_lag()
        for item in batch._items[-1:]:
            self._given = batch._made(item)
        return batch

    def _taken_lag(self) -> Lagged | None:
        lag, self._lag = self._lag, None
        if lag is not None:
            self._told()
        return lag

    async def _next_batch(self) -> Some:
        while True:
            batch = self._batch(await self._next())
            if batch.lagged is not None:
                self.missed += batch.lagged.missed or 0
            if len(batch) or batch.lagged is not None:
                return batch


class Subscription(_Reader[Any, Message, MessageBatch]):
    """Messages of topics, in order. It outlives the sidecar's restarts and continues where it was.

    Iterating gives `Message`s; what was missed is logged and counted in `missed`. `events()` gives `Lagged` between the
    messages as well, `batches()` whole batches. Iterating may be broken off, by a time-out too, and taken up again:
    nothing is lost by that. Without `async with` the stream ends when the object is closed or goes out of scope.
    """

    _greets = True

    def __init__(self, link: Link, request: pubsub_pb2.SubscribeRequest, call: Callable[..., Any]) -> None:
        super().__init__(link, f"subscription to {', '.join(request.topics)}")
        self._request = request
        self._subscribe = call
        self._stands = request.cursor  # where the stream stands while no message behind that has been given
        self._behind_gap = b""  # where it stands once the app has been told what was missed

    @property
    def cursor(self) -> bytes:
        """Behind the last message that was given, with `batches()` the last batch; for `subscribe(cursor=...)`.

        So an app that keeps it once it has dealt with what it was given misses nothing, whatever has been read ahead.
        Before the first message it is where the subscription began; empty before that.
        """
        given = self._given
        return self._stands if given is None else given.cursor or self._stands

    def _open(self) -> Any:
        return self._subscribe(self._request)

    async def _start(self) -> None:
        await super()._start()
        if self._first is not None and not self._request.cursor:
            self._continue(self._first.cursor)  # a connection lost from now on is continued from here
            self._stand(self._first.cursor)

    def _continue(self, cursor: bytes) -> None:
        """Another call begins behind this cursor, and no longer where the first one did."""
        if cursor:
            self._request.cursor = cursor
            self._request.ClearField("start_time")
            self._request.from_beginning = False

    def _stand(self, cursor: bytes) -> None:
        if cursor:
            self._stands, self._given = cursor, None

    def _told(self) -> None:
        self._stand(self._behind_gap)

    def _batch(self, response: Any) -> MessageBatch:
        self._continue(response.messages[-1].cursor if response.messages else response.cursor)
        lagged = _hot.lagged(response.lagged)
        self._behind_gap = response.cursor
        if lagged is None:
            self._stand(response.cursor)
        return MessageBatch(response.messages, lagged)


class Receiver(_Reader[direct_pb2.ReceiveResponse, DirectMessage, DirectBatch]):
    """Direct messages of some protocols, in order of arrival. It outlives the sidecar's restarts.

    Iterating gives `DirectMessage`s; what was missed is logged and counted in `missed`. `events()` gives `Lagged`
    between the messages as well, `batches()` whole batches. There is no cursor here: after a lost connection a `Lagged`
    with the reason RECONNECTED says that messages may have been missed. Iterating may be broken off and taken up again.
    Without `async with` the stream ends when the object is closed or goes out of scope.
    """

    def __init__(self, link: Link, protocols: Sequence[str], queue_messages: int, call: Callable[..., Any]) -> None:
        super().__init__(link, f"receiving {', '.join(protocols)}")
        self._request = _checks.request(direct_pb2.ReceiveRequest, protocols=protocols, queue_messages=queue_messages)
        self._receive = call

    def _open(self) -> Any:
        return self._receive(self._request)

    def _gap(self) -> direct_pb2.ReceiveResponse:
        return direct_pb2.ReceiveResponse(lagged=_convert.reconnected())

    def _batch(self, response: direct_pb2.ReceiveResponse) -> DirectBatch:
        lagged = _convert.lagged(response.lagged) if response.HasField("lagged") else None
        return DirectBatch(response.messages, lagged)
