"""Bans and protection over a real Unix socket: what is said, kept, written down and told to callers."""

import json
import math
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import sidecar_client

from sidecar.api.backend import Backend
from sidecar.api.config import ApiConfig
from sidecar.api.peers.gatekeeper import Gatekeeper
from sidecar.api.server.server import ApiServer
from sidecar.core import events
from sidecar.core.errors import StorageError
from sidecar.core.gate import Ban, Gate, GateLists, Subject
from sidecar.core.gossip import PeerAppointed
from sidecar.core.networks import Network
from sidecar.core.types import PeerId
from sidecar.process.audit import Audit
from tests.api.fakes import ME_TEXT, OTHER, OTHER_TEXT, THIRD, FakeNode, asynchronous, peer_view


class Store:
    """Keeps in memory what is to be kept; `full`: the disk refuses."""

    def __init__(self) -> None:
        self.kept: dict[str, Ban] = {}
        self.protected: set[PeerId] = set()
        self.full = False

    def _check(self) -> None:
        if self.full:
            raise StorageError("the disk is full")

    def add(self, bans: Any) -> None:
        self._check()
        self.kept.update((str(ban.subject), ban) for ban in bans)

    def remove(self, subjects: Any) -> None:
        self._check()
        for subject in subjects:
            del self.kept[str(subject)]

    def protect(self, peer: PeerId, protected: bool) -> None:
        self._check()
        (self.protected.add if protected else self.protected.discard)(peer)

    def forget(self, now_wall: float) -> None:
        self._check()
        self.kept = {name: ban for name, ban in self.kept.items() if ban.expires is None or ban.expires > now_wall}


@asynccontextmanager
async def served(tmp_path: Path) -> AsyncIterator[tuple[FakeNode, Store, sidecar_client.Client, Path]]:
    node, store, log = FakeNode(), Store(), tmp_path / "audit.log"
    config = ApiConfig(socket=tmp_path / "api.sock", drain_timeout=0.5)
    backend = Backend(node, node.feed, config, agent="sidecar/test", audit=Audit(log), bans=store)
    node.on_news = backend.on_news
    server = ApiServer(backend, config)
    await server.start()
    try:
        async with sidecar_client.connect(server.target) as client:
            yield node, store, client, log
    finally:
        await server.stop()


def written(log: Path) -> list[dict[str, Any]]:
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    return [{name: value for name, value in line.items() if name != "time"} for line in lines]


@asynchronous
async def test_a_ban_is_made_kept_listed_and_lifted(tmp_path: Path) -> None:
    async with served(tmp_path) as (node, store, client, log):
        node.answers[events.BanRequested] = events.BansMade(3, (), ())
        made = await client.ban_peer(OTHER.cid(), network="192.0.2.0/24", reason="spam", duration=60.0)
        assert (made.connections_closed, made.warnings) == (3, ())
        peer, network = made.bans
        assert (peer.peer_id, peer.network, peer.reason) == (OTHER_TEXT, "", "spam")
        assert (network.peer_id, network.network, network.configured) == ("", "192.0.2.0/24", False)
        assert peer.create_time is not None
        assert peer.expire_time == pytest.approx(peer.create_time + 60.0)
        assert list(store.kept) == [OTHER_TEXT, "192.0.2.0/24"]
        node.gate.refuse_peer(OTHER)
        listed = [ban async for ban in client.bans()]
        assert [(ban.peer_id or ban.network, ban.refused) for ban in listed] == [(OTHER_TEXT, 1), ("192.0.2.0/24", 0)]
        assert await client.allow_peer(OTHER_TEXT, network="192.0.2.0/24") == ()
        assert not store.kept
        assert [ban async for ban in client.bans()] == []
        with pytest.raises(sidecar_client.NotFound, match="has no ban of its own"):
            await client.allow_peer(OTHER_TEXT)
        assert written(log) == [
            {"action": "peer.banned", "caller": "api", "peer_id": OTHER_TEXT, "reason": "spam", "seconds": 60.0},
            {"action": "network.banned", "caller": "api", "network": "192.0.2.0/24", "reason": "spam", "seconds": 60.0},
            {"action": "peer.allowed", "caller": "api", "peer_id": OTHER_TEXT},
            {"action": "network.allowed", "caller": "api", "network": "192.0.2.0/24"},
        ]


