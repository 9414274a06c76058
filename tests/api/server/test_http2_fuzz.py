"""Whatever bytes come, the machine raises nothing, holds no more than its bounds, and tells the end of a call once."""

import random

import pytest

from sidecar.api.common.status import Code
from sidecar.api.server.http2.connection import CallBegan, CallGone, ConnectionFailed, MessagesCame, ServerConnection
from sidecar.api.server.http2.heads import trailers
from tests.api.server import frames
from tests.api.server.frames import frame, greeting, request

STREAMS, MESSAGE = 20, 5000


def _conversation(rng: random.Random) -> bytes:
    """Frames as clients send them, in an order of their own."""
    parts = [greeting()]
    for number in range(1, 2 * rng.randrange(2, 30), 2):
        parts.append(request(number, *(rng.randbytes(rng.choice((0, 10, 4000))) for _ in range(rng.randrange(3)))))
    parts += [
        frame(frames.RST_STREAM, (8).to_bytes(4, "big"), stream=rng.randrange(1, 40)),
        frame(frames.WINDOW_UPDATE, rng.randrange(1, 1 << 20).to_bytes(4, "big"), stream=rng.choice((0, 1, 3))),
        frame(frames.PING, rng.randbytes(8)),
        frame(frames.SETTINGS, (4).to_bytes(2, "big") + rng.randrange(1 << 24).to_bytes(4, "big")),
        frame(frames.GOAWAY, bytes(8)),
    ]
    if rng.random() < 0.5:
        first, *rest = parts
        rng.shuffle(rest)
        parts = [first, *rest]
    return b"".join(parts)


def _damaged(data: bytes, rng: random.Random) -> bytes:
    damaged = bytearray(data)
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
    rng = random.Random(seed)
    for _ in range(60):
        server = ServerConnection(MESSAGE, STREAMS, 0.0)
        data = _damaged(_conversation(rng), rng)
        begun: dict[int, None] = {}
        ended: dict[int, None] = {}
        failed = False
        while data:
            size = rng.choice((1, 9, 100, 5000))
            for event in server.receive_data(data[:size], 0.0):
                assert not failed, "an event behind the last"
                match event:
                    case CallBegan(stream):
                        assert stream not in begun
                        begun[stream] = None
                    case MessagesCame(stream, messages):
                        assert stream in begun
                        assert stream not in ended
                        for message in messages:
                            assert len(message) <= MESSAGE
                            server.taken(stream, len(message))
                    case CallGone(stream):
                        assert stream in begun
                        assert stream not in ended
                        ended[stream] = None
                    case ConnectionFailed():
                        failed = True
            data = data[size:]
            for stream in list(begun):
                match rng.randrange(8):
                    case 0:
                        server.send(stream, rng.randbytes(rng.randrange(2000)))
                    case 1:
                        server.finish(stream, trailers(Code.OK, "as it were"))
                        del begun[stream]
                        ended[stream] = None
                    case 2:
                        server.begin(stream)
                    case 3:
                        server.cancel(stream)
                        del begun[stream]
                        ended[stream] = None
                    case _:
                        pass
            begun = {stream: None for stream in begun if stream not in ended}
            if rng.random() < 0.5:
                while server.data_to_send(10_000):
                    pass
            assert len(server._streams) <= STREAMS
        server.end()
        while server.data_to_send(10_000):
            pass
