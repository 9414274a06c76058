"""Tokens and scopes: what is kept of them, what each method takes, and how calls without them end."""

import asyncio
import contextlib
import importlib
import os
import re
import stat
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import pytest
import sidecar_client
from google.protobuf import json_format
from google.rpc.error_details_pb2 import ErrorInfo
from google.rpc.status_pb2 import Status
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
from sidecar_client.v1 import stream_pb2, stream_pb2_grpc

from sidecar.api.common.faults import PermissionDenied, Unauthenticated
from sidecar.api.guard import caller, scopes
from sidecar.api.guard.caller import Holder
from sidecar.api.guard.gate import TokenGate
from sidecar.api.guard.methods import METHODS
from sidecar.api.guard.tokens import MAX_SCOPES, Token, TokenFile, split
from sidecar.api.server import schema as services
from sidecar.core import direct, gossip, streams
from sidecar.core.errors import AlreadyExists, InvalidArgument, NotFound, StorageError
from sidecar.store.files import replace_private
from tests.api.fakes import OTHER, OTHER_TEXT, asynchronous, server

NOW = 1_000_000.0

# ---------------------------------------------------------------- scopes


@pytest.mark.parametrize(
    ("allowed", "needed", "covered"),
    [
        ("*", "publish:news", True),
        ("publish:news", "publish:news", True),
        ("publish:news", "subscribe:news", False),
        ("publish:news", "publish:news/a", False),
        ("publish:news/*", "publish:news/a/b", True),
        ("publish:news/*", "publish:news/", True),
        ("publish:news/*", "publish:news", False),
        ("publish:*", "publish:", True),
        ("send:/chat/*/1", "send:/chat/a/b/1", True),
        ("send:/chat/*/1", "send:/chat/1", False),
        ("send:*a*a", "send:aa", True),
        ("send:*a*a", "send:a", False),
        ("send:ab*ba", "send:aba", False),
        ("send:a*b*c", "send:abbc", True),
        ("send:a*b*c", "send:acb", False),
        ("publish:a.c", "publish:abc", False),
        ("publish:[a]?", "publish:[a]?", True),
        ("publish:news", "publish:NEWS", False),
        ("record:/app/*", "record:/app/x:y", True),
        ("peers:*", "peers:manage", True),
        ("peers:read", "peers:manage", False),
    ],
)
def test_what_a_scope_covers(allowed: str, needed: str, covered: bool) -> None:
    assert scopes.covers(scopes.check(allowed), needed) is covered


def test_many_stars_take_no_time() -> None:
    assert not scopes.covers("publish:" + "*a" * 500 + "b", "publish:" + "a" * 1024)


@pytest.mark.parametrize("text", ["", "news", "publish", "publish:", "pubish:a", "peers:write", "node:write", "a\n:b"])
def test_scopes_that_are_none(text: str) -> None:
    with pytest.raises(InvalidArgument, match="scope"):
        scopes.check(text)


# ---------------------------------------------------------------- the file


def test_only_a_hash_is_kept_and_nobody_else_reads_it(tmp_path: Path) -> None:
    file = TokenFile(tmp_path / "tokens.json")
    assert (file.read(), file.version()) == ({}, None)
    token, text = file.create("app1", ["publish:news/*", "publish:news/*", "subscribe:*"], NOW + 60, NOW)
    assert token.allow == ("publish:news/*", "subscribe:*")
    assert file.read() == {token.id: token}
    parts = split(text)
    assert parts is not None
    assert parts[0] == token.id
    assert token.proved_by(parts[1])
    assert not token.proved_by(parts[1] + "x")
    assert parts[1] not in file.path.read_text()
    assert stat.S_IMODE(file.path.stat().st_mode) == 0o600
    assert not token.expired(NOW + 59)
    assert token.expired(NOW + 60)

    with pytest.raises(AlreadyExists, match="app1"):
        file.create("app1", ["*"], None, NOW)
    other, _ = file.create("app2", ["*"], None, NOW + 61)
    assert [found.name for found in file.read().values()] == ["app1", "app2"]  # the clock may have been wrong
    file.revoke("app1")
    with pytest.raises(NotFound, match="app1"):
        file.revoke("app1")
    assert file.revoke(other.id) == other
    assert file.read() == {}
    assert sorted(path.name for path in tmp_path.iterdir()) == ["tokens.json", "tokens.json.lock"]


