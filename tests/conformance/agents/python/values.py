"""What travels on the lines: payloads, digests, times, errors, and the library's values."""

import asyncio
import base64
import dataclasses
import enum
import hashlib
from collections.abc import Iterable, Iterator
from typing import Any

from sidecar_client import Message, SidecarError

INLINE = 1024  # bytes of a payload that are shown; of a longer one only its digest
_TIMES = {
    "uptime",
    "start_time",
    "since",
    "latency",
    "create_time",
    "expire_time",
    "connect_time",
    "path_time",
    "last_success",
    "last_failure",
    "receive_time",
    "next_announcement",
    "expires_at",
    "time",
    "time_left",
    "delay",
    "round_trip",
    "oldest_time",
    "complete_since",
    "complete_until",
}
_TEXTS = {"message_id", "cursor"}


def generated(seed: str, number: int, size: int) -> bytes:
    return hashlib.shake_128(f"{seed}/{number}".encode()).digest(size)


def payload(given: Any) -> bytes:
    """A payload as the runner gives it."""
    return base64.b64decode(given) if isinstance(given, str) else generated(given["seed"], 0, given["size"])


def payloads(request: dict[str, Any]) -> Iterator[bytes]:
    """Those of `messages` or `run`, one by one."""
    run = request.get("run")
    if run is None:
        yield from map(payload, request["messages"])
    else:
        for number in range(run["count"]):
            yield generated(run["seed"], number, run["size"])


def shown(data: bytes) -> Any:
    """A payload as the runner wants it."""
    if len(data) <= INLINE:
        return base64.b64encode(data).decode()
    return {"size": len(data), "sha256": hashlib.sha256(data).hexdigest()}


class Digest:
    """The digest of several byte strings."""

    def __init__(self) -> None:
        self._hash = hashlib.sha256()

    def add(self, data: bytes) -> None:
        self._hash.update(len(data).to_bytes(4, "big"))
        self._hash.update(data)

    def hex(self) -> str:
        return self._hash.hexdigest()


def digest(items: Iterable[bytes]) -> str:
    whole = Digest()
    for item in items:
        whole.add(item)
    return whole.hex()


def plain(value: Any) -> Any:
    """A value of the library: its fields, enums by name, times in milliseconds, bytes in base64."""
    if isinstance(value, enum.Enum):
        return value.name
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    if isinstance(value, Message):
        return _fields({name: getattr(value, name) for name in Message.__match_args__})
    if isinstance(value, tuple) and hasattr(value, "_asdict"):
        return _fields(value._asdict())
    if dataclasses.is_dataclass(value):
        return _fields({field.name: getattr(value, field.name) for field in dataclasses.fields(value)})
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    return value


def _fields(values: dict[str, Any]) -> dict[str, Any]:
    found = {}
    for name, value in values.items():
        if name in _TIMES:
            found[f"{name}_ms"] = None if value is None else value * 1000
        elif isinstance(value, bytes) and name not in _TEXTS:
            found[name] = shown(value)
        else:
            found[name] = plain(value)
    return found


def described(error: BaseException) -> dict[str, Any]:
    """An error as the runner wants it."""
    if isinstance(error, asyncio.CancelledError):
        return {"type": "Cancelled", "kinds": ["Cancelled"], "message": ""}
    if not isinstance(error, SidecarError):
        name = type(error).__name__
        return {"type": name, "kinds": [name], "message": str(error)}
    kinds = [kind.__name__ for kind in type(error).__mro__ if issubclass(kind, SidecarError)]
    code = getattr(error, "code", None)
    return {
        "type": kinds[0],
        "kinds": kinds,
        "message": str(error),
        "reason": error.reason,
        "field": error.field,
        "retry_after_ms": None if error.retry_after is None else error.retry_after * 1000,
        "code": getattr(code, "name", code),
    }
