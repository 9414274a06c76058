"""What the ways to ask a gateway have in common: what goes out, what comes in, and what comes of it."""

from collections.abc import Sequence
from typing import ClassVar

from ..classes import NamedTuple
from ..errors import SidecarError
from ..override import override
from .http import HttpAnswer
from .statistics import PortMappingStatistics

_FIRST = 0.25  # seconds until a datagram is sent again; each pause is twice as long; RFC 6886, section 3.1
_TRIES = (
    4  # so that it is given up after 3.75 s; RFC 6886 has nine, which take 2 minutes, but others are to be tried too
)
LEAST_LIFETIME = 10.0  # seconds; what ends sooner could not be kept: renewals are at least 4 s apart; a guess
MOST_LIFETIME = 86_400.0  # seconds that are believed; RFC 6887, section 15 suggests it as the most


class Gateway(NamedTuple):
    """Whom to ask: the IP address of the gateway, and that of this machine toward it.

    `link`: the number of the interface that leads there, where the address is one of a link (IPv6).
    """

    host: str
    own: str
    link: int = 0


class Datagram(NamedTuple):
    """To be sent by UDP."""

    host: str
    port: int
    data: bytes


class GatewayRequest(NamedTuple):
    """To be made by TCP, over a connection of its own; the answer is handed back with `number`."""

    number: int
    host: str
    port: int
    data: bytes


class Granted(NamedTuple):
    """The gateway's `external_port` leads to the `port` of this machine, for `lifetime` seconds."""

    port: int
    host: str
    external_port: int
    lifetime: float


class Denied(NamedTuple):
    """The gateway does not map the port; `wait`: seconds for which it says that this stays so."""

    port: int
    reason: str
    wait: float = 0.0


class NotSpoken(NamedTuple):
    """The gateway does not answer, or does not speak this protocol."""

    reason: str


class Restarted(NamedTuple):
    """The gateway has begun anew since it was asked last, and may have forgotten all mappings."""


Outcome = Granted | Denied | NotSpoken | Restarted


class AskingMethod:
    """One way to ask; the usual answers."""

    name: ClassVar[str]

    def __init__(self, gateway: Gateway, counts: PortMappingStatistics) -> None:
        self.gateway = gateway
        self.counts = counts
        self.datagrams: list[Datagram] = []  # to be sent
        self.requests: list[GatewayRequest] = []  # to be made

    def ask(self, port: int, external_port: int, lifetime: float, now: float) -> None:
        """Have the port mapped, or a mapping renewed; `external_port` is what would be liked."""
        raise NotImplementedError

    def release(self, port: int, external_port: int, now: float) -> None:
        """Have a mapping removed; `busy` until the gateway has answered."""
        raise NotImplementedError

    @property
    def busy(self) -> bool:
        """Whether an answer is waited for."""
        raise NotImplementedError

    def receive_datagram(self, data: bytes, now: float) -> Sequence[Outcome]:
        """A datagram from the gateway."""
        return ()

    def receive_answer(self, number: int, answer: HttpAnswer | SidecarError, now: float) -> Sequence[Outcome]:
        """The answer to an HTTP request, or why there is none: a ProtocolError where it is malformed."""
        return ()

    def unreachable(self, now: float) -> Sequence[Outcome]:
        """Nothing listens where the datagrams go."""
        return ()

    def next_deadline(self) -> float | None:
        """When `handle_deadline` wants to be called."""
        raise NotImplementedError

    def handle_deadline(self, now: float) -> Sequence[Outcome]:
        """Do what is due."""
        raise NotImplementedError


class _Pending:
    __slots__ = ("data", "due", "pause", "tries")

    def __init__(self, data: bytes, now: float) -> None:
        self.data = data
        self.tries = 1
        self.pause = _FIRST
        self.due = now + _FIRST


class DatagramAsking(AskingMethod):
    """Requests that are datagrams to the gateway's port 5351, repeated until they are answered."""

    port: ClassVar[int] = 5351  # RFC 6886, section 3.1; RFC 6887, section 19.1

    def __init__(self, gateway: Gateway, counts: PortMappingStatistics) -> None:
        super().__init__(gateway, counts)
        self._pending: dict[int, _Pending] = {}  # by the port that it is about; 0: none
        self._releasing: dict[int, None] = {}

    @property
    @override
    def busy(self) -> bool:
        return bool(self._pending)

    def _send(self, key: int, data: bytes, now: float) -> None:
        self._pending[key] = _Pending(data, now)
        self._transmit(data)

    def _transmit(self, data: bytes) -> None:
        self.counts.requests += 1
        self.datagrams.append(Datagram(self.gateway.host, self.port, data))

    def _answered(self, key: int) -> bool:
        """Whether it was asked for, and no answer was there; else it is a stray."""
        if self._pending.pop(key, None) is None:
            self.counts.strays += 1
            return False
        return True

    @override
    def unreachable(self, now: float) -> Sequence[Outcome]:
        if not self._pending:
            return ()
        return self._give_up("nothing listens there")

    @override
    def next_deadline(self) -> float | None:
        return min((pending.due for pending in self._pending.values()), default=None)

    @override
    def handle_deadline(self, now: float) -> Sequence[Outcome]:
        for pending in self._pending.values():
            if pending.due > now:
                continue
            if pending.tries == _TRIES:
                return self._give_up("no answer")
            pending.tries += 1
            pending.pause *= 2
            pending.due = now + pending.pause
            self._transmit(pending.data)
        return ()

    def _give_up(self, reason: str) -> Sequence[Outcome]:
        """One that is not answered says it of all: they go to the same place."""
        self.counts.unanswered += len(self._pending)
        told = any(key not in self._releasing for key in self._pending)
        self._pending.clear()
        self._releasing.clear()
        return (NotSpoken(reason),) if told else ()


class EpochWatch:
    """Tells from the seconds that a gateway counts since it began whether it has begun anew (RFC 6887, section 8.5)."""

    __slots__ = ("_at", "_epoch")

    def __init__(self) -> None:
        self._epoch = -1
        self._at = 0.0

    def restarted(self, epoch: int, now: float) -> bool:
        """Whether it has begun anew since the last time; the first time says nothing."""
        before, passed = self._epoch, now - self._at
        self._epoch, self._at = epoch, now
        if before < 0:
            return False
        counted = epoch - before
        # Its clock may be off by a sixteenth, as datagrams may be late by two seconds.
        return counted < -1 or passed + 2 < counted - counted / 16 or counted + 2 < passed - passed / 16
