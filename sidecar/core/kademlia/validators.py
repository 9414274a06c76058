"""Which records are valid, and which of two is the better one: a rule for each namespace.

Origin: specs kad-dht, "Entry validation".
"""

from collections.abc import Iterable

from ..errors import InvalidArgument, InvalidPeerId, ProtocolError
from ..identity import PublicKey
from ..parameters.kademlia import Namespace, Rule
from ..records import open_signed_value


class Validators:
    """The rules of a node. A record of a namespace without one is neither stored nor believed."""

    __slots__ = ("_namespaces",)

    def __init__(self, namespaces: Iterable[Namespace]) -> None:
        self._namespaces = {namespace.name.encode(): namespace for namespace in namespaces}

    def namespace(self, key: bytes) -> Namespace:
        """The namespace of a key `/namespace/name`. Raises InvalidArgument where it has no rule."""
        parts = key.split(b"/", 2)
        if len(parts) < 3 or parts[0] or not parts[1] or not parts[2]:
            raise InvalidArgument(f"record key of {len(key)} bytes is not of the form /namespace/name")
        namespace = self._namespaces.get(parts[1])
        if namespace is None:
            known = ", ".join(name.decode() for name in self._namespaces) or "none"
            name = parts[1][:32].decode(errors="backslashreplace")
            raise InvalidArgument(f"record namespace {name!r} has no rule here; those with one: {known}")
        return namespace

    def check(self, key: bytes, value: bytes) -> None:
        """Raises InvalidArgument when the value may not stand under the key."""
        namespace = self.namespace(key)
        if namespace.refuse_prefix and value.startswith(namespace.refuse_prefix):
            raise InvalidArgument(f"values of namespace {namespace.name!r} may not begin with this prefix")
        try:
            if namespace.rule is Rule.PK:
                if PublicKey.from_bytes(value).peer_id() != key.split(b"/", 2)[2]:
                    raise InvalidArgument("the public key does not belong to the peer id in the record's key")
            elif namespace.rule is Rule.SIGNED:
                open_signed_value(key, value)
        except (ProtocolError, InvalidPeerId) as error:
            raise InvalidArgument(f"record of namespace {namespace.name!r}: {error}") from None

    def better(self, key: bytes, new: bytes, old: bytes) -> bool:
        """Whether a valid value is to replace another valid one."""
        if self.namespace(key).rule is Rule.SIGNED:
            one, other = open_signed_value(key, new), open_signed_value(key, old)
            return (one.seq, new) > (other.seq, old)
        return new > old  # of a public key there is but one encoding
