"""Direct messages between the node and the apps that receive them, without a server."""

from typing import Any

import pytest
from sidecar_client.v1 import direct_pb2

from sidecar.api.common.bounds import Bounds
from sidecar.api.common.lifetime import Lifetime
from sidecar.api.direct.inbox import Inbox, ReceiveStream
from sidecar.api.direct.serving import Desk, ServeStream
from sidecar.core.direct import (
    MessagesHandled,
    MessagesReceived,
    RequestAnswered,
    RequestArrived,
    RequestWithdrawn,
    SendOutcome,
)
from sidecar.core.errors import AlreadyExists, NotSupported, QueueFull
from sidecar.process.spans import NoTracer
from tests.api.fakes import OTHER

CHAT = "/chat/1"
WIDE = Bounds(100, 1 << 20)


def _received(first: int, *datas: bytes, link: int = 7, protocol: str = CHAT) -> MessagesReceived:
    return MessagesReceived(link, OTHER, protocol, first, list(datas))


def _read(receiver: ReceiveStream) -> list[Any]:
    """What the receiver writes next: payloads, and numbers for lagged ones."""
    response = direct_pb2.ReceiveResponse.FromString(receiver.take())
    lagged = [response.lagged.missed] if response.HasField("lagged") else []
    return [*lagged, *(item.data for item in response.messages)]


class Fixture:
    def __init__(self) -> None:
        self.fed: list[Any] = []
        self.inbox = Inbox(self.fed.append)

    def add(self, *protocols: str, bounds: Bounds = WIDE) -> ReceiveStream:
        receiver = ReceiveStream(protocols or (CHAT,), bounds)
        self.inbox.add(receiver)
        return receiver

    def write(self, receiver: ReceiveStream) -> list[Any]:
        read = _read(receiver)
        self.inbox.handled(receiver.written())
        return read


def test_nobody_receives() -> None:
    fixture = Fixture()
    fixture.inbox.deliver(_received(1, b"a", b"b"))
    assert fixture.fed == [MessagesHandled(7, 1, 2, SendOutcome.NO_SUBSCRIBER)]


def test_delivered_once_written_not_before_and_ranges_join() -> None:
    fixture = Fixture()
    receiver = fixture.add()
    fixture.inbox.deliver(_received(1, b"a", b"b"))
    fixture.inbox.deliver(_received(3, b"c"))
    assert _read(receiver) == [b"a", b"b", b"c"]
    assert fixture.fed == []
    fixture.inbox.handled(receiver.written())
    assert fixture.fed == [MessagesHandled(7, 1, 3, SendOutcome.DELIVERED)]


def test_every_stream_gets_its_copy_and_the_first_writer_counts() -> None:
    fixture = Fixture()
    first, second = fixture.add(), fixture.add()
    fixture.inbox.deliver(_received(1, b"a"))
    assert fixture.write(second) == [b"a"]
    assert fixture.fed == [MessagesHandled(7, 1, 1, SendOutcome.DELIVERED)]
    assert fixture.write(first) == [b"a"]
    assert len(fixture.fed) == 1


def test_full_queues_refuse_and_a_full_one_beside_others_lags() -> None:
    fixture = Fixture()
    narrow, wide = fixture.add(bounds=Bounds(2, 1 << 20)), fixture.add(bounds=Bounds(3, 1 << 20))
    fixture.inbox.deliver(_received(1, b"1", b"2", b"3", b"4"))
    assert fixture.fed == [MessagesHandled(7, 4, 1, SendOutcome.REMOTE_QUEUE_FULL)]
    assert fixture.write(narrow) == [b"1", b"2"]
    assert fixture.fed[1:] == [MessagesHandled(7, 1, 2, SendOutcome.DELIVERED)]
    assert fixture.write(narrow) == [1]
    assert fixture.write(wide) == [b"1", b"2", b"3"]
    assert fixture.fed[2:] == [MessagesHandled(7, 3, 1, SendOutcome.DELIVERED)]
    fixture.inbox.deliver(_received(5, b"5"))
    assert fixture.write(narrow) == [b"5"]


