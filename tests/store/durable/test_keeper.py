"""The thread that owns the file: one transaction for all that is asked in one moment, and disks that refuse."""

import asyncio
import sqlite3
import threading
from pathlib import Path

import pytest

from sidecar.core.errors import InvalidArgument, QueueFull, StorageError
from sidecar.core.parameters import DurableConfig
from sidecar.core.types import PeerId
from sidecar.store import keeper as keeper_module
from sidecar.store.durable import Append, Appended, DurableStore, Keeper
from sidecar.store.durable.store import Changes
from tests.api.fakes import asynchronous
from tests.store.disk_below import FULL, OK, Asked, interposed, why_not

PEER = PeerId.from_public_key(b"\x08\x01\x12\x20" + bytes(32))


def append(*messages: bytes, app: str = "") -> Append:
    return Append(PEER, "/orders/1", app, messages, (), 1000.0)


class Disk(DurableStore):
    """One that refuses when it is told to, and counts."""

    refuses = False
    commits = 0

    def commit(self) -> Changes:
        Disk.commits += 1
        if Disk.refuses:
            self.roll_back()
            raise sqlite3.OperationalError("database or disk is full")
        return super().commit()


@pytest.fixture(autouse=True)
def disk() -> None:
    Disk.refuses, Disk.commits = False, 0


@asynchronous
async def test_what_is_asked_in_one_moment_is_one_transaction(tmp_path: Path) -> None:
    told: list[Changes] = []
    keeper = Keeper(tmp_path / "durable.db", DurableConfig(), told.append, open_store=Disk)
    asked = [keeper.run(lambda store, n=n: store.outbox.append(append(b"%d" % n))) for n in range(100)]  # type: ignore[misc]
    answers: list[Appended] = await asyncio.gather(*asked)
    assert [each.sequences for each in answers] == [[n + 1] for n in range(100)]
    assert Disk.commits < 20
    assert told[-1].outgoing[0].end == keeper.sizes.outbox_messages == 100
    await keeper.close()
    with pytest.raises(StorageError):
        await keeper.run(lambda store: None)
    again = DurableStore(tmp_path / "durable.db", DurableConfig())
    assert again.outbox.count == 100
    again.close()


@asynchronous
async def test_a_job_that_fails_changes_nothing_and_harms_no_other(tmp_path: Path) -> None:
    keeper = Keeper(tmp_path / "durable.db", DurableConfig(), lambda changes: None)

    def bad(store: DurableStore) -> None:
        store.outbox.append(append(b"lost"))
        raise InvalidArgument("no")

    results = await asyncio.gather(
        keeper.run(lambda store: store.outbox.append(append(b"1"))),
        keeper.run(bad),
        keeper.run(lambda store: store.outbox.append(append(b"2"))),
        return_exceptions=True,
    )
    assert isinstance(results[1], InvalidArgument)
    assert [each.sequences for each in (results[0], results[2])] == [[1], [2]]  # type: ignore[union-attr]
    assert keeper.sizes.outbox_messages == 2
    await keeper.close()


@asynchronous
async def test_a_disk_that_refuses_is_told_and_tried_again(tmp_path: Path) -> None:
    troubles: list[str] = []
    keeper = Keeper(tmp_path / "durable.db", DurableConfig(), lambda changes: None, troubles.append, Disk)
    await keeper.run(lambda store: store.outbox.append(append(b"1")))
    Disk.refuses = True
    with pytest.raises(StorageError, match="disk is full"):
        await keeper.run(lambda store: store.outbox.append(append(b"2")))
    Disk.refuses = False
    appended = await keeper.run(lambda store: store.outbox.append(append(b"3")))
    assert appended.sequences == [2]
    assert len(troubles) == 2
    assert "disk is full" in troubles[0]
    assert troubles[1] == ""
    await keeper.close()


@asynchronous
async def test_what_waits_for_the_disk_is_bounded(tmp_path: Path) -> None:
    keeper = Keeper(tmp_path / "durable.db", DurableConfig(), lambda changes: None)
    first = asyncio.ensure_future(keeper.run(lambda store: None, size=60 << 20))
    await asyncio.sleep(0)
    with pytest.raises(QueueFull, match="wait for the disk"):
        await keeper.run(lambda store: None, size=5 << 20)
    await first
    await keeper.run(lambda store: None, size=5 << 20)
    await keeper.close()


@asynchronous
async def test_bounds_refuse_what_is_new_and_drop_nothing(tmp_path: Path) -> None:
    config = DurableConfig(outbox_per_peer=1 << 20)
    keeper = Keeper(tmp_path / "durable.db", config, lambda changes: None)
    half = b"x" * (500 << 10)
    appended = await keeper.run(lambda store: store.outbox.append(append(half, half, half)))
    assert appended.sequences == [1, 2]
    assert isinstance(appended.error, QueueFull)
    assert "for this peer" in str(appended.error)
    assert keeper.sizes.outbox_messages == 2
    await keeper.close()


