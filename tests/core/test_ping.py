import random

import pytest

from sidecar.core.errors import ProtocolError
from sidecar.core.ping import MAX_UNSENT, Pinger, PingResponder


@pytest.mark.parametrize("size", [1, 5, 31, 32, 33])
def test_an_echo_in_pieces_of_any_size_gives_the_round_trip_time(size: int) -> None:
    pinger, responder = Pinger(random.Random(1)), PingResponder()
    for now in (10.0, 20.0):
        payload = pinger.start(now)
        assert len(payload) == 32
        assert pinger.waiting
        echo = b"".join(responder.receive(payload[at : at + size]) for at in range(0, 32, size))
        assert echo == payload
        times = [pinger.receive(echo[at : at + size], now + 0.25) for at in range(0, 32, size)]
        assert times == [None] * (len(times) - 1) + [0.25]
        assert not pinger.waiting


def test_each_ping_has_a_payload_of_its_own() -> None:
    pinger = Pinger(random.Random(1))
    first = pinger.start(0.0)
    assert pinger.receive(first, 1.0) == 1.0
    assert pinger.start(2.0) != first


def test_a_second_ping_under_way_is_misuse() -> None:
    pinger = Pinger(random.Random(1))
    pinger.start(0.0)
    with pytest.raises(RuntimeError):
        pinger.start(1.0)


@pytest.mark.parametrize("answer", [b"\0" * 32, b"\0", "longer"])
def test_another_answer_is_a_violation(answer: bytes | str) -> None:
    pinger = Pinger(random.Random(1))
    payload = pinger.start(0.0)
    with pytest.raises(ProtocolError):
        pinger.receive(payload + b"x" if isinstance(answer, str) else answer, 1.0)


def test_an_answer_without_a_ping_is_a_violation() -> None:
    with pytest.raises(ProtocolError):
        Pinger(random.Random(1)).receive(b"x", 1.0)


def test_a_flood_that_never_reads_is_refused() -> None:
    responder = PingResponder()
    assert len(responder.receive(bytes(MAX_UNSENT))) == MAX_UNSENT
    with pytest.raises(ProtocolError):
        responder.receive(bytes(32), unsent=MAX_UNSENT)
