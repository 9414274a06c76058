"""An app with one byte stream, which keeps it open until it is killed: `doomed_app.py SOCKET PROTOCOL [PEER_ID]`.

With a peer's id it opens the stream and says `ready` then; else it says so once it accepts streams. It writes a byte.
"""

import asyncio
import sys

import sidecar_client


async def main(socket: str, protocol: str, peer_id: str = "") -> None:
    async with sidecar_client.connect(socket) as client:
        if peer_id:
            async with client.open_stream(peer_id, protocol) as stream:
                await stream.write(b"!")
                print("ready", flush=True)
                await asyncio.Event().wait()
        async with client.accept_streams(protocol) as streams:
            print("ready", flush=True)
            async with await anext(aiter(streams)) as stream:
                await stream.write(b"!")
                await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
