"""A sidecar that has signatures checked by another process: in order, complete, and gone with the sidecar."""

import asyncio
import os
import signal
from pathlib import Path

import sidecar_client

from .processes import PATIENCE, Process, running

COUNT = 6000


def test_a_flood_is_checked_by_a_worker_which_may_die(tmp_path: Path) -> None:
    lonely = ("--peers-target", "0")
    with (
        running(tmp_path / "receiver", *lonely, "--gossip-verify-workers", "1") as receiver,
        running(tmp_path / "sender", *lonely) as sender,
    ):
        address = receiver.line("  address").split()[-1]
        sender.line("  address")
        workers = asyncio.run(asyncio.wait_for(_flood(receiver, sender, address), 4 * PATIENCE))
        assert "a process that checks signatures ended" in receiver.log()
        assert receiver.terminate() == 0
        assert not [pid for pid in workers if Path(f"/proc/{pid}").exists()]


def children(process: Process) -> list[int]:
    told = Path(f"/proc/{process.popen.pid}/task/{process.popen.pid}/children").read_text()
    return list(map(int, told.split()))


async def _flood(receiver: Process, sender: Process, address: str) -> list[int]:
    async with (
        sidecar_client.connect(f"unix:{receiver.socket}") as listener,
        sidecar_client.connect(f"unix:{sender.socket}") as publisher,
        listener.subscribe("news") as subscription,
    ):
        await publisher.connect_peer(addresses=[address])
        messages = aiter(subscription)
        await publisher.publish("news", b"first", minimum_peers=1)
        await anext(messages)
        seen: list[int] = []
        number = 0
        while not seen or (await listener.statistics())["net_verify_worker_failures"] < 1:
            batch = [b"%d" % each for each in range(number, number + COUNT)]
            number += COUNT
            publishing = asyncio.create_task(publisher.publish_many("news", batch))
            for expected in batch:
                assert (await anext(messages)).data == expected
            await publishing
            for pid in children(receiver):
                if pid not in seen and (await listener.statistics())["net_verify_workers"]:
                    seen.append(pid)
                    if len(seen) == 1:
                        os.kill(pid, signal.SIGKILL)
        statistics = await listener.statistics()
        assert statistics["gossip_signatures_workers"] > 0
        assert statistics["gossip_pending_messages"] == 0
        return seen
