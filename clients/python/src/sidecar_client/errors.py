"""Typed errors, one for each reason that the sidecar gives.

SidecarError
├── SidecarUnavailable      no sidecar answers at the target
├── InvalidArgument         malformed input; `field` names it
│   ├── InvalidPeerId
│   ├── InvalidMultiaddr
│   ├── SelfDial            the peer named is this node itself
│   └── TooLarge
├── NotFound
├── AlreadyExists
├── NotSupported            nobody serves that protocol there
├── Unreachable             the peer did not answer
│   ├── NoAddresses
│   ├── DialTimeout
│   ├── DialBackoff
│   └── NoQuorum            fewer peers than asked for took a record
├── Closed                  the connection ended, or the sidecar stops
│   └── StreamReset
├── ProtocolError           the peer broke a protocol
│   ├── FrameTooLarge
│   ├── HandshakeError
│   │   ├── HandshakeTimeout
│   │   └── WrongPrivateNetwork
│   ├── KeepAliveTimeout
│   └── WriteStalled
├── WrongPeer               another key answered
├── WrongNetwork            the peer belongs to another network
├── PeerBanned              the sidecar refuses the peer or its address
├── Unauthenticated         the token is missing or wrong
├── PermissionDenied        the token does not allow the call
├── Outdated                a better value of the record is known already
├── Refused                 the app there refused; its reason is the message
├── TopicOptionsDiffer      the topic is in use with another signing
├── ResourceExhausted       a bound is reached
│   ├── QueueFull
│   ├── TooManyConnections
│   ├── SlowReader          a subscription ended, as its policy wants
│   ├── WorkExceeded        the peer was sent away for needless work
│   └── QuotaExceeded       the token has used up one of its quotas
├── DeadlineExceeded
├── FailedPrecondition      any other state that forbids the call
└── InternalError           the sidecar failed; its log says more
    └── StorageError
"""

import re
from typing import TYPE_CHECKING, Any, Self

from google.protobuf.message import DecodeError
from google.rpc.error_details_pb2 import BadRequest, ErrorInfo, RetryInfo
from google.rpc.status_pb2 import Status

from . import _rpc
from .codes import Code

if TYPE_CHECKING:
    import grpc

_DETAILS = "grpc-status-details-bin"


class SidecarError(Exception):
    """Any error of the client. `str(error)` is a sentence for a person.

    `reason` is the sidecar's word for it (QUEUE_FULL), `field` the malformed field's name, `retry_after` seconds
    after which trying again makes sense; `code` is the gRPC status code and `status` the google.rpc.Status with all
    details. Each is None where not given, the last two where the client itself found the error.
    """

    def __init__(
        self,
        message: str,
        *,
        reason: str | None = None,
        field: str | None = None,
        retry_after: float | None = None,
        code: "grpc.StatusCode | Code | None" = None,
        status: Status | None = None,
    ) -> None:
        super().__init__(message)
        self.reason = reason
        self.field = field
        self.retry_after = retry_after
        self._code = None if code is None else _rpc.number(code)
        self.status = status

    @property
    def code(self) -> "grpc.StatusCode | None":
        """The gRPC status code."""
        return None if self._code is None else _rpc.status_code(self._code)

    def again(self, message: str | None = None) -> Self:
        """The same error as another object, for another caller; with other words, if given."""
        return type(self)(
            str(self) if message is None else message,
            reason=self.reason,
            field=self.field,
            retry_after=self.retry_after,
            code=self._code,
            status=self.status,
        )


class SidecarUnavailable(SidecarError):
    """No sidecar answers at the target, or the connection to it was lost during the call."""

    reached = True
    """Whether the call may have reached the sidecar."""

    def again(self, message: str | None = None) -> Self:
        """The same error as a new exception, with `reached`."""
        other = super().again(message)
        other.reached = self.reached
        return other


class InvalidArgument(SidecarError):
    """Malformed input; `field` names it."""


class InvalidPeerId(InvalidArgument):
    """A text that is no peer id."""


class InvalidMultiaddr(InvalidArgument):
    """A text that is no multiaddr."""


class SelfDial(InvalidArgument):
    """The peer named is this node itself."""


class TooLarge(InvalidArgument):
    """A payload over its limit."""


class NotFound(SidecarError):
    """No such peer or record."""


class AlreadyExists(SidecarError):
    """Somebody else serves it already."""


class NotSupported(SidecarError):
    """Nobody serves that protocol there, or the sidecar does not have that method."""


class Unreachable(SidecarError):
    """The peer did not answer."""


class NoAddresses(Unreachable):
    """No address of the peer is known."""


class DialTimeout(Unreachable):
    """No address of the peer answered in time."""


class DialBackoff(Unreachable):
    """The peer failed a moment ago and is not tried again yet."""


class NoQuorum(Unreachable):
    """Fewer peers than asked for took a record."""


class Closed(SidecarError):
    """The connection ended, or the sidecar or this client is closing."""


class StreamReset(Closed):
    """The peer reset the stream."""


class ProtocolError(SidecarError):
    """The peer broke a protocol."""


class FrameTooLarge(ProtocolError):
    """A frame over its limit."""


class HandshakeError(ProtocolError):
    """Securing the connection failed."""


class HandshakeTimeout(HandshakeError):
    """The peer did not finish the handshake in time."""


