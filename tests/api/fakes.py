"""An in-memory node that records what it is fed and answers as told, and a server around it."""

import asyncio
import functools
import hashlib
import os
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from math import inf
from pathlib import Path
from typing import Any, NamedTuple

import sidecar_client

from sidecar.api.backend import Backend
from sidecar.api.config import ApiConfig
from sidecar.api.mail import Mail
from sidecar.api.server.server import ApiServer
from sidecar.config.describe import Setting
from sidecar.core import direct, events, gossip
from sidecar.core.autonat import AddressSource, AddressVerdict, Reachability
from sidecar.core.events import Condition, PeerView
from sidecar.core.gate import Gate
from sidecar.core.gossip.rules import RuleBook
from sidecar.core.histogram import Histogram
from sidecar.core.history import HistoryView
from sidecar.core.identity import Identity
from sidecar.core.multiaddr import Multiaddr
from sidecar.core.node import Participation
from sidecar.core.node.statistics import NodeStatistics, WorkStatistics
from sidecar.core.parameters import DurableConfig
from sidecar.core.types import Direction, PeerId

ENGINE = os.environ.get("API_ENGINE", "auto")
"""Which engine serves; a fixture of tests/api/conftest.py changes it."""

ME = Identity(bytes(32)).peer_id
OTHER = Identity(bytes(31) + b"\1").peer_id
THIRD = Identity(bytes(31) + b"\2").peer_id
MAPPED = Multiaddr.from_text("/ip4/192.0.2.1/tcp/4747")
ADDRESS = Multiaddr.from_text("/ip4/127.0.0.1/tcp/4747")
ME_TEXT, OTHER_TEXT = str(ME), str(OTHER)


class Addresses(NamedTuple):
    listening: tuple[Multiaddr, ...] = (ADDRESS,)
    announced: tuple[Multiaddr, ...] = (ADDRESS,)
    observed: tuple[Multiaddr, ...] = ()
    relayed: tuple[Multiaddr, ...] = ()
    verdict: Reachability = Reachability.CONFIRMED
    verdicts: tuple[AddressVerdict, ...] = (
        AddressVerdict(ADDRESS, Reachability.UNREACHABLE, AddressSource.LISTENING, since=5.0, proofs=1, failures=3),
    )
    mapping: events.PortsMapped = events.PortsMapped(
        events.PortMappingState.MAPPED,
        "mapped",
        "Do so.",
        "192.168.1.1",
        "pcp",
        (events.PortMapping(MAPPED, 4747, 600.0), events.PortMapping(MAPPED, 4748, inf)),
    )


def peer_view(peer: PeerId = OTHER, *, connected: bool = True) -> PeerView:
    return PeerView(
        peer=peer,
        connected=connected,
        direction=Direction.OUTBOUND if connected else None,
        addresses=(ADDRESS,),
        remote=ADDRESS if connected else None,
        protocols=("/ipfs/ping/1.0.0",) if connected else (),
        agent="fake",
        protocol_version="sidecar/test",
        identified=connected,
        latency=0.0125 if connected else None,
        connected_since=0.0 if connected else None,
        connections=1 if connected else 0,
    )


def message(
    data: bytes, topic: str = "news", *, local: bool = False, sender: PeerId | None = OTHER
) -> gossip.GossipMessage:
    return gossip.GossipMessage(hashlib.sha256(data).digest(), topic, sender, None, data, OTHER, local)


SETTINGS = [
    Setting("gossip.degree", "8", "$SIDECAR_GOSSIP_DEGREE", False),
    Setting("log.level", '"info"', "default", True),
]


