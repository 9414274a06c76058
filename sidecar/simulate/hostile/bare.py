"""A hostile node without a node beneath: no more of one than its peers have to see."""

import random
from collections.abc import Sequence
from typing import Any

from ...core import events, gossip
from ...core.buffer import Buffers, SendBuffer
from ...core.deadlines import Deadlines
from ...core.identify import IDENTIFY, IdentifyInfo
from ...core.identify import encode as encode_identify
from ...core.identity import Identity
from ...core.multiaddr import Multiaddr
from ...core.node import NodeConfig, NodeEffect, NodeInput
from ...core.records import make_peer_record
from ...core.types import PeerId
from ...core.varint import framed
from .conduct import Conduct, Exchange

_SEEK = 5.0  # seconds until connections are sought anew that are not there: honest nodes may trim or refuse them
_AGAIN = 1.0  # seconds until a stream is opened in place of one that the peer has reset
_MAX_IN_VAIN = 12  # of these, so that 4,000 that are turned away do not knock for ever: a minute's


class BareNode:
    """Dials its targets, says in identify that it gossips, and leaves all else to its conduct.

    For its peers it is a node as any. It has neither a mesh nor a routing table of its own, so that thousands of them
    cost little: four in five nodes of the published evaluation are hostile.
    """

    def __init__(
        self,
        config: NodeConfig,
        identity: Identity,
        *,
        now: float,
        wall_ns: int,
        rng: random.Random,
        conduct: Conduct,
        targets: Sequence[tuple[PeerId, Multiaddr]] = (),
        **unused: Any,
    ) -> None:
        """The arguments are those of `HostileNode`, some of which it has no use for."""
        self.identity = identity
        self.config = config
        self.deadlines = Deadlines()
        """What the conduct does later."""
        self._conduct = conduct
        self._targets = targets
        self._sequence = wall_ns
        self._number = 0  # of dials, streams and operations
        self._dialled: dict[int, PeerId] = {}
        self._sought: dict[PeerId, int] = {}  # how often in vain
        self._peers: dict[int, PeerId] = {}  # by connection
        self._links: dict[PeerId, dict[int, None]] = {}  # connections of a peer
        self._gossip: dict[PeerId, int] = {}  # the stream that it gossips to a peer on; 0: it is to be opened
        self._exchanges: dict[int, Exchange] = {}
        self._answers: dict[int, SendBuffer] = {}
        self._told = b""  # what identify says
        self._effects: list[NodeEffect] = []
        spoken = (*gossip.PROTOCOLS, config.kademlia_protocol)
        self._spoken = tuple(protocol for protocol in spoken if conduct.taps(protocol))
        conduct.node = self

    def say(self, exchange: Exchange, frame: bytes) -> None:
        """Send a frame, without its length, behind what waits on the stream."""
        exchange.waiting.push(framed(frame))
        self._effects.append(events.Wake(exchange.number))

    # ------------------------------------------------------------ the machine

    def handle(self, arrived: NodeInput, now: float) -> Sequence[NodeEffect]:
        """Take one input; returns what to do."""
        match arrived:
            case events.StreamsReceived(_, chunks):
                for stream, data in chunks:
                    self._received(stream, data, now)
            case events.StreamOpened():
                self._opened(arrived, now)
            case events.StreamEnded(stream):
                if stream in self._exchanges or stream in self._answers:
                    self._effects.append(events.CloseWrite(stream))
                    exchange = self._exchanges.get(stream)
                    if exchange is None or not exchange.waiting:
                        self._over(stream, now)
                    else:
                        exchange.ended_there = True
            case events.StreamGone(stream):
                self._over(stream, now)
            case events.ConnectionOpened():
                self._connected(arrived)
            case events.ConnectionClosed(connection):
                self._disconnected(connection, now)
            case events.DialFailed(dial):
                peer = self._dialled.pop(dial, None)
                if peer is not None:
                    self._sought[peer] = self._sought.get(peer, 0) + 1
            case events.AddressesChanged(listening):
                self._introduce(listening)
                self.deadlines.at(now, self._seek)
                self._conduct.started(now)
            case gossip.TopicJoined() | gossip.TopicLeft() | gossip.Published() | gossip.PublishCancelled():
                self._conduct.asked(arrived, now)
            case _:
                pass
        return self._done()

    def handle_deadline(self, now: float) -> Sequence[NodeEffect]:
        """Do what is due."""
        self.deadlines.run(now)
        return self._done()

    def next_deadline(self) -> float | None:
        """When `handle_deadline` wants to be called."""
        return self.deadlines.next()

    def take(self, stream: int, limit: int) -> Buffers:
        """Bytes for a stream, at most `limit`."""
        exchange = self._exchanges.get(stream)
        waiting = self._answers.get(stream) if exchange is None else exchange.waiting
        if waiting is None:
            return ()
        taken = waiting.take(limit)
        if not taken and (exchange is None or exchange.ended_there):
            self._answers.pop(stream, None)
            self._exchanges.pop(stream, None)
        return taken

    def waits(self, stream: int) -> bool:
        """Whether `take` may have more; it ends what is over, and so is asked until it has nothing."""
        return True

    def drain(self, now: float) -> Sequence[NodeEffect]:
        """What came of bytes being taken."""
        return self._done()

    def accepts(self, protocol: str) -> bool:
        """Whether inbound streams of a protocol are answered."""
        return protocol == IDENTIFY or protocol in self._spoken

    def new_op(self) -> int:
        """A number for an operation of an app."""
        self._number += 1
        return self._number

    def _done(self) -> Sequence[NodeEffect]:
        if not self._effects:
            return ()
        effects, self._effects = self._effects, []
        return effects

    # ------------------------------------------------------------ connections

    def _introduce(self, addresses: tuple[Multiaddr, ...]) -> None:
        config = self.config
        self._told = encode_identify(
            IdentifyInfo(
                protocol_version=config.protocol_version,
                agent=config.agent,
                public_key=self.identity.public_key,
                listen_addresses=addresses,
                protocols=(IDENTIFY, *self._spoken),
                signed_record=make_peer_record(self.identity, self._sequence, addresses),
                gossip_max_rpc=config.gossip.max_rpc,
            )
        )

    def _seek(self, now: float) -> None:
        """Connect to the targets that it is not connected to."""
        under_way = set(self._dialled.values())  # only asked, never iterated
        for peer, address in self._targets:
            if peer not in self._links and peer not in under_way and self._sought.get(peer, 0) < _MAX_IN_VAIN:
                dial = self.new_op()
                self._dialled[dial] = peer
                self._effects.append(events.Dial(dial, peer, (address,)))
        if self._targets:
            self.deadlines.at(now + _SEEK, self._seek)

    def _connected(self, opened: events.ConnectionOpened) -> None:
        peer = opened.peer
        if opened.dial is not None:
            self._dialled.pop(opened.dial, None)
        self._peers[opened.connection] = peer
        self._links.setdefault(peer, {})[opened.connection] = None
        self._gossip_on(peer)

    def _gossip_on(self, peer: PeerId) -> None:
        """Open the stream by which it gossips, where there is none."""
        protocols = tuple(protocol for protocol in gossip.PROTOCOLS if protocol in self._spoken)
        if protocols and peer in self._links and peer not in self._gossip:
            self._gossip[peer] = 0
            connection = next(iter(self._links[peer]))
            self._effects.append(events.OpenStream(connection, self.new_op(), protocols))

    def _disconnected(self, connection: int, now: float) -> None:
        peer = self._peers.pop(connection, None)
        if peer is None:
            return
        links = self._links[peer]
        del links[connection]
        if not links:
            del self._links[peer]
        for streams in (self._exchanges, self._answers):
            for stream in [each for each in streams if each >> events.STREAM_BITS == connection]:
                self._over(stream, now)
        if self._gossip.get(peer) == 0:  # it was to be opened there
            del self._gossip[peer]
        self._gossip_on(peer)

    # ------------------------------------------------------------ streams

    def _opened(self, opened: events.StreamOpened, now: float) -> None:
        stream, connection = opened.stream, opened.stream >> events.STREAM_BITS
        peer = self._peers.get(connection)
        if peer is None:  # its connection has just ended
            return
        if opened.protocol == IDENTIFY:
            answer = self._answers[stream] = SendBuffer()
            answer.push(self._told)
            self._effects += (events.Wake(stream), events.CloseWrite(stream))
            return
        ours = opened.token is not None
        exchange = self._exchanges[stream] = Exchange(stream, peer, opened.protocol, ours)
        if ours:
            self._gossip[peer] = stream
        self._conduct.opened(exchange, now)

    def _received(self, stream: int, data: bytes, now: float) -> None:
        exchange = self._exchanges.get(stream)
        if exchange is not None:
            for frame in exchange.heard(data):
                self._conduct.hears(exchange, frame, now)

    def _over(self, stream: int, now: float) -> None:
        self._answers.pop(stream, None)
        exchange = self._exchanges.pop(stream, None)
        if exchange is None:
            return
        self._conduct.closed(exchange, now)
        if self._gossip.get(exchange.peer) == stream:
            del self._gossip[exchange.peer]
            peer = exchange.peer
            self.deadlines.at(now + _AGAIN, lambda now: self._gossip_on(peer))
