"""The example in docs/protocols.md is what the code writes and reads, and what is malformed is refused."""

import re
from pathlib import Path

import pytest

from sidecar.core.durable import Acknowledgement, DurableBatch, Item, Outcome, SettledRange
from sidecar.core.durable.messages import decode, encode
from sidecar.core.errors import ProtocolError
from sidecar.wire import durable_pb2 as wire

DOCUMENT = Path(__file__).parents[3] / "docs" / "protocols.md"
INCARNATION = 0x1122334455667788
BATCH = DurableBatch("/orders/1", INCARNATION, 3, 4, 3, [Item(b"hello", 60.0), Item(None, 0.0)])
TOLD = Acknowledgement("/orders/1", INCARNATION, 4, [SettledRange(3, 1, Outcome.DONE, "")])


def example(name: str) -> bytes:
    (block,) = re.findall(rf"```hex-{name}\n(.*?)```", DOCUMENT.read_text(encoding="utf-8"), re.DOTALL)
    return bytes.fromhex("".join(line.partition("#")[0] for line in block.splitlines()))


def test_the_examples_are_what_travels() -> None:
    assert encode([BATCH]) == example("durable-sender")
    assert encode(acknowledgements=[TOLD]) == example("durable-receiver")
    assert decode(example("durable-sender")[1:]) == ([BATCH], [])
    assert decode(example("durable-receiver")[1:]) == ([], [TOLD])


@pytest.mark.parametrize(
    "frame",
    [
        wire.Frame(),
        wire.Frame(batches=[wire.Batch(protocol="", incarnation=1, floor=1, end=1)]),
        wire.Frame(batches=[wire.Batch(protocol="x" * 257, incarnation=1, floor=1, end=1)]),
        wire.Frame(batches=[wire.Batch(protocol="x", incarnation=0, floor=1, end=1)]),
        wire.Frame(batches=[wire.Batch(protocol="x", incarnation=1 << 63, floor=1, end=1)]),
        wire.Frame(batches=[wire.Batch(protocol="x", incarnation=1, floor=0, end=1)]),
        wire.Frame(batches=[wire.Batch(protocol="x", incarnation=1, floor=3, end=1)]),
        wire.Frame(batches=[wire.Batch(protocol="x", incarnation=1, floor=1, end=1 << 63)]),
        wire.Frame(batches=[wire.Batch(protocol="x", incarnation=1, floor=2, end=3, first=1, items=[wire.Item()])]),
        wire.Frame(batches=[wire.Batch(protocol="x", incarnation=1, floor=2, end=3, first=4, items=[wire.Item()])]),
        wire.Frame(
            batches=[wire.Batch(protocol="x", incarnation=1, floor=1, end=9999, first=1, items=[wire.Item()] * 4097)]
        ),
        wire.Frame(acknowledgements=[wire.Acknowledgement(protocol="x", incarnation=1, held=1 << 63)]),
        wire.Frame(
            acknowledgements=[
                wire.Acknowledgement(
                    protocol="x", incarnation=1, held=1, settled=[wire.Settled(first=1, count=2, outcome=1)]
                )
            ]
        ),
        wire.Frame(
            acknowledgements=[
                wire.Acknowledgement(
                    protocol="x", incarnation=1, held=1, settled=[wire.Settled(first=0, count=1, outcome=1)]
                )
            ]
        ),
    ],
)
def test_what_is_malformed_is_refused(frame: wire.Frame) -> None:
    with pytest.raises(ProtocolError):
        decode(frame.SerializeToString())


def test_bytes_that_are_no_frame_are_refused() -> None:
    with pytest.raises(ProtocolError):
        decode(b"\xff\xff\xff")
