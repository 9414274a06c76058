"""Keys that others have: their encodings, signatures made by another library, and what is refused."""

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import given
from hypothesis import strategies as st

from sidecar.core.errors import ProtocolError
from sidecar.core.identity import KeyType, PublicKey
from sidecar.core.types import PeerId
from sidecar.core.varint import encode

# specs peer-ids, "Test vectors"
RSA_PUBLIC = bytes.fromhex(
    "080012a60430820222300d06092a864886f70d01010105000382020f003082020a0282020100e1beab071d08200bde24eef0"
    "0d049449b07770ff9910257b2d7d5dda242ce8f0e2f12e1af4b32d9efd2c090f66b0f29986dbb645dae9880089704a94e506"
    "6d594162ae6ee8892e6ec70701db0a6c445c04778eb3de1293aa1a23c3825b85c6620a2bc3f82f9b0c309bc0ab3aeb187328"
    "2bebd3da03c33e76c21e9beb172fd44c9e43be32e2c99827033cf8d0f0c606f4579326c930eb4e854395ad941256542c7939"
    "02185153c474bed109d6ff5141ebf9cd256cf58893a37f83729f97e7cb435ec679d2e33901d27bb35aa0d7e20561da08885e"
    "f0abbf8e2fb48d6a5487047a9ecb1ad41fa7ed84f6e3e8ecd5d98b3982d2a901b4454991766da295ab78822add5612a2df83"
    "bcee814cf50973e80d7ef38111b1bd87da2ae92438a2c8cbcc70b31ee319939a3b9c761dbc13b5c086d6b64bf7ae7dacc146"
    "22375d92a8ff9af7eb962162bbddebf90acb32adb5e4e4029f1c96019949ecfbfeffd7ac1e3fbcc6b6168c34be3d5a2e5999"
    "fcbb39bba7adbca78eab09b9bc39f7fa4b93411f4cc175e70c0a083e96bfaefb04a9580b4753c1738a6a760ae1afd851a1a4"
    "bdad231cf56e9284d832483df215a46c1c21bdf0c6cfe951c18f1ee4078c79c13d63edb6e14feaeffabc90ad317e4875fe64"
    "8101b0864097e998f0ca3025ef9638cd2b0caecd3770ab54a1d9c6ca959b0f5dcbc90caeefc4135baca6fd475224269bbe1b"
    "0203010001"
)
PKIX = Encoding.DER, PublicFormat.SubjectPublicKeyInfo
MESSAGE = b"what was signed"


def encoded(kind: KeyType, data: bytes) -> bytes:
    return b"\x08" + encode(kind) + b"\x12" + encode(len(data)) + data


def test_the_specification_s_rsa_key() -> None:
    key = PublicKey.from_bytes(RSA_PUBLIC)
    assert key.type is KeyType.RSA
    assert key.to_bytes() == RSA_PUBLIC
    peer = key.peer_id()
    assert str(peer).startswith("Qm")
    assert PeerId.from_text(str(peer)) == peer
    assert not key.verify(MESSAGE, bytes(512))


def signed_by(kind: KeyType) -> tuple[bytes, bytes]:
    """An encoded public key and its signature over MESSAGE."""
    if kind is KeyType.RSA:
        private = rsa.generate_private_key(65537, 2048)
        signature = private.sign(MESSAGE, padding.PKCS1v15(), SHA256())
        return encoded(kind, private.public_key().public_bytes(*PKIX)), signature
    if kind is KeyType.ECDSA:
        curve = ec.generate_private_key(ec.SECP256R1())
        return encoded(kind, curve.public_key().public_bytes(*PKIX)), curve.sign(MESSAGE, ec.ECDSA(SHA256()))
    point = ec.generate_private_key(ec.SECP256K1())
    data = point.public_key().public_bytes(Encoding.X962, PublicFormat.CompressedPoint)
    return encoded(kind, data), point.sign(MESSAGE, ec.ECDSA(SHA256()))


