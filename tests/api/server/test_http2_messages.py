"""gRPC's messages in a stream's bytes, however they are cut."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sidecar_client.codes import Code
from sidecar_client.http2.messages import MessageReader, Unreadable, prefix

from tests.api.server.frames import prefixed
from tests.net.pieces import pieces


def test_messages_however_they_are_cut() -> None:
    sent = [b"one", b"", b"x" * 300, b"last"]
    for parts in pieces(b"".join(map(prefixed, sent))):
        reader = MessageReader(1000)
        assert [message for part in parts for message in reader.receive(part)] == sent
        assert not reader.amid


def test_what_is_behind_the_last_whole_message_is_kept() -> None:
    reader = MessageReader(10)
    assert reader.receive(prefixed(b"one") + b"\0\0") == [b"one"]
    assert reader.amid
    assert reader.receive(b"\0\0\3tw") == []
    assert reader.amid
    assert reader.receive(b"o" + prefixed(b"three")) == [b"two", b"three"]
    assert not reader.amid


def test_a_message_beyond_the_bound_is_refused_by_its_prefix() -> None:
    reader = MessageReader(4)
    assert reader.receive(prefixed(b"four")) == [b"four"]
    with pytest.raises(Unreadable, match=r"larger than max \(5 vs. 4\)") as refused:
        reader.receive(prefix(5))
    assert refused.value.code is Code.RESOURCE_EXHAUSTED


def test_a_compressed_message_is_refused() -> None:
    with pytest.raises(Unreadable, match="compressed") as refused:
        MessageReader(100).receive(prefixed(b"x", compressed=1))
    assert refused.value.code is Code.INTERNAL


@given(st.lists(st.binary(max_size=40), max_size=8), st.lists(st.integers(1, 30), max_size=20))
def test_any_messages_in_any_pieces(sent: list[bytes], sizes: list[int]) -> None:
    data = b"".join(map(prefixed, sent))
    reader = MessageReader(40)
    found = []
    for size in sizes:
        found += reader.receive(data[:size])
        data = data[size:]
    found += reader.receive(data)
    assert found == sent
