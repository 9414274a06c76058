"""The one table from errors to the status that a call ends with."""

import re
from collections.abc import Mapping

from google.protobuf.duration_pb2 import Duration
from google.rpc.error_details_pb2 import BadRequest, ErrorInfo, RetryInfo
from google.rpc.status_pb2 import Status
from sidecar_client.codes import Code as Code  # for all who import it from here

from ...core import errors
from .faults import InvalidField, PermissionDenied, QuotaExceeded, TopicOptionsDiffer, Unauthenticated

DOMAIN = "sidecar"

# The nearest ancestor counts, so each error has exactly one row.
CODES: dict[type[errors.SidecarError], Code] = {
    errors.SidecarError: Code.INTERNAL,
    errors.ConfigError: Code.FAILED_PRECONDITION,
    errors.IdentityError: Code.FAILED_PRECONDITION,
    errors.InvalidPeerId: Code.INVALID_ARGUMENT,
    errors.InvalidMultiaddr: Code.INVALID_ARGUMENT,
    errors.InvalidArgument: Code.INVALID_ARGUMENT,
    errors.TooLarge: Code.INVALID_ARGUMENT,
    errors.StateLocked: Code.FAILED_PRECONDITION,
    errors.AddressInUse: Code.FAILED_PRECONDITION,
    errors.StorageError: Code.INTERNAL,
    errors.NotFound: Code.NOT_FOUND,
    errors.NotSupported: Code.UNIMPLEMENTED,
    errors.SelfDial: Code.INVALID_ARGUMENT,
    errors.Unreachable: Code.UNAVAILABLE,
    errors.WrongPeer: Code.FAILED_PRECONDITION,
    errors.WrongNetwork: Code.FAILED_PRECONDITION,
    errors.PeerBanned: Code.FAILED_PRECONDITION,
    errors.ResourceExhausted: Code.RESOURCE_EXHAUSTED,
    errors.Closed: Code.UNAVAILABLE,
    errors.StreamReset: Code.ABORTED,
    errors.DeadlineExceeded: Code.DEADLINE_EXCEEDED,
    errors.AlreadyExists: Code.ALREADY_EXISTS,
    errors.Outdated: Code.FAILED_PRECONDITION,
    errors.Refused: Code.FAILED_PRECONDITION,
    errors.ProtocolError: Code.UNAVAILABLE,
    errors.WrongPrivateNetwork: Code.FAILED_PRECONDITION,
    TopicOptionsDiffer: Code.FAILED_PRECONDITION,
    Unauthenticated: Code.UNAUTHENTICATED,
    PermissionDenied: Code.PERMISSION_DENIED,
}

# Seconds after which trying again makes sense; a class without a row has no RetryInfo.
RETRY: dict[type[errors.SidecarError], float] = {
    errors.QueueFull: 0.1,  # a guess: the time in which a healthy queue drains
    errors.TooManyConnections: 5.0,
    errors.DialBackoff: 5.0,
}

# The dialler makes up for these, so apps have no class of their own for them, and see the one that they are a kind of.
_NAMED_AS: dict[type[errors.SidecarError], type[errors.SidecarError]] = {
    errors.SimultaneousOpen: errors.HandshakeError,
}


def code(error: errors.SidecarError) -> Code:
    """The canonical code of an error."""
    return next(CODES[kind] for kind in type(error).__mro__ if kind in CODES)


def reason(error: errors.SidecarError) -> str:
    """The error's class in capitals, as google.rpc.ErrorInfo wants it: QUEUE_FULL."""
    if type(error) is errors.SidecarError:
        return "INTERNAL_ERROR"
    kind = _NAMED_AS.get(type(error), type(error))
    return re.sub(r"(?<!^)(?=[A-Z])", "_", kind.__name__).upper()


def status_details(error: errors.SidecarError) -> bytes:
    """The google.rpc.Status that travels in the trailing metadata."""
    field = None
    cause = error
    if isinstance(error, InvalidField):
        field, cause = error.field, error.error
    if isinstance(cause, QuotaExceeded):
        retry = cause.retry
    else:
        retry = next((RETRY[kind] for kind in type(cause).__mro__ if kind in RETRY), None)
    return _packed(
        code(error),
        str(error),
        reason=reason(cause),
        domain=DOMAIN,
        field=field,
        description=str(cause),
        retry=retry,
        metadata=cause.metadata if isinstance(cause, PermissionDenied | QuotaExceeded) else {},
    )


def _packed(
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
