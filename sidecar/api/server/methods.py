"""The methods of all services, each in what every call goes through. Nothing here is of an RPC library."""

import functools
import re
from collections.abc import Iterable
from typing import Any, NamedTuple

from ..common.call import Call, Handler
from ..common.calls import Calls
from ..common.lifetime import Lifetime
from ..guard.gate import TokenGate
from ..service import ApiService
from . import schema
from .answering import answered
from .callers import Callers


class ServedMethod(NamedTuple):
    """A method as the schemas have it, and what answers its calls."""

    method: schema.Method
    handler: Handler


def served_methods(
    services: Iterable[ApiService], gate: TokenGate, callers: Callers, calls: Calls, lifetime: Lifetime
) -> dict[str, list[ServedMethod]]:
    """Full service name -> its methods. Outside in: counted and answered, noted, guarded, refused while draining."""
    by_name = {f"sidecar.v1.{type(service).__name__}": service for service in services}

    def served(name: str, method: schema.Method) -> ServedMethod:
        service = by_name[name]
        handler: Handler = getattr(service, re.sub(r"(?<!^)(?=[A-Z])", "_", method.name).lower())
        if not service.serves_while_draining:
            handler = _refusing(handler, lifetime)
        streaming = method.client_streaming or method.server_streaming
        guarded = gate.guarded(f"{name.rpartition('.')[2]}/{method.name}", handler, streaming=streaming)
        return ServedMethod(method, answered(callers.noted(guarded), calls.of(name, method.name, stream=streaming)))

    return {name: [served(name, method) for method in methods] for name, methods in schema.services().items()}


def _refusing(handler: Handler, lifetime: Lifetime) -> Handler:
    """Wrap a service's method so that no call begins once the sidecar drains."""

    @functools.wraps(handler)
    async def accepted(request: Any, call: Call) -> Any:
        lifetime.check_accepting()
        return await handler(request, call)

    return accepted
