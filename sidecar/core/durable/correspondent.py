"""One peer that durable messages are exchanged with: its links, what goes to it, what is to be told it."""

from collections.abc import Sequence

from ..buffer import FrameDecoder
from ..deadlines import Deadline, Deadlines
from ..errors import ProtocolError
from ..parameters.direct import MAX_FRAME
from ..parameters.durable import MAX_ITEMS, ROW_OVERHEAD, DurableConfig
from ..types import PeerId
from .events import (
    CloseDurableLink,
    DurableEffect,
    Link,
    LoadOutgoing,
    LoadUnconfirmed,
    OpenDurableLink,
    OutgoingLoaded,
    RenewOutgoing,
    SendFrame,
    SettleOutgoing,
    StoreIncoming,
)
from .messages import decode, encode
from .outgoing import OutgoingStream
from .types import Acknowledgement, DurableBatch, Item, Outgoing, Trouble

_LOAD = 1 << 18  # bytes loaded at once: a frame of them keeps the link busy for a moment
_FRAME_ROOM = MAX_FRAME - 2048  # for payloads in a frame: the rest is the protocol's name and the framing
_FRAMING = 24  # bytes that a message has at most before it in a frame
_LINKS = 2  # with one peer: each side may have opened one
_NEEDLESS = 4.0  # points of work for a frame that changes nothing, some 20 us
_TURNED_AWAY = 64  # protocols of one peer that nobody received here, kept in mind


class SharedState:
    """What all peers of one router share."""

    __slots__ = ("charged", "config", "conflicts", "deadlines", "effects", "links", "now", "peers", "received", "sent")

    def __init__(self, config: DurableConfig) -> None:
        self.config = config
        self.now = 0.0
        self.deadlines = Deadlines()
        self.effects: list[DurableEffect] = []
        self.charged: dict[PeerId, float] = {}
        self.peers: dict[PeerId, Correspondent] = {}
        self.links: dict[Link, Correspondent] = {}
        self.sent = 0
        self.received = 0
        self.conflicts = 0

    def charge(self, peer: PeerId, points: float) -> None:
        """Count work that brings nobody anything against the peer's budget."""
        self.charged[peer] = self.charged.get(peer, 0.0) + points


