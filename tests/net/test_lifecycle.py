"""A connection's life: the table, and that no sequence of events leads a connection out of it."""

import contextlib
import errno
import logging
import os
from collections.abc import Callable, Iterator, Sequence
from time import monotonic
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sidecar.core import events
from sidecar.core.channel import Channel, ChannelLimits
from sidecar.core.errors import Closed, PeerBanned, ProtocolError, SidecarError
from sidecar.core.identity import Identity
from sidecar.core.types import Direction
from sidecar.net.config import NetConfig
from sidecar.net.connection import Connection
from sidecar.net.layered import LayeredConnection
from sidecar.net.layers import Stack
from sidecar.net.lifecycle import OVER, TRANSITIONS, State, Step, after
from sidecar.net.private import PrivateLayer
from sidecar.net.websocket import WebSocketLayer

US, REMOTE = Identity(b"\1" * 32), Identity(b"\2" * 32)
PSK = b"\7" * 32
SERVED = "/served/1"


@pytest.fixture(autouse=True, scope="module")
def quiet() -> Iterator[None]:
    """Writing down what happens to thousands of connections takes longer than all else."""
    logger = logging.getLogger("sidecar.net")
    logger.setLevel(logging.CRITICAL)
    yield
    logger.setLevel(logging.NOTSET)


def reachable(state: State) -> set[State]:
    found: set[State] = set()
    ahead = [state]
    while ahead:
        further = set(TRANSITIONS[ahead.pop()].values()) - found
        found |= further
        ahead += further
    return found


def test_every_state_is_reached_and_leads_to_the_end_only() -> None:
    assert set(TRANSITIONS) == set(State)
    assert reachable(State.NEW) == set(State) - {State.NEW}
    for state in State:
        assert state not in reachable(state)  # never back
        assert State.CLOSED in reachable(state) | {state}


def test_nothing_leads_back_from_the_end() -> None:
    for state in OVER:
        assert reachable(state) <= set(OVER)
    assert not TRANSITIONS[State.CLOSED]


def test_a_socket_can_be_lost_and_cut_off_in_every_state_that_has_one() -> None:
    for state in set(State) - {State.NEW, State.CLOSED}:
        assert after(state, Step.LOST) is State.CLOSED
        assert state is State.CUT or after(state, Step.ABORTED) is State.CUT


def test_what_the_table_does_not_have_raises() -> None:
    for state in State:
        for step in set(Step) - set(TRANSITIONS[state]):
            with pytest.raises(RuntimeError, match=f"{state.name} cannot be {step.name}"):
                after(state, step)


# ---------------------------------------------------------------- sequences


class Timer:
    """What a loop gives for a call to come."""

    def __init__(self, due: float, call: Callable[..., object], arguments: tuple[Any, ...]) -> None:
        self.due, self._call, self._arguments = due, call, arguments
        self.cancelled = False

    def cancel(self) -> None:
        self.cancelled = True

    def fire(self) -> None:
        if not self.cancelled:
            self._call(*self._arguments)


class Loop:
    """As much of an event loop as a connection needs: calls are made when the test says so."""

    def __init__(self) -> None:
        self.soon: list[Timer] = []
        self.timers: list[Timer] = []

    def call_soon(self, call: Callable[..., object], *arguments: Any) -> Timer:
        self.soon.append(Timer(0.0, call, arguments))
        return self.soon[-1]

    def call_at(self, due: float, call: Callable[..., object], *arguments: Any) -> Timer:
        self.timers.append(Timer(due, call, arguments))
        return self.timers[-1]

    def call_later(self, delay: float, call: Callable[..., object], *arguments: Any) -> Timer:
        return self.call_at(monotonic() + delay, call, *arguments)

    def turn(self) -> None:
        calls, self.soon = self.soon, []
        for call in calls:
            call.fire()

    def pending(self) -> list[Timer]:
        return [timer for timer in self.timers if not timer.cancelled]

    def fire(self) -> None:
        """Let the time of the next timer come."""
        if pending := self.pending():
            timer = min(pending, key=lambda timer: timer.due)
            self.timers.remove(timer)
            timer.fire()


