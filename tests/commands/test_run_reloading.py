"""Reading the configuration again: beside the loop, one reading after another."""

import asyncio
import logging
import threading
from collections.abc import Callable

import pytest

from sidecar.app import Reloaded
from sidecar.commands.run_reloading import Reloading
from sidecar.config import Loaded, load
from sidecar.core.errors import ConfigError
from sidecar.process.service_manager import ServiceManager
from tests.api.fakes import asynchronous


class Node:
    """Takes configurations, and says when it has."""

    def __init__(self) -> None:
        self.loaded: list[str] = []
        self.told = asyncio.Event()

    def reload(self, loaded: Loaded) -> Reloaded:
        self.loaded.append(loaded.config.network.name)
        self.told.set()
        return Reloaded(["network.name"], [])

    async def took(self, count: int) -> None:
        while len(self.loaded) < count:
            self.told.clear()
            await self.told.wait()


class Disk:
    """Gives configurations, each when it is let."""

    def __init__(self) -> None:
        self.begun = threading.Semaphore(0)
        self.free = threading.Semaphore(0)
        self.reading = self.most = self.count = 0

    def read(self) -> Loaded:
        self.reading += 1
        self.most = max(self.most, self.reading)
        self.count += 1
        number = self.count
        self.begun.release()
        self.free.acquire()
        self.reading -= 1
        return load({}, {"network.name": f"n{number}"})

    async def has_begun(self) -> None:
        await asyncio.to_thread(self.begun.acquire)


def reloading(node: Node, read: Callable[[], Loaded]) -> Reloading:
    return Reloading(node, ServiceManager({}), read)


@asynchronous
async def test_the_loop_goes_on_while_a_slow_disk_is_read_and_readings_come_one_after_another() -> None:
    node, disk = Node(), Disk()
    asked = reloading(node, disk.read)
    asked.ask()
    await disk.has_begun()  # on this loop, which is not held up
    for _ in range(3):
        asked.ask()
    assert node.loaded == []
    disk.free.release()
    await disk.has_begun()
    assert node.loaded == ["n1"]
    disk.free.release()
    await node.took(2)
    assert (node.loaded, disk.most, disk.count) == (["n1", "n2"], 1, 2)
    asked.ask()
    disk.free.release()
    await node.took(3)


@asynchronous
async def test_one_that_is_never_read_holds_up_no_end() -> None:
    node, disk = Node(), Disk()
    asked = reloading(node, disk.read)
    asked.ask()
    await disk.has_begun()
    asked.close()
    disk.free.release()
    others = asyncio.all_tasks() - {asyncio.current_task()}
    await asyncio.gather(*others, return_exceptions=True)
    assert node.loaded == []


@pytest.mark.parametrize(
    ("error", "said"), [(ConfigError("it is wrong"), "it is wrong"), (ValueError("a fault"), "internal error")]
)
@asynchronous
async def test_what_fails_changes_nothing_and_the_next_counts(
    error: Exception, said: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    node = Node()
    results: list[Loaded | Exception] = [error, load({}, {"network.name": "good"})]
    loop = asyncio.get_running_loop()

    def read() -> Loaded:
        result = results.pop(0)
        if results:
            loop.call_soon_threadsafe(asked.ask)
        if isinstance(result, Exception):
            raise result
        return result

    asked = reloading(node, read)
    asked.ask()
    await node.took(1)
    assert node.loaded == ["good"]
    assert caplog.messages[0] == f"the configuration stays as it was: {said}"
