"""What a remote may and may not do with streams, and what it gets."""

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sidecar.core.channel import (
    ChannelLimits,
    Failed,
    PingAnswered,
    StreamBroken,
    StreamHalfClosed,
    StreamNegotiated,
    StreamReceived,
    StreamResetByRemote,
    frames,
)
from sidecar.core.channel.frames import ACK, DATA, FIN, GO_AWAY, PING, RST, SYN, WINDOW_UPDATE, SeenStreams, pack
from sidecar.core.channel.outbox import YamuxOutbox, YamuxStream
from sidecar.core.errors import Closed, InvalidArgument, ProtocolError, Refused, ResourceExhausted, SidecarError
from sidecar.core.parameters.channel import INITIAL_WINDOW

from .bare import Bare, data, opening, parse, proposal, window
from .pair import End


def _bare(**limits: float) -> Bare:
    return Bare(End(2, dialer=False, limits=ChannelLimits(**limits)))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "plaintext",
    [
        b"\x01" + bytes(11),  # version
        pack(4, 0, 0, 0),  # type
        pack(PING, SYN, 1, 0),
        pack(GO_AWAY, 0, 1, 0),
        data(0, b"x"),
        window(0, 1),
        data(0, b"", SYN),
        window(2, 0, SYN),  # ours to use
        opening(1) + window(1, 0, SYN),  # exists
        opening(1) + window(1, 0, RST) + window(1, 0, SYN),  # existed
        data(1, b"x"),  # never opened
        data(2, b"x"),  # never opened by us
        window(4, 0, RST),
        opening(1) + window(1, 2**32 - 1),
        opening(1) + pack(DATA, 0, 1, INITIAL_WINDOW * 4 + 1),
        window(1001, 0, SYN) + window(1001, 0, RST) + pack(DATA, 0, 1001, 2**24),  # more than can be on its way
    ],
)
def test_violations_end_the_connection_with_a_goodbye(plaintext: bytes) -> None:
    bare = _bare()
    bare.send(plaintext)
    assert isinstance(bare.end.failure, ProtocolError)
    assert parse(bare.answers())[-1] == (GO_AWAY, 0, 0, frames.PROTOCOL_ERROR)
    assert bare.end.channel.finished
    bare.send(opening(3))
    assert isinstance(bare.end.events[-1], Failed)


def test_events_before_a_violation_are_told() -> None:
    bare = _bare()
    bare.send(opening(1) + data(1, b"before") + b"\xff" * 12)
    assert [type(event) for event in bare.end.events[2:]] == [StreamNegotiated, StreamReceived, Failed]


@pytest.mark.parametrize(("code", "error"), [(0, None), (1, Refused), (2, Refused), (77, Refused)])
def test_go_away(code: int, error: type[SidecarError] | None) -> None:
    bare = _bare()
    bare.send(pack(GO_AWAY, 0, 0, code))
    if error is None:
        with pytest.raises(Closed):
            bare.end.channel.open_stream(["/test/1"], 0.0)
        bare.send(opening(1) + data(1, b"streams that live go on"))
        assert bare.end.received(1)
    else:
        assert isinstance(bare.end.failure, error)


def test_windows_open_above_the_initial_one_and_again_as_bytes_are_acknowledged() -> None:
    bare = _bare()
    bare.end.acknowledging = False
    bare.send(opening(1))
    growth = 1024 * 1024 - INITIAL_WINDOW
    assert parse(bare.answers())[0] == (WINDOW_UPDATE, ACK, 1, growth)
    negotiation = len(proposal("/test/1"))
    bare.send(data(1, bytes(600_000)))
    bare.send(data(1, bytes(1024 * 1024 - 600_000 - negotiation)))  # every byte that was granted
    assert bare.end.channel.buffered_bytes == 1024 * 1024 - negotiation
    acknowledge = bare.end.channel.acknowledge
    acknowledge(1, 500_000)
    assert bare.answers() == b""  # batched until half a window is consumed
    acknowledge(1, 100_000)
    assert parse(bare.answers()) == [(WINDOW_UPDATE, 0, 1, 600_000 + negotiation)]
    with pytest.raises(InvalidArgument, match="acknowledged"):
        acknowledge(1, 1024 * 1024)
    bare.send(pack(DATA, 0, 1, 600_000 + negotiation + 1))
    assert isinstance(bare.end.failure, ProtocolError)


