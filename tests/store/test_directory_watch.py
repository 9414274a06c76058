"""A state directory that is deleted or replaced under a running sidecar is missed."""

import asyncio
import logging
import shutil
from pathlib import Path

import pytest

from sidecar.core.errors import StorageError
from sidecar.core.gate import Ban
from sidecar.core.networks import Network
from sidecar.store.directory import StateDirectory
from sidecar.store.directory_watch import DirectoryWatch
from tests.api.fakes import asynchronous


@pytest.mark.parametrize("replaced", [False, True])
@asynchronous
async def test_it_is_said_once(tmp_path: Path, replaced: bool, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "state"
    with StateDirectory.open(path) as state:
        watch = DirectoryWatch(state, interval=0.0)
        watch.start()
        bans = state.open_bans(0.0)
        assert not state.lost()
        shutil.rmtree(path)
        if replaced:
            StateDirectory.open(path).close()
            StateDirectory.open(path).open_bans(0.0).close()
        assert state.lost()
        while watch._timer is not None and not caplog.records:  # noqa: ASYNC110 - it looks by itself
            await asyncio.sleep(0)
        (record,) = caplog.records
        assert record.levelno == logging.ERROR
        assert record.getMessage().startswith(f"the state directory {path} was deleted or replaced: ")
        with pytest.raises(StorageError, match=r"bans\.db was deleted or replaced"):
            bans.add([Ban(Network.from_text("192.0.2.1"), "", 0.0, None)])
        bans.close()
