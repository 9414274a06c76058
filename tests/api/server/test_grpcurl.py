"""grpcurl alone, with nothing but reflection, can subscribe and publish, and sees typed errors."""

import asyncio
import base64
import json
import os
import re
from pathlib import Path
from typing import Any

import pytest

from tests.api.fakes import asynchronous, served
from tests.interop.build import BuildFailed, ToolMissing
from tests.missing import MUST, not_there
from tests.prepare import ensure, found

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("each_engine")]  # Go takes long to build it

PAGE = Path(__file__).parents[3] / "docs/api.md"


def _grpcurl() -> str:
    """Where grpcurl is. With CI=true it is installed if it is missing."""
    if MUST:
        try:
            ensure("grpcurl")
        except (ToolMissing, BuildFailed) as error:
            not_there(error)
    program = found("grpcurl")
    if program is None:
        not_there("grpcurl is not there; `make grpcurl` installs it with Go")
    return program


async def _start(*arguments: str) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        _grpcurl(),
        "-plaintext",
        "-unix",
        *arguments,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )


async def _run(socket: Path, method: str, data: dict[str, Any] | None = None) -> tuple[int, str, str]:
    process = await _start(*(("-d", json.dumps(data)) if data is not None else ()), str(socket), method)
    out, err = await process.communicate()
    assert process.returncode is not None
    return process.returncode, out.decode(), err.decode()


@pytest.fixture(autouse=True, scope="module")
def grpcurl() -> str:
    return _grpcurl()


@asynchronous
async def test_the_commands_of_the_page(tmp_path: Path) -> None:
    """Those of docs/api.md as they are printed, in bash, but for where the socket is."""
    (block,) = re.findall(r"```\nsocket=[^\n]*\n(grpcurl .*?)```", PAGE.read_text(), re.DOTALL)
    list_services, get_node, subscribe, publish, check = block.splitlines()
    path = f"{Path(_grpcurl()).parent}{os.pathsep}{os.environ['PATH']}"

    async with served(tmp_path) as (_, _, api, _):
        environ = {**os.environ, "PATH": path, "socket": str(api.socket)}

        async def start(command: str) -> asyncio.subprocess.Process:
            pipe = asyncio.subprocess.PIPE
            return await asyncio.create_subprocess_exec(
                "bash", "-c", f"exec {command}", env=environ, stdout=pipe, stderr=pipe
            )

        async def answer(command: str) -> str:
            process = await start(command)
            out, err = await process.communicate()
            assert process.returncode == 0, err
            return out.decode()

        services = (await answer(list_services)).split()
        assert {"sidecar.v1.PubSubService", "sidecar.v1.NodeService", "grpc.health.v1.Health"} <= set(services)
        assert "node" in json.loads(await answer(get_node))
        subscriber = await start(subscribe)
        assert subscriber.stdout is not None
        assert b"{" in await subscriber.stdout.readline()
        assert b"cursor" in await subscriber.stdout.readline()  # it is subscribed
        assert json.loads(await answer(publish))["receipt"]["outcome"] == "PUBLISH_OUTCOME_SENT"
        while base64.b64encode(b"hello") not in await subscriber.stdout.readline():
            pass
        subscriber.terminate()
        await subscriber.communicate()
        assert "status" in json.loads(await answer(check))


@asynchronous
async def test_errors_name_the_field(tmp_path: Path) -> None:
    async with served(tmp_path) as (_, _, api, _):
        status, _, err = await _run(api.socket, "sidecar.v1.PeerService/PingPeer", {"peerId": "nobody"})
        assert status != 0
        assert "INVALID_PEER_ID" in err
        assert '"field": "peer_id"' in err
