"""Every method of the API over a real Unix socket, against a node that is a fake."""

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import sidecar_client
from sidecar_client import PublishOutcome, SendOutcome, Signing
from sidecar_client import errors as client_errors

from sidecar.api import errors as api_errors
from sidecar.api.faults import InvalidField
from sidecar.core import direct, errors, events, gossip
from sidecar.core.direct import Outcome
from sidecar.core.multiaddr import Multiaddr
from tests.api.fakes import (
    ADDRESS,
    ME_TEXT,
    OTHER,
    OTHER_TEXT,
    THIRD,
    asynchronous,
    peer_view,
    served,
)

CHAT = "/chat/1"


def _all_errors(kind: type[errors.SidecarError]) -> list[type[errors.SidecarError]]:
    return [kind, *(below for child in kind.__subclasses__() for below in _all_errors(child))]


# ---------------------------------------------------------------- errors


def test_every_error_has_a_code_and_the_client_a_class_for_it() -> None:
    for kind in _all_errors(errors.SidecarError):
        if kind in (errors.ConfigError, errors.IdentityError, errors.StateLocked, errors.AddressInUse, InvalidField):
            continue  # of the start, never of a call; and InvalidField goes by its cause
        reason = api_errors.reason(kind("x"))
        assert reason in client_errors.BY_REASON, f"{reason}: add a class to sidecar_client/errors.py"


@pytest.mark.parametrize("kind", [kind for kind in _all_errors(errors.SidecarError) if kind is not InvalidField])
def test_every_error_arrives_typed(kind: type[errors.SidecarError], tmp_path: Path) -> None:
    @asynchronous
    async def check() -> None:
        async with served(tmp_path) as (node, _, _, client):
            node.answers[events.PingRequested] = kind("the very words")
            with pytest.raises(client_errors.SidecarError, match="the very words") as caught:
                await client.ping_peer(OTHER_TEXT)
            assert caught.value.reason == api_errors.reason(kind("x"))
            assert (caught.value.retry_after is None) == (not any(issubclass(kind, row) for row in api_errors.RETRY))
            expected = getattr(client_errors, kind.__name__, None)
            if expected not in (None, client_errors.SidecarError):
                assert type(caught.value) is expected

    check()


