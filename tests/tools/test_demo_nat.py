"""`make demo-nat` as a person runs it; it needs what makes namespaces."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.missing import not_there

SCRIPT = Path(__file__).parents[2] / "tools/demo_nat.py"


@pytest.mark.slow
def test_two_sidecars_behind_nats_gossip_directly() -> None:
    missing = [tool for tool in ("ip", "nft", "sysctl") if shutil.which(tool) is None]
    if sys.platform != "linux" or os.geteuid() or missing:
        not_there(f"Linux, root and ip, nft and sysctl are needed; missing: {', '.join(missing) or 'root'}")
    told = subprocess.run([sys.executable, SCRIPT], capture_output=True, text=True, timeout=180, check=False)
    if "Operation not permitted" in told.stderr:
        not_there("namespaces cannot be made here")
    assert told.returncode == 0, told.stderr
    assert "home B has reached home A through the relay" in told.stdout
    assert "home B has heard by gossip: 'hello from home A'" in told.stdout
    assert "The relay carried 1 connection(s)" in told.stdout
    left = subprocess.run(["ip", "netns", "list"], capture_output=True, text=True, check=True).stdout
    assert "-homeA" not in left
