"""The node machine as its drivers see it: what goes in, what comes out, and the calls in between.

Written once: the socket driver (`sidecar.net`), the simulator (`sidecar.sim`) and the trace (`sidecar.trace`) are held
to it by the type checker. The duties of a driver are listed in `core.events`.
"""

from collections.abc import Sequence
from typing import Protocol, TypeAlias

from .. import direct, durable, events, gossip, history, probe, streams
from ..buffer import Buffers
from .config import ConfigurationChanged

NodeInput: TypeAlias = (
    events.TransportInput
    | events.AppInput
    | ConfigurationChanged
    | gossip.AppInput
    | gossip.SignaturesChecked
    | direct.AppInput
    | durable.AppInput
    | history.AppInput
    | streams.AppInput
    | probe.AppInput
)
"""Everything that a node takes. Each belongs to one service, which takes it (`Service`)."""

AppNews: TypeAlias = events.AppNews | gossip.News | direct.News | streams.News | probe.News
"""What a node tells its apps."""

NodeNews: TypeAlias = (
    AppNews
    | durable.StoreEffect
    | history.StoreEffect
    | gossip.HistoryRepeated
    | events.PeersLearned
    | events.AddressesKnown
    | events.AnchorsChosen
    | events.Note
)
"""What a node tells its apps, the stores of durable messages and of history, the memory of peers and the log."""

NodeEffect: TypeAlias = events.TransportEffect | gossip.CheckSignatures | NodeNews
"""Everything that a node gives out: the driver carries out what is not news, and hands the news on."""


class NodeMachine(Protocol):
    """What a driver calls. `now` is monotonic seconds; effects are to be carried out in order."""

    def handle(self, arrived: NodeInput, now: float) -> Sequence[NodeEffect]:
        """Take one input; returns what to do. Raises what the input's description names (a caller's misuse)."""

    def handle_deadline(self, now: float) -> Sequence[NodeEffect]:
        """Do what is due."""

    def next_deadline(self) -> float | None:
        """When `handle_deadline` wants to be called; None: not before the next input."""

    def take(self, stream: int, limit: int) -> Buffers:
        """Bytes for a stream, at most `limit`; nothing when there are none now. What it sets off is told by `drain`."""

    def drain(self, now: float) -> Sequence[NodeEffect]:
        """What came of bytes being taken; to be called after a round of `take`."""

    def accepts(self, protocol: str) -> bool:
        """Whether inbound streams of a protocol are answered."""
