"""A process that is forked while there is a client is told what it cannot do; neither process comes to harm."""

import os
import subprocess
import sys
from collections.abc import Iterator

import pytest

pytestmark = pytest.mark.usefixtures("each_client_engine")

SCRIPT = """
import asyncio, contextlib, os, sys
import sidecar_client

def attempt(work):
    asyncio.events._set_running_loop(None)  # as in a new process: the parent's loop is not ours
    try:
        return asyncio.run(work)
    except sidecar_client.FailedPrecondition as error:
        return str(error)

async def anew(target):
    async with sidecar_client.connect(target) as client:
        return await client.info()

async def step(iterator):
    await anext(aiter(iterator))

async def main(way, target):
    async with contextlib.AsyncExitStack() as stack:
        client = await stack.enter_async_context(sidecar_client.connect(target))
        news = await stack.enter_async_context(client.subscribe("news"))
        waiting = asyncio.ensure_future(anext(aiter(news)))
        await client.info()
        if way == "closed":
            await client.close()
            await asyncio.wait((waiting,))
            waiting.exception()
        child = os.fork()
        if child:
            _, status = os.waitpid(child, 0)
            if way != "closed":
                await client.info()
            print("child", status)
            return
        works = {
            "call": lambda: client.info(),
            "send": lambda: client.publish("news", b""),
            "read": lambda: step(news),
            "watch": lambda: step(client.watch_peers()),
            "anew": lambda: anew(target),
            "close": lambda: client.close(),
            "closed": lambda: anew(target),  # but not let go of
        }
        if way == "nothing":
            sys.exit(0)
        said = attempt(works[way]())
        if way == "close":
            assert said is None, said
        else:
            assert f"process {os.getppid()} had a sidecar client" in said and "spawn" in said, said
        os._exit(0)

if sys.argv[1] in ("before", "gone"):
    if sys.argv[1] == "gone":
        asyncio.run(anew(sys.argv[2]))  # it is over, but gRPC may not have let go of its threads
    child = os.fork()
    said = attempt(anew(sys.argv[2]))
    assert isinstance(said, str) is (not child and sys.argv[1] == "gone"), said
    if child:
        print("child", os.waitpid(child, 0)[1])
    sys.exit()
try:
    asyncio.run(main(*sys.argv[1:]))
except SystemExit:
    os._exit(0)  # the child's; what is under way there is the parent's
"""
SERVER = """
import asyncio, sys
from pathlib import Path
from tests.api.fakes import server

async def main():
    async with server(Path(sys.argv[1])):
        print("up", flush=True)
        await asyncio.to_thread(sys.stdin.read)

asyncio.run(main())
"""


WAYS = ("nothing", "call", "send", "read", "watch", "anew", "close", "closed", "gone", "before")


@pytest.fixture(scope="module")
def target(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A server in a process of its own."""
    path = tmp_path_factory.mktemp("s") / "api.sock"
    with subprocess.Popen(
        [sys.executable, "-c", SERVER, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=os.getcwd()
    ) as serving:
        assert serving.stdout is not None
        assert serving.stdout.readline() == b"up\n"
        yield f"unix:{path}"
        assert serving.stdin is not None
        serving.stdin.close()


@pytest.mark.parametrize("way", WAYS)
def test_a_forked_process(way: str, target: str) -> None:
    done = subprocess.run(
        [sys.executable, "-X", "faulthandler", "-c", SCRIPT, way, target],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.stdout == "child 0\n", done.stderr
