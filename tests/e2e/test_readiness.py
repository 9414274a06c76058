"""Conditions that the configuration makes meaningless do not hold readiness back."""

import asyncio
import json
import urllib.request
from pathlib import Path

from sidecar_client import connect

from .processes import PATIENCE, Process, command, running


def conditions(sidecar: Process) -> dict[str, str]:
    """The reasons of the conditions, once the client, the process and the probe have all said that it is ready."""
    url = sidecar.line("  metrics").split()[-1].removesuffix("/metrics")
    sidecar.line("Ready after")

    async def client() -> bool:
        async with connect(f"unix:{sidecar.socket}") as node:
            return (await node.ready(timeout=PATIENCE)).ready

    assert asyncio.run(client())
    with urllib.request.urlopen(f"{url}/ready", timeout=PATIENCE) as answer:
        assert answer.status == 200
        told = json.loads(answer.read())
    assert told["ready"] is True
    return {condition["type"]: condition["reason"] for condition in told["conditions"]}


def test_a_private_client_of_the_dht_that_only_dials_and_has_no_topic_is_ready(tmp_path: Path) -> None:
    psk = tmp_path / "psk"
    assert command(tmp_path, "keygen", "--psk", str(psk)).returncode == 0
    private = ("--network-psk-file", str(psk), "--metrics", "127.0.0.1:0")
    with running(tmp_path / "1", *private) as first:
        address = first.line("  address").split()[-1]
        assert conditions(first) == {"Listening": "Listening", "Bootstrapped": "NoneConfigured"}
        dials = ("--listen", "", "--bootstrap", address, "--dht-mode", "client")
        with running(tmp_path / "2", *private, *dials) as second:
            assert conditions(second) == {"Listening": "OnlyDials", "Bootstrapped": "HasPeers"}
            assert second.json("status")["peer_id"] != first.json("status")["peer_id"]


def test_one_that_neither_listens_nor_has_anybody_to_dial_is_ready(tmp_path: Path) -> None:
    with running(tmp_path, "--metrics", "127.0.0.1:0", "--listen", "") as sidecar:
        assert conditions(sidecar) == {"Listening": "OnlyDials", "Bootstrapped": "NoneConfigured"}
