"""Attacks on the guard: floods, oversized metadata, broken files, clocks that jump, tokens that end in mid-stream."""

import asyncio
import contextlib
import itertools
import os
from pathlib import Path

import grpc
import pytest
import sidecar_client
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
from sidecar_client.v1 import (
    common_pb2,
    direct_pb2,
    direct_pb2_grpc,
    node_pb2,
    node_pb2_grpc,
    pubsub_pb2,
    pubsub_pb2_grpc,
)

from sidecar.api.common.faults import Unauthenticated
from sidecar.api.guard.gate import TokenGate
from sidecar.api.guard.tokens import MAX_TOKENS, Token, TokenFile
from sidecar.api.server.strangers import MAX_STRANGERS
from sidecar.core import direct, streams
from sidecar.core.errors import ResourceExhausted, StorageError
from sidecar.core.events import OperationCompleted
from tests.api.fakes import OTHER, OTHER_TEXT, asynchronous, server
from tests.api.streams.test_services_streams import asked

pytestmark = pytest.mark.usefixtures("each_engine")

NOW = 1_000_000.0
FLOOD = 2000


def bearer(text: str) -> tuple[tuple[str, str], ...]:
    return (("authorization", f"Bearer {text}"),)


@asynchronous
async def test_a_flood_of_wrong_tokens_leaves_the_others_their_calls(tmp_path: Path) -> None:
    file = TokenFile(tmp_path / "tokens.json")
    token, text = file.create("app", ["*"], None, NOW)
    guesses = [f"sct_{token.id}_{number}" for number in range(FLOOD // 2)]
    guesses += [f"sct_{number:012x}_x" for number in range(FLOOD // 2)]
    async with (
        server(tmp_path / "api.sock", tokens=file.path, require_token=True) as (_, _, api),
        grpc.aio.insecure_channel(api.target) as channel,
        sidecar_client.connect(api.target, token=text) as app,
    ):
        stub = node_pb2_grpc.NodeServiceStub(channel)
        calls = [stub.GetNode(node_pb2.GetNodeRequest(), metadata=bearer(guess)) for guess in guesses]
        assert (await app.info()).network == "test"
        assert {await call.code() for call in calls} == {grpc.StatusCode.UNAUTHENTICATED}
        counted = await app.statistics()
        assert counted["api_refused_unauthenticated"] == FLOOD
        assert counted["api_tokens"] == 1
        assert counted["api_operations"] == 0


@asynchronous
async def test_streams_of_strangers_leave_the_apps_room(tmp_path: Path) -> None:
    file = TokenFile(tmp_path / "tokens.json")
    _, text = file.create("app", ["*"], None, NOW)
    async with (
        server(tmp_path / "api.sock", tokens=file.path, require_token=True) as (_, _, api),
        grpc.aio.insecure_channel(api.target) as channel,
        contextlib.AsyncExitStack() as stack,
    ):
        health = health_pb2_grpc.HealthStub(channel)
        watching = [health.Watch(health_pb2.HealthCheckRequest()) for _ in range(MAX_STRANGERS - 1)]
        for call in watching:
            stack.callback(call.cancel)
            await call.read()
        reflecting = reflection_pb2_grpc.ServerReflectionStub(channel).ServerReflectionInfo()
        stack.callback(reflecting.cancel)
        await reflecting.write(reflection_pb2.ServerReflectionRequest(list_services=""))
        assert (await reflecting.read()).list_services_response.service
        more = reflection_pb2_grpc.ServerReflectionStub(channel).ServerReflectionInfo()
        assert await more.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert await health.Watch(health_pb2.HealthCheckRequest()).code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        checked = await health.Check(health_pb2.HealthCheckRequest())  # as an orchestrator does
        assert checked.status == health_pb2.HealthCheckResponse.SERVING
        async with sidecar_client.connect(api.target, token=text) as app, app.subscribe("news"):
            pass


@asynchronous
async def test_calls_up_to_the_bound_leave_room_for_health(tmp_path: Path) -> None:
    most = 20
    async with (
        server(tmp_path / "api.sock", max_calls=most) as (_, backend, api),
        grpc.aio.insecure_channel(api.target) as channel,
        contextlib.AsyncExitStack() as stack,
    ):
        stub = node_pb2_grpc.NodeServiceStub(channel)
        calls = [stub.WatchReadiness(node_pb2.WatchReadinessRequest()) for _ in range(most)]
        for call in calls:
            stack.callback(call.cancel)
            await call.read()
        refused = stub.GetNode(node_pb2.GetNodeRequest())
        assert await refused.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert await refused.details() == f"{most} calls are under way, at most that many (api.max_calls)"
        health = health_pb2_grpc.HealthStub(channel)
        checked = await health.Check(health_pb2.HealthCheckRequest())
        assert checked.status == health_pb2.HealthCheckResponse.SERVING
        calls[0].cancel()
        while backend.calls.open == most:  # noqa: ASYNC110 - nobody tells of it
            await asyncio.sleep(0)
        await stub.GetNode(node_pb2.GetNodeRequest())


@asynchronous
async def test_metadata_of_any_size_and_kind_is_refused(tmp_path: Path) -> None:
    file = TokenFile(tmp_path / "tokens.json")
    _, text = file.create("app", ["*"], None, NOW)
    async with (
        server(tmp_path / "api.sock", tokens=file.path, require_token=True) as (_, _, api),
        grpc.aio.insecure_channel(api.target) as channel,
        sidecar_client.connect(api.target, token=text) as app,
    ):
        stub = node_pb2_grpc.NodeServiceStub(channel)

        async def code(*metadata: tuple[str, str]) -> grpc.StatusCode:
            return await stub.GetNode(node_pb2.GetNodeRequest(), metadata=metadata).code()

        # Field by field, HTTP/2 has a bound beyond which the engine of that name ends the connection.
        enough = {grpc.StatusCode.RESOURCE_EXHAUSTED, grpc.StatusCode.UNAVAILABLE}
        for size in (1 << 20, 16 << 20):
            assert await code(*bearer("x" * size)) in enough
        assert await code(*bearer("x" * 60_000)) is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert await code(*[(f"key-{number}", "x") for number in range(5000)]) is grpc.StatusCode.RESOURCE_EXHAUSTED
        # HTTP/2 has no spaces at the end of a field, which only one engine minds.
        assert await code(("authorization", "Bearer ")) in (grpc.StatusCode.UNAUTHENTICATED, grpc.StatusCode.INTERNAL)
        for value in ("", "Bearer", "Basic eDp5", text, "Bearer " + "_" * 7000, f"Bearer Bearer {text}"):
            assert await code(("authorization", value)) is grpc.StatusCode.UNAUTHENTICATED
        # The first one counts, so that nobody can add a second one behind a proxy's.
        assert await code(*bearer("sct_a_b"), *bearer(text)) is grpc.StatusCode.UNAUTHENTICATED
        assert await code(("authorization", f"bearer {text}")) is grpc.StatusCode.OK
        await app.info()


# ---------------------------------------------------------------- the file


def test_half_a_file_is_no_file(tmp_path: Path) -> None:
    file = TokenFile(tmp_path / "tokens.json")
    file.create("app", ["*"], None, NOW)
    whole = file.path.read_bytes()
    for length in range(len(whole) - 2):  # without its last bracket
        file.path.write_bytes(whole[:length])
        with pytest.raises(StorageError, match="damaged"):
            file.read()


@asynchronous
async def test_a_file_that_others_can_read_stops_the_start_with_the_remedy(tmp_path: Path) -> None:
    file = TokenFile(tmp_path / "tokens.json")
    _, text = file.create("app", ["*"], None, NOW)
    file.path.chmod(0o644)
    with pytest.raises(StorageError, match=r"open to others \(mode 0644\); run: chmod 600"):
        async with server(tmp_path / "api.sock", tokens=file.path):
            pass
    file.path.chmod(0o600)
    async with (
        server(tmp_path / "api.sock", tokens=file.path, require_token=True) as (_, _, api),
        sidecar_client.connect(api.target, token=text) as app,
    ):
        await app.info()
        file.path.chmod(0o666)  # anybody may have added a token
        with pytest.raises(sidecar_client.Unauthenticated):
            await app.info()
        file.path.chmod(0o600)
        await app.info()


def test_with_the_most_tokens_each_call_compares_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = TokenFile(tmp_path / "tokens.json")
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)
    texts = [file.create(f"app{number}", ["subscribe:*"], None, NOW)[1] for number in range(100)]
    kept = file.read()
    more = (Token(f"{number:012x}", f"more{number}", bytes(32), ("*",), NOW, None) for number in range(MAX_TOKENS))
    file._write(kept | {token.id: token for token in list(more)[: MAX_TOKENS - len(kept)]})
    gate = TokenGate(file, required=True)
    with pytest.raises(ResourceExhausted, match=f"{MAX_TOKENS} tokens"):
        file.create("one-more", ["*"], None, NOW)
    compared = []
    proved_by = Token.proved_by
    monkeypatch.setattr(Token, "proved_by", lambda token, secret: compared.append(1) or proved_by(token, secret))
    for number, text in enumerate(texts):
        assert gate.identify(bearer(text)).name == f"app{number}"
    assert len(compared) == len(texts)
    gate.close()


# ---------------------------------------------------------------- clocks


class Clocks:
    """The wall clock, which somebody sets, and the other."""

    def __init__(self) -> None:
        self.wall = NOW
        self.boot = 50.0

    def pass_by(self, seconds: float) -> None:
        self.wall += seconds
        self.boot += seconds


def test_no_token_outlives_its_time_by_a_clock_that_jumps(tmp_path: Path) -> None:
    file = TokenFile(tmp_path / "tokens.json")
    clocks = Clocks()
    _, text = file.create("app", ["*"], NOW + 100, NOW)
    gate = TokenGate(file, required=True, wall=lambda: clocks.wall, boot=lambda: clocks.boot)
    clocks.pass_by(50)
    gate.identify(bearer(text))
    clocks.wall += 10_000  # forward, as from a clock that was wrong: no token, but only while it stands so
    with pytest.raises(Unauthenticated, match="expired"):
        gate.identify(bearer(text))
    clocks.wall -= 10_000
    gate.identify(bearer(text))
    clocks.wall -= 10_000  # backward: it lives no longer for that
    clocks.pass_by(49)
    gate.identify(bearer(text))
    clocks.pass_by(1)
    with pytest.raises(Unauthenticated, match="expired"):
        gate.identify(bearer(text))
    gate.close()


def test_a_clock_that_is_set_after_the_start_ends_what_has_expired(tmp_path: Path) -> None:
    file = TokenFile(tmp_path / "tokens.json")
    clocks = Clocks()
    _, text = file.create("app", ["*"], NOW + 100, NOW)
    clocks.wall = 0.0  # a machine without a clock of its own that has just started
    gate = TokenGate(file, required=True, wall=lambda: clocks.wall, boot=lambda: clocks.boot)
    gate.identify(bearer(text))
    clocks.wall = NOW + 101
    with pytest.raises(Unauthenticated, match="expired"):
        gate.identify(bearer(text))
    gate.close()


# ---------------------------------------------------------------- tokens that end


@asynchronous
async def test_a_token_revoked_amid_bulk_streams_ends_them_all(tmp_path: Path) -> None:
    file = TokenFile(tmp_path / "tokens.json")
    _, text = file.create("app", ["*"], None, NOW)
    _, staying = file.create("staying", ["*"], None, NOW)
    async with (
        server(tmp_path / "api.sock", tokens=file.path, require_token=True) as (node, backend, api),
        grpc.aio.insecure_channel(api.target) as channel,
        sidecar_client.connect(api.target, token=text, reconnect=False) as app,
        sidecar_client.connect(api.target, token=staying) as other,
    ):
        node.answers[direct.SendRequested] = (direct.SendOutcome.DELIVERED, None)
        message = common_pb2.OutgoingMessage(data=b"x")
        batches = [
            pubsub_pb2.PublishManyRequest(topic="news", messages=[message] * 10),
            direct_pb2.SendManyRequest(peer_id=OTHER_TEXT, protocol="/a/1", messages=[message] * 10),
        ]
        calls = [
            pubsub_pb2_grpc.PubSubServiceStub(channel).PublishMany(metadata=bearer(text)),
            direct_pb2_grpc.DirectServiceStub(channel).SendMany(metadata=bearer(text)),
        ]
        for call, batch in zip(calls, batches, strict=True):
            await call.write(batch)
            assert (await call.read()).receipts
            await call.write(batch)
        # One that is written to without a pause. Where it ends just then, gRPC itself knows no more than that.
        writing = asyncio.create_task(app.publish_many("news", itertools.repeat(b"x")))

        async def drained(call: "grpc.aio.StreamStreamCall[object, object]") -> grpc.StatusCode:
            with contextlib.suppress(grpc.aio.AioRpcError):
                while await call.read() is not grpc.aio.EOF:
                    pass
            return await call.code()

        stream = app.open_stream(OTHER_TEXT, "/bytes/1")
        opening = asyncio.create_task(stream.__aenter__())
        fed = await asked(node)
        node.on_news(OperationCompleted(fed.op, streams.StreamMade(7, OTHER, "/bytes/1")))
        await opening
        await stream.write(b"x" * 1000)
        await node.wait_for(streams.BytesWritten)
        file.revoke("app")
        assert await asyncio.gather(*map(drained, calls)) == [grpc.StatusCode.UNAUTHENTICATED] * 2
        with pytest.raises((sidecar_client.Unauthenticated, sidecar_client.SidecarUnavailable)):
            await writing
        with pytest.raises(sidecar_client.Unauthenticated, match="app was revoked"):
            await stream.read(1)
        assert await node.wait_for(streams.StreamAbandoned)  # the peer is told
        await other.info()
        assert backend.statistics().flat()["api_operations"] == 0
