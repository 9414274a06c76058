"""grpc.health.v1, which orchestrators ask: the truth about each part."""

from collections.abc import Mapping
from typing import Any

from grpc_health.v1 import health, health_pb2

HEALTH_SERVICE: str = health.SERVICE_NAME

_SERVING = health_pb2.HealthCheckResponse.SERVING
_NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING


class Health:
    """The answers of the health service."""

    def __init__(self) -> None:
        self.servicer: Any = health.aio.HealthServicer()
        """For gRPC's server."""

    async def tell(self, parts: Mapping[str, bool]) -> None:
        """Answer from now on that these parts serve or do not."""
        for part, serves in parts.items():
            await self.servicer.set(part, _SERVING if serves else _NOT_SERVING)

    async def leave(self) -> None:
        """Answer from now on that no part serves."""
        await self.servicer.enter_graceful_shutdown()
