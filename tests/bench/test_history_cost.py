"""The benchmark of topic history, for a moment."""

import asyncio
import os

import pytest

from bench import gossip_pair, history


@pytest.mark.skipif(not os.path.exists("/proc/self/stat"), reason="reads /proc, which Linux has")
def test_all_pairs_are_measured_and_what_is_on_disk_is_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(history.KINDS, "unsigned")
    monkeypatch.setattr(gossip_pair, "_WINDOW", 64)
    told = asyncio.run(history.run(pairs=1, number=1, seconds=0.1)).splitlines()
    assert [line[:28].strip() for line in told[2:5]] == list(history.FLAGS)
    assert "messages on both disks; read back at" in told[5]