class WrongPrivateNetwork(HandshakeError):
    """The peer does not seem to have the key of the sidecar's private network."""


class KeepAliveTimeout(ProtocolError):
    """The peer stopped answering."""


class WriteStalled(ProtocolError):
    """The peer stopped reading."""


class WrongPeer(SidecarError):
    """Another key answered than the one that was dialled."""


class WrongNetwork(SidecarError):
    """The peer belongs to another network."""


class PeerBanned(SidecarError):
    """The sidecar refuses the peer or its address: banned, on a deny list, or not on an allow list."""


class Unauthenticated(SidecarError):
    """The token is missing or wrong."""


class PermissionDenied(SidecarError):
    """The token does not allow the call."""


class Outdated(SidecarError):
    """A better value of the record, by its namespace's rule, is known already."""


class Refused(SidecarError):
    """The app at the peer refused; its reason is the message. A serving handler raises it to refuse."""


class TopicOptionsDiffer(SidecarError):
    """The topic is in use at this node with another signing."""


class ResourceExhausted(SidecarError):
    """A bound is reached."""


class QueueFull(ResourceExhausted):
    """A bounded queue is full."""


class TooManyConnections(ResourceExhausted):
    """A bound on connections is reached."""


class SlowReader(ResourceExhausted):
    """A subscription ended, as its policy wants, since its reader was too slow."""


class WorkExceeded(ResourceExhausted):
    """The peer was sent away for needless work, and is refused for a while."""


class QuotaExceeded(ResourceExhausted):
    """The token has used up one of its quotas."""


class DeadlineExceeded(SidecarError):
    """It was not done in time."""


class FailedPrecondition(SidecarError):
    """The state of something forbids the call."""


class InternalError(SidecarError):
    """The sidecar failed; its log says more."""


class StorageError(InternalError):
    """The sidecar's disk refused."""


_BY_CODE: dict[Code, type[SidecarError]] = {
    Code.INVALID_ARGUMENT: InvalidArgument,
    Code.NOT_FOUND: NotFound,
    Code.ALREADY_EXISTS: AlreadyExists,
    Code.UNIMPLEMENTED: NotSupported,
    Code.UNAVAILABLE: SidecarUnavailable,
    Code.FAILED_PRECONDITION: FailedPrecondition,
    Code.RESOURCE_EXHAUSTED: ResourceExhausted,
    Code.DEADLINE_EXCEEDED: DeadlineExceeded,
    Code.CANCELLED: Closed,
    Code.UNAUTHENTICATED: Unauthenticated,
    Code.PERMISSION_DENIED: PermissionDenied,
}


def _tree(kind: type[SidecarError]) -> list[type[SidecarError]]:
    return [kind, *(below for child in kind.__subclasses__() for below in _tree(child))]


def _reason(kind: type[SidecarError]) -> str:
    return re.sub(r"(?<!^)(?=[A-Z])", "_", kind.__name__).upper()


BY_REASON: dict[str, type[SidecarError]] = {_reason(kind): kind for kind in _tree(SidecarError)}


_NUMBERS = frozenset(Code)

# What gRPC itself says of a call that it never sent: tests hold that the pinned version does.
_UNREACHED = ("failed to connect to all addresses", "errors resolving ")


def from_rpc(error: Any) -> SidecarError:
    """The typed error of a failed call, of either engine."""
    code = _rpc.number(error.code())
    found = _failure(code, error.details() or code.name, _status(error))
    if isinstance(found, SidecarUnavailable) and not getattr(error, "reached", True):
        found.reached = False
    return found


def from_status(encoded: bytes) -> SidecarError:
    """The typed error of an encoded google.rpc.Status: what one of many requests on a call ended with."""
    status = Status.FromString(encoded)
    code = Code(status.code) if status.code in _NUMBERS else Code.UNKNOWN
    return _failure(code, status.message or code.name, status)


def _failure(code: Code, message: str, status: Status | None) -> SidecarError:
    reason = field = retry_after = None
    for detail in status.details if status is not None else ():
        info, request, retry = ErrorInfo(), BadRequest(), RetryInfo()
        if detail.Unpack(info):
            reason = info.reason
        elif detail.Unpack(request) and request.field_violations:
            field = request.field_violations[0].field
        elif detail.Unpack(retry):
            retry_after = retry.retry_delay.ToNanoseconds() / 1e9
    kind = BY_REASON.get(reason or "") or _BY_CODE.get(code, InternalError)
    if reason is None and kind is ResourceExhausted and "larger than max" in message:
        kind = TooLarge  # gRPC itself refuses what is over the sidecar's bound on calls
    if reason is None and code is Code.INTERNAL and "Internal error from Core" in message:
        kind = SidecarUnavailable  # what grpc.aio makes of writing to a connection that was lost a moment ago
    failure = kind(message, reason=reason, field=field, retry_after=retry_after, code=code, status=status)
    if isinstance(failure, SidecarUnavailable):
        failure.reached = not message.startswith(_UNREACHED)
    return failure


def _status(error: Any) -> Status | None:
    for key, value in error.trailing_metadata() or ():
        if key == _DETAILS and isinstance(value, bytes):
            try:
                return Status.FromString(value)
            except DecodeError:
                break  # not ours; the code and text are enough
    return None
