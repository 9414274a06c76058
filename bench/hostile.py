"""Peers that are against the mesh: `python -m bench.hostile CONDUCT ADDRESS... [--peers 8] [--topic bench]`.

So many peers, with a key each, connect to all the addresses, let themselves be identified and behave as their conduct
says, until standard input ends. Standard output has a line `ready PEERS` once all are connected or refused, a line
`away SECONDS REASON` for each connection that is ended by the other side, and at the end `stayed COUNT`.

What a conduct sends is made ahead where it can be, so that the attackers cost little and the attacked everything.
"""

import argparse
import asyncio
import os
import sys
import time
from collections import deque
from collections.abc import Iterator, Sequence
from typing import Any

import uvloop

from sidecar.core import events, varint
from sidecar.core.buffer import FrameDecoder, SendBuffer
from sidecar.core.channel import ChannelLimits
from sidecar.core.errors import SidecarError
from sidecar.core.gossip.messages import SignedLayout
from sidecar.core.gossip.signing import SIGN_PREFIX
from sidecar.core.identify import IdentifyInfo, encode
from sidecar.core.identity import Identity
from sidecar.core.multiaddr import Multiaddr
from sidecar.core.override import override
from sidecar.core.ping import PING
from sidecar.net.config import NetConfig
from sidecar.net.runtime import Runtime
from sidecar.wire import kademlia_pb2
from sidecar.wire.gossip_pb2 import RPC, ControlMessage

IDENTIFY, GOSSIP = "/ipfs/id/1.0.0", "/meshsub/1.2.0"
HOSTILE = b"hostile:"
"""How the payloads of valid messages begin that attackers publish."""

_MAX_FRAME = 64 << 20
_SETTLE = 0.3  # seconds from being identified until the attack begins
_LARGE_RPC = 1000 * 1000  # bytes: just below the largest that is read
_HUGE = 900 * 1000


def framed(body: bytes) -> bytes:
    """A message behind its length."""
    return varint.encode(len(body)) + body


def rpc(**fields: Any) -> bytes:
    """A frame with an RPC of these fields."""
    return framed(RPC(**fields).SerializeToString())


class Author:
    """Makes signed messages of one peer, each with the next number."""

    def __init__(self, topic: bytes, identity: Identity | None = None) -> None:
        self._identity = identity or Identity(os.urandom(32))
        self._layout = SignedLayout(self._identity.peer_id, topic)
        self._number = time.time_ns()

    def message(self, data: bytes, *, forged: bool = False) -> bytes:
        """A message with this payload; `forged`: its signature is one of something else."""
        self._number += 1
        content = self._layout.encode(data, self._number.to_bytes(8, "big"))
        signed = self._identity.sign((b"forged:" if forged else SIGN_PREFIX) + content)
        return self._layout.sealed(content, signed)


def in_rpcs(messages: Sequence[bytes], size: int) -> Iterator[bytes]:
    """Frames of about so many bytes that carry the messages."""
    some: list[bytes] = []
    left = size
    for message in messages:
        some.append(message)
        left -= len(message)
        if left <= 0:
            yield rpc(publish=some)
            some, left = [], size
    if some:
        yield rpc(publish=some)


# ---------------------------------------------------------------- what is sent on a gossip stream


