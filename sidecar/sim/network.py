"""The simulated network: links with latency and a window, partitions, and peers that vanish."""

import hashlib
import math
import random
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from ..core import events
from ..core.classes import dataclass
from ..core.errors import KeepAliveTimeout, SidecarError
from ..core.identity import Identity
from ..core.multiaddr import Multiaddr
from ..core.node import NodeConfig
from ..core.types import Direction
from .clock import Clock
from .peer import SimPeer, admit, not_supported
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
    jitter: float = 0.0
    """The share of the latency that something takes longer at most; drawn anew each time. Nothing overtakes."""
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
        self._group: dict[int, int] = {}
        self.parted = False
        """Whether there is a partition."""
        self._by_address: dict[Multiaddr, SimPeer] = {}
        self.names: dict[str, list[SimPeer]] = {}
        """The name service: who is behind a DNS name."""

    # ------------------------------------------------------------ building

    def add(
        self, config: NodeConfig, *, start: bool = True, host: str | None = None, identity: Identity | None = None
    ) -> SimPeer:
        """A new peer, with a key of its own unless it is given one.

        `host`: its IP address, which it may share; None: one of 10.0.0.0/8.
        """
        index = len(self.peers) + 1
        if identity is None:
            identity = Identity(hashlib.sha256(f"peer {index} of seed {self.seed}".encode()).digest())
        peer = SimPeer(self, index, identity, config, host)
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
            link.cut()

    def partition(self, groups: Iterable[Iterable[SimPeer]]) -> None:
        """Only peers of one group reach each other; connections across go silent and die of keep-alive."""
        self._group = {peer.index: number for number, group in enumerate(groups) for peer in group}
        self.parted = bool(self._group)
        for peer in self.peers:
            for link in list(peer.links.values()):
                link.notice_partition()

    def heal(self) -> None:
        """Everyone reaches everyone. What connections held back in the meantime goes through."""
        self._group, self.parted = {}, False
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
        # Drawn anew each time: a table of all pairs would take more memory than the nodes.
        rng = random.Random(f"{self.seed}/{min(pair)}-{max(pair)}")
        between = self.model.between
        return rng.uniform(*self.model.latency) if between is None else between(rng, *pair)

    def resent(self, size: int, latency: float) -> float:
        """How much later `size` bytes arrive since packets of them were lost, and sent again."""
        later, packets = 0.0, max(1, math.ceil(size / _PACKET))
        while later < _GIVEN_UP and self._rng.random() < 1 - (1 - self.model.loss) ** packets:
            later += max(_RESEND, 3 * latency)  # a round trip until it is missed, and the way of the new one
            packets = 1
        return later

    def drawn(self, most: float) -> float:
        """A random number up to this one."""
        return self._rng.uniform(0, most)

    def connect(
        self,
        dialler: SimPeer,
        target: SimPeer,
        dial: int | None = None,
        latencies: tuple[float, float] | None = None,
        answering: int | None = None,
        *,
        apart: bool = False,
    ) -> str | None:
        """Open a link between the two, whose handshake is over. Or return the bound of one of both that it would break.

        `dial`: the number of the dialler's `Dial`, if any. `latencies`: there and back, where they have been drawn.
        `answering`: that of the target's, where both dial at one moment.
        `apart`: as in `Dial`.
        """
        refused = admit(dialler, target)
        if refused is not None:
            return refused
        link = Link.between(self, dialler, target, latencies)
        link.apart = apart
        dialler.opened(link.number, target, Direction.OUTBOUND, dial)
        shown = Identity(hashlib.sha256(f"{self.seed}/{dialler.index}/{dial}".encode()).digest()) if apart else None
        target.opened(link.far.number, dialler, Direction.INBOUND, answering, shown)
        return None


_PACKET = 1400  # bytes of payload that fit a packet beside the headers of IP, TCP, yamux and Noise
_HEADERS = 100  # bytes of those, together
_RESEND = 0.2  # seconds; Linux waits at least so long for what so few packets follow that nobody misses it
_GIVEN_UP = 15.0  # seconds; a connection that loses more is as good as dead
_LOW = (1 << events.STREAM_BITS) - 1