@asynchronous
async def test_a_disk_that_refused_is_tried_again_though_nobody_asks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keeper_module, "_TRY_AGAIN", 3600.0)
    troubles: list[str] = []
    well = asyncio.Event()

    def told(trouble: str) -> None:
        troubles.append(trouble)
        if not trouble:
            well.set()

    keeper = Keeper(tmp_path / "durable.db", DurableConfig(), lambda changes: None, told, Disk)
    Disk.refuses = True
    with pytest.raises(StorageError):
        await keeper.run(lambda store: store.outbox.append(append(b"1")))
    # What is only read says nothing of whether the disk takes something.
    Disk.refuses = False
    assert await keeper.read(lambda store: store.outbox.count) == 0
    assert await keeper.run(lambda store: store.outbox.count) == 0
    assert keeper.trouble
    monkeypatch.setattr(keeper_module, "_TRY_AGAIN", 0.01)
    Disk.refuses = True
    with pytest.raises(StorageError):
        await keeper.run(lambda store: store.outbox.append(append(b"1")))
    Disk.refuses = False
    await well.wait()
    assert len(troubles) == 2
    assert not keeper.trouble
    await keeper.close()


class SlowDisk(DurableStore):
    """One that answers when it is told to."""

    go_on = threading.Event()

    def commit(self) -> Changes:
        SlowDisk.go_on.wait()
        return super().commit()


@asynchronous
async def test_a_disk_that_is_slow_is_told_while_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keeper_module, "_SLOW", 0.05)
    told: list[str] = []
    changed = asyncio.Event()

    def on_slow(slow: str) -> None:
        told.append(slow)
        changed.set()

    keeper = Keeper(
        tmp_path / "durable.db", DurableConfig(), lambda changes: None, open_store=SlowDisk, on_slow=on_slow
    )
    SlowDisk.go_on.clear()
    sent = asyncio.ensure_future(keeper.run(lambda store: store.outbox.append(append(b"1"))))
    await changed.wait()
    assert "durable.db: its disk takes" in told[0]
    assert keeper.slow == told[0]
    assert not sent.done()
    SlowDisk.go_on.set()
    assert (await sent).sequences == [1]
    monkeypatch.setattr(keeper_module, "_SLOW", 60.0)
    await keeper.run(lambda store: store.outbox.append(append(b"2")))
    assert told[1:] == [""]
    assert not keeper.slow
    await keeper.close()


@asynchronous
async def test_a_file_that_turns_out_to_be_damaged_is_told_as_such(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "durable.db"
    keeper = Keeper(path, DurableConfig(), lambda changes: None)
    await keeper.run(lambda store: store.outbox.append(append(*[b"x" * 1000] * 200)))
    await keeper.close()
    content = bytearray(path.read_bytes())
    middle = len(content) // 2 // 4096 * 4096
    keeper = Keeper(path, DurableConfig(), lambda changes: None)
    await keeper.read(lambda store: store._connection.execute("PRAGMA shrink_memory"))
    with path.open("r+b") as file:
        file.seek(middle)
        file.write(b"\xa5" * (len(content) - middle))
    with pytest.raises(StorageError, match="malformed"):
        await keeper.run(lambda store: store.outbox.withdraw(PEER, None))
    assert keeper.damaged
    for _ in range(2):  # what would have gone well is refused, too: it would be stored in a damaged file
        with pytest.raises(StorageError, match="is damaged"):
            await keeper.run(lambda store: store.outbox.append(append(b"x")))
    monkeypatch.setattr(keeper_module, "_TRY_AGAIN", 0.0)
    keeper._look_at = 0.0
    path.write_bytes(content)  # a copy was put back
    assert (await keeper.run(lambda store: store.outbox.append(append(b"x")))).sequences == [201]
    assert not keeper.damaged
    await keeper.close()


@pytest.mark.skipif(bool(why_not()), reason=why_not() or "it can be had")
@asynchronous
async def test_a_disk_that_the_log_itself_has_filled_is_not_full_for_ever(tmp_path: Path) -> None:
    def below(asked: Asked) -> int:
        too_much = asked.path.endswith("-wal") and asked.offset + len(asked.data) > 400_000
        return FULL if asked.kind == "write" and too_much else OK

    with interposed(below):
        keeper = Keeper(tmp_path / "durable.db", DurableConfig(), lambda changes: None)
        refused = 0
        for number in range(100):
            try:
                await keeper.run(lambda store: store.outbox.append(append(b"x" * 20_000)))
            except StorageError:
                refused += 1
                keeper._look_at = 0.0
            else:
                assert keeper.sizes.outbox_messages == number + 1 - refused
        assert 0 < refused < 20
        await keeper.close()
