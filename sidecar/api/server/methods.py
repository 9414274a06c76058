"""The methods of all services, each in what every call goes through. Nothing here is of an RPC library."""

import functools
import re
import sys
from collections.abc import Iterable
from typing import Any

from ...core.classes import NamedTuple
from ..common.call import Call, Handler
from ..common.calls import Calls
from ..common.lifetime import Lifetime
from ..guard.gate import TokenGate
from ..service import ApiService
from . import health, reflection, schema
from .answering import answered
from .callers import Callers
from .strangers import Strangers


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
        handler = _handler(service, method)
        if not service.serves_while_draining:
            handler = _refusing(handler, lifetime)
        streaming = method.client_streaming or method.server_streaming
        guarded = gate.guarded(f"{name.rpartition('.')[2]}/{method.name}", handler, streaming=streaming)
        return ServedMethod(method, answered(callers.noted(guarded), calls.of(name, method.name, stream=streaming)))

    return {name: [served(name, method) for method in methods] for name, methods in schema.services().items()}


def standard_methods(told: health.Health, served: Iterable[str]) -> dict[str, list[ServedMethod]]:
    """Those of health and reflection, which are open to all, so only so many of their streams are.

    They do not count as calls of apps. `served`: the names of the other services.
    """
    names = (*served, health.SERVICE.full_name, reflection.SERVICE.full_name)
    strangers = Strangers()
    uncounted = Calls(sys.maxsize)

    def standard(service: Any, name: str, method: schema.Method) -> ServedMethod:
        handler = _handler(service, method)
        if method.server_streaming:
            handler = strangers.bounded(handler)
        return ServedMethod(method, answered(handler, uncounted.of(name, method.name, stream=method.server_streaming)))

    return {
        descriptor.full_name: [
            standard(service, descriptor.full_name, method) for method in schema.methods_of(descriptor)
        ]
        for service, descriptor in ((told, health.SERVICE), (reflection.Reflection(names), reflection.SERVICE))
    }


def _handler(service: object, method: schema.Method) -> Handler:
    handler: Handler = getattr(service, re.sub(r"(?<!^)(?=[A-Z])", "_", method.name).lower())
    return handler


def _refusing(handler: Handler, lifetime: Lifetime) -> Handler:
    """Wrap a service's method so that no call begins once the sidecar drains."""

    @functools.wraps(handler)
    async def accepted(request: Any, call: Call) -> Any:
        lifetime.check_accepting()
        return await handler(request, call)

    return accepted
