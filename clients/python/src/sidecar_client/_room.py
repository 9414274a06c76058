"""How much is under way in the client: where the sidecar hangs or is slow, it is the callers that wait, not their data.

Each of publishing, sending and asking has a Room. Who comes when it is full waits, in order, as long as it would wait
for the sidecar.
"""

import asyncio
from collections import OrderedDict

from .errors import SidecarError

MOST = 32 << 20
"""Bytes that are under way at once."""
COST = 512
"""Bytes that a message counts beside its data, about what it takes: so 65,536 are under way at most."""


class Room:
    """Room for `MOST` bytes.

    To enter where `used` and the message's cost are at most `MOST` and nobody waits, add the cost to `used`: a call for
    it would cost every message 3 %. Whoever has entered leaves.
    """

    def __init__(self) -> None:
        self.used = 0
        self.waiting: OrderedDict[asyncio.Future[None], int] = OrderedDict()  # who waits, and for how much

    async def enter(self, cost: int, timeout: float | None) -> float | None:
        """Wait for room; how many seconds of `timeout` are left. Raises TimeoutError, and the error of `close`."""
        loop = asyncio.get_running_loop()
        begun = loop.time()
        mine: asyncio.Future[None] = loop.create_future()
        self.waiting[mine] = cost
        try:
            async with asyncio.timeout(timeout):
                await mine
        except BaseException:
            if self.waiting.pop(mine, None) is not None:
                self.admit()  # perhaps there is room enough for those behind
            elif not mine.cancelled() and mine.exception() is None:
                self.leave(cost)  # it was let in at the same time
            raise
        return None if timeout is None else max(0.0, begun + timeout - loop.time())

    def leave(self, cost: int) -> None:
        self.used -= cost
        if self.waiting:
            self.admit()

    def admit(self) -> None:
        """Let in who waits, as far as there is room."""
        while self.waiting:
            first, cost = next(iter(self.waiting.items()))
            if self.used + cost > MOST:
                return
            del self.waiting[first]
            if not first.done():  # else its caller has just given up
                self.used += cost
                first.set_result(None)

    def close(self, error: SidecarError) -> None:
        """Whoever waits gets this error."""
        while self.waiting:
            future, _ = self.waiting.popitem(last=False)
            if not future.done():
                future.set_exception(error.again())


def cost_of(data: bytes) -> int:
    """What a message counts. One that is larger than all there is takes all."""
    return min(len(data) + COST, MOST)
