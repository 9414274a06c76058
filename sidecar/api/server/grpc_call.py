"""gRPC's calls as the services know them."""

from collections.abc import Awaitable, Callable
from typing import Any, NoReturn

import grpc

from ...core.errors import SidecarError
from ..common.call import Handler, Metadata
from ..common.status import Code, code, status_details

Context = grpc.aio.ServicerContext[Any, Any]

_CODES = {Code(status.value[0]): status for status in grpc.StatusCode}


class GrpcCall:
    """A call of gRPC's asyncio server."""

    __slots__ = ("_context", "begin", "write")

    def __init__(self, context: Context) -> None:
        """`context`: what gRPC gives to a method beside the request."""
        self._context = context
        # As they are: a coroutine around them would cost every response.
        self.begin: Callable[[Metadata], Awaitable[None]] = context.send_initial_metadata
        self.write: Callable[[Any], Awaitable[None]] = context.write

    @property
    def peer(self) -> str:
        """As gRPC names it: `unix:`, `ipv4:127.0.0.1:40312`."""
        return self._context.peer()

    @property
    def metadata(self) -> Metadata:
        """What the app has sent beside its request."""
        found: Any = self._context.invocation_metadata()
        return found or ()

    def time_left(self) -> float | None:
        """Seconds until the app's deadline; gRPC has 0 when it has passed."""
        return self._context.time_remaining()

    def over(self) -> bool:
        """Whether gRPC has told that the call has ended; it raises on writing to it."""
        return self._context.cancelled() or self._context.done()

    def lost(self, error: Exception) -> bool:
        """Whether writing failed, for the caller is gone.

        gRPC cancels such a call as well, a moment later where the process is short of CPU; until then the context knows
        nothing of it, and a status could not be sent.
        """
        return isinstance(error, grpc.aio.InternalError)

    async def fail(self, error: SidecarError) -> NoReturn:
        """End it with the error's status and its details; raises what tells gRPC so."""
        details = (("grpc-status-details-bin", status_details(error)),)
        text = str(error).strip(" ")  # gRPC sends it as it is, and a header with a space at an end is malformed
        await self._context.abort(_CODES[code(error)], text, details)
        raise AssertionError("gRPC raises")


def taking(handler: Handler) -> Callable[[Any, Context], Awaitable[Any]]:
    """A method for gRPC that hands its calls to the handler as the services know them."""

    async def method(request: Any, context: Context) -> Any:  # `async`, or gRPC would call it in a thread
        return await handler(request, GrpcCall(context))

    return method