def test_what_cannot_be_a_token_is_refused(tmp_path: Path) -> None:
    file = TokenFile(tmp_path / "tokens.json")
    for name, allow in (("", ["*"]), ("a b", ["*"]), ("a", []), ("a", ["*"] * (MAX_SCOPES + 1)), ("a", ["what:ever"])):
        with pytest.raises(InvalidArgument):
            file.create(name, allow, None, NOW)
    assert not file.path.exists()
    for text in ("", "x", "sct_", "sct_abc", "sct_abc_", "abc_def", "Bearer sct_a_b"):
        assert split(text) is None


@pytest.mark.parametrize(
    "text",
    [
        "junk",
        "[]",
        "{}",
        "[" * 100_000,
        '{"format": 2, "tokens": []}',
        '{"format": 1, "tokens": [{"id": "a"}]}',
        '{"format": 1, "tokens": [{"id": "a", "name": "b", "digest": "xy", "allow": [], "created": 0, "expires": 0}]}',
    ],
)
def test_a_damaged_file_gives_nobody_a_token(text: str, tmp_path: Path) -> None:
    file = TokenFile(tmp_path / "tokens.json")
    file.path.write_text(text)
    file.path.chmod(0o600)
    with pytest.raises(StorageError, match=r"tokens\.json"):
        file.read()
    with pytest.raises(StorageError):
        file.create("a", ["*"], None, NOW)
    assert file.path.read_text() == text


def test_a_file_that_is_open_to_others_is_not_believed(tmp_path: Path) -> None:
    file = TokenFile(tmp_path / "tokens.json")
    file.create("a", ["*"], None, NOW)
    before = file.version()
    file.path.chmod(0o640)
    assert file.version() != before
    with pytest.raises(StorageError, match=r"mode 0640\); run: chmod 600"):
        file.read()
    file.path.chmod(0o600)
    if os.getuid() == 0:
        os.chown(file.path, 12345, -1)
        with pytest.raises(StorageError, match="belongs to user 12345"):
            file.read()
    file.path.unlink()
    file.path.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(StorageError):
        file.read()


# ---------------------------------------------------------------- every method

