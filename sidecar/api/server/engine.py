"""What the API's server asks of an engine: something that speaks gRPC to apps and calls the services."""

from collections.abc import Mapping, Sequence
from typing import Protocol

from ..config import ApiConfig
from ..guard.gate import TokenGate
from .certificates import Certificates
from .methods import ServedMethod
from .sockets import SocketPlace

Served = Mapping[str, Sequence[ServedMethod]]
"""Methods by full service name."""


class Engine(Protocol):
    """Made, bound to its places, started, stopped."""

    def bind_socket(self, place: SocketPlace) -> None:
        """Bind the Unix socket by the name that it is drawn up under. Raises AddressInUse."""

    def bind_tcp(self, address: str, certificates: Certificates | None) -> int:
        """Bind `host:port`; returns the port. Raises AddressInUse, ConfigError."""

    async def start(self) -> None:
        """Begin to take calls."""

    async def stop(self, grace: float) -> None:
        """Take no more calls, and cancel after `grace` seconds those that are under way."""


class MakeEngine(Protocol):
    """How one is made."""

    def __call__(self, guarded: Served, open_to_all: Served, gate: TokenGate, config: ApiConfig) -> Engine:
        """`guarded`: methods for which the gate is asked about each call before its first message is read."""