def test_a_connection_has_a_bound_on_windows_and_on_what_waits() -> None:
    bare = _bare(receive_window=INITIAL_WINDOW * 2, max_buffered=INITIAL_WINDOW * 2)
    bare.end.acknowledging = False
    bare.send(opening(1) + opening(3) + opening(5))
    assert [frame[3] for frame in parse(bare.answers()) if frame[0] == WINDOW_UPDATE] == [
        INITIAL_WINDOW,
        INITIAL_WINDOW,
        0,
    ]
    bare.send(data(1, bytes(INITIAL_WINDOW)) + data(5, bytes(INITIAL_WINDOW - 1000)))
    bare.send(data(3, bytes(1001)))
    (failed,) = bare.end.of(StreamBroken)
    assert failed.stream == 3
    assert isinstance(failed.error, ResourceExhausted)
    assert (WINDOW_UPDATE, RST, 3, 0) in parse(bare.answers())
    bare.send(data(3, b"in flight, passed over"))
    bare.end.channel.acknowledge(1, INITIAL_WINDOW)
    bare.end.channel.acknowledge(5, INITIAL_WINDOW - 1000)
    assert bare.end.channel.buffered_bytes == 0
    assert bare.end.failure is None


def test_a_deferred_stream_opens_its_window_only_when_its_reader_says_so() -> None:
    bare = _bare()
    channel = bare.end.channel
    bare.end.acknowledging = False
    bare.send(opening(1) + opening(3))
    bare.answers()
    bare.send(data(1, bytes(600_000)))
    channel.defer(1)
    channel.delivered(1, 600_000)
    assert bare.answers() == b""
    assert channel.buffered_bytes == 600_000
    channel.acknowledge(1, 600_000)
    assert parse(bare.answers()) == [(WINDOW_UPDATE, 0, 1, 600_000 + len(proposal("/test/1")))]
    bare.send(data(3, bytes(600_000)))
    channel.delivered(3, 600_000)  # not deferred: consumed as it is handed on
    assert parse(bare.answers())[0][2] == 3
    for gone in (5, 7):
        channel.defer(gone)
        channel.delivered(gone, 1)
    assert channel.buffered_bytes == 0


def test_deferred_streams_have_the_bound_for_themselves() -> None:
    bare = _bare(receive_window=INITIAL_WINDOW, max_buffered=2 * INITIAL_WINDOW)
    bare.end.acknowledging = False
    bare.send(b"".join(map(opening, (1, 3, 5, 7))))
    for slow in (1, 3, 5):
        bare.end.channel.defer(slow)
    size = INITIAL_WINDOW - len(proposal("/test/1"))
    for slow in (1, 3):
        bare.send(data(slow, bytes(size)))
    bare.send(data(7, bytes(size)))  # somebody else's, and quick
    bare.end.channel.delivered(7, size)
    assert bare.end.of(StreamBroken) == []
    bare.send(data(5, bytes(size)))
    (failed,) = bare.end.of(StreamBroken)
    assert failed.stream == 5
    assert isinstance(failed.error, ResourceExhausted)
    assert bare.end.channel.buffered_bytes == 2 * size
    bare.end.channel.reset(1)
    bare.end.channel.acknowledge(3, size)
    assert bare.end.channel.buffered_bytes == 0


