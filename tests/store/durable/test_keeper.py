"""The thread that owns the file: one transaction for all that is asked in one moment, and disks that refuse."""

import asyncio
import sqlite3
from pathlib import Path

import pytest

from sidecar.core.errors import InvalidArgument, QueueFull, StorageError
from sidecar.core.parameters import DurableConfig
from sidecar.core.types import PeerId
from sidecar.store.durable import Append, Appended, DurableStore, Keeper
from sidecar.store.durable.store import Changes
from tests.api.fakes import asynchronous

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
