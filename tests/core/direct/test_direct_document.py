"""The example in docs/protocols.md is what the code writes and reads."""

import re
from pathlib import Path

from direct_pair import ALICE, BOB, CHAT

from sidecar.core.direct import (
    DataReceived,
    DirectConfig,
    DirectRouter,
    LinkAccepted,
    LinkOpened,
    LinkWoken,
    MessagesHandled,
    MessagesReceived,
    OutcomeRange,
    ProtocolsChanged,
    RequestCompleted,
    RequestMade,
    SendCompleted,
    SendOutcome,
    SendRequested,
)
from sidecar.core.errors import NotSupported

DOCUMENT = Path(__file__).parents[3] / "docs" / "protocols.md"


def example(name: str) -> bytes:
    (block,) = re.findall(rf"```hex-{name}\n(.*?)```", DOCUMENT.read_text(encoding="utf-8"), re.DOTALL)
    return bytes.fromhex("".join(line.partition("#")[0] for line in block.splitlines()))


def test_the_example_is_what_travels() -> None:
    alice, bob = DirectRouter(DirectConfig(), now=100.0), DirectRouter(DirectConfig(), now=7.0)
    alice.handle(SendRequested(1, BOB, CHAT, [b"hi", b"there"]), 100.0)
    alice.handle(RequestMade(2, BOB, "/time/1", b"?", 101.5), 100.0)
    assert alice.handle(LinkOpened(BOB, 1), 100.0) == [LinkWoken(1)]
    assert b"".join(alice.take(1, 1 << 16)) == example("opener")

    bob.handle(ProtocolsChanged((CHAT,), ()), 7.0)
    bob.handle(LinkAccepted(ALICE, 5), 7.0)
    received, woken = bob.handle(DataReceived(5, example("opener")), 7.0)
    assert (received, woken) == (MessagesReceived(5, ALICE, CHAT, 1, [b"hi", b"there"]), LinkWoken(5))
    bob.handle(MessagesHandled(5, 1, 2, SendOutcome.DELIVERED), 7.0)
    assert b"".join(bob.take(5, 1 << 16)) == example("acceptor")

    sent, asked = alice.handle(DataReceived(1, example("acceptor")), 100.0)
    assert sent == SendCompleted(1, (OutcomeRange(0, 2, SendOutcome.DELIVERED),))
    assert isinstance(asked, RequestCompleted)
    assert isinstance(asked.answer, NotSupported)
