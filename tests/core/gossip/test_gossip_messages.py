"""Encodings against protobuf and signatures against another library; no bytes may raise anything but ProtocolError."""

import random

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from google.protobuf.message import DecodeError
from gossip_network import identity, joined, make_router, peer_id, rpcs
from hypothesis import example, given, settings
from hypothesis import strategies as st

from sidecar.core.errors import ProtocolError
from sidecar.core.gossip import MessagesDelivered, PeerAdded, RpcsReceived, TopicOptions
from sidecar.core.gossip.messages import (
    RPC,
    SignedLayout,
    UnsignedLayout,
    build_chunks,
    control_frames,
    encode_graft,
    encode_idontwants,
    encode_ids,
    encode_ihaves,
    encode_iwants,
    encode_named,
    encode_prune,
    encode_subscription,
    match_idontwant,
    match_message,
    match_named,
    parse_message,
)
from sidecar.core.gossip.signing import Authors, SignatureCheck, verify_batch
from sidecar.core.types import PeerId
from sidecar.core.varint import decode, encode
from sidecar.wire.gossip_pb2 import Message

SIZES = [0, 1, 127, 128, 255, 4000, 4095, 4096, 16_383, 16_384, 100_000]
UNKNOWN = [b"\x38\x05", b"\x42\x02hi", b"\x7d1234", b"\x79" + bytes(8), b"\xa2\x01\x01u"]  # fields of every wire type
optional_bytes = st.none() | st.binary(max_size=300)


def body(frame: bytes) -> bytes:
    header = decode(frame)
    assert header is not None
    assert header[0] == len(frame) - header[1]
    return frame[header[1] :]


def matches(rpc: bytes) -> None:
    """What is matched is what protobuf reads, and nothing beside it."""
    try:
        read = RPC.FromString(rpc)
    except DecodeError:
        read = None
    message, identifier, named = match_message(rpc), match_idontwant(rpc), match_named(rpc)
    if message is not None:
        assert read == RPC(publish=[message])
    if identifier is not None:
        assert read == RPC(control={"idontwant": [{"messageIDs": [identifier]}]})  # type: ignore[dict-item]
    if named is not None:
        assert read == RPC(named=[{"topicID": named.topicID, "messageIDs": named.messageIDs}])  # type: ignore[list-item]


@pytest.mark.parametrize("size", SIZES)
def test_an_rpc_with_a_single_message_is_taken_apart_without_protobuf(size: int) -> None:
    rpc = body(build_chunks([b"m" * size], 1 << 20, 1)[0].frame)
    assert match_message(rpc) == b"m" * size
    assert match_message(rpc + RPC(publish=[b"another"]).SerializeToString()) is None
    assert match_message(rpc[:-1]) is None or size == 0


@pytest.mark.parametrize("size", [1, 46, 100, 123, 124, 200])
def test_an_rpc_with_a_single_id_is_taken_apart_without_protobuf(size: int) -> None:
    identifier = b"i" * size
    (idontwant,) = map(body, encode_idontwants([identifier], 10))
    assert match_idontwant(idontwant) == (identifier if size <= 123 else None)  # one byte for each length
    (named,) = map(body, encode_named({b"news": [encode_ids([identifier])]}, 65_536))
    found = match_named(named)
    assert found is None if size > 119 else found is not None and tuple(found) == (b"news", (identifier,), False)
    two = [identifier, b"other"]
    assert match_idontwant(body(encode_idontwants(two, 10)[0])) is None
    assert match_named(body(encode_named({b"news": [encode_ids(two)]}, 65_536)[0])) is None
    for rpc in (idontwant, named):
        matches(rpc)
        for position in range(min(len(rpc), 24)):
            for value in (0, 1, 0x0A, 0x12, 0x7F, 0x80, rpc[position] - 1 & 255, rpc[position] + 1 & 255):
                matches(rpc[:position] + bytes((value,)) + rpc[position + 1 :])
        matches(rpc[:-1])
        matches(rpc + b"x")


@given(st.binary(max_size=40))
@example(b"")
@example(b"\x12")
@example(b"\x12\x00")
def test_any_bytes_are_matched_as_protobuf_reads_them(rpc: bytes) -> None:
    matches(rpc)


