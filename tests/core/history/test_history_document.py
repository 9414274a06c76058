"""The example in docs/protocols.md is what the code writes and reads, and what is malformed is refused."""

import re
from itertools import chain
from pathlib import Path

import pytest

from sidecar.core.buffer import FrameDecoder
from sidecar.core.errors import ProtocolError
from sidecar.core.history import key_of, reconcile
from sidecar.core.history.messages import (
    Bodies,
    Done,
    Frame,
    Nudge,
    Open,
    Opened,
    Reason,
    Reconcile,
    SessionRefused,
    TravellingBody,
    Want,
    decode,
    encode,
)
from sidecar.core.history.reconcile import KeySet
from sidecar.wire import history_pb2 as wire

DOCUMENT = Path(__file__).parents[3] / "docs" / "protocols.md"
ONE, TWO = key_of(b"one"), key_of(b"two")
ALICE, BOB = KeySet([ONE]), KeySet(sorted((ONE, TWO)))
OPENING = reconcile.opening(ALICE)
ASKING: list[Frame] = [Open("news", 2000, 604_800_000), Reconcile(OPENING), Want([TWO]), Done(0, [])]
ASKED: list[Frame] = [
    Opened(604_800_000),
    Reconcile(reconcile.answer(BOB, OPENING)),
    Bodies([TravellingBody(b"raw", 61_000, 0)]),
    Bodies([], 1),
]


def example(name: str) -> bytes:
    (block,) = re.findall(rf"```hex-{name}\n(.*?)```", DOCUMENT.read_text(encoding="utf-8"), re.DOTALL)
    return bytes.fromhex("".join(line.partition("#")[0] for line in block.splitlines()))


@pytest.mark.parametrize(("name", "frames"), [("backfill-asking", ASKING), ("backfill-asked", ASKED)])
def test_the_examples_are_what_travels(name: str, frames: list[Frame]) -> None:
    assert b"".join(map(encode, frames)) == example(name)
    decoder = FrameDecoder(1 << 16)
    pieces = [decoder.receive(bytes([byte])) for byte in example(name)]
    assert [decode(body) for body in chain.from_iterable(pieces)] == frames


@pytest.mark.parametrize(
    "frame", [*ASKING, *ASKED, SessionRefused(Reason.BUSY, 1000), Nudge(["news", "x"]), Done(7, [ONE, TWO])]
)
def test_frames_are_read_as_they_were_written(frame: Frame) -> None:
    (body,) = FrameDecoder(1 << 20).receive(encode(frame))
    assert decode(body) == frame


@pytest.mark.parametrize(
    "frame",
    [
        wire.Frame(),
        wire.Frame(open=wire.Open(topic="", newest_ms=0, oldest_ms=1)),
        wire.Frame(open=wire.Open(topic="x" * 1025, newest_ms=0, oldest_ms=1)),
        wire.Frame(open=wire.Open(topic="x", newest_ms=1, oldest_ms=1)),
        wire.Frame(open=wire.Open(topic="x", newest_ms=2, oldest_ms=1)),
        wire.Frame(open=wire.Open(topic="x", newest_ms=1 << 63, oldest_ms=1 << 63)),
        wire.Frame(reconcile=b""),
        wire.Frame(reconcile=bytes((1 << 16) + 1)),
        wire.Frame(want=wire.Want()),
        wire.Frame(want=wire.Want(keys=bytes(31))),
        wire.Frame(want=wire.Want(keys=bytes(4097 * 32))),
        wire.Frame(bodies=wire.Bodies()),
        wire.Frame(done=wire.Done(lacking=1, keys=bytes(33))),
        wire.Frame(nudge=wire.Nudge()),
        wire.Frame(nudge=wire.Nudge(topics=["x"] * 65)),
        wire.Frame(nudge=wire.Nudge(topics=["x", ""])),
    ],
)
def test_what_is_malformed_is_refused(frame: wire.Frame) -> None:
    with pytest.raises(ProtocolError):
        decode(frame.SerializeToString())


def test_bytes_that_are_no_frame_are_refused() -> None:
    with pytest.raises(ProtocolError):
        decode(b"\xff\xff\xff")


def test_what_a_later_version_says_is_understood_as_far_as_it_can_be() -> None:
    told = wire.Frame(refused=wire.Refused(reason=wire.Reason.ValueType(9), retry_after_ms=5))
    assert decode(told.SerializeToString()) == SessionRefused(Reason.BUSY, 5)
    with pytest.raises(ProtocolError):
        decode(b"\x92\x01\x00")  # a part of which this version knows nothing
