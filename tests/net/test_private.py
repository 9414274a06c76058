"""Private networks: the cipher against public vectors, and nodes with and without the key."""

import asyncio
import os

import nacl.bindings
import pytest

from sidecar.core.channel import ChannelLimits
from sidecar.core.errors import (
    Closed,
    HandshakeTimeout,
    ProtocolError,
    Unreachable,
    WrongPrivateNetwork,
)
from sidecar.net.config import NetConfig
from sidecar.net.private import PrivateLayer, hsalsa20, xsalsa20
from sidecar.net.transports import Transports

from .harness import LOOPBACK, Host, both_loops, one_loop
from .pieces import pieces
from .test_hostile import JUNK, RawClient

KEY, OTHER = bytes(range(32)), bytes(range(1, 33))
GREETING = b"\x13/multistream/1.0.0\n"


def receive(layer: PrivateLayer, cut: list[bytes]) -> bytes:
    return b"".join(map(layer.feed, cut))


def test_hsalsa20_gives_what_its_paper_says() -> None:
    """Bernstein, Cryptography in NaCl, sections 8 ("firstkey") and 9 ("secondkey")."""
    shared = bytes.fromhex("4a5d9d5ba4ce2de1728e3bf480350f25e07e21c947d19e3376f09b3c1e161742")
    first = hsalsa20(shared, bytes(16))
    assert first.hex() == "1b27556473e985d462cd51197a9a46c76009549eac6474f206c4ee0844f68389"
    second = hsalsa20(first, bytes.fromhex("69696ee955b62b73cd62bda875fc73d6"))
    assert second.hex() == "dc908dda0b9344a953629b733820778880f3ceb421bb61b91cbd4c3e66256ce4"


@pytest.mark.parametrize("size", [1, 31, 64, 1000])
def test_the_stream_is_the_one_of_libsodium(size: int) -> None:
    key, nonce, text = os.urandom(32), os.urandom(24), os.urandom(size)
    cipher = xsalsa20(key, nonce)
    cipher.encrypt(bytes(32))  # a secretbox spends the first 32 bytes of the stream on its authenticator's key
    assert cipher.encrypt(text) == nacl.bindings.crypto_secretbox(text, nonce, key)[16:]


def test_any_pieces_give_the_same_bytes() -> None:
    sender = PrivateLayer(KEY, bytes(24))
    wire = b"".join(sender.output())
    wire += b"".join(bytes(part) for part in sender.seal([GREETING[:5], memoryview(GREETING)[5:], b"hello"]))
    assert len(wire) == 24 + len(GREETING) + 5
    for cut in pieces(wire):
        receiver = PrivateLayer(KEY, bytes(24))
        assert receive(receiver, cut) == GREETING + b"hello"


def test_another_key_shows_in_the_first_bytes_however_they_are_cut() -> None:
    sender = PrivateLayer(OTHER, bytes(24))
    wire = b"".join(sender.output()) + b"".join(bytes(part) for part in sender.seal([GREETING]))
    for cut in pieces(wire):
        receiver = PrivateLayer(KEY, bytes(24))
        with pytest.raises(WrongPrivateNetwork, match="another private network"):
            receive(receiver, cut)


def test_an_end_before_the_key_was_proved_is_explained() -> None:
    layer = PrivateLayer(KEY, bytes(24))
    assert isinstance(layer.explain(Closed("gone")), WrongPrivateNetwork)
    assert isinstance(layer.explain(HandshakeTimeout("slow")), HandshakeTimeout)
    sender = PrivateLayer(KEY, bytes(24))
    layer.feed(b"".join(sender.output()) + b"".join(bytes(part) for part in sender.seal([GREETING])))
    error = Closed("gone")
    assert layer.explain(error) is error


# ---------------------------------------------------------------- nodes


async def pair(first: bytes | None, second: bytes | None, config: NetConfig | None = None) -> tuple[Host, Host]:
    config = config or NetConfig()
    made = Host(1, config, Transports(psk=first)), Host(2, config, Transports(psk=second))
    for host in made:
        host.addresses = await host.runtime.listen([LOOPBACK])
    return made