def test_lagged_stands_where_the_messages_are_missing() -> None:
    fixture = Fixture()
    narrow, wide = fixture.add(bounds=Bounds(1, 1 << 20)), fixture.add()
    fixture.inbox.deliver(_received(1, b"1", b"2", b"3"))
    assert fixture.write(narrow) == [b"1"]
    fixture.inbox.deliver(_received(4, b"4"))
    assert fixture.write(narrow) == [2, b"4"]
    assert fixture.write(wide) == [b"1", b"2", b"3", b"4"]


def test_a_message_over_the_bytes_passes_into_an_empty_queue() -> None:
    fixture = Fixture()
    receiver = fixture.add(bounds=Bounds(10, 50))
    fixture.inbox.deliver(_received(1, bytes(500), b"b"))
    assert fixture.fed == [MessagesHandled(7, 2, 1, SendOutcome.REMOTE_QUEUE_FULL)]
    assert fixture.write(receiver) == [bytes(500)]


def test_a_stream_that_ends_gives_its_messages_back() -> None:
    fixture = Fixture()
    first, second = fixture.add(), fixture.add(CHAT, "/other/1")
    fixture.inbox.deliver(_received(1, b"a", b"b"))
    first.take()
    fixture.inbox.remove(first)
    assert fixture.fed == []
    fixture.inbox.remove(second)
    assert fixture.fed == [MessagesHandled(7, 1, 2, SendOutcome.NO_SUBSCRIBER)]
    assert fixture.inbox.protocols() == ()


def test_partly_written_delivery_is_refused_for_the_rest() -> None:
    fixture = Fixture()
    narrow, wide = fixture.add(bounds=Bounds(1, 1 << 20)), fixture.add()
    fixture.inbox.deliver(_received(1, b"a", b"b"))
    fixture.inbox.remove(wide)
    fixture.write(narrow)
    assert fixture.fed == [
        MessagesHandled(7, 1, 1, SendOutcome.DELIVERED),
        MessagesHandled(7, 2, 1, SendOutcome.NO_SUBSCRIBER),
    ]


# ---------------------------------------------------------------- requests


def _request(token: int, data: bytes = b"?", protocol: str = CHAT) -> RequestArrived:
    return RequestArrived(token, OTHER, protocol, data, None)


def _answers(fed: list[RequestAnswered]) -> list[tuple[int, Any]]:
    return [
        (answer.token, answer.answer if isinstance(answer.answer, bytes) else type(answer.answer)) for answer in fed
    ]


def test_serving() -> None:
    fed: list[Any] = []
    desk = Desk(fed.append, Lifetime(), NoTracer())
    desk.arrived(_request(1))
    server = ServeStream((CHAT, "/b/1"), Bounds(2, 100))
    desk.add(server)
    with pytest.raises(AlreadyExists, match="/b/1"):
        desk.add(ServeStream(("/c/1", "/b/1"), WIDE))
    assert desk.protocols() == (CHAT, "/b/1")
    for token in (2, 3, 4):
        desk.arrived(_request(token))
    assert _answers(fed) == [(1, NotSupported), (4, QueueFull)]
    requests, withdrawn, rejected = server.take()
    assert ([request.token for request in requests], withdrawn, rejected) == ([2, 3], [], [])
    desk.answer(server, [(2, b"yes")])
    desk.answer(server, [(2, b"twice")])
    desk.withdrawn(RequestWithdrawn(3))
    desk.withdrawn(RequestWithdrawn(3))
    desk.answer(server, [(3, b"too late")])
    assert server.take() == ([], [3], [])
    assert _answers(fed[2:]) == [(2, b"yes")]
    desk.arrived(_request(5))
    desk.withdrawn(RequestWithdrawn(5))
    assert server.take() == ([], [5], [])  # never seen by the app; harmless
    desk.arrived(_request(6))
    desk.remove(server)
    assert _answers(fed[3:]) == [(6, NotSupported)]


def test_waiting_requests_are_bounded_in_bytes_and_taken_in_portions() -> None:
    fed: list[Any] = []
    desk = Desk(fed.append, Lifetime(), NoTracer())
    server = ServeStream((CHAT,), Bounds(100, 100), response_bytes=50)
    desk.add(server)
    for token in range(4):
        desk.arrived(_request(token, bytes(40)))
    assert _answers(fed) == [(3, QueueFull)]
    assert [request.token for request in server.take()[0]] == [0, 1]
    desk.arrived(_request(9, bytes(40)))
    assert [request.token for request in server.take()[0]] == [2, 9]
