"""A sidecar whose state directory is in memory: it says that durable messages do not last, wherever one would look."""

import asyncio
import json
import shutil
import tempfile
from pathlib import Path

import pytest
import sidecar_client
from sidecar_client import Durable, SendOutcome

from sidecar.store.volume import volatile

from .processes import PATIENCE, Process, running

SHARED = Path("/dev/shm")
PEER = "12D3KooWPPpW8aaARYUygtJwd8PdhpCtaLBjwY4YmKX8LAxSrhJB"


@pytest.mark.skipif(not volatile(SHARED), reason="/dev/shm is no tmpfs here")
def test_it_is_said_at_the_start_to_apps_and_to_whoever_looks() -> None:
    place = Path(tempfile.mkdtemp(dir=SHARED))
    try:
        for again in (False, True):
            with running(place) as sidecar:
                sidecar.line("  address")
                warned = "WARNING" in "".join(line for line in sidecar.log().splitlines() if "is on tmpfs" in line)
                assert warned == again, "it matters once there are durable messages"
                asyncio.run(_send(sidecar))
                findings = {
                    (each["check"], each["level"])
                    for each in map(json.loads, sidecar.command("doctor", "--json").stdout.splitlines())
                    if "is on tmpfs" in each["message"]
                }
                assert findings == {("volume", "warning"), ("ready", "warning")}
                assert sidecar.log().count("durable messages do not last") == 1 + again
                assert sidecar.terminate() == 0
    finally:
        shutil.rmtree(place)


async def _send(sidecar: Process) -> None:
    async with sidecar_client.connect(f"unix:{sidecar.socket}", wait=PATIENCE) as client:
        receipt = await client.send(PEER, "/orders/1", b"order", durable=Durable())
        assert receipt.outcome is SendOutcome.STORED
        assert "is on tmpfs" in receipt.detail
        (storing,) = [each for each in (await client.readiness()).conditions if each.type == "Storing"]
        assert (storing.met, storing.reason) == (True, "VolatileVolume")
        assert (await client.statistics())["durable_volatile"] == 1
