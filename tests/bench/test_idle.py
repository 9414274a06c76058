"""The benchmark of an idle sidecar, for a moment."""

import asyncio
import os

import pytest

from bench import idle


@pytest.mark.skipif(not os.path.exists("/proc/self/schedstat"), reason="reads /proc, which Linux has")
def test_a_sidecar_among_others_is_measured(capsys: pytest.CaptureFixture[str]) -> None:
    asyncio.run(idle.run(peers=2, settle=0.0, seconds=0.2, rounds=1, subscribed=True))
    (row,) = [line.split(" | ") for line in capsys.readouterr().out.splitlines() if line.endswith(" |") and "%" in line]
    assert row[0] == "| 2, subscribed"
    assert len(row) == 5


@pytest.mark.skipif(not os.path.exists("/proc/self/schedstat"), reason="reads /proc, which Linux has")
def test_what_this_process_uses_is_counted() -> None:
    before = idle.usage(os.getpid())
    while idle.usage(os.getpid()).since(before).seconds < 0.01:
        pass
    assert idle.usage(os.getpid()).since(before).sleeps >= 0
    assert idle.usage(os.getpid(), main=True).seconds <= idle.usage(os.getpid()).seconds
