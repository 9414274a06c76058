"""Direct messages in the node: links are streams, opened to any peer that can be reached."""

from math import inf
from typing import assert_never

from .. import direct
from ..buffer import Buffers
from ..errors import Closed, NotSupported, SelfDial, SidecarError
from ..events import LogLevel
from ..override import override
from ..types import PeerId
from .dialling import Dialling
from .service import Service
from .statistics import DirectStatistics
from .switch import VIOLATION, Peer, SimpleHandler, Stream, Switch


class DirectMessageService(SimpleHandler, Service[direct.AppInput]):
    """Runs the direct router on the switch. A link's number is its stream's."""

    name = "direct"
    keeps_time = True

    def __init__(self, switch: Switch, dialling: Dialling, now: float) -> None:
        self.router = direct.DirectRouter(switch.config.direct, now=now)
        self._switch = switch
        self._dialling = dialling
        self._protocol = switch.config.direct_protocol
        self._links: dict[direct.Link, Stream] = {}
        self._arrived: dict[direct.Link, list[bytes]] = {}  # this turn's bytes
        switch.register(self._protocol, self)

    # ------------------------------------------------------------ the router

    @override
    def handle(self, arrived: direct.AppInput, now: float) -> None:
        match arrived:
            case direct.SendRequested(op, peer) if peer == self._switch.local:
                outcomes = (direct.OutcomeRange(0, len(arrived.messages), direct.SendOutcome.UNREACHABLE),)
                self._switch.emit(direct.SendCompleted(op, outcomes, _self_dial()))
            case direct.RequestMade(op, peer) if peer == self._switch.local:
                self._switch.emit(direct.RequestCompleted(op, _self_dial()))
            case direct.RequestsMade(requests) if any(request.peer == self._switch.local for request in requests):
                for request in requests:
                    self.handle(request, now)
            case _:
                self._carry_out(self.router.handle(arrived, now), now)

    def _put(self, arrived: direct.DirectInput) -> None:
        """Hand the router an input, later in this turn."""
        self._switch.turn.put(lambda now: self._carry_out(self.router.handle(arrived, now), now))

    @override
    def handle_deadline(self, now: float) -> None:
        self._carry_out(self.router.handle_deadline(now), now)

    def _flush(self, now: float) -> None:
        """Hand this turn's bytes on, joined for each link."""
        while self._arrived:
            link, chunks = self._arrived.popitem()
            data = chunks[0] if len(chunks) == 1 else b"".join(chunks)
            self._carry_out(self.router.handle(direct.DataReceived(link, data), now), now)

    def _look_at_deadline(self) -> None:
        due = self.router.next_deadline()
        self.due = inf if due is None else due

    def _carry_out(self, effects: list[direct.DirectEffect], now: float) -> None:
        self._look_at_deadline()
        for peer, points in self.router.take_charges().items():
            self._switch.charge(peer, "direct", points, now)
        for effect in effects:
            match effect:
                case direct.LinkWoken(link):
                    stream = self._links.get(link)
                    if stream is not None:
                        self._switch.wake(stream)
                case direct.OpenLink(peer):
                    self._open(peer, now)
                case direct.CloseLink(link):
                    stream = self._links.pop(link, None)
                    if stream is not None:
                        self._switch.close_write(stream)
                        self._switch.expire(stream, now)
                case direct.LinkViolated(link, error):
                    stream = self._links.pop(link, None)
                    if stream is not None:
                        self._switch.note(LogLevel.WARNING, stream.peer.id, "direct: %s", error)
                        self._switch.charge(stream.peer.id, "direct", VIOLATION, now)
                        self._switch.reset(stream)
                case (
                    direct.SendCompleted()
                    | direct.RequestCompleted()
                    | direct.MessagesReceived()
                    | direct.RequestArrived()
                    | direct.RequestWithdrawn()
                ):
                    self._switch.emit(effect)
                case _:
                    assert_never(effect)

    def _open(self, peer_id: PeerId, now: float) -> None:
        def reached(peer: Peer | SidecarError, now: float) -> None:
            if isinstance(peer, SidecarError):
                self._put(direct.LinkFailed(peer_id, peer))
            else:
                self._switch.open_stream(peer.best, (self._protocol,), self, peer_id)

        self._dialling.reach(peer_id, (), reached, now, search=True, passing=True)

    @override
    def peer_updated(self, peer: Peer, now: float) -> None:
        """Another connection may be the best one now: what is new goes there."""
        for connection in peer.connections:
            if connection.draining and connection is not peer.best:
                for stream in connection.streams.values():
                    self._retire(stream)

    def _retire(self, stream: Stream) -> None:
        if stream.state is not None and stream.number in self._links:
            self._put(direct.LinkRetired(stream.number))

    # ------------------------------------------------------------ streams

    @override
    def opened(self, stream: Stream, now: float) -> None:
        self._links[stream.number] = stream
        if stream.state is None:
            self._put(direct.LinkAccepted(stream.peer.id, stream.number))
        else:
            self._put(direct.LinkOpened(stream.peer.id, stream.number))
            if stream.connection.draining and stream.connection is not stream.peer.best:
                self._retire(stream)

    @override
    def needed(self, stream: Stream) -> bool:
        return self.router.busy(stream.number)

    @override
    def failed(self, state: object, error: SidecarError, now: float) -> None:
        if isinstance(state, PeerId):
            if isinstance(error, NotSupported):
                error = NotSupported(f"{state} takes no direct messages: {error}")
            self._put(direct.LinkFailed(state, error))

    @override
    def received(self, stream: Stream, data: bytes, now: float) -> None:
        if stream.number in self._links:
            if not self._arrived:
                self._switch.turn.put(self._flush)
            self._arrived.setdefault(stream.number, []).append(data)

    @override
    def ended(self, stream: Stream, now: float) -> None:
        def over(now: float) -> None:
            self._flush(now)
            self._switch.close_write(stream)
            self._over(stream, Closed("the peer closed the link"), now)

        self._switch.turn.put(over)

    @override
    def closed(self, stream: Stream, error: SidecarError, now: float) -> None:
        self._switch.turn.put(lambda now: self._over(stream, error, now))

    @override
    def take(self, stream: Stream, limit: int) -> Buffers:
        taken = self.router.take(stream.number, limit)
        self._look_at_deadline()
        return taken

    @override
    def waits(self, stream: Stream) -> bool:
        return True  # only asking tells

    def _over(self, stream: Stream, error: SidecarError, now: float) -> None:
        self._arrived.pop(stream.number, None)
        if self._links.pop(stream.number, None) is not None:
            self._carry_out(self.router.handle(direct.LinkClosed(stream.number, error), now), now)

    def statistics(self) -> DirectStatistics:
        """Totals since the start, and what is open and queued now."""
        counts = self.router.counts
        return DirectStatistics(
            links=len(self._links),
            queued_bytes=self.router.queued,
            messages_sent=counts.messages_sent,
            messages_received=counts.messages_received,
            messages_dropped=counts.messages_dropped,
            requests_sent=counts.requests_sent,
            requests_received=counts.requests_received,
        )


def _self_dial() -> SelfDial:
    return SelfDial("the peer addressed is this node itself")
