"""Text, times and bounds of single fields, with errors that name the field."""

from collections.abc import Callable, Iterable, Sequence
from functools import lru_cache
from typing import TypeVar

from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp

from ...core.errors import InvalidArgument, InvalidMultiaddr, InvalidPeerId, SidecarError
from ...core.multiaddr import Multiaddr
from ...core.networks import Network
from ...core.traceparent import wellformed
from ...core.types import PeerId
from .faults import InvalidField

Value = TypeVar("Value")

MAX_PROTOCOL = 256  # bytes
_MAX_ADDRESS_TEXT = 2048
_MAX_REQUEST_ID = 64


def _read(field: str, parse: Callable[[str], Value], text: str) -> Value:
    try:
        return parse(text)
    except (InvalidPeerId, InvalidMultiaddr, InvalidArgument) as error:
        raise InvalidField(field, error) from None


# Apps name the same few peers again and again, and base58 costs more than all other fields of a request.
_peer_id = lru_cache(maxsize=256)(PeerId.from_text)


def peer_id(text: str, field: str = "peer_id") -> PeerId:
    """Raises InvalidField."""
    return _read(field, _peer_id, text)


def network(text: str, field: str = "network") -> Network:
    """An IP address or network. Raises InvalidField."""
    return _read(field, Network.from_text, text)


def addresses(texts: Sequence[str], limit: int, field: str = "addresses") -> tuple[Multiaddr, ...]:
    """Raises InvalidField."""
    if len(texts) > limit:
        raise InvalidField(field, InvalidArgument(f"{len(texts)} addresses, at most {limit}"))
    for index, text in enumerate(texts):
        if len(text) > _MAX_ADDRESS_TEXT:
            raise InvalidField(f"{field}[{index}]", InvalidArgument(f"{len(text)} characters, at most 2048"))
    return tuple(_read(f"{field}[{index}]", Multiaddr.from_text, text) for index, text in enumerate(texts))


def name(text: str, limit: int, field: str) -> str:
    """A topic's or protocol's name. Raises InvalidField."""
    size = len(text.encode())
    if not 0 < size <= limit:
        raise InvalidField(field, InvalidArgument(f"a name of {size} bytes, from 1 to {limit}"))
    if not text.isprintable():
        raise InvalidField(field, InvalidArgument("a name has printable characters only"))
    return text


def names(texts: Iterable[str], most: int, limit: int, field: str) -> tuple[str, ...]:
    """Some names, each once. Raises InvalidField."""
    given = tuple(dict.fromkeys(texts))
    if not 0 < len(given) <= most:
        raise InvalidField(field, InvalidArgument(f"{len(given)} names, from 1 to {most}"))
    return tuple(name(text, limit, f"{field}[{index}]") for index, text in enumerate(given))


def remark(text: str, limit: int, field: str) -> str:
    """A text for people, perhaps empty. Raises InvalidField."""
    return name(text, limit, field) if text else ""


def request_id(text: str, field: str = "request_id") -> str:
    """Raises InvalidField."""
    if len(text.encode()) > _MAX_REQUEST_ID:
        raise InvalidField(field, InvalidArgument(f"{len(text.encode())} bytes, at most {_MAX_REQUEST_ID}"))
    return text


def traceparent(text: str, field: str = "traceparent") -> str:
    """Raises InvalidField."""
    if text and not wellformed(text):
        raise InvalidField(field, InvalidArgument("not a traceparent of W3C Trace Context"))
    return text


def bounded(value: int, limit: int, field: str) -> int:
    """Raises InvalidField."""
    if value > limit:
        raise InvalidField(field, InvalidArgument(f"{value}, at most {limit}"))
    return value


def between(value: float, low: float, high: float, field: str) -> float:
    """A number from `low` to `high`. Raises InvalidField."""
    if not low <= value <= high:
        raise InvalidField(field, InvalidArgument(f"{value:g}, from {low:g} to {high:g}"))
    return value


def invalid(field: str, error: SidecarError | str) -> InvalidField:
    """The error that says that this field is wrong."""
    return InvalidField(field, InvalidArgument(error) if isinstance(error, str) else error)


def seconds(value: Duration, limit: float, field: str) -> float:
    """A duration of 0 to `limit` seconds. Raises InvalidField."""
    given = value.seconds + value.nanos / 1e9
    if not 0 <= given <= limit:
        raise InvalidField(field, InvalidArgument(f"{given:g} seconds, from 0 to {limit:g}"))
    return given


def duration(seconds: float) -> Duration:
    """A duration as the schemas have it."""
    value = Duration()
    value.FromNanoseconds(int(seconds * 1e9))
    return value


def wall_time(moment: float, epoch_ns: int) -> Timestamp:
    """The wall clock's time of a monotonic moment; `epoch_ns` is what it showed when the monotonic one stood at 0."""
    value = Timestamp()
    value.FromNanoseconds(epoch_ns + int(moment * 1e9))
    return value


def unix_time(seconds: float) -> Timestamp:
    """The time of so many seconds since 1970."""
    value = Timestamp()
    value.FromMicroseconds(int(seconds * 1e6))
    return value
