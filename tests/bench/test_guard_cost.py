"""The benchmark of the guard, for a moment."""

import asyncio
import os

import pytest

from bench import guard


@pytest.mark.skipif(not os.path.exists("/proc/self/schedstat"), reason="reads /proc, which Linux has")
def test_every_row_is_told_beside_the_first(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for kind in ("no guard, a token's header", "no token", "token", "token, 64 scopes", "token, all quotas"):
        monkeypatch.delitem(guard.KINDS, kind)
    asyncio.run(guard.measure(rounds=1, seconds=0.1))
    rows = [line.split(" | ") for line in capsys.readouterr().out.splitlines() if "µs" in line]
    assert [row[0] for row in rows] == ["| no guard", "| token, one of 1000"] * 2
    assert rows[0][2] == "1.000 |"
