"""WebSocket: the layer in any pieces, nodes that talk over it, and what strangers send to such a port."""

import asyncio
import os
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from sidecar.core import events
from sidecar.core.channel import ChannelLimits
from sidecar.core.errors import ConfigError, FrameTooLarge, HandshakeError, ProtocolError, WrongPrivateNetwork
from sidecar.core.multiaddr import Multiaddr
from sidecar.net.config import NetConfig
from sidecar.net.dial_history import DialHistory
from sidecar.net.layers import Stack
from sidecar.net.resolve import Target
from sidecar.net.tls import TlsLayer, client_context, server_context
from sidecar.net.transports import Transports
from sidecar.net.websocket import MAX_MESSAGE, WebSocketLayer

from .certificates import Authority
from .harness import LOOPBACK, Host, both_loops, closed, one_loop
from .pieces import pieces
from .test_hostile import JUNK, RawClient, still_serves

KEY, OTHER_KEY = bytes(range(32)), bytes(range(1, 33))
WS, WSS = Multiaddr.from_text("/ip4/127.0.0.1/tcp/0/ws"), Multiaddr.from_text("/ip4/127.0.0.1/tcp/0/tls/ws")
MASK = b"\0\0\0\0"  # a mask that changes nothing
REQUEST = (
    b"GET /any/path?x=y HTTP/1.1\r\nHost: example.com:1234\r\nUpgrade: websocket\r\nConnection: keep-alive, Upgrade\r\n"
    b"Origin: https://app.example\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
    b"Sec-WebSocket-Extensions: permessage-deflate\r\n\r\n"
)


def frame(payload: bytes, *, opcode: int = 2, last: bool = True) -> bytes:
    """As a client sends it (RFC 6455 section 5.2)."""
    head = bytes([opcode | (0x80 if last else 0)])
    if len(payload) < 126:
        return head + bytes([0x80 | len(payload)]) + MASK + payload
    return head + b"\xfe" + len(payload).to_bytes(2, "big") + MASK + payload


def listener() -> WebSocketLayer:
    """One that was asked already."""
    layer = WebSocketLayer()
    assert layer.feed(REQUEST) == b""
    assert layer.ready
    layer.output()
    return layer


# ---------------------------------------------------------------- the layer


def test_a_browsers_request_is_accepted_as_the_rfc_answers_it() -> None:
    layer = WebSocketLayer()
    assert layer.feed(REQUEST) == b""
    answer = b"".join(layer.output())
    assert answer.startswith(b"HTTP/1.1 101 ")
    assert b"Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n" in answer  # RFC 6455 section 1.3
    assert b"Extensions" not in answer
    assert b"Sec-WebSocket-Protocol" not in answer


def test_any_pieces_give_the_same_bytes() -> None:
    wire = REQUEST + frame(b"hello ") + frame(b"wo", last=False) + frame(b"ping", opcode=9) + frame(b"rld", opcode=0)
    wire += frame(b"") + frame(b"x" * 300)
    for cut in pieces(wire):
        layer = WebSocketLayer()
        assert b"".join(map(layer.feed, cut)) == b"hello world" + b"x" * 300
        assert layer.failure is None
        assert b"".join(layer.output()).endswith(b"\x8a\x04ping")


def test_both_sides_understand_each_other_in_any_pieces() -> None:
    rng = random.Random(5)
    payload = [rng.randbytes(rng.randrange(1, 5000)) for _ in range(5)]
    dialer = WebSocketLayer("127.0.0.1", 80)
    request = b"".join(dialer.output())
    assert b"\r\nHost: 127.0.0.1\r\n" in request
    server = WebSocketLayer()
    server.feed(request)
    wire = b"".join(server.output())
    for part in payload:
        wire += b"".join(bytes(piece) for piece in server.seal([part[:10], memoryview(part)[10:]]))
    got = b"".join(dialer.feed(wire[at : at + 777]) for at in range(0, len(wire), 777))
    assert got == b"".join(payload)
    assert dialer.ready
    back = b"".join(bytes(piece) for piece in dialer.seal(payload))
    assert b"".join(server.feed(back[at : at + 1000]) for at in range(0, len(back), 1000)) == b"".join(payload)
    server.close()
    assert dialer.feed(b"".join(server.output())) == b""
    assert dialer.ended


