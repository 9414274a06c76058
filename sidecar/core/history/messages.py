"""Frames of backfill to bytes and back (docs/protocols.md, "Backfill")."""

import enum
from collections.abc import Sequence
from typing import TypeAlias

from google.protobuf.message import DecodeError

from ...wire import history_pb2 as wire
from .. import varint
from ..classes import NamedTuple
from ..errors import ProtocolError
from ..parameters.history import KEY, MAX_KEYS_TOLD, MAX_NUDGED, MAX_RECONCILE

_MOST_MS = 366 * 86_400_000  # an age that is greater is taken for this
_MAX_TOPIC = 1024  # bytes, as gossip has it


class Reason(enum.IntEnum):
    """Why a session was refused; the numbers are those on the wire."""

    BUSY = 1  # too many at once, or too often
    TOPIC = 2  # the topic has no history there
    DISK = 3  # the disk refuses


class Open(NamedTuple):
    """The asking side begins: what was received between two ages, in milliseconds."""

    topic: str
    newest: int
    oldest: int


class Opened(NamedTuple):
    """The asked side compares all that it received back to this age, in milliseconds."""

    oldest: int


class SessionRefused(NamedTuple):
    """No session now. `retry_after`: milliseconds."""

    reason: Reason
    retry_after: int


class Reconcile(NamedTuple):
    """A message of the reconciliation."""

    message: bytes


class Want(NamedTuple):
    """The asking side lacks these."""

    keys: Sequence[bytes]


class TravellingBody(NamedTuple):
    """A message as it travelled in gossip. `age`: milliseconds; `place`: of its key in the Want."""

    raw: bytes
    age: int
    place: int


class Bodies(NamedTuple):
    """Messages that were wanted. `settled`: in the last frame, of how many keys of the Want nothing more comes."""

    bodies: Sequence[TravellingBody]
    settled: int = 0


class Done(NamedTuple):
    """The asking side is through. `lacking`: how many messages the other side lacked; `keys`: the first of them."""

    lacking: int
    keys: Sequence[bytes]


class Nudge(NamedTuple):
    """Whoever asks the sender for one of these topics now may get something."""

    topics: Sequence[str]


Frame: TypeAlias = Open | Opened | SessionRefused | Reconcile | Want | Bodies | Done | Nudge


def encode(frame: Frame) -> bytes:
    """The frame with its length before it."""
    match frame:
        case Open(topic, newest, oldest):
            made = wire.Frame(open=wire.Open(topic=topic, newest_ms=newest, oldest_ms=oldest))
        case Opened(oldest):
            made = wire.Frame(opened=wire.Opened(oldest_ms=oldest))
        case SessionRefused(reason, retry_after):
            told = wire.Reason.ValueType(reason)
            made = wire.Frame(refused=wire.Refused(reason=told, retry_after_ms=retry_after))
        case Reconcile(message):
            made = wire.Frame(reconcile=message)
        case Want(keys):
            made = wire.Frame(want=wire.Want(keys=b"".join(keys)))
        case Bodies(bodies, settled):
            items = [wire.Body(raw=raw, age_ms=age, place=place) for raw, age, place in bodies]
            made = wire.Frame(bodies=wire.Bodies(bodies=items, settled=settled))
        case Done(lacking, keys):
            made = wire.Frame(done=wire.Done(lacking=lacking, keys=b"".join(keys)))
        case Nudge(topics):
            made = wire.Frame(nudge=wire.Nudge(topics=topics))
    return varint.framed(made.SerializeToString())


def decode(body: bytes) -> Frame:
    """Read a frame. Raises ProtocolError."""
    try:
        frame = wire.Frame.FromString(body)
    except DecodeError:
        raise ProtocolError(f"frame of {len(body)} bytes is not a protobuf message") from None
    match frame.WhichOneof("part"):
        case "open":
            return _open(frame.open)
        case "opened":
            return Opened(min(frame.opened.oldest_ms, _MOST_MS))
        case "refused":
            reason = Reason(frame.refused.reason) if frame.refused.reason in _REASONS else Reason.BUSY
            return SessionRefused(reason, min(frame.refused.retry_after_ms, _MOST_MS))
        case "reconcile":
            if not 1 <= len(frame.reconcile) <= MAX_RECONCILE:
                raise ProtocolError(f"reconciliation of {len(frame.reconcile)} bytes, at most {MAX_RECONCILE}")
            return Reconcile(frame.reconcile)
        case "want":
            keys = _keys(frame.want.keys)
            if not keys:
                raise ProtocolError("nothing is wanted")
            return Want(keys)
        case "bodies":
            bodies = [TravellingBody(body.raw, min(body.age_ms, _MOST_MS), body.place) for body in frame.bodies.bodies]
            if not bodies and not frame.bodies.settled:
                raise ProtocolError("bodies without a body")
            return Bodies(bodies, frame.bodies.settled)
        case "done":
            return Done(frame.done.lacking, _keys(frame.done.keys))
        case "nudge":
            topics = list(frame.nudge.topics)
            if not 1 <= len(topics) <= MAX_NUDGED:
                raise ProtocolError(f"nudge for {len(topics)} topics, at most {MAX_NUDGED}")
            for topic in topics:
                _check_topic(topic)
            return Nudge(topics)
        case _:
            raise ProtocolError("frame of an unknown kind")


_REASONS = frozenset(map(int, Reason))


def _open(part: wire.Open) -> Open:
    _check_topic(part.topic)
    oldest = min(part.oldest_ms, _MOST_MS)
    if part.newest_ms >= oldest:
        raise ProtocolError(f"a session from {part.newest_ms} to {part.oldest_ms} ms ago")
    return Open(part.topic, part.newest_ms, oldest)


def _check_topic(topic: str) -> None:
    if not 1 <= len(topic.encode()) <= _MAX_TOPIC:
        raise ProtocolError(f"topic of {len(topic.encode())} bytes")


def _keys(joined: bytes) -> list[bytes]:
    if len(joined) % KEY or len(joined) > MAX_KEYS_TOLD * KEY:
        raise ProtocolError(f"{len(joined)} bytes of keys, {KEY} each, at most {MAX_KEYS_TOLD}")
    return [joined[start : start + KEY] for start in range(0, len(joined), KEY)]
