"""What a flood of valid messages does to honest ones, where each node has a processor of its own, or all share some.

    python -m bench.fairness [--shares 1,0.5] [--kinds valid,huge,forged] [--seconds 3] [--processors 2]

Five gossip routers, all connected to all, in one process and on virtual time: a turn of a router takes as long as the
processor worked for it, which other processes of the machine hardly change. Links have windows of 256 KiB and take
0.2 ms. One router publishes 100 messages a second; a stranger at another one sends as fast as it is read. Told are the
times from publishing to delivery at the attacked router and at the slowest of the others, in milliseconds.
With `--processors` the five share so many, each turn on the first that is free.
There are no sockets, no encryption and no apps: `make attack` has these, and needs a machine without other work.
"""

import argparse
import gc
import heapq
import random
import time
from collections.abc import Iterator
from dataclasses import replace

from bench import page
from bench.figures import percentiles
from bench.hostile import forged, huge, valid
from sidecar.core.buffer import FrameDecoder
from sidecar.core.gossip import (
    GossipInput,
    GossipRouter,
    MessagesDelivered,
    PeerAdded,
    PeerBacklogged,
    Published,
    RpcsReceived,
    TopicJoined,
    TopicOptions,
)
from sidecar.core.identity import Identity
from sidecar.core.parameters.gossip import GossipConfig
from sidecar.core.types import PeerId
from sidecar.wire.gossip_pb2 import RPC

_NODES, _RATE, _TOPIC = 5, 100.0, "bench"
_ATTACKED, _PUBLISHER = 0, 1
_WINDOW, _DELAY = 256 * 1024, 0.0002
_READ = 64 * 1024
_BEGIN = 2.0  # seconds until the first message, by which the meshes are there
_QUIET = 2.0  # seconds of messages without an attack


class Node:
    """A router and its processor. `free_at`: when it has done what it was given."""

    def __init__(self, number: int, config: GossipConfig) -> None:
        self.identity = Identity((number + 1).to_bytes(32, "big"))
        self.router = GossipRouter(
            config,
            self.identity,
            now=0.0,
            sequence=time.time_ns(),
            rng=random.Random(number),
            signed_record=lambda peer: None,
        )
        self.router.handle(TopicJoined(_TOPIC, TopicOptions()), 0.0)
        self.free_at = 0.0
        self.paused: dict[PeerId, None] = {}
        self.decoders: dict[PeerId, FrameDecoder] = {}
        self.inbox: list[tuple[float, int, PeerId, bytes]] = []
        self.times: list[tuple[float, float]] = []  # when a message was published, and how long it took

    def connect(self, other: PeerId, outbound: bool) -> None:
        self.router.handle(PeerAdded(other, "/meshsub/1.2.0", outbound), 0.0)
        self.decoders[other] = FrameDecoder(2 << 20)


