"""Places in the keyspace: SHA-256 read as a number, distance by XOR (specs kad-dht, "Distance")."""

import hashlib
import random
from functools import lru_cache

KEY_BITS = 256
# The multihash of a SHA-256 digest: what the id of a peer with a long key looks like. js-libp2p parses the key of a
# FIND_NODE as a multihash, so random keys must be one.
_SHA2_256_MULTIHASH = b"\x12\x20"
# Drawing a key under a prefix of n bits takes 2**n hashes (0.7 us each) on average. Deeper buckets are refreshed by
# the lookup of our own id, which ends among them.
MAX_DRAWN_PREFIX = 10


@lru_cache(maxsize=16384)
def place(key: bytes) -> int:
    """Where a key or peer id lies in the keyspace."""
    return int.from_bytes(hashlib.sha256(key).digest(), "big")


def common_prefix(one: int, other: int) -> int:
    """Leading bits that two places share: 0 to 256."""
    return KEY_BITS - (one ^ other).bit_length()


def random_key(origin: int, prefix: int, rng: random.Random) -> bytes | None:
    """A random key in the form of a peer id that shares exactly `prefix` bits with `origin`.

    None when `prefix` is too long to be met by drawing.
    """
    if prefix > MAX_DRAWN_PREFIX:
        return None
    for _ in range(16 << prefix):  # fails once in e**8 times
        key = _SHA2_256_MULTIHASH + rng.randbytes(32)
        if common_prefix(int.from_bytes(hashlib.sha256(key).digest(), "big"), origin) == prefix:
            return key
    return None
