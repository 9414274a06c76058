"""What a connection needs of the runtime that it lives in."""

import asyncio
from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

from ..core.channel import Channel
from ..core.errors import SidecarError
from ..core.node import NodeInput
from .config import NetConfig

if TYPE_CHECKING:
    from .connection import Connection


class ConnectionHost(Protocol):
    """The runtime, as its connections see it."""

    loop: asyncio.AbstractEventLoop
    config: NetConfig

    def admit(self, connection: "Connection") -> Channel | None:
        """The channel for a socket just connected, or None when a bound refuses it (said in the log)."""

    def refuse_peer(self, connection: "Connection") -> SidecarError | None:
        """Why the peer that the handshake has just shown is not wanted; None when it is."""

    def refuse_upgraded(self, connection: "Connection") -> SidecarError | None:
        """Why the connection, upgraded now, is not wanted after all; None when it is, and has won its dial."""

    def opened(self, connection: "Connection", now: float) -> bool:
        """The connection is open: tell the node. False when the node broke over it. Said once."""

    def upgrade_failed(self, connection: "Connection", error: SidecarError | None) -> None:
        """The connection is over, and the node never heard of it. Said once, instead of `opened` and `ended`."""

    def ended(self, connection: "Connection", error: SidecarError | None) -> None:
        """The connection, once open, is over, though goodbye bytes may still be leaving. Said once."""

    def lost(self, connection: "Connection") -> None:
        """The socket is gone. Said once, for each that was admitted."""

    def receive(self, input: NodeInput, now: float) -> bool:
        """Pass an input to the node at once; False when the node broke over it."""

    def broken(self) -> None:
        """Count a defect."""

    def take(self, stream: int, limit: int) -> Sequence[bytes | memoryview]:
        """At most `limit` bytes that the node has to send on the stream now; see `Node.take`."""

    def pump_soon(self, connection: "Connection") -> None:
        """Call `pump` at the end of this turn of the loop. Said once until then."""

    def account(self, connection: "Connection", change: int) -> None:
        """Count what waits for sockets: here it has grown by `change` bytes, and `buffered` with it."""
