"""A whole exchange of durable messages, with a disk that stops or refuses at a chosen thing that is asked of it."""

import sqlite3
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple, TypeVar

from durable_pair import Pair, Side

from sidecar.core.durable import Outcome
from sidecar.core.errors import StorageError
from sidecar.core.parameters import DurableConfig
from sidecar.store.durable import Delivered, DurableStore, Settles
from tests.store.disk_below import IOERR
from tests.store.stopping_disk import Left, StoppingDisk, stopping

Result = TypeVar("Result")

SIDES = ("sender", "receiver")
_ALL = 10_000
_OUTCOMES = {Settles.DONE: Outcome.DONE, Settles.REJECT: Outcome.REJECTED}


class Fault(NamedTuple):
    """What happens to one side's disk at the `at`-th thing that is asked of it; 0: nothing."""

    side: int = 0
    at: int = 0
    left: Left = Left.WRITTEN
    again: int = 0
    """After so many more, while it recovers, once more; 0: not."""
    refuses: int = 0
    """In place of a stop: how many things it refuses, and then no more."""
    code: int = IOERR
    """What it says when it refuses."""
    often: bool = False
    """The log goes into the database again and again, not only at the end."""
    seed: int = 1


class _OftenCheckpointed(DurableStore):
    def __init__(self, path: Path, config: DurableConfig, wall: Callable[[], float] = time.time) -> None:
        super().__init__(path, config, wall)
        self._connection.execute("PRAGMA wal_autocheckpoint = 3")  # pages


