"""What the two engines have in common: calls with the same methods, and errors with the same.

gRPC's library is not imported for this: where it is not the engine, it costs memory and time to load. A call's `read`
gives something false at its end; messages are true.
"""

import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from google.protobuf.message_factory import GetMessageClass

from ._failure import CallFailed
from .codes import Code

if TYPE_CHECKING:
    import grpc


def failures(*more: type[BaseException]) -> tuple[type[BaseException], ...]:
    """What a call raises that ended with another status than OK, and more to be caught."""
    aio = sys.modules.get("grpc.aio")
    return (CallFailed, *more) if aio is None else (CallFailed, aio.AioRpcError, *more)


def number(code: Any) -> Code:
    """A code of either engine."""
    return code if isinstance(code, Code) else Code(code.value[0])


def status_code(code: Code) -> "grpc.StatusCode":
    """A code as gRPC's library has it, which is imported for it."""
    import grpc

    return next(found for found in grpc.StatusCode if found.value[0] == code)


async def failure(call: Any) -> Exception:
    """What reading a call would raise that has failed."""
    code = await call.code()
    if isinstance(code, Code):
        return CallFailed(code, await call.details(), await call.trailing_metadata())
    import grpc

    return grpc.aio.AioRpcError(
        code, await call.initial_metadata(), await call.trailing_metadata(), await call.details()
    )


def stub(channel: Any, schema: Any, service: str) -> Any:
    """What is generated for gRPC's library: the methods of a service. `schema`: the module of its messages."""
    return _Stub(channel, schema, service)


class _Stub:
    def __init__(self, channel: Any, schema: Any, service: str) -> None:
        found = schema.DESCRIPTOR.services_by_name[service]
        for method in found.methods:
            kind = "_".join(
                "stream" if many else "unary" for many in (method.client_streaming, method.server_streaming)
            )
            make: Callable[..., Any] = getattr(channel, kind)
            called = make(
                f"/{found.full_name}/{method.name}",
                request_serializer=GetMessageClass(method.input_type).SerializeToString,
                response_deserializer=GetMessageClass(method.output_type).FromString,
            )
            setattr(self, method.name, called)
