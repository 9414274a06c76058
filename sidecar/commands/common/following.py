"""What the commands share that go on looking at a running sidecar."""

import argparse
import asyncio
from collections.abc import Awaitable, Callable

import sidecar_client

from ...board.board import Board
from .client import perform, target


def following(options: argparse.Namespace, period: float, look: Callable[[Board], Awaitable[int]]) -> int:
    """Look at the sidecar every `period` seconds, over its restarts, for as long as `look` takes; errors as in `talk`.

    A sidecar that is not there in the beginning is an error, one that goes later is what the board tells of.
    """

    async def follow() -> int:
        place = target(options)
        board = Board(lambda: sidecar_client.connect(place, wait=0, reconnect=False), period)
        looking = asyncio.ensure_future(look(board))
        running = asyncio.create_task(board.run(), name="board")
        try:
            await asyncio.wait((looking, running), return_when=asyncio.FIRST_COMPLETED)
            if running.done():
                running.result()  # raises
            return await looking
        finally:
            for task in (looking, running):
                task.cancel()
            await asyncio.gather(looking, running, return_exceptions=True)

    return perform(follow)
