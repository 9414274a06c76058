"""Direct messages on their way to the apps that receive them, and what is told their senders."""

from collections import deque
from collections.abc import Iterable

from ...core.classes import NamedTuple
from ...core.direct import MessagesHandled, MessagesReceived, SendOutcome
from ...core.override import override
from ..common.bounds import BATCH_BYTES, Bounds
from ..common.encode import LagReason, longest_run, shortest_run
from ..common.outlet import Outlet
from ..surface import Feed
from . import encode


class LinkDelivery:
    """Messages accepted from one link: answered DELIVERED as far as some reader got them, once no reader is left.

    Readers hold prefixes of it. Each either writes its prefix to its app or is gone before.
    """

    __slots__ = ("_count", "_first", "_handled", "_holders", "_link")

    def __init__(self, link: int, first: int, count: int, holders: int) -> None:
        self._link = link
        self._first = first
        self._count = count
        self._holders = holders
        self._handled = 0

    def written(self, count: int) -> list[MessagesHandled]:
        """A reader has written the first `count`."""
        handled = []
        if count > self._handled:
            fresh = count - self._handled
            handled.append(MessagesHandled(self._link, self._first + self._handled, fresh, SendOutcome.DELIVERED))
            self._handled = count
        return handled + self.abandoned()

    def abandoned(self) -> list[MessagesHandled]:
        """A reader holds it no longer."""
        self._holders -= 1
        rest = self._count - self._handled
        if self._holders or not rest:
            return []
        return [MessagesHandled(self._link, self._first + self._handled, rest, SendOutcome.NO_SUBSCRIBER)]


class _Held(NamedTuple):
    """A reader's part of a delivery: its first `count` messages, encoded; missed ones before it are `lagged`."""

    delivery: LinkDelivery
    count: int  # type: ignore[assignment]  # hides tuple.count, as in the core
    data: bytes
    lagged: int


class ReceiveStream(Outlet):
    """One app's Receive stream: a bounded queue."""

    def __init__(self, protocols: tuple[str, ...], bounds: Bounds) -> None:
        """`bounds`: of what the app has not read."""
        super().__init__()
        self.protocols = protocols
        self._bounds = bounds
        self._queue: deque[_Held] = deque()
        self._written: list[_Held] = []
        self._messages = 0
        self._bytes = 0
        self._lagged = 0

    def room(self, count: int, data: bytes) -> tuple[int, int]:
        """How many of the encoded messages fit, and how many bytes they are; into an empty queue at least one."""
        messages = self._bounds.messages - self._messages
        size = self._bounds.bytes - self._bytes
        if count <= messages and len(data) <= size:
            return count, len(data)
        if self._messages:
            return longest_run(data, messages, size)
        return max(longest_run(data, messages, size), shortest_run(data, 1, 0))

    def push(self, delivery: LinkDelivery, count: int, data: bytes) -> None:
        """Queue the first `count` messages of a delivery, which there was room for."""
        self._queue.append(_Held(delivery, count, data, self._lagged))
        self._lagged = 0
        self._messages += count
        self._bytes += len(data)
        self.ready.set()

    def missed(self, count: int) -> None:
        """Others received messages that this stream had no room for."""
        self._lagged += count
        self.ready.set()

    @override
    def take(self) -> bytes | None:
        parts: list[bytes] = []
        size = 0
        while self._queue:
            held = self._queue[0]
            if (parts and held.lagged) or (size and size + len(held.data) > BATCH_BYTES):
                return b"".join(parts)
            if held.lagged:
                parts.append(encode.lagged(held.lagged, LagReason.SLOW_READER))
            self._queue.popleft()
            self._written.append(held)
            parts.append(held.data)
            size += len(held.data)
            self._messages -= held.count
            self._bytes -= len(held.data)
        if self._lagged and not parts:
            parts.append(encode.lagged(self._lagged, LagReason.SLOW_READER))
            self._lagged = 0
        return b"".join(parts) if parts else self.nothing()

    def written(self) -> list[MessagesHandled]:
        """What was taken last has been written to the app."""
        taken, self._written = self._written, []
        return _joined(handled for held in taken for handled in held.delivery.written(held.count))

    def abandon(self) -> list[MessagesHandled]:
        """The stream is gone, with what it had not written."""
        left = [*self._written, *self._queue]
        self._written.clear()
        self._queue.clear()
        return _joined(handled for held in left for handled in held.delivery.abandoned())


def _joined(parts: Iterable[MessagesHandled]) -> list[MessagesHandled]:
    """Consecutive ranges of one link with one outcome as one."""
    joined: list[MessagesHandled] = []
    for part in parts:
        last = joined[-1] if joined else None
        if last and (last.link, last.outcome, last.first + last.count) == (part.link, part.outcome, part.first):
            joined[-1] = last._replace(count=last.count + part.count)
        else:
            joined.append(part)
    return joined


class Inbox:
    """The receivers of every protocol."""

    def __init__(self, feed: Feed) -> None:
        self._feed = feed
        self._receivers: dict[str, dict[ReceiveStream, None]] = {}
        self._missed = 0  # by slow streams beside others
        self._refused = 0  # since every stream's queue was full

    def protocols(self) -> tuple[str, ...]:
        """Those that some app receives."""
        return tuple(self._receivers)

    @property
    def missed(self) -> int:
        """Messages that slow streams missed, since the start."""
        return self._missed

    @property
    def refused(self) -> int:
        """Messages that no stream had room for, since the start."""
        return self._refused

    def receivers(self) -> list[ReceiveStream]:
        """Every open stream, once."""
        return list(dict.fromkeys(receiver for group in self._receivers.values() for receiver in group))

    def add(self, receiver: ReceiveStream) -> None:
        """A stream begins."""
        for protocol in receiver.protocols:
            self._receivers.setdefault(protocol, {})[receiver] = None

    def remove(self, receiver: ReceiveStream) -> None:
        """A stream ended; what it held and nobody else has written is told its senders."""
        for protocol in receiver.protocols:
            group = self._receivers[protocol]
            del group[receiver]
            if not group:
                del self._receivers[protocol]
        self.handled(receiver.abandon())

    def handled(self, ranges: list[MessagesHandled]) -> None:
        """Tell the senders what became of messages."""
        for handled in ranges:
            self._feed(handled)

    def deliver(self, received: MessagesReceived) -> None:
        """Queue messages for every receiver that has room; what none has room for is refused."""
        link, first, count = received.link, received.first, len(received.messages)
        receivers = self._receivers.get(received.protocol)
        if not receivers:
            self._feed(MessagesHandled(link, first, count, SendOutcome.NO_SUBSCRIBER))
            return
        data = encode.direct_items(received.peer, received.protocol, received.messages)
        rooms = [(receiver, *receiver.room(count, data)) for receiver in receivers]
        accepted = max(fitting for _, fitting, _ in rooms)
        delivery = LinkDelivery(link, first, accepted, sum(1 for _, fitting, _ in rooms if fitting))
        for receiver, fitting, size in rooms:
            if fitting:
                receiver.push(delivery, fitting, data[:size])
            if accepted > fitting:
                receiver.missed(accepted - fitting)
                self._missed += accepted - fitting
        if accepted < count:
            self._refused += count - accepted
            self._feed(MessagesHandled(link, first + accepted, count - accepted, SendOutcome.REMOTE_QUEUE_FULL))