class Transport:
    """A socket whose remote reads and writes when the test says so. What it may not be asked for, it refuses."""

    def __init__(self, loop: Loop) -> None:
        self.loop = loop
        self.protocol: Connection
        self.out = bytearray()  # written, and not on its way yet
        self.reading = True
        self.closing = self.output_ended = self.losing = self.lost = False

    def get_extra_info(self, name: str) -> tuple[str, int] | None:
        return ("192.0.2.1", 4001) if name in ("peername", "sockname") else None

    def set_write_buffer_limits(self, high: int, low: int) -> None:
        assert low < high

    def get_write_buffer_size(self) -> int:
        return len(self.out)

    def is_closing(self) -> bool:
        return self.closing

    def writelines(self, buffers: Sequence[bytes | memoryview]) -> None:
        assert not self.closing
        assert not self.output_ended
        self.out += b"".join(buffers)

    def write_eof(self) -> None:
        assert not self.closing
        assert not self.output_ended
        self.output_ended = True

    def pause_reading(self) -> None:
        assert self.reading
        assert not self.closing
        self.reading = False

    def resume_reading(self) -> None:
        assert not self.reading
        assert not self.closing
        self.reading = True

    def close(self) -> None:
        self.closing = True
        self._flushed()

    def abort(self) -> None:
        self.out.clear()
        self.close()

    def taken(self) -> bytes:
        """What was written is on its way."""
        out = bytes(self.out)
        self.out.clear()
        self._flushed()
        return out

    def _flushed(self) -> None:
        if self.closing and not self.out and not self.losing:
            self.lose(None)

    def lose(self, error: Exception | None) -> None:
        self.closing = self.losing = True
        self.loop.call_soon(self._lose, error)

    def _lose(self, error: Exception | None) -> None:
        assert not self.lost
        self.lost = True
        self.protocol.connection_lost(error)

    @property
    def readable(self) -> bool:
        return self.reading and not self.closing


class Host:
    """The runtime of one connection, and its node: says no when the test says so, and writes down what it is told."""

    def __init__(self, loop: Loop) -> None:
        self.loop: Any = loop
        self.config = NetConfig()
        self.refusal: dict[str, SidecarError] = {}
        self.admits = True
        self.sound = True
        self.told: list[str] = []
        self.defects = 0
        self.lost_count = 0
        self.buffered = 0
        self.streams: list[int] = []
        self._dirty: list[Connection] = []

    def admit(self, connection: Connection) -> Channel | None:
        return channel(US, dialer=False, pull=connection.pull) if self.admits else None

    def refuse_peer(self, connection: Connection) -> SidecarError | None:
        return self.refusal.get("peer")

    def refuse_upgraded(self, connection: Connection) -> SidecarError | None:
        return self.refusal.get("upgraded")

    def opened(self, connection: Connection, now: float) -> bool:
        self.told.append("opened")
        return self.sound

    def upgrade_failed(self, connection: Connection, error: SidecarError | None) -> None:
        self.told.append("upgrade failed")

    def ended(self, connection: Connection, error: SidecarError | None) -> None:
        self.told.append("ended")

    def lost(self, connection: Connection) -> None:
        self.lost_count += 1

    def receive(self, input: object, now: float) -> bool:
        assert self.told == ["opened"], input  # neither before nor behind
        if isinstance(input, events.StreamOpened):
            self.streams.append(input.stream)
        return self.sound

    def broken(self) -> None:
        self.defects += 1

    def take(self, stream: int, limit: int) -> Sequence[bytes]:
        assert self.told == ["opened"]
        return ()

    def pump_soon(self, connection: Connection) -> None:
        assert not self._dirty  # said once
        self._dirty.append(connection)
        self.loop.call_soon(self._flush)

    def _flush(self) -> None:
        dirty, self._dirty = self._dirty, []
        for connection in dirty:
            connection.pump()

    def account(self, connection: Connection, change: int) -> None:
        self.buffered += change


def channel(identity: Identity, *, dialer: bool, pull: Any) -> Channel:
    return Channel(
        identity,
        dialer=dialer,
        expected_peer=None,
        limits=ChannelLimits(),
        pull=pull,
        accepts=lambda protocol: protocol == SERVED,
        ephemeral=bytes([dialer]) * 32,
        now=monotonic(),
    )


class Steps:
    """Writes the steps of a connection down."""

    steps: list[tuple[State, Step, State]]

    def _advance(self, step: Step) -> None:
        before = self.state  # type: ignore[attr-defined]
        super()._advance(step)  # type: ignore[misc]
        self.steps.append((before, step, self.state))  # type: ignore[attr-defined]