@pytest.mark.parametrize("size", SIZES)
def test_layouts_are_what_protobuf_writes(size: int) -> None:
    data, topic, seqno, signature = b"d" * size, b"news", bytes(range(8)), b"s" * 64
    raw = UnsignedLayout(topic).encode([data])[0]
    assert raw == Message(data=data, topic=topic).SerializeToString()
    assert UnsignedLayout(topic).match([raw, raw, b"other"], 0) == [data, data]
    assert UnsignedLayout(topic).match([b"other", raw], 1) == [data]
    layout = SignedLayout(peer_id(1), topic)
    content = layout.encode(data, seqno)
    raw = layout.sealed(content, signature)
    message = Message(**{"from": bytes(peer_id(1))}, data=data, seqno=seqno, topic=topic)
    assert content == message.SerializeToString()
    message.signature = signature
    assert raw == message.SerializeToString()
    assert SignedLayout(peer_id(2), topic).match(raw) == parse_message(raw)
    assert len(raw) == layout.envelope + 1 + len(encode(size)) + size
    assert parse_message(raw).content == content


@given(
    st.tuples(*[optional_bytes] * 6),
    st.lists(
        st.sampled_from([b"\x38\x05", b"\x42\x02hi", b"\x7d1234", b"\x79" + bytes(8), b"\xa2\x01\x01u"]), max_size=2
    ),
    st.randoms(use_true_random=False),
)
@settings(max_examples=100, deadline=None)
def test_the_signed_content_is_what_other_implementations_encode_again(
    values: tuple[bytes | None, ...], unknown: list[bytes], rng: random.Random
) -> None:
    """Whatever the order: known fields by number, without signature and key, then the unknown ones as they came."""
    names = ("from", "data", "seqno", "topic", "signature", "key")
    present = {name: value for name, value in zip(names, values, strict=True) if value is not None}
    pieces = [Message(**{name: value}).SerializeToString() for name, value in present.items()]
    shuffled = pieces[:]
    rng.shuffle(shuffled)
    expected = Message(**{name: value for name, value in present.items() if name not in ("signature", "key")})
    for raw in (b"".join(pieces), b"".join((*unknown, *shuffled)), b"".join((*shuffled, *unknown))):
        fields = parse_message(raw)
        assert fields[:6] == values
        tail = b"".join(unknown) if raw != b"".join(pieces) else b""
        assert fields.content == expected.SerializeToString() + tail


@given(st.binary(max_size=200))
@example(b"\xb5\x80\x80\x80\x10\0\0\0\0]\0\0\0\0")  # a field tag of 33 bits
@settings(max_examples=100, deadline=None)
def test_what_protobuf_reads_is_read_alike_and_nothing_else_raises(raw: bytes) -> None:
    for candidate in (raw, b"\x0a\x02" + raw, Message(data=raw, topic=b"news").SerializeToString()):
        SignedLayout(peer_id(1), b"news").match(candidate)
        UnsignedLayout(b"news").match([candidate], 0)
        try:
            fields = parse_message(candidate)
        except ProtocolError:
            continue
        message = Message.FromString(candidate)
        for name, value in zip(("from", "data", "seqno", "topic", "signature", "key"), fields[:6], strict=True):
            assert (getattr(message, name) if message.HasField(name) else None) == value  # type: ignore[arg-type]


@given(st.lists(st.binary(max_size=3000), min_size=1, max_size=60), st.integers(2, 20))
@settings(max_examples=50, deadline=None)
def test_chunks_hold_all_messages_in_order_within_their_bounds(raws: list[bytes], most: int) -> None:
    chunks = build_chunks(raws, 4096, most)
    parsed = [RPC.FromString(body(chunk.frame)) for chunk in chunks]
    assert [raw for rpc in parsed for raw in rpc.publish] == raws
    for chunk, rpc in zip(chunks, parsed, strict=True):
        assert chunk.messages == len(rpc.publish) <= most
        assert chunk.messages == 1 or len(chunk.frame) <= 4096