# A request of each method, and the scope that it takes; None: any token will do.
CASES: dict[str, tuple[dict[str, Any], str | None]] = {
    "NodeService/GetNode": ({}, None),
    "NodeService/GetReadiness": ({}, None),
    "NodeService/WatchReadiness": ({}, None),
    "NodeService/GetStatistics": ({}, "node:read"),
    "NodeService/GetConfiguration": ({}, "node:read"),
    "NodeService/WatchEvents": ({}, "node:read"),
    "NodeService/SetLogLevel": ({"level": "info"}, "node:manage"),
    "PeerService/ListPeers": ({}, "peers:read"),
    "PeerService/WatchPeers": ({}, "peers:read"),
    "PeerService/GetPeer": ({"peer_id": OTHER_TEXT}, "peers:read"),
    "PeerService/FindPeer": ({"peer_id": OTHER_TEXT}, "peers:read"),
    "PeerService/ListClosestPeers": ({"key": "L2FwcC94"}, "peers:read"),
    "PeerService/ConnectPeer": ({"peer_id": OTHER_TEXT}, "peers:manage"),
    "PeerService/DisconnectPeer": ({"peer_id": OTHER_TEXT}, "peers:manage"),
    "PeerService/PingPeer": ({"peer_id": OTHER_TEXT}, "peers:manage"),
    "PeerService/BanPeer": ({"peer_id": OTHER_TEXT}, "peers:ban"),
    "PeerService/AllowPeer": ({"peer_id": OTHER_TEXT}, "peers:ban"),
    "PeerService/ListBans": ({}, "peers:read"),
    "PeerService/ProtectPeer": ({"peer_id": OTHER_TEXT}, "peers:ban"),
    "PeerService/UnprotectPeer": ({"peer_id": OTHER_TEXT}, "peers:ban"),
    "PeerService/SetPeerScore": ({"peer_id": OTHER_TEXT, "score": -5.0}, "peers:ban"),
    "DirectService/Send": ({"peer_id": OTHER_TEXT, "protocol": "/a/1"}, "send:/a/1"),
    "DirectService/SendMany": ({"peer_id": OTHER_TEXT, "protocol": "/a/1"}, "send:/a/1"),
    "DirectService/Receive": ({"protocols": ["/a/1"]}, "receive:/a/1"),
    "DirectService/Request": ({"peer_id": OTHER_TEXT, "protocol": "/a/1"}, "request:/a/1"),
    "DirectService/Serve": ({"protocols": ["/a/1"]}, "serve:/a/1"),
    "DurableService/WatchOutbox": ({"protocol": "/a/1"}, "send:/a/1"),
    "DurableService/ListOutbox": ({"protocol": "/a/1"}, "send:/a/1"),
    "DurableService/WithdrawOutbox": ({"peer_id": OTHER_TEXT, "protocol": "/a/1"}, "send:/a/1"),
    "DurableService/ListInbox": ({"protocol": "/a/1", "with_data": True}, "receive:/a/1"),
    "DurableService/RetryDeadLetters": ({"protocol": "/a/1"}, "receive:/a/1"),
    "DurableService/PurgeDeadLetters": ({"protocol": "/a/1"}, "receive:/a/1"),
    "StreamService/OpenStream": ({"peer_id": OTHER_TEXT, "protocols": ["/a/1"]}, "stream:/a/1"),
    "StreamService/AcceptStreams": ({"protocols": ["/a/1"]}, "stream:/a/1"),
    "PubSubService/Publish": ({"topic": "news"}, "publish:news"),
    "PubSubService/PublishMany": ({"topic": "news"}, "publish:news"),
    "PubSubService/ListRules": ({}, "node:read"),
    "PubSubService/SetRules": ({}, "node:rules"),
    "PubSubService/Subscribe": ({"topics": ["news"]}, "subscribe:news"),
    "PubSubService/Validate": ({"topics": ["news"]}, "validate:news"),
    "PubSubService/ListTopics": ({}, "node:read"),
    "PubSubService/Probe": ({"topic": "news"}, "probe:news"),
    "DiscoveryService/Advertise": ({"name": "chat"}, "advertise:chat"),
    "DiscoveryService/FindPeers": ({"name": "chat"}, "discover:chat"),
    "DiscoveryService/PutRecord": ({"key": "L2FwcC94"}, "record:/app/x"),
    "DiscoveryService/GetRecord": ({"key": "L2FwcC94"}, "record:/app/x"),
}
INSIDE = {
    "DirectService/RequestMany",
    "DurableService/Settle",
    "StreamService/AttachStream",
    "StreamService/CarryStreams",
}  # in tests of their own below


def test_every_method_has_its_row() -> None:
    methods = {
        f"{service.rpartition('.')[2]}/{method.name}"
        for service, all_ in services.services().items()
        for method in all_
    }
    assert set(METHODS) == methods
    assert set(CASES) | INSIDE == methods
    assert {str(scope).partition(":")[0] for _, scope in CASES.values() if scope} == set(scopes.KINDS)


def test_the_table_in_the_documentation_is_the_one_in_force() -> None:
    text = (Path(__file__).parents[3] / "docs" / "security.md").read_text()
    rows = re.findall(r"^\| `([a-z]+):[^|]*\| ([A-Za-z, ]+) \|", text, re.M)
    documented = {(kind, method) for kind, methods in rows for method in methods.split(", ")}
    inside = {("request", "RequestMany"), ("receive", "Settle"), ("stream", "AttachStream"), ("stream", "CarryStreams")}
    in_force = {(scope.partition(":")[0], method.split("/")[1]) for method, (_, scope) in CASES.items() if scope}
    assert documented == in_force | inside


