"""Whether what an app has given can be what it is to be. Raises InvalidArgument, which names the field."""

import math
from collections.abc import Callable
from enum import IntEnum
from typing import Any, TypeVar

from google.protobuf.timestamp_pb2 import Timestamp

from .errors import InvalidArgument

Made = TypeVar("Made")
_EARLIEST, _LATEST = -62_135_596_800, 253_402_300_799  # Unix seconds, as Timestamp has them


def request(kind: Callable[..., Made], **fields: Any) -> Made:
    """A request with these fields: a number may be out of range, a text may have half of a surrogate pair."""
    try:
        return kind(**fields)
    except (TypeError, ValueError):
        for name, value in fields.items():
            try:
                kind(**{name: value})
            except UnicodeEncodeError:
                raise _not_utf8(value, name) from None
            except (TypeError, ValueError) as error:
                raise InvalidArgument(f"{name} is {value!r}: {error}", field=name) from None
        raise


def _not_utf8(value: object, field: str) -> InvalidArgument:
    return InvalidArgument(f"{field} is {value!r}: it has what is not UTF-8", field=field)


def text(value: str, field: str) -> bytes:
    """In UTF-8."""
    try:
        return value.encode()
    except UnicodeEncodeError:
        raise _not_utf8(value, field) from None


def seconds(value: float | None, field: str) -> None:
    """From 0 on, or None."""
    if value is not None and not value >= 0:
        raise InvalidArgument(f"{field} is {value}, at least 0", field=field)


def nanoseconds(value: float, field: str) -> int:
    """Of seconds from 0 on, as many as protobuf's Duration holds."""
    seconds(value, field)
    if value > 315_576_000_000:
        raise InvalidArgument(f"{field} is {value} s, at most 10,000 years", field=field)
    return int(value * 1e9)


def moment(value: float, field: str) -> Timestamp:
    """Of Unix seconds."""
    try:
        whole = math.floor(value)
        if not _EARLIEST <= whole <= _LATEST:
            raise OverflowError("beyond the years 1 to 9999")
        return Timestamp(seconds=whole, nanos=int((value - whole) * 1e9))
    except (TypeError, ValueError, OverflowError) as error:
        raise InvalidArgument(f"{field} is {value!r}, and no Unix seconds: {error}", field=field) from None


def member(kind: type[IntEnum], value: int, field: str) -> int:
    """Of an enumeration."""
    if value not in [int(one) for one in kind]:  # `kind(value)` makes 0 of what it does not know
        known = ", ".join(one.name for one in kind)
        raise InvalidArgument(f"{field} is {value!r}, one of {known}", field=field)
    return int(value)
