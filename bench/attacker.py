"""A peer that floods a sidecar with what is of no use: `python -m bench.attacker ADDRESS KIND [NETWORK] [TOPIC]`.

It dials, lets itself be identified, and sends its kind of attack as fast as the other side reads, until its input
ends or it is sent away; then it says so on standard output. Bytes are made once and repeated, so that the attacker
costs next to nothing and the attacked everything.
"""

import asyncio
import os
import sys
import threading
from collections.abc import Callable, Sequence
from itertools import cycle
from typing import Any

import uvloop

from sidecar.core import events, varint
from sidecar.core.buffer import SendBuffer
from sidecar.core.channel import ChannelLimits, frames, secure
from sidecar.core.gossip.messages import SignedLayout
from sidecar.core.gossip.signing import SIGN_PREFIX
from sidecar.core.identify import IdentifyInfo, encode
from sidecar.core.identity import Identity
from sidecar.core.multiaddr import Multiaddr
from sidecar.core.ping import PING
from sidecar.net.config import NetConfig
from sidecar.net.runtime import Runtime
from sidecar.wire import direct_pb2, kademlia_pb2
from sidecar.wire.gossip_pb2 import RPC, ControlMessage

IDENTIFY, PUSH, GOSSIP = "/ipfs/id/1.0.0", "/ipfs/id/push/1.0.0", "/meshsub/1.2.0"
_BLOCK = 256 * 1024  # bytes made once, at least


def framed(body: bytes) -> bytes:
    """A message behind its length."""
    return varint.encode(len(body)) + body


