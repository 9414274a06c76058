"""Turns of the node as a driver calls it: what an input or bytes taken have set off is told in that turn."""

import random

from sidecar.core import events
from sidecar.core.errors import NotSupported
from sidecar.core.events import STREAM_BITS
from sidecar.core.identity import Identity
from sidecar.core.multiaddr import Multiaddr
from sidecar.core.node import Node, NodeConfig, NodeEffect
from sidecar.core.ping import PING
from sidecar.core.types import Direction

PEER = Identity(bytes(range(32)))
HERE, THERE = (Multiaddr.from_text(f"/ip4/10.0.0.{host}/tcp/4001") for host in (1, 2))
CONFIG = NodeConfig(target_peers=0, dht_server=False, accept_unnamed=True)
STREAM = 2  # the first that the remote opens


class Driver:
    """Calls a node and answers what it opens: a peer that speaks ping alone."""

    def __init__(self) -> None:
        self.node = Node(CONFIG, Identity(bytes(32)), now=0.0, wall_ns=0, rng=random.Random(1))

    def feed(self, *inputs: events.TransportInput) -> list[NodeEffect]:
        """All effects of the inputs."""
        effects: list[NodeEffect] = []
        for each in inputs:
            effects += self.node.handle(each, 0.0)
        return effects

    def connect(self, number: int) -> list[NodeEffect]:
        """The peer connects; it does not say who it is."""
        opened = events.ConnectionOpened(number, PEER.peer_id, PEER.public_key, Direction.INBOUND, THERE, HERE)
        effects = self.feed(opened)
        for asked in effects:
            if isinstance(asked, events.OpenStream) and PING not in asked.protocols:
                self.feed(events.StreamFailed(asked.token, NotSupported("only ping")))
        return effects


def test_what_the_last_bytes_of_a_stream_set_off_is_drained() -> None:
    driver = Driver()
    driver.connect(1)
    second = driver.connect(2)  # the first is surplus once this one is seen to be alive
    (ping,) = [each for each in second if isinstance(each, events.OpenStream) and PING in each.protocols]
    ours, theirs = (2 << STREAM_BITS) + 1, (1 << STREAM_BITS) + STREAM
    driver.feed(events.StreamOpened(theirs, PING, None))
    driver.feed(events.StreamsReceived(1, [(theirs, bytes(32))]), events.StreamEnded(theirs))
    driver.feed(events.StreamOpened(ours, PING, ping.token))
    driver.feed(events.StreamsReceived(2, [(ours, b"".join(driver.node.take(ours, 64)))]))
    assert driver.node.drain(0.0) == ()
    assert b"".join(driver.node.take(theirs, 64)) == bytes(32)
    assert driver.node.drain(0.0) == [events.CloseConnection(1, None)]
    assert driver.node.drain(0.0) == ()
