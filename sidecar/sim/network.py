"""The simulated network: links with latency and a window, partitions, and peers that vanish."""

import hashlib
import math
import random
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from ..core import events
from ..core.errors import KeepAliveTimeout, SidecarError
from ..core.identity import Identity
from ..core.multiaddr import Multiaddr
from ..core.node import NodeConfig
from ..core.types import Direction
from .clock import Clock
from .peer import SimPeer, not_supported
from .verdicts import Verdicts


@dataclass(frozen=True, slots=True)
class LinkModel:
    """How the network behaves; seconds and bytes."""

    latency: tuple[float, float] = (0.005, 0.08)
    """One way; drawn once for each pair of peers. The default spans a city and a continent."""
    between: Callable[[random.Random, int, int], float] | None = None
    """Draws the latency from one peer to another, by their indices, in place of `latency`.

    For both directions of a pair it is given a generator in the same state.
    """
    uplink: float = 0.0
    """Bytes a second that a peer can send, to all others together; 0: any number."""
    downlink: float = 0.0
    """Bytes a second that a peer can receive, of all others together; what is more queues before it. 0: any number."""
    loss: float = 0.0
    """The share of packets that is lost. TCP sends them again, so that it shows as delay."""
    window: int = 256 * 1024
    """Bytes under way in one direction of a connection, or unread on one deferred stream; yamux's first window."""
    dial_timeout: float = 5.0
    dead_after: float = 40.0
    """When a silent connection is given up: the keep-alive interval and its time-out."""


class Simulation:
    """Peers and the network between them, on one virtual clock. Equal seeds give equal runs."""

    def __init__(self, seed: int, model: LinkModel | None = None, *, keep_news: bool = True) -> None:
        """`keep_news`: whether peers keep all that they tell their apps; else only their `listener` hears it."""
        self.seed = seed
        self.keep_news = keep_news
        self.model = model or LinkModel()
        self.clock = Clock()
        self.verdicts = Verdicts()
        self.peers: list[SimPeer] = []
        self._rng = random.Random(seed)
        self._latency: dict[tuple[int, int], float] = {}
        self._group: dict[int, int] = {}
        self._by_address: dict[Multiaddr, SimPeer] = {}
        self.names: dict[str, list[SimPeer]] = {}
        """The name service: who is behind a DNS name."""

    # ------------------------------------------------------------ building

    def add(self, config: NodeConfig, *, start: bool = True, host: str | None = None) -> SimPeer:
        """A new peer with a key of its own. `host`: its IP address, which it may share; None: one of 10.0.0.0/8."""
        index = len(self.peers) + 1
        seed = hashlib.sha256(f"peer {index} of seed {self.seed}".encode()).digest()
        peer = SimPeer(self, index, Identity(seed), config, host)
        self.peers.append(peer)
        self._by_address[peer.address] = peer
        if start:
            peer.start()
        return peer

    # ------------------------------------------------------------ running

    def run(self, seconds: float) -> None:
        """Let virtual seconds pass."""
        self.clock.run_until(self.clock.now + seconds)

    def run_until(self, done: Callable[[], bool], limit: float) -> None:
        """Go on until `done()`, looked at after every step; AssertionError after `limit` virtual seconds."""
        end = self.clock.now + limit
        while not done():
            if not self.clock.step() or self.clock.now > end:
                raise AssertionError(f"not done after {limit:g} virtual seconds (seed {self.seed})")

    # ------------------------------------------------------------ misfortune

    def kill(self, peer: SimPeer) -> None:
        """End a peer at once; the others' connections to it end a moment later."""
        peer.alive = False
        for link in list(peer.links.values()):
            link.cut(peer)

    def partition(self, groups: Iterable[Iterable[SimPeer]]) -> None:
        """Only peers of one group reach each other; connections across go silent and die of keep-alive."""
        self._group = {peer.index: number for number, group in enumerate(groups) for peer in group}
        for peer in self.peers:
            for link in list(peer.links.values()):
                link.notice_partition()

    def heal(self) -> None:
        """Everyone reaches everyone. What connections held back in the meantime goes through."""
        self._group = {}
        for peer in self.peers:
            for link in list(peer.links.values()):
                link.notice_heal()

    # ------------------------------------------------------------ what peers and links ask

    def at_address(self, address: Multiaddr) -> SimPeer | None:
        """The peer that listens there, if it is up."""
        return self._by_address.get(address)

    def behind(self, address: Multiaddr) -> tuple[Multiaddr, ...]:
        """What an address is resolved to."""
        name = address.value("dns", "dns4", "dns6")
        return (address,) if name is None else tuple(peer.address for peer in self.names.get(name, ()))

    def connected(self, one: SimPeer, other: SimPeer) -> bool:
        """Whether packets go through between two peers."""
        group = self._group
        return not group or group.get(one.index, 0) == group.get(other.index, 0)

    def latency(self, one: SimPeer, other: SimPeer) -> float:
        """From one to the other, in seconds; the same at every time."""
        pair = (one.index, other.index)
        if pair not in self._latency:
            rng = random.Random(f"{self.seed}/{min(pair)}-{max(pair)}")
            between = self.model.between
            self._latency[pair] = rng.uniform(*self.model.latency) if between is None else between(rng, *pair)
        return self._latency[pair]

    def resent(self, size: int, latency: float) -> float:
        """How much later `size` bytes arrive since packets of them were lost, and sent again."""
        later, packets = 0.0, max(1, math.ceil(size / _PACKET))
        while later < _GIVEN_UP and self._rng.random() < 1 - (1 - self.model.loss) ** packets:
            later += max(_RESEND, 3 * latency)  # a round trip until it is missed, and the way of the new one
            packets = 1
        return later

    def connect(self, dialler: SimPeer, target: SimPeer, dial: int) -> None:
        """Open a link between the two, whose handshake is over; `dial` is the number of the dialler's `Dial`."""
        link = Link(self, dialler, target)
        dialler.opened(link.numbers[dialler.index], target, Direction.OUTBOUND, dial)
        target.opened(link.numbers[target.index], dialler, Direction.INBOUND, None)


