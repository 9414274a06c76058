"""An app to try a deployment with: it greets on a topic, and asks each peer that it hears for its name.

python app.py          greet every few seconds, until SIGTERM
python app.py --once   end when a greeting of another pod was heard and its question answered, as a Job does

SIDECAR_API says where the sidecar is.
"""

import asyncio
import signal
import socket
import sys

import sidecar_client
from sidecar_client import Client, Message, PublishOutcome, Request

TOPIC = "greetings"
PROTOCOL = "/example/name/1"
PAUSE = 2.0  # seconds between two greetings
TIMEOUT = 5.0  # seconds for an answer
NAME = socket.gethostname()


async def tell_name(request: Request) -> bytes:
    """The handler of requests."""
    return f"I am {NAME}".encode()


async def greet(node: Client) -> None:
    """Greet again and again: those who come later want to hear it too."""
    while True:
        receipt = await node.publish(TOPIC, f"hello from {NAME}".encode())
        if receipt.outcome is PublishOutcome.NO_PEERS:
            print("nobody there yet", flush=True)
        await asyncio.sleep(PAUSE)


async def ask(node: Client, message: Message) -> bool:
    """Ask whoever greeted; whether it answered."""
    print(f"heard: {printable(message.data)}", flush=True)
    try:
        answer = await node.request(message.sender, PROTOCOL, b"who are you?", timeout=TIMEOUT)
    except (sidecar_client.Unreachable, sidecar_client.NotSupported, sidecar_client.DeadlineExceeded) as error:
        print(f"no answer: {error}", flush=True)
        return False
    print(f"answered: {printable(answer)}", flush=True)
    return True


def printable(data: bytes) -> str:
    """Text of others without what could steer the terminal."""
    return "".join(character if character.isprintable() else "?" for character in data.decode(errors="replace"))


async def main(*, once: bool) -> None:
    asking = asyncio.current_task()
    assert asking is not None
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, asking.cancel)
    async with sidecar_client.connect() as node, node.serve(PROTOCOL, tell_name), node.subscribe(TOPIC) as greetings:
        own = (await node.info()).peer_id
        print(f"{NAME} has the sidecar {own}", flush=True)
        greeting = asyncio.create_task(greet(node))
        asked: set[str] = set()
        try:
            async for message in greetings:
                if message.sender in asked or message.sender == own:
                    continue
                if await ask(node, message):
                    asked.add(message.sender)
                    if once:
                        return
        finally:
            greeting.cancel()


if __name__ == "__main__":
    if sys.argv[1:] not in ([], ["--once"]):
        sys.exit(__doc__)
    try:
        asyncio.run(main(once="--once" in sys.argv))
    except sidecar_client.SidecarError as error:
        sys.exit(f"app: {error}")
    except asyncio.CancelledError:
        print("ended by SIGTERM", flush=True)
