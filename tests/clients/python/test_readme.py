"""The README's first snippet runs as it stands."""

import asyncio
import os
import re
import sys
from pathlib import Path

from tests.api.fakes import ME_TEXT, asynchronous, served

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
