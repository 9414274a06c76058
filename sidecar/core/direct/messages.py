"""Frames of the direct protocol to bytes and back (docs/protocols.md)."""

from collections.abc import Iterable, Sequence

from google.protobuf.message import DecodeError

from ...wire import direct_pb2 as wire
from .. import varint
from ..classes import NamedTuple
from ..errors import (
    Closed,
    DeadlineExceeded,
    NotSupported,
    ProtocolError,
    QueueFull,
    Refused,
    ResourceExhausted,
    SidecarError,
)
from ..parameters.direct import MAX_REASON
from .events import SendOutcome

_OUTCOMES = {
    SendOutcome.DELIVERED: wire.OUTCOME_DELIVERED,
    SendOutcome.NO_SUBSCRIBER: wire.OUTCOME_NO_SUBSCRIBER,
    SendOutcome.REMOTE_QUEUE_FULL: wire.OUTCOME_QUEUE_FULL,
    SendOutcome.REFUSED: wire.OUTCOME_REFUSED,
    SendOutcome.TIMED_OUT: wire.OUTCOME_TIMED_OUT,
}
_OUTCOME_OF = {number: outcome for outcome, number in _OUTCOMES.items()}
RECEIVERS_OUTCOMES = tuple(_OUTCOMES)  # those that the receiving side can give

# The first class that an error is an instance of gives its status.
_STATUSES: tuple[tuple[type[SidecarError], "wire.Status.ValueType"], ...] = (
    (NotSupported, wire.STATUS_NOT_SERVED),
    (ResourceExhausted, wire.STATUS_QUEUE_FULL),
    (DeadlineExceeded, wire.STATUS_DEADLINE_EXCEEDED),
    (Closed, wire.STATUS_CLOSED),
    (SidecarError, wire.STATUS_REFUSED),
)
_ERROR_OF: dict[int, type[SidecarError]] = {
    wire.STATUS_NOT_SERVED: NotSupported,
    wire.STATUS_QUEUE_FULL: QueueFull,
    wire.STATUS_DEADLINE_EXCEEDED: DeadlineExceeded,
    wire.STATUS_CLOSED: Closed,
}


class RequestFields(NamedTuple):
    """A request as it travels; `timeout_ms` is 0 when the asker sets no limit, `trace` empty outside of traces."""

    id: int
    protocol: str
    data: bytes
    timeout_ms: int
    trace: str = ""


class OpenersFrame(NamedTuple):
    """What the side that opened a link says."""

    messages: list[tuple[str, list[bytes]]]
    requests: list[RequestFields]
    cancels: list[int]


class AcceptorsFrame(NamedTuple):
    """What the side that accepted a link says: (first, count, outcome) and (request id, answer)."""

    receipts: list[tuple[int, int, SendOutcome]]
    responses: list[tuple[int, bytes | SidecarError]]


def encode_openers_frame(
    messages: Iterable[tuple[str, Sequence[bytes]]], requests: Iterable[RequestFields], cancels: Iterable[int]
) -> bytes:
    """The frame with its length before it."""
    return _framed(
        wire.Frame(
            messages=[wire.Messages(protocol=protocol, data=data) for protocol, data in messages],
            requests=[
                wire.Request(
                    id=request.id,
                    protocol=request.protocol,
                    data=request.data,
                    timeout_ms=request.timeout_ms,
                    traceparent=request.trace,
                )
                for request in requests
            ],
            cancels=cancels,
        )
    )


def encode_acceptors_frame(
    receipts: Iterable[tuple[int, int, SendOutcome]], responses: Iterable[tuple[int, bytes | SidecarError]]
) -> bytes:
    """The frame with its length before it."""
    return _framed(
        wire.Frame(
            receipts=[
                wire.Receipts(first=first, count=count, outcome=_OUTCOMES[outcome])
                for first, count, outcome in receipts
            ],
            responses=[_response(request, answer) for request, answer in responses],
        )
    )


def _framed(frame: wire.Frame) -> bytes:
    return varint.framed(frame.SerializeToString())


def _response(request: int, answer: bytes | SidecarError) -> wire.Response:
    if isinstance(answer, bytes):
        return wire.Response(id=request, data=answer)
    status = next(status for kind, status in _STATUSES if isinstance(answer, kind))
    reason = str(answer).encode(errors="replace")[:MAX_REASON].decode(errors="ignore")
    return wire.Response(id=request, status=status, reason=reason)


def decode_openers_frame(body: bytes) -> OpenersFrame:
    """Read what the opener of a link sent. Raises ProtocolError, also for what only an acceptor says."""
    frame = _parse(body)
    if frame.receipts or frame.responses:
        raise ProtocolError("receipts or responses from the side that opened the link")
    return OpenersFrame(
        [(messages.protocol, list(messages.data)) for messages in frame.messages],
        [
            RequestFields(request.id, request.protocol, request.data, request.timeout_ms, request.traceparent)
            for request in frame.requests
        ],
        list(frame.cancels),
    )


def decode_acceptors_frame(body: bytes) -> AcceptorsFrame:
    """Read what the acceptor of a link sent. Raises ProtocolError, also for what only an opener says."""
    frame = _parse(body)
    if frame.messages or frame.requests or frame.cancels:
        raise ProtocolError("messages or requests from the side that accepted the link")
    return AcceptorsFrame(
        # An outcome that a later version added is one that we do not know.
        [
            (receipts.first, receipts.count, _OUTCOME_OF.get(receipts.outcome, SendOutcome.UNKNOWN))
            for receipts in frame.receipts
        ],
        [(response.id, _answer(response)) for response in frame.responses],
    )


def _parse(body: bytes) -> wire.Frame:
    if not body:
        raise ProtocolError("empty frame")
    try:
        return wire.Frame.FromString(body)
    except DecodeError:
        raise ProtocolError(f"frame of {len(body)} bytes is not a protobuf message") from None


def _answer(response: wire.Response) -> bytes | SidecarError:
    if response.status == wire.STATUS_ANSWERED:
        return response.data
    return _ERROR_OF.get(response.status, Refused)(response.reason or "the peer gave no reason")
