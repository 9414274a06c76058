"""Peer scores, with real processes: who sends invalid messages is shown as such, told of, and sent away."""

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import sidecar_client

from .processes import Process, following, running_pair


def events(lines: Iterator[str]) -> Iterator[dict[str, Any]]:
    for line in lines:
        event: dict[str, Any] = json.loads(line)
        yield event


def until(lines: Iterator[dict[str, Any]], kind: str) -> dict[str, Any]:
    return next(event for event in lines if event["event"] == kind)


def test_who_sends_invalid_messages_is_seen_told_of_and_sent_away(tmp_path: Path) -> None:
    with (
        running_pair(tmp_path) as (host, attacker),
        following(host, "subscribe", "news"),
        following(host, "peers", "--watch", "--json") as lines,
    ):
        watch = events(lines)
        until(watch, "present")
        attacker_id = host.json("peers")["peer_id"]
        assert attacker.command("publish", "news", "no signature", "--unsigned", "--peers", "1").returncode == 0
        scored = until(watch, "scored")
        assert scored["peer_id"] == attacker_id
        assert scored["reason"].startswith("invalid messages on 'news' (-7")
        assert scored["score"]["standing"] == "no_publish"
        # It wears off while the commands run, on a machine that has much to do.
        shown = host.json("peers", "--scores")["score"]
        assert shown["standing"] in ("no_publish", "no_gossip", "no_mesh")
        assert [topic["invalid_messages"] < 0 for topic in shown["topics"] if topic["topic"] == "news"] == [True]
        text = host.command("peers", "--scores").stdout
        assert ": invalid messages on 'news' (-" in text
        assert "P4 invalid -" in text
        asyncio.run(flood(attacker))
        gone = until(watch, "disconnected")
        assert "score -" in gone["reason"]
        assert "invalid messages on 'news'" in gone["reason"]


async def flood(attacker: Process) -> None:
    async with sidecar_client.connect(f"unix:{attacker.socket}") as node:
        messages = [b"no signature %d" % number for number in range(60)]
        await node.publish_many("news", messages, signing=sidecar_client.Signing.STRICT_NO_SIGN)


def test_an_app_adds_to_a_score_and_takes_it_back(tmp_path: Path) -> None:
    with (
        running_pair(tmp_path) as (host, _),
        following(host, "subscribe", "news"),
        following(host, "peers", "--watch", "--json") as lines,
    ):
        watch = events(lines)
        until(watch, "present")
        peer = host.json("peers")["peer_id"]
        assert "-100 points" in host.command("score", peer, "-100", "--for", "1h").stdout
        assert until(watch, "scored")["reason"] == "an app says so (-100)"
        assert host.json("peer", peer)["score"]["standing"] == "graylisted"
        assert "nothing more" in host.command("score", peer, "0").stdout
        assert until(watch, "scored")["score"]["standing"] == "good"
        wrong = host.command("score", peer, "2e6")
        assert wrong.returncode != 0
        assert "from -1e+06 to 1e+06" in wrong.stderr
