"""No request may do more than end its own call with a documented code, be it garbage or nearly valid."""

import logging
import random
from pathlib import Path

import grpc
import pytest
from sidecar_client.v1 import direct_pb2, peer_pb2, pubsub_pb2

from sidecar.api.server.schema import services
from sidecar.core import direct, events
from tests.api.fakes import OTHER_TEXT, asynchronous, peer_view, served

pytestmark = pytest.mark.usefixtures("each_engine")

SEEDS = [
    peer_pb2.ConnectPeerRequest(peer_id=OTHER_TEXT, addresses=["/ip4/127.0.0.1/tcp/1"]),
    peer_pb2.ListPeersRequest(page_size=3, page_token=OTHER_TEXT, protocol="x"),
    direct_pb2.SendRequest(peer_id=OTHER_TEXT, protocol="/chat/1", data=b"x", request_id="1"),
    direct_pb2.ServeRequest(protocols=["/chat/1"], answers=[direct_pb2.Answer(id=1, refusal="x")]),
    pubsub_pb2.PublishRequest(topic="news", data=b"x", signing=pubsub_pb2.SIGNING_STRICT_SIGN, minimum_peers=1),
    pubsub_pb2.SubscribeRequest(topics=["news"], cursor=bytes(16), queue_messages=3),
]
DOCUMENTED = {
    grpc.StatusCode.OK,
    grpc.StatusCode.INVALID_ARGUMENT,
    grpc.StatusCode.FAILED_PRECONDITION,  # another signing
    grpc.StatusCode.NOT_FOUND,
    grpc.StatusCode.DEADLINE_EXCEEDED,  # a stream that was in force after all
}


def _changed(rng: random.Random) -> bytes:
    data = bytearray(rng.choice(SEEDS).SerializeToString())
    for _ in range(rng.randrange(4)):
        place = rng.randrange(len(data))
        match rng.randrange(3):
            case 0:
                data[place] = rng.randrange(256)
            case 1:
                del data[place:]
                data.append(rng.randrange(128))
            case _:
                data[place:place] = rng.randbytes(rng.randrange(9))
    return bytes(data)


@pytest.mark.parametrize("seed", range(3))
def test_garbage(seed: int, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    rng = random.Random(seed)

    @asynchronous
    async def check() -> None:
        async with served(tmp_path) as (node, _, api, client), grpc.aio.insecure_channel(api.target) as channel:
            node.answers = {
                direct.SendRequested: (direct.SendOutcome.DELIVERED, None),
                direct.RequestMade: b"",
                events.ConnectRequested: peer_view(),
                events.DisconnectRequested: None,
                events.PingRequested: 0.0,
                events.FindPeerRequested: (),
            }
            for service, methods in services().items():
                for method in methods:
                    make = {
                        (False, False): channel.unary_unary,
                        (False, True): channel.unary_stream,
                        (True, True): channel.stream_stream,
                    }[method.client_streaming, method.server_streaming]
                    for _ in range(8):
                        data = rng.randbytes(rng.randrange(20)) if rng.random() < 0.3 else _changed(rng)
                        call = make(f"/{service}/{method.name}")
                        request = [data] if method.client_streaming else data
                        made = call(iter(request) if method.client_streaming else request, timeout=0.03)
                        assert await made.code() in DOCUMENTED, (seed, service, method.name, data)
            await client.info()

    with caplog.at_level(logging.INFO):
        check()
    assert not [record for record in caplog.records if record.levelno > logging.INFO], seed
