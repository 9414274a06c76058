"""What a listening node meets on the open net: each thing refused in bounds, said in the log, and the node goes on."""

import asyncio
import contextlib
import socket

import pytest

from sidecar.core import channel as wire
from sidecar.core import events
from sidecar.core.channel import Channel, ChannelLimits, frames, secure
from sidecar.core.errors import ProtocolError, ResourceExhausted, WriteStalled
from sidecar.core.identity import Identity
from sidecar.net.config import NetConfig

from .harness import ECHO, FLOOD, Host, both_loops, closed, hosts, one_loop

JUNK = bytes(range(256)) * 4
OFFER = b"\x13/multistream/1.0.0\n"
NOISE = b"\x07/noise\n"


class RawClient:
    """A dialer made of a channel and a plain socket, so that tests can break any layer."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer
        self.channel = Channel(
            Identity(bytes([99]) * 32),
            dialer=True,
            expected_peer=None,
            limits=ChannelLimits(),
            pull=lambda stream, limit: (),
            accepts=lambda protocol: False,
            ephemeral=bytes(range(32)),
            now=0.0,
        )

    @classmethod
    async def connect(cls, host: Host) -> "RawClient":
        endpoint = host.addresses[0].endpoint()
        assert endpoint is not None
        raw = socket.socket()
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        raw.setblocking(False)
        await asyncio.get_running_loop().sock_connect(raw, endpoint[1:3])
        return cls(*await asyncio.open_connection(sock=raw))

    async def until(self, kind: type) -> None:
        """Let the channel talk until it tells of a `kind`."""
        while True:
            self.flush()
            data = await self.reader.read(65536)
            assert data, "the host has closed the connection"
            if any(isinstance(event, kind) for event in self.channel.receive_data(data, 0.0)):
                self.flush()
                return

    def flush(self) -> None:
        self.writer.writelines(self.channel.data_to_send(1 << 20))

    def seal(self, plaintext: bytes) -> None:
        """Send something of ours inside the encryption."""
        ciphers = self.channel._ciphers
        assert ciphers is not None
        self.writer.write(secure.frame(ciphers[0].encrypt(plaintext)))

    async def until_closed(self) -> None:
        with contextlib.suppress(ConnectionError):
            while await self.reader.read(65536):
                pass
        await self.close()

    async def close(self) -> None:
        self.writer.close()
        with contextlib.suppress(ConnectionError):
            await self.writer.wait_closed()


async def still_serves(host: Host) -> None:
    """A decent peer can connect and be answered."""
    other = Host(50, NetConfig())
    try:
        stream = await other.open_stream((await other.connect(host)).connection)
        other.do(*other.node.write(stream, b"hello"))
        assert await other.received(stream, 5) == b"hello"
    finally:
        await other.runtime.close(1)


@pytest.mark.parametrize(
    ("bytes_", "outcome"),
    [
        (JUNK, "HandshakeError"),
        (b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", "HandshakeError"),
        (b"\xff" * 64, "HandshakeError"),
        (OFFER + NOISE + b"\x00\x20" + JUNK[:32], "HandshakeError"),
        (OFFER + NOISE + b"\xff\xff" + JUNK, "FrameTooLarge"),
        (OFFER + NOISE, "HandshakeError"),  # and then the end of the stream
    ],
)
@both_loops
async def test_garbage_before_the_handshake_is_over(
    bytes_: bytes, outcome: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with hosts(1) as (host,):
        client = await RawClient.connect(host)
        client.writer.write(bytes_)
        client.writer.write_eof()
        await client.until_closed()
        await still_serves(host)
        assert host.runtime.statistics().handshakes == {outcome: 1, "completed": 1}
        assert len(host.node.all(events.ConnectionOpened)) == 1  # the node never heard of the other
    assert "handshake failed" in caplog.text


@both_loops
async def test_garbage_instead_of_ciphertext() -> None:
    async with hosts(1) as (host,):
        client = await RawClient.connect(host)
        await client.until(wire.Ready)
        client.writer.write(b"\x00\x40" + JUNK[:64])
        await client.until_closed()
        assert isinstance((await host.node.saw(events.ConnectionClosed)).error, ProtocolError)
        await still_serves(host)


@one_loop
async def test_garbage_instead_of_frames(caplog: pytest.LogCaptureFixture) -> None:
    async with hosts(1) as (host,):
        client = await RawClient.connect(host)
        await client.until(wire.Ready)
        client.seal(JUNK)
        await client.until_closed()
        assert isinstance((await host.node.saw(events.ConnectionClosed)).error, ProtocolError)
        assert client.channel.peer_id == host.peer
        await still_serves(host)
    assert "closed: yamux frame" in caplog.text


@one_loop
async def test_garbage_instead_of_a_protocol_costs_the_stream_only() -> None:
    async with hosts(1) as (host,):
        client = await RawClient.connect(host)
        await client.until(wire.Ready)
        number = client.channel.open_stream((ECHO,), 0.0)
        client.channel._yamux.drop_output()  # in place of a proposal:
        client.seal(frames.pack(frames.DATA, frames.SYN, number, len(JUNK)) + JUNK)
        await client.until(wire.StreamBroken)
        client.channel.open_stream((ECHO,), 0.0)
        await client.until(wire.StreamNegotiated)
        assert len(host.node.all(events.StreamOpened)) == 1
        assert not host.node.all(events.ConnectionClosed)
        await client.close()


@both_loops
async def test_a_silent_peer_is_dropped_in_time() -> None:
    async with hosts(1, handshake_timeout=0.4) as (host,):
        client = await RawClient.connect(host)
        await client.until_closed()
        assert host.runtime.statistics().handshakes == {"HandshakeTimeout": 1}
        await still_serves(host)


@both_loops
async def test_a_flood_of_half_open_connections_is_bounded() -> None:
    config = NetConfig(max_half_open=5)
    async with hosts(1, config) as (host,):
        clients = [await RawClient.connect(host) for _ in range(9)]
        for client in clients[5:]:
            await client.until_closed()  # at once, without a byte
        statistics = host.runtime.statistics()
        assert (statistics.half_open, statistics.refused) == (5, 4)
        clients[0].writer.write(JUNK)
        await clients[0].until_closed()
        await still_serves(host)
        for client in clients[1:5]:
            await client.close()


@both_loops
async def test_a_peer_that_never_reads_is_dropped() -> None:
    config = NetConfig(write_stall_timeout=0.3)
    async with hosts(1, config) as (host,):
        client = await never_reading(host)
        error = (await host.node.saw(events.ConnectionClosed)).error
        assert isinstance(error, WriteStalled)
        assert "remote took none" in str(error)
        await client.until_closed()
        await still_serves(host)


@one_loop
async def test_the_fullest_goes_when_too_much_waits_in_all() -> None:
    config = NetConfig(max_buffered_total=100_000)
    async with hosts(1, config) as (host,):
        client = await never_reading(host)
        assert isinstance((await host.node.saw(events.ConnectionClosed)).error, ResourceExhausted)
        assert host.runtime.statistics().buffered == 0
        await client.until_closed()
        await still_serves(host)


@both_loops
async def test_closing_is_bounded_by_a_peer_that_never_reads(caplog: pytest.LogCaptureFixture) -> None:
    async with hosts(1) as (host,):
        client = await never_reading(host)
        number = (await host.node.saw(events.ConnectionOpened)).connection
        await host.runtime.close(0.05)
        await host.node.until(closed(number))
        await client.until_closed()
    assert "did not close within" in caplog.text


async def never_reading(host: Host) -> RawClient:
    """A peer that asked for 12 MiB, more than kernels buffer, and reads none of them."""
    client = await RawClient.connect(host)
    await client.until(wire.Ready)
    for _ in range(12):
        client.channel.open_stream((FLOOD,), 0.0)
    client.flush()
    await host.node.saw(events.StreamOpened, 12)
    return client
