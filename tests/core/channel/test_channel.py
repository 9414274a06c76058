"""Two whole channels against each other, and one against the worst that can arrive."""

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sidecar.core.channel import (
    ChannelLimits,
    Failed,
    PingAnswered,
    Ready,
    Secured,
    StreamBroken,
    StreamHalfClosed,
    StreamNegotiated,
    StreamReceived,
    StreamResetByRemote,
    secure,
    upgrade,
)
from sidecar.core.channel.frames import FIN, RST, SYN
from sidecar.core.channel.messages import HandshakePayload, decode_payload, encode_payload
from sidecar.core.errors import (
    Closed,
    DeadlineExceeded,
    FrameTooLarge,
    HandshakeError,
    HandshakeTimeout,
    InvalidArgument,
    KeepAliveTimeout,
    NotSupported,
    ProtocolError,
    SidecarError,
    SimultaneousOpen,
    WrongPeer,
)
from sidecar.core.errors import StreamReset as ResetError
from sidecar.core.identity import Identity

from .bare import Bare, data, opening, proposal, window
from .chunking import every_way, feed, shape
from .pair import End, Pair

# ---------------------------------------------------------------- the handshake


def test_two_channels_agree_within_the_handshake() -> None:
    pair = Pair()
    for end, other in ((pair.dialer, pair.listener), (pair.listener, pair.dialer)):
        assert end.events == [
            Secured(other.identity.peer_id, other.identity.public_key),
            Ready("/yamux/1.0.0", early=True),
        ]
        assert end.channel.peer_id == other.identity.peer_id
        assert not end.channel.has_output


def test_a_connection_is_ready_after_two_writes_of_the_dialer() -> None:
    pair = Pair(run=False)
    assert pair.carry(pair.dialer, pair.listener)
    assert pair.carry(pair.listener, pair.dialer)
    assert pair.dialer.of(Ready)
    stream = pair.dialer.channel.open_stream(["/test/1"], 0.0)
    pair.dialer.send(stream, b"at once")
    assert pair.carry(pair.dialer, pair.listener)
    assert pair.listener.received(stream) == b"at once"


def test_the_muxer_is_negotiated_where_the_handshake_does_not_settle_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """As with a remote that knows no early muxer negotiation: it names no muxers."""
    pair = Pair(run=False)
    for end in (pair.dialer, pair.listener):
        monkeypatch.setattr(end.channel._upgrade._handshake, "_ours", ())  # type: ignore[union-attr]
    pair.run()
    assert pair.dialer.of(Ready) == pair.listener.of(Ready) == [Ready("/yamux/1.0.0", early=False)]
    stream = pair.open()
    pair.dialer.send(stream, b"hello")
    pair.run()
    assert pair.listener.received(stream) == b"hello"


