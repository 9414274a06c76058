"""Places, health, reflection, shutdown."""

import asyncio
import os
import socket
import stat
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import pytest
import sidecar_client
from google.protobuf import descriptor_pb2
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message_factory import GetMessageClass
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
from sidecar_client.v1 import pubsub_pb2

from sidecar.api.server import sockets
from sidecar.api.server.sockets import not_bound
from sidecar.core import direct, events, gossip
from sidecar.core.errors import AddressInUse, Closed, ConfigError
from tests.api.fakes import OTHER_TEXT, asynchronous, message, served, server

pytestmark = pytest.mark.usefixtures("each_engine")

# ---------------------------------------------------------------- places


def test_it_says_which_engine_serves(tmp_path: Path, each_engine: str) -> None:
    async def told() -> str:
        async with served(tmp_path) as (_, _, _, client):
            return (await client.info()).api_engine

    assert asyncio.run(told()) == each_engine


@asynchronous
async def test_socket_is_private_and_goes_with_the_server(tmp_path: Path) -> None:
    path = tmp_path / "api.sock"
    async with served(tmp_path):
        found = path.stat()
        assert stat.S_ISSOCK(found.st_mode)
        assert stat.S_IMODE(found.st_mode) == 0o600
    assert not path.exists()
    async with served(tmp_path, socket_mode=0o660, socket_group=str(os.getgid())):
        assert stat.S_IMODE(path.stat().st_mode) == 0o660


@asynchronous
async def test_a_killed_sidecars_socket_is_replaced_and_a_live_ones_is_not(tmp_path: Path) -> None:
    path = tmp_path / "api.sock"
    with socket.socket(socket.AF_UNIX) as stale:
        stale.bind(str(path))
    async with served(tmp_path) as (_, _, _, client):
        await client.info()
        with pytest.raises(AddressInUse, match="another sidecar"):
            async with server(path):
                pass
        await client.info()
    with socket.socket(socket.AF_UNIX) as other:
        other.bind(str(path))
        other.listen()
        with pytest.raises(AddressInUse, match="another program"):
            async with server(path):
                pass
    os.unlink(path)
    path.write_text("precious")
    with pytest.raises(ConfigError, match="no socket"):
        async with server(path):
            pass
    assert path.read_text() == "precious"


@pytest.mark.parametrize(
    ("bounds", "words"),
    [
        ({"tcp": "0.0.0.0:0"}, "loopback"),
        ({"tcp": "localhost:0"}, "loopback"),
        ({"tcp": "192.0.2.1:80"}, "loopback"),
        ({"tcp": "[::]:80"}, "loopback"),
        ({"tcp": "127.0.0.1"}, "host:port"),
        ({"tcp": "127.0.0.1:99999"}, "host:port"),
        ({"socket_group": "no-such-group"}, "does not exist"),
        ({"socket_mode": 0o1777}, "socket_mode"),
        ({"max_request_bytes": 1}, "max_request_bytes"),
        ({"linger": -1.0}, "linger"),
    ],
)
def test_places_that_are_refused(bounds: dict[str, Any], words: str, tmp_path: Path) -> None:
    @asynchronous
    async def check() -> None:
        with pytest.raises(ConfigError, match=words):
            async with server(tmp_path / "api.sock", **bounds):
                pass

    check()


@asynchronous
async def test_paths_that_cannot_be(tmp_path: Path) -> None:
    for path in (tmp_path / "no" / "such" / "api.sock", tmp_path / ("x" * 120)):
        with pytest.raises(ConfigError):
            async with server(path):
                pass


@asynchronous
async def test_loopback_tcp_on_request_and_ports_are_not_shared(tmp_path: Path) -> None:
    async with server(tmp_path / "a.sock", tcp="127.0.0.1:0") as (_, _, api):
        assert api.tcp is not None
        async with sidecar_client.connect(api.tcp) as client:
            assert (await client.info()).network == "test"
        with pytest.raises(AddressInUse, match=f"{api.tcp} cannot be bound: the port is in use"):
            async with server(tmp_path / "b.sock", tcp=api.tcp):
                pass
        assert not (tmp_path / "b.sock").exists()