class Plain(Steps, Connection):
    """A connection without layers."""


class Layered(Steps, LayeredConnection):
    """A connection with layers."""


STACKS: dict[str, Callable[[bool], Stack | None]] = {
    "plain": lambda dialled: None,
    "private": lambda dialled: Stack([PrivateLayer(PSK, bytes([dialled]) * 24)]),
    "websocket": lambda dialled: Stack([WebSocketLayer("192.0.2.1", 4001) if dialled else WebSocketLayer()]),
}


class World:
    """A listening connection, its remote, and all that can happen to them."""

    def __init__(self, layers: str) -> None:
        self.loop = Loop()
        self.host = Host(self.loop)
        self.transport = Transport(self.loop)
        stack = STACKS[layers](False)
        if stack is None:
            self.connection: Connection = Plain(self.host, 1, Direction.INBOUND)
        else:
            self.connection = Layered(self.host, 1, Direction.INBOUND, None, stack=stack, suffix="")
        self.steps: list[tuple[State, Step, State]] = []
        self.connection.steps = self.steps  # type: ignore[attr-defined]
        self.transport.protocol = self.connection
        self._stack = STACKS[layers](True)
        self._remote = channel(REMOTE, dialer=True, pull=self._pull_theirs)
        self._theirs: dict[int, int] = {}  # the remote's streams, and how many bytes it has for each
        self._wire = bytearray()  # from the remote, and not with us yet
        self._write_paused = False
        self.drained = False

    @property
    def alive(self) -> bool:
        """Whether a runtime would still have the connection."""
        return bool(self.steps) and self.steps[0][1] is Step.ADMITTED and not self.transport.lost

    def happen(self, event: str, amount: int) -> None:
        getattr(self, event)(amount)
        state = self.connection.state
        assert self.connection.over == (state in OVER)
        assert self.connection.open == (state in (State.OPEN, State.DRAINING))

    # what the loop and the socket do

    def made(self, amount: int = 0) -> None:
        if not self.steps:
            self.connection.connection_made(self.transport)  # type: ignore[arg-type]

    def turn(self, amount: int = 0) -> None:
        self.loop.turn()

    def time(self, amount: int) -> None:
        self.loop.fire()

    def pause_writing(self, amount: int) -> None:
        if self.alive and not self._write_paused:
            self._write_paused = True
            self.connection.pause_writing()

    def resume_writing(self, amount: int = 0) -> None:
        if self.alive and self._write_paused:
            self._write_paused = False
            self.connection.resume_writing()

    def lose(self, amount: int) -> None:
        if self.steps and not self.transport.losing:
            self.transport.lose(ConnectionResetError("reset") if amount % 2 else None)

    # what the remote does

    def hear(self, amount: int = 0) -> None:
        data = self.transport.taken()
        with contextlib.suppress(SidecarError):  # the layer does not understand us
            if plain := data if self._stack is None else self._stack.feed(data):
                self._remote.receive_data(plain, monotonic())

    def speak(self, amount: int = 1 << 20) -> None:
        plain: Sequence[bytes | memoryview] = ()
        if self._stack is None:
            plain = self._remote.data_to_send(1 << 20)
        else:
            self._wire += b"".join(self._stack.output())
            if self._stack.ready and (said := self._remote.data_to_send(1 << 20)):
                plain = self._stack.seal(said)
        self._wire += b"".join(plain)
        self._bring(amount)

    def _bring(self, amount: int) -> None:
        data = bytes(self._wire[:amount])
        if data and self.alive and self.transport.readable:
            del self._wire[:amount]
            self.connection.data_received(data)

    def talk(self, amount: int) -> None:
        """Enough for a handshake."""
        self.made()
        for _ in range(6):
            self.speak()
            self.turn()
            self.hear()

    def open_theirs(self, amount: int) -> None:
        """With something on it; the remote does not wait for our consent."""
        with contextlib.suppress(SidecarError):  # not ready yet, or gone
            stream = self._remote.open_stream((SERVED if amount % 2 else "/unknown/1",), monotonic())
            self._theirs[stream] = 1 + 300 * amount  # up to more than one turn reads
            self._remote.wake(stream)

    def _pull_theirs(self, stream: int, limit: int) -> Sequence[bytes]:
        left = self._theirs.get(stream, 0)
        self._theirs[stream] = left - min(left, limit)
        return [bytes(min(left, limit))] if left and limit else ()

    def junk(self, amount: int) -> None:
        self._wire += bytes([amount % 256]) * (1 + amount)
        self._bring(1 << 20)

    def leave(self, amount: int) -> None:
        self._remote.close(monotonic())

    def end(self, amount: int) -> None:
        if self.alive and self.transport.readable and not self.connection.eof_received():
            self.transport.close()

    def unmask(self, amount: int) -> None:
        """The layer says goodbye, where it has one."""
        if self._stack is not None:
            self._wire += b"".join(self._stack.close())
            self._bring(1 << 20)

    # what the runtime and the node do

    def open_ours(self, amount: int) -> None:
        if self.connection.open:
            self.connection.open_stream(amount, (SERVED, "/other/1")[: 1 + amount % 2], monotonic())

    def use(self, amount: int) -> None:
        """Something that is asked of a stream."""
        if self.alive and (streams := self.host.streams):
            stream = streams[amount % len(streams)]
            ask = (self.connection.wake, self.connection.close_write, self.connection.reset, self.connection.defer)
            ask[amount % 4](stream)

    def pause(self, amount: int) -> None:
        if self.alive:
            self.connection.pause(amount % 2 == 0)

    def close(self, amount: int) -> None:
        if self.connection.open:
            self.connection.close(ProtocolError("what it did") if amount % 2 else None)

    def drain(self, amount: int) -> None:
        if self.alive:
            self.drained = True
            self.connection.drain()

    def abort(self, amount: int) -> None:
        if self.steps:
            self.connection.abort(Closed("enough") if amount % 2 else None)

    def refuse(self, amount: int) -> None:
        """From now on."""
        if amount % 4 == 0:
            self.host.admits = False
        else:
            self.host.refusal[("peer", "upgraded")[amount % 2]] = PeerBanned("unwanted")

    def break_down(self, amount: int) -> None:
        """The node fails at whatever it is told from now on."""
        self.host.sound = False

    # the end

    def finish(self) -> None:
        """The loop goes on until nothing is left to do; who asks a connection to drain sees to it that it ends."""
        self.made()
        self.resume_writing()
        for _ in range(60):
            self.turn()
            self.hear()
            if self.connection.state is not State.CLOSED and not self.loop.soon:
                self.loop.fire()
        if self.drained:
            self.abort(1)
            self.turn()


