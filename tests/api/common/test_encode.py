"""What is joined by hand is what protobuf would have made."""

from hypothesis import given, settings
from hypothesis import strategies as st
from sidecar_client.v1 import common_pb2, direct_pb2, pubsub_pb2, stream_pb2

from sidecar.api.common.encode import LagReason, longest_run, shortest_run
from sidecar.api.direct import encode as direct
from sidecar.api.pubsub import encode as pubsub
from sidecar.api.streams import convert
from sidecar.api.streams import encode as streams
from sidecar.core.gossip import GossipMessage
from tests.api.fakes import OTHER, THIRD

EPOCH = b"epoch678"
payloads = st.lists(
    st.one_of(st.binary(max_size=40), st.sampled_from([bytes(127), bytes(2047), bytes(70_000)])), max_size=8
)


def _message(data: bytes, signed: bool) -> GossipMessage:
    return GossipMessage(b"id" * (len(data) % 40), "news", OTHER if signed else None, None, data, THIRD, False)


@settings(max_examples=60, deadline=None)
@given(payloads, st.booleans(), st.booleans(), st.integers(0, 2**63), st.integers(0, 2**62))
def test_topic_pieces(datas: list[bytes], signed: bool, local: bool, first: int, wall_ns: int) -> None:
    messages = [_message(data, signed) for data in datas]
    pieces = list(pubsub.topic_pieces("news", messages, epoch=EPOCH, first=first, wall_ns=wall_ns, local=local))
    assert all(len(data) < pubsub.PIECE_BYTES + 71_000 for _, data in pieces)
    assert sum(count for count, _ in pieces) == len(datas)
    parsed = pubsub_pb2.SubscribeResponse.FromString(b"".join(data for _, data in pieces)).messages
    for index, (message, item) in enumerate(zip(messages, parsed, strict=True)):
        assert (item.topic, item.data, item.message_id) == ("news", message.data, message.id)
        assert item.sender == (str(OTHER) if signed else "")
        assert item.cursor == pubsub.cursor(EPOCH, first + index)
        assert item.receive_time.ToNanoseconds() == wall_ns
        assert item.local is local


@settings(max_examples=60, deadline=None)
@given(payloads)
def test_direct_items(datas: list[bytes]) -> None:
    parsed = direct_pb2.ReceiveResponse.FromString(direct.direct_items(OTHER, "/chat/1", datas)).messages
    assert [(item.peer_id, item.protocol, item.data) for item in parsed] == [(str(OTHER), "/chat/1", d) for d in datas]


@settings(max_examples=60, deadline=None)
@given(payloads, st.integers(-1, 9), st.integers(-1, 200_000))
def test_runs_of_items(datas: list[bytes], items: int, size: int) -> None:
    whole = direct.direct_items(OTHER, "/chat/1", datas)
    sizes = [len(direct.direct_items(OTHER, "/chat/1", [data])) for data in datas]
    longest = max(n for n in range(len(datas) + 1) if n == 0 or (n <= items and sum(sizes[:n]) <= size))
    assert longest_run(whole, items, size) == (longest, sum(sizes[:longest]))
    reaching = [n for n in range(len(datas) + 1) if n >= items and sum(sizes[:n]) >= size]
    shortest = min(reaching, default=len(datas))
    assert shortest_run(whole, items, size) == (shortest, sum(sizes[:shortest]))


def test_lagged_and_cursor() -> None:
    response = pubsub_pb2.SubscribeResponse.FromString(
        pubsub.lagged(300, LagReason.SLOW_READER) + pubsub.position(b"somewhere")
    )
    assert (response.lagged.missed, response.lagged.reason) == (300, common_pb2.LAG_REASON_SLOW_READER)
    assert response.cursor == b"somewhere"
    assert not pubsub_pb2.SubscribeResponse.FromString(pubsub.lagged(None, LagReason.RESTARTED)).lagged.HasField(
        "missed"
    )
    received = direct_pb2.ReceiveResponse.FromString(direct.lagged(7, LagReason.SLOW_READER))
    assert (received.lagged.missed, received.lagged.reason) == (7, common_pb2.LAG_REASON_SLOW_READER)
    assert {name: LagReason[name] for name in LagReason.__members__} == {
        name.removeprefix("LAG_REASON_"): number for name, number in common_pb2.LagReason.items() if number
    }


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 2**64 - 1), st.binary(max_size=300), st.booleans()), max_size=5))
def test_results_of_requests(results: list[tuple[int, bytes, bool]]) -> None:
    encoded = b"".join((direct.answered if ok else direct.failed)(number, data) for number, data, ok in results)
    parsed = direct_pb2.RequestManyResponse.FromString(encoded).results
    given_back = [(item.id, item.WhichOneof("result"), item.data or item.status) for item in parsed]
    assert given_back == [(number, "data" if ok else "status", data) for number, data, ok in results]


@settings(max_examples=60, deadline=None)
@given(st.lists(st.binary(min_size=1, max_size=3000), max_size=4), st.booleans(), st.booleans())
def test_bytes_of_streams(pieces: list[bytes], first: bool, last: bool) -> None:
    head = convert.opened(OTHER, "/echo/1") if first else b""
    encoded = streams.stream_bytes(head, pieces, sum(map(len, pieces)), last)
    for kind in (stream_pb2.OpenStreamResponse, stream_pb2.AttachStreamResponse):
        response = kind.FromString(encoded)
        assert (response.data, response.end, response.HasField("opened")) == (b"".join(pieces), last, first)
        assert kind.FromString(streams.ended_with(b"why")).status == b"why"
