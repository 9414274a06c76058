"""The engines, and which one serves. Each is imported only where it does: both cost memory and time to load."""

from importlib.util import find_spec

from ...core.errors import ConfigError
from .engine import MakeEngine

BINDING = "ngh2"
"""The package that the engine `http2` takes."""


def can_choose_http2() -> bool:
    """Whether the package for it is installed."""
    return find_spec(BINDING) is not None


def chosen(wanted: str) -> tuple[str, MakeEngine]:
    """The engine's name and how it is made, for what the configuration says. Raises ConfigError where it is missing."""
    there = can_choose_http2()
    if wanted == "http2" and not there:
        raise ConfigError(
            f'api.engine is "http2", which takes the package {BINDING}: install it, or set api.engine to "grpcio"'
        )
    if wanted == "grpcio" or not there:
        from .grpc_server import GrpcServer

        return "grpcio", GrpcServer
    from .http2.server import Http2Server

    return "http2", Http2Server
