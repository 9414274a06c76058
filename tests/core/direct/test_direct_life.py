"""Long random lives of two routers: everything asked is answered once, and nothing is left behind."""

import random

import pytest
from direct_pair import ALICE, BOB, CHAT, joined

from sidecar.core.direct import (
    CloseLink,
    DataReceived,
    DirectConfig,
    DirectEffect,
    DirectInput,
    DirectRouter,
    Link,
    LinkAccepted,
    LinkClosed,
    LinkFailed,
    LinkOpened,
    LinkWoken,
    MessagesHandled,
    MessagesReceived,
    OpenLink,
    ProtocolsChanged,
    RequestAnswered,
    RequestArrived,
    RequestCancelled,
    RequestCompleted,
    RequestMade,
    RequestWithdrawn,
    SendCompleted,
    SendOutcome,
    SendRequested,
)
from sidecar.core.errors import Closed, DialTimeout, Refused

CONFIG = DirectConfig(
    max_queued=1 << 20,
    window=1 << 20,
    request_window=3,
    max_unhandled=1 << 20,
    max_requests_unhandled=5,
    max_answers=1 << 20,
)


class World:
    """Two routers that send to each other over links that come, stall and break as chance has it."""

    def __init__(self, seed: int) -> None:
        self.rng = random.Random(seed)
        self.now = 0.0
        self.peers = (ALICE, BOB)
        self.routers = (DirectRouter(CONFIG, now=0.0), DirectRouter(CONFIG, now=0.0))
        self.opening: list[int] = []  # who waits for a link
        self.links: dict[Link, None] = {}  # the same number at both ends
        self.links_made = 0
        self.awake: dict[tuple[int, Link], None] = {}
        self.sizes: dict[int, int] = {}  # of batches not completed, by op
        self.requests: dict[int, None] = {}  # not completed
        self.unhandled: list[tuple[int, MessagesReceived]] = []
        self.tokens: dict[tuple[int, int], None] = {}
        self.ops = 0
        for who in (0, 1):
            self.tell(who, ProtocolsChanged((CHAT,), (CHAT,)))

    def tell(self, who: int, said: DirectInput) -> None:
        self.carry_out(who, self.routers[who].handle(said, self.now))

    def carry_out(self, who: int, effects: list[DirectEffect]) -> None:
        for effect in effects:
            match effect:
                case OpenLink():
                    self.opening.append(who)
                case LinkWoken(link):
                    assert link in self.links
                    assert (who, link) not in self.awake, "woken twice"
                    self.awake[who, link] = None
                case CloseLink(link):
                    self.cut(link, 1 - who)
                case SendCompleted(op, outcomes):
                    assert sum(span.count for span in outcomes) == self.sizes.pop(op)
                case RequestCompleted(op):
                    del self.requests[op]
                case MessagesReceived():
                    self.unhandled.append((who, effect))
                case RequestArrived(token):
                    self.tokens[who, token] = None
                case RequestWithdrawn(token):
                    del self.tokens[who, token]
                case _:
                    pytest.fail(f"{effect}")

    def cut(self, link: Link, *ends: int) -> None:
        if link in self.links:
            del self.links[link]
            for who in ends:
                self.tell(who, LinkClosed(link, Closed("cut")))

    def step(self) -> None:
        rng, who = self.rng, self.rng.randrange(2)
        self.ops += 1
        match rng.randrange(9):
            case 0 | 1:
                batch = [bytes(rng.choice((0, 9, 500, 90_000))) for _ in range(rng.randint(1, 12))]
                self.sizes[self.ops] = len(batch)
                protocol = rng.choice((CHAT, CHAT, "/nobody/1"))
                self.tell(who, SendRequested(self.ops, self.peers[1 - who], protocol, batch))
            case 2 | 3:
                deadline = rng.choice((None, self.now + rng.uniform(0, 40)))
                self.requests[self.ops] = None
                data = bytes(rng.choice((0, 400_000)))
                self.tell(who, RequestMade(self.ops, self.peers[1 - who], CHAT, data, deadline))
            case 4 if self.requests:
                self.tell(who, RequestCancelled(rng.choice(list(self.requests))))
            case 5 if self.opening:
                self.answer_opening()
            case 6 if self.links and rng.random() < 0.3:
                self.cut(rng.choice(list(self.links)), 0, 1)
            case 7:
                self.pass_time(rng.choice((0.01, 1.0, 15.0)))
            case _:
                self.apps_work()
        self.carry()

    def answer_opening(self) -> None:
        who = self.opening.pop(0)
        if self.rng.random() < 0.2:
            self.tell(who, LinkFailed(self.peers[1 - who], DialTimeout("silence")))
            return
        self.links_made += 1
        self.links[self.links_made] = None
        self.tell(1 - who, LinkAccepted(self.peers[who], self.links_made))
        self.tell(who, LinkOpened(self.peers[1 - who], self.links_made))

    def apps_work(self) -> None:
        for who, arrived in self.unhandled:
            outcome = self.rng.choice((SendOutcome.DELIVERED, SendOutcome.REMOTE_QUEUE_FULL))
            self.tell(who, MessagesHandled(arrived.link, arrived.first, len(arrived.messages), outcome))
        self.unhandled.clear()
        for who, token in [key for key in self.tokens if self.rng.random() < 0.7]:
            del self.tokens[who, token]
            self.tell(who, RequestAnswered(token, self.rng.choice((b"", bytes(300_000), Refused("no")))))

    def carry(self) -> None:
        for link in list(self.links):
            for who in (0, 1):
                data = joined(self.routers[who].take(link, self.rng.choice((10, 5000, 1 << 20))))
                if data:
                    assert (who, link) in self.awake, "bytes without a word"
                    self.tell(1 - who, DataReceived(link, data))
                else:
                    self.awake.pop((who, link), None)

    def pass_time(self, seconds: float) -> None:
        end = self.now + seconds
        while True:
            due = min((when for r in self.routers if (when := r.next_deadline()) is not None), default=end + 1)
            if due > end:
                self.now = end
                return
            self.now = max(self.now, due)
            for who in (0, 1):
                self.carry_out(who, self.routers[who].handle_deadline(self.now))
            self.carry()


@pytest.mark.parametrize("seed", range(20))
def test_everything_is_answered_once_and_nothing_is_left(seed: int) -> None:
    world = World(seed)
    for _ in range(250):
        world.step()
    while world.opening:
        world.answer_opening()
    for _ in range(400):  # apps that still serve, links that still carry
        world.apps_work()
        world.carry()
        if world.opening:
            world.answer_opening()
    world.pass_time(2000.0)
    assert (world.sizes, world.requests, world.tokens) == ({}, {}, {})
    for router in world.routers:
        assert router.next_deadline() is None
        assert [router._links, router._outboxes, router._requests, router._tokens] == [{}, {}, {}, {}]
        assert router._shared.queued.room == CONFIG.max_queued_total
        assert router._shared.arrived.room == CONFIG.max_unhandled_total
