"""Some sidecars that know each other."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence
from functools import partial

from bench.chaos.node import Node
from bench.chaos.traffic import until_true


def history(topic: str) -> tuple[str, ...]:
    """The flags that have a node keep the history of a topic."""
    return ("--history-topics", topic)


@contextlib.asynccontextmanager
async def mesh(nodes: Sequence[Node]) -> AsyncIterator[None]:
    """Start nodes, each of which is told of two others, also when it starts again; ended at the end."""
    started: list[Node] = []
    try:
        for number, node in enumerate(nodes):
            flags = list(node.flags)
            node.flags += _bootstrap(nodes[max(0, number - 2) : number])
            await node.start()
            started.append(node)
            node.flags = flags
        for number, node in enumerate(nodes):
            node.flags += _bootstrap([nodes[(number + step) % len(nodes)] for step in (1, 2)])
        for node in nodes:
            if not await until_true(partial(_knows, node, len(nodes) - 1)):
                raise RuntimeError(f"{node.home.name} does not find the others")
        yield
    finally:
        await asyncio.gather(*(node.stop() for node in started))


async def connected(one: Node, other: Node) -> bool:
    """Whether a node has a connection to another."""
    async with one.connect() as client:
        return any([peer.peer_id == other.peer_id async for peer in client.peers(connected_only=True)])


def _bootstrap(others: Sequence[Node]) -> list[str]:
    return [word for other in others for word in ("--bootstrap", other.address)]


async def _knows(node: Node, others: int) -> bool:
    async with node.connect() as client:
        return len([peer async for peer in client.peers(connected_only=True)]) >= others
