"""The README's snippets that are whole programs run as they stand."""

import asyncio
import contextlib
import os
import re
import sys
from pathlib import Path

from sidecar.core import streams
from tests.api.fakes import ME_TEXT, OTHER, asynchronous, served

README = Path(__file__).resolve().parents[3] / "clients/python/README.md"


@asynchronous
async def test_first_snippet(tmp_path: Path) -> None:
    snippets = re.findall(r"```python\n(.*?)```", README.read_text(), re.S)
    assert len(snippets) > 3
    async with served(tmp_path) as (_, _, api, _):
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-c",
            snippets[0],
            env={**os.environ, "SIDECAR_API": str(api.socket)},
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        out, err = await process.communicate()
    assert (process.returncode, err) == (0, b"")
    assert out.decode().splitlines() == ["SENT 1", f"{ME_TEXT} b'hello'"]


@asynchronous
async def test_the_echo_of_byte_streams(tmp_path: Path) -> None:
    snippets = re.findall(r"```python\n(.*?)```", README.read_text(), re.S)
    (echo,) = [snippet for snippet in snippets if "accept_streams" in snippet]
    async with served(tmp_path) as (node, _, api, _):
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-c", echo, env={**os.environ, "SIDECAR_API": str(api.socket)}
        )
        assert await node.wait_for(streams.ProtocolsAccepted) == (("/echo/1",),)
        node.on_effect(streams.StreamArrived(7, OTHER, "/echo/1"))
        node.on_effect(streams.BytesArrived(7, b"hello"))
        assert await node.wait_for(streams.BytesWritten) == (7, b"hello")
        node.on_effect(streams.ReadEnded(7))
        assert await node.wait_for(streams.WriteEnded) == (7,)
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()
