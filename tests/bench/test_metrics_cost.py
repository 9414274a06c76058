"""The benchmark of the metrics, for a moment."""

import asyncio
import os
import re

import pytest

from bench import gossip_pair, metrics


@pytest.mark.skipif(not os.path.exists("/proc/self/stat"), reason="reads /proc, which Linux has")
def test_both_sides_are_measured_and_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(metrics.KINDS, "signed")
    monkeypatch.setattr(metrics, "_SETTLE_SECONDS", 0.0)
    monkeypatch.setattr(gossip_pair, "_WINDOW", 64)
    page = asyncio.run(metrics.run(pairs=1, number=1, seconds=0.1))
    (row,) = re.findall(r"^\| unsigned \| .*$", page, re.M)
    assert row.count("µs") == 2
    assert len(re.findall(r"^\| (?:off|on, [a-z ]+) \| [\d.]+ MB \|$", page, re.M)) == 3
