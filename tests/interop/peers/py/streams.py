"""The protocols that answer from the start, and the ops that drive single streams."""

import base64
import contextlib
import itertools
import math

import trio
from common import b64
from libp2p.custom_types import TProtocol
from libp2p.identity.identify_push.identify_push import push_identify_to_peers
from libp2p.network.stream.exceptions import StreamClosed, StreamEOF, StreamError, StreamReset
from libp2p.peer.id import ID

ECHO, SINK, SOURCE = map(TProtocol, ("/interop/echo/1", "/interop/sink/1", "/interop/source/1"))
CHUNK = 64 << 10
# Yamux.open_stream in stream_muxer/yamux/yamux.py waits while 256 streams of its own are open, which no option changes.
MOST_AT_ONCE = 200
GONE = (StreamClosed, StreamEOF, StreamError, StreamReset)


def was_reset(stream):
    """Whether the remote reset it: a reader that waits is told end of file, since the stream is forgotten first."""
    return bool(getattr(stream.muxed_stream, "reset_received", False))


async def to_end(stream):
    while True:
        try:
            data = await stream.read(CHUNK)
        except StreamEOF:
            return
        if not data:
            return
        yield data


async def echo_back(stream):
    with contextlib.suppress(*GONE):
        async for data in to_end(stream):
            await stream.write(data)
        await stream.close_write()


async def sink(stream):
    total = 0
    with contextlib.suppress(*GONE):
        async for data in to_end(stream):
            total += len(data)
        await stream.write(total.to_bytes(8, "big"))
        await stream.close_write()


async def source(stream):
    frame = b""
    with contextlib.suppress(*GONE):
        while len(frame) < 8:
            frame += await stream.read(8 - len(frame))
        left = int.from_bytes(frame, "big")
        while left:
            await stream.write(bytes(min(left, CHUNK)))
            left -= min(left, CHUNK)
        await stream.close_write()


class Streams:
    """Needs `host`."""

    def serve_streams(self):
        for protocol, serve in ((ECHO, echo_back), (SINK, sink), (SOURCE, source)):
            self.host.set_stream_handler(protocol, serve)
        self.streams, self.numbers, self.accepted = {}, itertools.count(1), {}

    def number(self, stream):
        number = next(self.numbers)
        self.streams[number] = stream
        return number

    def stream(self, cmd):
        if cmd["stream"] not in self.streams:
            raise ValueError(f"no stream {cmd['stream']}")
        return self.streams[cmd["stream"]]

    async def open(self, cmd, protocol):
        return await self.host.new_stream(ID.from_base58(cmd["peer_id"]), [TProtocol(protocol)])

    async def op_echo(self, cmd):
        stream = await self.open(cmd, ECHO)
        back = bytearray()

        async def read():
            async for data in to_end(stream):
                back.extend(data)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(read)
            await stream.write(base64.b64decode(cmd["data"]))
            await stream.close_write()
        return {"data": b64(back)}

    async def op_stream_open(self, cmd):
        return {"stream": self.number(await self.open(cmd, cmd["protocol"]))}

    async def op_stream_accept(self, cmd):
        protocol = TProtocol(cmd["protocol"])
        if protocol not in self.accepted:
            arrived, self.accepted[protocol] = trio.open_memory_channel(math.inf)

            async def serve(stream):
                await arrived.send(stream)

            self.host.set_stream_handler(protocol, serve)
            await push_identify_to_peers(self.host)
        stream = await self.accepted[protocol].receive()
        return {"stream": self.number(stream), "peer_id": str(stream.muxed_conn.peer_id)}

    async def op_stream_write(self, cmd):
        await self.stream(cmd).write(base64.b64decode(cmd["data"]))

    async def op_stream_read(self, cmd):
        stream, data, end, reset = self.stream(cmd), b"", False, False
        while len(data) < cmd["size"] and not end and not reset:
            try:
                data += await stream.read(cmd["size"] - len(data))
            except StreamEOF:
                reset = was_reset(stream)
                end = not reset
            except StreamReset:
                reset = True
        return {"data": b64(data), "end": end, "reset": reset}

    async def op_stream_close_write(self, cmd):
        await self.stream(cmd).close_write()

    async def op_stream_reset(self, cmd):
        await self.stream(cmd).reset()

    async def op_streams_reset(self, cmd):
        left = cmd["count"]
        while left:
            streams = []
            for _ in range(min(left, MOST_AT_ONCE)):
                streams.append(await self.open(cmd, ECHO))
                await streams[-1].write(b"x")
            for stream in streams:
                with contextlib.suppress(StreamReset):
                    await stream.reset()
            left -= len(streams)
        return {"opened": cmd["count"]}

    async def op_protocol_add(self, cmd):
        self.host.set_stream_handler(TProtocol(cmd["protocol"]), echo_back)
        await push_identify_to_peers(self.host)  # not done by itself

    async def op_protocol_remove(self, cmd):
        self.host.remove_stream_handler(TProtocol(cmd["protocol"]))
        await push_identify_to_peers(self.host)
