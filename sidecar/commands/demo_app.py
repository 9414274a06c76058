"""An app of the demo: a process of its own that uses one sidecar through the Python client.

It subscribes to a topic, receives direct messages and serves requests from its start, does what it is ordered to in
lines of JSON on standard input, and tells what happens in lines of JSON on standard output. It ends with its input.
"""

import argparse
import asyncio
import hashlib
import json
import sys
import time
from pathlib import Path
from typing import Any

import sidecar_client
from sidecar_client import Client, Lagged, Request

from .common.stdin import lines

PROTOCOL = "/demo/1"
TOPIC = "demo"
PIECE = 512  # bytes of a file in one message


def tell(event: str, **fields: Any) -> None:
    """Tell the demo what has happened."""
    print(json.dumps({"event": event, **fields}), flush=True)


class Files:
    """Puts files together from the pieces that arrive, in any order."""

    def __init__(self) -> None:
        self._pieces: dict[str, dict[int, bytes]] = {}
        self._delays: dict[str, list[float]] = {}

    def arrived(self, header: dict[str, Any], body: bytes, delay: float) -> None:
        """Take a piece; tells when the file is complete."""
        name = header["file"]
        pieces = self._pieces.setdefault(name, {})
        pieces[header["piece"]] = body
        self._delays.setdefault(name, []).append(delay)
        if len(pieces) == header["of"]:
            whole = b"".join(pieces[number] for number in range(header["of"]))
            digest = hashlib.sha256(whole).hexdigest()
            tell("file", name=name, pieces=len(pieces), size=len(whole), sha256=digest, delays=self._delays[name])


async def listen(client: Client) -> None:
    """Tell what arrives on the topic: texts at once, files when they are complete."""
    files = Files()
    async with client.subscribe(TOPIC, skip_local=True) as messages:
        tell("subscribed")
        async for message in messages.events():
            if isinstance(message, Lagged):
                tell("lagged", reason=message.reason.name)
                continue
            head, _, body = message.data.partition(b"\n")
            header = json.loads(head)
            # One machine, one wall clock: the difference is the way from app to app, both API hops included.
            delay = (time.time_ns() - header["sent"]) / 1e9
            if "file" in header:
                files.arrived(header, body, delay)
            else:
                tell("heard", text=body.decode(), sender=message.sender, delay=delay)


async def receive(client: Client) -> None:
    """Tell what direct messages arrive."""
    async with client.receive(PROTOCOL) as messages:
        tell("receiving")
        async for message in messages:
            tell("direct", text=message.data.decode(), sender=message.peer_id)


async def serve(client: Client) -> None:
    """Answer requests: a text comes back in capitals."""

    async def answer(request: Request) -> bytes:
        tell("asked", text=request.data.decode(), sender=request.peer_id)
        return request.data.upper()

    async with client.serve(PROTOCOL, answer):
        tell("serving")
        await asyncio.Event().wait()


async def obey(client: Client) -> None:
    """Carry out orders until there are no more."""
    async for line in lines():
        order = json.loads(line)
        match order["do"]:
            case "send":
                begun = time.perf_counter()
                receipt = await client.send(order["peer"], PROTOCOL, order["text"].encode())
                took = time.perf_counter() - begun
                tell("receipt", outcome=receipt.outcome.name, detail=receipt.detail, took=took)
            case "request":
                begun = time.perf_counter()
                response = await client.request(order["peer"], PROTOCOL, order["text"].encode(), timeout=10)
                tell("response", text=response.decode(), took=time.perf_counter() - begun)
            case "publish":
                header = json.dumps({"sent": time.time_ns()}).encode()
                data = header + b"\n" + order["text"].encode()
                published = await client.publish(TOPIC, data, minimum_peers=order["peers"], timeout=10)
                tell("published", outcome=published.outcome.name, peers=published.peers)
            case "broadcast":
                await broadcast(client, Path(order["path"]), order["peers"])


async def broadcast(client: Client, path: Path, peers: int) -> None:
    """Publish a file in pieces, as soon as so many peers subscribe."""
    data = path.read_bytes()
    pieces = [data[start : start + PIECE] for start in range(0, len(data), PIECE)]
    outcomes: dict[str, int] = {}
    for number, body in enumerate(pieces):
        header = {"file": path.name, "piece": number, "of": len(pieces), "sent": time.time_ns()}
        receipt = await client.publish(
            TOPIC, json.dumps(header).encode() + b"\n" + body, minimum_peers=peers, timeout=10
        )
        outcomes[receipt.outcome.name] = outcomes.get(receipt.outcome.name, 0) + 1
    tell("broadcast", pieces=len(pieces), outcomes=outcomes)


async def main(target: str) -> None:
    """Serve one sidecar of the demo, and carry out what standard input orders until it ends."""
    async with sidecar_client.connect(target) as client, asyncio.TaskGroup() as tasks:
        others = [tasks.create_task(role(client), name=role.__name__) for role in (listen, receive, serve)]
        await obey(client)
        for other in others:
            other.cancel()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--api", required=True, help="the sidecar to use")
    try:
        asyncio.run(main(parser.parse_args().api))
    except KeyboardInterrupt:
        sys.exit(130)
