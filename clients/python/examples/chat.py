"""A chat for people in terminals: everybody on the topic `chat`, from any language.

python chat.py NAME [TARGET]

A message is JSON in UTF-8: {"from": "ann", "text": "hello"}. The end of the input (Ctrl-D) ends it.
"""

import asyncio
import json
import sys

import sidecar_client
from sidecar_client import Lagged, Message, PublishOutcome

TOPIC = "chat"


async def listen(news: sidecar_client.Subscription, name: str, peer_id: str) -> None:
    """Print what others say, and where something was missed."""
    async for event in news.events():
        if isinstance(event, Lagged):
            print(f"({event})", flush=True)
        elif (said := read(event)) and (said[0], event.sender) != (name, peer_id):  # our own stands there already
            print(f"{printable(said[0])}: {printable(said[1])}", flush=True)


def read(message: Message) -> tuple[str, str] | None:
    """Who says what; None when it is no chat message."""
    try:
        fields = json.loads(message.data)
        return str(fields["from"]), str(fields["text"])
    except (ValueError, TypeError, KeyError):
        return None


def printable(text: str) -> str:
    """Without what could steer the terminal."""
    return "".join(character if character.isprintable() else "?" for character in text)


async def lines() -> asyncio.StreamReader:
    """Standard input, read without blocking the loop."""
    reader = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    return reader


async def main(name: str, target: str | None = None) -> None:
    async with sidecar_client.connect(target) as node, node.subscribe(TOPIC) as news:
        listening = asyncio.create_task(listen(news, name, (await node.info()).peer_id))
        print(f"You are {name}. Type, and end with Ctrl-D.", flush=True)
        async for line in await lines():
            text = line.decode(errors="replace").strip()
            if text:
                receipt = await node.publish(TOPIC, json.dumps({"from": name, "text": text}).encode())
                if receipt.outcome is PublishOutcome.NO_PEERS:
                    print("(nobody else is connected yet)", flush=True)
        listening.cancel()


if __name__ == "__main__":
    if not 2 <= len(sys.argv) <= 3:
        sys.exit(__doc__)
    try:
        asyncio.run(main(*sys.argv[1:]))
    except sidecar_client.SidecarError as error:
        sys.exit(f"chat: {error}")
    except KeyboardInterrupt:
        pass