class FakeNode:
    """Publishing succeeds and is delivered to this node's subscribers; everything else is answered by `answers`.

    `fed` has every input. An answer is a value or an error, by the input's type; None leaves the operation open.
    """

    def __init__(self) -> None:
        self.peer_id = ME
        self.gate = Gate()
        self.network = "test"
        self.rule_book = RuleBook()
        self.fed: list[Any] = []
        self.batches: list[int] = []  # how many requests or answers came as one input
        self.arrived: dict[type, asyncio.Event] = {}
        self.answers: dict[type, Any] = {}
        self.views = [peer_view()]
        self.joined: dict[str, gossip.TopicOptions] = {}
        self.outcome = gossip.PublishOutcome.SENT
        self.when_cancelled = ([gossip.Receipt(0, 1, gossip.PublishOutcome.CANCELLED, 0, 0)], [b""])
        self.met = True
        self.counted = NodeStatistics(
            gossip=gossip.GossipStatistics(delivered=3), work=WorkStatistics(points={"gossip": 0.5})
        )
        self.on_news: Callable[[object], object] = lambda effect: None
        self._ops = 0

    # ---------------------------------------------------------- what the API asks

    def new_op(self) -> int:
        self._ops += 1
        return self._ops

    def peers(self, *, known: bool = False) -> list[PeerView]:
        return [view for view in self.views if known or view.connected]

    def peer(self, peer: PeerId) -> PeerView | None:
        return next((view for view in self.views if view.peer == peer), None)

    def conditions(self) -> tuple[Condition, ...]:
        reason, remedy = ("Listening", "") if self.met else ("NoAddress", "Set one.")
        return (Condition("Listening", self.met, reason, "a sentence", remedy, 0.0),)

    def topics(self) -> list[gossip.TopicView]:
        return [gossip.TopicView(t, True, o.sign, (OTHER,), (OTHER,)) for t, o in reversed(self.joined.items())]

    def history(self) -> list[HistoryView]:
        return [HistoryView(topic, 1, 0, 1e9, 2e9) for topic, options in self.joined.items() if options.keep]

    def rules(self) -> list[gossip.RuleView]:
        return self.rule_book.views()

    def participation(self) -> Participation:
        counted = self.counted
        return Participation(counted.switch.peers_ready, counted.gossip_queues.peers, counted.kademlia.peers)

    def statistics(self) -> NodeStatistics:
        return self.counted

    def histograms(self) -> dict[str, Histogram]:
        counted = Histogram((0.01, 0.1))
        for value in (0.005, 0.01, 5.0):
            counted.observe(value)
        return {"gossip_propagation_seconds": counted, "gossip_echo_seconds": Histogram((1.0,))}

    def addresses(self) -> Addresses:
        return Addresses()

    # ---------------------------------------------------------- what it is fed

    def feed(self, fed: Any) -> None:
        if isinstance(fed, direct.RequestsMade | direct.RequestsAnswered):  # the same as each of them
            self.batches.append(len(fed[0]))
            for one in fed[0]:
                self.feed(one)
            return
        self.fed.append(fed)
        self.arrived.setdefault(type(fed), asyncio.Event()).set()
        match fed:
            case gossip.TopicJoined(topic, options):
                self.joined[topic] = options
            case gossip.RulesSet(rules, configured):
                self.rule_book.put(rules, configured=configured)
            case gossip.TopicLeft(topic):
                del self.joined[topic]
            case gossip.Published():
                self._publish(fed)
            case gossip.PublishCancelled(op):
                self.on_news(gossip.PublishCompleted(op, *self.when_cancelled))
            case direct.SendRequested(op) if direct.SendRequested in self.answers:
                answer = self.answers[direct.SendRequested]
                if answer is not None:
                    ranges = (direct.OutcomeRange(0, len(fed.messages), answer[0]),)
                    self.on_news(direct.SendCompleted(op, ranges, answer[1]))
            case direct.RequestMade(op):
                answer = self.answers.get(direct.RequestMade)
                if answer is not None:
                    self.on_news(direct.RequestCompleted(op, answer))
            case events.AdvertiseRequested(op) if events.AdvertiseRequested in self.answers:
                self.on_news(events.AdvertisementAnnounced(op, *self.answers[events.AdvertiseRequested]))
            case events.BanRequested(op, bans):
                self.gate.add(*bans)
                self.on_news(events.OperationCompleted(op, self.answers.get(type(fed), events.BansMade(0, (), ()))))
            case events.BansLifted(subjects):
                for subject in subjects:
                    self.gate.lift(subject)
            case events.ProtectionChanged(peer, protected):
                self.gate.protect(peer, protected)
            case events.WallClockRead(wall):
                self.gate.advance(wall)
            case (
                events.ConnectRequested(op)
                | events.DisconnectRequested(op)
                | events.PingRequested(op)
                | events.FindPeerRequested(op)
                | events.ClosestPeersRequested(op)
                | events.RecordPutRequested(op)
                | events.RecordRequested(op)
            ):
                if type(fed) in self.answers:
                    self.on_news(events.OperationCompleted(op, self.answers[type(fed)]))
            case _:
                pass

    def _publish(self, fed: gossip.Published) -> None:
        parked = self.answers.get(gossip.Published, "at once") is None
        if parked or (fed.minimum_peers and fed.wait and fed.minimum_peers > 1):
            return
        count = len(fed.messages)
        sent = self.outcome in (gossip.PublishOutcome.SENT, gossip.PublishOutcome.NO_PEERS)
        ids = [hashlib.sha256(data).digest() if sent else b"" for data in fed.messages]
        receipt = gossip.Receipt(0, count, self.outcome, 1 if self.outcome is gossip.PublishOutcome.SENT else 0, 0)
        if sent and fed.topic in self.joined:
            self.deliver(*[message(data, fed.topic, local=True, sender=ME) for data in fed.messages])
        self.on_news(gossip.PublishCompleted(fed.op, [receipt], ids))

    def deliver(self, *messages: gossip.GossipMessage) -> None:
        self.on_news(gossip.MessagesDelivered(messages[0].topic, list(messages)))

    def of(self, kind: type) -> list[Any]:
        """Everything of a kind that has been fed."""
        return [fed for fed in self.fed if type(fed) is kind]

    async def wait_for(self, kind: type) -> Any:
        """The next input of a kind, which has perhaps been fed already."""
        event = self.arrived.setdefault(kind, asyncio.Event())
        await asyncio.wait_for(event.wait(), 5)
        event.clear()
        return self.of(kind)[-1]


