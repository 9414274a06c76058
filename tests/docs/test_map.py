"""The map in docs/design.md: every room, in the order of imports, and the ways of messages, as they are in the code."""

import contextlib
import os
import re
import sys
import tomllib
from collections.abc import AsyncIterator
from pathlib import Path
from types import FrameType
from typing import Any

import pytest
from sidecar_client import Client, PublishOutcome, connect

import sidecar
from sidecar.app import App
from sidecar.config import load

from ..net.harness import one_loop

ROOT = Path(__file__).parents[2]
PACKAGE = Path(sidecar.__file__).parent
DESIGN = (ROOT / "docs/design.md").read_text()


def section(title: str) -> str:
    return DESIGN.split(f"## {title}\n", 1)[1].split("\n## ", 1)[0].split("\n### ", 1)[0]


def files(text: str) -> list[str]:
    """The files named in the steps of a way, in order."""
    steps = "\n".join(re.findall(r"^(?:\d+\.|  ) .*", text, re.MULTILINE))
    return re.findall(r"`([a-z_/]+\.py)`", steps)


def test_every_room_is_there_in_the_order_of_imports() -> None:
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    (rooms,) = (contract for contract in contracts if contract.get("containers") == ["sidecar"])
    told = re.findall(r"^\| `(\w+)` \|", section("The rooms"), re.MULTILINE)
    assert told == [room for row in rooms["layers"] for room in row.split(" | ")]


@pytest.mark.parametrize("page", ["docs/design.md", "CONTRIBUTING.md"])
def test_files_and_rooms_that_are_named_are_there(page: Path) -> None:
    for name in re.findall(r"`((?:\w+/)+(?:\w+\.py)?|\w+(?:/\w+)+(?:\.py)?)`", (ROOT / page).read_text()):
        if name.split("/")[0] in {path.name for path in (*PACKAGE.iterdir(), *ROOT.iterdir())}:
            assert (PACKAGE / name).exists() or (ROOT / name).exists(), name


@contextlib.asynccontextmanager
async def node(home: Path, *bootstrap: str) -> AsyncIterator[Client]:
    """A whole sidecar in this process, and a client of it."""
    flags = {
        "state.directory": str(home),
        "api.socket": str(home / "api.sock"),
        "listen.addresses": "/ip4/127.0.0.1/tcp/0",
        "bootstrap.peers": ",".join(bootstrap),
    }
    app = App(load({"HOME": str(home)}, flags), os.environ)
    started = await app.start()
    try:
        async with connect(started.api) as client:
            yield client
    finally:
        await app.stop()


@one_loop
async def test_messages_go_the_ways_of_the_map(tmp_path: Path) -> None:
    passed: list[str] = []
    prefix = f"{PACKAGE}{os.sep}"

    def note(frame: FrameType, event: str, _: Any) -> None:
        name = frame.f_code.co_filename
        if event == "call" and name.startswith(prefix):
            passed.append(name.removeprefix(prefix))

    async with node(tmp_path / "first") as first:
        address = (await first.info()).listening_addresses[0]
        async with node(tmp_path / "second", address) as second, second.subscribe("news") as news:
            received = aiter(news)
            await first.publish("news", b"before", minimum_peers=1)
            assert (await anext(received)).data == b"before"
            sys.setprofile(note)
            try:
                published = await first.publish("news", b"hello", request_id="one")
                assert (await anext(received)).data == b"hello"
            finally:
                sys.setprofile(None)
    assert published.outcome is PublishOutcome.SENT
    for title in ("The way of a published message", "The way of a received message"):
        rest = iter(passed)
        for name in files(section(title)):
            assert name in rest, f"{title}: {name} is not passed there"


def test_steps_are_found() -> None:
    assert files("so `a/b.py`\n1. by `c/d.py` and\n   `e.py`, `core/node`\n") == ["c/d.py", "e.py"]
