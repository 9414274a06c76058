"""The machine of the client's own engine: however bytes are cut, and whatever bytes come."""

import random

import pytest
from sidecar_client.codes import Code
from sidecar_client.http2.binding import Headers, Violation
from sidecar_client.http2.connection import ClientConnection

from tests.api.server import frames
from tests.api.server.frames import END_HEADERS, END_STREAM, block, frame, prefixed
from tests.net.pieces import pieces

HEAD = block(((b":status", b"200"), (b"content-type", b"application/grpc")))
OK = block(((b"grpc-status", b"0"),))
REQUEST: Headers = (
    (b":method", b"POST"),
    (b":scheme", b"http"),
    (b":path", b"/a.B/C"),
    (b":authority", b"localhost"),
    (b"te", b"trailers"),
    (b"content-type", b"application/grpc"),
)


class Heard:
    """What a call is told."""

    def __init__(self) -> None:
        self.told: list[object] = []
        self.over = False

    def _tell(self, what: object, *, last: bool = False) -> None:
        assert not self.over, "something behind the end"
        self.over = last
        self.told.append(what)

    def began(self, headers: Headers) -> None:
        self._tell("began")

    def came(self, messages: list[bytes]) -> None:
        for message in messages:
            self._tell(message)

    def ended(self, headers: Headers) -> None:
        self._tell(dict(headers).get(b"grpc-status"), last=True)

    def failed(self, code: Code, message: str, reached: bool) -> None:
        self._tell((code, reached), last=True)


def begun(calls: int) -> tuple[ClientConnection, list[Heard]]:
    machine = ClientConnection()
    machine.receive_data(frame(frames.SETTINGS))
    heard = [Heard() for _ in range(calls)]
    for sink in heard:
        machine.begin(sink, REQUEST, b"question")
    machine.data_to_send(1 << 20)
    return machine, heard


def answer(stream: int, *messages: bytes) -> bytes:
    return (
        frame(frames.HEADERS, HEAD, flags=END_HEADERS, stream=stream)
        + b"".join(frame(frames.DATA, prefixed(message), stream=stream) for message in messages)
        + frame(frames.HEADERS, OK, flags=END_HEADERS | END_STREAM, stream=stream)
    )


def test_answers_however_they_are_cut() -> None:
    data = answer(3, b"one", b"", b"three") + frame(frames.RST_STREAM, bytes([0, 0, 0, 7]), stream=1) + answer(5)
    for parts in pieces(data):
        machine, heard = begun(3)
        for part in parts:
            machine.receive_data(part)
        assert [sink.told for sink in heard] == [
            [(Code.UNAVAILABLE, False)],
            ["began", b"one", b"", b"three", b"0"],
            ["began", b"0"],
        ]
        assert machine.calls == 0


def test_goaway_tells_the_unseen_ones_apart() -> None:
    goaway = frame(frames.GOAWAY, (3).to_bytes(4, "big") + bytes(4))
    for parts in pieces(goaway):
        machine, heard = begun(3)
        for part in parts:
            machine.receive_data(part)
        assert [sink.told for sink in heard] == [[], [], [(Code.UNAVAILABLE, False)]]
        assert (machine.can_begin, machine.over) == (False, False)
        machine.receive_data(answer(1) + answer(3))
        assert machine.over


def _conversation(rng: random.Random) -> bytes:
    parts = [
        answer(number, *(rng.randbytes(rng.choice((0, 10, 4000))) for _ in range(rng.randrange(3))))
        for number in range(1, 20, 2)
    ]
    parts += [
        frame(frames.RST_STREAM, rng.randrange(14).to_bytes(4, "big"), stream=rng.randrange(1, 22)),
        frame(frames.WINDOW_UPDATE, rng.randrange(1, 1 << 20).to_bytes(4, "big"), stream=rng.choice((0, 1, 3))),
        frame(frames.PING, rng.randbytes(8)),
        frame(frames.SETTINGS, (4).to_bytes(2, "big") + rng.randrange(1 << 24).to_bytes(4, "big")),
        frame(frames.GOAWAY, rng.randrange(30).to_bytes(4, "big") + bytes(4)),
    ]
    rng.shuffle(parts)
    damaged = bytearray(b"".join(parts))
    for _ in range(rng.randrange(4)):
        place = rng.randrange(len(damaged))
        match rng.randrange(3):
            case 0:
                damaged[place] = rng.randrange(256)
            case 1:
                del damaged[place : place + rng.randrange(1, 50)]
            case _:
                damaged[place:place] = rng.randbytes(rng.randrange(20))
    return bytes(damaged)


@pytest.mark.parametrize("seed", range(8))
def test_any_bytes(seed: int) -> None:
    """Nothing is raised but Violation, and each call ends once."""
    rng = random.Random(seed)
    for _ in range(12):
        machine, heard = begun(10)
        data = _conversation(rng)
        try:
            while data and not machine.broken:
                size = rng.choice((1, 9, 100, 5000))
                machine.receive_data(data[:size])
                data = data[size:]
                number = rng.randrange(1, 20, 2)
                machine.taken(number, 0)
                machine.send(number, b"more")
                machine.data_to_send(rng.choice((9, 1000, 100_000)))
        except Violation:
            pass
        machine.lose("the end")
        assert all(sink.over for sink in heard)
