"""How a message is called in history."""

import hashlib

from .events import Key


def key_of(identifier: bytes) -> Key:
    """The key of a message by its id in gossip: of one length, and evenly spread."""
    return hashlib.sha256(identifier).digest()
