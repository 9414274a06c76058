"""Messages of `durable.proto`."""

from collections.abc import Iterable, Sequence

from sidecar_client.v1 import direct_pb2
from sidecar_client.v1 import durable_pb2 as pb

from ...core.durable import Outcome
from ...store.durable import InboxRow, OutboxRow, OutcomeRow, Settlement, Settles
from ..common import values

SettleRequest = pb.SettleRequest
WatchOutboxRequest = pb.WatchOutboxRequest
ListOutboxRequest = pb.ListOutboxRequest
WithdrawOutboxRequest = pb.WithdrawOutboxRequest
ListInboxRequest = pb.ListInboxRequest
RetryDeadLettersRequest = pb.RetryDeadLettersRequest
PurgeDeadLettersRequest = pb.PurgeDeadLettersRequest

MAX_REASON = 1024  # bytes, as the protocol carries
MAX_DELAY = 86_400.0  # seconds

_OUTCOMES = {
    Outcome.DONE: pb.DURABLE_OUTCOME_DONE,
    Outcome.REJECTED: pb.DURABLE_OUTCOME_REJECTED,
    Outcome.EXPIRED: pb.DURABLE_OUTCOME_EXPIRED,
    Outcome.DEAD_LETTER: pb.DURABLE_OUTCOME_DEAD_LETTER,
}


def settlements(request: pb.SettleRequest) -> list[Settlement]:
    """What an app made of deliveries. Raises InvalidField."""
    found = []
    for index, each in enumerate(request.settlements):
        match each.WhichOneof("instead"):
            case "reject":
                size = len(each.reject.encode())
                values.bounded(size, MAX_REASON, f"settlements[{index}].reject")
                found.append(Settlement(each.id, each.attempt, Settles.REJECT, reason=each.reject))
            case "delay":
                delay = values.seconds(each.delay, MAX_DELAY, f"settlements[{index}].delay")
                found.append(Settlement(each.id, each.attempt, Settles.DELAY, delay=delay))
            case _:
                found.append(Settlement(each.id, each.attempt, Settles.DONE))
    return found


def settled(stale: Sequence[int]) -> pb.SettleResponse:
    return pb.SettleResponse(stale=stale)


def begins(cursor: int) -> pb.WatchOutboxResponse:
    return pb.WatchOutboxResponse(cursor=cursor)


def events(rows: Iterable[OutcomeRow]) -> pb.WatchOutboxResponse:
    return pb.WatchOutboxResponse(
        events=[
            pb.OutboxEvent(
                cursor=row.cursor,
                peer_id=str(row.peer),
                protocol=row.protocol,
                message_id=message_id(row.incarnation, row.sequence),
                request_id=row.request,
                outcome=_OUTCOMES[row.outcome],
                reason=row.reason,
                time=values.unix_time(row.time),
            )
            for row in rows
        ]
    )


def outbox(rows: Iterable[OutboxRow], token: str, messages: int, size: int) -> pb.ListOutboxResponse:
    return pb.ListOutboxResponse(
        messages=[
            pb.OutboxMessage(
                peer_id=str(row.peer),
                protocol=row.protocol,
                message_id=message_id(row.incarnation, row.sequence),
                request_id=row.request,
                size=row.size,
                created=values.unix_time(row.created),
                expires=values.unix_time(row.expires),
                held=row.held,
            )
            for row in rows
        ],
        next_page_token=token,
        total_messages=messages,
        total_bytes=size,
    )


def withdrawn(count: int) -> pb.WithdrawOutboxResponse:
    return pb.WithdrawOutboxResponse(withdrawn=count)


def inbox(rows: Iterable[InboxRow], token: str, messages: int, size: int, dead: int) -> pb.ListInboxResponse:
    return pb.ListInboxResponse(
        messages=[
            pb.InboxMessage(
                id=row.id,
                peer_id=str(row.peer),
                protocol=row.protocol,
                message_id=message_id(row.incarnation, row.sequence),
                size=row.size,
                attempts=row.attempts,
                received=values.unix_time(row.received),
                expires=values.unix_time(row.expires),
                data=row.data or b"",
                reason=row.reason,
            )
            for row in rows
        ],
        next_page_token=token,
        total_messages=messages,
        total_bytes=size,
        dead_letters=dead,
    )


def retried(count: int) -> pb.RetryDeadLettersResponse:
    return pb.RetryDeadLettersResponse(retried=count)


def purged(count: int) -> pb.PurgeDeadLettersResponse:
    return pb.PurgeDeadLettersResponse(purged=count)


def message_id(incarnation: int, sequence: int) -> direct_pb2.MessageId:
    return direct_pb2.MessageId(incarnation=incarnation, sequence=sequence)
