"""What was started ends in reverse order, whatever one part raises, and DEBUG lines tell of it."""

import logging

import pytest

from sidecar.process.parts import Parts

from ..net.harness import one_loop


@one_loop
async def test_parts_end_in_reverse_and_all_of_them(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, logger="sidecar.process.parts")
    ended: list[str] = []

    async def close_store(name: str) -> None:
        ended.append(name)

    def refuse(name: str) -> None:
        ended.append(name)
        raise OSError("no")

    parts = Parts()
    assert parts.started("store", "the store", close_store) == "the store"
    parts.started("server", "the server", refuse)
    parts.started("timer", "the timer", ended.append)
    with pytest.raises(OSError, match="no"):
        await parts.end()
    assert ended == ["the timer", "the server", "the store"]
    assert caplog.messages == [
        *("started: store", "started: server", "started: timer"),
        *("ending: timer", "ending: server", "ending: store"),
    ]
    await parts.end()
    assert len(ended) == 3
