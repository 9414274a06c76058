"""The engines, and which one a client takes. Each is imported only there: both cost memory and time to load."""

import os
from importlib.util import find_spec
from typing import Any, Literal, Protocol, get_args

from ._security import Credentials
from .errors import InvalidArgument

Engine = Literal["auto", "grpcio", "http2"]
VARIABLE = "SIDECAR_CLIENT_ENGINE"
_PACKAGE = "ngh2"


class Channel(Protocol):
    """The way to a sidecar. One that nobody holds any more, no call either, closes by itself."""

    @property
    def methods(self) -> Any:
        """What stubs are made of: `unary_unary`, `unary_stream`, `stream_unary`, `stream_stream`."""

    async def until_lost(self) -> None:
        """Return at the end of the present connection, at once where there is none."""

    async def close(self) -> None:
        """End all calls, and close it."""


def chosen(given: str | None) -> str:
    """`grpcio`, which `auto` means, or `http2`: as given, else as the environment says. Raises InvalidArgument."""
    wanted = given or os.environ.get(VARIABLE) or "auto"
    if wanted not in get_args(Engine):
        source = "" if given else f" ({VARIABLE})"
        raise InvalidArgument(f"engine is {wanted!r}{source}, one of {', '.join(get_args(Engine))}", field="engine")
    if wanted in ("grpcio", "auto"):
        return "grpcio"
    there = find_spec(_PACKAGE) is not None
    if wanted == "http2" and not there:
        raise InvalidArgument(
            'engine is "http2", which takes a package: install p2p-sidecar-client[http2], or say "grpcio"',
            field="engine",
        )
    return "http2"


def opened(engine: str, address: str, credentials: Credentials | None) -> Channel:
    """A channel of that engine; it connects when a call wants it."""
    if engine == "http2":
        from .http2.channel import Http2Channel

        return Http2Channel(address, None if credentials is None else credentials.context)
    from ._grpc_channel import GrpcChannel

    return GrpcChannel(address, credentials)
