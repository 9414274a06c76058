"""A service that counts words for apps at other peers, and an app that asks it.

python service.py serve            serve, and be found by the service's name
python service.py ask TEXT         find somebody who serves, and ask
python service.py ask TEXT PEER    ask that peer

A request is text in UTF-8, the response JSON: {"words": 3, "letters": 12}. SIDECAR_API says where the sidecar is.
"""

import asyncio
import json
import sys

import sidecar_client
from sidecar_client import Refused, Request

PROTOCOL = "/example/words/1"
NAME = "example-words"  # advertised through the DHT
TIMEOUT = 5.0  # seconds for one answer


async def count(request: Request) -> bytes:
    """The handler: returns the response, or raises Refused."""
    try:
        text = request.data.decode()
    except UnicodeDecodeError:
        raise Refused("this is not UTF-8") from None
    words = text.split()
    return json.dumps({"words": len(words), "letters": sum(map(len, words))}).encode()


async def serve() -> None:
    async with sidecar_client.connect() as node, node.serve(PROTOCOL, count), node.advertise(NAME):
        print(f"serving as {(await node.info()).peer_id}", flush=True)
        await asyncio.Event().wait()


async def ask(text: str, peer_id: str | None = None) -> None:
    async with sidecar_client.connect() as node:
        if peer_id is not None:
            print((await node.request(peer_id, PROTOCOL, text.encode(), timeout=TIMEOUT)).decode())
            return
        async for found in node.find_peers(NAME):
            try:
                answer = await node.request(found.peer_id, PROTOCOL, text.encode(), timeout=TIMEOUT)
            except (sidecar_client.Unreachable, sidecar_client.NotSupported, sidecar_client.DeadlineExceeded) as error:
                print(f"{found.peer_id} does not answer: {error}", file=sys.stderr)
                continue
            print(answer.decode())
            return
        sys.exit("service: nobody serves it")


if __name__ == "__main__":
    try:
        match sys.argv[1:]:
            case ["serve"]:
                asyncio.run(serve())
            case ["ask", text]:
                asyncio.run(ask(text))
            case ["ask", text, peer_id]:
                asyncio.run(ask(text, peer_id))
            case _:
                sys.exit(__doc__)
    except sidecar_client.SidecarError as error:
        sys.exit(f"service: {error}")
    except KeyboardInterrupt:
        pass
