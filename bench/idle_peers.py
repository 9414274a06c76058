"""Whole sidecars in one process, all connected to the one that is measured.

    python -m bench.idle_peers ADDRESS COUNT alone|subscribed|lone

Each has its API, state and sockets, and nothing to do but to be there; "subscribed": and an app that is subscribed to
the benchmarks' topic; "lone": it knows nobody but the one that is measured. It says "Ready" once all are, and ends
when its input ends.
"""

import asyncio
import contextlib
import sys
import tempfile
import threading
from pathlib import Path

import sidecar_client
import uvloop

from bench.app import TOPIC
from sidecar.app import App
from sidecar.config import load


async def _run(address: str, count: int, state: str) -> None:
    ended = asyncio.Event()
    loop = asyncio.get_running_loop()

    def watch() -> None:
        sys.stdin.buffer.read()
        loop.call_soon_threadsafe(ended.set)

    threading.Thread(target=watch, daemon=True).start()
    async with contextlib.AsyncExitStack() as stack:
        for _ in range(count):
            home = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="idle-")))
            (home / "config.toml").touch()  # an empty one, so that the user's own is not read
            flags = {"bootstrap.peers": address} if state != "lone" else {"peers.target": "0", "dht.mode": "client"}
            flags |= {"listen.addresses": "/ip4/127.0.0.1/tcp/0", "log.level": "error"}
            flags |= {"state.directory": str(home / "state"), "api.socket": str(home / "api")}
            app = App(load({}, flags, home / "config.toml"), {})
            await app.start()
            stack.push_async_callback(app.stop)
            if state == "lone":
                async with sidecar_client.connect(str(home / "api")) as client:
                    await client.connect_peer(addresses=[address])
                continue
            if state == "subscribed":
                client = await stack.enter_async_context(sidecar_client.connect(str(home / "api")))
                await stack.enter_async_context(client.subscribe(TOPIC))
            await app.ready()
        print("Ready", flush=True)
        await ended.wait()


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_run(sys.argv[1], int(sys.argv[2]), sys.argv[3]))
