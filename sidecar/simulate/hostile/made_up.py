"""What does not exist, and looks as if it did."""

import random

from ...core.types import PeerId

_ED25519 = b"\x00\x24\x08\x01\x12\x20"  # how the peer id of an Ed25519 key begins; the key follows


def made_up_peer(rng: random.Random) -> PeerId:
    """The id of nobody."""
    return PeerId(_ED25519 + rng.randbytes(32))


def made_up_id(rng: random.Random) -> bytes:
    """The id of a message that nobody has published."""
    return made_up_peer(rng) + rng.randbytes(8)