def test_muxers_without_overlap_end_the_handshake(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(upgrade, "MUXERS", ("/mplex/6.7.0",))
    pair = Pair(run=False)
    pair.run()
    assert isinstance(pair.dialer.failure, NotSupported)
    assert "/mplex/6.7.0" in str(pair.dialer.failure)


def test_another_peer_than_the_one_dialled_is_refused_with_both_names() -> None:
    expected, actual = Identity(b"e" * 32).peer_id, Identity(bytes([2] * 32)).peer_id
    pair = Pair(End(1, dialer=True, expected=expected))
    assert isinstance(pair.dialer.failure, WrongPeer)
    assert str(expected) in str(pair.dialer.failure)
    assert str(actual) in str(pair.dialer.failure)
    assert pair.dialer.channel.finished
    assert not pair.dialer.of(Secured)


@pytest.mark.parametrize(
    "payload",
    [
        b"\xff\xff",
        b"",
        encode_payload(HandshakePayload(b"\x08\x01\x12\x20" + bytes(32), bytes(64), ())),
        encode_payload(HandshakePayload(Identity(bytes(32)).public_key.to_bytes(), bytes(64), ())),
    ],
)
def test_a_peer_that_does_not_prove_its_identity_is_refused(payload: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    pair = Pair(run=False)
    monkeypatch.setattr(secure, "encode_payload", lambda _: payload)
    pair.run()
    assert isinstance(pair.dialer.failure, HandshakeError)
    assert not pair.dialer.of(Secured)


def test_the_payload_of_the_handshake() -> None:
    payload = HandshakePayload(b"key", b"signature", ("/yamux/1.0.0", "/mplex/6.7.0"))
    assert decode_payload(encode_payload(payload)) == payload


@pytest.mark.parametrize(
    ("bytes_in", "error"),
    [
        (b"GET / HTTP/1.1\r\n\r\n" * 8, HandshakeError),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(500), HandshakeError),
        (proposal("/tls/1.0.0", *["/other"] * 40), HandshakeError),
        (proposal("/noise") + b"\xff\xff", FrameTooLarge),
        (proposal("/noise") + b"\x00\x05hello", HandshakeError),
        (proposal("/noise") + b"\x00\x20" + bytes(32), HandshakeError),
    ],
)
def test_garbage_instead_of_a_handshake(bytes_in: bytes, error: type[SidecarError]) -> None:
    end = End(2, dialer=False)
    end.take(end.channel.receive_data(bytes_in, 0.0))
    assert isinstance(end.failure, error)
    end.channel.data_to_send(65536)
    assert end.channel.finished
    assert end.channel.next_deadline() is None


def test_two_dialers_find_out_that_nobody_answers() -> None:
    pair = Pair(End(1, dialer=True), End(2, dialer=True))
    for end in (pair.dialer, pair.listener):
        assert type(end.failure) is SimultaneousOpen
        assert end.channel.finished


def test_a_listener_without_noise_is_not_supported() -> None:
    end = End(1, dialer=True)
    end.take(end.channel.receive_data(b"\x13/multistream/1.0.0\n\x03na\n", 0.0))
    assert isinstance(end.failure, NotSupported)


def test_a_silent_or_trickling_peer_is_timed_out() -> None:
    end = End(2, dialer=False, now=100.0)
    assert end.channel.next_deadline() == 110.0
    end.take(end.channel.receive_data(b"\x13/multi", 109.0))
    assert end.channel.handle_deadline(109.9) == []
    end.take(end.channel.handle_deadline(110.0))
    assert isinstance(end.failure, HandshakeTimeout)
    assert end.channel.finished
    assert end.channel.handle_deadline(200.0) == []


@pytest.mark.parametrize(
    "wrong", [{"max_streams": 0}, {"receive_window": 1000}, {"max_buffered": 300_000}, {"keep_alive_timeout": -1.0}]
)
def test_limits_that_make_no_sense_are_misuse(wrong: dict[str, int]) -> None:
    with pytest.raises(InvalidArgument, match=next(iter(wrong))):
        ChannelLimits(**wrong)


# ---------------------------------------------------------------- streams


def test_a_stream_carries_bytes_both_ways_and_ends() -> None:
    pair = Pair()
    stream = pair.open("/test/1")
    pair.dialer.send(stream, b"question", b" and more")
    pair.dialer.channel.close_write(stream)
    pair.run()
    assert StreamNegotiated(stream, "/test/1", inbound=False) in pair.dialer.events
    assert pair.listener.of(StreamNegotiated) == [StreamNegotiated(stream, "/test/1", inbound=True)]
    assert pair.listener.received(stream) == b"question and more"
    assert pair.listener.events[-1] == StreamHalfClosed(stream)
    pair.listener.send(stream, b"answer")
    pair.listener.channel.close_write(stream)
    pair.run()
    assert pair.dialer.received(stream) == b"answer"
    assert pair.dialer.events[-1] == StreamHalfClosed(stream)
    assert pair.dialer.channel.stream_count == pair.listener.channel.stream_count == 0


def test_a_request_travels_with_the_proposal() -> None:
    pair = Pair()
    stream = pair.dialer.channel.open_stream(["/test/1"], 0.0)
    pair.dialer.send(stream, b"request")
    pair.carry(pair.dialer, pair.listener)
    opened = [StreamNegotiated(stream, "/test/1", inbound=True), StreamReceived(stream, b"request")]
    assert pair.listener.events[2:] == opened
    bare = Bare(End(2, dialer=False))  # others may send the end with it, too
    bare.send(data(stream, proposal("/test/1") + b"request", SYN | FIN))
    assert bare.end.events[2:] == [*opened, StreamHalfClosed(stream)]


def test_with_a_choice_of_protocols_nothing_is_pulled_before_one_is_agreed_on() -> None:
    pair = Pair(listener=End(2, dialer=False, accepts=lambda protocol: protocol == "/test/1"))
    stream = pair.dialer.channel.open_stream(["/test/2", "/test/1"], 0.0)
    pair.dialer.send(stream, b"hello")
    pair.carry(pair.dialer, pair.listener)
    assert len(pair.dialer.outgoing[stream]) == 5
    pair.run()
    assert pair.dialer.of(StreamNegotiated) == [StreamNegotiated(stream, "/test/1", inbound=False)]
    assert pair.listener.received(stream) == b"hello"


@pytest.mark.parametrize("protocols", [["/none/1"], ["/none/1", "/none/2"]])
def test_a_stream_that_the_remote_does_not_serve_fails(protocols: list[str]) -> None:
    pair = Pair()
    stream = pair.dialer.channel.open_stream(protocols, 0.0)
    pair.dialer.send(stream, b"in vain")
    pair.run()
    (failed,) = pair.dialer.of(StreamBroken)
    assert isinstance(failed.error, NotSupported)
    assert protocols[-1] in str(failed.error)
    assert pair.listener.events[2:] == []
    assert pair.dialer.channel.stream_count == pair.listener.channel.stream_count == 0
    assert pair.dialer.failure is pair.listener.failure is None


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (window(2, 0, RST), ResetError),
        (data(2, b"", FIN), HandshakeError),
        (data(2, b"\xff" * 20), HandshakeError),
        (data(2, proposal("/other")), HandshakeError),
    ],
)
def test_a_stream_negotiated_badly_fails_alone(answer: bytes, error: type[SidecarError]) -> None:
    bare = Bare(End(2, dialer=False))
    stream = bare.end.channel.open_stream(["/test/1"], 0.0)
    bare.send(answer + data(stream, b"and more"))
    (failed,) = bare.end.of(StreamBroken)
    assert isinstance(failed.error, error)
    assert bare.end.channel.stream_count == 0
    assert bare.end.failure is None


