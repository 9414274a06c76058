"""Writing to calls whose requests are given as bytes."""

import asyncio
from typing import Any

import grpc
from grpc._cython import cygrpc  # type: ignore[attr-defined]  # compiled, without types


class UnwrittenError(Exception):
    """The call had ended before anything of the request left."""


ENDED = (grpc.aio.AioRpcError, asyncio.InvalidStateError, cygrpc.InternalError, UnwrittenError)
"""What `write` raises when the call has ended; reading tells why."""


async def write(call: Any, request: bytes, *, first: bool) -> None:
    """As the call's own `write`, but for one thing.

    Where the call has ended and Python does not know yet, that puts "Internal error from Core" in the place of the
    status on its way, and nobody would ever learn why it ended: that the peer has reset the stream, say. So all but the
    first request, which waits for the call to begin, go to the layer below.
    """
    if first:
        await call.write(request)
    elif call.done():
        raise UnwrittenError
    else:
        try:
            await call._cython_call.send_serialized_message(request)
        except asyncio.CancelledError:
            call.cancel()  # as `write` does: half a message has perhaps left
            raise
