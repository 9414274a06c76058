"""Durable messages in the node: links are streams, opened to any peer that can be reached."""

from math import inf
from typing import assert_never

from .. import durable
from ..errors import NotSupported, SidecarError
from ..events import LogLevel
from ..override import override
from ..types import PeerId
from .dialling import Dialling
from .service import Service
from .statistics import DurableStatistics
from .switch import VIOLATION, Peer, SimpleHandler, Stream, Switch


class DurableMessageService(SimpleHandler, Service[durable.AppInput]):
    """Runs the durable router on the switch. A link's number is its stream's."""

    name = "durable"
    keeps_time = True

    def __init__(self, switch: Switch, dialling: Dialling) -> None:
        self.router = durable.DurableRouter(switch.config.durable)
        self._switch = switch
        self._dialling = dialling
        self._protocol = switch.config.durable_protocol
        self._links: dict[durable.Link, Stream] = {}
        switch.register(self._protocol, self)

    @override
    def handle(self, arrived: durable.AppInput, now: float) -> None:
        self._carry_out(self.router.handle(arrived, now), now)

    def _put(self, arrived: durable.DurableInput) -> None:
        """Hand the router an input, later in this turn."""
        self._switch.turn.put(lambda now: self._carry_out(self.router.handle(arrived, now), now))

    @override
    def handle_deadline(self, now: float) -> None:
        self._carry_out(self.router.handle_deadline(now), now)

    @override
    def peer_ready(self, peer: Peer, now: float) -> None:
        self._put(durable.PeerCame(peer.id))

    def _carry_out(self, effects: list[durable.DurableEffect], now: float) -> None:
        due = self.router.next_deadline()
        self.due = inf if due is None else due
        for peer, points in self.router.take_charges().items():
            self._switch.charge(peer, "durable", points, now)
        for effect in effects:
            match effect:
                case durable.SendFrame(link, data):
                    stream = self._links.get(link)
                    if stream is not None:
                        stream.out.push(data)
                        self._switch.wake(stream)
                case durable.OpenDurableLink(peer):
                    self._open(peer, now)
                case durable.CloseDurableLink(link):
                    stream = self._links.pop(link, None)
                    if stream is not None:
                        self._switch.close_write(stream)
                        self._switch.expire(stream, now)
                case durable.DurableLinkViolated(link, error):
                    stream = self._links.pop(link, None)
                    if stream is not None:
                        self._switch.note(LogLevel.WARNING, stream.peer.id, "durable: %s", error)
                        self._switch.charge(stream.peer.id, "durable", VIOLATION, now)
                        self._switch.reset(stream)
                case (
                    durable.LoadOutgoing()
                    | durable.SettleOutgoing()
                    | durable.RenewOutgoing()
                    | durable.StoreIncoming()
                    | durable.LoadUnconfirmed()
                ):
                    self._switch.emit(effect)
                case _:
                    assert_never(effect)

    def _open(self, peer_id: PeerId, now: float) -> None:
        def reached(peer: Peer | SidecarError, now: float) -> None:
            if isinstance(peer, SidecarError):
                self._put(durable.DurableLinkFailed(peer_id, peer))
            else:
                self._switch.open_stream(peer.best, (self._protocol,), self, peer_id)

        self._dialling.reach(peer_id, (), reached, now, search=True, passing=True)

    # ------------------------------------------------------------ streams

    @override
    def opened(self, stream: Stream, now: float) -> None:
        self._links[stream.number] = stream
        self._put(durable.DurableLinkOpened(stream.peer.id, stream.number))

    @override
    def failed(self, state: object, error: SidecarError, now: float) -> None:
        if isinstance(state, PeerId):
            if isinstance(error, NotSupported):
                error = NotSupported(f"{state} takes no durable messages: {error}")
            self._put(durable.DurableLinkFailed(state, error))

    @override
    def received(self, stream: Stream, data: bytes, now: float) -> None:
        if stream.number in self._links:
            self._put(durable.DurableDataReceived(stream.number, data))

    @override
    def ended(self, stream: Stream, now: float) -> None:
        self._switch.close_write(stream)
        self._over(stream)

    @override
    def closed(self, stream: Stream, error: SidecarError, now: float) -> None:
        self._over(stream)

    def _over(self, stream: Stream) -> None:
        if self._links.pop(stream.number, None) is not None:
            self._put(durable.DurableLinkClosed(stream.number))

    def statistics(self) -> DurableStatistics:
        """Totals since the start, and what is open and waits now."""
        router = self.router
        return DurableStatistics(
            links=router.links,
            peers_waiting=router.waiting,
            messages_sent=router.sent,
            messages_received=router.received,
            conflicts=router.conflicts,
        )