def test_negotiation_has_a_deadline_in_both_directions() -> None:
    bare = Bare(End(2, dialer=False))
    bare.now = 1.0
    bare.send(window(1, 0, SYN))
    stream = bare.end.channel.open_stream(["/test/1"], 2.0)
    channel = bare.end.channel
    assert channel.next_deadline() == 11.0
    bare.end.take(channel.handle_deadline(11.0))
    assert channel.stream_count == 1
    assert not bare.end.of(StreamBroken)
    assert channel.next_deadline() == 12.0
    bare.end.take(channel.handle_deadline(12.0))
    (failed,) = bare.end.of(StreamBroken)
    assert failed.stream == stream
    assert isinstance(failed.error, DeadlineExceeded)
    assert channel.stream_count == 0
    assert channel.next_deadline() == 30.0


def test_a_stream_given_up_in_negotiation_is_not_heard_of_again() -> None:
    pair = Pair()
    stream = pair.dialer.channel.open_stream(["/test/1"], 0.0)
    pair.carry(pair.dialer, pair.listener)
    pair.dialer.channel.reset(stream)
    pair.run()
    assert pair.dialer.events[2:] == []
    assert pair.listener.events[-1] == StreamResetByRemote(stream)
    with pytest.raises(InvalidArgument):
        pair.dialer.channel.open_stream([], 0.0)


def test_bulk_passes_windows_both_ways_while_small_messages_pass_between() -> None:
    pair = Pair()
    streams = [pair.open(), pair.open(), pair.open()]
    rng = random.Random(1)
    contents = {stream: rng.randbytes(size) for stream, size in zip(streams, (3_000_000, 2_500_000, 1000), strict=True)}
    for stream, content in contents.items():
        for start in range(0, len(content), 50_000):
            pair.dialer.send(stream, content[start : start + 50_000])
            pair.listener.send(stream, content[start : start + 50_000])
    pair.carry(pair.dialer, pair.listener)
    assert pair.listener.received(streams[2]) == contents[streams[2]]  # in the first write, beside the others' bulk
    pair.run()
    for stream, content in contents.items():
        assert pair.dialer.received(stream) == pair.listener.received(stream) == content
    assert pair.dialer.channel.buffered_bytes == pair.listener.channel.buffered_bytes == 0


