"""Stands between a driver and its node and records what passes."""

import base64
from collections import OrderedDict
from collections.abc import Sequence
from functools import partial
from typing import Any

from ..core import events
from ..core.channel import Failed, Ready, UpgradeObserver
from ..core.channel.secure import PROTOCOL as SECURITY
from ..core.classes import NamedTuple
from ..core.errors import SidecarError
from ..core.events import STREAM_BITS
from ..core.multiaddr import Multiaddr
from ..core.node import NodeEffect, NodeInput, NodeMachine
from ..core.types import Direction, PeerId
from .file import TraceFile

_MASK = (1 << STREAM_BITS) - 1
_ENDED_KEPT = 1024  # streams that ended both ways, of which the transport may still take what is queued


class _Stream(NamedTuple):
    protocol: str
    peer: str
    opener: str  # us or them


class TracedNode:
    """A node machine that behaves as the one it wraps, and writes inputs, effects and bytes to a trace.

    It is put in place only while a trace is wanted, so that a node without one pays nothing.
    """

    def __init__(self, node: NodeMachine, trace: TraceFile) -> None:
        self._node = node
        self._trace = trace
        self._peers: dict[int, str] = {}  # connection -> peer
        self._streams: dict[int, _Stream] = {}
        self._half_ended: dict[int, str] = {}  # stream -> the direction that has ended
        self._ended: OrderedDict[int, _Stream] = OrderedDict()
        self.next_deadline = node.next_deadline
        self.accepts = node.accepts

    def handle(self, input: NodeInput, now: float) -> Sequence[NodeEffect]:
        """As of the node, with a record of the input and of its effects."""
        if self._trace.active:
            self._note_input(input, now)
        effects = self._node.handle(input, now)
        self._note_effects(effects, now)
        return effects

    def handle_deadline(self, now: float) -> Sequence[NodeEffect]:
        """As of the node, with a record of the effects."""
        effects = self._node.handle_deadline(now)
        self._note_effects(effects, now)
        return effects

    def take(self, stream: int, limit: int) -> Sequence[bytes | memoryview]:
        """As of the node, with a record of the bytes that go out."""
        buffers = self._node.take(stream, limit)
        if buffers and self._trace.active:
            self._note_bytes(stream, b"".join(buffers), "out", None)
        return buffers

    def drain(self, now: float) -> Sequence[NodeEffect]:
        """As of the node, with a record of the effects."""
        effects = self._node.drain(now)
        self._note_effects(effects, now)
        return effects

    def observe_upgrade(self, connection: int, direction: Direction, remote: Multiaddr | None) -> UpgradeObserver:
        """Who records how the upgrade of a new connection ends."""
        return partial(self._note_upgrade, connection, direction, remote)

    # ------------------------------------------------------------ records

    def _note_upgrade(
        self, connection: int, direction: Direction, remote: Multiaddr | None, peer: PeerId | None, end: Ready | Failed
    ) -> None:
        where: dict[str, Any] = {"connection": connection, "direction": direction.value}
        where["peer"] = str(peer) if peer is not None else None
        where["remote"] = str(remote) if remote is not None else None
        if isinstance(end, Ready):
            self._trace.write("handshake", **where, security=SECURITY, muxer=end.muxer, muxer_in_handshake=end.early)
        else:
            self._trace.write("handshake failed", **where, reason=_text(end.error))

    def _note_input(self, input: NodeInput, now: float) -> None:
        write = self._trace.write
        match input:
            case events.StreamsReceived(_, chunks):
                for stream, data in chunks:
                    self._note_bytes(stream, data, "in", now)
            case events.ConnectionOpened():
                peer = self._peers[input.connection] = str(input.peer)
                addresses = {"remote": str(input.remote), "local": str(input.local)}
                where = {"connection": input.connection, "peer": peer, "direction": input.direction.value}
                write("connection opened", now, **where, **addresses, dial=input.dial)
            case events.ConnectionClosed(connection, error):
                write("connection closed", now, **self._of(connection), reason=_text(error))
                self._forget(connection)
            case events.DialFailed(dial, error):
                write("dial failed", now, dial=dial, reason=_text(error))
            case events.Resolved(lookup, result):
                if isinstance(result, SidecarError):
                    write("resolved", now, lookup=lookup, reason=_text(result))
                else:
                    write("resolved", now, lookup=lookup, addresses=_texts(result))
            case events.StreamOpened(stream, protocol, token):
                peer = self._peers.get(stream >> STREAM_BITS, "")
                self._streams[stream] = _Stream(protocol, peer, "them" if token is None else "us")
                direction = "in" if token is None else "out"
                write("stream opened", now, **self._about(stream), direction=direction, token=token)
            case events.StreamFailed(token, error):
                write("stream failed", now, token=token, reason=_text(error))
            case events.StreamEnded(stream):
                write("end", now, **self._about(stream), direction="in")
                self._end(stream, "in")
            case events.StreamGone(stream, error):
                write("reset", now, **self._about(stream), direction="in", reason=_text(error))
                self._drop(stream)
            case events.LatencyMeasured(connection, round_trip):
                write("latency", now, **self._of(connection), round_trip=round_trip)
            case events.AddressesChanged(listening, announced):
                write("addresses", now, listening=_texts(listening), announced=_texts(announced))
            case _:
                write("app", now, input=type(input).__name__)

    def _note_effects(self, effects: Sequence[NodeEffect], now: float) -> None:
        if not self._trace.active:
            return
        write = self._trace.write
        for effect in effects:
            match effect:
                case events.Dial(dial, peer, addresses):
                    write("dial", now, dial=dial, peer=str(peer) if peer else None, addresses=_texts(addresses))
                case events.Resolve(lookup, address):
                    write("resolve", now, lookup=lookup, address=str(address))
                case events.OpenStream(connection, token, protocols):
                    write("open stream", now, **self._of(connection), token=token, protocols=list(protocols))
                case events.CloseWrite(stream):
                    write("end", now, **self._about(stream), direction="out")
                    self._end(stream, "out")
                case events.ResetStream(stream):
                    write("reset", now, **self._about(stream), direction="out")
                    self._drop(stream)
                case events.CloseConnection(connection, error):
                    write("close connection", now, **self._of(connection), reason=_text(error))

    def _note_bytes(self, stream: int, data: bytes, direction: str, now: float | None) -> None:
        coded = base64.b64encode(data).decode()
        self._trace.write("data", now, **self._about(stream), direction=direction, length=len(data), data=coded)

    def _of(self, connection: int) -> dict[str, Any]:
        return {"connection": connection, "peer": self._peers.get(connection)}

    def _about(self, stream: int) -> dict[str, Any]:
        known = self._streams.get(stream) or self._ended.get(stream)
        where = {"connection": stream >> STREAM_BITS, "stream": stream & _MASK}
        if known is None:
            return where
        return {**where, "peer": known.peer, "protocol": known.protocol, "opener": known.opener}

    def _end(self, stream: int, direction: str) -> None:
        """Forget a stream once both directions have ended, but not at once what is still queued on it."""
        if self._half_ended.setdefault(stream, direction) == direction:
            return
        del self._half_ended[stream]
        known = self._streams.pop(stream, None)
        if known is not None:
            self._ended[stream] = known
            if len(self._ended) > _ENDED_KEPT:
                self._ended.popitem(last=False)

    def _drop(self, stream: int) -> None:
        self._streams.pop(stream, None)
        self._half_ended.pop(stream, None)
        self._ended.pop(stream, None)

    def _forget(self, connection: int) -> None:
        self._peers.pop(connection, None)
        every = (*self._streams, *self._half_ended, *self._ended)
        for stream in [stream for stream in every if stream >> STREAM_BITS == connection]:
            self._drop(stream)


def _text(error: Exception | None) -> str | None:
    return f"{type(error).__name__}: {error}" if error is not None else None


def _texts(addresses: Sequence[Multiaddr]) -> list[str]:
    return [str(address) for address in addresses]
