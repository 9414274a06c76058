"""`sidecar.v1.NodeService`."""

from typing import Any

from ...process.logs import LEVELS
from ..backend import Backend
from ..common import values
from ..common.status import OPEN, Context
from . import convert as convert

_ENTRIES = 100  # of the log, in a response


class NodeService:
    """The node itself; every method as its schema says."""

    def __init__(self, backend: Backend) -> None:
        self._backend = backend

    async def get_node(self, request: Any, context: Context) -> object:
        backend = self._backend
        return convert.node(
            peer_id=backend.node.peer_id,
            network=backend.node.network,
            agent=backend.agent,
            addresses=backend.node.addresses(),
            started=backend.started,
            now=backend.now(),
            epoch_ns=backend.epoch_ns,
        )

    async def get_readiness(self, request: Any, context: Context) -> object:
        return convert.readiness(self._backend.conditions(), self._backend.epoch_ns)

    async def watch_readiness(self, request: Any, context: Context) -> None:
        with self._backend.watching_readiness() as watcher:
            await context.send_initial_metadata(OPEN)
            while True:
                await context.write(convert.readiness_event(self._backend.conditions(), self._backend.epoch_ns))
                await watcher.ready.wait()
                watcher.check()

    async def get_statistics(self, request: Any, context: Context) -> object:
        return convert.statistics(self._backend.statistics(), self._backend.histograms())

    async def get_configuration(self, request: Any, context: Context) -> object:
        return convert.configuration(self._backend.settings())

    async def watch_events(self, request: Any, context: Context) -> None:
        journal = self._backend.log.journal
        with self._backend.watching_log() as watcher:
            position = journal.oldest
            await context.send_initial_metadata(OPEN)
            while True:
                entries, position, missed = journal.since(position, _ENTRIES)
                if entries:
                    await context.write(convert.log_entries(entries, missed))
                    continue
                watcher.check()
                await watcher.ready.wait()

    async def set_log_level(self, request: Any, context: Context) -> object:
        log = self._backend.log
        if not log.has_part(request.part):
            known = "lines of the log begin with their part, such as net.runtime; net is all of net"
            raise values.invalid("part", f"the log has no part {request.part[:40]!r}; {known}")
        if request.level not in LEVELS and not (request.part and not request.level):
            raise values.invalid("level", f"{request.level[:40]!r} is none of {', '.join(LEVELS)}")
        log.levels.set(request.part, request.level)
        self._backend.changed("log.level_changed", part=request.part or None, level=request.level or None)
        return convert.log_levels(*log.levels.shown())
