"""`sidecar.v1.NodeService`."""

from typing import Any

from ..process.logs import LEVELS
from .bridge import Mesh
from .convert import node as convert
from .convert import values
from .errors import OPEN, Context

_ENTRIES = 100  # of the log, in a response


class NodeService:
    """The node itself; every method as its schema says."""

    def __init__(self, mesh: Mesh) -> None:
        self._mesh = mesh

    async def get_node(self, request: Any, context: Context) -> object:
        mesh = self._mesh
        return convert.node(
            peer_id=mesh.node.peer_id,
            network=mesh.node.network,
            agent=mesh.agent,
            addresses=mesh.node.addresses(),
            started=mesh.started,
            now=mesh.now(),
            epoch_ns=mesh.epoch_ns,
        )

    async def get_readiness(self, request: Any, context: Context) -> object:
        return convert.readiness(self._mesh.node.conditions(), self._mesh.epoch_ns)

    async def watch_readiness(self, request: Any, context: Context) -> None:
        with self._mesh.watching_readiness() as watcher:
            await context.send_initial_metadata(OPEN)
            while True:
                await context.write(convert.readiness_event(self._mesh.node.conditions(), self._mesh.epoch_ns))
                await watcher.ready.wait()
                watcher.check()

    async def get_statistics(self, request: Any, context: Context) -> object:
        return convert.statistics(self._mesh.statistics(), self._mesh.histograms())

    async def get_configuration(self, request: Any, context: Context) -> object:
        return convert.configuration(self._mesh.settings())

    async def watch_events(self, request: Any, context: Context) -> None:
        journal = self._mesh.log.journal
        with self._mesh.watching_log() as watcher:
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
        log = self._mesh.log
        if not log.has_part(request.part):
            known = "lines of the log begin with their part, such as net.runtime; net is all of net"
            raise values.invalid("part", f"the log has no part {request.part[:40]!r}; {known}")
        if request.level not in LEVELS and not (request.part and not request.level):
            raise values.invalid("level", f"{request.level[:40]!r} is none of {', '.join(LEVELS)}")
        log.levels.set(request.part, request.level)
        self._mesh.changed("log.level_changed", part=request.part or None, level=request.level or None)
        return convert.log_levels(*log.levels.shown())