def forged(topic: bytes, rpc_size: int) -> Iterator[bytes]:
    """Messages whose signatures are invalid, over and over: each costs a whole check."""
    author = Author(topic)
    messages = [author.message(b"%100d" % number, forged=True) for number in range(max(5000, 2 * rpc_size // 300))]
    block = b"".join(in_rpcs(messages, rpc_size))
    while True:
        yield block


def valid(topic: bytes, ahead: int) -> Iterator[bytes]:
    """Valid messages of 100 bytes by one author, none twice; so many are signed before the first is sent."""
    author = Author(topic)

    def some() -> bytes:
        return b"".join(in_rpcs([author.message(HOSTILE + os.urandom(92)) for _ in range(1000)], 50_000))

    made = deque(some() for _ in range(ahead // 1000))
    while True:
        yield made.popleft() if made else some()


def huge(topic: bytes) -> Iterator[bytes]:
    """Valid messages nearly as large as an RPC may be, none twice."""
    author = Author(topic)
    rest = os.urandom(_HUGE)
    while True:
        yield rpc(publish=[author.message(HOSTILE + os.urandom(16) + rest)])


class Source:
    """What is sent on one stream: bytes of an endless iterator, cut as they are asked for."""

    def __init__(self, blocks: Iterator[bytes]) -> None:
        self._blocks = blocks
        self._left = memoryview(next(blocks))  # now, so that what is made ahead is there before the attack begins

    def take(self, limit: int) -> Sequence[memoryview]:
        """At most so many bytes."""
        if not self._left:
            self._left = memoryview(next(self._blocks))
        piece, self._left = self._left[:limit], self._left[limit:]
        return [piece]


# ---------------------------------------------------------------- conducts


class Conduct:
    """How one hostile peer behaves on all its connections."""

    protocols: tuple[str, ...] = (IDENTIFY, PING, GOSSIP)
    """What it says that it speaks."""

    def __init__(self, topic: bytes) -> None:
        self.topic = topic

    def began(self, peer: "HostilePeer", connection: int) -> None:
        """A connection is identified. It may open streams."""

    def opened(self, peer: "HostilePeer", stream: int, protocol: str, ours: bool) -> None:
        """A stream is open."""

    def received(self, peer: "HostilePeer", stream: int, data: bytes) -> None:
        """Bytes came."""


class Passive(Conduct):
    """Is there, and nothing else."""


class Flooder(Conduct):
    """Sends what a source gives on its gossip stream, as fast as it is read."""

    def __init__(self, topic: bytes, blocks: Iterator[bytes]) -> None:
        super().__init__(topic)
        self._source = Source(blocks)

    @override
    def began(self, peer: "HostilePeer", connection: int) -> None:
        peer.open(connection, GOSSIP)

    @override
    def opened(self, peer: "HostilePeer", stream: int, protocol: str, ours: bool) -> None:
        if ours and protocol == GOSSIP:
            peer.send(stream, rpc(subscriptions=[{"subscribe": True, "topicid": self.topic}]))
            peer.sources[stream] = self._source


class Sybil(Conduct):
    """Is in the mesh of everybody, and forwards nothing."""

    def __init__(self, topic: bytes) -> None:
        super().__init__(topic)
        self.streams: dict[int, int] = {}  # ours, by connection

    @override
    def began(self, peer: "HostilePeer", connection: int) -> None:
        peer.open(connection, GOSSIP)

    @override
    def opened(self, peer: "HostilePeer", stream: int, protocol: str, ours: bool) -> None:
        if ours and protocol == GOSSIP:
            self.streams[stream >> events.STREAM_BITS] = stream
            graft: dict[str, Any] = {"graft": [{"topicID": self.topic}]}
            peer.send(
                stream, rpc(subscriptions=[{"subscribe": True, "topicid": self.topic}], control=ControlMessage(**graft))
            )


class Replayer(Sybil):
    """Records what the others publish, and sends all of it that is older than `age` seconds once in each `age`."""

    def __init__(self, topic: bytes, age: float, most: int = 2000) -> None:
        super().__init__(topic)
        self._age = age
        self._most = most
        self._decoders: dict[int, FrameDecoder] = {}
        self._recorded: deque[tuple[float, bytes]] = deque()

    @override
    def began(self, peer: "HostilePeer", connection: int) -> None:
        super().began(peer, connection)
        peer.loop.call_later(self._age, self._replay, peer)

    @override
    def opened(self, peer: "HostilePeer", stream: int, protocol: str, ours: bool) -> None:
        super().opened(peer, stream, protocol, ours)
        if not ours and protocol == GOSSIP:
            self._decoders[stream] = FrameDecoder(_MAX_FRAME)

    @override
    def received(self, peer: "HostilePeer", stream: int, data: bytes) -> None:
        decoder = self._decoders.get(stream)
        if decoder is not None and len(self._recorded) < self._most:
            now = time.monotonic()
            self._recorded += [(now, each) for body in decoder.receive(data) for each in RPC.FromString(body).publish]

    def _replay(self, peer: "HostilePeer") -> None:
        now = time.monotonic()
        old = [message for at, message in self._recorded if now - at > self._age]
        if old:
            print(f"replays {len(old)}", flush=True)
        for stream in self.streams.values():
            for frame in in_rpcs(old, 50_000):
                peer.send(stream, frame)
        peer.loop.call_later(self._age, self._replay, peer)


class Liar(Conduct):
    """A server of the DHT that names one victim's ports under ids that it makes up."""

    def __init__(self, topic: bytes, network: str, victims: Sequence[Multiaddr]) -> None:
        super().__init__(topic)
        self._protocol = f"/sidecar/{network}/kad/1.0.0"
        self.protocols = (IDENTIFY, PING, self._protocol)
        self._victims = victims
        self._asked: dict[int, FrameDecoder] = {}
        self._answers = 0

    @override
    def opened(self, peer: "HostilePeer", stream: int, protocol: str, ours: bool) -> None:
        if protocol == self._protocol and not ours:
            self._asked[stream] = FrameDecoder(_MAX_FRAME)

    @override
    def received(self, peer: "HostilePeer", stream: int, data: bytes) -> None:
        decoder = self._asked.get(stream)
        if decoder is None:
            return
        for body in decoder.receive(data):
            question = kademlia_pb2.Message.FromString(body)
            question.ClearField("record")
            for _ in range(20):
                self._answers += 1
                address = self._victims[self._answers % len(self._victims)]
                question.closer_peers.add(id=b"\x12\x20" + os.urandom(32), addresses=[address.to_bytes()])
            peer.send(stream, framed(question.SerializeToString()))


# ---------------------------------------------------------------- the peer


class HostilePeer:
    """The node machine of a hostile peer. It answers identify; all else is its conduct's."""

    def __init__(self, conduct: Conduct, network: str, tell: "Teller") -> None:
        self._conduct = conduct
        self._network = network
        self._tell = tell
        self._identity = Identity(os.urandom(32))
        self._token = 0
        self._out: dict[int, SendBuffer] = {}
        self.loop = asyncio.get_running_loop()
        self.sources: dict[int, Source] = {}
        self.listening: tuple[Multiaddr, ...] = ()
        """Where it says that it can be reached."""
        self.runtime = Runtime(self, self._identity, NetConfig(channel=ChannelLimits(max_control=64 << 20)), _ignore)

    def connect(self, number: int, target: Multiaddr) -> None:
        """Dial one of those that are attacked."""
        self._carry_out(events.Dial(number, target.peer_id, (target.without_peer(),), True))

    def open(self, connection: int, protocol: str) -> None:
        """Open a stream."""
        self._token += 1
        self._carry_out(events.OpenStream(connection, self._token, (protocol,)))

    def send(self, stream: int, data: bytes) -> None:
        """Send bytes on a stream."""
        self._out.setdefault(stream, SendBuffer()).push(data)
        self._carry_out(events.Wake(stream))

    def _carry_out(self, effect: Any) -> None:
        effects: Any = [effect]  # what `handle` gives back as it is
        self.runtime.feed(effects)

    # ------------------------------------------------------------ as the driver knows a node

    def handle(self, input: Any, now: float) -> Sequence[Any]:
        match input:
            case list():
                return input
            case events.ConnectionOpened(number):
                self._token += 1
                return [events.OpenStream(number, self._token, (IDENTIFY,))]
            case events.StreamOpened(stream, protocol, token):
                if protocol == IDENTIFY and token is None:
                    self._out[stream] = buffer = SendBuffer()
                    buffer.push(self._described())
                    self.loop.call_later(_SETTLE, self._begin, stream >> events.STREAM_BITS)
                    return [events.Wake(stream), events.CloseWrite(stream)]
                self._conduct.opened(self, stream, protocol, token is not None)
                return [events.Wake(stream)] if stream in self.sources else ()
            case events.StreamsReceived(_, chunks):
                for stream, data in chunks:
                    self._conduct.received(self, stream, bytes(data))
            case events.ConnectionClosed(_, error):
                self._tell.away(error)
            case events.DialFailed(_, error):
                self._tell.away(error)
                self._tell.arrived()
        return ()

    def _begin(self, connection: int) -> None:
        self._tell.arrived()
        self._conduct.began(self, connection)

    def _described(self) -> bytes:
        return encode(
            IdentifyInfo(
                protocol_version=f"sidecar/{self._network}",
                agent="hostile",
                public_key=self._identity.public_key,
                protocols=self._conduct.protocols,
                listen_addresses=self.listening,
            )
        )

    def take(self, stream: int, limit: int) -> Sequence[bytes | memoryview]:
        buffer = self._out.get(stream)
        if buffer:
            return buffer.take(limit)
        source = self.sources.get(stream)
        return source.take(limit) if source is not None else ()

    def handle_deadline(self, now: float) -> Sequence[Any]:
        return ()

    def drain(self, now: float) -> Sequence[Any]:
        return ()

    def next_deadline(self) -> float | None:
        return None

    def accepts(self, protocol: str) -> bool:
        return protocol in self._conduct.protocols


def _ignore(news: Any) -> None:
    pass


class Teller:
    """Tells on standard output what becomes of the connections."""

    def __init__(self, expected: int) -> None:
        self._expected = expected
        self._arrived = self._away = 0
        self._begun = time.monotonic()
        self.done = asyncio.get_running_loop().create_future()

    def arrived(self) -> None:
        """One more connection has begun, or was refused."""
        self._arrived += 1
        if self._arrived == self._expected:
            self._begun = time.monotonic()
            print(f"ready {self._expected}", flush=True)

    def away(self, error: SidecarError | None) -> None:
        """The other side has ended a connection."""
        self._away += 1
        if not self.done.done():
            print(f"away {time.monotonic() - self._begun:.1f} {error or 'in order'}", flush=True)

    @property
    def stayed(self) -> int:
        """Connections that nobody has ended."""
        return self._expected - self._away


CONDUCTS = ("forged", "forged-large", "valid", "huge", "replay", "dht-victim", "sybil", "stranger")


def conduct_of(name: str, topic: bytes, arguments: argparse.Namespace) -> Iterator[Conduct]:
    """One conduct for each peer. No two of them send the same bytes: copies would be checked once."""
    while True:
        match name:
            case "forged":
                yield Flooder(topic, forged(topic, 50_000))
            case "forged-large":
                yield Flooder(topic, forged(topic, _LARGE_RPC))
            case "valid":
                yield Flooder(topic, valid(topic, arguments.ahead))
            case "huge":
                yield Flooder(topic, huge(topic))
            case "replay":
                yield Replayer(topic, arguments.age)
            case "dht-victim":
                yield Liar(topic, arguments.network, [Multiaddr.from_text(text) for text in arguments.victim])
            case "sybil":
                yield Sybil(topic)
            case "stranger":
                yield Passive(topic)


async def attack(arguments: argparse.Namespace) -> None:
    """Let the peers loose until standard input ends."""
    topic = arguments.topic.encode()
    targets = [Multiaddr.from_text(text) for text in arguments.addresses]
    tell = Teller(arguments.peers * len(targets))
    conducts = conduct_of(arguments.conduct, topic, arguments)
    peers = [HostilePeer(next(conducts), arguments.network, tell) for _ in range(arguments.peers)]
    if arguments.conduct == "dht-victim":  # a server that cannot be reached is in nobody's table
        for peer in peers:
            peer.listening = tuple(await peer.runtime.listen([Multiaddr.from_text("/ip4/127.0.0.1/tcp/0")]))
    for peer in peers:
        for number, target in enumerate(targets, 1):
            peer.connect(number, target)
    loop = asyncio.get_running_loop()
    await loop.run_in_executor(None, sys.stdin.read)
    tell.done.set_result(None)
    print(f"stayed {tell.stayed}", flush=True)
    await asyncio.gather(*(peer.runtime.close(1.0) for peer in peers))


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.hostile", description=__doc__.partition("\n")[0])
    parser.add_argument("conduct", choices=CONDUCTS)
    parser.add_argument("addresses", nargs="+", help="of the attacked, with their peer ids")
    parser.add_argument("--peers", type=int, default=1, help="how many, each connected to all of these")
    parser.add_argument("--network", default="main")
    parser.add_argument("--topic", default="bench")
    parser.add_argument("--age", type=float, default=5.0, help="seconds after which a message is replayed")
    parser.add_argument("--ahead", type=int, default=60_000, help="messages of a valid flood that are signed first")
    parser.add_argument("--victim", action="append", default=[], help="an address that dht-victim names")
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(attack(parser.parse_args()))


if __name__ == "__main__":
    main()