async def close(*made: Host) -> None:
    await asyncio.gather(*(host.runtime.close(2.0) for host in made))
    for host in made:
        assert host.runtime.statistics().connections == 0
        assert host.runtime.statistics().buffered == 0


@both_loops
async def test_members_talk() -> None:
    left, right = await pair(KEY, KEY)
    try:
        stream = await left.open_stream((await left.connect(right)).connection)
        data = os.urandom(300_000)
        left.do(*left.node.write(stream, data))
        assert await left.received(stream, len(data)) == data
        mine, theirs = left.runtime.connections()[0], right.runtime.connections()[0]
        assert mine.remote == theirs.local
    finally:
        await close(left, right)
    assert left.runtime.statistics().closed_by == {"order": 1}
    sent, got = left.runtime.statistics().bytes_out, right.runtime.statistics().bytes_in
    assert got <= sent  # the last goodbye may go unread
    assert got > 300_000


@both_loops
async def test_members_of_another_network_are_refused_when_dialled() -> None:
    left, right = await pair(KEY, OTHER)
    try:
        error = await left.dial_failed(left.dial(right.addresses, right.peer))
        assert isinstance(error, WrongPrivateNetwork)
        assert "another private network" in str(error)
        assert left.runtime.statistics().handshakes == {"WrongPrivateNetwork": 1}
    finally:
        await close(left, right)


@pytest.mark.parametrize("theirs", [OTHER, None])
@both_loops
async def test_others_are_refused_when_they_dial(theirs: bytes | None, caplog: pytest.LogCaptureFixture) -> None:
    left, right = await pair(KEY, theirs)
    try:
        error = await right.dial_failed(right.dial(left.addresses, left.peer))
        assert isinstance(error, ProtocolError | Closed)  # as our nonce looks to it
        assert left.runtime.statistics().handshakes == {"WrongPrivateNetwork": 1}
        stranger = Host(3, NetConfig(), Transports(psk=KEY))
        assert (await stranger.connect(left)).peer == left.peer
        await close(stranger)
    finally:
        await close(left, right)
    assert ("another private network" if theirs else "without a key") in caplog.text


@one_loop
async def test_a_public_node_is_refused_when_dialled() -> None:
    left, right = await pair(KEY, None, NetConfig(attempt_timeout=0.5))
    try:
        error = await left.dial_failed(left.dial(right.addresses, right.peer))
        # Our nonce may look to it like the beginning of a long message, of which it then awaits the rest.
        assert isinstance(error, WrongPrivateNetwork | Unreachable)
        assert not left.runtime.connections()
    finally:
        await close(left, right)


def test_a_public_node_is_recognised_by_its_greeting() -> None:
    for cut in pieces(GREETING):
        layer = PrivateLayer(KEY, bytes(24))
        with pytest.raises(WrongPrivateNetwork, match="without a key"):
            receive(layer, cut)


@one_loop
async def test_garbage_and_silence_are_bounded() -> None:
    config = NetConfig()
    left = Host(1, config, Transports(psk=KEY))
    left.addresses = await left.runtime.listen([LOOPBACK])
    try:
        for junk in (JUNK, b"GET / HTTP/1.1\r\nHost: x\r\nUser-Agent: y\r\n\r\n", b"short"):
            client = await RawClient.connect(left)
            client.writer.write(junk)
            client.writer.write_eof()
            await client.until_closed()
        assert left.runtime.statistics().handshakes == {"WrongPrivateNetwork": 3}
    finally:
        await close(left)


@one_loop
async def test_a_stalled_nonce_is_dropped_in_time() -> None:
    left = Host(1, NetConfig(channel=ChannelLimits(handshake_timeout=0.3)), Transports(psk=KEY))
    left.addresses = await left.runtime.listen([LOOPBACK])
    try:
        client = await RawClient.connect(left)
        client.writer.write(b"half a nonce")
        await client.until_closed()
        assert left.runtime.statistics().handshakes == {"HandshakeTimeout": 1}
    finally:
        await close(left)
