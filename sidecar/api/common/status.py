"""The one table from errors to gRPC status codes, and how a call ends with one."""

import asyncio
import functools
import logging
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from typing import Any

import grpc
from google.protobuf.duration_pb2 import Duration
from google.rpc.error_details_pb2 import BadRequest, ErrorInfo, RetryInfo
from google.rpc.status_pb2 import Status

from ...core import errors
from ..server.schema import Malformed
from .calls import MethodCalls
from .faults import InvalidField, PermissionDenied, QuotaExceeded, TopicOptionsDiffer, Unauthenticated

DOMAIN = "sidecar"
Context = grpc.aio.ServicerContext[Any, Any]
Handler = Callable[[Any, Context], Awaitable[Any]]

OPEN = (("sidecar-stream", "open"),)  # initial metadata of a stream that is in force; one that is refused has none
_MAX_REQUEST = "sidecar-max-request"

_log = logging.getLogger(__name__)
_Code = grpc.StatusCode

# The nearest ancestor counts, so each error has exactly one row.
CODES: dict[type[errors.SidecarError], grpc.StatusCode] = {
    errors.SidecarError: _Code.INTERNAL,
    errors.ConfigError: _Code.FAILED_PRECONDITION,
    errors.IdentityError: _Code.FAILED_PRECONDITION,
    errors.InvalidPeerId: _Code.INVALID_ARGUMENT,
    errors.InvalidMultiaddr: _Code.INVALID_ARGUMENT,
    errors.InvalidArgument: _Code.INVALID_ARGUMENT,
    errors.TooLarge: _Code.INVALID_ARGUMENT,
    errors.StateLocked: _Code.FAILED_PRECONDITION,
    errors.AddressInUse: _Code.FAILED_PRECONDITION,
    errors.StorageError: _Code.INTERNAL,
    errors.NotFound: _Code.NOT_FOUND,
    errors.NotSupported: _Code.UNIMPLEMENTED,
    errors.SelfDial: _Code.INVALID_ARGUMENT,
    errors.Unreachable: _Code.UNAVAILABLE,
    errors.WrongPeer: _Code.FAILED_PRECONDITION,
    errors.WrongNetwork: _Code.FAILED_PRECONDITION,
    errors.PeerBanned: _Code.FAILED_PRECONDITION,
    errors.ResourceExhausted: _Code.RESOURCE_EXHAUSTED,
    errors.Closed: _Code.UNAVAILABLE,
    errors.StreamReset: _Code.ABORTED,
    errors.DeadlineExceeded: _Code.DEADLINE_EXCEEDED,
    errors.AlreadyExists: _Code.ALREADY_EXISTS,
    errors.Outdated: _Code.FAILED_PRECONDITION,
    errors.Refused: _Code.FAILED_PRECONDITION,
    errors.ProtocolError: _Code.UNAVAILABLE,
    errors.WrongPrivateNetwork: _Code.FAILED_PRECONDITION,
    TopicOptionsDiffer: _Code.FAILED_PRECONDITION,
    Unauthenticated: _Code.UNAUTHENTICATED,
    PermissionDenied: _Code.PERMISSION_DENIED,
}

# Seconds after which trying again makes sense; a class without a row has no RetryInfo.
RETRY: dict[type[errors.SidecarError], float] = {
    errors.QueueFull: 0.1,  # a guess: the time in which a healthy queue drains
    errors.TooManyConnections: 5.0,
    errors.DialBackoff: 5.0,
}


def opening(max_request: int) -> tuple[tuple[str, str], ...]:
    """Initial metadata of a stream that takes batches: beside `OPEN` how many bytes one of its requests may have."""
    return (*OPEN, (_MAX_REQUEST, str(max_request)))


def code(error: errors.SidecarError) -> grpc.StatusCode:
    """The canonical code of an error."""
    return next(CODES[kind] for kind in type(error).__mro__ if kind in CODES)


def reason(error: errors.SidecarError) -> str:
    """The error's class in capitals, as google.rpc.ErrorInfo wants it: QUEUE_FULL."""
    if type(error) is errors.SidecarError:
        return "INTERNAL_ERROR"
    return re.sub(r"(?<!^)(?=[A-Z])", "_", type(error).__name__).upper()


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
        code(error).value[0],
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


async def abort(context: Context, error: errors.SidecarError) -> None:
    """End the call with the error's status; does not return."""
    await context.abort(code(error), str(error), (("grpc-status-details-bin", status_details(error)),))


async def _wellformed(requests: AsyncIterator[Any]) -> AsyncIterator[Any]:
    async for request in requests:
        if isinstance(request, Malformed):
            raise errors.InvalidArgument(request.message)
        yield request


def answered(handler: Handler, counted: MethodCalls) -> Handler:
    """Wrap a service's method so that errors become statuses: typed ones by the table, others INTERNAL and logged.

    `counted` is told of each call and how it ended.
    """

    @functools.wraps(handler)
    async def call(request: Any, context: Context) -> Any:
        begun = counted.begin()
        ended = _Code.INTERNAL
        try:
            counted.check()
            if isinstance(request, Malformed):
                raise errors.InvalidArgument(request.message)
            answer = await handler(_wellformed(request) if isinstance(request, AsyncIterator) else request, context)
            ended = _Code.OK
            return answer
        except errors.SidecarError as error:
            ended = code(error)
            await abort(context, error)
        except asyncio.CancelledError:
            ended = _Code.DEADLINE_EXCEEDED if context.time_remaining() == 0 else _Code.CANCELLED
            raise
        except grpc.aio.InternalError:
            # Writing failed, for the caller is gone. gRPC cancels such a call as well, a moment later where the process
            # is short of CPU; until then the context knows nothing of it, and a status could not be sent.
            raise asyncio.CancelledError from None
        except Exception:  # noqa: BLE001 - a call is a task boundary: one broken call must not hide in grpc's own logging
            if context.cancelled() or context.done():  # the reader is gone: grpc raises on writing to it
                ended = _Code.CANCELLED
                return None
            _log.exception("%s failed", getattr(handler, "__qualname__", handler))
            await abort(context, errors.SidecarError("internal error; the sidecar's log has it"))
        finally:
            counted.end(begun, ended)
        return None

    return call