def test_durable_messages_of_all_protocols_are_for_whoever_may_look_at_or_manage_the_node() -> None:
    def scopes_of(method: str, **fields: Any) -> list[str]:
        request = getattr(importlib.import_module("sidecar_client.v1.durable_pb2"), f"{method}Request")(**fields)
        return list(METHODS[f"DurableService/{method}"](request))

    assert scopes_of("WatchOutbox") == scopes_of("ListOutbox") == scopes_of("ListInbox") == ["node:read"]
    assert scopes_of("WithdrawOutbox") == scopes_of("RetryDeadLetters") == ["node:manage"]
    assert scopes_of("PurgeDeadLetters") == scopes_of("ListInbox", with_data=True) == ["node:manage"]


def example(method: str) -> Any:
    service, name = method.split("/")
    kind = importlib.import_module(f"sidecar_client.v1.{service.removesuffix('Service').lower()}_pb2")
    return json_format.ParseDict(CASES[method][0], getattr(kind, f"{name}Request")())


def bearer(text: str) -> tuple[tuple[str, str], ...]:
    return (("authorization", f"Bearer {text}"),)


def info(metadata: Any) -> ErrorInfo:
    found = ErrorInfo()
    status = Status.FromString(dict(metadata)["grpc-status-details-bin"])
    assert any(detail.Unpack(found) for detail in status.details)
    return found


@asynchronous
async def test_every_method_takes_its_scope_and_no_other(tmp_path: Path) -> None:
    gate = TokenGate(TokenFile(tmp_path / "tokens.json"), required=True)
    for method, (_, scope) in CASES.items():
        reached: list[Any] = []

        async def handler(request: Any, context: Any, reached: list[Any] = reached) -> None:
            reached.extend([message async for message in request] if hasattr(request, "__aiter__") else [request])

        async def stream(request: Any) -> AsyncIterator[Any]:
            yield request

        guarded = gate.guarded(method, handler)
        for request in (example(method), stream(example(method))):
            if scope is not None:
                others = tuple(other for _, other in CASES.values() if other not in (None, scope))
                caller.introduce(Holder(Token("id", "app", b"", others, NOW, None)))  # type: ignore[arg-type]
                with pytest.raises(PermissionDenied, match="app does not allow") as caught:
                    await guarded(request if not hasattr(request, "__aiter__") else stream(example(method)), None)  # type: ignore[arg-type]
                assert caught.value.scope == scope
            assert not reached
            caller.introduce(Holder(Token("id", "app", b"", (scope,) if scope else (), NOW, None)))
            await guarded(request, None)  # type: ignore[arg-type]
            assert reached == [example(method)]
            reached.clear()
    gate.close()


@asynchronous
async def test_refusals_reach_any_client_with_the_scope_that_lacks(tmp_path: Path) -> None:
    file = TokenFile(tmp_path / "tokens.json")
    _, useless = file.create("useless", ["publish:something else"], None, NOW)
    async with (
        server(tmp_path / "api.sock", tokens=file.path, require_token=True) as (_, _, api),
        grpc.aio.insecure_channel(api.target) as channel,
    ):
        for method, (_, scope) in CASES.items():
            if scope is not None:
                call = channel.stream_stream(f"/sidecar.v1.{method}")(metadata=bearer(useless))
                await call.write(example(method).SerializeToString())
                assert await call.code() is grpc.StatusCode.PERMISSION_DENIED, method
                found = info(await call.trailing_metadata())
                assert (found.reason, dict(found.metadata)) == ("PERMISSION_DENIED", {"scope": scope})
            for metadata in ((), bearer("sct_a_b")):
                call = channel.stream_stream(f"/sidecar.v1.{method}")(metadata=metadata)
                assert await call.code() is grpc.StatusCode.UNAUTHENTICATED, method
                assert info(await call.trailing_metadata()).reason == "UNAUTHENTICATED"


# ---------------------------------------------------------------- who calls


