"""Where gRPC asks about each call before its first message is read."""

import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import grpc

from ...core.errors import ResourceExhausted, SidecarError
from ...core.override import override
from ..guard.gate import TokenGate
from .grpc_call import Context, GrpcCall

_OPEN = ("/grpc.health.v1.Health/", "/grpc.reflection.")
MAX_STRANGERS = 256  # a guess: more than anybody who watches the health of one sidecar has

_log = logging.getLogger("sidecar.api.guard.gate")


class Door(grpc.aio.ServerInterceptor):
    """Lets the gate look at who calls. Health and reflection are open to all, but only so many streams of them."""

    def __init__(self, gate: TokenGate) -> None:
        """`gate`: tells callers apart."""
        self._gate = gate
        self._strangers = 0  # streams of health and reflection

    @override
    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Any]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Any:
        method: Any = handler_call_details.method
        if not method.startswith(_OPEN):
            try:
                self._gate.admit(handler_call_details.invocation_metadata or ())
            except SidecarError as error:
                return _refusal(error)
            return await continuation(handler_call_details)
        handler = await continuation(handler_call_details)
        return self._bounded(handler) if handler is not None and handler.response_streaming else handler

    def _bounded(self, handler: Any) -> Any:
        """A stream that takes no token: only so many are open at once, or strangers could take every call there is."""
        answer: Any = handler.stream_stream or handler.unary_stream

        async def bounded(request: Any, context: Context) -> None:
            if self._strangers >= MAX_STRANGERS:
                error = ResourceExhausted(f"{self._strangers} such streams are open, at most that many")
                await GrpcCall(context).fail(error)
            self._strangers += 1
            try:
                answering = answer(request, context)
                if isinstance(answering, AsyncIterator):
                    async for response in answering:
                        await context.write(response)
                else:
                    await answering
            finally:
                self._strangers -= 1

        return handler._replace(**{"stream_stream" if handler.request_streaming else "unary_stream": bounded})


def _refusal(error: SidecarError) -> Any:
    """A handler that ends any call, and reads none of its messages."""

    async def refuse(requests: object, context: Context) -> None:
        _log.warning("refused a call from %s: %s", context.peer(), error)
        await GrpcCall(context).fail(error)

    return grpc.stream_stream_rpc_method_handler(refuse)
