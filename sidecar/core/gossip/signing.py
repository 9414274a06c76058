"""Who wrote a message: making and checking signatures (specs pubsub, Message Signing)."""

from collections.abc import Callable, Sequence

from ..classes import NamedTuple
from ..errors import InvalidPeerId, ProtocolError
from ..identity import PublicKey
from ..types import PeerId

SIGN_PREFIX = b"libp2p-pubsub:"
_MAX_AUTHORS = 4096  # authors whose key is remembered; a guess, some 300 bytes each, 1.5 KiB with RSA


class Author(NamedTuple):
    """The author of messages and the key that must have signed them."""

    peer: PeerId
    key: PublicKey


class SignatureCheck(NamedTuple):
    """One signature to be checked; plain bytes and a key, so that it can be handed to another process."""

    key: PublicKey
    content: bytes
    signature: bytes


Verify = Callable[[Sequence[SignatureCheck]], list[str | None]]
"""What checks a batch of signatures: `verify_batch`, or something that does the same."""


def verify_batch(checks: Sequence[SignatureCheck]) -> list[str | None]:
    """Check signatures over `libp2p-pubsub:` and the content: for each None, or why it is rejected."""
    return [None if key.verify(SIGN_PREFIX + content, signature) else "signature" for key, content, signature in checks]


class Authors:
    """Finds the key of a message's author, and remembers it: parsing an id costs more than all else but the check."""

    __slots__ = ("_known",)

    def __init__(self) -> None:
        self._known: dict[tuple[bytes, bytes | None], Author] = {}

    def find(self, sender: bytes, key: bytes | None) -> Author:
        """The author `sender`; `key` is the message's own field, needed where the id does not contain the key.

        Raises ProtocolError when there is no key or it belongs to somebody else.
        """
        known = self._known.get((sender, key))
        if known is not None:
            return known
        try:
            peer = PeerId.from_bytes(sender)
        except InvalidPeerId as error:
            raise ProtocolError(f"gossip message from no peer: {error}") from None
        encoded = peer.inlined_key if key is None else key
        if encoded is None:
            raise ProtocolError(f"gossip message of {peer} without the key that its id does not contain")
        if key is not None and PeerId.from_public_key(key) != peer:
            raise ProtocolError(f"gossip message of {peer} with the key of another")
        author = Author(peer, PublicKey.from_bytes(encoded))
        if len(self._known) >= _MAX_AUTHORS:
            self._known.clear()  # rare and cheap to refill; an order of use would cost on every message
        self._known[sender, key] = author
        return author
