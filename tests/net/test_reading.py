"""Reading: in turns, not at all while the node wants none, and with a count of what was of no use."""

from collections.abc import Callable
from typing import Any

import pytest

from sidecar.core import channel as wire
from sidecar.core import events
from sidecar.core.channel import frames
from sidecar.core.errors import WorkExceeded
from sidecar.net import reading
from sidecar.net.config import NetConfig
from sidecar.net.reading import READ_TURN, SHORT_TURN, ReadTurns

from .harness import ECHO, SINK, Host, both_loops, closed, hosts, one_loop
from .test_hostile import RawClient


@both_loops
async def test_a_paused_connection_is_not_read_until_it_is_resumed_and_loses_nothing() -> None:
    async with hosts(3) as (reader, writer, other):
        opened = await writer.connect(reader)
        there = (await reader.node.saw(events.ConnectionOpened)).connection
        stream = await writer.open_stream(opened.connection, SINK)
        arrived = (await reader.node.saw(events.StreamOpened)).stream
        reader.do(events.PauseReading(there))
        reader.do(events.PauseReading(there))  # said twice it means the same
        writer.do(*writer.node.write(stream, bytes(300_000)))
        echo = await other.open_stream((await other.connect(reader)).connection)
        for number in range(20):  # others are read meanwhile
            other.do(*other.node.write(echo, b"%4d" % number))
            await other.received(echo, 4 * (number + 1))
        assert not reader.node.received[arrived]
        reader.do(events.ResumeReading(there))
        assert await reader.received(arrived, 300_000) == bytes(300_000)


@both_loops
async def test_an_end_while_paused_is_heard_of_once_it_is_read() -> None:
    async with hosts(2) as (reader, writer):
        opened = await writer.connect(reader)
        there = (await reader.node.saw(events.ConnectionOpened)).connection
        reader.do(events.PauseReading(there))
        writer.do(events.CloseConnection(opened.connection, None))
        await writer.node.until(closed(opened.connection))
        reader.do(events.ResumeReading(there))
        await reader.node.until(closed(there))


@both_loops
async def test_much_that_came_at_once_is_handled_in_turns() -> None:
    async with hosts(1) as (host,):
        client = await RawClient.connect(host)
        await client.until(wire.Ready)
        number = client.channel.open_stream((SINK,), 0.0)
        await client.until(wire.StreamNegotiated)
        (connection,) = host.runtime._connections.values()
        seen = []
        turns = connection._turns
        assert turns is not None
        read = turns._read
        turns._read = lambda data: (seen.append(len(data)), read(data))  # type: ignore[assignment]
        body = bytes(200_000)
        ciphers = client.channel._ciphers
        assert ciphers is not None
        plaintext = frames.pack(frames.DATA, 0, number, len(body)) + body
        parts = [plaintext[at : at + 60_000] for at in range(0, len(plaintext), 60_000)]
        connection.data_received(b"".join(wire_frame(ciphers[0].encrypt(part)) for part in parts))
        stream = next(iter(host.node.received))
        assert await host.received(stream, len(body)) == body
        assert len(seen) == 4
        assert max(seen) <= READ_TURN
        await client.close()


class _Turns:
    """A loop that is turned by hand, a transport, and a clock that stands while nothing is read."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *, piece_takes: float) -> None:
        self.now = 0.0
        self.closing = False
        self.reading = True
        self.read: list[int] = []
        self._piece_takes = piece_takes
        self._due: list[Callable[[], None]] = []
        monkeypatch.setattr(reading, "monotonic", lambda: self.now)
        me: Any = self
        self.turns = ReadTurns(me, me, self._take, lambda: None)

    def _take(self, data: memoryview) -> None:
        self.read.append(len(data))
        self.now += self._piece_takes

    def call_soon(self, due: Callable[[], None]) -> object:
        self._due.append(due)
        return due

    def is_closing(self) -> bool:
        return self.closing

    def pause_reading(self) -> None:
        self.reading = False

    def resume_reading(self) -> None:
        self.reading = True

    def turn(self) -> None:
        due, self._due = self._due, []
        for each in due:
            each()


def test_pieces_that_take_no_time_share_a_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    loop = _Turns(monkeypatch, piece_takes=SHORT_TURN / 8)
    loop.turns.hold(bytes(4 * READ_TURN))
    assert not loop.reading
    loop.turn()
    assert loop.read == [READ_TURN] * 4
    assert loop.reading


def test_pieces_that_take_long_have_a_turn_each(monkeypatch: pytest.MonkeyPatch) -> None:
    loop = _Turns(monkeypatch, piece_takes=SHORT_TURN)
    loop.turns.hold(bytes(2 * READ_TURN + 1))
    for pieces in (1, 2, 3):
        loop.turn()
        assert len(loop.read) == pieces
    assert loop.read == [READ_TURN, READ_TURN, 1]
    assert loop.reading


def test_a_turn_ends_where_its_bytes_end_the_connection_or_pause_it(monkeypatch: pytest.MonkeyPatch) -> None:
    for stop in (lambda loop: setattr(loop, "closing", True), lambda loop: loop.turns.pause(True)):
        loop = _Turns(monkeypatch, piece_takes=0.0)
        take = loop.turns._read
        loop.turns._read = lambda data, take=take, stop=stop, loop=loop: (take(data), stop(loop))  # type: ignore[assignment,misc]
        loop.turns.hold(bytes(3 * READ_TURN))
        loop.turn()
        assert loop.read == [READ_TURN]
        assert loop.turns.take_rest() == bytes(2 * READ_TURN)


def wire_frame(ciphertext: bytes) -> bytes:
    return len(ciphertext).to_bytes(2, "big") + ciphertext


@pytest.mark.parametrize(
    "frame",
    [
        frames.pack(frames.PING, frames.ACK, 0, 1),
        frames.pack(frames.WINDOW_UPDATE, 0, 1, 0),
        frames.pack(frames.DATA, 0, 1, 0),
    ],
    ids=["ping", "window update", "data"],
)
@one_loop
async def test_frames_without_use_are_told_to_the_node(frame: bytes) -> None:
    async with hosts(1) as (host,):
        client = await RawClient.connect(host)
        await client.until(wire.Ready)
        client.channel.open_stream((ECHO,), 0.0)
        await client.until(wire.StreamNegotiated)
        client.seal(frame * 500)
        work = await host.node.saw(events.WorkCaused)
        assert work.connection == host.node.all(events.ConnectionOpened)[0].connection
        assert 16 <= work.points <= 501
        await client.close()


@one_loop
async def test_who_was_sent_away_for_work_may_try_again_only_now_and_then(caplog: pytest.LogCaptureFixture) -> None:
    async with hosts(1) as (host,):
        attacker = Host(50, NetConfig())
        try:
            opened = await attacker.connect(host)
            there = (await host.node.saw(events.ConnectionOpened)).connection
            host.do(events.CloseConnection(there, WorkExceeded("needless work, mostly gossip")))
            await attacker.node.until(closed(opened.connection))
            for _ in range(10):
                attacker.dial(host.addresses, host.peer, force=True)
            for number in range(2, 12):
                await attacker.node.until(
                    lambda input, number=number: getattr(input, "dial", None) == number  # type: ignore[misc]
                )
            assert len(host.node.all(events.ConnectionOpened)) <= 1 + 6
        finally:
            await attacker.runtime.close(1)
        assert host.runtime.statistics().closed_by["WorkExceeded"] == 1
    assert "mostly gossip" in caplog.text
