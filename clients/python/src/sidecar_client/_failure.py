"""What calls of the client's own engine raise, and how they are told from others."""

from collections.abc import Sequence

from .codes import Code

Metadata = Sequence[tuple[str, str | bytes]]


class OwnCall:
    """Base of our own engine's calls, by which they are told from those of gRPC's library."""

    __slots__ = ()

    async def write(self, message: bytes) -> None:
        """Send a message; returns when there is room for more. Raises UnwrittenError, CallFailed."""
        raise NotImplementedError

    def cancel(self) -> bool:
        """End it; False where it is over already. From any thread."""
        raise NotImplementedError


class UnwrittenError(Exception):
    """The call had ended before anything of the message left."""


class CallFailed(Exception):
    """A call that ended with a status other than OK; it offers what gRPC's own error does."""

    def __init__(self, code: Code, details: str, trailers: Metadata = (), *, reached: bool = True) -> None:
        super().__init__(code, details)
        self._code = code
        self._details = details
        self._trailers = trailers
        self.reached = reached
        """Whether the server may have seen the call."""

    def __str__(self) -> str:
        return f"{self._code.name}: {self._details}"

    def code(self) -> Code:
        """The status."""
        return self._code

    def details(self) -> str:
        """Its text."""
        return self._details

    def trailing_metadata(self) -> Metadata:
        """What came with it."""
        return self._trailers
