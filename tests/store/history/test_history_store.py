"""The file of topic history: what is written, evicted and read, over restarts, and by whom."""

import hashlib
import sqlite3
from pathlib import Path

import pytest

from sidecar.core.errors import StorageError
from sidecar.core.parameters import HistoryConfig
from sidecar.store.history import FLAG_HISTORY, FLAG_LOCAL, HistoryStore, Kept, Lost, StoredTopic
from sidecar.store.history.store import ROW_OVERHEAD

NEWS = StoredTopic(1, "news", True)
ELSE = StoredTopic(2, "else", False)
SECOND = 1_000_000_000
END = 1 << 62


class Clock:
    def __init__(self) -> None:
        self.now = 1_800_000_000.0

    def __call__(self) -> float:
        return self.now

    @property
    def ns(self) -> int:
        return int(self.now * SECOND)


@pytest.fixture
def clock() -> Clock:
    return Clock()


def opened(path: Path, clock: Clock, **config: float) -> HistoryStore:
    return HistoryStore(path / "history.db", HistoryConfig(("*",), **config), clock)  # type: ignore[arg-type]


def lost(first: int, last: int) -> Lost:
    made = Lost()
    made.add(first, last, False)
    return made


def write(store: HistoryStore, *batches: Kept, missed: tuple[int, int] | None = None) -> None:
    store.begin()
    store.write(batches, {NEWS: lost(*missed)} if missed else {})
    store.commit()


def name(number: int) -> bytes:
    return b"id %d" % number


def key(number: int) -> bytes:
    return hashlib.sha256(name(number)).digest()


def kept(clock: Clock, first: int, count: int, topic: StoredTopic = NEWS, *, size: int = 10, flags: int = 0) -> Kept:
    numbers = range(first, first + count)
    raws = [b"%d" % number + bytes(range(256)) + bytes(size) for number in numbers]
    return Kept(topic, first, [name(number) for number in numbers], raws, clock.ns, flags)


def cursors(store: HistoryStore, after: int, *topics: StoredTopic, **options: int) -> list[int]:
    """Read all, page by page."""
    found: list[int] = []
    through = after
    while through < END:
        page = store.reads.page([t.id for t in topics or (NEWS,)], through, END, size=5000, **options)  # type: ignore[arg-type]
        found += [row.cursor for row in page.rows]
        assert page.through > through
        through = page.through
    return found


def test_what_was_written_is_read_in_pages_and_after_a_restart(tmp_path: Path, clock: Clock) -> None:
    store = opened(tmp_path, clock)
    write(store, kept(clock, 100, 600))
    assert cursors(store, 0) == list(range(100, 700))
    assert cursors(store, 399) == list(range(400, 700))
    row = store.reads.page([1], 499, END, size=1).rows[0]
    assert (row.cursor, row.raw, row.received) == (500, b"500" + bytes(range(256)) + bytes(10), clock.ns)
    epoch = store.epoch
    store.close()
    again = opened(tmp_path, clock)
    assert again.epoch == epoch
    assert again.topics() == [NEWS]
    assert cursors(again, 0) == list(range(100, 700))
    size = again.sizes()[1]
    assert (size.messages, size.bytes, size.oldest) == (600, 600 * (269 + ROW_OVERHEAD), clock.ns)


def test_counters_are_never_given_out_again(tmp_path: Path, clock: Clock) -> None:
    store = opened(tmp_path, clock)
    first = store.counter
    assert first == clock.now * 1e6
    store.close()  # as by a kill: nothing was written
    clock.now -= 10_000  # and the clock is set back
    again = opened(tmp_path, clock)
    assert again.counter > first + (1 << 30)
    write(again, kept(clock, again.counter + (1 << 33), 1))
    clock.now = 0
    again.close()
    assert opened(tmp_path, clock).counter > again.counter + (1 << 33)