def test_an_app_that_does_not_consume_stops_its_sender_and_nobody_else() -> None:
    pair = Pair()
    stalled, flowing = pair.open(), pair.open()
    pair.listener.acknowledging = False
    pair.dialer.send(stalled, bytes(3_000_000))
    pair.run()
    window = 1024 * 1024 - len(proposal("/test/1"))
    assert len(pair.listener.received(stalled)) == window == pair.listener.channel.buffered_bytes
    assert not pair.dialer.channel.has_output
    pair.dialer.send(flowing, b"passes")
    pair.run()
    assert pair.listener.received(flowing) == b"passes"
    pair.listener.channel.acknowledge(stalled, window)
    pair.run()
    assert len(pair.listener.received(stalled)) == window + 1024 * 1024


def test_a_write_keeps_to_its_limit_and_takes_nothing_that_it_does_not_send() -> None:
    pair = Pair()
    stream = pair.open()
    pair.dialer.send(stream, bytes(500_000))
    written = pair.dialer.channel.data_to_send(100_000)
    assert 90_000 < sum(map(len, written)) <= 105_000
    assert len(pair.dialer.outgoing[stream]) > 395_000
    assert sum(map(len, pair.dialer.channel.data_to_send(10))) < 5000


# ---------------------------------------------------------------- keep-alive and the end


def test_a_peer_that_fell_silent_is_asked_and_then_given_up() -> None:
    pair = Pair()
    channel = pair.dialer.channel
    assert channel.next_deadline() == 30.0
    assert channel.handle_deadline(30.0) == []
    assert channel.has_output
    assert channel.next_deadline() == 40.0
    pair.now = 31.0
    pair.run()
    assert channel.next_deadline() == 61.0  # its answer is life
    assert channel.handle_deadline(61.0) == []
    pair.dialer.take(channel.handle_deadline(71.0))
    assert isinstance(pair.dialer.failure, KeepAliveTimeout)


def test_anything_received_counts_as_life_and_costs_no_ping() -> None:
    pair = Pair()
    stream = pair.open()
    pair.now = 25.0
    pair.listener.send(stream, b"x")
    pair.run()
    channel = pair.dialer.channel
    assert channel.handle_deadline(30.0) == []
    assert not channel.has_output
    assert channel.next_deadline() == 55.0


def test_a_measurement_tells_how_long_the_remotes_answer_took() -> None:
    pair = Pair()
    channel = pair.dialer.channel
    channel.measure(0xDEADBEEF, 5.0)
    pair.now = 5.25
    pair.run()
    assert pair.dialer.of(PingAnswered) == [PingAnswered(0.25)]
    assert not pair.listener.of(PingAnswered)
    channel.handle_deadline(channel.next_deadline() or 0.0)  # what keeps the connection alive measures nothing
    pair.run()
    assert len(pair.dialer.of(PingAnswered)) == 1


def test_nothing_is_measured_before_a_connection_is_ready_nor_after_its_end() -> None:
    pair = Pair(run=False)
    pair.dialer.channel.measure(1, 0.0)
    pair.run()
    pair.dialer.channel.close(0.0)
    pair.dialer.channel.measure(2, 0.0)
    pair.run()
    assert not pair.dialer.of(PingAnswered)


def test_closing_says_goodbye_and_the_remote_sees_an_end_in_order() -> None:
    pair = Pair()
    stream = pair.open()
    pair.dialer.send(stream, b"never pulled")
    channel = pair.dialer.channel
    channel.close(0.0)
    assert not channel.finished
    assert channel.next_deadline() is None
    with pytest.raises(Closed):
        channel.open_stream(["/test/1"], 0.0)
    pair.carry(pair.dialer, pair.listener)
    assert channel.finished
    assert channel.receive_data(b"anything", 0.0) == channel.receive_eof(0.0) == []
    assert pair.listener.received(stream) == b""
    pair.listener.take(pair.listener.channel.receive_eof(0.0))
    assert isinstance(pair.listener.failure, Closed)
    assert pair.listener.channel.finished


def test_the_transport_may_end_anywhere() -> None:
    fresh = End(2, dialer=False)
    fresh.take(fresh.channel.receive_eof(0.0))
    assert isinstance(fresh.failure, HandshakeError)
    for cut in (1, 20, 45):
        bare = Bare(End(2, dialer=False))
        wire = bare.wrap(opening(1) + data(1, b"whole"))
        bare.end.take(bare.end.channel.receive_data(wire[:cut], 0.0))
        bare.end.take(bare.end.channel.receive_eof(0.0))
        assert isinstance(bare.end.failure, ProtocolError)
    bare = Bare(End(2, dialer=False))
    bare.send((opening(1) + data(1, b"cut short"))[:-1])
    bare.end.take(bare.end.channel.receive_eof(0.0))
    assert isinstance(bare.end.failure, ProtocolError)
    assert bare.end.channel.finished


