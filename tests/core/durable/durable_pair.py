"""Two sides of durable messages, each with a store on disk, joined by links that break when they are told to."""

import random
import sqlite3
from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path

from sidecar.core import durable
from sidecar.core.durable import DurableRouter
from sidecar.core.errors import Closed
from sidecar.core.parameters import DurableConfig
from sidecar.core.types import PeerId
from sidecar.store.durable import Append, Delivered, DurableStore, OutcomeRow, Settlement, Settles

PROTOCOL = "/orders/1"
PEERS = tuple(PeerId.from_public_key(b"\x08\x01\x12\x20" + bytes([number]) * 32) for number in (1, 2))


class Clock:
    """Both clocks of both sides: `now` in monotonic seconds; the wall clocks are 1,000,000 ahead, and can be set."""

    def __init__(self) -> None:
        self.now = 0.0


class Side:
    """One node: its store and its router. `crash` loses what is not committed, and all that is in memory."""

    def __init__(self, pair: "Pair", number: int, path: Path, config: DurableConfig, store: type[DurableStore]) -> None:
        self.peer, self.other = PEERS[number], PEERS[1 - number]
        self.wall_offset = 1_000_000.0
        self.path = path
        self.failing = False  # the disk refuses
        self.may_fail: Callable[[], bool] = lambda: False  # whether an error of the disk is to be lived with
        self._pair = pair
        self._number = number
        self._config = config
        self._open_store = store
        self._store_jobs: deque[durable.StoreEffect] = deque()
        self.links: dict[int, None] = {}
        self.violations: list[Exception] = []
        self._start()

    def wall(self) -> float:
        return self._pair.clock.now + self.wall_offset

    def _start(self) -> None:
        self.store = self._open_store(self.path, self._config, self.wall)
        self.router = DurableRouter(self._config)
        self._store_jobs.clear()
        self.store.begin()
        streams, peers = self.store.outbox.open_states(), self.store.inbox.unconfirmed_peers()
        self.store.commit()
        self.feed(durable.OutgoingChanged(streams))
        for peer in peers:
            self.feed(durable.IncomingSettled(peer, ()))

    def crash(self) -> None:
        """kill -9, and a start after it."""
        self._pair.break_links()
        self.store.close()
        self._start()

    def crash_from_closed(self) -> None:
        """The same where the store is closed already, and perhaps another file is there."""
        self._pair.break_links()
        self._start()

    # ------------------------------------------------------------ the node and the store

    def feed(self, arrived: durable.DurableInput) -> None:
        self.carry_out(self.router.handle(arrived, self._pair.clock.now))

    def carry_out(self, effects: Sequence[durable.DurableEffect]) -> None:
        self.router.take_charges()
        for effect in effects:
            match effect:
                case durable.OpenDurableLink(peer):
                    assert peer == self.other
                    self._pair.opening.append(self._number)
                case durable.SendFrame(link, data):
                    self._pair.sent(self._number, link, data)
                case durable.CloseDurableLink(link):
                    self._pair.close(link)
                case durable.DurableLinkViolated(link, error):
                    self.violations.append(error)
                    self._pair.close(link)
                case _:
                    self._store_jobs.append(effect)

    def work(self) -> bool:
        """Do one thing that the router wants of the store; False where there is none."""
        if not self._store_jobs:
            return False
        effect = self._store_jobs.popleft()
        store = self.store
        if self.failing:
            self._refused(effect)
            return True
        try:
            answer = self._done(effect)
        except sqlite3.Error:
            if not self.may_fail():
                raise
            store.roll_back()
            self._refused(effect)
            return True
        if answer is not None:
            self.feed(answer)
        return True

    def _refused(self, effect: durable.StoreEffect) -> None:
        """The disk has refused: what nobody says again is tried again."""
        match effect:
            case durable.LoadOutgoing(peer, protocol, incarnation):
                self.feed(durable.OutgoingLoaded(peer, protocol, incarnation, 0, (), failed=True))
            case durable.StoreIncoming(peer, size, batch):
                busy = durable.Acknowledgement(
                    batch.protocol, batch.incarnation, 0, trouble=durable.Trouble.BUSY, reason="full"
                )
                self.feed(durable.IncomingStored(peer, size, busy, confirmed=False))
            case _:
                self._store_jobs.append(effect)

    def _done(self, effect: durable.StoreEffect) -> durable.DurableInput | None:
        store = self.store
        store.begin()
        answer: durable.DurableInput | None = None
        match effect:
            case durable.LoadOutgoing(peer, protocol, incarnation, after, size, most):
                first, items = store.outbox.load(peer, protocol, incarnation, after, size, most)
                answer = durable.OutgoingLoaded(peer, protocol, incarnation, first, items)
            case durable.SettleOutgoing(peer, protocol, incarnation, held, settled):
                store.outbox.settle(peer, protocol, incarnation, held, settled)
            case durable.RenewOutgoing(peer, protocol, incarnation):
                store.outbox.renew(peer, protocol, incarnation)
            case durable.StoreIncoming(peer, size, batch):
                told = store.inbox.store(peer, batch)
                answer = durable.IncomingStored(peer, size, told, store.inbox.confirmed(peer))
            case durable.LoadUnconfirmed(peer):
                answer = durable.UnconfirmedLoaded(peer, store.inbox.unconfirmed(peer))
        self._commit()
        return answer

    def _commit(self) -> None:
        changes = self.store.commit()
        if changes.outgoing:
            self.feed(durable.OutgoingChanged(changes.outgoing))
        for peer, acknowledgement in changes.settled:
            self.feed(durable.IncomingSettled(peer, (acknowledgement,)))

    # ------------------------------------------------------------ the app

    def send(
        self, *messages: bytes, protocol: str = PROTOCOL, ttl: float = 1000.0, requests: Sequence[str] = ()
    ) -> list[int]:
        self.store.begin()
        appended = self.store.outbox.append(Append(self.other, protocol, "", messages, requests, ttl))
        self._commit()
        assert appended.error is None, appended.error
        return list(appended.sequences)

    def receive(self, protocol: str = PROTOCOL) -> None:
        """An app is there for the first time."""
        self.store.begin()
        self.store.inbox.receive(protocol)
        self._commit()
        self.feed(durable.ProtocolReceived(protocol))

    def deliver(self, most: int = 100, protocol: str = PROTOCOL, max_deliveries: int = 16) -> list[Delivered]:
        """Make an attempt of what waits."""
        self.store.begin()
        waiting = self.store.inbox.waiting(protocol)[:most]
        delivered = self.store.inbox.deliver([each.id for each in waiting], max_deliveries)
        self._commit()
        return delivered

    def settle(self, delivered: Sequence[Delivered], settles: Settles = Settles.DONE, reason: str = "") -> list[int]:
        self.store.begin()
        stale = self.store.inbox.settle([Settlement(each.id, each.attempt, settles, reason) for each in delivered])
        self._commit()
        return stale

    def expire(self) -> None:
        self.store.begin()
        self.store.expire()
        self._commit()

    def outcomes(self) -> list[OutcomeRow]:
        return self.store.outbox.outcomes(0, None, None, 1_000_000)