class Link:
    """A connection between two peers as one of them has it; `far` is the other's side.

    Streams keep their bytes' order; nothing is lost while it lives.
    """

    __slots__ = (
        "_arrived",
        "_closing",
        "_flying",
        "_held",
        "_names",
        "_next_stream",
        "_simulation",
        "_unread",
        "_waiting",
        "_woken",
        "alive",
        "apart",
        "far",
        "latency",
        "number",
        "peer",
    )

    far: "Link"

    def __init__(self, simulation: Simulation, peer: SimPeer, latency: float, first_stream: int) -> None:
        """`peer`: whose side it is. `latency`: of what it sends, in seconds.

        `first_stream`: its parity tells the sides' streams apart, as in yamux.
        """
        self.peer = peer
        self.number = peer.attach(self)
        self.latency = latency
        self.alive = True  # until both peers know that it is over
        self.apart = False  # this side answers no streams
        self._simulation = simulation
        self._names = self.number << events.STREAM_BITS
        self._next_stream = first_stream
        # What this side sends: what waits for the window, and what a partition holds back. Tables that most links never
        # need are made when they are: a simulation has a million of these.
        self._arrived = 0.0  # when the last of what was sent is there: nothing overtakes it
        self._woken: dict[int, None] = {}
        self._closing: dict[int, None] | None = None
        self._flying = 0
        self._held: list[tuple[Callable[..., None], tuple[Any, ...], int]] | None = None
        self._unread: dict[int, int] | None = None  # deferred stream -> bytes not acknowledged; by the low bits
        # What this side has received while it does not read.
        self._waiting: deque[tuple[Callable[..., None], tuple[Any, ...]]] | None = None

    @staticmethod
    def between(
        simulation: Simulation, dialler: SimPeer, target: SimPeer, latencies: tuple[float, float] | None = None
    ) -> "Link":
        """A new connection; returns the dialler's side."""
        there, back = latencies or (simulation.latency(dialler, target), simulation.latency(target, dialler))
        one = Link(simulation, dialler, there, 1)
        other = Link(simulation, target, back, 2)
        one.far, other.far = other, one
        return one

    # ------------------------------------------------------------ streams

    def open_stream(self, asked: events.OpenStream) -> None:
        """Carry the negotiation over: the other side opens the stream, or it fails with NotSupported."""
        stream = self._next_stream
        self._next_stream += 2
        self._send(self.far._asked, (stream, asked))

    def _asked(self, stream: int, asked: events.OpenStream) -> None:
        protocol = None if self.apart else self.peer.accepted(asked.protocols)
        far = self.far
        if protocol is None:
            error = not_supported(asked.protocols)
            self._send(far.peer.feed, (events.StreamFailed(asked.token, error),))
            return
        self._send(far.peer.feed, (events.StreamOpened(far._names | stream, protocol, asked.token),))
        self.peer.feed(events.StreamOpened(self._names | stream, protocol, None))

    def wake(self, stream: int) -> None:
        """This side has something to send on the stream; it is pulled as far as the windows allow."""
        self._woken.setdefault(stream)
        self._pump()

    def close_write(self, stream: int) -> None:
        """End the direction from this side, behind what it still has to send."""
        if self._closing is None:
            self._closing = {}
        self._closing[stream] = None
        self._woken.setdefault(stream)
        self._pump()

    def reset(self, stream: int) -> None:
        """End the stream at once, in both directions; the other side hears of it."""
        self._woken.pop(stream, None)
        if self._closing:
            self._closing.pop(stream, None)
        far = self.far
        self._send(far.peer.feed, (events.StreamGone(far._names | stream & _LOW),))

    def pause(self, paused: bool) -> None:
        """This side reads no more, or reads again: what comes meanwhile waits before it."""
        waiting = self._waiting
        if paused and waiting is None:
            self._waiting = deque()
        elif not paused and waiting is not None:
            self._waiting = None
            while waiting and self._waiting is None:
                arrive, about = waiting.popleft()
                arrive(*about)
            if waiting:  # paused again by what it read
                self._waiting = waiting

    def defer(self, stream: int) -> None:
        """The other side's bytes on this stream count until this side acknowledges them."""
        far = self.far
        if far._unread is None:
            far._unread = {}
        far._unread.setdefault(stream & _LOW, 0)

    def acknowledge(self, stream: int, size: int) -> None:
        """The app at this side has read `size` bytes: the other side may send as many more."""
        self._send(self.far._acknowledged, (stream & _LOW, size))

    def _acknowledged(self, stream: int, size: int) -> None:
        unread = self._unread
        if unread and stream in unread:
            unread[stream] -= size
            self.wake(self._names | stream)

    def measure(self) -> None:
        """Ping the other side, and tell how long the answer took."""
        clock = self._simulation.clock
        begun = clock.now

        def answered() -> None:
            self.peer.feed(events.LatencyMeasured(self.number, (clock.now - begun) * self.peer.pace))

        self._send(self.far._send, (answered, ()))

    def _pump(self) -> None:
        """Send while the window is open."""
        woken, peer, window = self._woken, self.peer, self._simulation.model.window
        while woken and self._flying < window and self.alive:
            unread = self._unread
            stream = next(iter(woken)) if not unread else _sendable(woken, unread, window)
            if stream is None:
                break
            data = peer.take(stream)
            if data:
                self._send_data(stream & _LOW, data)
                if peer.waits(stream):
                    continue
            woken.pop(stream, None)
            closing = self._closing
            if closing and stream in closing:
                del closing[stream]
                if not closing:
                    self._closing = None
                far = self.far
                self._send(far.peer.feed, (events.StreamEnded(far._names | stream & _LOW),))
        if not woken:
            self._woken = {}  # an emptied one is four times as large
        peer.taken()

    def _send_data(self, stream: int, data: bytes) -> None:
        self._flying += len(data)
        if self._unread and stream in self._unread:
            self._unread[stream] += len(data)
        self._send(self.far._received, (stream, data), len(data))

    def _received(self, stream: int, data: bytes) -> None:
        far = self.far
        far._flying -= len(data)
        self.peer.feed(events.StreamsReceived(self.number, ((self._names | stream, data),)))
        if far._woken and far.peer.alive:  # it waited for the window
            far._pump()

    # ------------------------------------------------------------ the wire

    def _send(self, arrive: Callable[..., None], about: tuple[Any, ...], size: int = 0) -> None:
        """Have `arrive(*about)` happen at the other side, in order: one latency later, or as `size` bytes take."""
        simulation, far = self._simulation, self.far
        if simulation.parted and not simulation.connected(self.peer, far.peer):
            if self._held is None:
                self._held = []
            self._held.append((arrive, about, size))
            return
        clock, model = simulation.clock, simulation.model
        sent = clock.now if not model.uplink else self.peer.sends(size + _HEADERS, model.uplink)
        arrival = sent + self.latency
        if model.jitter:
            arrival += self.latency * simulation.drawn(model.jitter)
        if model.loss:
            arrival += simulation.resent(size, self.latency)
        before, self._arrived = self._arrived, max(self._arrived, arrival)
        if not model.downlink:
            clock.at(self._arrived, far._arrives, (arrive, about))
            return
        # The first byte takes its place in the queue when it is there, the last one cannot pass before it is.
        last = self._arrived
        first = last - (size + _HEADERS) / model.uplink if model.uplink else last
        clock.at(max(before, first), far._queues, (last, size + _HEADERS, arrive, about))

    def _queues(self, last: float, size: int, arrive: Callable[..., None], about: tuple[Any, ...]) -> None:
        simulation = self._simulation
        passed = self.peer.receives(size, simulation.model.downlink)
        simulation.clock.at(max(last, passed), self._arrives, (arrive, about))

    def _arrives(self, arrive: Callable[..., None], about: tuple[Any, ...]) -> None:
        if self.alive and self.peer.alive:
            if self._waiting is None:
                arrive(*about)
            else:
                self._waiting.append((arrive, about))

    def close(self, error: SidecarError | None) -> None:
        """This side closes in order: what it has sent still arrives before the end does."""
        if self.peer.detach(self.number) is None:
            return
        clock = self._simulation.clock
        clock.at(clock.now, self.peer.feed, (events.ConnectionClosed(self.number, error),))
        self._send(self.far._end, (None,))

    def cut(self) -> None:
        """This side's peer is no more; the other learns it a latency later."""
        self.peer.detach(self.number)
        clock, far = self._simulation.clock, self.far
        if self._simulation.connected(self.peer, far.peer):
            clock.at(clock.now + self.latency, far._end, (KeepAliveTimeout("the peer vanished"),))

    def notice_partition(self) -> None:
        """Both sides give the link up after `dead_after` seconds unless the partition is over by then."""
        if not self._simulation.connected(self.peer, self.far.peer):
            clock = self._simulation.clock
            clock.at(clock.now + self._simulation.model.dead_after, self._give_up)

    def _give_up(self) -> None:
        if not self._simulation.connected(self.peer, self.far.peer):
            for side in self._sides():
                side._end(KeepAliveTimeout("nothing heard for too long"))

    def notice_heal(self) -> None:
        """What was sent during the partition arrives."""
        for side in self._sides():
            held, side._held = side._held, None
            for arrive, about, size in held or ():
                side._send(arrive, about, size)

    @property
    def outbound(self) -> bool:
        """Whether this side dialled."""
        return bool(self._next_stream & 1)

    def _sides(self) -> tuple["Link", "Link"]:
        """The dialler's first."""
        return (self, self.far) if self.outbound else (self.far, self)

    def _end(self, error: SidecarError | None) -> None:
        far = self.far
        if self.peer.detach(self.number) is not None:
            self.peer.feed(events.ConnectionClosed(self.number, error))
        if self.number not in self.peer.links and far.number not in far.peer.links:
            self.alive = far.alive = False


def _sendable(woken: Iterable[int], unread: Mapping[int, int], window: int) -> int | None:
    """The first of the streams of which the other side has not too much unread."""
    return next((stream for stream in woken if unread.get(stream & _LOW, 0) < window), None)
