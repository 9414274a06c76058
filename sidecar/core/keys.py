"""Public keys that others may have beside Ed25519: RSA, secp256k1 and ECDSA (specs peer-ids, Key Types).

They are only ever checked here; a node's own key is Ed25519. Every peer picks the key that we compute with, so that its
size is bounded before anything is computed, and only one encoding of each key is taken: with two, one key would have
two peer ids.
"""

from collections.abc import Callable
from functools import lru_cache

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.hashes import SHA256

from .errors import ProtocolError

MAX_KEY = 1200  # bytes of a key's data: an RSA key of 8192 bits has 1,062
MIN_RSA_BITS = 2048  # go-libp2p's bound
MAX_RSA_BITS = 8192  # go-libp2p's bound
_MAX_EXPONENT = 2**31 - 1  # Go's crypto/rsa; a large one makes a check cost as much as a signature
_COMPRESSED_POINT = 33
# What Go's crypto/x509 reads; js-libp2p knows the last three, rust-libp2p P-256 only.
_CURVES = (ec.SECP224R1, ec.SECP256R1, ec.SECP384R1, ec.SECP521R1)
_PARSED = 256  # keys kept ready; a guess, at some KiB each. Parsing costs from 10 to 60 us
_ECDSA_SHA256 = ec.ECDSA(SHA256())
_PKCS1 = padding.PKCS1v15()
_SHA256 = SHA256()

Check = Callable[[bytes, bytes], None]  # signature, message; raises InvalidSignature


def verify_with(load: Callable[[bytes], Check], key: bytes, message: bytes, signature: bytes) -> bool:
    """Whether `signature` over `message` was made with `key`. Raises ProtocolError for a key that is none."""
    try:
        load(key)(signature, message)
    except InvalidSignature:
        return False
    return True


@lru_cache(maxsize=_PARSED)
def load_rsa(data: bytes) -> Check:
    """RSA in DER-encoded PKIX; signatures are RSASSA-PKCS1-v1_5 with SHA-256. Raises ProtocolError."""
    key = _load_pkix(data, "RSA")
    if not isinstance(key, rsa.RSAPublicKey):
        raise ProtocolError("a key called RSA is of another kind")
    if not MIN_RSA_BITS <= key.key_size <= MAX_RSA_BITS:
        raise ProtocolError(f"RSA key of {key.key_size} bits, from {MIN_RSA_BITS} to {MAX_RSA_BITS} are taken")
    exponent = key.public_numbers().e
    if exponent > _MAX_EXPONENT:
        raise ProtocolError(f"RSA key with an exponent of {exponent.bit_length()} bits, at most 31")
    return lambda signature, message: key.verify(signature, message, _PKCS1, _SHA256)


@lru_cache(maxsize=_PARSED)
def load_ecdsa(data: bytes) -> Check:
    """ECDSA on a NIST curve in DER-encoded PKIX; signatures are ASN.1 over SHA-256. Raises ProtocolError."""
    key = _load_pkix(data, "ECDSA")
    if not isinstance(key, ec.EllipticCurvePublicKey):
        raise ProtocolError("a key called ECDSA is of another kind")
    if not isinstance(key.curve, _CURVES):
        raise ProtocolError(f"ECDSA key on the curve {key.curve.name}, which others do not read either")
    return lambda signature, message: key.verify(signature, message, _ECDSA_SHA256)


@lru_cache(maxsize=_PARSED)
def load_secp256k1(data: bytes) -> Check:
    """secp256k1 as a compressed point of 33 bytes; signatures are DER over SHA-256. Raises ProtocolError.

    Uncompressed points are refused: go-libp2p would compute another peer id for one than its bytes give.
    """
    if len(data) != _COMPRESSED_POINT:
        raise ProtocolError(f"a secp256k1 public key has {_COMPRESSED_POINT} bytes, not {len(data)}")
    try:
        key = ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256K1(), data)
    except ValueError:
        raise ProtocolError("secp256k1 public key that is no point on the curve") from None
    return lambda signature, message: key.verify(signature, message, _ECDSA_SHA256)


def _load_pkix(data: bytes, kind: str) -> object:
    if len(data) > MAX_KEY:
        raise ProtocolError(f"{kind} public key of {len(data)} bytes, at most {MAX_KEY}")
    # Not at the top: it brings the formats of SSH along, which cost every start 10 ms, and few peers have such keys.
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_der_public_key

    try:
        key = load_der_public_key(data)
        canonical = key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        raise ProtocolError(f"{kind} public key of {len(data)} bytes is not one in DER-encoded PKIX") from None
    if canonical != data:
        raise ProtocolError(f"{kind} public key of {len(data)} bytes is not in its one encoding")
    return key
