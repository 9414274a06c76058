"""The present sidecar on a state directory of the last release, ended or killed: it has all, and goes on with it."""

import asyncio
import json
import os
import shutil
import sqlite3
from pathlib import Path

import pytest
import sidecar_client
from sidecar_client import Client, Durable, SendOutcome

from sidecar.store.directory import SEQUENCE_FILE

from .processes import PATIENCE, Process, command, running

RELEASED = Path(__file__).parent / "released"
STATES = sorted(place for release in RELEASED.iterdir() if release.is_dir() for place in release.iterdir())


def put_back(state: Path, there: Path) -> None:
    """A copy, with the rights that it had."""
    shutil.copytree(state, there)
    os.chmod(there, 0o700)
    for file in there.iterdir():
        os.chmod(file, 0o600)


def started(state: Path) -> dict[str, str]:
    """What the release wrote down when it started."""
    lines = [json.loads(line) for line in (state / "audit.log").read_text().splitlines()]
    return next(line for line in lines if line["action"] == "node.started")


@pytest.mark.parametrize("state", STATES, ids=lambda state: f"{state.parent.name} {state.name}")
def test_it_starts_on_what_a_release_left(tmp_path: Path, state: Path) -> None:
    wrote = [json.loads(line) for line in (state / "audit.log").read_text().splitlines()]
    (protected,) = [line["peer_id"] for line in wrote if line["action"] == "peer.protected"]
    (banned,) = [line["network"] for line in wrote if line["action"] == "network.banned"]
    (token,) = [line["name"] for line in wrote if line["action"] == "token.created"]
    place = tmp_path / "node"
    place.mkdir()
    put_back(state, place / "state")
    for again in (False, True):
        with running(place) as sidecar:
            sidecar.line("  address")
            asyncio.run(_look(sidecar, started(state)["peer_id"], banned, protected, 2 if again else 1))
            assert sidecar.terminate() == 0
        tokens = command(place, "token", "list", "--state", str(place / "state"), "--json")
        assert [json.loads(line)["name"] for line in tokens.stdout.splitlines()] == [token]
        log = sidecar.log()
        assert "begun anew" not in log
        assert "cannot" not in log
    assert int((place / "state" / SEQUENCE_FILE).read_text()) > int((state / SEQUENCE_FILE).read_text())
    kept = sqlite3.connect(place / "state" / "bans.db")
    assert kept.execute("SELECT peer FROM protected").fetchall() == [(protected,)]
    kept.close()


def connected(sidecar: Process) -> Client:
    return sidecar_client.connect(f"unix:{sidecar.socket}", wait=PATIENCE)


async def _look(sidecar: Process, own: str, banned: str, peer: str, number: int) -> None:
    """All is there, and what the release did not have works as well."""
    async with connected(sidecar) as client:
        assert (await client.info()).peer_id == own
        assert [ban.network async for ban in client.bans()] == [banned]
        assert [known.peer_id async for known in client.peers()] == [peer]
        receipt = await client.send(peer, "/orders/1", b"order", durable=Durable(), request_id=f"order-{number}")
        assert receipt.outcome is SendOutcome.STORED
        assert receipt.message_id is not None
        assert receipt.message_id.sequence == number
