"""grpc.health.v1, which orchestrators ask: the truth about each part."""

import asyncio
from collections.abc import Mapping
from typing import Any

from grpc_health.v1 import health_pb2

from ...core.errors import Closed, NotFound
from ..common.call import Call

SERVICE = health_pb2.DESCRIPTOR.services_by_name["Health"]

_Status = health_pb2.HealthCheckResponse


class Health:
    """The answers of the health service; its methods are those of the schema."""

    def __init__(self) -> None:
        self._serving: dict[str, bool] = {"": True}
        self._changed = asyncio.Event()  # set and replaced at each change
        self._leaving = self._closed = False

    def tell(self, parts: Mapping[str, bool]) -> None:
        """Answer from now on that these parts serve or do not."""
        told = self._serving if self._leaving else {**self._serving, **parts}
        if told != self._serving:
            self._serving = told
            self._wake()

    def leave(self) -> None:
        """Answer from now on that no part serves."""
        self.tell(dict.fromkeys(self._serving, False))
        self._leaving = True

    def close(self) -> None:
        """End what watches."""
        self._closed = True
        self._wake()

    def _wake(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()

    def _status(self, serves: bool) -> Any:
        return _Status.SERVING if serves else _Status.NOT_SERVING

    # ------------------------------------------------------------ its methods

    async def check(self, request: Any, call: Call) -> Any:
        """Whether a part serves. Raises NotFound."""
        serves = self._serving.get(request.service)
        if serves is None:
            raise NotFound(f"there is no part {request.service[:100]!r}, only {', '.join(map(repr, self._serving))}")
        return _Status(status=self._status(serves))

    async def list(self, request: Any, call: Call) -> Any:
        """Which parts serve."""
        statuses = {part: _Status(status=self._status(serves)) for part, serves in self._serving.items()}
        return health_pb2.HealthListResponse(statuses=statuses)

    async def watch(self, request: Any, call: Call) -> None:
        """Whether a part serves, again whenever that changes."""
        told = None
        while not self._closed:
            changed = self._changed
            serves = self._serving.get(request.service)
            status = _Status.SERVICE_UNKNOWN if serves is None else self._status(serves)
            if status != told:
                await call.write(_Status(status=status))
                told = status
            else:
                await changed.wait()
        raise Closed("the sidecar is stopping")
