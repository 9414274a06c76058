"""What a hostile node does otherwise than an honest one: a class of its own for each kind of conduct."""

import random
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Any, Protocol

from ...core import gossip
from ...core.buffer import FrameDecoder, SendBuffer
from ...core.classes import NamedTuple
from ...core.deadlines import Deadlines
from ...core.identity import Identity
from ...core.multiaddr import Multiaddr
from ...core.node import NodeConfig
from ...core.types import PeerId

# Bytes of the largest frame that is looked into: more than any honest node sends, whatever it is configured to.
_MAX_FRAME = 65 << 20


class Exchange:
    """A stream of which a conduct sees every frame, and may say more, less or something else.

    Its buffers are made when they are needed: thousands of nodes have hundreds of these, and most go one way.
    """

    __slots__ = ("_heard", "_said", "ended_here", "ended_there", "number", "ours", "peer", "protocol", "waiting")

    def __init__(self, number: int, peer: PeerId, protocol: str, ours: bool) -> None:
        self.number = number
        self.peer = peer
        self.protocol = protocol
        self.ours = ours
        """Whether this node opened it. Of gossip, what this node says goes by the stream that it opened itself."""
        self._heard: FrameDecoder | None = None
        self._said: FrameDecoder | None = None
        self.waiting = SendBuffer()
        self.ended_here = self.ended_there = False

    def heard(self, data: bytes) -> list[bytes]:
        """The frames that bytes of the peer complete."""
        if self._heard is None:
            self._heard = FrameDecoder(_MAX_FRAME)
        return self._heard.receive(data)

    def said(self, data: bytes) -> list[bytes]:
        """The frames that bytes of the node beneath complete."""
        if self._said is None:
            self._said = FrameDecoder(_MAX_FRAME)
        return self._said.receive(data)


class Fellow(NamedTuple):
    """A node of the scenario, as its conspirators know it."""

    peer: PeerId
    addresses: tuple[Multiaddr, ...]
    record: bytes
    """Its addresses, signed by it."""


class Surroundings(NamedTuple):
    """What a conduct is told when its node starts."""

    rng: random.Random
    begins: float
    """The moment from which on it does harm; until then it behaves well."""
    of_kind: Callable[[str], Collection[PeerId]]
    """The nodes of a kind of the scenario, to be asked whether they contain one."""
    options: Mapping[str, Any]
    """The keys of its behaviour, with the scenario's values or the defaults."""
    contacts: Callable[[str | None], Sequence[Fellow]]
    """The nodes of a kind; None: those that are of one's own."""
    config: NodeConfig
    """What honest nodes of the network are told, and so expect of others."""


class Accomplice(Protocol):
    """The node of a conduct, as far as that needs it."""

    identity: Identity
    deadlines: Deadlines
    """What the conduct does later."""

    def say(self, exchange: Exchange, frame: bytes) -> None:
        """Send a frame, without its length, behind what waits on the stream."""


class Conduct:
    """Stands between a whole, honest node machine and the wire; by itself it changes nothing.

    Beneath it identify, the DHT, pings and gossip go on as in any node. `HostileNode` calls the methods below, and is
    `node` to them.
    """

    node: Accomplice

    def __init__(self, around: Surroundings) -> None:
        self.around = around

    def started(self, now: float) -> None:
        """Its node has begun, and knows its own addresses."""

    def taps(self, protocol: str) -> bool:
        """Whether it wants to see the frames of streams with this protocol."""
        return False

    def asked(self, arrived: gossip.AppInput, now: float) -> bool:
        """Its apps want something of gossip, such as to join a topic; True keeps that from the node beneath."""
        return False

    def opened(self, exchange: Exchange, now: float) -> None:
        """A stream is there that it sees the frames of."""

    def closed(self, exchange: Exchange, now: float) -> None:
        """That stream is over, or its connection."""

    def hears(self, exchange: Exchange, frame: bytes, now: float) -> Iterable[bytes]:
        """What the node beneath hears in place of a frame that came: none, one or several, without their lengths."""
        return (frame,)

    def says(self, exchange: Exchange, frame: bytes, now: float) -> Iterable[bytes]:
        """What the peer hears in place of a frame that the node beneath says."""
        return (frame,)