@asynchronous
async def test_tokens_come_out_of_a_mounted_secret(tmp_path: Path) -> None:
    """As Kubernetes mounts one: read-only links that are put in place of each other, readable by a group."""
    made = TokenFile(tmp_path / "made.json")
    texts = []
    mounted = tmp_path / "secret"
    mounted.mkdir()

    def mount(version: str) -> None:
        (mounted / version).mkdir()
        (mounted / version / "tokens.json").write_bytes(made.path.read_bytes())
        (mounted / version / "tokens.json").chmod(0o440)
        (mounted / "..next").symlink_to(version)
        (mounted / "..next").rename(mounted / "..data")

    for number in range(2):
        texts.append(made.create(f"app{number}", ["*"], None, NOW)[1])
        mount(f"..{number}")
        if not number:
            (mounted / "tokens.json").symlink_to("..data/tokens.json")
            bounds = {"tokens": mounted / "tokens.json", "tokens_kept_elsewhere": True, "require_token": True}
            with pytest.raises(StorageError):
                async with server(tmp_path / "api.sock", **{**bounds, "tokens_kept_elsewhere": False}):
                    pass
            stack = contextlib.AsyncExitStack()
            _, _, api = await stack.enter_async_context(server(tmp_path / "api.sock", **bounds))
    async with stack:
        for text in texts:
            async with sidecar_client.connect(api.target, token=text) as app:
                await app.info()
        made.revoke("app0")
        mount("..2")
        with pytest.raises(sidecar_client.Unauthenticated):
            async with sidecar_client.connect(api.target, token=texts[0]):
                pass
        (mounted / "..2" / "tokens.json").chmod(0o444)
        with pytest.raises(sidecar_client.Unauthenticated):
            async with sidecar_client.connect(api.target, token=texts[1]):
                pass


@asynchronous
async def test_health_and_reflection_take_no_token(tmp_path: Path) -> None:
    async with (
        server(tmp_path / "api.sock", tokens=tmp_path / "tokens.json", require_token=True) as (_, _, api),
        grpc.aio.insecure_channel(api.target) as channel,
    ):
        check = health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest())
        assert (await check).status == health_pb2.HealthCheckResponse.SERVING
        call = reflection_pb2_grpc.ServerReflectionStub(channel).ServerReflectionInfo()
        await call.write(reflection_pb2.ServerReflectionRequest(list_services=""))
        assert (await call.read()).list_services_response.service
        call.cancel()
        with pytest.raises(sidecar_client.Unauthenticated, match="no token"):
            async with sidecar_client.connect(api.target):
                pass


@asynchronous
async def test_a_token_counts_where_none_is_required_too(tmp_path: Path) -> None:
    file = TokenFile(tmp_path / "tokens.json")
    async with server(tmp_path / "api.sock", tokens=file.path) as (node, _, api):
        _, text = file.create("app1", ["publish:news/*"], None, NOW)  # the running sidecar takes notice
        async with sidecar_client.connect(api.target) as anybody:
            await anybody.statistics()
        async with sidecar_client.connect(api.target, token=text) as app:
            await app.info()
            assert (await app.publish("news/today", b"x")).peers == 1
            with pytest.raises(sidecar_client.PermissionDenied, match="app1 does not allow publish:news"):
                await app.publish("news", b"x")
            with pytest.raises(sidecar_client.PermissionDenied, match="publish:old"):
                await app.publish_many("old", [b"x"])
            with pytest.raises(sidecar_client.PermissionDenied, match="subscribe:news/today"):
                async with app.subscribe("news/today"):
                    pass
        for wrong in (text + "x", text[:-1], "sct_000000000000_" + text.split("_", 2)[2], "word"):
            with pytest.raises(sidecar_client.Unauthenticated):
                async with sidecar_client.connect(api.target, token=wrong):
                    pass
        assert len(node.of(gossip.Published)) == 1


