"""A node for a moment, with a key of its own: what another member of the mesh would see."""

import asyncio
import os
import random
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any

from .. import __version__
from ..core.errors import DialTimeout, SidecarError
from ..core.events import ConnectRequested, FindPeerRequested, OperationCompleted, PeersLearned, PeerView
from ..core.identity import Identity
from ..core.multiaddr import Multiaddr
from ..core.node import Node, NodeConfig, NodeInput, NodeNews
from ..core.types import PeerId
from ..net.config import NetConfig
from ..net.runtime import Runtime
from ..net.transports import Transports


class Guest:
    """Connects where it is told to and seeks nobody by itself. Made by `visiting`."""

    def __init__(self, network: str, transports: Transports, patience: float) -> None:
        identity = Identity(os.urandom(32))
        self.peer_id = identity.peer_id
        self._patience = patience
        config = NodeConfig(
            network=network,
            agent=f"sidecar-doctor/{__version__}",
            dht_server=False,
            accept_unnamed=True,
            target_peers=0,
            identify_timeout=patience,
        )
        self._node = Node(config, identity, now=time.monotonic(), wall_ns=time.time_ns(), rng=random.Random())
        net = NetConfig(dial_timeout=patience, attempt_timeout=patience)
        self.runtime = Runtime(self._node, identity, net, self._on_news, transports=transports)
        self._heard: dict[PeerId, dict[Multiaddr, None]] = {}
        self._answers: dict[int, asyncio.Future[Any]] = {}

    async def meet(self, peer: PeerId | None, addresses: Sequence[Multiaddr]) -> PeerView:
        """Connect to a peer, or to whoever answers, and be told who it is. Raises what stands in the way."""
        view: PeerView = await self._ask(lambda op: ConnectRequested(op, peer, tuple(addresses)))
        return view

    async def find(self, peer: PeerId) -> tuple[Multiaddr, ...]:
        """The addresses that those whom the guest has met know of a peer. Raises NotFound.

        All that were named: where two nodes are that peer, the lookup itself connects to one of them and goes by it.
        """
        try:
            found: tuple[Multiaddr, ...] = await self._ask(lambda op: FindPeerRequested(op, peer))
        except SidecarError:
            found = ()
            if not self._heard.get(peer):
                raise
        return tuple(dict.fromkeys((*found, *self._heard.get(peer, ()))))

    async def _ask(self, make: Callable[[int], NodeInput]) -> Any:
        op = self._node.new_op()
        answer = self._answers[op] = asyncio.get_running_loop().create_future()
        self.runtime.feed(make(op))
        try:
            async with asyncio.timeout(self._patience):
                result = await answer
        except TimeoutError:
            raise DialTimeout(f"no answer within {self._patience:g} s") from None
        finally:
            del self._answers[op]
        if isinstance(result, SidecarError):
            raise result
        return result

    def _on_news(self, effect: NodeNews) -> None:
        if isinstance(effect, OperationCompleted) and effect.op in self._answers:
            answer = self._answers[effect.op]
            if not answer.done():
                answer.set_result(effect.result)
        elif isinstance(effect, PeersLearned):
            for peer, addresses in effect.peers:
                self._heard.setdefault(peer, {}).update(dict.fromkeys(addresses))


@asynccontextmanager
async def visiting(network: str, transports: Transports, patience: float) -> AsyncIterator[Guest]:
    """A guest, gone again at the end. `patience`: seconds for anything it is asked."""
    guest = Guest(network, transports, patience)
    try:
        yield guest
    finally:
        await guest.runtime.close(1.0)
