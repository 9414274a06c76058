"""The thread that writes: order, errors, what a slow disk holds up, and the end."""

import asyncio
import threading

import pytest

from sidecar.core.errors import StorageError
from sidecar.store import disk_thread
from sidecar.store.disk_thread import DiskThread

from ..net.harness import one_loop


@one_loop
async def test_jobs_are_done_in_order_by_another_thread() -> None:
    disk, done = DiskThread(), []
    disk.post(lambda: done.append(threading.current_thread()))
    assert await disk.run(lambda: len(done)) == 1
    assert done[0] is not threading.current_thread()
    for number in range(100):
        disk.post(lambda number=number: done.append(number))
    await disk.close()
    assert done[1:] == list(range(100))


@one_loop
async def test_what_a_job_raises_is_raised_where_it_was_asked_for() -> None:
    disk = DiskThread()

    def refuse() -> None:
        raise StorageError("full")

    with pytest.raises(StorageError, match="full"):
        await disk.run(refuse)
    assert await disk.run(lambda: 7) == 7
    await disk.close()


@one_loop
async def test_a_job_that_hangs_holds_up_the_disk_and_not_the_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    disk, go_on, done = DiskThread(), threading.Event(), []
    waiting = asyncio.create_task(disk.run(go_on.wait))
    await asyncio.sleep(0)  # a turn of the loop: it begins
    behind = asyncio.create_task(disk.run(lambda: done.append("behind")))
    await asyncio.sleep(0)
    assert disk.post(lambda: done.append("waited for"), patience=0.001)
    assert disk.post(lambda: done.append("not waited for"), patience=1000.0)
    monkeypatch.setattr(disk_thread, "_MOST", 4)
    assert not disk.post(lambda: done.append("too many"))
    assert done == []
    behind.cancel()
    go_on.set()
    assert await waiting
    await disk.close()
    assert done == ["behind", "waited for", "not waited for"]


@one_loop
async def test_a_disk_that_never_answers_does_not_hold_up_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(disk_thread, "_LAST", 0.01)
    disk, go_on = DiskThread(), threading.Event()
    disk.post(go_on.wait)  # type: ignore[arg-type]
    await disk.close()
    done: list[int] = []
    assert disk.post(lambda: done.append(1))
    assert await disk.run(lambda: done) == [1]
    go_on.set()
