import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.core.errors import IdentityError, ProtocolError
from sidecar.core.identity import Identity, KeyType, PublicKey, verify_ed25519

# specs peer-ids, "Test vectors".
ED25519_PRIVATE = (
    "080112407e0830617c4a7de83925dfb2694556b12936c477a0e1feb2e148ec9da60fee7d"
    "1ed1e8fae2c4a144b8be8fd4b47bf3d3b34b871c3cacf6010f0e42d474fce27e"
)
ED25519_PUBLIC = "080112201ed1e8fae2c4a144b8be8fd4b47bf3d3b34b871c3cacf6010f0e42d474fce27e"
SECP256K1_PUBLIC = "08021221037777e994e452c21604f91de093ce415f5432f701dd8cd1a7a6fea0e630bfca99"
SECP256K1_PRIVATE = "0802122053dadf1d5a164d6b4acdb15e24aa4c5b1d3461bdbd42abedb0a4404d56ced8fb"
ECDSA_PUBLIC = (
    "0803125b3059301306072a8648ce3d020106082a8648ce3d03010703420004de3d300fa36ae0e8f5d530899d83abab"
    "44abf3161f162a4bc901d8e6ecda020e8b6d5f8da30525e71d6851510c098e5c47c646a597fb4dcec034e9f77c409e62"
)
SEED = bytes.fromhex(ED25519_PRIVATE)[4:36]


def test_the_key_of_the_specification() -> None:
    identity = Identity.from_bytes(bytes.fromhex(ED25519_PRIVATE))
    assert identity.to_bytes().hex() == ED25519_PRIVATE
    assert identity.public_key.to_bytes().hex() == ED25519_PUBLIC
    assert identity.peer_id == bytes.fromhex("0024" + ED25519_PUBLIC)
    assert identity.peer_id == Identity(SEED).peer_id == identity.public_key.peer_id()


def test_the_old_form_with_the_public_key_twice() -> None:
    old = bytes.fromhex("08011260" + ED25519_PRIVATE[8:] + ED25519_PUBLIC[8:])
    assert Identity.from_bytes(old).to_bytes().hex() == ED25519_PRIVATE
    with pytest.raises(IdentityError):
        Identity.from_bytes(old[:-1] + b"\0")


@pytest.mark.parametrize(
    ("encoded", "key_type"),
    [(SECP256K1_PUBLIC, KeyType.SECP256K1), (ECDSA_PUBLIC, KeyType.ECDSA), (ED25519_PUBLIC, KeyType.ED25519)],
)
def test_other_keys_of_the_specification_are_read(encoded: str, key_type: KeyType) -> None:
    data = bytes.fromhex(encoded)
    key = PublicKey.from_bytes(data)
    assert key.type is key_type
    assert key.to_bytes() == data
    hashed = b"\x12\x20" + hashlib.sha256(data).digest()
    assert key.peer_id() == (hashed if len(data) > 42 else bytes((0, len(data))) + data)


@pytest.mark.parametrize(
    ("seed", "public", "message", "signature"),
    [  # RFC 8032, 7.1, tests 1 and 2
        (
            "9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60",
            "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a",
            "",
            "e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e065224901555fb8821590a33bacc61e39701cf9b46bd25bf5f0595bbe24655141438e7a100b",
        ),
        (
            "4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb",
            "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c",
            "72",
            "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00",
        ),
    ],
)
def test_the_signatures_of_the_rfc(seed: str, public: str, message: str, signature: str) -> None:
    identity = Identity(bytes.fromhex(seed))
    assert identity.public_key.data.hex() == public
    assert identity.sign(bytes.fromhex(message)).hex() == signature
    assert identity.public_key.verify(bytes.fromhex(message), bytes.fromhex(signature))
    assert not identity.public_key.verify(b"another", bytes.fromhex(signature))


@pytest.mark.parametrize(
    "encoded",
    [
        "",
        "08",
        "0801",
        "080112",
        "08011240",
        ED25519_PRIVATE[:-2],
        ED25519_PRIVATE + "00",
        ED25519_PRIVATE[:-2] + "00",
        "08011220" + "00" * 32,
        SECP256K1_PRIVATE,
        "8800" + ED25519_PRIVATE[4:],
    ],
)
def test_an_unusable_private_key_is_an_identity_error(encoded: str) -> None:
    with pytest.raises(IdentityError):
        Identity.from_bytes(bytes.fromhex(encoded))


def test_a_seed_has_32_bytes() -> None:
    with pytest.raises(IdentityError, match="31"):
        Identity(bytes(31))


@pytest.mark.parametrize(
    "encoded", ["", "0801121f" + "00" * 31, "080412016b", ED25519_PUBLIC + "1800", "1220" + "00" * 32 + "0801"]
)
def test_a_malformed_public_key_is_a_protocol_error(encoded: str) -> None:
    with pytest.raises(ProtocolError):
        PublicKey.from_bytes(bytes.fromhex(encoded))


@given(st.binary(max_size=50))
def test_no_bytes_raise_anything_else(data: bytes) -> None:
    try:
        key = PublicKey.from_bytes(data)
    except ProtocolError:
        return
    assert key.to_bytes() == data  # one encoding only, or one key would have several peer ids


@given(st.binary(max_size=70), st.binary(max_size=40), st.binary(max_size=70))
def test_no_garbage_verifies(signature: bytes, key: bytes, message: bytes) -> None:
    assert not verify_ed25519(key, message, signature)