def test_why_a_tcp_address_cannot_be_had() -> None:
    """An address that this host does not have is a matter of the configuration, not of another process."""
    nowhere = not_bound("203.0.113.9:4748", RuntimeError("it failed"))
    assert isinstance(nowhere, ConfigError)
    assert "203.0.113.9:4748 cannot be bound: " in str(nowhere)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        assert isinstance(not_bound(f"127.0.0.1:{taken.getsockname()[1]}", RuntimeError("it failed")), AddressInUse)


@asynchronous
async def test_default_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    monkeypatch.delenv("SIDECAR_API", raising=False)
    path = tmp_path / "sidecar" / "api.sock"
    async with server(None):  # type: ignore[arg-type]
        assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
        async with sidecar_client.connect() as client:
            assert client.target == f"unix:{path}"
    path.parent.chmod(0o755)
    with pytest.raises(ConfigError, match="mode 0o755"):
        async with server(None):  # type: ignore[arg-type]
            pass
    path.parent.chmod(0o700)
    monkeypatch.setattr(os, "getuid", lambda: 12345)
    with pytest.raises(ConfigError, match="belongs to user"):
        sockets.prepare_default_directory(path)
    monkeypatch.delenv("XDG_RUNTIME_DIR")
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    assert sockets.default_socket() == tmp_path / "sidecar-12345" / "api.sock"


