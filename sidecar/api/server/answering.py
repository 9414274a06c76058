"""How a call is answered: a service's method within, a status without."""

import asyncio
import functools
import logging
from collections.abc import AsyncIterator
from typing import Any

from ...core.errors import InvalidArgument, SidecarError
from ..common.call import Call, Handler
from ..common.calls import MethodCalls
from ..common.status import Code, code
from .schema import Malformed

_log = logging.getLogger("sidecar.api.errors")


async def _wellformed(requests: AsyncIterator[Any]) -> AsyncIterator[Any]:
    async for request in requests:
        if isinstance(request, Malformed):
            raise InvalidArgument(request.message)
        yield request


def answered(handler: Handler, counted: MethodCalls) -> Handler:
    """Wrap a service's method so that errors become statuses: typed ones by the table, others INTERNAL and logged.

    `counted` is told of each call and how it ended.
    """

    @functools.wraps(handler)
    async def answer(request: Any, call: Call) -> Any:
        begun = counted.begin()
        ended = Code.INTERNAL
        try:
            counted.check()
            if isinstance(request, Malformed):
                raise InvalidArgument(request.message)
            response = await handler(_wellformed(request) if isinstance(request, AsyncIterator) else request, call)
            ended = Code.OK
            return response
        except SidecarError as error:
            ended = code(error)
            await call.fail(error)
        except asyncio.CancelledError:
            ended = Code.DEADLINE_EXCEEDED if call.time_left() == 0 else Code.CANCELLED
            raise
        except Exception as error:  # noqa: BLE001 - a task boundary: a broken call must not hide in the library's own log
            if call.lost(error):
                ended = Code.CANCELLED
                raise asyncio.CancelledError from None
            if call.over():
                ended = Code.CANCELLED
                return None
            _log.exception("%s failed", getattr(handler, "__qualname__", handler))
            await call.fail(SidecarError("internal error; the sidecar's log has it"))
        finally:
            counted.end(begun, ended)

    return answer
