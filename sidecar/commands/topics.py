"""`sidecar topics`."""

import argparse

from sidecar_client import Client, Topic

from .common.client import Output, add_client_flags, talk


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_client_flags(parser)


def run(options: argparse.Namespace) -> int:
    async def conversation(client: Client, out: Output) -> int:
        topics = sorted(await client.topics(), key=lambda topic: topic.name)
        for topic in topics:
            await out.record(_fields(topic), _line(topic))
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
        "dropped": topic.dropped,
    }


def _line(topic: Topic) -> str:
    here = f"{topic.subscribers} here" if topic.subscribed else "not here"
    counted = f"{topic.delivered} delivered, {topic.published} published"
    lost = f", {topic.dropped} dropped" if topic.dropped else ""
    return f"{topic.name}  {here}, {topic.peers} peers, {counted}{lost}"
