"""The demo's child processes: they speak, and none outlives its parent, however that ends."""

import asyncio
import os
import select
import signal
import subprocess
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from sidecar.commands.demo_children import Actor, Child, ChildGone, environment

# A child as the demo's are: says that it is there, answers orders, ends at end of file.
ECHO = """
import json, sys
print(json.dumps({"event": "begun"}), flush=True)
for line in sys.stdin:
    order = json.loads(line)
    if order["do"] == "fail":
        sys.exit("as told")
    print(json.dumps({"event": "done", "number": order["number"]}), flush=True)
"""


@pytest.fixture
def modules(tmp_path: Path) -> dict[str, str]:
    (tmp_path / "echo_child.py").write_text(ECHO)
    return environment() | {"PYTHONPATH": str(tmp_path)}


def with_actor(tmp_path: Path, modules: dict[str, str], story: Callable[[Actor], Awaitable[None]]) -> Actor:
    async def scene() -> Actor:
        actor = Actor("echo", tmp_path / "echo.log")
        await actor.begin("echo_child", [], modules)
        try:
            await actor.event("begun", 20)
            await story(actor)
        finally:
            await actor.kill()
        return actor

    return asyncio.run(scene())


def test_orders_are_answered_and_events_are_picked_by_their_fields(tmp_path: Path, modules: dict[str, str]) -> None:
    async def story(actor: Actor) -> None:
        actor.order(do="echo", number=1)
        actor.order(do="echo", number=2)
        assert (await actor.event("done", 20, number=2))["number"] == 2
        assert (await actor.event("done", 20))["number"] == 1
        assert await actor.stop(20) == -signal.SIGTERM

    with_actor(tmp_path, modules, story)


def test_waiting_for_a_child_that_ended_says_how_it_ended(tmp_path: Path, modules: dict[str, str]) -> None:
    async def story(actor: Actor) -> None:
        actor.order(do="fail")
        with pytest.raises(ChildGone, match="echo ended with exit code 1"):
            await actor.event("done", 20)

    assert with_actor(tmp_path, modules, story).tail() == "  | as told\n"


def test_a_child_that_ignores_sigterm_is_killed(tmp_path: Path) -> None:
    (tmp_path / "deaf.py").write_text(
        "import signal, sys\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
        "print('deaf', flush=True)\nsys.stdin.read()\n"
    )

    async def scene() -> int:
        child = Child("deaf", tmp_path / "deaf.log")
        await child.start("deaf", [], environment() | {"PYTHONPATH": str(tmp_path)}, speaks=True)
        assert child.process.stdout is not None
        await child.process.stdout.readline()
        return await child.stop(0.05)

    assert asyncio.run(scene()) == -signal.SIGKILL


def test_children_end_with_a_parent_that_is_killed(tmp_path: Path, modules: dict[str, str]) -> None:
    parent = tmp_path / "parent.py"
    parent.write_text(
        "import asyncio, os\nfrom pathlib import Path\nfrom sidecar.commands.demo_children import Actor\n"
        "async def main():\n"
        "    actors = [Actor(str(n), Path('log')) for n in range(2)]\n"
        "    for actor in actors:\n"
        "        await actor.begin('echo_child', [], os.environ)\n"
        "        await actor.event('begun', 20)\n"
        "    print(*(actor.process.pid for actor in actors), flush=True)\n"
        "    await asyncio.Event().wait()\n"
        "asyncio.run(main())\n"
    )
    process = subprocess.Popen([sys.executable, parent], stdout=subprocess.PIPE, env=modules, cwd=tmp_path)
    assert process.stdout is not None
    with process.stdout:
        handles = [os.pidfd_open(int(pid)) for pid in process.stdout.readline().split()]
    process.kill()
    process.wait()
    try:
        for handle in handles:  # readable when the process has ended
            assert select.select([handle], [], [], 20)[0], "a child outlived its parent"
    finally:
        for handle in handles:
            os.close(handle)
    assert len(handles) == 2


def test_the_environment_configures_no_sidecar(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SIDECAR_NETWORK_NAME", "other")
    assert "PATH" in environment()
    assert [name for name in environment() if name.startswith("SIDECAR_")] == []
