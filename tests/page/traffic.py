"""Three real sidecars and apps of theirs that talk on a topic."""

import asyncio
import contextlib
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import sidecar_client

from tests.e2e.processes import Process, environment, running, running_pair

TOPIC = "news"
_PAUSE = 0.02  # seconds between two messages


@contextlib.contextmanager
def three(place: Path) -> Iterator[tuple[Process, Process, Process]]:
    """Three ready sidecars, two joined through the first, each with an app that subscribes; the last publishes."""
    with contextlib.ExitStack() as stack:
        first, second = stack.enter_context(running_pair(place))
        address = first.json("id")["addresses"][0]
        third = stack.enter_context(running(place / "3", "--bootstrap", address))
        third.line("Ready after")
        for sidecar in (first, second, third):
            stack.enter_context(_subscribed(sidecar))
        stack.enter_context(_publishing(third))
        yield first, second, third


@contextlib.contextmanager
def _subscribed(sidecar: Process) -> Iterator[None]:
    words = [sys.executable, "-m", "sidecar", "subscribe", TOPIC, "--api", str(sidecar.socket)]
    with subprocess.Popen(
        words, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, env=environment(sidecar.home)
    ) as app:
        try:
            assert app.stderr is not None
            assert b"listening" in app.stderr.readline()
            yield
        finally:
            app.kill()


@contextlib.contextmanager
def _publishing(sidecar: Process) -> Iterator[None]:
    """A few messages a moment, until the end."""
    ended = threading.Event()

    async def publish() -> None:
        async with sidecar_client.connect(str(sidecar.socket)) as node:
            number = 0
            while not ended.wait(_PAUSE):
                with contextlib.suppress(sidecar_client.SidecarError):  # a test may end the sidecar
                    await node.publish(TOPIC, b"%d" % number)
                number += 1

    thread = threading.Thread(target=lambda: asyncio.run(publish()), name="publisher")
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