@asynchronous
async def test_a_sidecar_without_tokens_does_not_look_at_them(tmp_path: Path) -> None:
    file = TokenFile(tmp_path / "tokens.json")
    async with (
        server(tmp_path / "api.sock", tokens=file.path) as (_, _, api),
        sidecar_client.connect(api.target, token="for-another-sidecar") as app,
    ):
        await app.info()
        token, _ = file.create("first", ["*"], None, NOW)
        with pytest.raises(sidecar_client.Unauthenticated):
            await app.info()
        file.revoke(token.id)
        with pytest.raises(sidecar_client.Unauthenticated):
            await app.info()
        file.path.unlink()  # what was refused does not come in through a file that is gone
        with pytest.raises(sidecar_client.Unauthenticated):
            await app.info()


@asynchronous
async def test_a_new_token_is_known_at_once_and_a_revoked_one_for_a_moment(tmp_path: Path) -> None:
    file = TokenFile(tmp_path / "tokens.json")
    gate = TokenGate(file, required=True, fresh=1e9)
    token, text = file.create("app", ["*"], None, NOW)
    assert gate.identify(bearer(text)).name == "app"
    file.revoke(token.id)
    assert gate.identify(bearer(text)).name == "app"
    gate.look()  # as it does each second
    with pytest.raises(Unauthenticated):
        gate.identify(bearer(text))
    gate.close()


@asynchronous
async def test_many_requests_on_one_call_have_their_own_refusals(tmp_path: Path) -> None:
    file = TokenFile(tmp_path / "tokens.json")
    _, text = file.create("app1", ["request:/mine/*"], None, NOW)
    async with (
        server(tmp_path / "api.sock", tokens=file.path) as (node, _, api),
        sidecar_client.connect(api.target, token=text) as app,
    ):
        node.answers[direct.RequestMade] = b"yes"
        answers = await asyncio.gather(
            *(app.request(OTHER_TEXT, protocol, b"?") for protocol in ("/mine/1", "/theirs/1", "/mine/2") * 3),
            return_exceptions=True,
        )
        for answer in answers[1::3]:
            assert isinstance(answer, sidecar_client.PermissionDenied)
            assert "request:/theirs/1" in str(answer)
        assert answers[0::3] == answers[2::3] == [b"yes"] * 3


@asynchronous
async def test_a_stream_is_taken_up_only_by_who_may(tmp_path: Path) -> None:
    file = TokenFile(tmp_path / "tokens.json")
    _, owner = file.create("owner", ["stream:/a/1"], None, NOW)
    _, thief = file.create("thief", ["stream:/b/1"], None, NOW)
    async with (
        server(tmp_path / "api.sock", tokens=file.path, require_token=True) as (node, _, api),
        grpc.aio.insecure_channel(api.target) as channel,
    ):
        stub = stream_pb2_grpc.StreamServiceStub(channel)
        accepting = stub.AcceptStreams(stream_pb2.AcceptStreamsRequest(protocols=["/a/1"]), metadata=bearer(owner))
        await accepting.initial_metadata()
        node.on_news(streams.StreamArrived(7, OTHER, "/a/1"))
        token = (await accepting.read()).streams[0].token
        call = stub.AttachStream(metadata=bearer(thief))
        await call.write(stream_pb2.AttachStreamRequest(token=token))
        assert await call.code() is grpc.StatusCode.PERMISSION_DENIED
        assert dict(info(await call.trailing_metadata()).metadata) == {"scope": "stream:/a/1"}
        call = stub.AttachStream(metadata=bearer(owner))
        await call.write(stream_pb2.AttachStreamRequest(token=token))
        assert (await call.read()).opened.protocol == "/a/1"
        call.cancel()
        node.on_news(streams.StreamArrived(8, OTHER, "/a/1"))
        token = (await accepting.read()).streams[0].token
        sharing = stub.CarryStreams(metadata=bearer(thief))
        await sharing.write(stream_pb2.CarryStreamsRequest(frames=[{"stream": 1, "token": token}]))
        refused = Status.FromString((await sharing.read()).frames[0].status)
        assert (refused.code, "stream:/a/1" in refused.message) == (7, True)
        sharing.cancel()
        accepting.cancel()


# ---------------------------------------------------------------- tokens end


