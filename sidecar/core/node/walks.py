"""Operations of apps that are answered by a walk through the DHT."""

from .kademlia import KademliaService
from .operations import Operations


class Walks:
    """The walks of a service's operations: one each, which ends when its operation does."""

    def __init__(self, kademlia: KademliaService, operations: Operations) -> None:
        self._kademlia = kademlia
        self._operations = operations
        self._walks: dict[int, int] = {}  # operation -> number for `KademliaService.stop`

    def begin(self, op: int, walk: int) -> None:
        """The operation is answered by this walk, or by what comes of it."""
        self._walks[op] = walk

    def complete(self, op: int, result: object) -> None:
        """Answer the operation; its walk has ended by itself."""
        self._walks.pop(op, None)
        self._operations.complete(op, result)

    def cancel(self, op: int, now: float) -> None:
        """The operation is not wanted any more: end its walk."""
        walk = self._walks.pop(op, None)
        if walk is not None:
            self._kademlia.stop(walk, now)