def test_control_is_what_protobuf_reads() -> None:
    ids = [bytes([number]) * 40 for number in range(100)]
    peers = [(peer_id(1), b"record"), (peer_id(2), None)]
    control = [
        encode_graft(b"a"),
        encode_prune(b"b", peers, 300),
        *encode_ihaves(b"c", ids, 1000),
        *encode_iwants(ids, 1000),
    ]
    frames = control_frames([encode_subscription(b"a", 0), encode_subscription(b"b", None)], control, 1200)
    parsed = [RPC.FromString(body(frame)) for frame in frames]
    assert max(map(len, frames)) <= 1200
    whole = RPC()
    for rpc in parsed:
        whole.MergeFrom(rpc)
    assert [(entry.subscribe, entry.topicid) for entry in whole.subscriptions] == [(True, b"a"), (False, b"b")]
    assert [graft.topicID for graft in whole.control.graft] == [b"a"]
    (prune,) = whole.control.prune
    assert (prune.topicID, prune.backoff) == (b"b", 300)
    assert [(info.peerID, info.HasField("signedPeerRecord")) for info in prune.peers] == [
        (bytes(peer_id(1)), True),
        (bytes(peer_id(2)), False),
    ]
    assert [identifier for ihave in whole.control.ihave for identifier in ihave.messageIDs] == ids
    assert {ihave.topicID for ihave in whole.control.ihave} == {b"c"}
    assert [identifier for iwant in whole.control.iwant for identifier in iwant.messageIDs] == ids


def test_signatures_agree_with_another_library() -> None:
    seed = bytes(range(32))
    key = Ed25519PrivateKey.from_private_bytes(seed)
    encoded = b"\x08\x01\x12\x20" + key.public_key().public_bytes_raw()
    sender = PeerId.from_public_key(encoded)
    message = Message(**{"from": bytes(sender)}, data=b"data", seqno=bytes(8), topic=b"news")
    message.signature = key.sign(b"libp2p-pubsub:" + message.SerializeToString())
    plain = parse_message(message.SerializeToString())
    message.key = encoded  # as js-libp2p sends it
    keyed = parse_message(message.SerializeToString())
    assert plain.content == keyed.content
    authors = Authors()
    for fields in (plain, keyed):
        assert fields.sender is not None
        assert fields.signature is not None
        author = authors.find(fields.sender, fields.key)
        assert author.peer == sender
        good = SignatureCheck(author.key, fields.content, fields.signature)
        assert verify_batch([good, good._replace(content=b"x"), good._replace(signature=b"short")]) == [
            None,
            "signature",
            "signature",
        ]
    hashed = PeerId(b"\x12\x20" + bytes(32))
    for sender, key_field in ((hashed, None), (hashed, encoded), (bytes(identity(1).peer_id), encoded), (b"x", None)):
        with pytest.raises(ProtocolError):
            authors.find(sender, key_field)


@given(st.lists(st.binary(max_size=120), max_size=4), st.integers(0, 2**31))
@settings(max_examples=100, deadline=None)
def test_any_rpc_leaves_the_router_working(bodies: list[bytes], seed: int) -> None:
    """No bytes raise, nor grow what the router holds past its bounds."""
    router = make_router()
    joined(router, "news", 1, TopicOptions(sign=False))
    peer = peer_id(9)
    rng = random.Random(seed)
    router.handle(PeerAdded(peer, "/meshsub/1.1.0", False), 0.0)
    valid = RPC(
        subscriptions=[{"subscribe": True, "topicid": b"news"}],
        publish=[Message(data=b"x", topic=b"news").SerializeToString()],
        control={"graft": [{"topicID": b"news"}], "ihave": [{"topicID": b"news", "messageIDs": [b"i"]}]},
    ).SerializeToString()
    mangled = bytearray(valid)
    for _ in range(3):
        mangled[rng.randrange(len(mangled))] = rng.randrange(256)
    effects = router.handle(RpcsReceived(peer, [*bodies, bytes(mangled), valid]), 1.0)
    assert any(isinstance(effect, MessagesDelivered) for effect in effects)
    rpcs(router, peer)
    router.handle_deadline(5.0)
    assert len(router.topics()) <= 10