@pytest.mark.parametrize("kind", [KeyType.RSA, KeyType.ECDSA, KeyType.SECP256K1])
def test_signatures(kind: KeyType) -> None:
    public, signature = signed_by(kind)
    key = PublicKey.from_bytes(public)
    assert key.verify(MESSAGE, signature)
    assert not key.verify(MESSAGE + b"!", signature)
    for wrong in (b"", b"x", signature[:-1], signature + b"\0", bytes(len(signature))):
        assert not key.verify(MESSAGE, wrong)
    other, _ = signed_by(kind)
    assert not PublicKey.from_bytes(other).verify(MESSAGE, signature)
    # Only what is at most 42 bytes long is its own peer id (specs peer-ids).
    assert (public in bytes(key.peer_id())) is (kind is KeyType.SECP256K1)


def test_keys_that_are_refused() -> None:
    p256 = ec.generate_private_key(ec.SECP256R1()).public_key().public_bytes(*PKIX)
    k1 = ec.generate_private_key(ec.SECP256K1()).public_key()
    small = rsa.generate_private_key(65537, 1024).public_key().public_bytes(*PKIX)
    refused = {
        "1024 bits": encoded(KeyType.RSA, small),
        "another kind": encoded(KeyType.RSA, p256),
        "the curve secp256k1": encoded(KeyType.ECDSA, k1.public_bytes(*PKIX)),
        "33 bytes": encoded(KeyType.SECP256K1, k1.public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)),
        "no point": encoded(KeyType.SECP256K1, b"\x02" + b"\xff" * 32),
        "at most 1200": encoded(KeyType.RSA, bytes(2000)),
        "not one in DER": encoded(KeyType.ECDSA, p256[:-1]),
    }
    for words, key in refused.items():
        with pytest.raises(ProtocolError, match=words):
            PublicKey.from_bytes(key)


def rsa_key(bits: int, exponent: int = 65537) -> bytes:
    """An encoded key of that size. It has no private part: only its numbers are looked at."""
    numbers = rsa.RSAPublicNumbers(exponent, 1 << (bits - 1) | 1)
    return encoded(KeyType.RSA, numbers.public_key().public_bytes(*PKIX))


@pytest.mark.parametrize(("bits", "exponent"), [(2048, 65537), (8192, 65537), (2048, 2**31 - 1)])
def test_rsa_at_its_bounds(bits: int, exponent: int) -> None:
    key = PublicKey.from_bytes(rsa_key(bits, exponent))
    assert not key.verify(MESSAGE, bytes(bits // 8))


@pytest.mark.parametrize(
    ("bits", "exponent", "words"),
    [(2047, 65537, "2047 bits"), (8193, 65537, "8193 bits"), (2048, 2**31 + 1, "exponent of 32 bits")],
)
def test_rsa_beyond_its_bounds(bits: int, exponent: int, words: str) -> None:
    with pytest.raises(ProtocolError, match=words):
        PublicKey.from_bytes(rsa_key(bits, exponent))


@pytest.mark.parametrize("curve", [ec.SECP224R1(), ec.SECP384R1(), ec.SECP521R1()], ids=lambda curve: curve.name)
def test_other_curves_of_ecdsa(curve: ec.EllipticCurve) -> None:
    private = ec.generate_private_key(curve)
    key = PublicKey.from_bytes(encoded(KeyType.ECDSA, private.public_key().public_bytes(*PKIX)))
    signature = private.sign(MESSAGE, ec.ECDSA(SHA256()))
    assert key.verify(MESSAGE, signature)
    assert not key.verify(MESSAGE + b"!", signature)


def test_a_key_has_one_encoding() -> None:
    """A point may be written compressed; taken, the same key would have a second peer id."""
    numbers = ec.generate_private_key(ec.SECP256R1()).public_key()
    point = numbers.public_bytes(Encoding.X962, PublicFormat.CompressedPoint)
    whole = numbers.public_bytes(*PKIX)
    head = whole[2 : whole.index(b"\x03\x42\x00")]  # the algorithm, up to the bit string of 65 bytes
    body = head + b"\x03\x22\x00" + point
    with pytest.raises(ProtocolError, match="one encoding"):
        PublicKey.from_bytes(encoded(KeyType.ECDSA, bytes((0x30, len(body))) + body))


@given(st.sampled_from(list(KeyType)), st.binary(max_size=1300))
def test_no_bytes_raise_anything_else(kind: KeyType, data: bytes) -> None:
    try:
        key = PublicKey.from_bytes(encoded(kind, data))
    except ProtocolError:
        return
    assert not key.verify(MESSAGE, data[:64])
