"""The DHT's messages: what others send is read or refused, what we send fits into others' bounds."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from kad_network import address, peer

from sidecar.core.errors import ConfigError, FrameTooLarge, ProtocolError
from sidecar.core.kademlia import KademliaConfig, messages
from sidecar.core.multiaddr import Multiaddr
from sidecar.wire import kademlia_pb2

CONFIG = KademliaConfig()
Message = kademlia_pb2.Message


def test_a_find_node_has_the_bytes_that_others_send() -> None:
    assert messages.encode_find_node(b"\x12\x20key") == bytes.fromhex("08 04 12 05 12 20") + b"key"
    assert messages.decode_request(bytes.fromhex("08 04 12 02 61 62"), CONFIG) == (
        messages.MessageType.FIND_NODE,
        b"ab",
        None,
        (),
    )
    assert messages.decode_request(bytes.fromhex("08 63"), CONFIG).type == 99
    assert bytes.fromhex("08 05") == messages.PING_ANSWER


def test_an_answer_is_the_joined_peers_and_reads_back() -> None:
    peers = [(peer(number), (address(number), address(number + 1))) for number in range(20)]
    fields = [messages.encode_peer(one, addresses, True) for one, addresses in peers]
    frame = messages.encode_closer_peers(fields, CONFIG.max_answer)
    assert messages.decode_closer_peers(frame, CONFIG) == peers
    whole = Message.FromString(frame)
    assert whole.type == Message.FIND_NODE
    assert {entry.connection for entry in whole.closer_peers} == {Message.CONNECTED}
    assert len(messages.encode_closer_peers(fields * 100, CONFIG.max_answer)) <= CONFIG.max_answer
    assert messages.decode_closer_peers(messages.encode_closer_peers(fields, 300), CONFIG) == peers[:4]


def test_what_is_unusable_in_an_answer_is_left_out_and_the_rest_bounded() -> None:
    good, other = peer(1), peer(2)
    message = Message(type=Message.FIND_NODE)
    message.closer_peers.add(id=b"no peer id", addresses=[address(1).to_bytes()])
    entry = message.closer_peers.add(id=good)
    quic = bytes.fromhex("04 7f000001 91 02 0fa1 cd 03")  # /ip4/127.0.0.1/udp/4001/quic-v1
    unknown = bytes.fromhex("04 7f000001 06 0fa1 f0 f0 01")
    entry.addresses.extend([b"", b"\xff" * 2000, unknown, address(1).with_peer(other).to_bytes()])
    entry.addresses.extend([address(1).with_peer(good).to_bytes(), address(1).to_bytes(), quic])
    entry.addresses.append(Multiaddr.from_text(f"/p2p/{good}").to_bytes())
    expected = [(good, (address(1), Multiaddr.from_bytes(quic)))]
    assert messages.decode_closer_peers(message.SerializeToString(), CONFIG) == expected
    message = Message(type=Message.FIND_NODE)
    for number in range(100):
        message.closer_peers.add(id=peer(number), addresses=[address(other).to_bytes() for other in range(50)])
    read = messages.decode_closer_peers(message.SerializeToString(), CONFIG)
    assert [one for one, _ in read] == [peer(number) for number in range(2 * CONFIG.k)]
    assert {len(addresses) for _, addresses in read} == {CONFIG.max_addresses}


@pytest.mark.parametrize(
    ("frame", "error"),
    [
        (bytes(CONFIG.max_frame + 1), FrameTooLarge),
        (b"\xff", ProtocolError),
        (messages.encode_find_node(bytes(CONFIG.max_key + 1)), ProtocolError),
    ],
)
def test_refuses_malformed_requests(frame: bytes, error: type[Exception]) -> None:
    with pytest.raises(error):
        messages.decode_request(frame, CONFIG)


def test_refuses_an_answer_to_another_question() -> None:
    with pytest.raises(ProtocolError, match="type 5 to a FIND_NODE"):
        messages.decode_closer_peers(messages.PING_ANSWER, CONFIG)


@settings(max_examples=100, deadline=None)
@given(
    st.binary(max_size=300)
    | st.lists(st.binary(max_size=40), max_size=5).map(
        lambda ids: Message(
            type=4, closer_peers=[Message.Peer(id=one, addresses=ids) for one in ids]
        ).SerializeToString()
    )
)
def test_no_bytes_raise_anything_but_a_protocol_error(data: bytes) -> None:
    decoders = [lambda frame, kind=kind: messages.decode_answer(frame, kind, CONFIG) for kind in messages.MessageType]
    for decode in (lambda frame: messages.decode_request(frame, CONFIG), *decoders):
        try:
            decode(data)
        except ProtocolError:
            continue


@pytest.mark.parametrize(
    "wrong", [{"k": 0}, {"query_timeout": 0.0}, {"refresh_interval": float("nan")}, {"max_answer": 9}]
)
def test_a_wrong_parameter_is_named(wrong: dict) -> None:
    with pytest.raises(ConfigError, match=rf"kademlia\.{next(iter(wrong))} is"):
        KademliaConfig(**wrong)
