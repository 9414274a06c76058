"""Where gRPC asks about each call before its first message is read."""

import logging
from collections.abc import Awaitable, Callable, Iterable
from typing import Any

import grpc

from ...core.errors import SidecarError
from ...core.override import override
from ..guard.gate import TokenGate
from .grpc_call import Context, GrpcCall

_log = logging.getLogger("sidecar.api.guard.gate")


class Door(grpc.aio.ServerInterceptor):
    """Lets the gate look at who calls."""

    def __init__(self, gate: TokenGate, open_to_all: Iterable[str]) -> None:
        """`gate`: tells callers apart. `open_to_all`: services whose callers nobody looks at, by full name."""
        self._gate = gate
        self._open = tuple(f"/{service}/" for service in open_to_all)

    @override
    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Any]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Any:
        method: Any = handler_call_details.method
        if not method.startswith(self._open):
            try:
                self._gate.admit(handler_call_details.invocation_metadata or ())
            except SidecarError as error:
                return _refusal(error)
        return await continuation(handler_call_details)


def _refusal(error: SidecarError) -> Any:
    """A handler that ends any call, and reads none of its messages."""

    async def refuse(requests: object, context: Context) -> None:
        _log.warning("refused a call from %s: %s", context.peer(), error)
        await GrpcCall(context).fail(error)

    return grpc.stream_stream_rpc_method_handler(refuse)
