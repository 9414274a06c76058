"""Backfill in the node: sessions are streams to connected peers of topics that are kept."""

from math import inf
from typing import assert_never

from .. import gossip, history
from ..errors import Closed, SidecarError
from ..events import LogLevel
from ..override import override
from ..types import PeerId
from .dialling import Dialling
from .gossip import GossipService, KeptNews
from .service import Follower, Service
from .switch import VIOLATION, Peer, SimpleHandler, Stream, Switch


class HistoryService(SimpleHandler, Service[history.AppInput], Follower[gossip.TopicJoined | gossip.TopicLeft]):
    """Runs the machine of backfill on the switch and beside gossip. A link's number is its stream's.

    Without topics that are kept it answers no protocol and does nothing.
    """

    name = "history"
    keeps_time = True

    def __init__(self, switch: Switch, dialling: Dialling, gossip_service: GossipService, now: float) -> None:
        config = switch.config
        self._switch = switch
        self._dialling = dialling
        self._gossip = gossip_service
        self._protocol = config.history_protocol
        self._links: dict[history.Link, Stream] = {}
        self._on = bool(config.history.topics) and config.history.backfill
        self.router = history.HistoryRouter(
            config.history, now=now, rng=switch.rng, eligible=self._eligible, max_rpc=config.gossip.max_rpc
        )
        if self._on:
            switch.register(self._protocol, self)
            gossip_service.follow_kept(self._on_gossip)

    def _eligible(self, peer: PeerId) -> bool:
        """Whether it may be asked and answered: its score is not below 0, or the operator has said so."""
        return self._gossip.router.score_of(peer) >= 0 or self._dialling.protects(peer)

    @override
    def handle(self, arrived: history.HistoryInput, now: float) -> None:
        self._carry_out(self.router.handle(arrived, now), now)

    def _put(self, arrived: history.HistoryInput) -> None:
        """Hand the machine an input, later in this turn."""
        self._switch.turn.put(lambda now: self.handle(arrived, now))

    @override
    def handle_deadline(self, now: float) -> None:
        self._carry_out(self.router.handle_deadline(now), now)

    # ------------------------------------------------------------ gossip

    @override
    def followed(self, arrived: gossip.TopicJoined | gossip.TopicLeft, now: float) -> None:
        if not self._on:
            return
        match arrived:
            case gossip.TopicLeft(topic):
                self.handle(history.HistoryTopicLeft(topic), now)
            case gossip.TopicJoined(topic, options) if not options.keep:
                self.handle(history.HistoryTopicLeft(topic), now)
            case gossip.TopicJoined(topic) if not self.router.keeps(topic):
                self.handle(history.HistoryTopicKept(topic), now)
                for member, _ in self._gossip.router.members(topic):
                    self._came(member, topic)

    def _came(self, peer_id: PeerId, topic: str) -> None:
        peer = self._switch.peers.get(peer_id)
        if peer is not None and peer.speaks(self._protocol):
            self._put(history.HistoryPeerCame(peer_id, topic))

    def _on_gossip(self, news: KeptNews, now: float) -> None:
        match news:
            case gossip.TopicPeerChanged(topic, peer, True):
                self._came(peer, topic)
            case gossip.TopicPeerChanged(topic, peer):
                self._put(history.HistoryPeerLeft(peer, topic))
            case gossip.HistoryJudged():
                refused = (*news.ignored, *news.rejected)
                self._put(
                    history.BroughtJudged(
                        news.number,
                        len(news.accepted),
                        [history.key_of(identifier) for identifier in refused],
                        news.invalid[0][1] if news.invalid else None,
                        final=not news.waiting,
                    )
                )
            case _:
                assert_never(news)

    # ------------------------------------------------------------ effects

    def _carry_out(self, effects: list[history.HistoryEffect], now: float) -> None:
        due = self.router.next_deadline()
        self.due = inf if due is None else due
        for peer, points in self.router.take_charges().items():
            self._switch.charge(peer, self.name, points, now)
        for effect in effects:
            match effect:
                case history.SendHistoryFrame(link, data):
                    stream = self._links.get(link)
                    if stream is not None:
                        self._switch.write(stream, data)
                case history.OpenHistoryLink(session, peer_id):
                    self._open(session, peer_id)
                case history.CloseHistoryLink(link):
                    stream = self._links.pop(link, None)
                    if stream is not None:
                        self._switch.close_write(stream)
                        self._switch.expire(stream, now)
                case history.ResetHistoryLink(link):
                    stream = self._links.pop(link, None)
                    if stream is not None:
                        self._switch.reset(stream)
                case history.HistoryViolated(peer_id, link, error):
                    self._switch.note(LogLevel.WARNING, peer_id, "history: %s", error)
                    self._switch.charge(peer_id, self.name, VIOLATION, now)
                    stream = self._links.pop(link, None) if link is not None else None
                    if stream is not None:
                        self._switch.reset(stream)
                case history.BringHistory(number, peer_id, topic, raws, ages, keys):
                    self._gossip.bring(gossip.HistoryBrought(number, peer_id, topic, raws, ages, keys))
                case history.LoadHistoryKeys() | history.FindHistoryKeys() | history.LoadHistoryBodies():
                    self._switch.emit(effect)
                case _:
                    assert_never(effect)

    def _open(self, session: int, peer_id: PeerId) -> None:
        peer = self._switch.peers.get(peer_id)
        if peer is None or not peer.connections:
            self._put(history.HistoryLinkFailed(session, Closed(f"{peer_id} is not connected")))
        else:
            self._switch.open_stream(peer.best, (self._protocol,), self, session)

    # ------------------------------------------------------------ streams and peers

    @override
    def opened(self, stream: Stream, now: float) -> None:
        self._links[stream.number] = stream
        if isinstance(stream.state, int):
            self._put(history.HistoryLinkOpened(stream.state, stream.number))
        else:
            self._put(history.HistoryLinkAccepted(stream.peer.id, stream.number))

    @override
    def failed(self, state: object, error: SidecarError, now: float) -> None:
        if isinstance(state, int):
            self._put(history.HistoryLinkFailed(state, error))

    @override
    def received(self, stream: Stream, data: bytes, now: float) -> None:
        if stream.number in self._links:
            self._put(history.HistoryDataReceived(stream.number, data))

    @override
    def ended(self, stream: Stream, now: float) -> None:
        self._switch.turn.put(lambda now: self._over(stream))

    @override
    def closed(self, stream: Stream, error: SidecarError, now: float) -> None:
        self._switch.turn.put(lambda now: self._over(stream))

    def _over(self, stream: Stream) -> None:
        self._switch.close_write(stream)
        if self._links.pop(stream.number, None) is not None:
            self._put(history.HistoryLinkClosed(stream.number))

    @override
    def peer_updated(self, peer: Peer, now: float) -> None:
        """It may speak the protocol from now on."""
        if self._on and peer.speaks(self._protocol):
            for topic in self.router.topics:
                if any(member == peer.id for member, _ in self._gossip.router.members(topic)):
                    self._put(history.HistoryPeerCame(peer.id, topic))

    @override
    def peer_gone(self, peer: Peer, now: float) -> None:
        if self._on:
            self._put(history.HistoryPeerLeft(peer.id))

    # ------------------------------------------------------------ views

    def views(self, epoch: float) -> list[history.HistoryView]:
        """How backfill of each topic stands; see `HistoryRouter.views`."""
        return self.router.views(epoch)

    def statistics(self) -> history.BackfillStatistics:
        """Totals since the start, and what is under way now."""
        return self.router.statistics()
