"""Records and providers on their way to the peers that are to keep them."""

from collections import deque
from collections.abc import Callable, Sequence

from ..classes import NamedTuple
from ..errors import DeadlineExceeded, ProtocolError, SidecarError
from ..parameters.kademlia import KademliaConfig
from .events import CancelQuery, KademliaEffect, PeerAddresses, SendQuery, StoreCompleted
from .messages import MessageType, decode_answer
from .table import RoutingTable, note_failure


class StoreDelivery:
    """One message for several peers. `value`: what a peer's answer to a PUT_VALUE must repeat; None: ADD_PROVIDER.

    `op`: who is told of the end; None: nobody.
    """

    __slots__ = ("asked", "frame", "in_flight", "op", "stored", "value", "waiting")

    def __init__(self, op: int | None, frame: bytes, value: bytes | None, peers: Sequence[PeerAddresses]) -> None:
        self.op = op
        self.frame = frame
        self.value = value
        self.waiting = deque(peers)
        self.in_flight: dict[int, None] = {}
        self.asked = len(peers)
        self.stored = 0


class _Query(NamedTuple):
    delivery: StoreDelivery
    peer: PeerAddresses
    deadline: float


class StoreDeliveries:
    """Runs at most `max_deliveries`, each with at most alpha messages in flight."""

    __slots__ = ("_config", "_number", "_queries", "_running", "_table", "failed", "refused")

    def __init__(self, config: KademliaConfig, table: RoutingTable, number: Callable[[], int]) -> None:
        """`number` gives the numbers of queries."""
        self._config = config
        self._table = table
        self._number = number
        self._running: dict[StoreDelivery, None] = {}
        self._queries: dict[int, _Query] = {}  # in the order of their deadlines
        self.failed = 0
        self.refused = 0  # not begun, since too many were running

    def __len__(self) -> int:
        return len(self._running)

    @property
    def in_flight(self) -> int:
        """Messages that were sent and not answered yet."""
        return len(self._queries)

    def begin(self, delivery: StoreDelivery, now: float, effects: list[KademliaEffect]) -> bool:
        """Send it; False when too many are running."""
        if len(self._running) >= self._config.max_deliveries:
            self.refused += 1
            return False
        self._running[delivery] = None
        self._advance(delivery, now, effects)
        return True

    def cancel(self, op: int, effects: list[KademliaEffect]) -> None:
        """Send no more of it."""
        for delivery in [delivery for delivery in self._running if delivery.op == op]:
            del self._running[delivery]
            for number in delivery.in_flight:
                del self._queries[number]
                effects.append(CancelQuery(number))

    def answered(self, number: int, frame: bytes, now: float, effects: list[KademliaEffect]) -> bool:
        """Whether the number is that of a message here; if so, the peer's answer is taken."""
        query = self._queries.pop(number, None)
        if query is None:
            return False
        self._table.seen(query.peer[0], now)
        delivery = query.delivery
        if delivery.value is None or _repeated(frame, delivery.value, self._config):
            delivery.stored += 1
        else:
            self.failed += 1
        del delivery.in_flight[number]
        self._advance(delivery, now, effects)
        return True

    def query_failed(self, number: int, error: SidecarError, now: float, effects: list[KademliaEffect]) -> bool:
        """Whether the number is that of a message here; if so, it came to nothing."""
        query = self._queries.pop(number, None)
        if query is None:
            return False
        self.failed += 1
        note_failure(self._table, query.peer[0], error, refusable=True)
        del query.delivery.in_flight[number]
        self._advance(query.delivery, now, effects)
        return True

    def next_deadline(self) -> float | None:
        """When the oldest message in flight times out, in monotonic seconds."""
        return next(iter(self._queries.values())).deadline if self._queries else None

    def handle_deadline(self, now: float, effects: list[KademliaEffect]) -> None:
        """Give up what was not answered in time."""
        for number in [number for number, query in self._queries.items() if query.deadline <= now]:
            effects.append(CancelQuery(number))
            error = DeadlineExceeded(f"no answer within {self._config.query_timeout} s")
            self.query_failed(number, error, now, effects)

    def _advance(self, delivery: StoreDelivery, now: float, effects: list[KademliaEffect]) -> None:
        while delivery.waiting and len(delivery.in_flight) < self._config.alpha:
            peer, addresses = delivery.waiting.popleft()
            number = self._number()
            self._queries[number] = _Query(delivery, (peer, addresses), now + self._config.query_timeout)
            delivery.in_flight[number] = None
            effects.append(SendQuery(number, peer, addresses, delivery.frame, delivery.value is not None))
        if not delivery.in_flight:
            del self._running[delivery]
            if delivery.op is not None:
                effects.append(StoreCompleted(delivery.op, delivery.stored, delivery.asked))


def _repeated(frame: bytes, value: bytes, config: KademliaConfig) -> bool:
    """Whether an answer to PUT_VALUE repeats the value, as go- and js-libp2p demand of one another."""
    try:
        record = decode_answer(frame, MessageType.PUT_VALUE, config).record
    except ProtocolError:
        return False
    return record is not None and record.value == value