EVENTS = [
    *("made", "turn", "time", "pause_writing", "resume_writing", "lose"),
    *("hear", "speak", "talk", "open_theirs", "junk", "leave", "end", "unmask"),
    *("open_ours", "use", "pause", "close", "drain", "abort", "refuse", "break_down"),
]
OFTEN = ["talk", "turn", "turn", "hear", "speak", "speak"]  # what leads on
sequences = st.lists(st.tuples(st.sampled_from(OFTEN * 2 + EVENTS), st.integers(0, 300)), max_size=30)


def went(world: World, sequence: Sequence[tuple[str, int]]) -> None:
    """Let a sequence happen, then all that is left to happen; what must hold of every connection does."""
    for event, amount in sequence:
        world.happen(event, amount)
    world.finish()
    host, steps = world.host, world.steps
    for before, step, then in steps:
        assert TRANSITIONS[before][step] is then
    assert world.connection.state is State.CLOSED
    assert host.defects == 0
    assert host.buffered == 0
    assert not world.loop.pending()
    if steps[0][1] is Step.REFUSED:
        assert (host.told, host.lost_count) == ([], 0)
    else:
        assert host.told in (["upgrade failed"], ["opened", "ended"])
        assert host.lost_count == 1


UPGRADED = [("talk", 0)]
WAYS = {
    (State.NEW, Step.REFUSED): [("refuse", 0)],
    (State.NEW, Step.ADMITTED): [("made", 0)],
    (State.UPGRADING, Step.UPGRADED): UPGRADED,
    (State.UPGRADING, Step.ENDED): [("made", 0), ("junk", 9)],
    (State.UPGRADING, Step.ABORTED): [("made", 0), ("drain", 0)],
    (State.UPGRADING, Step.LOST): [("made", 0), ("lose", 1)],
    (State.OPEN, Step.DRAIN_ASKED): [*UPGRADED, ("drain", 0)],
    (State.OPEN, Step.ENDED): [*UPGRADED, ("close", 0)],
    (State.OPEN, Step.ABORTED): [*UPGRADED, ("abort", 1)],
    (State.OPEN, Step.LOST): [*UPGRADED, ("lose", 0)],
    (State.DRAINING, Step.ENDED): [*UPGRADED, ("drain", 0), ("turn", 0)],
    (State.DRAINING, Step.ABORTED): [*UPGRADED, ("drain", 0), ("abort", 0)],
    (State.DRAINING, Step.LOST): [*UPGRADED, ("pause_writing", 0), ("drain", 0), ("lose", 0)],
    (State.CLOSING, Step.ABORTED): [*UPGRADED, ("close", 0), ("abort", 0)],
    (State.CLOSING, Step.LOST): [*UPGRADED, ("close", 0)],
    (State.CUT, Step.LOST): [*UPGRADED, ("abort", 0)],
}


