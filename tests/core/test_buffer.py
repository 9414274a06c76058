import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sidecar.core import varint
from sidecar.core.buffer import FrameDecoder, SendBuffer
from sidecar.core.errors import FrameTooLarge, ProtocolError


@settings(max_examples=100, deadline=None)
@given(st.lists(st.binary(max_size=300), max_size=8), st.lists(st.integers(1, 400)), st.binary(max_size=2))
def test_frames_are_the_same_in_whatever_pieces_they_come(bodies: list[bytes], sizes: list[int], tail: bytes) -> None:
    tail = b"\x7f" + tail  # a frame of 127 bytes of which at most two come
    data = b"".join(varint.encode(len(body)) + body for body in bodies) + tail
    decoder = FrameDecoder(300)
    frames: list[bytes] = []
    for size in [*sizes, len(data)]:
        frames += decoder.receive(data[:size])
        data = data[size:]
    assert frames == bodies
    assert len(decoder) == len(tail)


@pytest.mark.parametrize("size", [1, 100])
@pytest.mark.parametrize(
    ("bad", "error"), [("ac02", FrameTooLarge), ("8100", ProtocolError), ("ff" * 9, ProtocolError)]
)
def test_a_bad_length_is_refused_behind_the_good_frames(bad: str, error: type[ProtocolError], size: int) -> None:
    data = b"\x01a\x02bc" + bytes.fromhex(bad)
    decoder = FrameDecoder(299)
    frames: list[bytes] = []
    failures: list[ProtocolError] = []
    for at in range(0, len(data), size):
        more, failure = decoder.cut(data[at : at + size])
        frames += more
        failures += [failure] if failure else []
    assert frames == [b"a", b"bc"]
    assert [type(failure) for failure in failures] == [error]
    with pytest.raises(error):
        FrameDecoder(299).receive(data)


def test_the_largest_frame_passes() -> None:
    assert FrameDecoder(299).receive(b"\xab\x02" + bytes(299)) == [bytes(299)]


@settings(max_examples=100, deadline=None)
@given(st.lists(st.one_of(st.binary(max_size=20), st.integers(0, 30)), max_size=20))
def test_what_is_pushed_is_taken_in_order_within_the_limit(steps: list[bytes | int]) -> None:
    buffer = SendBuffer()
    pushed = taken = b""
    for step in steps:
        if isinstance(step, bytes):
            buffer.push(step)
            pushed += step
        else:
            piece = b"".join(buffer.take(step))
            assert len(piece) == min(step, len(pushed) - len(taken))
            taken += piece
        assert len(buffer) == buffer.size == len(pushed) - len(taken)
        assert bool(buffer) == (buffer.size > 0)
    assert pushed.startswith(taken)
    buffer.clear()
    assert (buffer.take(10), buffer.size) == ([], 0)


def test_frames_that_are_too_large_are_passed_over_and_counted() -> None:
    small = varint.encode(3) + b"abc"
    stream = (
        small
        + varint.encode(20)
        + bytes(20)
        + small
        + varint.encode(11)
        + bytes(11)
        + varint.encode(40)
        + bytes(40)
        + small
    )
    for size in (1, 2, 7, 12, len(stream)):
        decoder = FrameDecoder(10, 40)
        frames = [frame for at in range(0, len(stream), size) for frame in decoder.receive(stream[at : at + size])]
        assert frames == [b"abc"] * 3
        assert (decoder.skipped, decoder.skipped_bytes) == (3, 71)
        assert len(decoder) == 0
        with pytest.raises(FrameTooLarge):
            decoder.receive(varint.encode(41))


def test_a_frame_passed_over_is_never_held() -> None:
    decoder = FrameDecoder(10, 1000)
    decoder.receive(varint.encode(1000))
    for _ in range(99):
        assert decoder.receive(bytes(10)) == []
        assert len(decoder) == 0
    assert decoder.receive(bytes(10) + varint.encode(1) + b"x") == [b"x"]
