"""`sidecar topics`."""

import argparse

from sidecar_client import Client, HistoryState, Topic

from .common.client import Output, add_client_flags, talk
from .common.said import moment

_WITHOUT_VERDICT = (
    ("deadline", "no verdict came in time"),
    ("unattended", "no app was there to judge them"),
    ("full", "too many waited for verdicts"),
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_client_flags(parser)


def run(options: argparse.Namespace) -> int:
    async def conversation(client: Client, out: Output) -> int:
        topics = sorted(await client.topics(), key=lambda topic: topic.name)
        for topic in topics:
            await out.record(_fields(topic), _line(topic))
        statistics = await client.statistics()
        for reason, words in _WITHOUT_VERDICT:
            if count := statistics.get(f"gossip_ignored_{reason}", 0):
                await out.remark(f"{count:.0f} messages were left out since {words}")
        if not topics:
            await out.remark("no topics: neither an app here nor a connected peer subscribes to one")
        return 0

    return talk(options, conversation)


def _fields(topic: Topic) -> dict[str, object]:
    return {
        "name": topic.name,
        "subscribed": topic.subscribed,
        "subscribers": topic.subscribers,
        "peers": topic.peers,
        "mesh_peer_ids": list(topic.mesh_peer_ids),
        "signing": topic.signing.name,
        "delivered": topic.delivered,
        "published": topic.published,
        "duplicates": topic.duplicates,
        "rejected": topic.rejected,
        "ignored": topic.ignored,
        "dropped": topic.dropped,
        "validators": topic.validators,
        "unjudged": topic.unjudged,
        "scoring": topic.scoring,
        **_kept(topic),
    }


def _kept(topic: Topic) -> dict[str, object]:
    """What of it is on disk."""
    return {
        "history": topic.history.name,
        "stored_messages": topic.stored_messages,
        "stored_bytes": topic.stored_bytes,
        "oldest_time": topic.oldest_time,
        "complete_since": topic.complete_since,
        "complete_until": topic.complete_until,
        "history_gap": topic.history_gap,
    }


def _told(topic: Topic) -> str:
    """The same, in words."""
    if topic.history is HistoryState.UNSPECIFIED:
        return ""
    oldest = f" since {moment(topic.oldest_time)}" if topic.oldest_time is not None else ""
    told = f"; {topic.stored_messages} on disk{oldest}"
    if topic.complete_since is not None and topic.complete_until is not None:
        told += f", complete from {moment(topic.complete_since)} to {moment(topic.complete_until)}"
    if topic.history is HistoryState.REFUSED:
        told += ", and the disk refuses more"
    return told + (f"; {topic.history_gap}" if topic.history_gap else "")


def _line(topic: Topic) -> str:
    here = f"{topic.subscribers} here" if topic.subscribed else "not here"
    counted = f"{topic.delivered} delivered, {topic.published} published"
    kinds = (("dropped", topic.dropped), ("rejected", topic.rejected), ("ignored", topic.ignored))
    lost = "".join(f", {count} {kind}" for kind, count in kinds if count)
    judged = ""
    if topic.validators or topic.unjudged:
        judged = f"; judged by {topic.validators} app{'s' * (topic.validators != 1)}, {topic.unjudged} messages wait"
    return f"{topic.name}  {here}, {topic.peers} peers, {counted}{lost}{judged}{_told(topic)}"