def test_a_stream_keeps_its_place_until_its_bytes_are_consumed() -> None:
    bare = _bare(max_streams=1)
    bare.end.acknowledging = False
    bare.send(opening(1) + data(1, b"12345", FIN))
    bare.end.channel.close_write(1)
    assert parse(bare.answers())[-1] == (DATA, FIN, 1, b"")
    assert bare.end.channel.stream_count == 1
    bare.send(opening(3))
    assert parse(bare.answers()) == [(WINDOW_UPDATE, RST, 3, 0)]
    bare.end.channel.acknowledge(1, 5)
    assert bare.end.channel.stream_count == 0
    bare.send(opening(5))
    assert bare.end.of(StreamNegotiated)[-1].stream == 5
    bare.send(data(5, b"", FIN))
    bare.end.channel.close_write(5)
    bare.end.channel.acknowledge(5, 0)
    bare.answers()
    assert bare.end.channel.stream_count == 0


def test_half_closing_and_resetting() -> None:
    bare = _bare()
    bare.send(opening(1) + window(1, 0, FIN) + data(1, b"", FIN))
    assert bare.end.events[-1] == StreamHalfClosed(1)
    bare.end.send(1, b"still here")
    assert parse(bare.answers())[-1] == (DATA, 0, 1, b"still here")
    bare.send(data(1, b"behind its end"))
    (failed,) = bare.end.of(StreamBroken)
    assert isinstance(failed.error, ProtocolError)
    bare.answers()
    bare.send(opening(3) + data(3, b"last words", RST))
    assert bare.end.events[-2:] == [StreamReceived(3, b"last words"), StreamResetByRemote(3)]
    bare.end.channel.wake(3)
    bare.end.channel.close_write(3)
    bare.end.channel.reset(3)
    bare.end.channel.acknowledge(3, 1000)
    bare.send(data(3, b"in flight"))
    bare.send(opening(5))
    bare.end.channel.reset(5)
    bare.send(data(5, b"in flight") + window(5, 9) + window(5, 0, RST))
    assert bare.end.failure is None
    assert parse(bare.answers())[-1] == (WINDOW_UPDATE, RST, 5, 0)
    assert bare.end.channel.buffered_bytes == bare.end.channel.stream_count == 0


def test_nothing_is_pulled_without_a_window_and_the_end_waits_for_it() -> None:
    bare = _bare()
    bare.send(opening(1))
    bare.answers()
    bare.end.send(1, bytes(INITIAL_WINDOW))
    bare.end.channel.close_write(1)
    sent = sum(len(frame[3]) for frame in parse(bare.answers()) if isinstance(frame[3], bytes))
    negotiation = len(proposal("/test/1"))
    assert sent == INITIAL_WINDOW - negotiation
    bare.send(window(1, negotiation - 1))
    assert len(parse(bare.answers())) == 1
    bare.send(window(1, 2))
    assert parse(bare.answers()) == [(DATA, 0, 1, b"\0"), (DATA, FIN, 1, b"")]


def test_pings_are_answered_and_their_flood_is_bounded() -> None:
    bare = _bare(max_control=2400)
    bare.send(pack(PING, SYN, 0, 0xDEADBEEF) + pack(PING, ACK, 0, 1))
    assert parse(bare.answers()) == [(PING, ACK, 0, 0xDEADBEEF)]
    for _ in range(20):
        bare.send(pack(PING, SYN, 0, 1) * 10)
    assert bare.end.failure is None
    bare.send(pack(PING, SYN, 0, 1))
    assert isinstance(bare.end.failure, ProtocolError)
    assert len(parse(bare.answers())) == 202


def test_the_last_measurement_counts_and_its_answer_once() -> None:
    bare = _bare()
    channel = bare.end.channel
    channel.measure(1, 1.0)
    channel.measure(2, 2.0)
    assert parse(bare.answers()) == [(PING, SYN, 0, 1), (PING, SYN, 0, 2)]
    for value in (3, 1, 2, 2):
        bare.send(pack(PING, ACK, 0, value))
    assert len(bare.end.of(PingAnswered)) == 1