def test_every_way_through_the_table_is_known() -> None:
    assert set(WAYS) == {(state, step) for state, row in TRANSITIONS.items() for step in row}


@pytest.mark.parametrize("layers", STACKS)
@pytest.mark.parametrize(("state", "step"), WAYS)
def test_every_way_through_the_table_is_taken(layers: str, state: State, step: Step) -> None:
    world = World(layers)
    went(world, WAYS[state, step])
    assert (state, step) in [(before, taken) for before, taken, _ in world.steps]


@pytest.mark.parametrize(
    ("error", "defects"),
    [(OSError(errno.ENOTCONN, os.strerror(errno.ENOTCONN)), 0), (RuntimeError("the handler is closed"), 1)],
)
def test_a_socket_that_cannot_end_its_stream_is_cut_and_harms_no_other(error: Exception, defects: int) -> None:
    world = World("plain")
    world.happen("talk", 0)

    def write_eof() -> None:
        raise error

    world.transport.write_eof = write_eof  # type: ignore[method-assign]
    world.happen("close", 0)
    world.finish()
    assert world.connection.state is State.CLOSED
    assert (world.host.defects, world.host.told) == (defects, ["opened", "ended"])


SERVING = [*UPGRADED, ("open_theirs", 1), ("talk", 0)]
CLOSED = [("close", 0), ("turn", 0), ("turn", 0)]  # the end of our stream is said


@pytest.mark.parametrize("layers", STACKS)
@pytest.mark.parametrize(
    "sequence",
    [
        [*SERVING, ("use", 0), ("close", 0), ("turn", 0)],
        [*SERVING, *CLOSED, ("use", 2), ("turn", 0)],
        [*SERVING, ("drain", 0), ("turn", 0), ("turn", 0), ("use", 2), ("turn", 0)],
        [*SERVING, *CLOSED, ("pause_writing", 0), ("resume_writing", 0), ("turn", 0)],
        [("made", 0), ("refuse", 1), ("speak", 999), ("turn", 0), ("hear", 0), ("open_theirs", 1), ("speak", 9999)],
        [*SERVING, ("pause", 0), ("open_theirs", 1), ("speak", 9999), ("abort", 0), ("pause", 1)],
        [*UPGRADED, ("break_down", 0), ("open_theirs", 1), ("speak", 9999)],
    ],
    ids=[
        *("woken, closed", "closed, reset", "drained, reset", "pumped again", "unwanted, with data"),
        *("cut while paused", "broken over a stream with data"),
    ],
)
def test_nothing_is_asked_for_or_written_behind_the_end(layers: str, sequence: list[tuple[str, int]]) -> None:
    world = World(layers)
    went(world, sequence)
    assert "ended" in world.host.told or world.host.refusal


@pytest.mark.parametrize("layers", ["private", "websocket"])
def test_a_layer_that_breaks_cuts_the_connection(layers: str) -> None:
    world = World(layers)
    world.made()
    world.junk(256 + ord("\n"))
    assert world.connection.state is State.CUT
    assert world.transport.closing
    read = world.connection.bytes_in
    world.connection.data_received(b"more")
    assert world.connection.bytes_in == read
    went(world, [])


@pytest.mark.parametrize("layers", STACKS)
@given(sequence=sequences)
@settings(max_examples=150, deadline=None)
def test_no_sequence_of_events_leads_out_of_the_table(layers: str, sequence: list[tuple[str, int]]) -> None:
    went(World(layers), sequence)