@asynchronous
async def test_a_broken_method_is_an_internal_error_without_its_words(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with served(tmp_path) as (node, _, _, client):
        node.answers[events.FindPeerRequested] = 3  # no addresses
        with pytest.raises(sidecar_client.SidecarError, match="internal error"):
            await client.find_peer(OTHER_TEXT)
    assert "find_peer failed" in caplog.text


def _bad_calls(client: sidecar_client.Client) -> list[tuple[str, Callable[[], Any]]]:
    """Calls with one malformed field each, by its name."""
    long = "x" * 300
    return [
        ("peer_id", lambda: client.find_peer("")),
        ("peer_id", lambda: client.find_peer("12D3KooW0")),
        ("peer_id", lambda: client.ping_peer("x" * 1000)),
        ("peer_id", lambda: client.disconnect_peer(ME_TEXT)),
        ("peer_id", lambda: client.connect_peer()),
        ("addresses[1]", lambda: client.connect_peer(addresses=["/ip4/1.2.3.4/tcp/1", "nonsense"])),
        ("addresses[0]", lambda: client.connect_peer(addresses=["/" * 5000])),
        ("addresses", lambda: client.connect_peer(addresses=["/ip4/1.2.3.4/tcp/1"] * 33)),
        ("addresses[0]", lambda: client.connect_peer(OTHER_TEXT, addresses=[f"/ip4/1.2.3.4/tcp/1/p2p/{THIRD}"])),
        ("addresses[0]", lambda: client.connect_peer(addresses=[f"/ip4/1.2.3.4/tcp/1/p2p/{ME_TEXT}"])),
        ("peer_id", lambda: client.send(ME_TEXT, CHAT, b"")),
        ("protocol", lambda: client.send(OTHER_TEXT, "", b"")),
        ("protocol", lambda: client.send(OTHER_TEXT, long, b"")),
        ("request_id", lambda: client.send(OTHER_TEXT, CHAT, b"", request_id=long)),
        ("protocol", lambda: client.request(OTHER_TEXT, "a\nb", b"")),
        ("peer_id", lambda: client.send_many("nobody", CHAT, [b""])),
        ("protocol", lambda: client.send_many(OTHER_TEXT, long, [b""])),
        ("protocols", lambda: client.receive([]).__aenter__()),
        ("protocols[1]", lambda: client.receive([CHAT, long]).__aenter__()),
        ("protocols", lambda: client.serve([], _never).__aenter__()),
        ("topic", lambda: client.publish("", b"")),
        ("topic", lambda: client.publish("x" * 1025, b"")),
        ("signing", lambda: client.publish("news", b"", signing=7)),  # type: ignore[arg-type]
        ("minimum_peers", lambda: client.publish("news", b"", minimum_peers=5000)),
        ("topic", lambda: client.publish_many("x" * 1025, [b""])),
        ("topics", lambda: client.subscribe([]).__aenter__()),
        ("topics", lambda: client.subscribe([f"t{number}" for number in range(65)]).__aenter__()),
        ("policy", lambda: client.subscribe("news", policy=9).__aenter__()),  # type: ignore[arg-type]
    ]


async def _never(request: sidecar_client.Request) -> bytes:
    raise AssertionError("nobody asks")


@asynchronous
async def test_malformed_fields_are_named(tmp_path: Path) -> None:
    async with served(tmp_path) as (node, _, _, client):
        for field, call in _bad_calls(client):
            with pytest.raises(sidecar_client.InvalidArgument) as caught:
                await call()
            assert caught.value.field == field, caught.value
        with pytest.raises(sidecar_client.SelfDial):
            await client.ping_peer(ME_TEXT)
        with pytest.raises(sidecar_client.InvalidMultiaddr):
            await client.connect_peer(addresses=["/ip4/999.1.1.1/tcp/1"])
        with pytest.raises(sidecar_client.InvalidArgument):
            await client.subscribe("news", cursor=b"?").__aenter__()
        assert not [fed for fed in node.fed if not isinstance(fed, direct.ProtocolsChanged)]


# ---------------------------------------------------------------- node


@asynchronous
async def test_node(tmp_path: Path) -> None:
    async with served(tmp_path) as (node, _, _, client):
        info = await client.info()
        assert (info.peer_id, info.network, info.agent) == (ME_TEXT, "test", "sidecar/test")
        assert info.listening_addresses == info.announced_addresses == (str(ADDRESS),)
        assert 0 <= info.uptime < 60
        statistics = await client.statistics()
        assert statistics.items() >= {"delivered": 3.0, "latency": 0.5, "api_subscriptions": 0.0}.items()
        node.met = False
        readiness = await client.readiness()
        assert not readiness.ready
        assert (readiness.conditions[0].reason, readiness.conditions[0].remedy) == ("NoAddress", "Set one.")


@asynchronous
async def test_readiness_is_watched(tmp_path: Path) -> None:
    async with served(tmp_path) as (node, _, _, client):
        node.met = False
        watching = client.watch_readiness()
        assert not (await anext(watching)).ready
        node.met = True
        node.on_effect(events.ReadinessChanged())
        assert (await anext(watching)).ready
        await watching.aclose()
        assert (await client.ready(timeout=5)).ready


# ---------------------------------------------------------------- peers


@asynchronous
async def test_peers_page_by_page(tmp_path: Path) -> None:
    async with served(tmp_path) as (node, _, _, client):
        ids = [events.PeerId.from_public_key(bytes([number // 256, number % 256])) for number in range(1203)]
        node.views = [peer_view(peer, connected=index % 3 == 0) for index, peer in enumerate(ids)]
        assert [peer.peer_id async for peer in client.peers()] == [str(peer) for peer in sorted(ids)]
        connected = [peer async for peer in client.peers(connected_only=True)]
        assert len(connected) == 401
        assert connected[0].latency == 0.0125
        assert [p async for p in client.peers(protocol="/ipfs/ping/1.0.0")] == connected
        assert not [p async for p in client.peers(protocol="/none")]


@asynchronous
async def test_peer_operations(tmp_path: Path) -> None:
    async with served(tmp_path) as (node, _, _, client):
        far = Multiaddr.from_text("/ip4/192.0.2.1/tcp/9")
        node.answers[events.FindPeerRequested] = (ADDRESS, far)
        assert await client.find_peer(OTHER.cid()) == [str(ADDRESS), str(far)]
        node.answers[events.ConnectRequested] = peer_view()
        assert (await client.connect_peer(OTHER_TEXT)).connected
        await client.connect_peer(addresses=[f"{far}/p2p/{OTHER}"])
        await client.connect_peer(addresses=[str(far)])
        asked = [(fed.peer, fed.addresses) for fed in node.of(events.ConnectRequested)]
        assert asked == [(OTHER, ()), (OTHER, (far.with_peer(OTHER),)), (None, (far,))]
        node.answers[events.DisconnectRequested] = None
        await client.disconnect_peer(OTHER_TEXT)
        node.answers[events.PingRequested] = 0.25
        assert await client.ping_peer(OTHER_TEXT) == 0.25


@asynchronous
async def test_cancelling_a_call_and_its_deadline_cancel_the_operation(tmp_path: Path) -> None:
    async with served(tmp_path) as (node, _, _, client):
        call = asyncio.create_task(client.ping_peer(OTHER_TEXT))
        asked = await node.wait_for(events.PingRequested)
        call.cancel()
        assert (await node.wait_for(events.OperationCancelled)).op == asked.op
        with pytest.raises(sidecar_client.DeadlineExceeded):
            await client.ping_peer(OTHER_TEXT, timeout=0.05)
        assert (await node.wait_for(events.OperationCancelled)).op == asked.op + 1


@asynchronous
async def test_peers_are_watched(tmp_path: Path) -> None:
    async with served(tmp_path) as (node, _, _, client):
        watching = client.watch_peers()
        kind = sidecar_client.PeerEventType
        assert [(await anext(watching)).type for _ in range(2)] == [kind.PRESENT, kind.CURRENT]
        gone = errors.KeepAliveTimeout("it went silent")
        node.on_effect(events.PeerChanged(events.PeerChange.CONNECTED, peer_view(THIRD)))
        node.on_effect(events.PeerChanged(events.PeerChange.DISCONNECTED, peer_view(connected=False), gone))
        connected, disconnected = await anext(watching), await anext(watching)
        assert connected.peer is not None
        assert (connected.type, connected.peer.peer_id, connected.reason) == (kind.CONNECTED, str(THIRD), "")
        assert (disconnected.type, disconnected.reason) == (kind.DISCONNECTED, "it went silent")
        await watching.aclose()


@asynchronous
async def test_a_slow_watcher_of_peers_is_told_the_present_anew(tmp_path: Path) -> None:
    async with served(tmp_path, watch_queue_events=10) as (node, _, _, client):
        watching = client.watch_peers()
        kind = sidecar_client.PeerEventType
        assert [(await anext(watching)).type for _ in range(2)] == [kind.PRESENT, kind.CURRENT]
        for _ in range(11):
            node.on_effect(events.PeerChanged(events.PeerChange.UPDATED, peer_view()))
        events_after = [await anext(watching) for _ in range(2)]
        assert [(event.type, event.anew) for event in events_after] == [(kind.PRESENT, True), (kind.CURRENT, False)]
        node.on_effect(events.PeerChanged(events.PeerChange.UPDATED, peer_view()))
        assert (await anext(watching)).type is kind.UPDATED
        await watching.aclose()


# ---------------------------------------------------------------- direct


@pytest.mark.parametrize("outcome", list(Outcome))
def test_every_outcome_of_a_send(outcome: Outcome, tmp_path: Path) -> None:
    @asynchronous
    async def check() -> None:
        async with served(tmp_path) as (node, _, _, client):
            node.answers[direct.SendRequested] = (outcome, errors.Unreachable("words"))
            batch = await client.send_many(OTHER_TEXT, CHAT, [b"a", b"b"])
            detail = "" if outcome is Outcome.DELIVERED else "words"
            assert [(r.first, r.count, r.outcome.name, r.detail) for r in batch] == [(0, 2, outcome.name, detail)]
            if outcome is Outcome.TOO_LARGE:
                with pytest.raises(sidecar_client.TooLarge, match="message of 1 bytes"):
                    await client.send(OTHER_TEXT, CHAT, b"a")
                return
            receipt = await client.send(OTHER_TEXT, CHAT, b"a")
            assert (receipt.outcome.name, receipt.detail) == (outcome.name, detail)
            assert node.of(direct.SendRequested)[-1][1:] == (OTHER, CHAT, [b"a"])

    check()


@asynchronous
async def test_send_many_keeps_many_on_their_way_and_numbers_them(tmp_path: Path) -> None:
    async with served(tmp_path, send_window=10) as (node, _, _, client):
        node.answers[direct.SendRequested] = None
        seen: list[sidecar_client.SendReceipts] = []
        go_on = asyncio.Event()

        async def source() -> Any:
            for number in range(20):
                yield b"%d" % number
                if number % 10 == 9:
                    await go_on.wait()
                    go_on.clear()

        call = asyncio.create_task(client.send_many(OTHER_TEXT, CHAT, source(), on_receipts=seen.append))
        first = await node.wait_for(direct.SendRequested)
        while sum(len(fed.messages) for fed in node.of(direct.SendRequested)) < 10:
            first = await node.wait_for(direct.SendRequested)
        go_on.set()
        for fed in reversed(node.of(direct.SendRequested)):
            half = len(fed.messages) // 2
            ranges = (direct.OutcomeRange(0, half, Outcome.DELIVERED),) if half else ()
            rest = direct.OutcomeRange(half, len(fed.messages) - half, Outcome.REMOTE_QUEUE_FULL)
            node.on_effect(direct.SendCompleted(fed.op, (*ranges, rest), errors.QueueFull("full")))
        answered = len(node.of(direct.SendRequested))
        node.answers[direct.SendRequested] = (Outcome.DELIVERED, None)
        await node.wait_for(direct.SendRequested)
        go_on.set()
        receipts = await call
        assert sum(receipt.count for receipt in receipts) == 20
        assert [receipt.first for receipt in receipts] == sorted(receipt.first for receipt in receipts)
        assert {receipt.outcome for receipt in receipts} >= {SendOutcome.REMOTE_QUEUE_FULL, SendOutcome.DELIVERED}
        assert sum(receipt.count for receipt in seen) == 20
        assert answered >= 1
        assert first.peer == OTHER


@asynchronous
async def test_send_many_is_not_read_while_too_many_bytes_are_unanswered(tmp_path: Path) -> None:
    async with served(tmp_path, send_window_bytes=1000) as (node, _, _, client):
        node.answers[direct.SendRequested] = None
        call = asyncio.create_task(client.send_many(OTHER_TEXT, CHAT, [bytes(200_000)] * 4))
        first = await node.wait_for(direct.SendRequested)
        await client.info()
        assert node.of(direct.SendRequested) == [first]
        node.answers[direct.SendRequested] = (Outcome.DELIVERED, None)
        node.on_effect(direct.SendCompleted(first.op, (direct.OutcomeRange(0, 1, Outcome.DELIVERED),)))
        assert [(receipt.first, receipt.count) for receipt in await call] == [(0, 4)]


@asynchronous
async def test_a_repeated_id_is_answered_with_the_first_receipt(tmp_path: Path) -> None:
    async with served(tmp_path) as (node, _, _, client):
        node.answers[direct.SendRequested] = None
        calls = [asyncio.create_task(client.send(OTHER_TEXT, CHAT, b"a", request_id="1")) for _ in range(2)]
        asked = await node.wait_for(direct.SendRequested)
        node.answers[direct.SendRequested] = (Outcome.UNREACHABLE, errors.Unreachable("away"))
        delivered = (direct.OutcomeRange(0, 1, Outcome.DELIVERED),)
        await client.info()  # the other call has reached the server too
        node.on_effect(direct.SendCompleted(asked.op, delivered))
        assert {(await call).outcome for call in calls} == {SendOutcome.DELIVERED}
        assert (await client.send(OTHER_TEXT, CHAT, b"a", request_id="1")).outcome is SendOutcome.DELIVERED
        assert len(node.of(direct.SendRequested)) == 1
        # Another id is another message, and one that went nowhere may be tried again.
        assert (await client.send(OTHER_TEXT, CHAT, b"a", request_id="2")).outcome is SendOutcome.UNREACHABLE
        node.answers[direct.SendRequested] = (Outcome.DELIVERED, None)
        assert (await client.send(OTHER_TEXT, CHAT, b"a", request_id="2")).outcome is SendOutcome.DELIVERED


@asynchronous
async def test_receive(tmp_path: Path) -> None:
    async with served(tmp_path) as (node, _, _, client):
        async with client.receive([CHAT, "/b/1"]) as receiver:
            assert node.of(direct.ProtocolsChanged)[-1] == direct.ProtocolsChanged((CHAT, "/b/1"), ())
            node.on_effect(direct.MessagesReceived(5, OTHER, CHAT, 1, [b"a", b"b"]))
            messages = aiter(receiver)
            assert await anext(messages) == sidecar_client.DirectMessage(OTHER_TEXT, CHAT, b"a")
            assert (await anext(messages)).data == b"b"
            handled = await node.wait_for(direct.MessagesHandled)
            assert handled == direct.MessagesHandled(5, 1, 2, Outcome.DELIVERED)
        while node.of(direct.ProtocolsChanged)[-1].receiving:
            await node.wait_for(direct.ProtocolsChanged)


@asynchronous
async def test_request_carries_its_deadline_and_its_errors(tmp_path: Path) -> None:
    async with served(tmp_path, request_timeout=7.0) as (node, mesh, _, client):
        node.answers[direct.RequestMade] = b"pong"
        assert await client.request(OTHER_TEXT, CHAT, b"ping") == b"pong"
        assert await client.request(OTHER_TEXT, CHAT, b"ping", timeout=3) == b"pong"
        default, given = (fed.deadline - mesh.now() for fed in node.of(direct.RequestMade))
        assert 5 < default <= 7
        assert 1 < given < 4
        for error in (errors.NotSupported, errors.Refused, errors.QueueFull, errors.Unreachable, errors.TooLarge):
            node.answers[direct.RequestMade] = error("words")
            with pytest.raises(getattr(client_errors, error.__name__), match="words"):
                await client.request(OTHER_TEXT, CHAT, b"ping")
        node.answers[direct.RequestMade] = None
        call = asyncio.create_task(client.request(OTHER_TEXT, CHAT, b"ping"))
        while len(node.of(direct.RequestMade)) < 8:
            await node.wait_for(direct.RequestMade)
        call.cancel()
        assert (await node.wait_for(direct.RequestCancelled)).op == node.of(direct.RequestMade)[-1].op


@asynchronous
async def test_serve(tmp_path: Path) -> None:
    async with served(tmp_path) as (node, mesh, _, client):
        withdrawn = asyncio.Event()

        async def answer(request: sidecar_client.Request) -> bytes:
            if request.data == b"wait":
                try:
                    await asyncio.Event().wait()
                finally:
                    withdrawn.set()
            if request.data == b"refuse":
                raise sidecar_client.Refused("not you")
            if request.data == b"fail":
                raise ValueError("a bug")
            assert request.peer_id == OTHER_TEXT
            assert request.time_left is not None
            return request.data.upper()

        async with client.serve(CHAT, answer):
            with pytest.raises(sidecar_client.AlreadyExists):
                await client.serve([CHAT, "/b/1"], answer)
            for token, data in enumerate([b"wait", b"hello", b"refuse", b"fail"]):
                node.on_effect(direct.RequestArrived(token, OTHER, CHAT, data, mesh.now() + 9))
            while len(node.of(direct.RequestAnswered)) < 3:
                await node.wait_for(direct.RequestAnswered)
            answers = {answered.token: answered.answer for answered in node.of(direct.RequestAnswered)}
            assert answers[1] == b"HELLO"
            assert [str(answers[token]) for token in (2, 3)] == ["not you", "the app failed to answer"]
            assert all(isinstance(answers[token], errors.Refused) for token in (2, 3))
            node.on_effect(direct.RequestWithdrawn(0))
            await asyncio.wait_for(withdrawn.wait(), 5)
            node.on_effect(direct.RequestArrived(9, OTHER, CHAT, b"wait", None))
        while len(node.of(direct.RequestAnswered)) < 4:
            await node.wait_for(direct.RequestAnswered)
        assert isinstance(node.of(direct.RequestAnswered)[-1].answer, errors.NotSupported)


# ---------------------------------------------------------------- topics


@pytest.mark.parametrize("outcome", [o for o in gossip.Outcome if o is not gossip.Outcome.CANCELLED])
def test_every_outcome_of_publishing(outcome: gossip.Outcome, tmp_path: Path) -> None:
    @asynchronous
    async def check() -> None:
        async with served(tmp_path) as (node, _, _, client):
            node.outcome = outcome
            many = await client.publish_many("news", [b"a"] * 5000, signing=Signing.STRICT_NO_SIGN)
            assert [(r.first, r.count, r.outcome.name) for r in many] == [(0, 5000, outcome.name)]
            published = node.of(gossip.Published)[0]
            assert (published.wait, published.options) == (True, gossip.TopicOptions(sign=False))
            if outcome is gossip.Outcome.TOO_LARGE:
                with pytest.raises(sidecar_client.TooLarge, match="payload of 1 bytes"):
                    await client.publish("news", b"a")
                return
            receipt = await client.publish("news", b"a")
            assert receipt.outcome.name == outcome.name
            assert len(receipt.message_id) == (32 if outcome.name in ("SENT", "NO_PEERS") else 0)
            assert not node.of(gossip.Published)[-1].wait

    check()


@asynchronous
async def test_publish_many_gives_ids_when_asked(tmp_path: Path) -> None:
    async with served(tmp_path) as (_, _, _, client):
        receipts = await client.publish_many("news", [b"a", b"b"], return_message_ids=True)
        assert [len(name) for receipt in receipts for name in receipt.message_ids] == [32, 32]
        assert await client.publish_many("news", []) == []


@asynchronous
async def test_publishing_waits_for_peers_until_cancelled(tmp_path: Path) -> None:
    async with served(tmp_path) as (node, _, _, client):
        with pytest.raises(sidecar_client.DeadlineExceeded):
            await client.publish("news", b"a", minimum_peers=3, timeout=0.05)
        published = await node.wait_for(gossip.Published)
        assert (published.wait, published.minimum_peers) == (True, 3)
        assert (await node.wait_for(gossip.PublishCancelled)).op == published.op


@asynchronous
async def test_a_publisher_that_waits_is_not_read_further(tmp_path: Path) -> None:
    async with served(tmp_path) as (node, _, _, client):
        node.answers[gossip.Published] = None
        call = asyncio.create_task(client.publish_many("news", [bytes(1000)] * 2000))
        parked = await node.wait_for(gossip.Published)
        await client.info()
        assert len(node.of(gossip.Published)) == 1
        del node.answers[gossip.Published]
        count = len(parked.messages)
        receipt = gossip.Receipt(0, count, gossip.Outcome.SENT, 1, 0)
        node.on_effect(gossip.PublishCompleted(parked.op, [receipt], [b"id"] * count))
        assert [(r.first, r.count) for r in await call] == [(0, 2000)]


@asynchronous
async def test_a_repeated_publication_is_answered_with_the_first_receipt(tmp_path: Path) -> None:
    async with served(tmp_path) as (node, _, _, client):
        receipts = [await client.publish("news", data, request_id="1") for data in (b"a", b"b")]
        assert receipts[0] == receipts[1]
        assert len(node.of(gossip.Published)) == 1
        node.outcome = gossip.Outcome.QUEUE_FULL
        assert (await client.publish("news", b"c", request_id="2")).outcome is PublishOutcome.QUEUE_FULL
        node.outcome = gossip.Outcome.SENT
        assert (await client.publish("news", b"c", request_id="2")).outcome is PublishOutcome.SENT


@asynchronous
async def test_signing_that_differs_is_refused(tmp_path: Path) -> None:
    async with served(tmp_path) as (node, _, _, client):
        async with client.subscribe("news", signing=Signing.STRICT_NO_SIGN):
            assert node.joined["news"] == gossip.TopicOptions(sign=False)
            assert (await client.topics())[0].signing is Signing.STRICT_NO_SIGN
            await client.publish("news", b"a")
            for call in (
                client.publish("news", b"a", signing=Signing.STRICT_SIGN),
                client.publish_many("news", [b"a"], signing=Signing.STRICT_SIGN),
                client.subscribe("news", signing=Signing.STRICT_SIGN).__aenter__(),
            ):
                with pytest.raises(sidecar_client.TopicOptionsDiffer):
                    await call
        await node.wait_for(gossip.TopicLeft)


@asynchronous
async def test_topics(tmp_path: Path) -> None:
    async with served(tmp_path) as (_, _, _, client), client.subscribe(["b", "a"]), client.subscribe("a"):
        await client.publish("a", b"x")
        first, second = await client.topics()
        assert (first.name, first.subscribers, first.history_messages, first.peers) == ("a", 2, 1, 1)
        assert first.mesh_peer_ids == (OTHER_TEXT,)
        assert (second.name, second.subscribers, second.history_messages) == ("b", 1, 0)


@asynchronous
async def test_bounds_on_streams(tmp_path: Path) -> None:
    bounds = {"max_subscriptions": 1, "max_receivers": 1, "max_watchers": 1}
    async with served(tmp_path, **bounds) as (_, _, _, client):  # noqa: SIM117 - one after the other
        async with client.subscribe("a"), client.receive(CHAT), client.serve(CHAT, _never):
            watching = client.watch_peers()
            await anext(watching)
            second = client.watch_peers()
            for call in (
                client.subscribe("a").__aenter__(),
                client.receive(CHAT).__aenter__(),
                client.serve("/b/1", _never).__aenter__(),
                anext(second),
            ):
                with pytest.raises(sidecar_client.ResourceExhausted, match=r"at most 1|that many"):
                    await call
            await watching.aclose()


@asynchronous
async def test_an_oversize_request_is_refused_by_the_transport(tmp_path: Path) -> None:
    async with served(tmp_path, max_request_bytes=65_536) as (_, _, _, client):
        with pytest.raises(sidecar_client.TooLarge, match="larger than max"):
            await client.publish("news", bytes(70_000))
        with pytest.raises(sidecar_client.TooLarge, match="larger than max"):
            await client.publish_many("news", [bytes(70_000)])