@asynchronous
async def test_a_revoked_token_ends_its_streams_and_no_others(tmp_path: Path) -> None:
    file = TokenFile(tmp_path / "tokens.json")
    _, first = file.create("first", ["*"], None, NOW)
    _, second = file.create("second", ["*"], None, NOW)
    async with (
        server(tmp_path / "api.sock", tokens=file.path, require_token=True) as (node, _, api),
        sidecar_client.connect(api.target, token=first, reconnect=False) as one,
        sidecar_client.connect(api.target, token=second) as other,
        one.subscribe("news") as ending,
        other.subscribe("news") as staying,
        one.receive("/a/1") as receiving,
    ):
        node.answers[direct.RequestMade] = None
        waiting = asyncio.create_task(one.request(OTHER_TEXT, "/a/1", b"?"))
        await node.wait_for(direct.RequestMade)
        file.revoke("first")  # noticed without a further call
        for call in (anext(aiter(ending)), anext(aiter(receiving)), waiting):
            with pytest.raises(sidecar_client.Unauthenticated, match="first was revoked"):
                await call
        assert node.of(direct.RequestCancelled)
        with pytest.raises(sidecar_client.Unauthenticated, match="not valid here"):
            await one.info()
        await other.publish("news", b"still here")
        assert (await anext(aiter(staying))).data == b"still here"


@asynchronous
async def test_an_expired_token_ends_as_well(tmp_path: Path) -> None:
    file = TokenFile(tmp_path / "tokens.json")
    token, text = file.create("app", ["*"], NOW + 10, NOW)
    clock = [NOW]
    gate = TokenGate(file, required=False, wall=lambda: clock[0])
    metadata = bearer(text)
    holder = gate.identify(metadata)
    caller.introduce(holder)
    begun = asyncio.Event()

    async def handler(request: object, context: object) -> None:
        begun.set()
        await asyncio.Event().wait()

    call = asyncio.create_task(gate.guarded("NodeService/GetNode", handler)(None, None))  # type: ignore[arg-type]
    await begun.wait()
    gate.look()
    assert gate.identify(metadata) is holder
    clock[0] = token.expires or 0
    gate.look()
    with pytest.raises(Unauthenticated, match="has expired"):
        await call
    with pytest.raises(Unauthenticated, match="has expired"):
        gate.identify(metadata)
    gate.close()


@asynchronous
async def test_a_call_that_its_app_cancels_is_no_refusal(tmp_path: Path) -> None:
    gate = TokenGate(TokenFile(tmp_path / "tokens.json"), required=False)
    caller.introduce(Holder(Token("id", "app", b"", ("*",), NOW, None)))
    begun = asyncio.Event()

    async def handler(request: object, context: object) -> None:
        begun.set()
        await asyncio.Event().wait()

    call = asyncio.create_task(gate.guarded("NodeService/GetNode", handler)(None, None))  # type: ignore[arg-type]
    await begun.wait()
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    gate.close()


@asynchronous
async def test_a_file_that_breaks_shuts_everybody_out_until_it_is_whole(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    file = TokenFile(tmp_path / "tokens.json")
    _, text = file.create("app", ["*"], None, NOW)
    whole = file.path.read_bytes()
    async with (
        server(tmp_path / "api.sock", tokens=file.path) as (_, _, api),
        sidecar_client.connect(api.target, token=text) as app,
    ):
        await app.info()
        file.path.write_text("junk, longer than nothing")
        with pytest.raises(sidecar_client.Unauthenticated):
            await app.info()
        assert "damaged" in caplog.text
        replace_private(file.path, whole)
        await app.info()
    file.path.write_text("junk")
    with pytest.raises(StorageError, match="damaged"):
        async with server(tmp_path / "api.sock", tokens=file.path):
            pass


def test_nobody_is_let_in_unseen(tmp_path: Path) -> None:
    with pytest.raises(Unauthenticated):
        caller.require("node:read")


@asynchronous
async def test_the_log_says_when_nobody_can_call(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async with server(tmp_path / "api.sock", tokens=tmp_path / "tokens.json", require_token=True):
        assert "sidecar token create" in caplog.text
