"""A real peer that floods a real sidecar: sent away with a reason, a metric and a line in the log; nothing is lost."""

import asyncio
import subprocess
import sys
from pathlib import Path
from urllib.request import urlopen

import pytest
import sidecar_client

from .processes import PATIENCE, Process, environment, running

TOPIC = "news"


@pytest.mark.parametrize("kind", ["graft-prune", "yamux-updates"])
def test_who_floods_is_sent_away_and_honest_messages_arrive(tmp_path: Path, kind: str) -> None:
    lonely = ("--peers-target", "0")
    budget = ("--limits-peer-work", "500", "--limits-peer-patience", "1")  # a slow machine floods slowly
    flags = (*budget, "--metrics", "127.0.0.1:0", *lonely)
    with running(tmp_path / "attacked", *flags) as attacked, running(tmp_path / "honest", *lonely) as honest:
        address = attacked.line("  address").split()[-1]
        metrics = attacked.line("  metrics").split()[-1]
        honest.line("  address")
        attacker = subprocess.Popen(
            [sys.executable, "-m", "bench.attacker", address, kind, "main", TOPIC],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=environment(tmp_path),
            text=True,
        )
        try:
            asyncio.run(asyncio.wait_for(_publish_until_sent_away(attacked, honest, address), 2 * PATIENCE))
            attacker.wait(timeout=PATIENCE)  # the end of its input, which `communicate` brings, would end it as well
            said, _ = attacker.communicate(timeout=PATIENCE)
        finally:
            attacker.kill()
            attacker.wait()
        assert said.startswith("sent away")
        text = urlopen(metrics).read().decode()
        assert "sidecar_peers_sent_away_total 1.0" in text
        assert 'sidecar_connections_closed_total{reason="work_exceeded"} 1.0' in text
        log = attacked.log()
        by_score = kind == "graft-prune" and "misbehaviour, mostly GRAFTs in a back-off" in log  # whichever comes first
        by_work = "sent away: needless work, mostly " in log and "over its budget of work" in log
        assert by_score or by_work, log


async def _publish_until_sent_away(attacked: Process, honest: Process, address: str) -> None:
    async with (
        sidecar_client.connect(f"unix:{attacked.socket}") as victim,
        sidecar_client.connect(f"unix:{honest.socket}") as publisher,
        victim.subscribe(TOPIC) as subscription,
    ):
        await publisher.connect_peer(addresses=[address])
        sent, messages = 0, aiter(subscription)
        while not (await victim.statistics())["work_sent_away"]:
            await publisher.publish(TOPIC, b"%d" % sent, minimum_peers=1)
            assert (await anext(messages)).data == b"%d" % sent
            sent += 1