class Mesh:
    """All of them, and the stranger."""

    def __init__(self, config: GossipConfig, blocks: Iterator[bytes] | None, processors: int) -> None:
        self._processors = [0.0] * processors  # when each is free
        self.nodes = [Node(number, config) for number in range(_NODES)]
        self.by_id = {node.identity.peer_id: node for node in self.nodes}
        self.stranger = Identity(bytes(31) + b"\xff").peer_id
        self._blocks = blocks
        self._left = b""
        self._in_flight: dict[tuple[PeerId, PeerId], int] = {}
        self._sequence = 0
        self._published: dict[bytes, float] = {}
        for one in self.nodes:
            for other in self.nodes:
                if one is not other:
                    one.connect(other.identity.peer_id, one.identity.peer_id < other.identity.peer_id)
        attacked = self.nodes[_ATTACKED]
        attacked.connect(self.stranger, False)
        subscribed = RPC()
        subscribed.subscriptions.add(subscribe=True, topicid=_TOPIC.encode())
        attacked.router.handle(RpcsReceived(self.stranger, [subscribed.SerializeToString()]), 0.0)
        for node in self.nodes:
            for peer in self.by_id:
                self._pump(node, peer, 0.0)

    def run(self, seconds: float) -> None:
        """Publish, at first without the stranger."""
        attack_at, end = _BEGIN + _QUIET, _BEGIN + _QUIET + seconds
        next_at, number = _BEGIN, 0
        attacked, publisher = self.nodes[_ATTACKED], self.nodes[_PUBLISHER]
        while True:
            due = []
            for node in self.nodes:
                at = node.router.next_deadline()
                ready = [entry[0] for entry in node.inbox if entry[2] not in node.paused]
                at = min([at, *ready, *([next_at] if node is publisher else ())])
                if node is attacked and self._blocks is not None and self.stranger not in node.paused:
                    at = min(at, attack_at)
                due.append((max(at, node.free_at), self.nodes.index(node)))
            now, index = min(due)
            processor = min(range(len(self._processors)), key=self._processors.__getitem__, default=None)
            if processor is not None:
                now = max(now, self._processors[processor])
            if now >= end:
                return
            node = self.nodes[index]
            if node is publisher and next_at <= now:
                data = b"%020d" % number
                self._published[data] = next_at
                number, next_at = number + 1, next_at + 1 / _RATE
                self._turn(node, now, Published(number, _TOPIC, [data]))
            for peer, body in self._read(node, now):
                frames = node.decoders[peer].receive(body)
                self._turn(node, now, RpcsReceived(peer, frames))
            if node is attacked and self._blocks is not None and attack_at <= now and self.stranger not in node.paused:
                frames = node.decoders[self.stranger].receive(self._piece())
                self._turn(node, now, RpcsReceived(self.stranger, frames))
            if node.router.next_deadline() <= max(now, node.free_at):
                self._turn(node, now, None)
            if processor is not None:
                self._processors[processor] = max(now, node.free_at)

    def times(self, node: Node, *, attacked: bool) -> list[float]:
        """Milliseconds of messages before the attack, or of those while it went on."""
        return [1000 * took for at, took in node.times if (at >= _BEGIN + _QUIET) is attacked]

    def _piece(self) -> bytes:
        assert self._blocks is not None
        self._left = self._left or next(self._blocks)
        piece, self._left = self._left[:_READ], self._left[_READ:]
        return piece

    def _read(self, node: Node, now: float) -> list[tuple[PeerId, bytes]]:
        """One chunk of each peer that is read now."""
        chosen: dict[PeerId, bytes] = {}
        kept = []
        while node.inbox and node.inbox[0][0] <= now:
            entry = heapq.heappop(node.inbox)
            if entry[2] in chosen or entry[2] in node.paused:
                kept.append(entry)
            else:
                chosen[entry[2]] = entry[3]
        for entry in kept:
            heapq.heappush(node.inbox, entry)
        for peer, body in chosen.items():
            self._in_flight[peer, node.identity.peer_id] -= len(body)
            self._pump(self.by_id[peer], node.identity.peer_id, now)
        return list(chosen.items())

    def _turn(self, node: Node, now: float, given: GossipInput | None) -> None:
        """Serve an input, or (None) the deadline, once the node has done what it was given before."""
        now = max(now, node.free_at)
        begun = time.process_time()
        effects = node.router.handle(given, now) if given is not None else node.router.handle_deadline(now)
        done = now + time.process_time() - begun
        for effect in effects:
            if isinstance(effect, MessagesDelivered):
                for message in effect.messages:
                    published = self._published.get(message.data)
                    if published is not None:
                        node.times.append((published, done - published))
            elif isinstance(effect, PeerBacklogged):
                if effect.backlogged:
                    node.paused[effect.peer] = None
                else:
                    node.paused.pop(effect.peer, None)
        begun = time.process_time()
        for peer in [*self.by_id, self.stranger]:
            if peer in node.decoders:
                self._pump(node, peer, done)
        node.free_at = done + time.process_time() - begun

    def _pump(self, node: Node, peer: PeerId, now: float) -> None:
        other = self.by_id.get(peer)
        link = node.identity.peer_id, peer
        while self._in_flight.get(link, 0) < _WINDOW:
            frames = node.router.take(peer, _READ)
            if not frames:
                return
            if other is None:
                continue  # the stranger reads and forgets
            body = b"".join(frames)
            self._in_flight[link] = self._in_flight.get(link, 0) + len(body)
            self._sequence += 1
            heapq.heappush(other.inbox, (now + _DELAY, self._sequence, link[0], body))


def _row(kind: str, share: float, seconds: float, processors: int) -> str:
    topic = _TOPIC.encode()
    blocks = {"valid": lambda: valid(topic, 1000), "huge": lambda: huge(topic), "forged": lambda: forged(topic, 50_000)}
    mesh = Mesh(replace(GossipConfig(), flood_share=share), blocks[kind](), processors)
    gc.collect()
    gc.disable()  # it would look at the objects of all five, and a node has only its own
    mesh.run(seconds)
    gc.enable()
    receivers = [node for number, node in enumerate(mesh.nodes) if number != _PUBLISHER]

    def shown(node: Node, attacked: bool) -> str:
        found = percentiles(mesh.times(node, attacked=attacked) or [0.0])
        return f"{found['p50']:.1f} / {found['p99']:.1f}"

    slowest = max(receivers[1:], key=lambda node: percentiles(mesh.times(node, attacked=True) or [0.0])["p99"])
    lost = round(_RATE * seconds) * len(receivers) - sum(len(mesh.times(node, attacked=True)) for node in receivers)
    return (
        f"| {kind} | {share:g} | {shown(receivers[0], False)} | {shown(receivers[0], True)} | {shown(slowest, True)} | "
        f"{max(0, lost)} |"
    )


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.fairness", description=__doc__.partition("\n")[0])
    parser.add_argument("--shares", default="1,0.5", help="values of gossip.flood_share; 1: nobody waits")
    parser.add_argument("--kinds", default="valid,huge,forged")
    parser.add_argument("--seconds", type=float, default=3.0, help="of each attack, on virtual time")
    parser.add_argument("--processors", type=int, default=0, help="that the nodes share; 0: each has its own")
    arguments = parser.parse_args()
    print("| flood | flood_share | before, p50 / p99 ms | the attacked | slowest other | not there at the end |")
    print("|---|---|---|---|---|---|", flush=True)
    for kind in arguments.kinds.split(","):
        for share in map(float, arguments.shares.split(",")):
            print(_row(kind, share, arguments.seconds, arguments.processors), flush=True)
    print(f"\n{page.facts('bench.fairness')}")


if __name__ == "__main__":
    main()
