import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.core.errors import InvalidPeerId
from sidecar.core.types import PeerId, base58_decode, base58_encode

# specs peer-ids, "String representation".
SHA256_TEXT = "QmYyQSo1c1Ym7orWxLYvCrM2EmxFTANf8wXmmE7DWjhx5N"
SHA256_CID = "bafzbeie5745rpv2m6tjyuugywy4d5ewrqgqqhfnf445he3omzpjbx5xqxe"
ED25519_TEXT = "12D3KooWD3eckifWpRn9wQpMG9R9hX3sD158z7EqHWmweQAJU5SA"


def test_both_text_forms_of_the_specifications_examples() -> None:
    peer = PeerId.from_text(SHA256_TEXT)
    assert PeerId.from_text(SHA256_CID) == peer
    assert (str(peer), peer.cid()) == (SHA256_TEXT, SHA256_CID)
    assert (len(peer), peer[:2].hex(), peer.inlined_key) == (34, "1220", None)
    ed25519 = PeerId.from_text(ED25519_TEXT)
    assert str(PeerId.from_text(ed25519.cid())) == ED25519_TEXT
    assert ed25519.inlined_key is not None
    assert PeerId.from_public_key(ed25519.inlined_key) == ed25519


@pytest.mark.parametrize(
    ("text", "same"),
    [
        # The pairs that go-multiaddr's tests use: base32 and base36 forms beside the base58 one.
        (
            "bafzbeigvf25ytwc3akrijfecaotc74udrhcxzh2cx3we5qqnw5vgrei4bm",
            "QmcgpsyWgH8Y8ajJz1Cu72KnS5uo2Aa2LpzU7kinSupNKC",
        ),
        ("k2k4r8oqamigqdo6o7hsbfwd45y70oyynp98usk7zmyfrzpqxh1pohl7", "QmcgpsyWgH8Y8ajJz1Cu72KnS5uo2Aa2LpzU7kinSupNKC"),
        (
            "k51qzi5uqu5dhb6l8spkdx7yxafegfkee5by8h7lmjh2ehc2sgg34z7c15vzqs",
            "12D3KooWCryG7Mon9orvQxcS1rYZjotPgpwoJNHHKcLLfE4Hf5mV",
        ),
        ("z" + base58_encode(bytes.fromhex("0172") + base58_decode(SHA256_TEXT)), SHA256_TEXT),
        (SHA256_CID.upper(), SHA256_TEXT),
    ],
)
def test_other_bases_are_read_too(text: str, same: str) -> None:
    assert str(PeerId.from_text(text)) == same


def test_a_long_key_is_hashed_and_a_short_one_inlined() -> None:
    assert PeerId.from_public_key(bytes(42)) == b"\x00\x2a" + bytes(42)
    assert PeerId.from_public_key(bytes(43)) == b"\x12\x20" + hashlib.sha256(bytes(43)).digest()


def test_a_peer_id_is_its_bytes_and_prints_as_its_text() -> None:
    peer = PeerId.from_text(ED25519_TEXT)
    assert {bytes(peer): 1}[peer] == 1
    assert (str(peer), repr(peer), peer.short()) == (ED25519_TEXT, f"PeerId({ED25519_TEXT})", "eQAJU5SA")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "x",
        "1",
        "Qm",
        "b",
        "k",
        "z",
        "k_1",
        "12D3KooW",
        ED25519_TEXT + "1",
        ED25519_TEXT[:-1] + "0",
        SHA256_CID[:-1],
        "bafkreigh2akiscaildcqabsyg3dfr6chu3fgpregiymsck7e7aqa4s52zy",  # a CID of raw bytes
        "é" * 10,
        "1" * 200,
    ],
)
def test_what_is_no_peer_id_is_named(text: str) -> None:
    with pytest.raises(InvalidPeerId) as caught:
        PeerId.from_text(text)
    assert str(caught.value)


@pytest.mark.parametrize(
    "data",
    [
        "",
        "12",
        "1220",
        "1220" + "00" * 31,
        "1220" + "00" * 33,
        "1114" + "00" * 20,
        "0000",
        "002b" + "00" * 43,
        "80001234",
    ],
)
def test_bytes_that_are_no_peer_id_are_refused(data: str) -> None:
    with pytest.raises(InvalidPeerId):
        PeerId.from_bytes(bytes.fromhex(data))


@given(st.binary(max_size=60))
def test_no_bytes_raise_anything_else(data: bytes) -> None:
    try:
        peer = PeerId.from_bytes(data)
    except InvalidPeerId:
        return
    assert peer == data
    assert PeerId.from_text(str(peer)) == PeerId.from_text(peer.cid()) == peer


@given(st.text(max_size=70))
def test_no_text_raises_anything_else(text: str) -> None:
    try:
        PeerId.from_text(text)
    except InvalidPeerId:
        return
    pytest.fail(f"{text!r} is a peer id")


@pytest.mark.parametrize(
    ("data", "text"),
    # draft-msporny-base58, test vectors.
    [
        (b"Hello World!", "2NEpo7TZRRrLZSi2U"),
        (
            b"The quick brown fox jumps over the lazy dog.",
            "USm3fpXnKG5EUBx2ndxBDMPVciP5hGey2Jh4NDv6gmeo1LkMeiKrLJUUBk6Z",
        ),
        (bytes.fromhex("0000287fb4cd"), "11233QC4"),
        (b"", ""),
    ],
)
def test_base58_vectors(data: bytes, text: str) -> None:
    assert base58_encode(data) == text
    assert base58_decode(text) == data
