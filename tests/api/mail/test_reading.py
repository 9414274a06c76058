"""Which durable message an app gets next."""

from sidecar.api.mail import Reader
from sidecar.core.types import PeerId
from sidecar.store.durable import Delivered
from sidecar.store.durable.inbox import Waiting

PEER = PeerId.from_public_key(b"\x08\x01\x12\x20" + bytes(32))


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def reader(clock: Clock, **changes: int) -> Reader:
    found = Reader(["/a/1"], settle_timeout=30.0, max_deliveries=3, max_open=changes.get("max_open", 256), now=clock)
    found.begin([])
    return found


def deliver(reader: Reader, attempt: int = 1) -> list[int]:
    chosen = reader.choose()
    reader.delivered(chosen, [Delivered(each.id, attempt, PEER, "/a/1", 1, each.id, b"") for each in chosen])
    return [each.id for each in chosen]


def waiting(*ids: int, stream: int = 1) -> list[Waiting]:
    return [Waiting(number, stream, 10) for number in ids]


def test_what_arrives_while_it_begins_comes_once_and_in_order() -> None:
    found = Reader(["/a/1"], settle_timeout=30.0, max_deliveries=3, max_open=10, now=Clock())
    found.arrived(waiting(3, 4))
    found.begin(waiting(1, 2, 3))
    assert deliver(found) == [1, 2, 3, 4]


def test_no_more_are_open_than_may_be() -> None:
    found = reader(Clock(), max_open=2)
    found.arrived(waiting(1, 2, 3))
    assert deliver(found) == [1, 2]
    assert deliver(found) == []
    found.settled(1)
    assert deliver(found) == [3]


def test_senders_take_turns() -> None:
    found = reader(Clock(), max_open=4)
    found.arrived(waiting(*range(1, 100)))
    found.arrived(waiting(200, 201, stream=2))
    first = deliver(found)
    assert {1, 200} <= set(first)
    assert sorted(first) == first


def test_what_is_not_settled_in_time_comes_again_before_what_is_behind_it() -> None:
    clock = Clock()
    found = reader(clock, max_open=2)
    found.arrived(waiting(1, 2, 3))
    assert deliver(found) == [1, 2]
    assert found.due() == 30.0
    clock.now = 30.0
    assert deliver(found, attempt=2) == [1, 2]
    assert found.has(1, 2)
    assert not found.has(1, 1)


def test_a_delay_holds_back_what_is_behind_it_and_nobody_else() -> None:
    clock = Clock()
    found = reader(clock, max_open=1)
    found.arrived(waiting(1, 2))
    assert deliver(found) == [1]
    found.arrived(waiting(9, stream=2))
    found.delay(1, 5.0)
    assert deliver(found) == [9]
    found.settled(9)
    assert deliver(found) == []
    assert found.due() == 5.0
    clock.now = 5.0
    assert deliver(found, attempt=2) == [1]


def test_what_the_disk_refused_to_deliver_is_next() -> None:
    found = reader(Clock())
    found.arrived(waiting(1, 2))
    found.put_back(found.choose())
    assert deliver(found) == [1, 2]
