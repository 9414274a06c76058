"""One call of an app, as the services know it. Nothing here is of an RPC library: `api/server` has what is."""

from collections.abc import Awaitable, Callable, Sequence
from typing import Any, NoReturn, Protocol

from ...core.errors import SidecarError

Metadata = Sequence[tuple[str, str | bytes]]

OPEN: Metadata = (("sidecar-stream", "open"),)  # before the first response of a stream that is in force
_MAX_REQUEST = "sidecar-max-request"
_CARRIER = "sidecar-carrier"


def opening(max_request: int) -> Metadata:
    """What a stream that takes batches or bytes begins with: beside `OPEN` the bytes that a request of it may have."""
    return (*OPEN, (_MAX_REQUEST, str(max_request)))


def carrying(max_request: int, key: str) -> Metadata:
    """What a stream begins with that carries byte streams: also what AcceptStreams names it by."""
    return (*opening(max_request), (_CARRIER, key))


class Call(Protocol):
    """A call that is being answered, in a task of its own, which is cancelled when the app is gone or waits no longer.

    A response is a message of the schemas, or its bytes where it was encoded by hand.
    """

    @property
    def peer(self) -> str:
        """Where the app calls from, such as `unix:` or `ipv4:127.0.0.1:40312`."""

    @property
    def metadata(self) -> Metadata:
        """What the app has sent beside its request."""

    def time_left(self) -> float | None:
        """Seconds until the app's deadline, 0 when it has passed; None where the app has set none."""

    def begin(self, metadata: Metadata) -> Awaitable[None]:
        """Tell the app, before the first response, that its call has been taken on."""

    def write(self, response: Any) -> Awaitable[None]:
        """Write one of a stream's responses; returns when the next may be made."""

    def over(self) -> bool:
        """Whether it is known to have ended, so that no status can be told any more."""

    def lost(self, error: Exception) -> bool:
        """Whether an error only says that nobody is there to be written to."""

    async def fail(self, error: SidecarError) -> NoReturn:
        """End it with the error's status."""


Handler = Callable[[Any, Call], Awaitable[Any]]
"""A method of a service: takes its request, or an iterator of them, and gives its response where it is a single one."""
