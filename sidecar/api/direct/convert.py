"""Messages of `direct.proto`."""

from collections.abc import Iterable, Iterator

from google.protobuf.duration_pb2 import Duration
from sidecar_client.v1 import direct_pb2 as pb

from ...core.classes import NamedTuple
from ...core.direct import RequestArrived, SendOutcome
from ...core.errors import InvalidArgument, Refused, SidecarError
from ...store.durable import Delivered
from ..common.values import duration

MAX_REASON = 1024  # bytes of a refusal; what the direct protocol carries
MAX_TIME_LEFT = 86_400.0  # seconds; as long as a request of an app may take

SendRequest = pb.SendRequest
SendManyRequest = pb.SendManyRequest
ReceiveRequest = pb.ReceiveRequest
Durable = pb.Durable
DurableReceive = pb.DurableReceive
RequestRequest = pb.RequestRequest
RequestManyRequest = pb.RequestManyRequest
OutgoingRequest = pb.OutgoingRequest
ServeRequest = pb.ServeRequest

_OUTCOMES = {
    SendOutcome.DELIVERED: pb.SEND_OUTCOME_DELIVERED,
    SendOutcome.NO_SUBSCRIBER: pb.SEND_OUTCOME_NO_SUBSCRIBER,
    SendOutcome.LOCAL_QUEUE_FULL: pb.SEND_OUTCOME_LOCAL_QUEUE_FULL,
    SendOutcome.REMOTE_QUEUE_FULL: pb.SEND_OUTCOME_REMOTE_QUEUE_FULL,
    SendOutcome.UNREACHABLE: pb.SEND_OUTCOME_UNREACHABLE,
    SendOutcome.REFUSED: pb.SEND_OUTCOME_REFUSED,
    SendOutcome.TOO_LARGE: pb.SEND_OUTCOME_TOO_LARGE,
    SendOutcome.TIMED_OUT: pb.SEND_OUTCOME_TIMED_OUT,
    SendOutcome.UNKNOWN: pb.SEND_OUTCOME_UNKNOWN,
    SendOutcome.STORED: pb.SEND_OUTCOME_STORED,
    SendOutcome.OUTBOX_FULL: pb.SEND_OUTCOME_OUTBOX_FULL,
    SendOutcome.NOT_STORED: pb.SEND_OUTCOME_NOT_STORED,
}


class StoredPlace(NamedTuple):
    """Where a durable message is: its sequence is `offset` more than its number in the call."""

    incarnation: int
    offset: int


class Sent(NamedTuple):
    """What became of a message, with words where there is more to say."""

    outcome: SendOutcome
    detail: str = ""
    place: StoredPlace | None = None


def sent(sent: Sent) -> pb.SendResponse:
    return pb.SendResponse(receipt=_receipt(0, sent))


def _receipt(number: int, sent: Sent) -> pb.SendReceipt:
    receipt = pb.SendReceipt(outcome=_OUTCOMES[sent.outcome], detail=sent.detail)
    if sent.place is not None:
        receipt.message_id.incarnation = sent.place.incarnation
        receipt.message_id.sequence = sent.place.offset + number
    return receipt


def receipts(ranges: Iterable[tuple[int, int, Sent]]) -> bytes:
    """Ranges of one outcome and detail: (number of the first message, count, what became of them)."""
    response = pb.SendManyResponse(
        receipts=[
            pb.SendReceiptRange(first=first, count=count, receipt=_receipt(first, sent))
            for first, count, sent in ranges
        ]
    )
    return response.SerializeToString()


def deliveries(delivered: Iterable[Delivered]) -> pb.ReceiveResponse:
    """Durable messages for an app."""
    return pb.ReceiveResponse(
        messages=[
            pb.DirectMessage(
                peer_id=str(each.peer),
                protocol=each.protocol,
                data=each.data,
                delivery=pb.Delivery(
                    id=each.id,
                    attempt=each.attempt,
                    message_id=pb.MessageId(incarnation=each.incarnation, sequence=each.sequence),
                ),
            )
            for each in delivered
        ]
    )


def response(data: bytes) -> pb.RequestResponse:
    return pb.RequestResponse(data=data)


def requests(
    arrived: Iterable[RequestArrived], withdrawn: Iterable[int], rejected: Iterable[tuple[int, str]], now: float
) -> pb.ServeResponse:
    return pb.ServeResponse(
        requests=[
            pb.IncomingRequest(
                id=request.token,
                peer_id=str(request.peer),
                protocol=request.protocol,
                data=request.data,
                time_left=None if request.deadline is None else _time_left(request.deadline - now),
                traceparent=request.trace,
            )
            for request in arrived
        ],
        withdrawn=withdrawn,
        rejected=[pb.RejectedAnswer(id=token, reason=why) for token, why in rejected],
    )


def _time_left(seconds: float) -> Duration:
    """A peer may name any time: what no duration can hold must not end the stream of all."""
    return duration(min(max(0.0, seconds), MAX_TIME_LEFT))


def answers(request: pb.ServeRequest) -> Iterator[tuple[int, bytes | SidecarError]]:
    """The answers of a serving app; for one that is malformed, what is wrong with it."""
    for answer in request.answers:
        match answer.WhichOneof("result"):
            case "data":
                yield answer.id, answer.data
            case "refusal":
                size = len(answer.refusal.encode())
                if size > MAX_REASON:
                    yield answer.id, InvalidArgument(f"refusal of {size} bytes, at most {MAX_REASON}")
                else:
                    yield answer.id, Refused(answer.refusal)
            case _:
                yield answer.id, InvalidArgument("neither data nor a refusal")