@pytest.mark.parametrize(
    ("sent", "error"),
    [
        (frame(b"text", opcode=1), ProtocolError),
        (frame(b"", opcode=0), ProtocolError),  # continues nothing
        (frame(b"", opcode=3), ProtocolError),  # reserved
        (b"\x82\x01x", ProtocolError),  # not masked
        (b"\x82\xff" + (MAX_MESSAGE + 1).to_bytes(8, "big") + MASK, FrameTooLarge),
        (b"\x82\xff\xff" + bytes(7) + MASK, ProtocolError),
    ],
)
def test_what_breaks_the_protocol_ends_it_behind_the_good_bytes(sent: bytes, error: type[ProtocolError]) -> None:
    for cut in pieces(frame(b"good") + sent):
        layer, got, failure = listener(), b"", None
        for piece in cut:
            try:
                got += layer.feed(piece)
            except ProtocolError as raised:
                failure = raised
                break
            if failure := layer.failure:
                break
        assert got == b"good"
        assert isinstance(failure, error)
        assert b"".join(layer.output())[:1] == b"\x88"  # a close frame says why


def test_a_message_in_many_frames_is_bounded_as_one() -> None:
    layer = listener()
    part = frame(bytes(60_000), last=False)
    more = frame(bytes(60_000), opcode=0, last=False)
    layer.feed(part)
    with pytest.raises(FrameTooLarge):
        list(map(layer.feed, [more] * (MAX_MESSAGE // 60_000 + 1)))


def test_pongs_that_nobody_reads_are_bounded() -> None:
    layer = listener()
    for _ in range(1000):
        layer.feed(frame(bytes(125), opcode=9))
    assert len(layer.output()) == 16


def test_nothing_is_sent_behind_the_goodbye() -> None:
    layer = listener()
    layer.close()
    assert b"".join(layer.output())[:1] == b"\x88"
    assert not layer.seal([b"late"])


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (b"\x13/multistream/1.0.0\n", b"400"),
        (b"NOT HTTP\r\n\r\n", b"400"),
        (b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", b"426"),
        (REQUEST.replace(b"Version: 13", b"Version: 12"), b"400"),
        (REQUEST.replace(b"GET", b"PUT"), b"40"),
        (b"GET / HTTP/1.1\r\n" + b"X: y\r\n" * 1000 + b"\r\n", b"4"),
        (b"GET /" + b"x" * 100_000, b"4"),
    ],
)
def test_other_requests_get_an_answer_in_http(sent: bytes, status: bytes) -> None:
    for cut in ([sent], [sent[at : at + 50] for at in range(0, len(sent), 50)]):
        layer = WebSocketLayer()
        with pytest.raises(HandshakeError, match="not a WebSocket request"):
            list(map(layer.feed, cut))
        assert b"".join(layer.output()).startswith(b"HTTP/1.1 " + status)


def test_a_dialer_says_what_answered_instead() -> None:
    for answer in (b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n", b"SSH-2.0-OpenSSH\r\n"):
        layer = WebSocketLayer("127.0.0.1", 80)
        with pytest.raises(HandshakeError, match=r"does not speak WebSocket: .*(404|HTTP)"):
            layer.feed(answer)


# ---------------------------------------------------------------- TLS


def test_tls_in_any_pieces(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    server_side, client_side = server_context(*authority.issue("127.0.0.1")), client_context(authority.path)
    for size in (1, 7, 1 << 20):
        client, server = TlsLayer(client_side, "127.0.0.1"), TlsLayer(server_side, None)
        for _ in range(3):
            for source, sink in ((client, server), (server, client)):
                wire = b"".join(source.output())
                for at in range(0, len(wire), size):
                    assert sink.feed(wire[at : at + size]) == b""
        assert client.ready
        assert server.ready
        wire = b"".join(bytes(part) for part in client.seal([b"hello ", memoryview(b"world")]))
        assert b"".join(server.feed(wire[at : at + size]) for at in range(0, len(wire), size)) == b"hello world"
        with pytest.raises(ProtocolError):
            server.feed(JUNK)


@pytest.mark.parametrize(
    ("name", "trusted", "message"),
    [("localhost", True, "not valid for"), ("127.0.0.1", False, "not trusted")],
)
def test_certificates_are_verified(name: str, trusted: bool, message: str, tmp_path: Path) -> None:
    authority = Authority(tmp_path / "one")
    other = authority if trusted else Authority(tmp_path / "two", "others")
    client = TlsLayer(client_context(other.path), name)
    server = TlsLayer(server_context(*authority.issue("127.0.0.1")), None)
    server.feed(b"".join(client.output()))
    with pytest.raises(HandshakeError, match="certificate is not trusted") as caught:
        client.feed(b"".join(server.output()))
    assert trusted == ("Hostname mismatch" in str(caught.value))


def test_wrong_files_are_named(tmp_path: Path) -> None:
    authority = Authority(tmp_path / "one")
    certificate, key = authority.issue("127.0.0.1")
    _, another = Authority(tmp_path / "two").issue("127.0.0.1")
    with pytest.raises(ConfigError, match=r"listen\.tls_certificate: .* cannot be read"):
        server_context(tmp_path / "none", key)
    with pytest.raises(ConfigError, match=r"listen\.tls_key: .* cannot be read"):
        server_context(certificate, tmp_path / "none")
    with pytest.raises(ConfigError, match="that fit"):
        server_context(certificate, another)
    with pytest.raises(ConfigError, match=r"peers\.tls_ca: .* no PEM"):
        client_context(key)


# ---------------------------------------------------------------- nodes


@asynccontextmanager
async def nodes(
    address: Multiaddr, *transports: Transports, config: NetConfig | None = None
) -> AsyncIterator[list[Host]]:
    """Nodes that listen at `address`."""
    made = [Host(seed, config or NetConfig(), carried) for seed, carried in enumerate(transports, 1)]
    try:
        for host in made:
            host.addresses = await host.runtime.listen([address])
        yield made
    finally:
        await asyncio.gather(*(host.runtime.close(2.0) for host in made))
    for host in made:
        assert host.runtime.statistics().connections == 0
        assert host.runtime.statistics().buffered == 0


async def talk(left: Host, right: Host, suffix: str) -> None:
    """Connect, carry data both ways, and see the addresses that each side shows."""
    connection = (await left.connect(right)).connection
    stream = await left.open_stream(connection)
    data = os.urandom(500_000)
    left.do(*left.node.write(stream, data))
    assert await left.received(stream, len(data)) == data
    mine, theirs = left.runtime.connections()[0], right.runtime.connections()[0]
    assert mine.remote == theirs.local == right.addresses[0]
    assert mine.local == theirs.remote
    for address in (mine.local, mine.remote):
        endpoint = address.endpoint()
        assert endpoint is not None
        assert endpoint.suffix == suffix
    left.do(events.CloseConnection(connection, None))
    assert (await right.node.saw(events.ConnectionClosed)).error is None
    assert (await left.node.until(closed(connection))).error is None


@both_loops
async def test_nodes_talk_over_websocket() -> None:
    async with nodes(WS, Transports(), Transports()) as (left, right):
        assert str(right.addresses[0]).endswith("/ws")
        await talk(left, right, "/ws")


@both_loops
async def test_nodes_talk_over_websocket_in_a_private_network() -> None:
    async with nodes(WS, *(Transports(psk=key) for key in (KEY, KEY, OTHER_KEY))) as (left, right, other):
        await talk(left, right, "/ws")
        error = await other.dial_failed(other.dial(right.addresses, right.peer))
        assert isinstance(error, WrongPrivateNetwork)


@pytest.mark.parametrize("psk", [None, KEY])
@both_loops
async def test_nodes_talk_over_tls(psk: bytes | None, tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    context = server_context(*authority.issue("127.0.0.1", "localhost"))
    carried = [Transports(psk=psk, server_tls=context, authorities=authority.path) for _ in range(2)]
    async with nodes(WSS, *carried) as (left, right):
        assert str(right.addresses[0]).endswith("/tls/ws")
        await talk(left, right, "/tls/ws")
        endpoint = right.addresses[0].endpoint()
        assert endpoint is not None
        third = Host(9, NetConfig(), Transports(psk=psk, authorities=authority.path))
        for text in (
            f"/dns4/localhost/tcp/{endpoint.port}/wss",
            f"/ip4/127.0.0.1/tcp/{endpoint.port}/tls/sni/localhost/ws",
        ):
            number = third.dial([Multiaddr.from_text(text)], right.peer)
            opened = await third.node.until(lambda e, n=number: isinstance(e, events.ConnectionOpened) and e.dial == n)
            assert opened.peer == right.peer
        await third.runtime.close(2.0)


@one_loop
async def test_untrusted_certificates_are_refused_and_told(tmp_path: Path) -> None:
    context = server_context(*Authority(tmp_path).issue("127.0.0.1"))
    async with nodes(WSS, Transports(server_tls=context)) as (host,):
        stranger = Host(9, NetConfig())
        error = await stranger.dial_failed(stranger.dial(host.addresses, host.peer))
        assert isinstance(error, HandshakeError)
        assert "certificate is not trusted" in str(error)
        await stranger.runtime.close(1.0)


@one_loop
async def test_tls_without_a_certificate_is_refused_at_the_start() -> None:
    host = Host(1, NetConfig())
    with pytest.raises(ConfigError, match=r"listen\.tls_certificate"):
        await host.runtime.listen([WSS])
    await host.runtime.close(1.0)


@one_loop
async def test_tcp_and_websocket_at_the_same_node_and_tcp_is_preferred() -> None:
    left, right = Host(1, NetConfig()), Host(2, NetConfig())
    try:
        right.addresses = await right.runtime.listen([WS, LOOPBACK])
        opened = await left.connect(right)
        assert opened.remote == right.addresses[1]
    finally:
        await asyncio.gather(left.runtime.close(1.0), right.runtime.close(1.0))


def test_what_answered_last_comes_before_what_is_preferred() -> None:
    history = DialHistory(NetConfig(), random.Random(1))
    texts = ("/ip4/127.0.0.1/tcp/1/ws", "/ip4/127.0.0.1/tcp/1", "/ip4/192.0.2.1/tcp/1")
    web, near, far = (Target(Multiaddr.from_text(text), text.split("/")[2], 1, None) for text in texts)
    assert history.order([web, far, near]) == [near, far, web]
    history.succeeded(web, 1.0)
    assert history.order([far, near, web]) == [web, near, far]
    history.failed(near, 1.0)
    assert history.wait(web, 1.0) == 0.0


# ---------------------------------------------------------------- strangers


async def answer(host: Host, sent: bytes) -> bytes:
    """What a raw client gets before the end."""
    client = await RawClient.connect(host)
    client.writer.write(sent)
    got = b""
    try:
        while data := await client.reader.read(65536):
            got += data
    except ConnectionError:
        pass
    await client.close()
    return got


@pytest.mark.parametrize(
    ("sent", "begins", "outcome"),
    [
        (b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", b"HTTP/1.1 426", "HandshakeError"),
        (b"\x13/multistream/1.0.0\n", b"HTTP/1.1 400", "HandshakeError"),
        (REQUEST + frame(JUNK), b"HTTP/1.1 101", "HandshakeError"),
        (REQUEST + JUNK, b"HTTP/1.1 101", "ProtocolError"),
        (REQUEST + b"\x82\xff" + (2 << 30).to_bytes(8, "big") + MASK, b"HTTP/1.1 101", "FrameTooLarge"),
        (REQUEST + frame(b"\x03\xe8", opcode=8), b"HTTP/1.1 101", "HandshakeError"),
    ],
)
@both_loops
async def test_garbage_at_each_layer(sent: bytes, begins: bytes, outcome: str) -> None:
    async with nodes(WS, Transports()) as (host,):
        got = await answer(host, sent)
        assert got.startswith(begins)
        await still_serves(host)
        assert host.runtime.statistics().handshakes == {outcome: 1, "completed": 1}
        assert host.runtime.statistics().internal_errors == 0


@pytest.mark.parametrize("sent", [JUNK, REQUEST, b"\x16\x03\x01\x02\x00" + JUNK])
@one_loop
async def test_garbage_instead_of_tls(sent: bytes, tmp_path: Path) -> None:
    context = server_context(*Authority(tmp_path).issue("127.0.0.1"))
    async with nodes(WSS, Transports(server_tls=context)) as (host,):
        client = await RawClient.connect(host)
        client.writer.write(sent)
        client.writer.write_eof()
        await client.until_closed()
        assert host.runtime.statistics().handshakes == {"HandshakeError": 1}
        assert host.runtime.statistics().internal_errors == 0


@pytest.mark.parametrize("begun", [b"", b"GET / HTTP/1.1\r\nHo", REQUEST, REQUEST + frame(b"\x13/multi")])
@pytest.mark.parametrize("address", [WS, WSS])
@one_loop
async def test_half_a_handshake_is_dropped_in_time(address: Multiaddr, begun: bytes, tmp_path: Path) -> None:
    config = NetConfig(channel=ChannelLimits(handshake_timeout=0.3), close_timeout=0.3)
    context = server_context(*Authority(tmp_path).issue("127.0.0.1"))
    if address is WSS:
        begun = b"\x16\x03\x01\x02\x00"[: len(begun)]  # the head of a TLS record
    async with nodes(address, Transports(server_tls=context), config=config) as (host,):
        client = await RawClient.connect(host)
        client.writer.write(begun)
        await client.until_closed()
        assert host.runtime.statistics().handshakes == {"HandshakeTimeout": 1}


def test_a_stack_says_goodbye_through_the_layers_below() -> None:
    layer = listener()
    stack = Stack([layer])
    assert b"".join(bytes(part) for part in stack.close())[:1] == b"\x88"
    assert stack.close() == []
