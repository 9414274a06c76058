"""Messages of `direct.proto`."""

from collections.abc import Iterable, Iterator

from sidecar_client.v1 import direct_pb2 as pb

from ...core.direct import Outcome, RequestArrived
from ...core.errors import Refused
from .values import duration, invalid

MAX_REASON = 1024  # bytes of a refusal; what the direct protocol carries

SendRequest = pb.SendRequest
SendManyRequest = pb.SendManyRequest
ReceiveRequest = pb.ReceiveRequest
RequestRequest = pb.RequestRequest
RequestManyRequest = pb.RequestManyRequest
OutgoingRequest = pb.OutgoingRequest
ServeRequest = pb.ServeRequest

_OUTCOMES = {
    Outcome.DELIVERED: pb.SEND_OUTCOME_DELIVERED,
    Outcome.NO_SUBSCRIBER: pb.SEND_OUTCOME_NO_SUBSCRIBER,
    Outcome.LOCAL_QUEUE_FULL: pb.SEND_OUTCOME_LOCAL_QUEUE_FULL,
    Outcome.REMOTE_QUEUE_FULL: pb.SEND_OUTCOME_REMOTE_QUEUE_FULL,
    Outcome.UNREACHABLE: pb.SEND_OUTCOME_UNREACHABLE,
    Outcome.REFUSED: pb.SEND_OUTCOME_REFUSED,
    Outcome.TOO_LARGE: pb.SEND_OUTCOME_TOO_LARGE,
    Outcome.TIMED_OUT: pb.SEND_OUTCOME_TIMED_OUT,
    Outcome.UNKNOWN: pb.SEND_OUTCOME_UNKNOWN,
}


def sent(outcome: Outcome, detail: str) -> pb.SendResponse:
    return pb.SendResponse(receipt=pb.SendReceipt(outcome=_OUTCOMES[outcome], detail=detail))


def receipts(ranges: Iterable[tuple[int, int, tuple[Outcome, str]]]) -> bytes:
    """Ranges of one outcome and detail: (number of the first message, count, (outcome, detail))."""
    response = pb.SendManyResponse(
        receipts=[
            pb.SendReceiptRange(
                first=first, count=count, receipt=pb.SendReceipt(outcome=_OUTCOMES[outcome], detail=detail)
            )
            for first, count, (outcome, detail) in ranges
        ]
    )
    return response.SerializeToString()


def response(data: bytes) -> pb.RequestResponse:
    return pb.RequestResponse(data=data)


def requests(arrived: Iterable[RequestArrived], withdrawn: Iterable[int], now: float) -> pb.ServeResponse:
    return pb.ServeResponse(
        requests=[
            pb.IncomingRequest(
                id=request.token,
                peer_id=str(request.peer),
                protocol=request.protocol,
                data=request.data,
                time_left=None if request.deadline is None else duration(max(0.0, request.deadline - now)),
                traceparent=request.trace,
            )
            for request in arrived
        ],
        withdrawn=withdrawn,
    )


def answers(request: pb.ServeRequest) -> Iterator[tuple[int, bytes | Refused]]:
    """The answers of a serving app. Raises InvalidField."""
    for index, answer in enumerate(request.answers):
        match answer.WhichOneof("result"):
            case "data":
                yield answer.id, answer.data
            case "refusal":
                if len(answer.refusal.encode()) > MAX_REASON:
                    raise invalid(f"answers[{index}].refusal", f"more than {MAX_REASON} bytes")
                yield answer.id, Refused(answer.refusal)
            case _:
                raise invalid(f"answers[{index}].result", "neither data nor a refusal")