@asynchronous
async def test_what_else_there_is_to_know_is_said(tmp_path: Path) -> None:
    async with served(tmp_path) as (node, store, client, _):
        node.gate.configure(GateLists(deny_peers=(THIRD,), deny_networks=(Network.from_text("10.0.0.0/8"),)))
        node.answers[events.BanRequested] = events.BansMade(0, (OTHER,), (OTHER,))
        made = await client.ban_peer(OTHER_TEXT)
        assert "is a bootstrap peer" in made.warnings[0]
        assert "is protected" in made.warnings[1]
        node.answers[events.BanRequested] = events.BansMade(0, (), ())
        await client.ban_peer(str(THIRD), network="10.1.0.0/16")
        still = await client.allow_peer(str(THIRD), network="10.1.0.0/16")
        assert still == (
            f"still refused: {THIRD} is on the deny list of the configuration",
            "still refused: 10.1.0.0/16 is in 10.0.0.0/8, which is on the deny list of the configuration",
        )
        configured = [ban async for ban in client.bans() if ban.configured]
        assert [(ban.peer_id or ban.network, ban.create_time) for ban in configured] == [
            (str(THIRD), None),
            ("10.0.0.0/8", None),
        ]
        with pytest.raises(sidecar_client.NotFound, match=r"10\.1\.1\.1 is in 10\.0\.0\.0/8"):
            await client.allow_peer(network="10.1.1.1")
        store.full = True
        warnings = [
            *(await client.ban_peer(network="192.0.2.7")).warnings,
            *await client.allow_peer(network="192.0.2.7"),
            *await client.protect_peer(OTHER_TEXT),
            *await client.unprotect_peer(OTHER_TEXT),
        ]
        assert warnings == [
            "the ban is in force, but not after a restart: the disk is full",
            "the ban is lifted, but back after a restart: the disk is full",
            "the peer is protected, but not after a restart: the disk is full",
            "the peer is not protected, but is again after a restart: the disk is full",
        ]


@asynchronous
async def test_peers_are_protected_and_shown_so(tmp_path: Path) -> None:
    async with served(tmp_path) as (node, store, client, log):
        node.views = [peer_view(OTHER)._replace(protected=True)]
        assert await client.protect_peer(OTHER_TEXT) == ()
        assert await client.protect_peer(OTHER_TEXT) == ()
        assert store.protected == {OTHER}
        assert node.gate.protects(OTHER)
        assert [peer.protected async for peer in client.peers()] == [True]
        assert "the peer stays protected" in (await client.unprotect_peer(OTHER_TEXT))[0]
        assert not store.protected
        assert [line["action"] for line in written(log)] == ["peer.protected", "peer.protected", "peer.unprotected"]


@asynchronous
async def test_scores_are_set_written_down_and_shown_with_their_parts(tmp_path: Path) -> None:
    async with served(tmp_path) as (node, _, client, log):
        await client.set_peer_score(OTHER_TEXT, -4.5, duration=60)
        await client.set_peer_score(OTHER_TEXT, 0)
        assert [fed for fed in node.fed if isinstance(fed, PeerAppointed)] == [
            PeerAppointed(OTHER, -4.5, 60.0),
            PeerAppointed(OTHER, 0.0, None),
        ]
        lines = written(log)
        assert [line["action"] for line in lines] == ["peer.scored"] * 2
        assert (lines[0]["score"], lines[0]["seconds"]) == (-4.5, 60.0)
        wrong: list[tuple[str, float, float | None, str]] = [
            (OTHER_TEXT, 1e6 + 1, None, "score"),
            (OTHER_TEXT, math.nan, None, "score"),
            (OTHER_TEXT, 1.0, 0.0, "duration"),
            ("nobody", 1.0, None, "peer_id"),
            (ME_TEXT, 1.0, None, "peer_id"),
        ]
        for peer, score, duration, field in wrong:
            with pytest.raises(sidecar_client.SidecarError) as error:
                await client.set_peer_score(peer, score, duration=duration)
            assert getattr(error.value, "field", None) == field
        topic = events.TopicScoreView("news", 1.0, 2.0, -3.0, -4.0, -75.0)
        view = events.ScoreView(-90.0, events.Standing.GRAYLISTED, (topic,), -5.0, -6.0, 0.0, -0.2, "too loud")
        node.views = [peer_view(OTHER)._replace(score=view), peer_view(THIRD)]
        found = {peer.peer_id: peer.score async for peer in client.peers()}
        assert found[str(THIRD)] is None
        assert found[OTHER_TEXT] == sidecar_client.PeerScore(
            -90.0,
            sidecar_client.PeerStanding.GRAYLISTED,
            "too loud",
            (sidecar_client.TopicScore("news", 1.0, 2.0, -3.0, -4.0, -75.0),),
            -5.0,
            -6.0,
            0.0,
            -0.2,
        )
        async with client.watch_peers() as watch:
            seen = [await anext(watch) for _ in range(3)]
            assert seen[2].type is sidecar_client.PeerEventType.CURRENT
            node.on_news(events.PeerChanged(events.PeerChange.SCORED, node.views[0]))
            event = await anext(watch)
        assert (event.type, event.reason) == (sidecar_client.PeerEventType.SCORED, "too loud")


