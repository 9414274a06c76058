"""What was kept is taken apart as gossip did when it came."""

import hashlib

import pytest

from sidecar.core.errors import ProtocolError
from sidecar.core.gossip.bundles import inner_ids, pack
from sidecar.core.gossip.messages import SignedLayout, UnsignedLayout, field
from sidecar.core.gossip.stored import StoredMessages, accepted_mask
from sidecar.core.types import PeerId

AUTHOR = PeerId.from_public_key(b"\x08\x01\x12\x20" + bytes(32))
SEQNO = (77).to_bytes(8, "big")


def signed(data: bytes) -> bytes:
    layout = SignedLayout(AUTHOR, b"news")
    return layout.sealed(layout.encode(data, SEQNO), bytes(64))


def test_signed_messages() -> None:
    stored = StoredMessages("news", sign=True)
    raw = signed(b"hello")
    assert stored.open(raw) == [(AUTHOR + SEQNO, AUTHOR, b"hello")]
    assert stored.id(raw) == AUTHOR + SEQNO
    other = raw + field(15, b"unknown")  # laid out as others may
    assert stored.open(other) == [(AUTHOR + SEQNO, AUTHOR, b"hello")]
    with pytest.raises(ProtocolError, match="without its sender"):
        stored.open(UnsignedLayout(b"news").encode([b"plain"])[0])


def test_unsigned_messages() -> None:
    stored = StoredMessages("news", sign=False)
    for data in (b"", b"hello", bytes(5000)):
        raw = UnsignedLayout(b"news").encode([data])[0]
        name = hashlib.sha256(data).digest()
        assert stored.open(raw) == stored.open(raw + field(15, b"unknown")) == [(name, None, data)]
        assert stored.id(raw) == name


def test_bundles_and_what_of_them_was_accepted() -> None:
    stored = StoredMessages("news", sign=True)
    texts = [b"%d" % number for number in range(20)]
    raw = signed(pack(texts))
    names = inner_ids(AUTHOR + SEQNO, 20)
    assert stored.id(raw) == AUTHOR + SEQNO
    assert stored.open(raw) == [(name, AUTHOR, text) for name, text in zip(names, texts, strict=True)]
    chosen = [0, 3, 8, 19]
    mask = accepted_mask(AUTHOR + SEQNO, [names[place] for place in chosen], 20)
    assert [message.data for message in stored.open(raw, mask)] == [texts[place] for place in chosen]
    assert accepted_mask(AUTHOR + SEQNO, names, 20) is None
