"""The board follows a sidecar, the real API over a fake node: peers as they come and go, its end and its return."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
import sidecar_client

from sidecar.board.board import Board
from sidecar.board.snapshot import Snapshot
from sidecar.core.events import PeerChange, PeerChanged
from tests.api.fakes import ME_TEXT, OTHER, OTHER_TEXT, THIRD, FakeNode, asynchronous, peer_view, server


@contextlib.asynccontextmanager
async def following(path: Path) -> AsyncIterator[Board]:
    board = Board(lambda: sidecar_client.connect(str(path), wait=0, reconnect=False), period=0.01)
    running = asyncio.create_task(board.run())
    try:
        yield board
    finally:
        running.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await running


async def until(board: Board, true: Callable[[Snapshot], object]) -> Snapshot:
    """The first snapshot of which this is true."""
    version = 0
    while True:
        version = await board.newer(version)
        assert board.snapshot is not None
        if true(board.snapshot):
            return board.snapshot


@asynchronous
async def test_peers_come_change_and_go(tmp_path: Path) -> None:
    path = tmp_path / "api.sock"
    async with server(path) as (node, mesh, _), following(path) as board:
        shown = await until(board, lambda shown: OTHER_TEXT in shown["peers"])
        assert shown["node"]["peer_id"] == ME_TEXT
        assert shown["peers"][OTHER_TEXT]["latency"] == pytest.approx(0.0125)

        node.views.append(peer_view(THIRD))
        mesh.on_news(PeerChanged(PeerChange.CONNECTED, node.views[1]))
        await until(board, lambda shown: len(shown["peers"]) == 2)

        node.views[1] = node.views[1]._replace(latency=0.5)  # of which no event tells
        shown = await until(board, lambda shown: shown["peers"][str(THIRD)]["latency"] == 0.5)
        assert [event["message"][8:] for event in shown["events"].values()] == [" connected, outbound"]

        left = node.views.pop(0)
        mesh.on_news(PeerChanged(PeerChange.DISCONNECTED, left._replace(connected=False), ConnectionError("reset")))
        shown = await until(board, lambda shown: shown["peers"][OTHER_TEXT]["gone"])
        assert "reset" in shown["peers"][OTHER_TEXT]["gone"]["reason"]
        assert shown["totals"]["peers"] == 1

        node.views.append(peer_view(OTHER))
        mesh.on_news(PeerChanged(PeerChange.CONNECTED, node.views[1]))
        await until(board, lambda shown: not shown["peers"][OTHER_TEXT]["gone"])


@asynchronous
async def test_a_clock_that_is_set_takes_no_peer_that_is_gone_from_view(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ahead = {"time": 0.0, "monotonic": 0.0}
    clocks = SimpleNamespace(
        time=lambda: time.time() + ahead["time"], monotonic=lambda: time.monotonic() + ahead["monotonic"]
    )
    monkeypatch.setattr("sidecar.board.board.time", clocks)
    path = tmp_path / "api.sock"
    async with server(path) as (node, mesh, _), following(path) as board:
        await until(board, lambda shown: OTHER_TEXT in shown["peers"])
        mesh.on_news(PeerChanged(PeerChange.DISCONNECTED, node.views.pop(0)._replace(connected=False)))
        await until(board, lambda shown: shown["peers"][OTHER_TEXT]["gone"])
        for step in (3600.0, -3600.0):
            ahead["time"] = step
            await board.newer(board.version + 1)
            assert board.snapshot is not None
            gone = board.snapshot["peers"][OTHER_TEXT]["gone"]
            assert 0 <= board.snapshot["time"] - gone["time"] < 1800
        ahead["monotonic"] = 61.0
        await until(board, lambda shown: OTHER_TEXT not in shown["peers"])


@asynchronous
async def test_histograms_topics_and_events_of_the_api_are_there(tmp_path: Path) -> None:
    path = tmp_path / "api.sock"
    async with server(path) as (_, _, api), following(path) as board, sidecar_client.connect(api.target) as app:
        async with app.subscribe("news"):
            shown = await until(board, lambda shown: "news" in shown["topics"])
        assert shown["topics"]["news"]["mesh"] == [OTHER_TEXT]
        assert shown["peers"][OTHER_TEXT]["mesh"] == ["news"]
        assert sum(shown["histograms"]["gossip_propagation_seconds"]["counts"]) == 3
        assert shown["lines"]["peers"][-1] == 1
        assert shown["lines_span"] >= 0


@asynchronous
async def test_it_lives_through_the_end_of_the_sidecar_and_its_return(tmp_path: Path) -> None:
    path = tmp_path / "api.sock"
    async with contextlib.AsyncExitStack() as stack:
        async with server(path):
            board = await stack.enter_async_context(following(path))
            await until(board, lambda shown: shown["link"]["reachable"])
        shown = await until(board, lambda shown: not shown["link"]["reachable"])
        assert shown["link"]["trouble"]
        assert OTHER_TEXT in shown["peers"], "what was last known is still shown"
        node = FakeNode()
        node.views = [peer_view(THIRD)]
        async with server(path, node):
            shown = await until(board, lambda shown: shown["link"]["reachable"] and str(THIRD) in shown["peers"])
            assert OTHER_TEXT not in shown["peers"]


@asynchronous
async def test_without_a_sidecar_in_the_beginning_it_fails(tmp_path: Path) -> None:
    board = Board(lambda: sidecar_client.connect(str(tmp_path / "none"), wait=0, reconnect=False))
    with pytest.raises(sidecar_client.SidecarUnavailable):
        await board.run()


@asynchronous
async def test_waiting_for_news_ends_in_time(tmp_path: Path) -> None:
    board = Board(lambda: sidecar_client.connect(str(tmp_path / "none"), wait=0))
    assert await board.newer(0, 0.01) == 0