@asynchronous
async def test_what_is_wrong_in_a_request_is_named(tmp_path: Path) -> None:
    async with served(tmp_path) as (node, _, client, log):
        wrong: list[tuple[dict[str, Any], type[sidecar_client.SidecarError], str]] = [
            ({}, sidecar_client.InvalidArgument, "peer_id"),
            ({"peer_id": ME_TEXT}, sidecar_client.SelfDial, "peer_id"),
            ({"peer_id": "nonsense"}, sidecar_client.InvalidPeerId, "peer_id"),
            ({"network": "10.1.2.3/8"}, sidecar_client.InvalidArgument, "network"),
            ({"network": "fe80::1%eth0"}, sidecar_client.InvalidArgument, "network"),
            ({"network": "192.0.2.7", "reason": "x" * 513}, sidecar_client.InvalidArgument, "reason"),
            ({"network": "192.0.2.7", "reason": "\x1b[2J"}, sidecar_client.InvalidArgument, "reason"),
            ({"network": "192.0.2.7", "duration": 0.0}, sidecar_client.InvalidArgument, "duration"),
            ({"network": "192.0.2.7", "duration": -1.0}, sidecar_client.InvalidArgument, "duration"),
            ({"network": "192.0.2.7", "duration": 1e9}, sidecar_client.InvalidArgument, "duration"),
        ]
        for request, kind, field in wrong:
            with pytest.raises(kind) as caught:
                await client.ban_peer(**request)
            assert caught.value.field == field
        for call in (client.protect_peer, client.unprotect_peer, client.allow_peer):
            with pytest.raises(sidecar_client.SelfDial):
                await call(ME_TEXT)
        assert not node.of(events.BanRequested)
        assert not log.exists()


@asynchronous
async def test_bans_page_by_page(tmp_path: Path) -> None:
    async with served(tmp_path) as (node, _, client, _):
        subjects: list[Subject] = [Network(4, number, 32) for number in range(700)]
        subjects += [PeerId.from_public_key(number.to_bytes(2, "big")) for number in range(700)]
        node.gate.configure(GateLists(deny_peers=(THIRD,)))
        node.gate.add(*(Ban(subject, "", 1.0, None) for subject in subjects))
        listed = [ban.peer_id or ban.network async for ban in client.bans()]
        assert len(listed) == 1401
        assert set(listed) == {str(THIRD), *map(str, subjects)}


@asynchronous
async def test_bans_end_in_the_store_too(tmp_path: Path) -> None:
    now = [1000.0]
    gate, store, fed = Gate(), Store(), []

    def feed(input: Any) -> None:
        fed.append(input)
        gate.advance(input.wall)

    keeper = Gatekeeper(gate, feed, store, wall=lambda: now[0])
    bans = keeper.bans([OTHER], "", 60.0)
    gate.add(*bans)
    await keeper.banned(bans, events.BansMade(0, (), ()))
    keeper.refresh()
    assert not fed  # nothing is due: the node is left alone
    now[0] += 60.0
    keeper.refresh()
    assert fed == [events.WallClockRead(1060.0)]
    assert not store.kept
    assert not gate.refuses_peer(OTHER)


@asynchronous
async def test_a_clock_that_is_set_back_is_kept_account_of(tmp_path: Path) -> None:
    now, day = [864_000.0], 86_400.0
    gate, store = Gate(), Store()
    keeper = Gatekeeper(gate, lambda input: gate.advance(input.wall), store, wall=lambda: now[0])
    bans = keeper.bans([OTHER, THIRD], "", 60.0)
    gate.add(*bans)
    await keeper.banned(bans, events.BansMade(0, (), ()))
    now[0] -= day
    gate.lift(THIRD)
    keeper.refresh()
    kept = store.kept[OTHER_TEXT]
    assert (kept.created, kept.expires) == (now[0], now[0] + 60.0)
    assert store.kept[str(THIRD)] == bans[1]  # lifted meanwhile: not brought back
    # What a start with such a clock has moved is kept as well.
    now[0] -= day
    gate = Gate(bans=[kept], wall=now[0])
    keeper = Gatekeeper(gate, lambda input: gate.advance(input.wall), store, wall=lambda: now[0])
    keeper.start()
    assert store.kept[OTHER_TEXT].expires == now[0] + 60.0
    keeper.close()
