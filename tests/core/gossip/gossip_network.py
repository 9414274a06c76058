"""Help for gossip tests: RPCs in one line, and routers joined by links in memory, on virtual time."""

import heapq
import random
from collections.abc import Callable, Iterable

from sidecar.core.buffer import FrameDecoder
from sidecar.core.gossip.events import (
    GossipEffect,
    GossipInput,
    GossipMessage,
    MessagesDelivered,
    PeerAdded,
    PeerRemoved,
    PeerViolated,
    PeerWoken,
    RpcsReceived,
    TopicJoined,
    TopicOptions,
)
from sidecar.core.gossip.messages import RPC, decode_rpc
from sidecar.core.gossip.router import GossipRouter
from sidecar.core.identity import Identity
from sidecar.core.parameters.gossip import GossipConfig
from sidecar.core.parameters.score import ScoreConfig
from sidecar.core.types import PeerId
from sidecar.wire.gossip_pb2 import Message

WALL = 1_700_000_000_000_000_000
SIGNED = TopicOptions()
UNSCORED = GossipConfig(score=ScoreConfig(enabled=False))  # who misbehaves is heard all the same


def identity(number: int) -> Identity:
    return Identity(number.to_bytes(32, "big"))


def peer_id(number: int) -> PeerId:
    return identity(number).peer_id


def make_router(
    number: int = 0,
    config: GossipConfig | None = None,
    seed: int = 1,
    exempt: Callable[[PeerId], bool] = lambda peer: False,
) -> GossipRouter:
    return GossipRouter(
        config or GossipConfig(),
        identity(number),
        now=0.0,
        sequence=WALL,
        rng=random.Random(seed * 1000 + number),
        signed_record=lambda peer: b"record of " + bytes(peer),
        exempt=exempt,
    )


def rpcs(router: GossipRouter, peer: PeerId) -> list[RPC]:
    decoder = FrameDecoder(1 << 20)
    found = []
    while frames := router.take(peer, 65536):
        found += [decode_rpc(body) for body in decoder.receive(b"".join(frames))]
    return found


def rpc(**fields: object) -> bytes:
    return RPC(**fields).SerializeToString()  # type: ignore[arg-type]


def subscribe(topic: str, wanted: bool = True, age: int | None = None) -> bytes:
    """What peers say; sidecars say since how many milliseconds as well."""
    return rpc(subscriptions=[{"subscribe": wanted, "topicid": topic.encode(), "age_ms": age}])


def control(**fields: object) -> bytes:
    return rpc(control=fields)


def graft(topic: str) -> bytes:
    return control(graft=[{"topicID": topic.encode()}])


def plain(topic: str, data: bytes) -> bytes:
    return Message(data=data, topic=topic.encode()).SerializeToString()


def signed(author: int, topic: str, data: bytes, seqno: int = 7) -> bytes:
    message = Message(
        **{"from": bytes(peer_id(author))}, data=data, seqno=seqno.to_bytes(8, "big"), topic=topic.encode()
    )
    message.signature = identity(author).sign(b"libp2p-pubsub:" + message.SerializeToString())
    return message.SerializeToString()


def joined(
    router: GossipRouter, topic: str, peers: int, options: TopicOptions = SIGNED, protocol: str = "/meshsub/1.1.0"
) -> list[PeerId]:
    """Join the topic, then add subscribed peers, numbered from 1; what waits for them is taken away."""
    router.handle(TopicJoined(topic, options), 0.0)
    ids = [peer_id(number) for number in range(1, peers + 1)]
    for peer in ids:
        router.handle(PeerAdded(peer, protocol, True), 0.0)
        router.handle(RpcsReceived(peer, [subscribe(topic, age=3_600_000)]), 0.0)
        rpcs(router, peer)
    return ids


class GossipNetwork:
    """Routers numbered from 0, and links with a delay, `steady` or not; every byte travels encoded."""

    def __init__(
        self,
        count: int,
        seed: int,
        config: GossipConfig | None = None,
        protocol: str = "/meshsub/1.1.0",
        *,
        steady: bool = False,
    ) -> None:
        self.protocol = protocol
        self.rng = random.Random(seed)
        self.now = 0.0
        self.routers = [make_router(number, config, seed) for number in range(count)]
        self.ids = [peer_id(number) for number in range(count)]
        self.delivered: list[list[GossipMessage]] = [[] for _ in range(count)]
        self.effects: list[list[GossipEffect]] = [[] for _ in range(count)]
        self._decoders: dict[tuple[int, int], FrameDecoder] = {}
        self._number = {peer: number for number, peer in enumerate(self.ids)}
        self._steady: dict[frozenset[int], float] | None = {} if steady else None
        self._last: dict[tuple[int, int], float] = {}
        self._wire: list[tuple[float, int, int, int, bytes]] = []
        self._sequence = 0

    def connect(self, opener: int, other: int, *, dial_only: bool = False) -> None:
        self._decoders[opener, other] = FrameDecoder(1 << 20)
        self._decoders[other, opener] = FrameDecoder(1 << 20)
        self.input(opener, PeerAdded(self.ids[other], self.protocol, True))
        self.input(other, PeerAdded(self.ids[opener], self.protocol, False, dial_only=dial_only))

    def disconnect(self, one: int, other: int) -> None:
        del self._decoders[one, other], self._decoders[other, one]
        self.input(one, PeerRemoved(self.ids[other]))
        self.input(other, PeerRemoved(self.ids[one]))

    def input(self, number: int, value: GossipInput) -> list[GossipEffect]:
        return self._carry_out(number, self.routers[number].handle(value, self.now))

    def _carry_out(self, number: int, effects: Iterable[GossipEffect]) -> list[GossipEffect]:
        for effect in effects:
            match effect:
                case PeerWoken(peer):
                    while data := b"".join(self.routers[number].take(peer, 65536)):
                        self._sequence += 1
                        link = number, self._number[peer]
                        arrival = self.now + self._delay(link)
                        arrival = self._last[link] = max(arrival, self._last.get(link, 0.0))  # links keep their order
                        heapq.heappush(self._wire, (arrival, self._sequence, *link, data))
                case MessagesDelivered(_, messages):
                    self.delivered[number] += messages
                case PeerViolated():
                    raise AssertionError(effect)
            self.effects[number].append(effect)
        return list(effects)

    def connected(self, one: int, other: int) -> bool:
        return (one, other) in self._decoders

    def _delay(self, link: tuple[int, int]) -> float:
        delay = 0.005 + 0.05 * self.rng.random()
        return delay if self._steady is None else self._steady.setdefault(frozenset(link), delay)

    def run(self, seconds: float) -> None:
        end = self.now + seconds
        while True:
            deadline, number = min(
                (router.next_deadline() or end, number) for number, router in enumerate(self.routers)
            )
            arrival = self._wire[0][0] if self._wire else end
            if min(deadline, arrival) >= end:
                break
            if deadline <= arrival:
                self.now = max(self.now, deadline)
                self._carry_out(number, self.routers[number].handle_deadline(self.now))
                continue
            self.now, _, sender, receiver, data = heapq.heappop(self._wire)
            decoder = self._decoders.get((sender, receiver))
            if decoder is not None:
                self.input(receiver, RpcsReceived(self.ids[sender], decoder.receive(data)))
        self.now = end
