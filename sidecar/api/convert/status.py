"""google.rpc.Status with its details."""

from collections.abc import Mapping

from google.protobuf.duration_pb2 import Duration
from google.rpc.error_details_pb2 import BadRequest, ErrorInfo, RetryInfo
from google.rpc.status_pb2 import Status


def packed_status(
    code: int,
    message: str,
    *,
    reason: str,
    domain: str,
    field: str | None,
    description: str,
    retry: float | None,
    metadata: Mapping[str, str],
) -> bytes:
    """Encode a status: ErrorInfo with `metadata`, BadRequest where a field is named, RetryInfo for `retry` seconds."""
    status = Status(code=code, message=message)
    status.details.add().Pack(ErrorInfo(reason=reason, domain=domain, metadata=metadata))
    if field is not None:
        violation = BadRequest.FieldViolation(field=field, description=description)
        status.details.add().Pack(BadRequest(field_violations=[violation]))
    if retry is not None:
        delay = Duration()
        delay.FromNanoseconds(int(retry * 1e9))
        status.details.add().Pack(RetryInfo(retry_delay=delay))
    encoded: bytes = status.SerializeToString()
    return encoded