class Served(NamedTuple):
    """A server on a Unix socket, the fake node behind it, and a client."""

    node: FakeNode
    backend: Backend
    server: ApiServer
    client: sidecar_client.Client


@asynccontextmanager
async def server(
    path: Path | None, node: FakeNode | None = None, **bounds: Any
) -> AsyncIterator[tuple[FakeNode, Backend, ApiServer]]:
    node = node or FakeNode()
    config = ApiConfig(
        socket=path, **{"engine": ENGINE, "linger": 0.0, "drain_timeout": 0.5, "tokens_fresh": 0.0, **bounds}
    )
    file = path.with_suffix(".db") if path is not None else None
    mail = Mail(file, DurableConfig(), lambda told: None) if file is not None else None  # on disk once it is used
    backend = Backend(node, node.feed, config, agent="sidecar/test", settings=lambda: SETTINGS, mail=mail)
    node.on_news = backend.on_news
    api = ApiServer(backend, config)
    await api.start()
    try:
        yield node, backend, api
    finally:
        await api.stop()
        if mail is not None:
            await mail.close()


@asynccontextmanager
async def served(directory: Path, **bounds: Any) -> AsyncIterator[Served]:
    path = directory / "api.sock"
    async with server(path, **bounds) as (node, backend, api), sidecar_client.connect(api.target) as client:
        yield Served(node, backend, api, client)


def asynchronous(test: Callable[..., Coroutine[Any, Any, None]]) -> Callable[..., None]:
    """Run an async test to its end, in bounded time, and check that it leaves no task behind."""

    @functools.wraps(test)
    def run(*arguments: Any, **named: Any) -> None:
        async def bounded() -> None:
            async with asyncio.timeout(20):
                await test(*arguments, **named)
            for _ in range(1000):  # gRPC's own tasks need some turns to notice
                left = asyncio.all_tasks() - {asyncio.current_task()}
                if not left:
                    break
                await asyncio.sleep(0)
            assert not left

        asyncio.run(bounded())

    return run