def _block(*bodies: bytes) -> bytes:
    once = b"".join(map(framed, bodies))
    return once * (_BLOCK // len(once) + 1)


def _rpc(**fields: Any) -> bytes:
    return RPC(**fields).SerializeToString()


def _control(count: int, **fields: Any) -> bytes:
    return _rpc(control=ControlMessage(**{name: entries * count for name, entries in fields.items()}))


def _gossip(kind: str, topic: bytes) -> bytes:
    """What is repeated on the gossip stream."""
    ids = [number.to_bytes(20, "big") for number in range(10)]
    wanted, unwanted = {"subscribe": True, "topicid": topic}, {"subscribe": False, "topicid": topic}
    match kind:
        case "empty-control":
            return _block(_control(300_000, graft=[{}]))
        case "empty-rpcs":
            return _block(b"")
        case "subscriptions":
            return _block(_rpc(subscriptions=[wanted]), _rpc(subscriptions=[unwanted]))
        case "graft-prune":
            return _block(_control(1, graft=[{"topicID": topic}]), _control(1, prune=[{"topicID": topic}]))
        case "idontwant":
            return _block(_control(1, idontwant=[{"messageIDs": ids}]))
        case "ihave":
            return _block(_control(1, ihave=[{"topicID": topic, "messageIDs": ids}]))
        case "iwant":
            return _block(_control(1, iwant=[{"messageIDs": ids}]))
        case "malformed":
            return _block(b"\xff" * 10)
        case "too-large":
            return framed(bytes(2 << 20))
        case "forged":  # each costs a whole check
            return _block(*_signed(topic, 2000, forged=True))
    raise SystemExit(f"no such attack: {kind}; one of {', '.join(KINDS)}")


def _signed(topic: bytes, count: int, *, forged: bool = False) -> list[bytes]:
    """RPCs of so many signed messages of 100 bytes, or such whose signature is another's."""
    author = Identity(os.urandom(32))
    layout = SignedLayout(author.peer_id, topic)
    raws = []
    for number in range(count):
        content = layout.encode(b"%100d" % number, number.to_bytes(8, "big"))
        raws.append(layout.sealed(content, author.sign((b"forged:" if forged else SIGN_PREFIX) + content)))
    return [_rpc(publish=raws[first : first + 250]) for first in range(0, count, 250)]


def signed_block(topic: bytes, count: int) -> bytes:
    """Frames of so many valid messages, each another."""
    return b"".join(map(framed, _signed(topic, count)))


GOSSIP_KINDS = (
    "empty-control",
    "empty-rpcs",
    "subscriptions",
    "graft-prune",
    "idontwant",
    "ihave",
    "iwant",
    "malformed",
    "too-large",
    "forged",
)
STREAM_KINDS = ("pings", "dht", "direct")
CHURN_KINDS = ("identify-pushes", "negotiations")
FRAME_KINDS = ("yamux-pings", "yamux-updates", "tiny-frames")
KINDS = (*GOSSIP_KINDS, *STREAM_KINDS, *CHURN_KINDS, *FRAME_KINDS)


class Attacker:
    """The node machine of an attacker: answers identify, and floods."""

    def __init__(self, identity: Identity, kind: str, network: str, topic: bytes, block: bytes = b"") -> None:
        """`block`: what it sends in place of what `kind` says."""
        self._kind = kind
        self._block = block
        self._network = network
        self._topic = topic
        self._identity = identity
        self._out: dict[int, SendBuffer] = {}
        self._endless: dict[int, bytes] = {}  # what a stream repeats
        self._at: dict[int, int] = {}  # how much of it was sent
        self._token = 0
        self.connection = 0
        self.over: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self.runtime = Runtime(self, identity, NetConfig(channel=ChannelLimits(max_control=64 << 20)), lambda _: None)

    def handle(self, input: Any, now: float) -> Sequence[Any]:
        match input:
            case events.ConnectionOpened(number):
                self.connection = number
                return [self._open(IDENTIFY)]
            case events.StreamOpened(stream, protocol, None):
                if protocol == IDENTIFY:
                    self._out[stream] = buffer = SendBuffer()
                    buffer.push(self._identify())
                    asyncio.get_running_loop().call_later(0.2, self._attack)
                    return [events.Wake(stream), events.CloseWrite(stream)]
            case events.StreamOpened(stream, protocol, _):
                return self._on_ours(stream, protocol)
            case events.ConnectionClosed(_, error):
                self._finish(f"sent away: {error or 'in order'}")
            case events.DialFailed(_, error):
                self._finish(f"not let in: {error}")
            case list():
                return input
        return ()

    def _finish(self, text: str) -> None:
        if not self.over.done():
            self.over.set_result(text)

    def _identify(self) -> bytes:
        protocols = (IDENTIFY, PUSH, GOSSIP, PING)
        version = f"sidecar/{self._network}"
        return encode(
            IdentifyInfo(
                protocol_version=version, agent="attacker", public_key=self._identity.public_key, protocols=protocols
            )
        )

    def _open(self, *protocols: str) -> Any:
        self._token += 1
        return events.OpenStream(self.connection, self._token, protocols)

    def _on_ours(self, stream: int, protocol: str) -> Sequence[Any]:
        kind = self._kind
        if protocol == GOSSIP:
            self._out[stream] = buffer = SendBuffer()
            buffer.push(framed(_rpc(subscriptions=[{"subscribe": True, "topicid": self._topic}])))
            self._endless[stream] = self._block or _gossip(kind, self._topic)
        elif protocol == PUSH:
            self._out[stream] = buffer = SendBuffer()
            buffer.push(self._identify())
            return [events.Wake(stream), events.CloseWrite(stream), self._open(PUSH)]
        elif protocol == PING:
            self._endless[stream] = bytes(_BLOCK)
        elif protocol.endswith("/kad/1.0.0"):
            message = kademlia_pb2.Message(type=kademlia_pb2.Message.FIND_NODE, key=bytes(32))
            self._endless[stream] = _block(message.SerializeToString())
        elif protocol.endswith("/direct/1"):
            self._endless[stream] = _block(
                direct_pb2.Frame(messages=[{"protocol": "/nobody", "data": [b"x"]}]).SerializeToString()
            )
        return [events.Wake(stream)]

    def _attack(self) -> None:
        kind, network = self._kind, self._network
        if kind in GOSSIP_KINDS:
            self.runtime.feed([self._open(GOSSIP)])
        elif kind == "identify-pushes":
            self.runtime.feed([self._open(PUSH) for _ in range(100)])
        elif kind in STREAM_KINDS:
            protocol = {"pings": PING, "dht": f"/sidecar/{network}/kad/1.0.0", "direct": f"/sidecar/{network}/direct/1"}
            self.runtime.feed([self._open(protocol[kind])])
        elif kind == "negotiations":
            self.runtime.feed([self._open("/nobody/1") for _ in range(100)])
        else:
            self._flood_frames()

    def _flood_frames(self) -> None:
        """Frames that carry nothing, past the channel's own queues."""
        connection = self.runtime._connections.get(self.connection)
        if connection is None or connection.over or connection._channel is None or connection._transport is None:
            return
        ciphers = connection._channel._ciphers
        assert ciphers is not None
        for _ in range(64):
            if connection._write_paused:
                break
            connection._transport.write(secure.frame(ciphers[0].encrypt(next(self._frames))))
        asyncio.get_running_loop().call_later(0.001, self._flood_frames)

    @property
    def _frames(self) -> Any:
        if not hasattr(self, "_cycle"):
            one = {
                "yamux-pings": frames.pack(frames.PING, frames.ACK, 0, 7),
                "yamux-updates": frames.pack(frames.WINDOW_UPDATE, 0, 1, 0),
                "tiny-frames": frames.pack(frames.DATA, 0, 1, 0),
            }[self._kind]
            self._cycle = cycle([one * (60_000 // len(one))])
        return self._cycle

    def take(self, stream: int, limit: int) -> Sequence[bytes | memoryview]:
        buffer = self._out.get(stream)
        if buffer:
            return buffer.take(limit)
        block = self._endless.get(stream)
        if block is None:
            return ()
        # The piece that follows the last one, around the end: whatever is repeated stays whole.
        at = self._at.get(stream, 0)
        piece = memoryview(block)[at : at + limit]
        self._at[stream] = (at + len(piece)) % len(block)
        return [piece]

    def handle_deadline(self, now: float) -> Sequence[Any]:
        return ()

    def drain(self, now: float) -> Sequence[Any]:
        return ()

    def next_deadline(self) -> float | None:
        return None

    def accepts(self, protocol: str) -> bool:
        return protocol in (IDENTIFY, PING, GOSSIP)


async def attack(address: str, kind: str, network: str, topic: str, until: Callable[[], object]) -> str:
    """Flood until sent away, or until `until` returns; what became of it."""
    attacker = Attacker(Identity(os.urandom(32)), kind, network, topic.encode())
    target = Multiaddr.from_text(address)
    attacker.runtime.feed([events.Dial(1, target.peer_id, (target.without_peer(),), True)])
    loop = asyncio.get_running_loop()
    threading.Thread(
        target=lambda: (until(), loop.call_soon_threadsafe(attacker._finish, "not sent away")), daemon=True
    ).start()
    said = await attacker.over
    await attacker.runtime.close(1.0)
    return said


if __name__ == "__main__":
    _, _address, _kind, *_rest = sys.argv
    _network, _topic = [*_rest, "main", "bench"][0], [*_rest, "main", "bench"][len(_rest) - 1 if len(_rest) > 1 else 2]
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as _runner:
        print(_runner.run(attack(_address, _kind, _network, _topic, sys.stdin.read)), flush=True)
