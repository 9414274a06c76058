"""Routers joined in memory, without a node: links are numbers, time is a number."""

from collections.abc import Sequence

from sidecar.core.direct import (
    DataReceived,
    DirectConfig,
    DirectEffect,
    DirectInput,
    DirectRouter,
    LinkAccepted,
    LinkOpened,
    LinkWoken,
    OpenLink,
)
from sidecar.core.types import PeerId

ALICE, BOB = PeerId(b"\x00\x05alice"), PeerId(b"\x00\x03bob")
CHAT = "/chat/1"


def joined(pieces: Sequence[bytes | memoryview]) -> bytes:
    return b"".join(pieces)


class Pair:
    """Alice sends to Bob. What either says to the apps is collected; links and bytes are carried by `run`."""

    def __init__(
        self, alice: DirectConfig | None = None, bob: DirectConfig | None = None, piece: int = 1 << 20
    ) -> None:
        self.now = 100.0
        self.alice = DirectRouter(alice or DirectConfig(), now=self.now)
        self.bob = DirectRouter(bob or DirectConfig(), now=self.now)
        self.link = 0  # the newest; each end has the same number
        self.up = True
        self._piece = piece
        self._woken: dict[str, bool] = {}

    def tell_alice(self, input: DirectInput) -> list[DirectEffect]:
        return self._sift("alice", self.alice.handle(input, self.now))

    def tell_bob(self, input: DirectInput) -> list[DirectEffect]:
        return self._sift("bob", self.bob.handle(input, self.now))

    def _sift(self, who: str, effects: list[DirectEffect]) -> list[DirectEffect]:
        news: list[DirectEffect] = []
        for effect in effects:
            if isinstance(effect, LinkWoken):
                assert not self._woken.get(who), "woken twice"
                self._woken[who] = True
            elif isinstance(effect, OpenLink) and self.up:
                self.link += 1
                assert self.tell_bob(LinkAccepted(ALICE, self.link)) == []
                news += self.tell_alice(LinkOpened(effect.peer, self.link))
            else:
                news.append(effect)
        return news

    def run(self) -> tuple[list[DirectEffect], list[DirectEffect]]:
        """Carry bytes until none are left: what Alice's apps and Bob's apps are told."""
        alice: list[DirectEffect] = []
        bob: list[DirectEffect] = []
        while any(self._woken.values()):
            if self._woken.pop("alice", False):
                while data := joined(self.alice.take(self.link, self._piece)):
                    bob += self.tell_bob(DataReceived(self.link, data))
            if self._woken.pop("bob", False):
                while data := joined(self.bob.take(self.link, self._piece)):
                    alice += self.tell_alice(DataReceived(self.link, data))
        return alice, bob

    def wait(self, seconds: float) -> tuple[list[DirectEffect], list[DirectEffect]]:
        """Let time pass, one deadline after the other."""
        end = self.now + seconds
        alice: list[DirectEffect] = []
        bob: list[DirectEffect] = []
        while True:
            due = [when for when in (self.alice.next_deadline(), self.bob.next_deadline()) if when is not None]
            if not due or min(due) > end:
                self.now = end
                return alice, bob
            self.now = min(due)
            alice += self._sift("alice", self.alice.handle_deadline(self.now))
            bob += self._sift("bob", self.bob.handle_deadline(self.now))
            more = self.run()
            alice += more[0]
            bob += more[1]