def test_a_symbolic_link_is_no_directory_of_ours(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir(mode=0o700)
    (tmp_path / "sidecar").symlink_to(tmp_path / "real")
    with pytest.raises(ConfigError, match="not a directory"):
        sockets.prepare_default_directory(tmp_path / "sidecar" / "api.sock")


# ---------------------------------------------------------------- standard services, as any gRPC tool uses them


@asynchronous
async def test_health_follows_readiness(tmp_path: Path) -> None:
    async with server(tmp_path / "api.sock") as (node, _, api), grpc.aio.insecure_channel(api.target) as channel:
        stub = health_pb2_grpc.HealthStub(channel)
        status = health_pb2.HealthCheckResponse
        for part in ("", "node", "gossip", "dht"):
            assert (await stub.Check(health_pb2.HealthCheckRequest(service=part))).status == status.SERVING
        listed = (await stub.List(health_pb2.HealthListRequest())).statuses
        assert {part: told.status for part, told in listed.items()} == dict.fromkeys(
            ("", "node", "gossip", "dht"), status.SERVING
        )
        with pytest.raises(grpc.aio.AioRpcError, match="there is no part 'nothing'") as refused:
            await stub.Check(health_pb2.HealthCheckRequest(service="nothing"))
        assert refused.value.code() is grpc.StatusCode.NOT_FOUND
        unknown = stub.Watch(health_pb2.HealthCheckRequest(service="nothing"))
        assert (await unknown.read()).status == status.SERVICE_UNKNOWN
        unknown.cancel()
        watching = stub.Watch(health_pb2.HealthCheckRequest())
        assert (await watching.read()).status == status.SERVING
        node.met = False
        node.on_news(events.ReadinessChanged())
        assert (await watching.read()).status == status.NOT_SERVING
        assert (await stub.Check(health_pb2.HealthCheckRequest(service="node"))).status == status.SERVING
        watching.cancel()


@asynchronous
async def test_a_part_that_no_peer_takes_part_in_does_not_serve(tmp_path: Path) -> None:
    async with server(tmp_path / "api.sock") as (node, _, api), grpc.aio.insecure_channel(api.target) as channel:
        watching = health_pb2_grpc.HealthStub(channel).Watch(health_pb2.HealthCheckRequest(service="gossip"))
        status = health_pb2.HealthCheckResponse
        assert (await watching.read()).status == status.SERVING
        node.counted.switch.peers_ready, node.counted.kademlia.peers = 1, 1
        node.on_news(events.ReadinessChanged())
        assert (await watching.read()).status == status.NOT_SERVING
        stub = health_pb2_grpc.HealthStub(channel)
        for part in ("", "node", "dht"):
            assert (await stub.Check(health_pb2.HealthCheckRequest(service=part))).status == status.SERVING
        node.counted.gossip_queues.peers, node.counted.kademlia.peers = 1, 0
        node.on_news(events.ReadinessChanged())
        assert (await watching.read()).status == status.SERVING
        assert (await stub.Check(health_pb2.HealthCheckRequest(service="dht"))).status == status.NOT_SERVING
        watching.cancel()


async def _reflected(channel: grpc.aio.Channel, symbol: str) -> DescriptorPool:
    """Everything that reflection tells of a symbol, as grpcurl asks it."""
    stub = reflection_pb2_grpc.ServerReflectionStub(channel)

    async def ask() -> AsyncIterator[reflection_pb2.ServerReflectionRequest]:
        yield reflection_pb2.ServerReflectionRequest(file_containing_symbol=symbol)

    pool = DescriptorPool()
    async for response in stub.ServerReflectionInfo(ask()):
        files = [
            descriptor_pb2.FileDescriptorProto.FromString(data)
            for data in response.file_descriptor_response.file_descriptor_proto
        ]
        known: set[str] = set()
        while len(known) < len(files):
            for file in files:
                if file.name not in known and known.issuperset(file.dependency):
                    pool.Add(file)
                    known.add(file.name)
    return pool


@asynchronous
async def test_reflection_is_enough_to_subscribe_and_publish(tmp_path: Path) -> None:
    async with served(tmp_path) as (_, _, api, _), grpc.aio.insecure_channel(api.target) as channel:
        pool = await _reflected(channel, "sidecar.v1.PubSubService")
        service = pool.FindServiceByName("sidecar.v1.PubSubService")

        def method(name: str) -> tuple[Any, Any]:
            found = service.methods_by_name[name]
            return GetMessageClass(found.input_type), GetMessageClass(found.output_type)

        request, response = method("Subscribe")
        subscribe = channel.unary_stream(
            "/sidecar.v1.PubSubService/Subscribe",
            request_serializer=request.SerializeToString,
            response_deserializer=response.FromString,
        )
        call = subscribe(request(topics=["news"]))
        assert "sidecar-stream" in await call.initial_metadata()
        assert (await call.read()).cursor
        request, response = method("Publish")
        publish = channel.unary_unary(
            "/sidecar.v1.PubSubService/Publish",
            request_serializer=request.SerializeToString,
            response_deserializer=response.FromString,
        )
        assert (await publish(request(topic="news", data=b"hello"))).receipt.peers == 1
        assert (await call.read()).messages[0].data == b"hello"
        call.cancel()


@asynchronous
async def test_whatever_tools_ask_reflection_is_answered(tmp_path: Path) -> None:
    async with served(tmp_path) as (_, _, api, _), grpc.aio.insecure_channel(api.target) as channel:
        call = reflection_pb2_grpc.ServerReflectionStub(channel).ServerReflectionInfo()

        async def ask(**asked: Any) -> Any:
            request = reflection_pb2.ServerReflectionRequest(**asked)
            await call.write(request)
            response = await call.read()
            assert response.original_request == request
            return response

        names = [service.name for service in (await ask(list_services="")).list_services_response.service]
        assert names == sorted(names)
        assert {"sidecar.v1.NodeService", "grpc.health.v1.Health", "grpc.reflection.v1alpha.ServerReflection"} <= set(
            names
        )
        for symbol in ("sidecar.v1.NodeService", "sidecar.v1.NodeService.GetNode", "sidecar.v1.GetNodeRequest"):
            files = (await ask(file_containing_symbol=symbol)).file_descriptor_response.file_descriptor_proto
            described = [descriptor_pb2.FileDescriptorProto.FromString(file) for file in files]
            assert described[0].name == "sidecar/v1/node.proto"
            assert len({file.name for file in described}) == len(files) > 1
        by_name = await ask(file_by_filename="sidecar/v1/node.proto")
        assert by_name.file_descriptor_response.file_descriptor_proto[0] == files[0]
        unknown: list[dict[str, Any]] = [
            {"file_containing_symbol": "sidecar.v1.NodeService.Nothing"},
            {"file_containing_symbol": "nothing"},
            {"file_by_filename": "nothing.proto"},
            {"all_extension_numbers_of_type": "nothing"},
            {"file_containing_extension": {"containing_type": "nothing", "extension_number": 1}},
        ]
        for asked in unknown:
            assert (await ask(**asked)).error_response.error_code == grpc.StatusCode.NOT_FOUND.value[0]
        assert (await ask()).error_response.error_code == grpc.StatusCode.INVALID_ARGUMENT.value[0]
        message = "google.protobuf.MethodOptions"
        numbers = (await ask(all_extension_numbers_of_type=message)).all_extension_numbers_response
        assert numbers.base_type_name == message
        call.cancel()


@asynchronous
async def test_garbage_is_refused_and_the_server_goes_on(tmp_path: Path) -> None:
    async with served(tmp_path) as (_, _, api, client), grpc.aio.insecure_channel(api.target) as channel:
        reader, writer = await asyncio.open_unix_connection(str(api.socket))
        writer.write(b"GET / HTTP/1.1\r\n\r\n" + bytes(1000))
        await reader.read()
        writer.close()
        await writer.wait_closed()
        publish = channel.unary_unary("/sidecar.v1.PubSubService/Publish")
        with pytest.raises(grpc.aio.AioRpcError):
            await publish(b"\xff\xff\xff")
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await channel.unary_unary("/sidecar.v1.PubSubService/NoSuchMethod")(b"")
        assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED
        bulk = channel.stream_stream(
            "/sidecar.v1.PubSubService/PublishMany",
            response_deserializer=pubsub_pb2.PublishManyResponse.FromString,
        )
        call = bulk()
        await call.write(b"\xff\xff\xff")
        assert await call.code() is grpc.StatusCode.INVALID_ARGUMENT
        await client.info()


# ---------------------------------------------------------------- shutdown


@asynchronous
async def test_stopping_ends_every_stream_as_unavailable_in_bounded_time(tmp_path: Path) -> None:
    async def never(request: sidecar_client.Request) -> bytes:
        return b""

    node, backend, api = await (context := server(tmp_path / "api.sock")).__aenter__()
    async with sidecar_client.connect(api.target, reconnect=False) as client:
        node.answers[direct.SendRequested] = node.answers[gossip.Published] = None
        subscription = client.subscribe("news")
        async with subscription, client.receive("/chat/1") as receiver, client.serve("/chat/1", never) as serving:
            peers, readiness = client.watch_peers(), client.watch_readiness()
            await anext(peers)
            await anext(peers)
            await anext(readiness)
            calls = [
                asyncio.create_task(call)  # type: ignore[arg-type]
                for call in (
                    anext(aiter(receiver)),
                    anext(peers),
                    anext(readiness),
                    client.publish_many("news", [b"parked"]),
                    client.send_many(OTHER_TEXT, "/chat/1", [b"unanswered"]),
                    client.ping_peer(OTHER_TEXT),
                )
            ]
            for kind in (gossip.Published, direct.SendRequested, events.PingRequested):
                await node.wait_for(kind)
            node.deliver(message(b"last words"))
            stopping = asyncio.create_task(context.__aexit__(None, None, None))
            messages = aiter(subscription)
            assert (await anext(messages)).data == b"last words"
            with pytest.raises(sidecar_client.Closed, match="stopping"):
                await anext(messages)
            await stopping
            for call in calls:
                with pytest.raises((sidecar_client.Closed, sidecar_client.SidecarUnavailable)):
                    await call
            with pytest.raises(sidecar_client.Closed):
                await serving.__aexit__(None, None, None)
            with pytest.raises(sidecar_client.SidecarUnavailable):
                await client.info()
    with pytest.raises(Closed):
        backend.lifetime.check_open()
