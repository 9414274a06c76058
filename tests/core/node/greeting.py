"""A toy protocol, as somebody would add one: a peer is greeted, and says its name for this."""

from typing import NamedTuple

from ..errors import Closed, SidecarError
from ..types import PeerId
from .dialling import Dialling
from .operations import Operations
from .service import Service
from .switch import Peer, SimpleHandler, Stream, Switch

GREETING = "/greeting/1"


class GreetingRequested(NamedTuple):
    """Greet a peer. Result: what it answered, as bytes."""

    op: int
    peer: PeerId


class GreetingService(SimpleHandler, Service[GreetingRequested]):
    """Greets, and answers greetings."""

    name = "greeting"

    def __init__(self, switch: Switch, dialling: Dialling, operations: Operations) -> None:
        self._switch = switch
        self._dialling = dialling
        self._operations = operations
        self._greeted = 0
        switch.register(GREETING, self)

    def handle(self, arrived: GreetingRequested, now: float) -> None:
        def reached(result: Peer | SidecarError, now: float) -> None:
            if isinstance(result, SidecarError):
                self._operations.complete(arrived.op, result)
            else:
                self._switch.open_stream(result.best, (GREETING,), self, arrived)

        if self._operations.begin(arrived.op):
            self._dialling.reach(arrived.peer, (), reached, now, search=True)

    def opened(self, stream: Stream, now: float) -> None:
        if stream.state is None:
            self._greeted += 1
            self._switch.write(stream, b"hello from " + str(self._switch.local).encode())
        self._switch.close_write(stream)

    def received(self, stream: Stream, data: bytes, now: float) -> None:
        if isinstance(stream.state, GreetingRequested):
            self._operations.complete(stream.state.op, data)

    def failed(self, state: object, error: SidecarError, now: float) -> None:
        if isinstance(state, GreetingRequested):
            self._operations.complete(state.op, error)

    def closed(self, stream: Stream, error: SidecarError, now: float) -> None:
        self.failed(stream.state, Closed(f"greeting: {error}"), now)