def test_what_peers_bring_is_stored_once(tmp_path: Path, clock: Clock) -> None:
    store = opened(tmp_path, clock)
    write(store, kept(clock, 1, 10))
    repeat = kept(clock, 5, 10, flags=FLAG_HISTORY)._replace(first=50)  # ids 5 to 14, of which 5 to 10 are there
    write(store, repeat, repeat._replace(first=100))
    assert cursors(store, 0) == [*range(1, 11), 56, 57, 58, 59]
    assert store.sizes()[1].messages == 14
    write(store, kept(clock, 20, 5))
    write(store, kept(clock, 18, 5, flags=FLAG_HISTORY)._replace(first=200))
    assert cursors(store, 60) == [200, 201]
    write(store, kept(clock, 1, 5)._replace(first=300))  # gossip has forgotten that it delivered them
    keys = store.reads.keys(1, 0, clock.ns, 100)
    assert keys.keys == sorted({*map(key, range(1, 15)), *map(key, range(18, 25))})


def test_a_bundle_is_one_row_that_counts_as_its_messages(tmp_path: Path, clock: Clock) -> None:
    store = opened(tmp_path, clock)
    write(store, Kept(NEWS, 100, [b"bundle"], [b"raw"], clock.ns, 0, 50, b"\xff"), kept(clock, 150, 5))
    page = store.reads.page([1], 120, END, size=1000)
    row = page.rows[0]
    assert (row.cursor, row.count, row.mask) == (100, 50, b"\xff")
    assert [row.cursor for row in store.reads.page([1], 149, END, size=5000).rows] == [150, 151, 152, 153, 154]
    assert store.sizes()[1].messages == 55


def test_pages_of_several_topics_leave_nothing_out(tmp_path: Path, clock: Clock) -> None:
    store = opened(tmp_path, clock)
    for start in range(1, 401, 40):
        write(store, kept(clock, start, 10), kept(clock, start + 10, 30, ELSE, size=500))
    assert cursors(store, 0, NEWS, ELSE) == list(range(1, 401))
    assert cursors(store, 0, ELSE) == [n for n in range(1, 401) if (n - 1) % 40 >= 10]


def test_old_messages_go_and_are_counted(tmp_path: Path, clock: Clock) -> None:
    store = opened(tmp_path, clock, max_age=100.0)
    write(store, kept(clock, 1, 6000))
    clock.now += 60
    write(store, kept(clock, 6001, 10, flags=FLAG_LOCAL))
    assert store.next_expiry() == pytest.approx(40)
    clock.now += 50
    store.begin()
    store.expire()
    assert store.commit().sizes[1].messages == 10
    page = store.reads.page([1], 0, END, size=5000)
    assert (page.rows[0].cursor, page.lost) == (6001, 6000)
    assert store.reads.page([1], 2999, END, size=5000).lost == 3001
    assert store.reads.page([1], 6000, END, size=5000).lost == 0
    clock.now += 1000
    store.begin()
    store.expire()
    store.commit()
    assert store.sizes()[1] == (0, 0, 0)
    assert store.next_expiry() is None
    store.close()
    again = opened(tmp_path, clock)
    assert again.reads.page([1], 5999, END, size=5000).lost == 11
    assert again.reads.page([1], 5999, END, size=5000, skip_local=True).lost == 1


def test_a_topic_stays_within_its_bytes(tmp_path: Path, clock: Clock) -> None:
    store = opened(tmp_path, clock, max_bytes=1 << 20)
    for start in range(1, 5001, 250):
        write(store, kept(clock, start, 250))
        clock.now += 1
    size = store.sizes()[1]
    assert 0.9 * (1 << 20) < size.bytes <= 1 << 20
    found = cursors(store, 0)
    assert found == list(range(5001 - size.messages, 5001))
    assert store.reads.page([1], 0, END, size=100).lost == 5000 - size.messages
    assert store.reads.start([1], 0) == (found[0], True)
    assert store.reads.start([1], clock.ns - 2 * SECOND) == (4501, False)
    assert store.reads.start([1], clock.ns + SECOND) == (None, False)
    keys = store.reads.keys(1, 0, clock.ns, 100_000)
    assert keys.oldest > (clock.now - 20) * SECOND
    assert keys.keys == sorted(map(key, found))