def test_floods_of_streams_are_bounded() -> None:
    bare = _bare(max_streams=8, max_inbound_negotiating=4)
    bare.send(b"".join(window(number, 0, SYN) for number in range(1, 41, 2)))
    assert bare.end.channel.stream_count == 4
    resets = [frame[2] for frame in parse(bare.answers()) if frame[1] == RST]
    assert sorted(resets) == list(range(9, 41, 2))
    for number in range(41, 1041, 2):
        bare.send(opening(number) + window(number, 0, RST))
    assert bare.end.channel.stream_count == 4
    assert len(bare.answers()) < 500 * 50
    assert bare.end.failure is None


def test_a_peer_whose_streams_come_to_nothing_loses_the_connection() -> None:
    bare = _bare(max_failed_negotiations=50)
    for number in range(1, 101, 2):
        bare.send(window(number, 0, SYN) + window(number, 0, RST))
    assert bare.end.failure is None
    bare.now = 11.0  # what was long ago is forgiven
    for number in range(101, 201, 2):
        bare.send(data(number, b"\x00", SYN))
    assert bare.end.failure is None
    bare.send(window(201, 0, SYN | RST))
    assert isinstance(bare.end.failure, ProtocolError)


def test_a_peer_that_floods_and_never_reads_loses_the_connection() -> None:
    bare = _bare(max_control=10_000)
    number = 1
    while bare.end.failure is None and number < 10_000:
        bare.send(opening(number, "/none") + window(number, 0, RST))
        number += 2
    assert isinstance(bare.end.failure, ProtocolError)
    assert number < 2000


@pytest.mark.parametrize("size", [1, 5, 12, 13, 100])
def test_frames_may_be_spread_over_encrypted_messages(size: int) -> None:
    plaintext = opening(1) + data(1, b"a" * 50) + data(1) + opening(3) + data(3, b"b" * 20) + data(1, b"c", FIN)
    bare = _bare()
    for start in range(0, len(plaintext), size):
        bare.send(plaintext[start : start + size])
    assert bare.end.received(1) == b"a" * 50 + b"c"
    assert bare.end.received(3) == b"b" * 20
    assert bare.end.events[-1] == StreamHalfClosed(1)


def test_small_messages_of_one_read_are_joined_for_the_app() -> None:
    bare = _bare()
    bare.send(opening(1) + opening(3))
    before = len(bare.end.events)
    wire = b"".join(bare.wrap(data(1, b"%04d" % number)) for number in range(1000)) + bare.wrap(data(3, b"x"))
    bare.end.take(bare.end.channel.receive_data(wire, 0.0))
    assert bare.end.events[before:] == [
        StreamReceived(1, b"".join(b"%04d" % number for number in range(1000))),
        StreamReceived(3, b"x"),
    ]


def test_our_streams_are_bounded_until_the_remote_answers() -> None:
    bare = _bare(max_unacknowledged=2, max_streams=3)
    channel = bare.end.channel
    assert [channel.open_stream(["/test/1"], 0.0) for _ in range(2)] == [2, 4]
    with pytest.raises(ResourceExhausted, match="not answered"):
        channel.open_stream(["/test/1"], 0.0)
    bare.send(window(2, 0, ACK))
    assert channel.open_stream(["/test/1"], 0.0) == 6
    with pytest.raises(ResourceExhausted, match="at most 3"):
        channel.open_stream(["/test/1"], 0.0)
    channel.reset(4)
    assert channel.open_stream(["/test/1"], 0.0) == 8


def test_our_streams_are_bounded_by_what_the_remote_reads_and_by_their_numbers() -> None:
    bare = _bare(max_control=10_000)
    channel = bare.end.channel

    def flood() -> None:
        while True:
            channel.reset(channel.open_stream(["/test/1"], 0.0))

    with pytest.raises(ResourceExhausted, match="control frames wait"):
        flood()
    assert len(bare.answers()) < 6000
    last = 2**32 - 2
    channel._yamux._next = last
    assert channel.open_stream(["/test/1"], 0.0) == last
    with pytest.raises(ResourceExhausted, match="numbers"):
        channel.open_stream(["/test/1"], 0.0)