_PACKET = 1400  # bytes of payload that fit a packet beside the headers of IP, TCP, yamux and Noise
_HEADERS = 100  # bytes of those, together
_RESEND = 0.2  # seconds; Linux waits at least so long for what so few packets follow that nobody misses it
_GIVEN_UP = 15.0  # seconds; a connection that loses more is as good as dead
_LOW = (1 << events.STREAM_BITS) - 1


class _Half:
    """One direction of a link: what waits for the window, and what a partition holds back."""

    __slots__ = ("arrived", "closing", "flying", "held", "unread", "woken")

    def __init__(self) -> None:
        self.arrived = 0.0  # when the last of what was sent is there: nothing overtakes it
        self.woken: dict[int, None] = {}
        self.closing: dict[int, None] = {}
        self.flying = 0
        self.held: list[tuple[Callable[[], None], int]] = []
        self.unread: dict[int, int] = {}  # deferred stream -> bytes sent and not acknowledged, by the low bits


def _sendable(woken: Iterable[int], unread: Mapping[int, int], window: int) -> int | None:
    """The first of the streams of which the other end has not too much unread."""
    return next((stream for stream in woken if unread.get(stream & _LOW, 0) < window), None)


class Link:
    """A connection between two peers. Streams keep their bytes' order; nothing is lost while it lives."""

    def __init__(self, simulation: Simulation, dialler: SimPeer, target: SimPeer) -> None:
        self.simulation = simulation
        self.ends = (dialler, target)
        self.numbers = {dialler.index: dialler.attach(self), target.index: target.attach(self)}
        self.alive = True
        self._next_stream = {dialler.index: 1, target.index: 2}  # parity as in yamux
        self._halves = {dialler.index: _Half(), target.index: _Half()}
        self._unread: dict[int, deque[Callable[[], None]] | None] = dict.fromkeys(self._halves)  # of ends that pause
        self._latency = {
            dialler.index: simulation.latency(dialler, target),
            target.index: simulation.latency(target, dialler),
        }

    def other(self, end: SimPeer) -> SimPeer:
        """The peer at the other end."""
        return self.ends[1] if end is self.ends[0] else self.ends[0]

    # ------------------------------------------------------------ streams

    def open_stream(self, end: SimPeer, asked: events.OpenStream) -> None:
        """Carry the negotiation over: the other end opens the stream, or it fails with NotSupported."""
        other = self.other(end)
        stream = self._next_stream[end.index]
        self._next_stream[end.index] += 2

        def asked_there() -> None:
            protocol = other.accepted(asked.protocols)
            if protocol is None:
                error = not_supported(asked.protocols)
                self._send(other, lambda: end.feed(events.StreamFailed(asked.token, error)))
                return
            self._send(other, lambda: end.feed(events.StreamOpened(self._name(end, stream), protocol, asked.token)))
            other.feed(events.StreamOpened(self._name(other, stream), protocol, None))

        self._send(end, asked_there)

    def wake(self, end: SimPeer, stream: int) -> None:
        """`end` has something to send on the stream; it is pulled as far as the windows allow."""
        self._halves[end.index].woken.setdefault(stream)
        self._pump(end)

    def close_write(self, end: SimPeer, stream: int) -> None:
        """End the direction from `end`, behind what it still has to send."""
        half = self._halves[end.index]
        half.closing[stream] = None
        half.woken.setdefault(stream)
        self._pump(end)

    def reset(self, end: SimPeer, stream: int) -> None:
        """End the stream at once, in both directions; the other end hears of it."""
        half, other = self._halves[end.index], self.other(end)
        half.woken.pop(stream, None)
        half.closing.pop(stream, None)
        name = self._name(other, stream)
        self._send(end, lambda: other.feed(events.StreamGone(name)))

    def pause(self, end: SimPeer, paused: bool) -> None:
        """One end reads no more, or reads again: what comes meanwhile waits before it."""
        waiting = self._unread[end.index]
        if paused and waiting is None:
            self._unread[end.index] = deque()
        elif not paused and waiting is not None:
            self._unread[end.index] = None
            while waiting and self._unread[end.index] is None:
                waiting.popleft()()
            if waiting:  # paused again by what it read
                self._unread[end.index] = waiting

    def defer(self, end: SimPeer, stream: int) -> None:
        """The other end's bytes on this stream count until this end acknowledges them."""
        self._halves[self.other(end).index].unread.setdefault(stream & _LOW, 0)

    def acknowledge(self, end: SimPeer, stream: int, size: int) -> None:
        """The app at `end` has read `size` bytes: the other end may send as many more."""
        other = self.other(end)

        def arrive() -> None:
            unread = self._halves[other.index].unread
            if stream & _LOW in unread:
                unread[stream & _LOW] -= size
                self.wake(other, self._name(other, stream))

        self._send(end, arrive)

    def measure(self, end: SimPeer) -> None:
        """Ping the other end, and tell how long the answer took."""
        clock, other = self.simulation.clock, self.other(end)
        begun = clock.now

        def answered() -> None:
            end.feed(events.LatencyMeasured(self.numbers[end.index], (clock.now - begun) * end.pace))

        self._send(end, lambda: self._send(other, answered))

    def _pump(self, end: SimPeer) -> None:
        """Send while the window is open."""
        half, other, window = self._halves[end.index], self.other(end), self.simulation.model.window
        woken, unread = half.woken, half.unread
        while woken and half.flying < window and self.alive:
            stream = next(iter(woken)) if not unread else _sendable(woken, unread, window)
            if stream is None:
                break
            data = end.take(stream)
            if data:
                self._send_data(end, other, stream, data)
                continue
            woken.pop(stream, None)
            if stream in half.closing:
                del half.closing[stream]
                ended = events.StreamEnded(self._name(other, stream))
                self._send(end, lambda ended=ended: other.feed(ended))  # type: ignore[misc]
        end.taken()

    def _send_data(self, end: SimPeer, other: SimPeer, stream: int, data: bytes) -> None:
        half = self._halves[end.index]
        half.flying += len(data)
        if stream & _LOW in half.unread:
            half.unread[stream & _LOW] += len(data)
        received = events.StreamsReceived(self.numbers[other.index], [(self._name(other, stream), data)])

        def arrive() -> None:
            half.flying -= len(data)
            other.feed(received)
            if half.woken and end.alive:  # it waited for the window
                self._pump(end)

        self._send(end, arrive, len(data))

    def _name(self, end: SimPeer, stream: int) -> int:
        return self.numbers[end.index] << events.STREAM_BITS | stream & _LOW

    # ------------------------------------------------------------ the wire

    def _send(self, end: SimPeer, arrive: Callable[[], None], size: int = 0) -> None:
        """Have something happen at the other end, in order: one latency later, or as `size` bytes take."""
        other = self.other(end)
        half = self._halves[end.index]
        if not self.simulation.connected(end, other):
            half.held.append((arrive, size))
            return
        clock, model = self.simulation.clock, self.simulation.model

        def unless_over() -> None:
            if not self.alive or not other.alive:
                return
            unread = self._unread[other.index]
            if unread is None:
                arrive()
            else:
                unread.append(arrive)

        latency = self._latency[end.index]
        sent = clock.now if not model.uplink else end.sends(size + _HEADERS, model.uplink)
        arrival = sent + latency
        if model.loss:
            arrival += self.simulation.resent(size, latency)
        before, half.arrived = half.arrived, max(half.arrived, arrival)
        if not model.downlink:
            clock.at(half.arrived, unless_over)
            return
        # The first byte takes its place in the queue when it is there, the last one cannot pass before it is.
        last = half.arrived
        first = last - (size + _HEADERS) / model.uplink if model.uplink else last

        def queue() -> None:
            clock.at(max(last, other.receives(size + _HEADERS, model.downlink)), unless_over)

        clock.at(max(before, first), queue)

    def close(self, end: SimPeer, error: SidecarError | None) -> None:
        """One end closes in order: what it has sent still arrives before the end does."""
        number = self.numbers[end.index]
        if end.links.pop(number, None) is None:
            return
        self.simulation.clock.at(self.simulation.clock.now, lambda: end.feed(events.ConnectionClosed(number, error)))
        self._send(end, lambda: self._end_at(self.other(end), None))

    def cut(self, dead: SimPeer) -> None:
        """One end is no more; the other learns it a latency later."""
        dead.links.pop(self.numbers[dead.index], None)
        other, clock = self.other(dead), self.simulation.clock
        if self.simulation.connected(dead, other):
            clock.at(
                clock.now + self._latency[dead.index],
                lambda: self._end_at(other, KeepAliveTimeout("the peer vanished")),
            )

    def notice_partition(self) -> None:
        """Both ends give the link up after `dead_after` seconds unless the partition is over by then."""
        one, other = self.ends
        if self.simulation.connected(one, other):
            return
        clock = self.simulation.clock

        def give_up() -> None:
            if not self.simulation.connected(one, other):
                for end in self.ends:
                    self._end_at(end, KeepAliveTimeout("nothing heard for too long"))

        clock.at(clock.now + self.simulation.model.dead_after, give_up)

    def notice_heal(self) -> None:
        """What was sent during the partition arrives."""
        for end in self.ends:
            held = self._halves[end.index].held
            waiting = list(held)
            held.clear()
            for arrive, size in waiting:
                self._send(end, arrive, size)

    def _end_at(self, end: SimPeer, error: SidecarError | None) -> None:
        number = self.numbers[end.index]
        if end.links.pop(number, None) is not None:
            end.feed(events.ConnectionClosed(number, error))
        if not any(self.numbers[peer.index] in peer.links for peer in self.ends):
            self.alive = False