def test_what_was_missed_is_told_as_lost(tmp_path: Path, clock: Clock) -> None:
    store = opened(tmp_path, clock)
    write(store, kept(clock, 11, 10))
    write(store, missed=(21, 30))
    assert store.reads.page([1], 15, END, size=5000).lost == 10
    assert store.reads.page([1], 25, END, size=5000).lost == 5
    assert store.reads.page([1], 10, 24, size=5000).lost == 4
    assert store.reads.page([1], 3, END, size=5000).lost is None  # before the topic was known


def test_what_peers_ask_for(tmp_path: Path, clock: Clock) -> None:
    store = opened(tmp_path, clock)
    write(store, kept(clock, 1, 1500))
    clock.now += 10
    write(store, kept(clock, 1501, 500, flags=FLAG_HISTORY))
    assert store.reads.keys(1, clock.ns - SECOND, clock.ns, 10_000) == (
        sorted(key(n) for n in range(1501, 2001)),
        clock.ns - SECOND,
    )
    latest = store.reads.keys(1, 0, clock.ns, 700)
    assert len(latest.keys) == 700
    assert latest.oldest == clock.ns - 10 * SECOND + 1
    asked = [key(n) for n in range(1, 3000, 2)]
    assert sorted(store.reads.find(1, asked)) == sorted(key(n) for n in range(1, 2001, 2))
    bodies, left = store.reads.bodies(1, asked[::-1], 10_000)
    assert [body.key for body in bodies] == asked[::-1][500 : 500 + len(bodies)]
    assert [body.raw[:4] for body in bodies[:2]] == [b"1999", b"1997"]
    assert sum(len(body.raw) for body in bodies) <= 10_000
    assert left == asked[::-1][500 + len(bodies) :]
    assert [body.received for body in store.reads.bodies(1, [key(1)], 1)[0]] == [clock.ns - 10 * SECOND]
    assert store.reads.bodies(2, asked, 10_000) == ([], [])


def test_topics_that_nobody_uses_are_forgotten(tmp_path: Path, clock: Clock) -> None:
    store = opened(tmp_path, clock, max_age=100.0)
    write(store, kept(clock, 1, 5), kept(clock, 6, 5, ELSE))
    clock.now += 150
    store.begin()
    assert store.lapsed([NEWS.id]) == ["else"]
    store.forget(["else"])
    store.commit()
    assert store.topics() == [NEWS]
    store.close()
    assert opened(tmp_path, clock).topics() == [NEWS]


def test_what_fails_is_undone(tmp_path: Path, clock: Clock) -> None:
    store = opened(tmp_path, clock)
    write(store, kept(clock, 1, 5))
    store.begin()
    store.write([kept(clock, 6, 5), kept(clock, 11, 5, ELSE)], {NEWS: lost(100, 199)})
    store.roll_back()
    assert store.topics() == [NEWS]
    assert store.sizes()[1].messages == 5
    assert store.reads.page([1], 0, END, size=5000).lost == 0
    write(store, kept(clock, 6, 5))
    assert cursors(store, 0) == list(range(1, 11))


def test_a_damaged_file_is_moved_aside(tmp_path: Path, clock: Clock) -> None:
    store = opened(tmp_path, clock)
    epoch = store.epoch
    write(store, kept(clock, 1, 500))
    store.close()
    path = tmp_path / "history.db"
    data = bytearray(path.read_bytes())
    data[4096 * 2 : 4096 * 8] = bytes(4096 * 6)
    path.write_bytes(data)
    again = opened(tmp_path, clock)
    assert "was begun anew" in again.notice
    assert again.topics() == []
    assert again.epoch != epoch
    assert (tmp_path / "history.db.damaged").exists()


def test_a_disk_that_refuses_is_told(tmp_path: Path, clock: Clock) -> None:
    (tmp_path / "history.db").mkdir()
    with pytest.raises(StorageError, match="cannot be opened"):
        opened(tmp_path, clock)


def test_a_version_that_is_not_known_is_moved_aside(tmp_path: Path, clock: Clock) -> None:
    opened(tmp_path, clock).close()
    with sqlite3.connect(tmp_path / "history.db") as connection:
        connection.execute("PRAGMA user_version = 99")
    connection.close()
    assert "of version 99" in opened(tmp_path, clock).notice