class Correspondent:
    """The two directions of one peer. It is in the tables of `SharedState` while there is something to know of it."""

    def __init__(self, shared: SharedState, peer: PeerId) -> None:
        self.peer = peer
        self._shared = shared
        self._links: dict[Link, FrameDecoder] = {}  # the first one is written to: the order of messages is its
        self._streams: dict[str, OutgoingStream] = {}  # by protocol
        self._unconfirmed = False  # the peer may not know all that is settled here
        self._asked_unconfirmed = False  # of the store, for this link
        self._storing = 0  # bytes that wait for the disk
        self._turned_away: dict[str, int] = {}  # incarnations, by protocols that nobody received here
        self._opening = False
        self._failures = 0  # in a row, to have a link
        self._retry: Deadline | None = None
        self._watch: Deadline | None = None
        self._active = shared.now  # when something last arrived
        shared.peers[peer] = self

    # ------------------------------------------------------------ links

    @property
    def wants_link(self) -> bool:
        """Whether something is to be told the peer that it has not been told."""
        return self._unconfirmed or any(stream.unsent for stream in self._streams.values())

    def leave_if_idle(self) -> None:
        """Be forgotten where there is nothing to do."""
        if self._links or self._opening or self._streams or self._unconfirmed or self._storing:
            return
        for deadline in (self._retry, self._watch):
            if deadline is not None:
                deadline.cancel()
        self._shared.peers.pop(self.peer, None)

    def link_opened(self, link: Link) -> None:
        """There is a link."""
        self._opening = False
        self._failures = 0
        self._cancel_retry()
        self._active = self._shared.now
        used = next(iter(self._links), None)
        for old in list(self._links)[: max(0, len(self._links) + 1 - _LINKS)]:
            self._close(old)
        self._links[link] = FrameDecoder(MAX_FRAME)
        self._shared.links[link] = self
        if next(iter(self._links)) != used:
            self._begin()
        self._look_later()

    def _close(self, link: Link) -> None:
        del self._links[link]
        self._shared.links.pop(link, None)
        self._shared.effects.append(CloseDurableLink(link))

    def _begin(self) -> None:
        """Another link is written to from now on: what was written on the last one may be lost."""
        for stream in self._streams.values():
            stream.begin()
            stream.busy_until = 0.0
        self._asked_unconfirmed = False
        self._proceed()

    def link_failed(self) -> None:
        """None can be had now."""
        self._opening = False
        self._failures += 1
        self._want_link()

    def link_closed(self, link: Link) -> None:
        """It has ended."""
        used = next(iter(self._links), None) == link
        self._links.pop(link, None)
        self._shared.links.pop(link, None)
        if used and self._links:
            self._begin()
        elif not self._links:
            self._failures += 1
            for stream in list(self._streams.values()):
                if not stream.open:
                    del self._streams[stream.state.protocol]
            self._want_link()

    def came(self) -> None:
        """It is connected: now is the time."""
        if not self._links and not self._opening:
            self._failures = 0
            self._cancel_retry()
            self._want_link()

    def _want_link(self) -> None:
        if self._links or self._opening or self._retry is not None or not self.wants_link:
            return
        if not self._failures:
            self._open()
            return
        config = self._shared.config
        pause = min(config.retry_most, config.retry_least * 2.0 ** min(self._failures - 1, 30))
        self._retry = self._shared.deadlines.at(self._shared.now + pause, self._try_again)

    def _try_again(self, now: float) -> None:
        self._retry = None
        if not self._links and not self._opening and self.wants_link:
            self._open()

    def _open(self) -> None:
        self._opening = True
        self._shared.effects.append(OpenDurableLink(self.peer))

    def _cancel_retry(self) -> None:
        if self._retry is not None:
            self._retry.cancel()
            self._retry = None

    def _look_later(self) -> None:
        """Watch the links: one that is silent although something is owed is given up, one without work is closed."""
        if self._watch is None and self._links:
            config = self._shared.config
            pause = min(config.link_patience, config.idle_timeout) / 2
            self._watch = self._shared.deadlines.at(self._shared.now + pause, self._look)

    def _look(self, now: float) -> None:
        self._watch = None
        config = self._shared.config
        owed = any(stream.written or stream.loading for stream in self._streams.values())
        patience = config.link_patience if owed else config.idle_timeout
        if now >= self._active + patience and not self._storing:
            for link in list(self._links):
                self._close(link)
            for stream in self._streams.values():
                stream.begin()
            if owed or self._unconfirmed:  # what the peer is left alone with has a time of its own
                self._failures += 1
                self._want_link()
            self.leave_if_idle()
        self._look_later()

    # ------------------------------------------------------------ out

    def outgoing_changed(self, state: Outgoing) -> None:
        """The store says how far the messages by one protocol are."""
        stream = self._streams.get(state.protocol)
        if stream is None:
            stream = self._streams[state.protocol] = OutgoingStream(state)
        else:
            stream.change(state)
        if not stream.open and not self._links:
            del self._streams[state.protocol]
            return
        if self._links:
            self._write_next(stream)
        else:
            self._want_link()

    def outgoing_loaded(self, loaded: OutgoingLoaded) -> None:
        """Messages from the disk: write them, if they are still what is next."""
        stream = self._streams.get(loaded.protocol)
        if stream is None or not stream.loading or stream.state.incarnation != loaded.incarnation:
            return
        stream.loading = False
        if loaded.failed:
            self._leave_alone(stream)
            return
        if not self._links or not loaded.items or loaded.first != stream.sent + 1:
            return
        self._write(stream, loaded.first, loaded.items)
        self._write_next(stream)

    def _proceed(self) -> None:
        """There is a link: tell what the peer does not know."""
        if self._unconfirmed and not self._asked_unconfirmed:
            self._asked_unconfirmed = True
            self._shared.effects.append(LoadUnconfirmed(self.peer))
        for stream in list(self._streams.values()):
            self._write_next(stream)

    def _write_next(self, stream: OutgoingStream) -> None:
        if not self._links or stream.loading or stream.busy_until > self._shared.now:
            return
        state, config = stream.state, self._shared.config
        if stream.sent < state.end:
            room = config.window - sum(each.size for each in self._streams.values())
            most = min(MAX_ITEMS, config.window_messages - stream.written)
            if (room > 0 and most > 0) or not stream.written:
                stream.loading = True
                size = max(1, min(_LOAD, room))
                protocol, incarnation = state.protocol, state.incarnation
                load = LoadOutgoing(self.peer, protocol, incarnation, stream.sent, size, max(1, most))
                self._shared.effects.append(load)
                return
        elif stream.told_floor < state.floor or not stream.announced:
            self._send(encode([stream.batch(0, (), 0)]))
            if not stream.open:
                del self._streams[state.protocol]

    def _write(self, stream: OutgoingStream, first: int, items: Sequence[Item]) -> None:
        """Write messages, in as many frames as they need."""
        start = size = 0
        for index, item in enumerate(items):
            weight = len(item.data or b"") + _FRAMING
            if size and size + weight > _FRAME_ROOM:
                self._send(encode([stream.batch(first + start, items[start:index], size)]))
                start, size = index, 0
            size += weight
        self._send(encode([stream.batch(first + start, items[start:], size)]))
        self._shared.sent += len(items)

    def _send(self, frame: bytes) -> None:
        link = next(iter(self._links), None)
        if link is not None:
            self._shared.effects.append(SendFrame(link, frame))

    def _leave_alone(self, stream: OutgoingStream) -> None:
        """The receiver, or the disk, has had enough: try again later."""
        config, protocol = self._shared.config, stream.state.protocol
        stream.refused(self._shared.now, config.retry_least, config.retry_most)

        def again(now: float) -> None:
            if self._streams.get(protocol) is not stream:
                return
            if self._links:
                self._write_next(stream)
            else:  # it was idle for as long
                self._want_link()

        self._shared.deadlines.at(stream.busy_until, again)

    # ------------------------------------------------------------ in

    def receive(self, link: Link, data: bytes) -> None:
        """Take bytes of a link. Raises ProtocolError."""
        self._active = self._shared.now
        frames, error = self._links[link].cut(data)
        for body in frames:
            frame = decode(body)
            for batch in frame.batches:
                self._on_batch(batch)
            for acknowledgement in frame.acknowledgements:
                self._on_acknowledgement(acknowledgement)
        if error is not None:
            raise error

    def _on_batch(self, batch: DurableBatch) -> None:
        size = sum(len(item.data or b"") + ROW_OVERHEAD for item in batch.items) + ROW_OVERHEAD
        if self._storing + size > self._shared.config.max_incoming:
            raise ProtocolError(f"{self._storing + size} bytes that are not stored yet")
        if not batch.items:
            self._shared.charge(self.peer, _NEEDLESS)
        self._shared.received += len(batch.items)
        self._storing += size
        self._shared.effects.append(StoreIncoming(self.peer, size, batch))

    def incoming_stored(self, size: int, acknowledgement: Acknowledgement, confirmed: bool) -> None:
        """What a peer sent is on the disk, or is not to be; `confirmed`: it knows all that is settled here."""
        self._storing -= size
        if confirmed:
            self._unconfirmed = False
        if acknowledgement.trouble is Trouble.NOBODY and len(self._turned_away) < _TURNED_AWAY:
            self._turned_away[acknowledgement.protocol] = acknowledgement.incarnation
        if acknowledgement.trouble is Trouble.CONFLICT:
            self._shared.conflicts += 1
            self._shared.charge(self.peer, _NEEDLESS)
        self._send(encode(acknowledgements=[acknowledgement]))

    def incoming_settled(self, acknowledgements: Sequence[Acknowledgement]) -> None:
        """Something is settled here that the peer does not know."""
        self._unconfirmed = True
        if self._links and acknowledgements:
            self._send(encode(acknowledgements=acknowledgements))
        elif self._links:
            self._proceed()
        else:
            self._want_link()

    def unconfirmed_loaded(self, acknowledgements: Sequence[Acknowledgement]) -> None:
        """All that the peer has not confirmed to know."""
        if not acknowledgements:
            self._unconfirmed = False
        else:
            for acknowledgement in acknowledgements:
                self._send(encode(acknowledgements=[acknowledgement]))

    def protocol_received(self, protocol: str) -> None:
        """An app here receives the protocol now: the peer may send what was turned away."""
        incarnation = self._turned_away.pop(protocol, None)
        if incarnation is not None:
            self._send(encode(acknowledgements=[Acknowledgement(protocol, incarnation, 0)]))

    def _on_acknowledgement(self, told: Acknowledgement) -> None:
        stream = self._streams.get(told.protocol)
        if stream is None or stream.state.incarnation != told.incarnation:
            # What is known of it here is that nothing is open: the peer may forget it.
            known = DurableBatch(told.protocol, told.incarnation, told.held + 1, told.held, 0, ())
            self._shared.charge(self.peer, _NEEDLESS)
            if told.settled:
                self._send(encode([known]))
            return
        state = stream.state
        if told.trouble is Trouble.CONFLICT or told.held > state.end:
            self._shared.conflicts += 1
            self._shared.effects.append(RenewOutgoing(self.peer, told.protocol, told.incarnation))
            return
        if told.trouble is not Trouble.NONE:
            self._settle(stream, told)
            self._leave_alone(stream)
            return
        if stream.busy_until > self._shared.now:
            stream.busy_until = 0.0  # it was turned away, and is wanted now
        stream.failures = 0
        self._settle(stream, told)
        self._write_next(stream)

    def _settle(self, stream: OutgoingStream, told: Acknowledgement) -> None:
        state = stream.state
        fresh = any(part.first + part.count > state.floor for part in told.settled)
        if told.held > state.held or fresh:
            settle = SettleOutgoing(self.peer, told.protocol, told.incarnation, told.held, told.settled)
            self._shared.effects.append(settle)
            stream.change(state._replace(held=max(told.held, state.held)))
        elif stream.behind(told):
            # Its disk is older than what it said: what it lacks is still here, for it is kept until it is settled.
            held = max(told.held, state.floor - 1)
            if held < state.held:
                stream.state = state._replace(held=held)
                stream.sent = min(stream.sent, held)
                stream.unheld.clear()
        elif not told.settled:
            self._shared.charge(self.peer, _NEEDLESS)