class Pair:
    """Two sides. Nothing happens but by `step`, in an order that the seed decides, or by `settle_down`."""

    def __init__(
        self,
        path: Path,
        config: DurableConfig | None = None,
        seed: int = 1,
        store: type[DurableStore] = DurableStore,
    ) -> None:
        self.clock = Clock()
        self.rng = random.Random(seed)
        self.opening: list[int] = []
        self.reachable = True
        self._next = 1
        self._wires: dict[int, tuple[deque[bytes], deque[bytes]]] = {}  # by link, toward each side
        config = config or DurableConfig()
        folders = [path / name for name in ("sender", "receiver")]
        for folder in folders:
            folder.mkdir(exist_ok=True)
        self.sides = tuple(
            Side(self, number, folder / "durable.db", config, store) for number, folder in enumerate(folders)
        )

    def sent(self, number: int, link: int, data: bytes) -> None:
        wire = self._wires.get(link)
        if wire is not None:
            wire[1 - number].append(data)

    def close(self, link: int) -> None:
        """It is gone at both sides, with what was under way."""
        if self._wires.pop(link, None) is not None:
            for side in self.sides:
                side.feed(durable.DurableLinkClosed(link))

    def break_links(self) -> None:
        self.opening.clear()
        for link in list(self._wires):
            self.close(link)

    def _open(self, number: int) -> None:
        if not self.reachable:
            self.sides[number].feed(durable.DurableLinkFailed(self.sides[1 - number].peer, Closed("cut off")))
            return
        link, self._next = self._next, self._next + 1
        self._wires[link] = deque(), deque()
        for side in self.sides:
            side.feed(durable.DurableLinkOpened(side.other, link))

    def step(self) -> bool:
        """Let one thing happen, of those that can; False where nothing can."""
        choices: list[tuple[str, int, int]] = [("open", number, 0) for number in self.opening]
        for link, wire in self._wires.items():
            choices += [("read", number, link) for number in (0, 1) if wire[number]]
        choices += [("work", number, 0) for number in (0, 1)]
        self.rng.shuffle(choices)
        for what, number, link in choices:
            if what == "open":
                self.opening.remove(number)
                self._open(number)
                return True
            if what == "read":
                data = self._wires[link][number].popleft()
                self.sides[number].feed(durable.DurableDataReceived(link, data))
                return True
            if self.sides[number].work():
                return True
        return False

    def pass_time(self, seconds: float) -> None:
        """Let time pass, and do what is due."""
        self.clock.now += seconds
        for side in self.sides:
            due = side.router.next_deadline()
            if due is not None and due <= self.clock.now:
                side.carry_out(side.router.handle_deadline(self.clock.now))

    def settle_down(self) -> None:
        """Let all happen that can."""
        for _ in range(100_000):
            if not self.step():
                return
        raise AssertionError("it never comes to rest")