@pytest.mark.parametrize("wire", [b"garbage" * 20, b"\x00\x20" + bytes(32)])
def test_errors_hold_no_bytes_alive(wire: bytes) -> None:
    end = End(2, dialer=False) if wire.startswith(b"g") else Bare(End(2, dialer=False)).end
    received = bytearray(wire)
    end.take(end.channel.receive_data(memoryview(received), 0.0))
    assert isinstance(end.failure, ProtocolError)
    received.clear()  # BufferError when anything still holds it


# ---------------------------------------------------------------- any bytes, cut anyhow


def _transcript() -> bytes:
    """All that a dialer writes in a short life: handshake, streams of every kind, the end."""
    pair = Pair(run=False)
    written: list[bytes] = []

    def turn() -> None:
        while True:
            data = b"".join(pair.dialer.channel.data_to_send(1 << 18))
            written.append(data)
            pair.listener.take(pair.listener.channel.receive_data(data, 0.0))
            if not pair.carry(pair.listener, pair.dialer) and not data:
                break

    turn()
    for number in range(4):
        stream = pair.dialer.channel.open_stream([(f"/test/{number}", "/none")[number % 2], "/test/9"], 0.0)
        pair.dialer.send(stream, b"first %d" % number)
        turn()
        pair.dialer.send(stream, bytes(300 * number))
        if number == 2:
            pair.dialer.channel.reset(stream)
        pair.dialer.channel.close_write(stream)
        turn()
    pair.dialer.channel.close(0.0)
    turn()
    return b"".join(written)


TRANSCRIPT = _transcript()


def _replay(data: bytes, cuts: list[int]) -> list[object]:
    end = End(2, dialer=False)

    def receive(piece: bytes) -> list[object]:
        events = end.channel.receive_data(piece, 0.0)
        end.take(events)
        end.channel.data_to_send(1 << 18)
        return events

    return shape(feed(receive, data, cuts))


def test_every_chunking_gives_the_same_events() -> None:
    expected = _replay(TRANSCRIPT, [])
    assert len(expected) > 10
    for trailing in (b"", b"\x00\x10trailing garbage"):
        whole = _replay(TRANSCRIPT + trailing, [])
        assert whole[: len(expected)] == expected
        assert (whole[-1][0] is Failed) is bool(trailing)  # type: ignore[index]
        for cuts in every_way(TRANSCRIPT + trailing)[1:]:
            assert _replay(TRANSCRIPT + trailing, cuts) == whole


@given(
    st.integers(0, len(TRANSCRIPT) - 1),
    st.sampled_from(["flip", "delete", "insert", "repeat", "swap"]),
    st.lists(st.integers(0, len(TRANSCRIPT)), max_size=8),
)
@settings(max_examples=100, deadline=None)
def test_a_changed_transcript_gives_documented_events_however_it_is_cut(
    position: int, change: str, cuts: list[int]
) -> None:
    before, after = TRANSCRIPT[:position], TRANSCRIPT[position:]
    changed = {
        "flip": before + bytes([after[0] ^ 0x41]) + after[1:],
        "delete": before + after[1:],
        "insert": before + b"\x7f" + after,
        "repeat": before + after[:40] + after,
        "swap": before + after[20:40] + after[:20] + after[40:],
    }[change]
    whole = _replay(changed, [])
    assert [kind for kind, *_ in whole].count(Failed) <= 1  # type: ignore[misc]
    assert Failed not in [kind for kind, *_ in whole[:-1]]  # type: ignore[misc]
    assert _replay(changed, [cut for cut in cuts if cut <= len(changed)]) == whole


@given(st.binary(max_size=300), st.booleans(), st.booleans())
@settings(max_examples=100, deadline=None)
def test_random_bytes_get_a_typed_end_or_are_waited_for(data: bytes, dialer: bool, greeted: bool) -> None:
    end = End(1, dialer=dialer)
    end.take(end.channel.receive_data((proposal("/noise") if greeted else b"") + data, 0.0))
    assert end.failure is None or isinstance(end.failure, HandshakeError | FrameTooLarge | NotSupported)
    end.take(end.channel.handle_deadline(10.0))
    assert isinstance(end.failure, SidecarError)