def test_stream_numbers_are_used_once_though_they_may_come_out_of_order() -> None:
    seen = SeenStreams(1)
    for number in (1, 7, 3, 5, 100_001, 99_999):
        seen.add(number)
        assert number in seen
    assert 99_997 not in seen
    for number in range(200_001, 201_001, 4):
        seen.add(number)  # a gap each: the older ones are forgotten
    for number in (3, 7, 100_001, 9, 0, 2, 100_002, 200_003):
        with pytest.raises(ProtocolError):
            seen.add(number)
    seen.add(200_995)
    even = SeenStreams(0)
    even.add(4)
    even.add(2)
    with pytest.raises(ProtocolError, match="second time"):
        even.add(2)


def test_woken_streams_take_turns() -> None:
    amounts = dict.fromkeys((1, 3, 5), 200000) | {7: 10}

    def pull(number: int, limit: int) -> list[bytes]:
        size = min(limit, amounts[number])
        amounts[number] -= size
        return [bytes(size)] if size else []

    outbox = YamuxOutbox(pull)
    for number in amounts:
        stream = YamuxStream(number, INITIAL_WINDOW, acknowledged=True)
        stream.woken = True
        outbox.enqueue(stream)
        outbox.enqueue(stream)
    turns = []
    while payload := outbox.next_payload(65519):
        assert len(payload) <= 65519
        turns += [frame[2] for frame in parse(payload)]
    assert turns[:8] == [1, 3, 5, 7, 1, 3, 5, 1]
    assert not any(amounts.values())
    assert not outbox


def test_a_driver_that_pulls_too_much_is_told() -> None:
    outbox = YamuxOutbox(lambda number, limit: [bytes(limit), b"x"])
    stream = YamuxStream(1, INITIAL_WINDOW, acknowledged=True)
    stream.woken = True
    outbox.enqueue(stream)
    with pytest.raises(InvalidArgument, match="pulled"):
        outbox.next_payload(5000)


_frame = st.builds(
    lambda kind, flags, number, length, body: pack(kind, flags, number, len(body) if kind == DATA else length) + body,
    st.sampled_from([DATA, DATA, DATA, WINDOW_UPDATE, PING, GO_AWAY, 9]),
    st.sampled_from([0, 0, SYN, ACK, FIN, RST, SYN | FIN, 15]),
    st.sampled_from([0, 1, 1, 3, 3, 5, 2, 2**32 - 1]),
    st.integers(0, 2**32 - 1),
    st.sampled_from([b"", b"x", proposal("/test/1"), proposal("/none"), b"\x13/multistream/1.0.0\n", bytes(70)]),
)


@given(st.lists(_frame, max_size=12), st.integers(0, 2**32))
@settings(max_examples=100, deadline=None)
def test_any_frames_give_documented_events_and_stay_bounded(sequence: list[bytes], seed: int) -> None:
    """Only body bytes that belong to no frame's length are wrong on purpose here: the rest is random."""
    rng = random.Random(seed)
    bare = _bare(max_streams=2, max_inbound_negotiating=1)
    plaintext = b"".join(frame[12:] if frame[1] != DATA and rng.random() < 0.05 else frame for frame in sequence)
    alive: set[int] = set()
    while plaintext:
        size = rng.randint(1, len(plaintext))
        bare.send(plaintext[:size])
        plaintext = plaintext[size:]
        if rng.random() < 0.3:
            bare.answers()
    for position, event in enumerate(bare.end.events[2:], 3):
        if isinstance(event, StreamNegotiated):
            assert event.stream not in alive
            alive.add(event.stream)
        elif isinstance(event, Failed):
            assert position == len(bare.end.events)
        else:
            assert event.stream in alive  # type: ignore[union-attr]
            if isinstance(event, StreamResetByRemote | StreamBroken):
                alive.remove(event.stream)
    assert bare.end.channel.stream_count <= 2
    assert bare.end.channel.buffered_bytes <= 2 * 1024
