"""A bare asyncio driver of the pure `Channel`, just enough to show its wire to peers of other implementations."""

import asyncio
import os
import time
from collections.abc import Sequence

from sidecar.core import varint
from sidecar.core.channel import (
    Channel,
    ChannelEvent,
    ChannelLimits,
    Failed,
    Ready,
    Secured,
    StreamBroken,
    StreamHalfClosed,
    StreamNegotiated,
    StreamReceived,
    StreamResetByRemote,
)
from sidecar.core.identify import IDENTIFY, IDENTIFY_PUSH, IdentifyInfo, encode
from sidecar.core.identity import Identity
from sidecar.core.multiaddr import Multiaddr
from sidecar.core.ping import PING
from sidecar.core.types import PeerId
from sidecar.wire.gossip_pb2 import RPC, Message
from tests.interop.peer import Peer

US = Identity(bytes(range(32)))
ECHO = "/interop/echo/1"
_WRITE = 256 * 1024


class Stream:
    """What one stream brought, and what it still has to send."""

    def __init__(self) -> None:
        self.protocol = ""
        self.echoes = False
        self.received = bytearray()
        self.heard = asyncio.Event()
        self.to_send = bytearray()
        self.done: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        """All that was received, once the remote ended the stream; or why it failed."""


class Wire(asyncio.Protocol):
    """One connection; it serves echo, ping and identify."""

    def __init__(
        self, identity: Identity, *, dialer: bool, expected: PeerId | None = None, further: tuple[str, ...] = ()
    ) -> None:
        """`further`: protocols that are shown and accepted beside its own; what comes on them is read and dropped."""
        loop = asyncio.get_running_loop()
        self.secured: asyncio.Future[Secured] = loop.create_future()
        self.ready: asyncio.Future[Ready] = loop.create_future()
        self.failed: asyncio.Future[Exception] = loop.create_future()
        self._info = encode(
            IdentifyInfo(
                protocol_version="sidecar/interop",
                agent="wire",
                public_key=identity.public_key,
                listen_addresses=(Multiaddr.tcp("127.0.0.1", 1),),
                protocols=(IDENTIFY, PING, ECHO, *further),
            )
        )
        self._streams: dict[int, Stream] = {}
        self._paused = False
        self._heard = asyncio.Event()
        self._channel = Channel(
            identity,
            dialer=dialer,
            expected_peer=expected,
            limits=ChannelLimits(),
            pull=self._pull,
            accepts={IDENTIFY, IDENTIFY_PUSH, PING, ECHO, *further}.__contains__,
            ephemeral=os.urandom(32),
            now=time.monotonic(),
        )

    async def exchange(self, protocol: str, data: bytes = b"") -> bytes:
        """Open a stream, send `data`, end our direction, and give what came back."""
        await self.ready
        number = self._channel.open_stream([protocol], time.monotonic())
        stream = self._streams[number] = Stream()
        stream.to_send += data
        self._channel.wake(number)
        self._channel.close_write(number)
        self._flush()
        return await stream.done

    async def ask(self, protocol: str, message: bytes) -> bytes:
        """Open a stream, send a message with its length before it, wait for one such answer, then end our direction."""
        await self.ready
        number = self._channel.open_stream([protocol], time.monotonic())
        stream = self._streams[number] = Stream()
        stream.to_send += varint.encode(len(message)) + message
        self._channel.wake(number)
        self._flush()
        while (prefix := varint.decode(stream.received)) is None or len(stream.received) < sum(prefix):
            if stream.done.done():
                raise EOFError(f"ended within an answer: {stream.done.result()!r}")  # or what else ended it is raised
            await stream.heard.wait()
            stream.heard.clear()
        self._channel.close_write(number)
        self._flush()
        length, begin = prefix
        return bytes(stream.received[begin : begin + length])

    async def send(self, protocol: str, data: bytes) -> None:
        """Open a stream and write; it stays open."""
        await self.ready
        number = self._channel.open_stream([protocol], time.monotonic())
        self._streams[number] = stream = Stream()
        stream.to_send += data
        self._channel.wake(number)
        self._flush()

    async def told(self, protocol: str, within: bytes) -> bytes:
        """What came so far on streams of this protocol, as soon as it has `within` in it."""
        while True:
            streams = [stream for stream in self._streams.values() if stream.protocol == protocol]
            received = b"".join(stream.received for stream in streams)
            if within in received:
                return received
            self._heard.clear()
            await self._heard.wait()

    async def open_many(self, protocol: str, count: int) -> list[int]:
        """Open streams, one after the other, each answered before the next; their numbers."""
        numbers = []
        for _ in range(count):
            number = self._channel.open_stream([protocol], time.monotonic())
            stream = self._streams[number] = Stream()
            stream.to_send += b"?"
            self._channel.wake(number)
            self._flush()
            await stream.heard.wait()
            numbers.append(number)
        return numbers

    def reset(self, numbers: Sequence[int]) -> None:
        for number in numbers:
            self._channel.reset(number)
        self._flush()

    async def keep_alive(self) -> None:
        """Ask whether the remote lives, as the channel does when all is silent, and wait for its answer."""
        limits = ChannelLimits()
        self._heard.clear()
        self._channel.handle_deadline(time.monotonic() + limits.keep_alive_interval)
        self._flush()
        await self._heard.wait()
        assert not self.failed.done()

    def send_raw(self, plaintext: bytes) -> None:
        """Send what no channel would, under its cipher."""
        sender = self._channel._ciphers[0]  # type: ignore[index]
        ciphertext = sender.encrypt(plaintext)
        self._transport.write(len(ciphertext).to_bytes(2, "big") + ciphertext)

    def close(self) -> None:
        self._channel.close(time.monotonic())
        self._flush()

    # ---------------------------------------------------------------- asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._flush()

    def data_received(self, data: bytes) -> None:
        for event in self._channel.receive_data(data, time.monotonic()):
            self._on_event(event)
        self._flush()
        self._heard.set()

    def connection_lost(self, error: Exception | None) -> None:
        # After an end of file as well, and after a reset: what a remote leaves behind unread turns its close into one.
        for event in self._channel.receive_eof(time.monotonic()):
            self._on_event(event)

    def pause_writing(self) -> None:
        self._paused = True

    def resume_writing(self) -> None:
        self._paused = False
        self._flush()

    # ---------------------------------------------------------------- the channel

    def _flush(self) -> None:
        while not self._paused and (pieces := self._channel.data_to_send(_WRITE)):
            self._transport.write(b"".join(pieces))
        if self._channel.finished:
            self._transport.close()

    def _pull(self, number: int, limit: int) -> Sequence[bytes]:
        waiting = self._streams[number].to_send
        piece = bytes(waiting[:limit])
        del waiting[:limit]
        return (piece,) if piece else ()

    def _on_event(self, event: ChannelEvent) -> None:
        match event:
            case Secured():
                self.secured.set_result(event)
            case Ready():
                self.ready.set_result(event)
            case StreamNegotiated():
                self._on_opened(event)
            case StreamReceived(number, data):
                self._on_received(number, data)
            case StreamHalfClosed(number):
                self._channel.close_write(number)
                self._settle(number, None)
            case StreamBroken(number, error):
                self._settle(number, error)
            case StreamResetByRemote(number):
                self._settle(number, ConnectionResetError())
            case Failed(error):
                self.failed.set_result(error)
                for stream in self._streams:
                    self._settle(stream, error)

    def _on_opened(self, event: StreamNegotiated) -> None:
        stream = self._streams.setdefault(event.stream, Stream())
        stream.protocol = event.protocol
        stream.echoes = event.inbound and event.protocol in (ECHO, PING)
        if event.inbound and event.protocol == IDENTIFY:
            stream.to_send += self._info
            self._channel.wake(event.stream)
            self._channel.close_write(event.stream)

    def _on_received(self, number: int, data: bytes) -> None:
        stream = self._streams[number]
        stream.received += data
        stream.heard.set()
        self._channel.acknowledge(number, len(data))
        if stream.echoes:
            stream.to_send += data
            self._channel.wake(number)

    def _settle(self, number: int, error: Exception | None) -> None:
        done = self._streams[number].done
        self._streams[number].heard.set()
        if done.done():
            return
        if error is None:
            done.set_result(bytes(self._streams[number].received))
        else:
            done.set_exception(error)
            done.exception()  # nobody may be waiting for it


async def dial(peer: Peer, expected: str | None = None, further: tuple[str, ...] = ()) -> Wire:
    """A channel to a peer, as soon as there is a connection; `expected` instead of its own id."""
    host, port = peer.address.split("/")[2], int(peer.address.split("/")[4])
    _, wire = await asyncio.get_running_loop().create_connection(
        lambda: Wire(US, dialer=True, expected=PeerId.from_text(expected or peer.peer_id), further=further), host, port
    )
    return wire


def signed_rpc(data: bytes, seqno: int, *, tampered: bool) -> bytes:
    """An RPC, with its length, of one message of `US`."""
    message = Message(**{"from": bytes(US.peer_id)}, data=data, seqno=seqno.to_bytes(8, "big"), topic=b"news")
    message.signature = US.sign(b"libp2p-pubsub:" + message.SerializeToString())
    if tampered:
        message.data = data[:-1] + bytes([data[-1] ^ 1])
    body = RPC(
        subscriptions=[RPC.SubOpts(subscribe=True, topicid=b"news")], publish=[message.SerializeToString()]
    ).SerializeToString()
    return varint.encode(len(body)) + body
