"""Agreeing on a protocol: both sides' dialogues, and everything that is no dialogue."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sidecar.core.channel.multistream import MAX_PROPOSALS, Proposer, Responder, encode_token
from sidecar.core.errors import FrameTooLarge, HandshakeError, InvalidArgument, NotSupported, SidecarError

GREETING = b"\x13/multistream/1.0.0\n"
NA = b"\x03na\n"


def _responder(*protocols: str) -> Responder:
    return Responder(protocols.__contains__)


def test_the_specification_s_example() -> None:
    assert encode_token("na") == bytes.fromhex("036e610a")


def test_a_dialogue() -> None:
    dialer, listener = Proposer(["/a", "/b", "/c"]), _responder("/c", "/b")
    assert dialer.greeting == GREETING + b"\x03/a\n"
    answer = listener.receive(dialer.greeting)
    assert answer == GREETING + NA
    proposal = dialer.receive(answer)
    assert proposal == b"\x03/b\n"
    assert listener.receive(proposal + b"data") == b"\x03/b\n"
    assert (listener.protocol, listener.rest) == ("/b", b"data")
    assert dialer.receive(b"\x03/b\nreply") == b""
    assert (dialer.protocol, dialer.rest) == ("/b", b"reply")


@pytest.mark.parametrize("size", [1, 2, 3, 1000])
def test_every_chunking_gives_the_same_answers(size: int) -> None:
    data = GREETING + b"\x03ls\n" + b"\x03/a\n" + b"\x03/b\n" + b"behind"
    listener = _responder("/b")
    answers = b""
    rest = b""
    for start in range(0, len(data), size):
        piece = data[start : start + size]
        if listener.protocol is None:
            answers += listener.receive(piece)
            rest = listener.rest
        else:
            rest += piece
    assert answers == GREETING + NA + NA + b"\x03/b\n"
    assert (listener.protocol, rest) == ("/b", b"behind")


@pytest.mark.parametrize(
    ("data", "error"),
    [
        (b"GET / HTTP/1.1\r\n\r\n" * 10, HandshakeError),
        (b"\x00", HandshakeError),
        (b"\x03/a\n", HandshakeError),
        (b"\x03/aa", HandshakeError),
        (GREETING + b"\x03\xff\xfe\n", HandshakeError),
        (b"\xff\xff\x03", FrameTooLarge),
        (b"\x80\x00", HandshakeError),
        (b"\xff" * 12, HandshakeError),
        (GREETING + NA * MAX_PROPOSALS, HandshakeError),
    ],
)
def test_what_is_no_negotiation_gets_a_typed_error(data: bytes, error: type[SidecarError]) -> None:
    with pytest.raises(error):
        _responder("/b").receive(data)


def test_a_dialer_refused_everywhere_says_so() -> None:
    dialer = Proposer(["/a", "/b"])
    with pytest.raises(NotSupported, match="/b"):
        dialer.receive(GREETING + NA + NA)


def test_a_dialer_takes_no_protocol_that_it_did_not_propose() -> None:
    with pytest.raises(HandshakeError, match="/other"):
        Proposer(["/a"]).receive(GREETING + encode_token("/other"))


@pytest.mark.parametrize("protocols", [[], [""], ["/a\n/b"], ["/" + "x" * 1023], ["/a"] * (MAX_PROPOSALS + 1)])
def test_protocols_that_cannot_be_proposed_are_misuse(protocols: list[str]) -> None:
    with pytest.raises(InvalidArgument):
        Proposer(protocols)


@given(st.binary(max_size=200), st.booleans())
@settings(max_examples=100, deadline=None)
def test_random_bytes_get_documented_errors_only(data: bytes, greeted: bool) -> None:
    for machine in (_responder("/b"), Proposer(["/a", "/b"])):
        try:
            machine.receive((GREETING if greeted else b"") + data)
        except (HandshakeError, FrameTooLarge, NotSupported):
            assert machine.protocol is None
