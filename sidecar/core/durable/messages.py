"""Frames of the durable protocol to bytes and back (docs/protocols.md)."""

from collections.abc import Iterable

from google.protobuf.message import DecodeError

from ...wire import durable_pb2 as wire
from .. import varint
from ..classes import NamedTuple
from ..errors import ProtocolError
from ..parameters.direct import MAX_PROTOCOL, MAX_REASON
from ..parameters.durable import MAX_ITEMS
from .types import Acknowledgement, DurableBatch, Item, Outcome, SettledRange, Trouble

_LAST = (1 << 62) - 1  # the greatest sequence: what is above is a fault, and would not fit SQLite's integers
_MAX_SETTLED = 65_536  # ranges in one acknowledgement
_MOST_MS = 366 * 86_400_000  # a time left that is longer is taken for this


class Frame(NamedTuple):
    """What one frame says."""

    batches: list[DurableBatch]
    acknowledgements: list[Acknowledgement]


def encode(batches: Iterable[DurableBatch] = (), acknowledgements: Iterable[Acknowledgement] = ()) -> bytes:
    """The frame with its length before it."""
    frame = wire.Frame(
        batches=[
            wire.Batch(
                protocol=batch.protocol,
                incarnation=batch.incarnation,
                floor=batch.floor,
                end=batch.end,
                first=batch.first,
                items=[
                    wire.Item(skipped=True)
                    if item.data is None
                    else wire.Item(data=item.data, time_left_ms=max(1, int(item.time_left * 1000)))
                    for item in batch.items
                ],
            )
            for batch in batches
        ],
        acknowledgements=[
            wire.Acknowledgement(
                protocol=each.protocol,
                incarnation=each.incarnation,
                held=each.held,
                settled=[
                    wire.Settled(first=first, count=count, outcome=wire.Outcome.ValueType(outcome), reason=reason)
                    for first, count, outcome, reason in each.settled
                ],
                trouble=wire.Trouble.ValueType(each.trouble),
                reason=each.reason,
            )
            for each in acknowledgements
        ],
    )
    return varint.framed(frame.SerializeToString())


def decode(body: bytes) -> Frame:
    """Read a frame. Raises ProtocolError."""
    try:
        frame = wire.Frame.FromString(body)
    except DecodeError:
        raise ProtocolError(f"frame of {len(body)} bytes is not a protobuf message") from None
    if not frame.batches and not frame.acknowledgements:
        raise ProtocolError("empty frame")
    return Frame([_batch(each) for each in frame.batches], [_acknowledgement(each) for each in frame.acknowledgements])


def _batch(batch: wire.Batch) -> DurableBatch:
    _check_name(batch.protocol, batch.incarnation)
    count = len(batch.items)
    if count > MAX_ITEMS:
        raise ProtocolError(f"batch of {count} messages, at most {MAX_ITEMS}")
    if not 1 <= batch.floor <= batch.end + 1 <= _LAST:
        raise ProtocolError(f"batch with open messages from {batch.floor} to {batch.end}")
    if count and not batch.floor <= batch.first <= batch.first + count - 1 <= batch.end:
        raise ProtocolError(f"{count} messages from {batch.first} on, of {batch.floor} to {batch.end}")
    items = [
        Item(None, 0.0) if item.skipped else Item(item.data, min(item.time_left_ms, _MOST_MS) / 1000)
        for item in batch.items
    ]
    return DurableBatch(batch.protocol, batch.incarnation, batch.floor, batch.end, batch.first, items)


def _acknowledgement(each: wire.Acknowledgement) -> Acknowledgement:
    _check_name(each.protocol, each.incarnation)
    if each.held > _LAST or len(each.settled) > _MAX_SETTLED:
        raise ProtocolError(f"acknowledgement up to {each.held} with {len(each.settled)} ranges")
    settled = []
    for part in each.settled:
        if not 1 <= part.first <= part.first + part.count - 1 <= each.held:
            raise ProtocolError(f"outcomes of {part.count} messages from {part.first} on, {each.held} are held")
        # An outcome that a later version added is told as the nearest that we know.
        outcome = Outcome(part.outcome) if part.outcome in _OUTCOMES else Outcome.REJECTED
        settled.append(SettledRange(part.first, part.count, outcome, _cut(part.reason)))
    trouble = Trouble(each.trouble) if each.trouble in _TROUBLES else Trouble.BUSY
    return Acknowledgement(each.protocol, each.incarnation, each.held, settled, trouble, _cut(each.reason))


_OUTCOMES = frozenset(map(int, Outcome))
_TROUBLES = frozenset(map(int, Trouble))


def _cut(reason: str) -> str:
    return reason.encode()[:MAX_REASON].decode(errors="ignore")


def _check_name(protocol: str, incarnation: int) -> None:
    if not 1 <= incarnation < 1 << 63:
        raise ProtocolError(f"incarnation {incarnation}")
    if not 1 <= len(protocol.encode()) <= MAX_PROTOCOL:
        raise ProtocolError(f"protocol of {len(protocol.encode())} bytes")
