"""One timer for a machine's deadlines."""

from collections.abc import Callable
from typing import Any

import pytest

from sidecar.net.alarm import Alarm


class Clock:
    """As much of an event loop and of `time` as an alarm needs."""

    def __init__(self) -> None:
        self.now = 0.0
        self.timers: list[tuple[float, Callable[[], None]]] = []

    def time(self) -> float:
        return self.now

    def call_at(self, due: float, callback: Callable[[], None]) -> "Clock":
        self.timers.append((due, callback))
        return self

    def cancel(self) -> None:
        self.timers.pop()

    def fire(self, now: float) -> None:
        self.now = now
        self.timers.pop()[1]()


def test_an_alarm_keeps_one_timer(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock()
    monkeypatch.setattr("sidecar.net.alarm.monotonic", clock.time)
    due: float | None = None
    fired: list[float] = []
    loop: Any = clock
    alarm = Alarm(loop, lambda: due, fired.append)
    alarm.arm()
    assert not clock.timers
    due = 5.0
    alarm.arm()
    due = 9.0
    alarm.arm()  # later: the timer stays, and looks again when it fires
    assert [when for when, _ in clock.timers] == [5.0]
    due = 3.0
    alarm.arm()
    assert [when for when, _ in clock.timers] == [3.0]
    due = 4.0
    clock.fire(3.0)
    assert (fired, [when for when, _ in clock.timers]) == ([], [4.0])
    clock.fire(3.9996)  # uvloop is early
    assert fired == [4.0]
    alarm.cancel()
    assert not clock.timers


def test_what_is_far_away_waits_for_a_whole_second(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock()
    monkeypatch.setattr("sidecar.net.alarm.monotonic", clock.time)
    due = 30.2
    fired: list[float] = []
    loop: Any = clock
    alarm = Alarm(loop, lambda: due, fired.append)
    alarm.arm()
    assert [when for when, _ in clock.timers] == [31.0]
    due = 30.1
    alarm.arm()  # nearer, though no other second
    assert [when for when, _ in clock.timers] == [31.0]
    due = 60.3
    clock.fire(31.0)  # it is to be looked at again only
    assert (fired, [when for when, _ in clock.timers]) == ([], [61.0])
    due = 35.3
    alarm.arm()
    assert [when for when, _ in clock.timers] == [35.3]
    clock.fire(35.3)
    assert fired == [35.3]
