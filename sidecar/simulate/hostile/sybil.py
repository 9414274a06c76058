"""The sybils of the published evaluation of gossipsub 1.1 (PL-TechRep-2020-001), by what they do not pass on."""

from collections.abc import Collection, Iterable, Iterator
from typing import ClassVar

from ...core import gossip
from ...core.errors import ProtocolError
from ...core.gossip.messages import (
    ControlMessage,
    decode_rpc,
    encode_graft,
    encode_subscription,
    field,
    parse_message,
)
from ...core.override import override
from ...core.types import PeerId
from .conduct import Conduct, Exchange, Surroundings

_REGRAFT, _JITTER = 60.0, 15.0  # seconds from a PRUNE to the next GRAFT: the evaluation's, past the back-off of 1.1
_SEEN = 1 << 16  # ids of messages that are remembered; more than two minutes' at the evaluation's rate
_MAX_TOPICS = 1024  # of which it is remembered who is grafted; there are as many as honest nodes join


class Sybil(Conduct):
    """Joins the topics that its peers are in, or those of its kind, and grafts every peer.

    Upon a PRUNE it does so again a minute later. It takes part in nothing else of gossip: no IHAVE, IWANT, IDONTWANT
    or PRUNE. Messages go on to all that it has grafted or that have grafted it, except those that `drops` says, once
    it does harm.
    """

    protocols: ClassVar[tuple[str, ...]] = gossip.PROTOCOLS

    def __init__(self, around: Surroundings) -> None:
        super().__init__(around)
        self._out: dict[PeerId, Exchange] = {}
        self._told: dict[PeerId, dict[bytes, None]] = {}  # topics that a peer is in
        self._grafted: dict[bytes, dict[PeerId, None]] = {}
        self._seen: dict[bytes, None] = {}
        self._topics: dict[bytes, None] = {}  # of its kind; none: whatever peers are in
        self._regrafts: dict[tuple[PeerId, bytes], None] = {}  # those that are to come

    def drops(self, author: bytes) -> bool:
        """Whether it keeps a message for itself, now that it does harm."""
        return True

    @override
    def taps(self, protocol: str) -> bool:
        return protocol in self.protocols

    @override
    def asked(self, arrived: gossip.AppInput, now: float) -> bool:
        if isinstance(arrived, gossip.TopicJoined):
            self._topics[arrived.topic.encode()] = None
        return True

    @override
    def opened(self, exchange: Exchange, now: float) -> None:
        if exchange.ours and exchange.protocol in self.protocols:
            self._out[exchange.peer] = exchange
            self.graft(exchange.peer, self._told.get(exchange.peer, {}), join=True)

    @override
    def closed(self, exchange: Exchange, now: float) -> None:
        if self._out.get(exchange.peer) is exchange:
            del self._out[exchange.peer]
            for peers in self._grafted.values():
                peers.pop(exchange.peer, None)
        elif not exchange.ours and exchange.protocol in self.protocols:
            self._told.pop(exchange.peer, None)

    @override
    def says(self, exchange: Exchange, frame: bytes, now: float) -> Iterable[bytes]:
        return ()  # a node beneath is in no topic, and has nothing to say

    @override
    def hears(self, exchange: Exchange, frame: bytes, now: float) -> Iterable[bytes]:
        if exchange.ours:
            return ()
        try:
            rpc = decode_rpc(frame)
        except ProtocolError:
            return ()
        peer = exchange.peer
        told = self._told.setdefault(peer, {})
        joined: dict[bytes, None] = {}
        for each in rpc.subscriptions:
            if not each.subscribe:
                told.pop(each.topicid, None)
            elif len(told) < _MAX_TOPICS and (not self._topics or each.topicid in self._topics):
                told[each.topicid] = joined[each.topicid] = None
        self.graft(peer, joined, join=True)
        if rpc.HasField("control"):
            for prune in rpc.control.prune:
                self._pruned(peer, prune.topicID, now)
            for graft in rpc.control.graft:
                self._link(peer, graft.topicID)
            self.controlled(peer, rpc.control, now)
        for raw in rpc.publish:
            self._forward(peer, raw, now)
        return ()

    def controlled(self, peer: PeerId, control: ControlMessage, now: float) -> None:
        """What else of control a peer has said."""

    def got(self, source: PeerId, topic: bytes, identifier: bytes, now: float) -> None:
        """A message has come for the first time."""

    def has(self, identifier: bytes) -> bool:
        """Whether it has had a message."""
        return identifier in self._seen

    def tell(self, peer: PeerId, rpc: bytes) -> None:
        """Send a peer an RPC, where there is a stream to it."""
        out = self._out.get(peer)
        if out is not None:
            self.node.say(out, rpc)

    def listeners(self) -> Iterator[tuple[PeerId, Collection[bytes]]]:
        """The peers that it can tell something, and the topics that they are in."""
        for peer in self._out:
            topics = self._told.get(peer)
            if topics:
                yield peer, topics

    # ------------------------------------------------------------

    def graft(self, peer: PeerId, topics: Collection[bytes], *, join: bool = False) -> None:
        """Graft a peer in topics that it is in; `join`: tell it first that it is in them itself."""
        out = self._out.get(peer)
        if out is None or not topics:
            return
        subscriptions = [encode_subscription(topic, 0) for topic in topics] if join else []
        grafts = [encode_graft(topic) for topic in topics]
        self.node.say(out, b"".join((*subscriptions, field(3, b"".join(grafts)))))
        for topic in topics:
            self._link(peer, topic)

    def is_linked(self, peer: PeerId, topic: bytes) -> bool:
        """Whether it reckons with being in the peer's mesh."""
        return peer in self._grafted.get(topic, {})

    def is_refused(self, peer: PeerId, topic: bytes) -> bool:
        """Whether the peer has pruned it, and it waits for its back-off to end."""
        return (peer, topic) in self._regrafts

    def unlink(self, peer: PeerId, topic: bytes) -> None:
        """It is not, any more."""
        self._grafted.get(topic, {}).pop(peer, None)

    def _link(self, peer: PeerId, topic: bytes) -> None:
        if topic in self._grafted or len(self._grafted) < _MAX_TOPICS:
            self._grafted.setdefault(topic, {})[peer] = None

    def _pruned(self, peer: PeerId, topic: bytes, now: float) -> None:
        self.unlink(peer, topic)
        if (peer, topic) in self._regrafts or topic not in self._told.get(peer, {}):
            return
        self._regrafts[peer, topic] = None

        def again(now: float) -> None:
            del self._regrafts[peer, topic]
            if peer not in self._grafted.get(topic, {}) and topic in self._told.get(peer, {}):
                self.graft(peer, (topic,))

        self.node.deadlines.at(now + _REGRAFT + self.around.rng.uniform(0.0, _JITTER), again)

    def _forward(self, source: PeerId, raw: bytes, now: float) -> None:
        try:
            message = parse_message(raw)
        except ProtocolError:
            return
        identifier = (message.sender or b"") + (message.seqno or message.data or b"")
        author = message.sender or b""
        if identifier in self._seen:
            return
        self._seen[identifier] = None
        if len(self._seen) > _SEEN:
            del self._seen[next(iter(self._seen))]
        self.got(source, message.topic or b"", identifier, now)
        if now >= self.around.begins and self.drops(author):
            return
        body = field(2, raw)
        for peer in self._grafted.get(message.topic or b"", {}):
            if peer not in (source, author) and peer in self._out:
                self.node.say(self._out[peer], body)


class Silent(Sybil):
    """Passes on nothing."""


class Censor(Sybil):
    """Passes on all but the messages of some authors."""

    def __init__(self, around: Surroundings) -> None:
        super().__init__(around)
        self._authors = around.of_kind(around.options["author"])

    @override
    def drops(self, author: bytes) -> bool:
        return author in self._authors


class Degrade(Sybil):
    """Passes on each message with a probability."""

    @override
    def drops(self, author: bytes) -> bool:
        return self.around.rng.random() >= float(self.around.options["forwards"])
