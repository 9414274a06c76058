"""The HTTP server of `metrics.listen`, and what feeds it."""

import logging
from collections.abc import Callable

from ..api.backend import Backend
from ..net.statistics import NetStatistics
from .health import ReadyPage, live
from .http import HttpServer

_log = logging.getLogger(__name__)


class Observer:
    """Serves `/metrics`, `/live` and `/ready`, to whoever reaches the address: it asks for no credentials."""

    def __init__(self, listen: str, max_topics: int) -> None:
        """`listen`: host:port, an IPv6 host in brackets."""
        host, _, port = listen.rpartition(":")
        self._host, self._port = host.strip("[]"), int(port)
        self._max_topics = max_topics
        self._server: HttpServer | None = None

    async def start(self, backend: Backend, net: Callable[[], NetStatistics]) -> str:
        """Serve; `net` counts the driver. Returns the URL without a path. Raises AddressInUse."""
        # Here and not above: a sidecar without metrics does not pay for them.
        from .metrics import Metrics

        metrics = Metrics(backend, net, self._max_topics)
        server = HttpServer({"/metrics": metrics.page, "/live": live, "/ready": ReadyPage(backend).page})
        address = await server.start(self._host, self._port)
        self._server = server
        _log.info("metrics, liveness and readiness at http://%s/metrics, /live and /ready", address)
        return f"http://{address}"

    async def stop(self) -> None:
        """Nothing happens where it has not been started."""
        if self._server is not None:
            await self._server.stop()
