"""`sidecar.v1.NodeService`."""

from typing import Any

from .bridge import Mesh
from .convert import node as convert
from .errors import OPEN, Context


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
        return convert.statistics(self._mesh.statistics())
