"""Writing to calls whose requests are given as bytes."""

import asyncio
import sys
from typing import Any

from . import _rpc
from ._failure import OwnCall, UnwrittenError

__all__ = ["UnwrittenError", "ended", "write"]


def ended() -> tuple[type[BaseException], ...]:
    """What `write` and the call's own methods raise when the call has ended; reading tells why."""
    found = (*_rpc.failures(), UnwrittenError)
    if "grpc" not in sys.modules:
        return found
    from grpc._cython import cygrpc  # type: ignore[attr-defined]  # compiled, without types

    return (*found, asyncio.InvalidStateError, cygrpc.InternalError)


async def write(call: Any, request: bytes, *, first: bool) -> None:
    """As the call's own `write`, but for one thing.

    Where the call has ended and Python does not know yet, that of gRPC's library puts "Internal error from Core" in the
    place of the status on its way, and nobody would ever learn why it ended: that the peer has reset the stream, say.
    So all but the first request, which waits for the call to begin, go to the layer below.
    """
    if isinstance(call, OwnCall):
        try:
            await call.write(request)
        except asyncio.CancelledError:
            call.cancel()  # as gRPC's does: half a message has perhaps left
            raise
    elif first:
        await call.write(request)
    elif call.done():
        raise UnwrittenError
    else:
        try:
            await call._cython_call.send_serialized_message(request)
        except asyncio.CancelledError:
            call.cancel()  # as `write` does: half a message has perhaps left
            raise
