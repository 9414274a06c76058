"""An app that ends a call and makes it anew at once, before the news of the end is here, is not refused."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest
import sidecar_client

from sidecar.api.backend import Backend
from sidecar.api.common.bounds import Bounds
from sidecar.api.direct.serving import ServeStream
from sidecar.api.streams.byte_streams import Acceptor
from tests.api.fakes import asynchronous, served
from tests.clients.python.test_joining import begin, queued

NAMES = ("/echo/1",)


async def nobody(request: sidecar_client.Request) -> bytes:
    raise NotImplementedError


def accepting(client: sidecar_client.Client) -> Any:
    return client.accept_streams(NAMES)


def serving(client: sidecar_client.Client) -> Any:
    return client.serve(NAMES, nobody)


@pytest.mark.parametrize(
    ("method", "held", "wanted"),
    [
        ("StreamService/AcceptStreams", lambda backend: backend.streams.accepting(Acceptor(NAMES)), accepting),
        ("DirectService/Serve", lambda backend: backend.direct.serving(ServeStream(NAMES, Bounds(1, 1))), serving),
    ],
)
def test_a_call_waits_for_the_one_before_to_go(
    method: str,
    held: Callable[[Backend], AbstractContextManager[None]],
    wanted: Callable[[sidecar_client.Client], Any],
    tmp_path: Path,
) -> None:
    @asynchronous
    async def play() -> None:
        async with served(tmp_path) as (_, backend, _, client):

            async def use() -> None:
                async with wanted(client):
                    pass

            with held(backend):
                (early,) = begin(use())
                while method not in backend.calls.methods or not backend.calls.methods[method].open:
                    await queued()
                await queued()
                assert not early.done()
            await early
            while backend.calls.methods[method].open:
                await queued()
            with held(backend), pytest.raises(sidecar_client.AlreadyExists):
                await use()  # whoever is really there stays

    play()