class Exchange:
    """Plays it. The apps do what apps do: what was not answered is asked again."""

    def __init__(self, pair: Pair, disks: list[StoppingDisk], fault: Fault) -> None:
        self._pair = pair
        self._disks = disks
        self._fault = fault
        self.sender, self.receiver = pair.sides
        for disk, side in zip(disks, pair.sides, strict=True):
            side.may_fail = lambda disk=disk: not disk.stopped  # type: ignore[misc]
        self._sent: list[bytes] = []
        self._places: dict[bytes, int] = {}  # sequences that were answered
        self._seen: dict[int, bytes] = {}  # in the order of their first delivery
        self._tried: dict[int, dict[Outcome, None]] = {}  # what the app wanted of each
        self._confirmed: dict[int, Outcome] = {}
        self._conflicts = 0
        self._expired = 0
        self.stops = 0

    # ------------------------------------------------------------ living with the disk

    def _attempt(self, action: Callable[[], Result]) -> Result | None:
        """What it gives; None where a disk stopped, whose side has been started again, or refused."""
        result: Result | None = None
        failed = False
        try:
            result = action()
        except (sqlite3.Error, StorageError):
            failed = True
            if not any(disk.stopped or disk.refused for disk in self._disks):
                raise
        for disk, side in zip(self._disks, self._pair.sides, strict=True):
            if disk.stopped:
                self._restart(disk, side)
                result = None
            elif disk.refused and failed:
                side.store.roll_back()
            disk.refused = False
        return result

    def _insist(self, action: Callable[[], Result]) -> Result:
        """Until it is answered."""
        for _ in range(1000):
            result = self._attempt(action)
            if result is not None:
                return result
        raise AssertionError("the disk never goes on")

    def _restart(self, disk: StoppingDisk, side: Side) -> None:
        while True:
            self.stops += 1
            self._conflicts += side.router.conflicts
            side.store.close()
            disk.go_on()
            disk.stop_at = disk.count + self._fault.again if self._fault.again and self.stops == 1 else None
            try:
                side.crash_from_closed()
            except (sqlite3.Error, StorageError):
                if not disk.stopped:
                    raise
            else:
                self._check_what_is_there()
                return

    def _check_what_is_there(self) -> None:
        """Answered means on the disk; settled means settled."""
        rows, _ = self.sender.store.outbox.rows(None, None, (0, 0), _ALL)
        ends = {row.sequence for row in self.sender.outcomes()}
        there = {row.sequence for row in rows} | ends
        missing = [place for place in self._places.values() if place not in there]
        assert not missing, f"answered and not there: {missing}"
        waiting, _ = self.receiver.store.inbox.rows(False, None, None, 0, _ALL, 0)
        again = [row.sequence for row in waiting if row.sequence in self._confirmed]
        assert not again, f"settled and there again: {again}"

    # ------------------------------------------------------------ what happens

    def _steps(self, count: int) -> None:
        for _ in range(count):
            self._attempt(self._pair.step)

    def _settle_down(self) -> None:
        for _ in range(_ALL):
            if self._attempt(self._pair.step) is False:
                return
        raise AssertionError("it never comes to rest")

    def _send(self, count: int, ttl: float = 1_000_000.0) -> None:
        batch = [b"%d " % (len(self._sent) + index) * 100 for index in range(count)]
        requests = [f"request {len(self._sent) + index}" for index in range(count)]
        self._sent += batch
        places = self._insist(lambda: self.sender.send(*batch, ttl=ttl, requests=requests))
        for data, place in zip(batch, places, strict=True):
            assert self._places.setdefault(data, place) == place, "it became two"

    def _deliver(self, most: int = _ALL) -> list[Delivered]:
        delivered = self._attempt(lambda: self.receiver.deliver(most, max_deliveries=_ALL)) or []
        for each in delivered:
            assert each.sequence not in self._confirmed, "it came again"
            assert self._seen.setdefault(each.sequence, each.data) == each.data, "it is another one"
        return delivered

    def _settle(self, delivered: list[Delivered], settles: Settles = Settles.DONE) -> None:
        outcome = _OUTCOMES[settles]
        for each in delivered:
            self._tried.setdefault(each.sequence, {})[outcome] = None
        stale = self._attempt(lambda: self.receiver.settle(delivered, settles, "no" * (settles is Settles.REJECT)))
        if stale is not None:
            self._confirmed.update((each.sequence, outcome) for each in delivered if each.id not in stale)

    def _received(self) -> bool:
        self.receiver.receive()
        return True

    def _restarted(self, side: Side) -> None:
        """In order: the log goes into the database and is deleted."""

        def close() -> bool:
            self._pair.break_links()
            side.store.close()
            return True

        disk = self._disks[self._pair.sides.index(side)]
        if self._attempt(close) is None:
            return  # it stopped, and is back
        while True:
            try:
                side.crash_from_closed()
                return
            except (sqlite3.Error, StorageError):
                if disk.stopped:
                    self._restart(disk, side)
                    return
                if not disk.refused:
                    raise
                disk.refused = False  # the service manager starts it again

    def play(self) -> None:
        """All of it, and what must hold."""
        self._insist(self._received)
        self._send(3)
        self._steps(6)
        self._send(2)
        self._settle_down()
        delivered = self._deliver(4)
        self._settle(delivered[:2])
        self._settle(delivered[2:3], Settles.REJECT)
        self._steps(2)
        self._restarted(self.receiver)
        self._settle_down()
        self._send(2)
        self._steps(3)
        self._restarted(self.sender)
        self._settle_down()
        self._settle(self._deliver(3))
        self._pair.reachable = False
        self._pair.break_links()
        self._send(1, ttl=10.0)
        self._send(2)
        self._settle_down()
        self._pair.pass_time(11.0)
        self._attempt(self.sender.expire)
        self._expired = len(self._sent) - 2
        self._pair.reachable = True
        self._end()

    def _at_rest(self) -> bool:
        store = self.receiver.store
        return not self.sender.store.outbox.count and not store.inbox.count and store.inbox.confirmed(self.sender.peer)

    def _end(self) -> None:
        # A disk that refuses so many times, not for so long, is asked ever more rarely.
        for seconds in (2.0, 31.0, 301.0) * 200:
            self._pair.pass_time(seconds)
            self._settle_down()
            self._settle(self._deliver())
            self._attempt(self.sender.expire)
            if self._at_rest():
                break
        self._settle_down()
        self._check_what_is_there()
        sender, receiver = self.sender, self.receiver
        places = list(self._places.values())
        assert places == list(range(1, len(self._sent) + 1))
        wanted = {place: data for data, place in self._places.items()}
        due = [place for place in places if place != self._expired]
        assert [place for place in self._seen if place != self._expired] == due, "another order, or not all"
        assert all(wanted[place] == data for place, data in self._seen.items()), "another message"
        outcomes = {row.sequence: row.outcome for row in sender.outcomes()}
        assert len(sender.outcomes()) == len(outcomes) == len(self._sent), "told twice, or not at all"
        for place, outcome in outcomes.items():
            tried = self._tried.get(place, {})
            if place in self._confirmed:
                assert outcome is self._confirmed[place]
            else:
                assert outcome in tried or (place == self._expired and outcome is Outcome.EXPIRED)
        assert sender.store.outbox.count == receiver.store.inbox.count == 0
        assert receiver.store.inbox.confirmed(sender.peer)
        assert self._conflicts + sender.router.conflicts + receiver.router.conflicts == 0
        assert not sender.violations
        assert not receiver.violations


def play(place: Path, fault: Fault) -> tuple[list[int], int]:
    """How many things were asked of either side's disk, and how often one stopped."""
    folders = [place / name for name in SIDES]
    with stopping(folders) as disks:
        pair = Pair(place, seed=fault.seed, store=_OftenCheckpointed if fault.often else DurableStore)
        disk = disks[fault.side]
        disk.left, disk.code = fault.left, fault.code
        disk.rng.seed(fault.seed * 1_000_003 + fault.at)
        if fault.refuses:
            disk.refuse_at, disk.refuse_until = disk.count + fault.at, disk.count + fault.at + fault.refuses
        elif fault.at:
            disk.stop_at = disk.count + fault.at
        opened = [each.count for each in disks]
        exchange = Exchange(pair, disks, fault)
        try:
            exchange.play()
            asked = [each.count - before for each, before in zip(disks, opened, strict=True)]
        finally:
            for side in pair.sides:
                side.store.close()
    return asked, exchange.stops
